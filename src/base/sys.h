/*
 * System calls made directly. src/ is loaded into programs whose libc calls preload/ intercepts,
 * so it must never use an intercepted name: the call would come back to our own wrapper. These
 * return 0/positive or -errno and leave errno alone; none is a cancellation point.
 */
#ifndef FINESSE_BASE_SYS_H
#define FINESSE_BASE_SYS_H

#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

struct epoll_event;
struct stat;

/* Up to six arguments; the raw kernel convention (-errno on failure). */
static inline long sys_call6(long nr, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;
	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
#else
#error "sys_call6: port me to this architecture"
#endif
}

#define SYS_ARG(x) ((long)(x))
#define sys_call(nr, a, b, c, d, e, f)                                                             \
	sys_call6(nr, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), SYS_ARG(d), SYS_ARG(e), SYS_ARG(f))

static inline ssize_t sys_read(int fd, void *buf, size_t n)
{
	return sys_call(SYS_read, fd, buf, n, 0, 0, 0);
}
static inline ssize_t sys_write(int fd, const void *buf, size_t n)
{
	return sys_call(SYS_write, fd, buf, n, 0, 0, 0);
}
static inline int sys_close(int fd)
{
	return sys_call(SYS_close, fd, 0, 0, 0, 0, 0);
}
static inline int sys_openat(int dir, const char *path, int flags, mode_t mode)
{
	return sys_call(SYS_openat, dir, path, flags, mode, 0, 0);
}
/* The kernel's layout is libc's on these architectures. */
static inline int sys_fstat(int fd, struct stat *st)
{
	return sys_call(SYS_fstat, fd, st, 0, 0, 0, 0);
}
static inline int sys_socket(int family, int type, int protocol)
{
	return sys_call(SYS_socket, family, type, protocol, 0, 0, 0);
}
static inline int sys_socketpair(int family, int type, int protocol, int fds[2])
{
	return sys_call(SYS_socketpair, family, type, protocol, fds, 0, 0);
}
static inline int sys_bind(int fd, const void *addr, socklen_t len)
{
	return sys_call(SYS_bind, fd, addr, len, 0, 0, 0);
}
static inline int sys_listen(int fd, int backlog)
{
	return sys_call(SYS_listen, fd, backlog, 0, 0, 0, 0);
}
static inline int sys_connect(int fd, const void *addr, socklen_t len)
{
	return sys_call(SYS_connect, fd, addr, len, 0, 0, 0);
}
static inline int sys_accept4(int fd, void *addr, socklen_t *len, int flags)
{
	return sys_call(SYS_accept4, fd, addr, len, flags, 0, 0);
}
static inline int sys_shutdown(int fd, int how)
{
	return sys_call(SYS_shutdown, fd, how, 0, 0, 0, 0);
}
static inline int sys_getsockname(int fd, void *addr, socklen_t *len)
{
	return sys_call(SYS_getsockname, fd, addr, len, 0, 0, 0);
}
static inline int sys_getpeername(int fd, void *addr, socklen_t *len)
{
	return sys_call(SYS_getpeername, fd, addr, len, 0, 0, 0);
}
static inline int sys_setsockopt(int fd, int level, int opt, const void *val, socklen_t len)
{
	return sys_call(SYS_setsockopt, fd, level, opt, val, len, 0);
}
static inline int sys_getsockopt(int fd, int level, int opt, void *val, socklen_t *len)
{
	return sys_call(SYS_getsockopt, fd, level, opt, val, len, 0);
}
static inline ssize_t sys_sendto(int fd, const void *buf, size_t n, int flags, const void *to,
				 socklen_t tolen)
{
	return sys_call(SYS_sendto, fd, buf, n, flags, to, tolen);
}
static inline ssize_t sys_recvfrom(int fd, void *buf, size_t n, int flags, void *from,
				   socklen_t *fromlen)
{
	return sys_call(SYS_recvfrom, fd, buf, n, flags, from, fromlen);
}
static inline ssize_t sys_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	return sys_call(SYS_sendmsg, fd, msg, flags, 0, 0, 0);
}
static inline ssize_t sys_recvmsg(int fd, struct msghdr *msg, int flags)
{
	return sys_call(SYS_recvmsg, fd, msg, flags, 0, 0, 0);
}
static inline int sys_sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
	return sys_call(SYS_sendmmsg, fd, msgs, n, flags, 0, 0);
}
static inline int sys_recvmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
	return sys_call(SYS_recvmmsg, fd, msgs, n, flags, NULL, 0);
}
static inline int sys_fcntl(int fd, int cmd, long arg)
{
	return sys_call(SYS_fcntl, fd, cmd, arg, 0, 0, 0);
}
static inline int sys_ioctl(int fd, unsigned long req, void *arg)
{
	return sys_call(SYS_ioctl, fd, req, arg, 0, 0, 0);
}
static inline int sys_dup3(int from, int to, int flags)
{
	return sys_call(SYS_dup3, from, to, flags, 0, 0, 0);
}
/* `timeout` NULL waits for ever; `mask` NULL leaves the signal mask alone. */
static inline int sys_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
			    const sigset_t *mask)
{
	struct timespec ts; /* the kernel writes the remaining time back */
	if (timeout)
		ts = *timeout;
	return sys_call(SYS_ppoll, fds, n, timeout ? &ts : NULL, mask, 8 /* kernel sigset */, 0);
}
static inline int sys_epoll_create1(int flags)
{
	return sys_call(SYS_epoll_create1, flags, 0, 0, 0, 0, 0);
}
static inline int sys_epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
	return sys_call(SYS_epoll_ctl, epfd, op, fd, ev, 0, 0);
}
static inline int sys_epoll_pwait(int epfd, struct epoll_event *evs, int max, int timeout_ms,
				  const sigset_t *mask)
{
	return sys_call(SYS_epoll_pwait, epfd, evs, max, timeout_ms, mask, 8);
}
static inline int sys_eventfd2(unsigned initval, int flags)
{
	return sys_call(SYS_eventfd2, initval, flags, 0, 0, 0, 0);
}
/* The address, or -errno as a pointer: ask sys_is_error. */
static inline void *sys_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
	return (void *)sys_call(SYS_mmap, at, n, prot, flags, fd, offset);
}
static inline int sys_munmap(void *p, size_t n)
{
	return sys_call(SYS_munmap, p, n, 0, 0, 0, 0);
}
static inline void *sys_mremap(void *p, size_t from, size_t to, int flags)
{
	return (void *)sys_call(SYS_mremap, p, from, to, flags, 0, 0);
}
/* Did sys_mmap or sys_mremap fail? Then (int)(long)p is the -errno. */
static inline int sys_is_error(const void *p)
{
	return (unsigned long)p >= -4095UL; /* MAX_ERRNO of the kernel */
}
static inline int sys_getpid(void)
{
	return sys_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

#endif
