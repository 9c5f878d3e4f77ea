/*
 * syscall(2) as a function: numbers that take or make an fd go to the wrapper of the same call;
 * everything else, and everything while the shim has no entry, is made directly. Layouts that
 * differ from libc's (the kernel's pselect6 and old select) are converted here.
 */
#include "shim.h"

#include <fcntl.h>

#include "base/user.h"
#include "waits.h"

/* pselect6's last argument: a pointer to the mask and its size. */
struct kernel_sigset_arg {
	const sigset_t *mask;
	size_t size;
};

/* clang-format off: a table reads better with a call a line */
static bool syscall_io(long nr, const long *a, long *r)
{
	switch (nr) {
	case SYS_read:
		*r = wrap_read(a[0], (void *)a[1], a[2]);
		return true;
	case SYS_write:
		*r = wrap_write(a[0], (void *)a[1], a[2]);
		return true;
	case SYS_readv:
		*r = wrap_readv(a[0], (void *)a[1], a[2]);
		return true;
	case SYS_writev:
		*r = wrap_writev(a[0], (void *)a[1], a[2]);
		return true;
	/* The offset comes in two halves, the whole in the first where a long is that long. */
	case SYS_preadv2:
		*r = wrap_preadv2(a[0], (void *)a[1], a[2], a[3], a[5]);
		return true;
	case SYS_pwritev2:
		*r = wrap_pwritev2(a[0], (void *)a[1], a[2], a[3], a[5]);
		return true;
	case SYS_sendto:
		*r = wrap_sendto(a[0], (void *)a[1], a[2], a[3], (void *)a[4], a[5]);
		return true;
	case SYS_recvfrom:
		*r = wrap_recvfrom(a[0], (void *)a[1], a[2], a[3], (void *)a[4], (void *)a[5]);
		return true;
	case SYS_sendmsg:
		*r = wrap_sendmsg(a[0], (void *)a[1], a[2]);
		return true;
	case SYS_recvmsg:
		*r = wrap_recvmsg(a[0], (void *)a[1], a[2]);
		return true;
	case SYS_sendmmsg:
		*r = wrap_sendmmsg(a[0], (void *)a[1], a[2], a[3]);
		return true;
	case SYS_recvmmsg:
		*r = wrap_recvmmsg(a[0], (void *)a[1], a[2], a[3], (void *)a[4]);
		return true;
	case SYS_sendfile:
		*r = wrap_sendfile(a[0], a[1], (void *)a[2], a[3]);
		return true;
	case SYS_splice:
		*r = wrap_splice(a[0], (void *)a[1], a[2], (void *)a[3], a[4], a[5]);
		return true;
	}
	return false;
}

static bool syscall_socket(long nr, const long *a, long *r)
{
	switch (nr) {
	case SYS_socket:
		*r = wrap_socket(a[0], a[1], a[2]);
		return true;
	case SYS_socketpair:
		*r = wrap_socketpair(a[0], a[1], a[2], (void *)a[3]);
		return true;
	case SYS_bind:
		*r = wrap_bind(a[0], (void *)a[1], a[2]);
		return true;
	case SYS_listen:
		*r = wrap_listen(a[0], a[1]);
		return true;
	case SYS_accept:
		*r = wrap_accept(a[0], (void *)a[1], (void *)a[2]);
		return true;
	case SYS_accept4:
		*r = wrap_accept4(a[0], (void *)a[1], (void *)a[2], a[3]);
		return true;
	case SYS_connect:
		*r = wrap_connect(a[0], (void *)a[1], a[2]);
		return true;
	case SYS_shutdown:
		*r = wrap_shutdown(a[0], a[1]);
		return true;
	case SYS_getsockname:
		*r = wrap_getsockname(a[0], (void *)a[1], (void *)a[2]);
		return true;
	case SYS_getpeername:
		*r = wrap_getpeername(a[0], (void *)a[1], (void *)a[2]);
		return true;
	case SYS_getsockopt:
		*r = wrap_getsockopt(a[0], a[1], a[2], (void *)a[3], (void *)a[4]);
		return true;
	case SYS_setsockopt:
		*r = wrap_setsockopt(a[0], a[1], a[2], (void *)a[3], a[4]);
		return true;
	}
	return false;
}

static bool syscall_fd(long nr, const long *a, long *r)
{
	switch (nr) {
	case SYS_close:
		*r = wrap_close(a[0]);
		return true;
#ifdef SYS_close_range
	case SYS_close_range:
		*r = wrap_close_range(a[0], a[1], a[2]);
		return true;
#endif
	case SYS_dup:
		*r = wrap_dup(a[0]);
		return true;
#ifdef SYS_dup2
	case SYS_dup2:
		*r = wrap_dup2(a[0], a[1]);
		return true;
#endif
	case SYS_dup3:
		*r = wrap_dup3(a[0], a[1], a[2]);
		return true;
	case SYS_fcntl:
		*r = wrap_fcntl(a[0], a[1], a[2]);
		return true;
	case SYS_ioctl:
		*r = wrap_ioctl(a[0], a[1], a[2]);
		return true;
	case SYS_pipe2:
		*r = wrap_pipe2((void *)a[0], a[1]);
		return true;
	case SYS_unshare:
		*r = wrap_unshare(a[0]);
		return true;
	case SYS_setns:
		*r = wrap_setns(a[0], a[1]);
		return true;
	case SYS_exit_group:
		wrap__exit(a[0]);
		return true;
	case SYS_execve:
		*r = wrap_execve((void *)a[0], (void *)a[1], (void *)a[2]);
		return true;
	case SYS_execveat:
		*r = wrap_execveat(a[0], (void *)a[1], (void *)a[2], (void *)a[3], a[4]);
		return true;
	}
	return false;
}

