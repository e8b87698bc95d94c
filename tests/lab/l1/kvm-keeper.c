/*
 * Keeps a virtual machine without processors or memory, so that KVM stays in use; returns when it is there.
 *
 * The kernel patches its scheduler's code when the first virtual machine comes and when the last one goes. Emulated
 * processors that run in threads of their own may execute such code while it changes, and then the kernel crashes.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

int main(void)
{
	int kvm, ready[2];
	char done;

	if (pipe(ready))
		return 1;
	switch (fork()) {
	case -1:
		return 1;
	case 0:
		kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
		if (kvm < 0 || ioctl(kvm, KVM_CREATE_VM, 0) < 0) {
			perror("keeper");
			return 1;
		}
		if (write(ready[1], "", 1) != 1)
			return 1;
		close(ready[0]);
		close(ready[1]);
		/* A process that waits for the end of our output must not wait for us. */
		close(0);
		close(1);
		close(2);
		for (;;)
			pause();
	default:
		close(ready[1]);
		return read(ready[0], &done, 1) != 1;
	}
}
