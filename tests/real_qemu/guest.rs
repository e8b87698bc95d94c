//! The guest of these tests: a Multiboot kernel of less than a kilobyte, assembled with the tests themselves, so that no
//! other compiler is needed.
//!
//! It says `HELLO` on COM1, then sleeps, and eighteen times a second looks at the power button and at COM1, where it
//! obeys letters: `?` answers `HERE`, `i` ignores the power button from now on, `q` powers off, `r` resets, `p` panics
//! (needs QEMU's `pvpanic` device), `h` hangs, `k` waits until Ctrl, Alt and Delete were pressed, in this order, and
//! answers `KEYS`, `b` sleeps no more and answers `BUSY`, `t` plays a tone of 500 Hz from now on (needs an HD Audio card in slot 1bh) and answers `PLAYING`. The
//! power button makes it say `BUTTON` and power off. With `!` at the end of its command line it powers off at once.
//!
//! Where the numbers come from: Multiboot specification 0.6.96 (header with flag 16: addresses in the header, no ELF);
//! ACPI 6.4 section 4.8.3 (fixed registers), at 600h on QEMU's q35; QEMU docs/specs/pvpanic.rst (port 505h);
//! Intel 8259A data sheet (interrupt controller); High Definition Audio 1.0a, sections 3.3 (registers) and 7.3.3 (verbs),
//! and QEMU's hw/audio/hda-codec.c (node 2 is the converter that plays).

use std::path::{Path, PathBuf};

