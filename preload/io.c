/*
 * Wrappers of the calls that move data. All of them end in sock_sendmsg or sock_recvmsg.
 *
 * SIGPIPE is raised here, on the calling thread as Linux does, when a verb says -EPIPE and
 * MSG_NOSIGNAL is not set. A sendmsg on another socket that passes fds (SCM_RIGHTS) hands engine
 * sockets among them over to the kernel first.
 */
#include "shim.h"

#include <limits.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "base/fd.h"
#include "base/user.h"
#include "base/time.h"

#define MOVED_MAX_BYTES 0x7ffff000 /* by one call: Linux's MAX_RW_COUNT */
#define RWF_NOSIGNAL_   0x100      /* Linux 6.18's; Debian 12's headers do not have it */

void raise_sigpipe(void)
{
	long tid = sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
	sys_call(SYS_tgkill, sys_getpid(), tid, SIGPIPE, 0, 0, 0);
}

ssize_t engine_send(struct call *c, const struct msghdr *msg, int flags)
{
	bool dissolve = false;
	ssize_t r = sock_sendmsg(c->sock, msg, flags, &dissolve);
	if (dissolve)
		r = call_unconnected(c, r);
	if (r == -EPIPE && !(flags & MSG_NOSIGNAL))
		raise_sigpipe();
	return r;
}

ssize_t send_tells_error(int fd, ssize_t r, int flags)
{
	if (__builtin_expect(r < 0 && shim_left_errors && errno != EPIPE, 0)) {
		tells_error(fd, r);
		if (errno == EPIPE && !(flags & MSG_NOSIGNAL))
			raise_sigpipe();
	}
	return r;
}

static size_t cut(size_t n)
{
	return n < MOVED_MAX_BYTES ? n : MOVED_MAX_BYTES;
}

/*
 * send and recv cut a length that is too long, and then look where it ends; read and write look first, so that a length
 * of -1 is EFAULT there.
 */
static ssize_t send_buffer(struct call *c, const void *buf, size_t n, int flags)
{
	struct iovec iov = {(void *)buf, cut(n)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	return user_has_addresses(buf, iov.iov_len) ? engine_send(c, &msg, flags) : -EFAULT;
}

static ssize_t recv_buffer(struct call *c, void *buf, size_t n, int flags)
{
	struct iovec iov = {buf, cut(n)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	return user_has_addresses(buf, iov.iov_len) ? sock_recvmsg(c->sock, &msg, flags) : -EFAULT;
}

/* ---- what the program hands in ---- */

/* As the kernel's import_iovec: too long, a bad array, a negative length. */
static int iov_check(const struct iovec *iov, size_t count)
{
	if (count > IOV_MAX)
		return -EMSGSIZE;
	if (!user_may_read(iov, count * sizeof *iov))
		return -EFAULT;
	for (size_t i = 0; i < count; i++)
		if ((ssize_t)iov[i].iov_len < 0)
			return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		/* several are looked at first, and cut then */
		if (!user_has_addresses(iov[i].iov_base, count == 1 ? cut(iov[i].iov_len) : iov[i].iov_len))
			return -EFAULT;
	}
	return 0;
}

/* As readv, writev. */
static int iov_check_vector(const struct iovec *iov, int count)
{
	return count < 0 || count > IOV_MAX ? -EINVAL : iov_check(iov, count);
}

/* The header that recvmsg and sendmsg take. The kernel looks at the name first. */
static int msg_check(const struct msghdr *msg)
{
	if (!user_may_read(msg, sizeof *msg))
		return -EFAULT;
	if (msg->msg_name && (int)msg->msg_namelen < 0)
		return -EINVAL;
	return iov_check(msg->msg_iov, msg->msg_iovlen);
}

static long make_socket(void *fd)
{
	return *(int *)fd = sys_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/*
 * Linux has room for as much control data as net.core.optmem_max says; it looks at that before the data. Asked where it
 * can matter: a socket without a connection sends nothing.
 */
#define CONTROL_FITS 4096

static int control_check_long(const struct msghdr *msg)
{
	struct msghdr control = {.msg_control = msg->msg_control, .msg_controllen = msg->msg_controllen};
	int fd;
	if (fd_make(make_socket, &fd) < 0)
		return 0;
	long r = sys_call(SYS_sendmsg, fd, &control, MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0, 0);
	sys_close(fd);
	return r == -ENOBUFS ? -ENOBUFS : 0;
}

/* What sendmsg reads besides: a longer name is cut. */
static int msg_check_out(const struct msghdr *msg)
{
	int r = msg_check(msg);
	if (r < 0)
		return r;
	socklen_t name = msg->msg_namelen < sizeof(struct sockaddr_storage) ? msg->msg_namelen : sizeof(struct sockaddr_storage);
	if (msg->msg_name && name && !user_may_read(msg->msg_name, name))
		return -EFAULT;
	if (msg->msg_controllen > INT_MAX)
		return -ENOBUFS;
	if (msg->msg_controllen > CONTROL_FITS && control_check_long(msg) < 0)
		return -ENOBUFS;
	return msg->msg_controllen && !user_may_read(msg->msg_control, msg->msg_controllen) ? -EFAULT : 0;
}

/*
 * The header after `h` within `msg`, or NULL: at the end, or where what is there cannot be right (the kernel says
 * EINVAL then).
 */
static struct cmsghdr *control_next(const struct msghdr *msg, struct cmsghdr *h)
{
	char *end = (char *)msg->msg_control + msg->msg_controllen;
	char *at = h ? (char *)h + CMSG_ALIGN(h->cmsg_len) : msg->msg_control;
	if (at + sizeof *h > end || ((struct cmsghdr *)at)->cmsg_len < sizeof *h ||
	    ((struct cmsghdr *)at)->cmsg_len > (size_t)(end - at))
		return NULL;
	return (struct cmsghdr *)at;
}

/* Has it control data that can be looked at? */
static bool has_control(const struct msghdr *msg)
{
	return user_may_read(msg, sizeof *msg) && msg->msg_controllen >= sizeof(struct cmsghdr) && msg->msg_controllen <= INT_MAX &&
	       user_may_read(msg->msg_control, msg->msg_controllen);
}

/* ---- in ---- */

ssize_t wrap_read(int fd, void *buf, size_t n)
{
	VIA_ENGINE_CANCELLED(fd, !user_has_addresses(buf, n) ? -EFAULT : n ? recv_buffer(&c, buf, n, 0) : 0);
	return tells_error(fd, REAL(read)(fd, buf, n));
}

ssize_t wrap___read_chk(int fd, void *buf, size_t n, size_t room)
{
	if (n <= room)
		return wrap_read(fd, buf, n);
	return REAL(__read_chk)(fd, buf, n, room); /* does not return */
}

/* Linux has done with a vector of no bytes before it comes to the socket. */
static bool iov_is_empty(const struct iovec *iov, int count)
{
	for (int i = 0; i < count; i++)
		if (iov[i].iov_len)
			return false;
	return true;
}

static ssize_t engine_readv(struct call *c, const struct iovec *iov, int count, int flags)
{
	struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = count};
	int r = iov_check_vector(iov, count);
	return r < 0 || iov_is_empty(iov, count) ? r : sock_recvmsg(c->sock, &msg, flags);
}

ssize_t wrap_readv(int fd, const struct iovec *iov, int count)
{
	VIA_ENGINE_CANCELLED(fd, engine_readv(&c, iov, count, 0));
	return tells_error(fd, REAL(readv)(fd, iov, count));
}

static long make_eventfd(void *fd)
{
	return *(int *)fd = sys_eventfd2(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

/*
 * The kernel knows RWF_NOSIGNAL: an empty eventfd has nothing to read, or the call is refused. Asked once: the
 * descriptor has one of the program's numbers meanwhile.
 */
static bool kernel_has_nosignal(void)
{
	static _Atomic int known; /* 1: it has; -1: it has not */
	uint64_t count;
	struct iovec iov = {&count, sizeof count};
	int fd;
	if (known || fd_make(make_eventfd, &fd) < 0)
		return known > 0;
	long r = sys_call(SYS_preadv2, fd, &iov, 1, -1, 0, RWF_NOSIGNAL_);
	sys_close(fd);
	known = r == -EAGAIN ? 1 : -1;
	return known > 0;
}

/* What a socket takes of the flags of preadv2 and pwritev2, as flags of a message; or -EOPNOTSUPP. */
static int message_flags(int rwf)
{
	if (rwf & ~(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND | RWF_NOSIGNAL_))
		return -EOPNOTSUPP;
	if ((rwf & RWF_NOSIGNAL_) && !kernel_has_nosignal())
		return -EOPNOTSUPP;
	return (rwf & RWF_NOWAIT ? MSG_DONTWAIT : 0) | (rwf & RWF_NOSIGNAL_ ? MSG_NOSIGNAL : 0);
}

static ssize_t engine_preadv2(struct call *c, const struct iovec *iov, int count, int rwf)
{
	int flags = message_flags(rwf);
	return flags < 0 ? flags : engine_readv(c, iov, count, flags);
}

/* At offset -1, preadv2 is readv with flags; with another one a socket says ESPIPE. */
ssize_t wrap_preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	if (offset == -1)
		VIA_ENGINE_CANCELLED(fd, engine_preadv2(&c, iov, count, flags));
	return tells_error(fd, REAL(preadv2)(fd, iov, count, offset, flags));
}

ssize_t wrap_recv(int fd, void *buf, size_t n, int flags)
{
	VIA_ENGINE_CANCELLED(fd, recv_buffer(&c, buf, n, flags));
	return tells_error(fd, REAL(recv)(fd, buf, n, flags));
}

ssize_t wrap___recv_chk(int fd, void *buf, size_t n, size_t room, int flags)
{
	if (n <= room)
		return wrap_recv(fd, buf, n, flags);
	return REAL(__recv_chk)(fd, buf, n, room, flags);
}

/* A TCP socket has no address to tell: length 0, as Linux. */
static ssize_t engine_recvfrom(struct call *c, void *buf, size_t n, int flags,
			       const struct sockaddr *from, socklen_t *fromlen)
{
	ssize_t r = recv_buffer(c, buf, n, flags);
	if (r < 0 || !from)
		return r;
	if (!user_may_write(fromlen, sizeof *fromlen))
		return -EFAULT;
	if ((int)*fromlen < 0)
		return -EINVAL; /* though the bytes are taken */
	*fromlen = 0;
	return r;
}

ssize_t wrap_recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *from,
		      socklen_t *fromlen)
{
	VIA_ENGINE_CANCELLED(fd, engine_recvfrom(&c, buf, n, flags, from, fromlen));
	return tells_error(fd, REAL(recvfrom)(fd, buf, n, flags, from, fromlen));
}

ssize_t wrap___recvfrom_chk(int fd, void *buf, size_t n, size_t room, int flags,
			    struct sockaddr *from, socklen_t *fromlen)
{
	if (n <= room)
		return wrap_recvfrom(fd, buf, n, flags, from, fromlen);
	return REAL(__recvfrom_chk)(fd, buf, n, room, flags, from, fromlen);
}

/* Linux's own, for calls of 32 bits: a program may not say it. */
#define MSG_CMSG_COMPAT 0x80000000u

static ssize_t engine_recvmsg(struct call *c, struct msghdr *msg, int flags)
{
	int err = flags & MSG_CMSG_COMPAT ? -EINVAL : msg_check(msg);
	if (err < 0)
		return err;
	struct msghdr own = *msg;
	ssize_t r = sock_recvmsg(c->sock, &own, flags);
	if (r < 0)
		return r;
	if (!user_may_write(msg, sizeof *msg))
		return -EFAULT;
	if (msg->msg_name)
		msg->msg_namelen = own.msg_namelen;
	msg->msg_controllen = own.msg_controllen;
	msg->msg_flags = own.msg_flags | (flags & MSG_CMSG_CLOEXEC); /* Linux tells it again */
	return r;
}

/* fds that came with the message are new numbers of this process. */
static void fds_received(struct msghdr *msg)
{
	if (!has_control(msg))
		return;
	for (struct cmsghdr *m = control_next(msg, NULL); m; m = control_next(msg, m)) {
		if (m->cmsg_level != SOL_SOCKET || m->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (m->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(m) + i * sizeof fd, sizeof fd);
			if (epoll_received(fd))
				continue;
			fd_created(fd);
			adopt_ask_again(fd);
		}
	}
}

ssize_t wrap_recvmsg(int fd, struct msghdr *msg, int flags)
{
	VIA_ENGINE_CANCELLED(fd, engine_recvmsg(&c, msg, flags));
	ssize_t r = tells_error(fd, REAL(recvmsg)(fd, msg, flags));
	if (r >= 0 && !engine_inside)
		fds_received(msg);
	return r;
}

/* Until `end`, of the monotonic clock; false: nothing. */
static bool time_left(const struct timespec *end, struct timespec *left)
{
	struct timespec now;
	clock_get(CLOCK_MONOTONIC, &now);
	int64_t ns = (end->tv_sec - now.tv_sec) * 1000000000LL + end->tv_nsec - now.tv_nsec;
	if (ns < 0)
		ns = 0;
	*left = (struct timespec){ns / 1000000000, ns % 1000000000};
	return ns != 0;
}

/* Messages until one fails or has an urgent byte, MSG_WAITFORONE got its one, or the timeout passed, which is looked at
 * after each message only, as Linux does. */
static int engine_recvmmsg(struct call *c, struct mmsghdr *msgs, unsigned count, int flags,
			   struct timespec *timeout)
{
	unsigned done = 0;
	struct timespec end = {0};
	if (timeout) {
		if (!user_may_write(timeout, sizeof *timeout))
			return -EFAULT;
		if (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec > 999999999)
			return -EINVAL;
		clock_get(CLOCK_MONOTONIC, &end);
		end.tv_sec += timeout->tv_sec;
		end.tv_nsec += timeout->tv_nsec;
	}
	int err = flags & MSG_ERRQUEUE ? 0 : sock_take_error(c->sock); /* Linux asks for it before it takes anything */
	if (err)
		return -err;
	while (done < count) {
		ssize_t r = user_may_write(&msgs[done], sizeof *msgs) ? engine_recvmsg(c, &msgs[done].msg_hdr, flags & ~MSG_WAITFORONE) : -EFAULT;
		if (r < 0) {
			if (done && r != -EAGAIN)
				sock_put_error(c->sock, -r); /* for the next call */
			return done ? (int)done : (int)r;
		}
		msgs[done++].msg_len = r;
		if (flags & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
		if (timeout && !time_left(&end, timeout))
			break;
		if (msgs[done - 1].msg_hdr.msg_flags & MSG_OOB)
			break;
	}
	return done;
}

int wrap_recvmmsg(int fd, struct mmsghdr *msgs, unsigned count, int flags, struct timespec *timeout)
{
	VIA_ENGINE_CANCELLED(fd, engine_recvmmsg(&c, msgs, count, flags, timeout));
	int r = tells_error(fd, REAL(recvmmsg)(fd, msgs, count, flags, timeout));
	for (int i = 0; i < r && !engine_inside; i++)
		fds_received(&msgs[i].msg_hdr);
	return r;
}

/* ---- out ---- */

ssize_t wrap_write(int fd, const void *buf, size_t n)
{
	VIA_ENGINE_CANCELLED(fd, user_has_addresses(buf, n) ? send_buffer(&c, buf, n, 0) : -EFAULT);
	before_known(fd);
	return send_tells_error(fd, REAL(write)(fd, buf, n), 0);
}

static ssize_t engine_writev(struct call *c, const struct iovec *iov, int count, int flags)
{
	struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = count};
	int r = iov_check_vector(iov, count);
	return r < 0 || iov_is_empty(iov, count) ? r : engine_send(c, &msg, flags);
}

ssize_t wrap_writev(int fd, const struct iovec *iov, int count)
{
	VIA_ENGINE_CANCELLED(fd, engine_writev(&c, iov, count, 0));
	before_known(fd);
	return send_tells_error(fd, REAL(writev)(fd, iov, count), 0);
}

static ssize_t engine_pwritev2(struct call *c, const struct iovec *iov, int count, int rwf)
{
	int flags = message_flags(rwf);
	return flags < 0 ? flags : engine_writev(c, iov, count, flags);
}

ssize_t wrap_pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	if (offset == -1)
		VIA_ENGINE_CANCELLED(fd, engine_pwritev2(&c, iov, count, flags));
	before_known(fd);
	return send_tells_error(fd, REAL(pwritev2)(fd, iov, count, offset, flags), 0);
}

