# The tiny guest's first instructions: a Multiboot 1 header and a stack for C.
# Multiboot: the magic number, flags, and a checksum that makes the three add up to zero.

	.section .multiboot, "a"
	.balign 4
	.long 0x1badb002
	.long 0
	.long -0x1badb002

	.text
	.global entry
entry:
	movl $stack_top, %esp
	# The loader leaves its information structure in ebx.
	pushl %ebx
	call guest
halt:
	hlt
	jmp halt

	.bss
	.balign 16
	.skip 16384
stack_top:
