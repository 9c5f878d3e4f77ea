/* Wrappers of the calls that make, copy, close and configure descriptors. Every new number drops
 * what the table still has for it. */
#include "shim.h"

#include <fcntl.h>
#include <sched.h>
#include <linux/close_range.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/xattr.h>

#include "base/fd.h"
#include "base/user.h"

/* ---- close ---- */

int wrap_close(int fd)
{
	if (shim_on()) {
		if (fdtable_peek(fd)) {
			pthread_testcancel();
			return edge(file_close(fd));
		}
		if (fd_is_internal(fd))
			return edge(-EBADF);
		known_forget(fd);
	}
	return REAL(close)(fd);
}

#define INTERNAL_SCAN                                                                              \
	2048 /* no internal fd lies above: they sit under 1024, or just over what the program has  \
		open */

/* The real close_range, around our internal fds. */
static int close_range_around(unsigned first, unsigned last, int flags)
{
	unsigned start = first;
	for (unsigned fd = first; fd <= last && fd < INTERNAL_SCAN; fd++) {
		if (!fd_is_internal(fd))
			continue;
		if (fd > start && REAL(close_range)(start, fd - 1, flags) < 0)
			return -1;
		start = fd + 1;
	}
	return start <= last ? REAL(close_range)(start, last, flags) : 0;
}

int wrap_close_range(unsigned first, unsigned last, int flags)
{
	if ((flags & CLOSE_RANGE_UNSHARE) && shim_on() && first <= last && !(flags & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC))) {
		if (wrap_unshare(CLONE_FILES) < 0)
			return -1;
		flags &= ~CLOSE_RANGE_UNSHARE;
	}
	/* Closes nothing: it only marks, or it is an error. */
	if (!shim_on() || first > last || flags)
		return REAL(close_range)(first, last, flags);
	int top = last > INT32_MAX ? INT32_MAX : (int)last;
	for (int fd = first > INT32_MAX ? -1 : fdtable_next(first); fd >= 0 && fd <= top;
	     fd = fdtable_next(fd + 1))
		file_close(fd);
	return close_range_around(first, last, flags);
}

void wrap_closefrom(int first)
{
	if (!shim_on())
		REAL(closefrom)(first);
	else
		wrap_close_range(first < 0 ? 0 : first, ~0U, 0);
}

/* ---- fstat: some programs ask by it what is open, and know a file again by its inode ---- */

static void identity_told(int fd)
{
	fd_used(fd);
}

int wrap_fstat(int fd, struct stat *st)
{
	if (shim_on() && fd_is_internal(fd))
		return edge(-EBADF);
	identity_told(fd);
	return REAL(fstat)(fd, st);
}

/* Programs built for glibc before 2.33. */
int wrap___fxstat(int version, int fd, struct stat *st)
{
	if (shim_on() && fd_is_internal(fd))
		return edge(-EBADF);
	identity_told(fd);
	return REAL(__fxstat)(version, fd, st);
}

/* A socket's inode keeps them, and so would the next that is the same one. */
int wrap_fchmod(int fd, mode_t mode)
{
	identity_told(fd);
	return REAL(fchmod)(fd, mode);
}

/* AF_INET or AF_INET6; -errno as getsockopt. */
static int family_of(const struct call *c)
{
	int family;
	socklen_t len = sizeof family;
	int r = sock_getsockopt(c->sock, SOL_SOCKET, SO_DOMAIN, &family, &len);
	return r < 0 ? r : family;
}

/* The kernel's name of the protocol: behind an accepted connection's number there is no TCP socket. */
static int protocol_name(struct call *c, void *value, size_t size)
{
	int family = family_of(c);
	const char *name = family == AF_INET6 ? "TCPv6" : "TCP";
	size_t n = strlen(name) + 1;
	if (family < 0 || !size)
		return family < 0 ? family : (int)n;
	if (size < n)
		return -ERANGE;
	if (!user_may_write(value, n))
		return -EFAULT;
	memcpy(value, name, n);
	return n;
}

ssize_t wrap_fgetxattr(int fd, const char *name, void *value, size_t size)
{
	static const char protocol[] = "system.sockprotoname";
	if (shim_on() && fdtable_peek(fd) && user_may_read(name, sizeof protocol) && strcmp(name, protocol) == 0)
		VIA_ENGINE(fd, protocol_name(&c, value, size));
	return REAL(fgetxattr)(fd, name, value, size);
}

int wrap_fchown(int fd, uid_t uid, gid_t gid)
{
	identity_told(fd);
	return REAL(fchown)(fd, uid, gid);
}

/* ---- dup ---- */