/* TCP Fast Open connects within send. As file_connect; what the kernel would refuse to read is its. */
static int fastopen_begin(struct call *c, int fd, const struct sockaddr *to, socklen_t len)
{
	bool good = shim_on() && to && len <= sizeof(struct sockaddr_storage) && user_may_read(to, len);
	bool nonblock;
	return good ? file_connect(c, fd, to, len, true, &nonblock) : SOCK_KERNEL;
}

#define VIA_FASTOPEN(fd, flags, to, len, verb)                                                     \
	if ((flags) & MSG_FASTOPEN) {                                                              \
		int begun;                                                                         \
		cancel_point(fd);                                                                  \
		do {                                                                               \
			VIA_ENGINE_IN_CALL(fd, USE_PLAINLY, verb);                                 \
			struct call c;                                                             \
			begun = fastopen_begin(&c, fd, to, len);                                   \
			if (begun == 0) {                                                          \
				long r_ = (verb);                                                  \
				if (call_end(&c, r_))                                              \
					return edge(r_);                                           \
			}                                                                          \
		} while (begun == FILE_AGAIN);                                                     \
		if (begun < 0)                                                                     \
			return edge(begun);                                                        \
		fd_used(fd);                                                                       \
	}

/* The kernel has sent. */
static long kernel_sent(int fd, long r, int flags)
{
	return send_tells_error(fd, flags & MSG_FASTOPEN ? kernel_connects(fd, r, false) : r, flags);
}

ssize_t wrap_send(int fd, const void *buf, size_t n, int flags)
{
	VIA_ENGINE_CANCELLED(fd, send_buffer(&c, buf, n, flags));
	before_known(KNOWN_ANYWAY);
	return send_tells_error(fd, REAL(send)(fd, buf, n, flags), flags);
}

/* TCP ignores the address unless it is to connect, but Linux has copied it by then. */
static ssize_t engine_sendto(struct call *c, const void *buf, size_t n, int flags, const struct sockaddr *to, socklen_t tolen)
{
	struct iovec iov = {(void *)buf, cut(n)};
	struct msghdr msg = {.msg_name = (void *)to, .msg_namelen = tolen, .msg_iov = &iov, .msg_iovlen = 1};
	if (!user_has_addresses(buf, iov.iov_len))
		return -EFAULT;
	if (to && tolen > sizeof(struct sockaddr_storage))
		return -EINVAL;
	if (to && !user_may_read(to, tolen))
		return -EFAULT;
	return engine_send(c, &msg, flags);
}

ssize_t wrap_sendto(int fd, const void *buf, size_t n, int flags, const struct sockaddr *to,
		    socklen_t tolen)
{
	VIA_ENGINE_CANCELLED(fd, engine_sendto(&c, buf, n, flags, to, tolen));
	VIA_FASTOPEN(fd, flags, to, tolen, engine_sendto(&c, buf, n, flags, to, tolen));
	before_known(KNOWN_ANYWAY);
	return kernel_sent(fd, REAL(sendto)(fd, buf, n, flags, to, tolen), flags);
}

