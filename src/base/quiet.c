#include "base/quiet.h"

#include "base/sys.h"

#include <errno.h>

#define KERNEL_SIGSET 8 /* bytes of the kernel's sigset */

/* What is pending for the program is told from what the call adds; both signals go to the calling thread. */
static long quietly(long nr, long a, long b, long c, long d)
{
	const uint64_t ours = UINT64_C(1) << (SIGPIPE - 1) | UINT64_C(1) << (SIGXFSZ - 1);
	const struct timespec at_once = {0};
	uint64_t old, pending = 0;
	sys_call(SYS_rt_sigprocmask, SIG_BLOCK, &ours, &old, KERNEL_SIGSET, 0, 0);
	sys_call(SYS_rt_sigpending, &pending, KERNEL_SIGSET, 0, 0, 0, 0);
	long result = sys_call6(nr, a, b, c, d, 0, 0);
	uint64_t caused = ours & ~pending; /* what was pending before is the program's */
	if ((result == -EPIPE || result == -EFBIG) && caused)
		sys_call(SYS_rt_sigtimedwait, &caused, NULL, &at_once, KERNEL_SIGSET, 0, 0);
	sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, KERNEL_SIGSET, 0, 0);
	return result;
}

ssize_t write_quietly(int fd, const void *bytes, size_t n)
{
	return quietly(SYS_write, fd, (long)bytes, (long)n, 0);
}

ssize_t pwrite_quietly(int fd, const void *bytes, size_t n, off_t at)
{
	return quietly(SYS_pwrite64, fd, (long)bytes, (long)n, at);
}

int allocate_quietly(int fd, off_t bytes)
{
	return (int)quietly(SYS_fallocate, fd, 0, 0, bytes);
}

int resize_quietly(int fd, off_t bytes)
{
	return (int)quietly(SYS_ftruncate, fd, bytes, 0, 0);
}