/* Linux's own ppoll and pselect6 leave what is left of the time-out in it, where they can; libc's hide that. */
struct time_told {
	struct timespec given, *out;
	struct span span;
};

static void time_begin(struct time_told *t, struct timespec *timeout)
{
	t->out = timeout && user_may_write(timeout, sizeof *timeout) ? timeout : NULL;
	if (t->out)
		t->given = *timeout;
	if (!timespec_valid(t->out))
		t->out = NULL;
	span_begin(&t->span, t->out ? &t->given : NULL);
}

static long time_end(const struct time_told *t, long r)
{
	int error = errno;
	struct timespec left;
	if (t->out && (r >= 0 || error == EINTR))
		*t->out = *span_left(&t->span, &left);
	errno = error;
	return r;
}

static long ppoll_by_number(const long *a)
{
	struct timespec *timeout = (void *)a[2];
	struct time_told told;
	if (timeout && !user_may_read(timeout, sizeof *timeout))
		return edge(-EFAULT);
	time_begin(&told, timeout);
	return time_end(&told, wrap_ppoll((void *)a[0], a[1], timeout, (void *)a[3]));
}

static long pselect6(const long *a)
{
	const struct kernel_sigset_arg *arg = (void *)a[5];
	struct timespec *timeout = (void *)a[4];
	struct time_told told;
	if ((arg && !user_may_read(arg, sizeof *arg)) || (timeout && !user_may_read(timeout, sizeof *timeout)))
		return edge(-EFAULT);
	time_begin(&told, timeout);
	return time_end(&told, wrap_pselect(a[0], (void *)a[1], (void *)a[2], (void *)a[3], timeout, arg ? arg->mask : NULL));
}

static bool syscall_wait(long nr, const long *a, long *r)
{
	switch (nr) {
#ifdef SYS_poll
	case SYS_poll:
		*r = wrap_poll((void *)a[0], a[1], a[2]);
		return true;
#endif
	case SYS_ppoll:
		*r = ppoll_by_number(a);
		return true;
#ifdef SYS_select
	case SYS_select:
		*r = wrap_select(a[0], (void *)a[1], (void *)a[2], (void *)a[3], (void *)a[4]);
		return true;
#endif
	case SYS_pselect6:
		*r = pselect6(a);
		return true;
#ifdef SYS_epoll_create
	case SYS_epoll_create:
		*r = wrap_epoll_create(a[0]);
		return true;
#endif
	case SYS_epoll_create1:
		*r = wrap_epoll_create1(a[0]);
		return true;
	case SYS_epoll_ctl:
		*r = wrap_epoll_ctl(a[0], a[1], a[2], (void *)a[3]);
		return true;
#ifdef SYS_epoll_wait
	case SYS_epoll_wait:
		*r = wrap_epoll_wait(a[0], (void *)a[1], a[2], a[3]);
		return true;
#endif
	case SYS_epoll_pwait:
		*r = wrap_epoll_pwait(a[0], (void *)a[1], a[2], a[3], (void *)a[4]);
		return true;
#ifdef SYS_epoll_pwait2
	case SYS_epoll_pwait2:
		*r = wrap_epoll_pwait2(a[0], (void *)a[1], a[2], (void *)a[3], (void *)a[4]);
		return true;
#endif
	}
	return false;
}

/* clang-format on */

/* Those that make processes. True also of a thread: clone.c tells them apart. */
static bool makes_process(long nr)
{
	switch (nr) {
	case SYS_clone:
#ifdef SYS_clone3
	case SYS_clone3:
#endif
#ifdef SYS_fork
	case SYS_fork:
#endif
#ifdef SYS_vfork
	case SYS_vfork:
#endif
		return true;
	}
	return false;
}

/* Numbers that make a new fd and have no entry of their own above: what the table has for it is
 * stale. */
static bool makes_fd(long nr)
{
	switch (nr) {
#ifdef SYS_open
	case SYS_open:
#endif
	case SYS_openat:
	case SYS_eventfd2:
	case SYS_timerfd_create:
	case SYS_memfd_create:
	case SYS_inotify_init1:
#ifdef SYS_pidfd_open
	case SYS_pidfd_open:
#endif
		return true;
	}
	return false;
}

long wrap_syscall(long nr, ...)
{
	long a[6], r;
	va_list ap;
	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (shim_ready && !engine_inside && (shim_on() || nr == SYS_socket) &&
	    (syscall_io(nr, a, &r) || syscall_socket(nr, a, &r) || syscall_fd(nr, a, &r) ||
	     syscall_wait(nr, a, &r)))
		return r;
	if (nr == SYS_io_submit)
		aio_submitted(a[1], (struct iocb **)a[2]);
#ifdef SYS_io_uring_setup
	if (nr == SYS_io_uring_setup)
		return edge(uring_setup(a[0], (void *)a[1], __builtin_return_address(0)));
	if (nr == SYS_io_uring_enter)
		uring_entered(a[0]);
#endif
	if (shim_ready && privilege_by_number(nr, a, &r))
		return r;
	known_by_number(nr);
	if (makes_process(nr))
		return edge(clone_by_number(nr, a));
	r = edge(sys_call6(nr, a[0], a[1], a[2], a[3], a[4], a[5]));
	if (nr == SYS_rt_sigprocmask)
		user_mask_changed();
	return makes_fd(nr) ? fd_created(r) : r;
}