static ssize_t engine_sendmsg(struct call *c, const struct msghdr *msg, int flags)
{
	int r = flags & MSG_CMSG_COMPAT ? -EINVAL : msg_check_out(msg);
	if (r < 0)
		return r;
	struct msghdr own = *msg;
	if (!own.msg_namelen)
		own.msg_name = NULL;
	if (msg->msg_controllen && !c->file->listener && sock_message_is_kernels(c->file->sock, msg) && file_handover(c->file, "time stamps, asked for by sendmsg") == 0)
		return -EBADF;
	return engine_send(c, &own, flags);
}

/*
 * Engine sockets among the fds that this message passes become kernel sockets. -ETOOMANYREFS: one could not, and the
 * message must not go.
 */
static int hand_over_passed_fds(const struct msghdr *msg)
{
	if (!has_control(msg))
		return 0;
	for (struct cmsghdr *h = control_next(msg, NULL); h; h = control_next(msg, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
			if (fd_to_message(fd) == -ETOOMANYREFS)
				return -ETOOMANYREFS;
			epoll_passed(fd);
		}
	}
	return 0;
}

ssize_t wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	VIA_ENGINE_CANCELLED(fd, engine_sendmsg(&c, msg, flags));
	if ((flags & MSG_FASTOPEN) && msg_check_out(msg) == 0)
		VIA_FASTOPEN(fd, flags, msg->msg_name, msg->msg_namelen, engine_sendmsg(&c, msg, flags));
	int refused = shim_on() ? hand_over_passed_fds(msg) : 0;
	if (refused)
		return edge(refused);
	before_known(KNOWN_ANYWAY);
	return kernel_sent(fd, REAL(sendmsg)(fd, msg, flags), flags);
}