int wrap_dup(int fd)
{
	if (shim_on() && fd_is_internal(fd))
		return edge(-EBADF);
	if (!shim_on())
		return REAL(dup)(fd);
	return number_for_stdio(edge(file_dup(fd, SYS_dup, 0, 0)));
}

static int before_dup_over(int fd, int to)
{
	if (fd_is_internal(fd) || fd_is_internal(to))
		return -EBADF;
	if (is_stdio_number(to))
		fd_handover(fd, "became a standard stream");
	known_forget(to);
	return 0;
}

int wrap_dup2(int fd, int to)
{
	if (!shim_on())
		return REAL(dup2)(fd, to);
	int r = before_dup_over(fd, to);
	if (r < 0)
		return edge(r);
	if (fd == to || (!fdtable_peek(fd) && !fdtable_peek(to)))
		return REAL(dup2)(fd, to);
	return edge(file_dup_over(fd, to, 0));
}

int wrap_dup3(int fd, int to, int flags)
{
	if (!shim_on())
		return REAL(dup3)(fd, to, flags);
	int r = before_dup_over(fd, to);
	if (r < 0)
		return edge(r);
	if (fd == to || (flags & ~O_CLOEXEC) || (!fdtable_peek(fd) && !fdtable_peek(to)))
		return REAL(dup3)(fd, to, flags);
	return edge(file_dup_over(fd, to, flags));
}

/* ---- fcntl, ioctl ---- */

/* From now on all that comes is the kernel's, and its signals are right; accept still gives what had come before. */
static int listener_set_async(struct call *c, int fd)
{
	int r = sock_listener_to_kernel(c->sock, "O_ASYNC");
	if (r == 0)
		r = sys_fcntl(fd, F_SETFL, sys_fcntl(fd, F_GETFL, 0) | O_ASYNC);
	if (r == 0)
		c->file->status |= O_ASYNC;
	return r;
}

/*
 * SIGIO is the kernel's to send, so the connection becomes the kernel's. One that has ended cannot,
 * and nothing will happen to it that a signal could tell: there the flag is just kept.
 */
static int engine_set_async(struct call *c, int fd, bool on)
{
	if (c->file->listener && on)
		return listener_set_async(c, fd);
	if (c->file->listener && c->file->status & O_ASYNC)
		sys_fcntl(fd, F_SETFL, sys_fcntl(fd, F_GETFL, 0) & ~O_ASYNC);
	if (!on) {
		c->file->status &= ~O_ASYNC;
		return 0;
	}
	int r = file_handover(c->file, "O_ASYNC");
	if (r == 0)
		return -EBADF;
	if (r != -ENOTCONN)
		return r;
	c->file->status |= O_ASYNC;
	return 0;
}

static int engine_setfl(struct call *c, int fd, long arg)
{
	if (arg & O_DIRECT)
		return -EINVAL; /* a file system has it */
	int r = engine_set_async(c, fd, arg & O_ASYNC);
	if (r < 0)
		return r;
	c->file->status = (c->file->status & O_ASYNC) | (arg & STATUS_KEPT);
	sock_set_nonblock(c->sock, arg & O_NONBLOCK);
	return 0;
}

static bool is_ownership(int cmd)
{
	return cmd == F_SETOWN || cmd == F_SETOWN_EX || cmd == F_SETSIG;
}

/*
 * What only the kernel's TCP does for a connection makes it the kernel's; one that is not begun stays there. A
 * connection that has ended becomes a kernel socket that says so. Where the right for a handover is missing, it stays.
 * A listener's kernel socket does it as it is.
 */
void connection_to_kernel(int fd, const char *why)
{
	if (!shim_on())
		return;
	struct file *f = fdtable_peek(fd);
	if (!f || f->kind == FILE_EPOLL || f->listener)
		return;
	if (fd_handover(fd, why) == -ENOTCONN)
		fd_to_kernel(fd, why);
}

/* Who owns a socket gets SIGURG, which the kernel sends. */
static void own_by_kernel(int fd)
{
	connection_to_kernel(fd, "F_SETOWN");
}

/*
 * A socket is mapped for TCP_ZEROCOPY_RECEIVE. No look-up of the real function: a malloc may be calling, before
 * anything is set up.
 */
void *wrap_mmap(void *addr, size_t n, int prot, int flags, int fd, off_t offset)
{
	if (!(flags & MAP_ANONYMOUS) && shim_on())
		connection_to_kernel(fd, "mmap");
	void *at = sys_mmap(addr, n, prot, flags, fd, offset);
	if (!sys_is_error(at))
		return at;
	errno = -(long)at;
	return MAP_FAILED;
}