core::arch::global_asm!(
    r#"
    .pushsection .rodata.vfio_run_guest, "a"
    .code32
    .balign 4
    .set LOAD, 0x100000
    .set IDT, 0x200000
    .set STACK, 0x300000
    .set AWAKE, 0x500000                                # whether it sleeps no more
    .set TONE, 0x400000                                 # sound, then the list of its buffers
    .set TONE_FRAMES, 4800
    .set TONE_BYTES, 4 * TONE_FRAMES
    .set TONE_LIST, TONE + 0x10000
    .globl vfio_run_guest_start
vfio_run_guest_start:
    .long 0x1badb002, 0x10000, -(0x1badb002 + 0x10000)
    .long LOAD                                          # this header
    .long LOAD                                          # the text
    .long LOAD + (vfio_run_guest_end - vfio_run_guest_start)
    .long LOAD + (vfio_run_guest_end - vfio_run_guest_start)
    .long LOAD + (10f - vfio_run_guest_start)           # the entry

2:  # The segments: none, code, data; flat.
    .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
3:  .word 23
    .long LOAD + (2b - vfio_run_guest_start)
4:  .word 0x21 * 8 - 1
    .long IDT

10: cli
    mov $STACK, %esp
    lgdt LOAD + (3b - vfio_run_guest_start)
    .byte 0xea                                          # jump, to have the new code segment
    .long LOAD + (11f - vfio_run_guest_start)
    .word 8
11: mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %ebp, %ebp                                      # not ignoring the power button
    movl $0, AWAKE
    # Interrupts begin at vector 20h; only the timer's, the first, is let through.
    mov $0x11, %al
    out %al, $0x20
    mov $0x20, %al
    out %al, $0x21
    mov $4, %al
    out %al, $0x21
    mov $1, %al
    out %al, $0x21
    mov $0xfe, %al
    out %al, $0x21
    mov $0xff, %al
    out %al, $0xa1
    mov $LOAD + (20f - vfio_run_guest_start), %eax
    movw %ax, IDT + 0x20 * 8
    movw $8, IDT + 0x20 * 8 + 2
    movw $0x8e00, IDT + 0x20 * 8 + 4
    shr $16, %eax
    movw %ax, IDT + 0x20 * 8 + 6
    lidt LOAD + (4b - vfio_run_guest_start)
    # The power button's event is enabled.
    mov $0x602, %dx
    mov $0x100, %ax
    out %ax, %dx
    mov $LOAD + (40f - vfio_run_guest_start), %esi
    call 30f
    # A `!` at the end of its command line: done already.
    mov 16(%ebx), %esi
5:  mov %al, %ah
    lodsb
    test %al, %al
    jnz 5b
    cmp $0x21, %ah
    je 14f

12: cmpl $0, AWAKE
    jne 19f
    sti
    hlt
19: sti
    mov $0x600, %dx
    in %dx, %ax
    test $1, %ah
    jz 13f
    mov $0x100, %ax
    out %ax, %dx
    test %ebp, %ebp
    jnz 13f
    mov $LOAD + (41f - vfio_run_guest_start), %esi
    call 30f
    jmp 14f
13: mov $0x3fd, %dx
    in %dx, %al
    test $1, %al
    jz 12b
    mov $0x3f8, %dx
    in %dx, %al
    cmp $0x3f, %al                                        # ?
    je 15f
    cmp $0x69, %al                                        # i
    je 16f
    cmp $0x71, %al                                        # q
    je 14f
    cmp $0x72, %al                                        # r
    je 17f
    cmp $0x70, %al                                        # p
    je 18f
    cmp $0x74, %al                                        # t
    je 50f
    cmp $0x6b, %al                                        # k
    je 60f
    cmp $0x62, %al                                        # b
    je 70f
    cmp $0x68, %al                                        # h
    jne 13b
    mov $LOAD + (44f - vfio_run_guest_start), %esi
    call 30f
    cli
    hlt
14: mov $0x604, %dx
    mov $0x2000, %ax
    out %ax, %dx
    cli
    hlt
15: mov $LOAD + (42f - vfio_run_guest_start), %esi
    call 30f
    jmp 13b
16: mov $1, %ebp
    mov $LOAD + (43f - vfio_run_guest_start), %esi
    call 30f
    jmp 13b
17: mov $0xcf9, %dx
    mov $6, %al
    out %al, %dx
    cli
    hlt
18: mov $0x505, %dx
    mov $1, %al
    out %al, %dx
    cli
    hlt

20: push %eax
    mov $0x20, %al
    out %al, $0x20
    pop %eax
    iret

30: lodsb
    test %al, %al
    jz 32f
    mov %al, %ah
    mov $0x3fd, %dx
31: in %dx, %al
    test $0x20, %al
    jz 31b
    mov %ah, %al
    mov $0x3f8, %dx
    out %al, %dx
    jmp 30b
32: ret

50: # The sound card's memory is where the firmware put it; the card may read the guest's.
    mov $0xcf8, %dx
    mov $0x8000d804, %eax
    out %eax, %dx
    mov $0xcfc, %dx
    mov $6, %eax
    out %eax, %dx
    mov $0xcf8, %dx
    mov $0x8000d810, %eax
    out %eax, %dx
    mov $0xcfc, %dx
    in %dx, %eax
    and $0xfffffff0, %eax
    mov %eax, %edi
    # The sound: two channels of 16 bits, 48 frames up, 48 frames down.
    xor %ecx, %ecx
51: mov %ecx, %eax
    xor %edx, %edx
    mov $96, %ebx
    div %ebx
    mov $0x20002000, %eax
    cmp $48, %edx
    jb 52f
    mov $0xe000e000, %eax
52: mov %eax, TONE(,%ecx,4)
    inc %ecx
    cmp $TONE_FRAMES, %ecx
    jb 51b
    # Two buffers, which are the same.
    movl $TONE, TONE_LIST
    movl $0, TONE_LIST + 4
    movl $TONE_BYTES, TONE_LIST + 8
    movl $0, TONE_LIST + 12
    movl $TONE, TONE_LIST + 16
    movl $0, TONE_LIST + 20
    movl $TONE_BYTES, TONE_LIST + 24
    movl $0, TONE_LIST + 28
    # Out of reset; the converter plays stream 1, of 48 kHz; the first stream that plays is the fifth of all.
    movl $1, 0x08(%edi)
    movl $0x00270610, 0x60(%edi)
    movw $1, 0x68(%edi)
    movl $0x00220011, 0x60(%edi)
    movw $1, 0x68(%edi)
    movl $2 * TONE_BYTES, 0x108(%edi)
    movw $1, 0x10c(%edi)
    movw $0x11, 0x112(%edi)
    movl $TONE_LIST, 0x118(%edi)
    movl $0, 0x11c(%edi)
    movl $0x00100002, 0x100(%edi)
    mov $LOAD + (45f - vfio_run_guest_start), %esi
    call 30b
    jmp 13b

60: # Scan codes of set 1, which the firmware has set the controller to: what is pressed, whatever comes between.
    mov $LOAD + (61f - vfio_run_guest_start), %esi
62: in $0x64, %al
    test $1, %al
    jz 62b
    in $0x60, %al
    cmp (%esi), %al
    jne 62b
    inc %esi
    cmpb $0, (%esi)
    jne 62b
    mov $LOAD + (46f - vfio_run_guest_start), %esi
    call 30b
    jmp 13b
61: .byte 0x1d, 0x38, 0x53, 0

70: movl $1, AWAKE
    mov $LOAD + (47f - vfio_run_guest_start), %esi
    call 30b
    jmp 13b

40: .asciz "HELLO\n"
41: .asciz "BUTTON\n"
42: .asciz "HERE\n"
43: .asciz "IGNORING\n"
44: .asciz "HANGING\n"
45: .asciz "PLAYING\n"
46: .asciz "KEYS\n"
47: .asciz "BUSY\n"
    .globl vfio_run_guest_end
vfio_run_guest_end:
    .code64
    .popsection
    "#,
    options(att_syntax)
);

unsafe extern "C" {
    static vfio_run_guest_start: u8;
    static vfio_run_guest_end: u8;
}

/// Writes the kernel into a folder.
pub fn write(folder: &Path) -> PathBuf {
    let (start, end) = (&raw const vfio_run_guest_start, &raw const vfio_run_guest_end);
    // SAFETY: the assembler put both labels around one run of read-only bytes.
    let bytes = unsafe { std::slice::from_raw_parts(start, end.offset_from_unsigned(start)) };
    let path = folder.join("guest");
    std::fs::write(&path, bytes).expect("the guest can be written");
    path
}