static int engine_sendmmsg(struct call *c, struct mmsghdr *msgs, unsigned count, int flags)
{
	unsigned done = 0;
	if (count > IOV_MAX)
		count = IOV_MAX;
	while (done < count) {
		ssize_t r = engine_sendmsg(c, &msgs[done].msg_hdr, flags);
		if (r >= 0 && !user_may_write(&msgs[done].msg_len, sizeof msgs->msg_len))
			r = -EFAULT; /* though the bytes are gone */
		if (r < 0)
			return done ? (int)done : (int)r;
		msgs[done++].msg_len = r;
	}
	return done;
}

int wrap_sendmmsg(int fd, struct mmsghdr *msgs, unsigned count, int flags)
{
	VIA_ENGINE_CANCELLED(fd, engine_sendmmsg(&c, msgs, count, flags));
	if ((flags & MSG_FASTOPEN) && count && user_may_write(&msgs[0], sizeof *msgs) && msg_check_out(&msgs[0].msg_hdr) == 0)
		VIA_FASTOPEN(fd, flags, msgs[0].msg_hdr.msg_name, msgs[0].msg_hdr.msg_namelen, engine_sendmmsg(&c, msgs, count, flags));
	/* Linux looks at no more of them */
	for (unsigned i = 0; shim_on() && i < count && i < IOV_MAX && user_may_read(&msgs[i], sizeof msgs[i]); i++) {
		int refused = hand_over_passed_fds(&msgs[i].msg_hdr);
		if (refused && i == 0)
			return edge(refused);
		if (refused)
			count = i; /* those before it go, as in Linux */
	}
	before_known(KNOWN_ANYWAY);
	return kernel_sent(fd, REAL(sendmmsg)(fd, msgs, count, flags), flags);
}