static int engine_getfl(struct call *c)
{
	return O_RDWR | c->file->status | (sock_get_nonblock(c->sock) ? O_NONBLOCK : 0);
}

/* More of an undecided socket than O_NONBLOCK, or it may. */
static bool changes_more(int cmd, long arg)
{
	switch (cmd) {
	case F_GETFL:
	case F_GETFD:
	case F_SETFD:
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		return false;
	case F_SETFL:
		return arg & (O_ASYNC | O_DIRECT | STATUS_KEPT);
	default:
		return true;
	}
}

/* SIGIO is the kernel's to send, to an owner that may be named later. Undecided, and seized. */
static void signals_by_kernel(struct file *f)
{
	engine_note_fallback("a socket", "O_ASYNC");
	file_forget(f);
}

/* F_GETFL, F_SETFL. Seized. */
static int candidate_flags(struct file *f, int fd, int cmd, long arg)
{
	int flags = cmd == F_GETFL ? undecided_flags(f) : -EBADF;
	if (flags >= 0)
		return flags;
	if (changes_more(cmd, arg))
		file_used(f);
	if (cmd == F_SETFL && undecided_set_nonblock(f, arg & O_NONBLOCK))
		return 0;
	int r = REAL(fcntl)(fd, cmd, arg);
	if (r >= 0 && cmd == F_SETFL) {
		file_set_nonblock(f, arg & O_NONBLOCK);
		if (arg & O_ASYNC)
			signals_by_kernel(f);
	}
	return r;
}

int wrap_fcntl(int fd, int cmd, ...)
{
	va_list ap;
	va_start(ap, cmd);
	long arg = va_arg(ap, long);
	va_end(ap);
	if (!shim_on())
		return REAL(fcntl)(fd, cmd, arg); /* an empty table has nothing stale */
	if (fd_is_internal(fd))
		return edge(-EBADF);
	struct call held = {0};
	if (cmd == F_GETFL) {
		VIA_LISTENER_AT_ONCE(fd, engine_getfl(&c));
		VIA_ENGINE_OR_HOLD(&held, fd, USE_STATUS, engine_getfl(&c));
	}
	if (cmd == F_SETFL)
		VIA_ENGINE_OR_HOLD(&held, fd, USE_STATUS, engine_setfl(&c, fd, arg));
	if (held.file) {
		int r = candidate_flags(held.file, fd, cmd, arg);
		undecided_let_go(&held);
		return r;
	}
	if (is_ownership(cmd))
		own_by_kernel(fd);
	if (changes_more(cmd, arg))
		fd_used(fd);
	if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC)
		return number_for_stdio(edge(file_dup(fd, SYS_fcntl, cmd, arg)));
	return REAL(fcntl)(fd, cmd, arg);
}

/*
 * What Linux's TCP socket of this family says of interfaces, addresses and neighbours: beneath an accepted connection
 * there is none.
 */
static int family_ioctl(struct call *c, unsigned long request, void *arg)
{
	int family = family_of(c), fd = family < 0 ? family : sys_socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -ENOTTY;
	int r = sys_ioctl(fd, request, arg);
	sys_close(fd);
	return r;
}

static int kernels_ioctl(struct call *c, int fd, unsigned long request, void *arg)
{
	int r = sys_ioctl(fd, request, arg);
	bool interfaces = request >= SIOCADDRT && request < SIOCPROTOPRIVATE;
	return r == -ENOTTY && interfaces && !c->file->listener ? family_ioctl(c, request, arg) : r;
}

/* What the engine does not know is asked of the fd's kernel socket (close-on-exec, interface
 * queries …). */
static int engine_ioctl(struct call *c, int fd, unsigned long request, void *arg)
{
	if (request == FIOCLEX || request == FIONCLEX)
		return sys_ioctl(fd, request, arg); /* the number's, not the socket's */
	if (request == FIOASYNC && user_may_read(arg, sizeof(int)))
		return engine_set_async(c, fd, *(int *)arg);
	if (request == FIOSETOWN || request == SIOCSPGRP) {
		own_by_kernel(fd);
		c->file->candidate.used = true;
		return c->file->kind == FILE_SOCK ? sys_ioctl(fd, request, arg) : -EBADF;
	}
	/* When the last packet came: nobody notes it for TCP. */
	if (request == SIOCGSTAMP_OLD || request == SIOCGSTAMPNS_OLD || request == SIOCGSTAMP_NEW || request == SIOCGSTAMPNS_NEW)
		return -ENOENT;
	if (!c->file->listener && (request == FIONREAD || request == SIOCATMARK || request == SIOCOUTQ || request == SIOCOUTQNSD) &&
	    !user_may_write(arg, sizeof(int)))
		return -EFAULT;
	if (request == FIONBIO && !user_may_read(arg, sizeof(int)))
		return -EFAULT;
	int r = sock_ioctl(c->sock, request, arg);
	if (r == -ENOTTY)
		c->file->candidate.used = true;
	return r == -ENOTTY ? kernels_ioctl(c, fd, request, arg) : r;
}

