/*
 * Loaded before the C library (LD_PRELOAD), it makes a program die or fail at a certain point:
 *
 * DIE_AT_SYNC=N      SIGKILL as it syncs a file by fdatasync(2) for the Nth time: what it wrote is written, and nothing
 *                    that comes after is done.
 * FAIL_FCHOWNAT=1    fchownat(2) is not permitted.
 * FAIL_WRITE=FILE    write(2) to this file is an I/O error, also to one that is there only when it is written: a cgroup's.
 *
 * A tracer could do the same, at the price of stopping an emulated machine at each of thousands of system calls.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int fdatasync(int fd)
{
	static int count;
	const char *at = getenv("DIE_AT_SYNC");

	if (at && ++count == atoi(at))
		kill(getpid(), SIGKILL);
	return (int)syscall(SYS_fdatasync, fd);
}

int fchownat(int folder, const char *path, uid_t owner, gid_t group, int flags)
{
	if (getenv("FAIL_FCHOWNAT")) {
		errno = EPERM;
		return -1;
	}
	return (int)syscall(SYS_fchownat, folder, path, owner, group, flags);
}

ssize_t write(int fd, const void *bytes, size_t count)
{
	const char *file = getenv("FAIL_WRITE");

	if (file) {
		char link[32], path[PATH_MAX];
		ssize_t length;

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		length = readlink(link, path, sizeof(path) - 1);
		if (length > 0) {
			path[length] = 0;
			if (!strcmp(path, file)) {
				errno = EIO;
				return -1;
			}
		}
	}
	return syscall(SYS_write, fd, bytes, count);
}
