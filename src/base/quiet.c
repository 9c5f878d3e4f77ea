#include "base/quiet.h"

#include "base/sys.h"

#include <errno.h>

#define KERNEL_SIGSET 8 /* bytes of the kernel's sigset */

ssize_t write_quietly(int fd, const void *bytes, size_t n)
{
	const uint64_t ours = UINT64_C(1) << (SIGPIPE - 1) | UINT64_C(1) << (SIGXFSZ - 1);
	const struct timespec at_once = {0};
	uint64_t old, pending = 0;
	sys_call(SYS_rt_sigprocmask, SIG_BLOCK, &ours, &old, KERNEL_SIGSET, 0, 0);
	sys_call(SYS_rt_sigpending, &pending, KERNEL_SIGSET, 0, 0, 0, 0);
	ssize_t w = sys_write(fd, bytes, n);
	uint64_t caused = ours & ~pending; /* what was pending before is the program's */
	if ((w == -EPIPE || w == -EFBIG) && caused)
		sys_call(SYS_rt_sigtimedwait, &caused, NULL, &at_once, KERNEL_SIGSET, 0, 0);
	sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, KERNEL_SIGSET, 0, 0);
	return w;
}