/* Interfaces, addresses and routes, the old way. */
static bool changes_network(unsigned long request)
{
	return request >= SIOCADDRT && request < SIOCDEVPRIVATE;
}

static bool ioctl_uses(unsigned long request)
{
	return request != FIONBIO && request != FIOCLEX && request != FIONCLEX;
}

/* Seized. */
static int candidate_ioctl(struct file *f, int fd, unsigned long request, void *arg)
{
	if (ioctl_uses(request))
		file_used(f);
	if (request == FIONBIO && user_may_read(arg, sizeof(int)) && undecided_set_nonblock(f, *(int *)arg))
		return 0;
	int r = REAL(ioctl)(fd, request, arg);
	if (r == 0 && request == FIONBIO)
		file_set_nonblock(f, *(int *)arg);
	if (r == 0 && request == FIOASYNC && *(int *)arg)
		signals_by_kernel(f);
	return r;
}

int wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	va_start(ap, request);
	void *arg = va_arg(ap, void *);
	va_end(ap);
	struct call held;
	request = (uint32_t)request; /* the kernel takes no more of it */
	VIA_ENGINE_OR_HOLD(&held, fd, request == FIONBIO ? USE_STATUS : USE_PLAINLY, engine_ioctl(&c, fd, request, arg));
	if (!held.file && ioctl_uses(request))
		fd_used(fd);
	int r = held.file ? candidate_ioctl(held.file, fd, request, arg) : REAL(ioctl)(fd, request, arg);
	undecided_let_go(&held);
	if (r == 0 && changes_network(request))
		engine_note_netlink();
	return r;
}

/* ---- new numbers ---- */

#define WITH_MODE(flags, mode)                                                                     \
	mode_t mode = 0;                                                                           \
	if ((flags)&O_CREAT || ((flags)&O_TMPFILE) == O_TMPFILE) {                                 \
		va_list ap_;                                                                       \
		va_start(ap_, flags);                                                              \
		mode = va_arg(ap_, mode_t);                                                        \
		va_end(ap_);                                                                       \
	}

int wrap_open(const char *path, int flags, ...)
{
	WITH_MODE(flags, mode);
	return fd_created(REAL(open)(path, flags, mode));
}

int wrap_openat(int dir, const char *path, int flags, ...)
{
	WITH_MODE(flags, mode);
	return fd_created(REAL(openat)(dir, path, flags, mode));
}

int wrap___open_2(const char *path, int flags)
{
	return fd_created(REAL(__open_2)(path, flags));
}

int wrap___openat_2(int dir, const char *path, int flags)
{
	return fd_created(REAL(__openat_2)(dir, path, flags));
}

int wrap_creat(const char *path, mode_t mode)
{
	return fd_created(REAL(creat)(path, mode));
}

int wrap_pipe(int *fds)
{
	return wrap_pipe2(fds, 0);
}

int wrap_pipe2(int *fds, int flags)
{
	int r = REAL(pipe2)(fds, flags);
	if (r == 0) {
		fd_created(fds[0]);
		fd_created(fds[1]);
	}
	return r;
}

int wrap_eventfd(unsigned value, int flags)
{
	return fd_created(REAL(eventfd)(value, flags));
}

int wrap_timerfd_create(int clock, int flags)
{
	return fd_created(REAL(timerfd_create)(clock, flags));
}

int wrap_signalfd(int fd, const sigset_t *mask, int flags)
{
	int r = REAL(signalfd)(fd, mask, flags);
	return r == fd ? r : fd_created(r);
}

int wrap_memfd_create(const char *name, unsigned flags)
{
	return fd_created(REAL(memfd_create)(name, flags));
}

int wrap_inotify_init(void)
{
	return fd_created(REAL(inotify_init)());
}

int wrap_inotify_init1(int flags)
{
	return fd_created(REAL(inotify_init1)(flags));
}

int wrap_pidfd_open(pid_t pid, unsigned flags)
{
	return fd_created(REAL(pidfd_open)(pid, flags));
}

int wrap_mkstemp(char *template)
{
	return fd_created(REAL(mkstemp)(template));
}

int wrap_mkostemp(char *template, int flags)
{
	return fd_created(REAL(mkostemp)(template, flags));
}
