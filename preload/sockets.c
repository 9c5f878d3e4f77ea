/* Wrappers of the calls that make, decide and describe sockets. */
#include "shim.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <string.h>

#include "base/user.h"

/* As the kernel's move_addr_to_user: *len is the room and becomes the name's length. */
static int name_give(const struct sockaddr_storage *name, socklen_t name_len, struct sockaddr *addr,
		     socklen_t *len)
{
	if (!user_may_write(len, sizeof *len))
		return -EFAULT;
	if ((int)*len < 0)
		return -EINVAL;
	socklen_t n = *len < name_len ? *len : name_len;
	*len = name_len; /* first, as the kernel does */
	if (!user_may_write(addr, n))
		return -EFAULT;
	memcpy(addr, name, n);
	return 0;
}

static int engine_name(struct call *c, int (*verb)(struct sock *, struct sockaddr *, socklen_t *),
		       struct sockaddr *addr, socklen_t *len)
{
	struct sockaddr_storage name;
	socklen_t name_len = sizeof name;
	int r = verb(c->sock, (struct sockaddr *)&name, &name_len);
	return r < 0 ? r : name_give(&name, name_len, addr, len);
}

static int tcp_socket(int family, int type, int protocol)
{
	uint8_t kept = 0;
	bool nonblock = type & SOCK_NONBLOCK, kernel_nonblock = nonblock;
	int fd = reuse_take(family, type, &kept, &kernel_nonblock);
	if (fd < 0)
		fd = REAL(socket)(family, type, protocol);
	if (fd < 0 && errno == EMFILE && reuse_give_up())
		fd = REAL(socket)(family, type, protocol);
	if (fd < 0)
		return fd;
	if (!kept)
		kept = reuse_keep(fd, family);
	file_note_made(fd_created(fd), family, kept, nonblock, kernel_nonblock);
	return fd;
}

int wrap_socket(int family, int type, int protocol)
{
	bool inet = family == AF_INET || family == AF_INET6, stream = (type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == SOCK_STREAM;
	if (inet && stream && (protocol == 0 || protocol == IPPROTO_TCP) && shim_ready && !engine_inside) {
		int fd = tcp_socket(family, type, protocol);
		if (!shim_ready) /* another thread set a filter meanwhile */
			shim_stand_aside();
		return fd;
	}
	int fd = fd_created(REAL(socket)(family, type, protocol));
	if (family == AF_NETLINK && fd >= 0)
		engine_note_netlink();
	return fd;
}

int wrap_socketpair(int family, int type, int protocol, int *fds)
{
	int r = REAL(socketpair)(family, type, protocol, fds);
	if (r == 0) {
		fd_created(fds[0]);
		fd_created(fds[1]);
	}
	return r;
}

/* As the kernel's move_addr_to_kernel, before it looks at the socket's state. */
static int name_check(const struct sockaddr *addr, socklen_t len)
{
	if (len > sizeof(struct sockaddr_storage))
		return -EINVAL;
	return user_may_read(addr, len) ? 0 : -EFAULT;
}

static int engine_bind(struct call *c, int fd, const struct sockaddr *addr, socklen_t len)
{
	int r = name_check(addr, len);
	if (r < 0)
		return r;
	c->file->candidate.used = true; /* a connection that is over is bound by its kernel socket */
	return c->file->listener ? sys_bind(fd, addr, len) : sock_bind(c->sock, fd, addr, len);
}

static int kernel_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	int r = user_may_read(addr, len) ? engine_port_taken(fd, addr, len) : 0;
	return r < 0 ? edge(r) : REAL(bind)(fd, addr, len);
}

/* Seized. */
static int candidate_bind(struct file *f, int fd, const struct sockaddr *addr, socklen_t len)
{
	if (undecided_bind(f, addr, len))
		return 0;
	undecided_settle(f);
	f->candidate.bound = true;
	engine_before_bind(fd, addr, len);
	int r = kernel_bind(fd, addr, len);
	if (r == 0) {
		f->candidate.port_chosen |= ((const struct sockaddr_in *)addr)->sin_port != 0; /* of both families it lies there */
		f->candidate.lost_port = 0;
	}
	return r;
}

int wrap_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct call held;
	VIA_ENGINE_OR_HOLD(&held, fd, USE_PLAINLY, engine_bind(&c, fd, addr, len));
	if (!held.file)
		return shim_on() ? kernel_bind(fd, addr, len) : REAL(bind)(fd, addr, len);
	int r = candidate_bind(held.file, fd, addr, len);
	undecided_let_go(&held);
	return r;
}

static void note_bound(int fd)
{
	struct call held;
	while (!undecided_hold(&held, fd))
		;
	if (held.file) {
		held.file->candidate.bound = held.file->candidate.port_chosen = true;
		held.file->candidate.lost_port = 0;
	}
	undecided_let_go(&held);
}

/*
 * libc tries reserved ports, by bind calls of its own; libtirpc's function of this name by ours. So the socket is in
 * nobody's hands meanwhile, and what came of it is noted.
 */
int wrap_bindresvport(int fd, struct sockaddr_in *addr)
{
	if (shim_on() && undecided_await(fd))
		connection_to_kernel(fd, "bindresvport");
	fd_used(fd);
	int r = REAL(bindresvport)(fd, addr);
	if (r == 0)
		note_bound(fd);
	return r;
}

int wrap_listen(int fd, int backlog)
{
	int r;
	do {
		VIA_ENGINE(fd, sock_listen_again(c.sock, backlog));
		r = file_listen(fd, backlog);
	} while (r == FILE_AGAIN);
	return r == SOCK_KERNEL ? REAL(listen)(fd, backlog) : edge(r);
}

/* The name may find no room: then the connection is closed again, as the kernel does. */
static int give_accepted(int fd, const struct sockaddr_storage *name, socklen_t name_len, struct sockaddr *addr, socklen_t *len)
{
	int r = fd < 0 || !addr ? 0 : name_give(name, name_len, addr, len);
	if (r < 0)
		file_close(fd);
	return r < 0 ? r : number_for_stdio(fd);
}

static int engine_accept(struct call *c, int flags, struct sockaddr *addr, socklen_t *len)
{
	struct sockaddr_storage name;
	socklen_t name_len = sizeof name;
	if (flags & SOCK_ACCEPT_AT_ONCE) /* no flag of the program's */
		return -EINVAL;
	int fd = file_accept(c, flags, addr ? (struct sockaddr *)&name : NULL, addr ? &name_len : NULL);
	return give_accepted(fd, &name, name_len, addr, len);
}

/* Of a non-blocking listener (shim.h says why). True: *result is the answer. */
static bool accept_at_once(int fd, int flags, struct sockaddr *addr, socklen_t *len, int *result)
{
	struct sockaddr_storage name;
	socklen_t name_len = sizeof name;
	struct call c;
	while (!(flags & SOCK_ACCEPT_AT_ONCE) && call_begin_at_once(&c, fd)) {
		bool waits = !sock_get_nonblock(c.sock);
		int r = waits ? 0 : file_accept(&c, flags | SOCK_ACCEPT_AT_ONCE, addr ? (struct sockaddr *)&name : NULL, addr ? &name_len : NULL);
		if (!call_end_at_once(&c, r))
			continue;
		if (!waits)
			*result = edge(give_accepted(r, &name, name_len, addr, len));
		return !waits;
	}
	return false;
}

int wrap_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	cancel_point(fd);
	engine_call();
	adopt_listener(fd);
	int r;
	if (accept_at_once(fd, flags, addr, len, &r))
		return r;
	VIA_ENGINE_IN_CALL(fd, USE_TO_WAIT, engine_accept(&c, flags, addr, len));
	return fd_created(REAL(accept4)(fd, addr, len, flags));
}

int wrap_accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	cancel_point(fd);
	engine_call();
	adopt_listener(fd);
	int r;
	if (accept_at_once(fd, 0, addr, len, &r))
		return r;
	VIA_ENGINE_IN_CALL(fd, USE_TO_WAIT, engine_accept(&c, 0, addr, len));
	return fd_created(REAL(accept)(fd, addr, len));
}

long call_unconnected(struct call *c, long r)
{
	int err = file_unconnect(c->file, DISCONNECT_CONNECT, 0);
	return err && !r ? err : r;
}

static int engine_connect(struct call *c, const struct sockaddr *addr, socklen_t len, enum connect_how how)
{
	bool dissolve;
	int r = name_check(addr, len);
	if (r < 0)
		return r;
	r = sock_connect(c->sock, addr, len, how, &dissolve);
	return dissolve ? call_unconnected(c, r) : r;
}

static bool is_unspecified(const struct sockaddr *addr, socklen_t len)
{
	return len >= sizeof addr->sa_family && addr->sa_family == AF_UNSPEC;
}

/* Dissolving what is undecided changes nothing. */
static bool is_connecting(long r, int error, bool dissolves)
{
	return r >= 0 ? !dissolves : error == EINPROGRESS || error == EINTR || error == EALREADY || error == EISCONN;
}

long kernel_connects(int fd, long r, bool dissolves)
{
	struct call held;
	int error = errno;
	while (!undecided_hold(&held, fd))
		;
	if (held.file && is_connecting(r, error, dissolves))
		file_forget(held.file);
	else if (held.file && held.file->candidate.kernel_connects)
		held.file->candidate.kernel_connects--;
	undecided_let_go(&held);
	errno = error;
	return r;
}

static int kernel_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	fd_used(fd);
	int r = REAL(connect)(fd, addr, len);
	return kernel_connects(fd, r, r == 0 && is_unspecified(addr, len)); /* the kernel could read it */
}

/*
 * The engine began it in this call, and another thread made it the kernel's since (a spawn, an exec): what the kernel
 * says of a second call is no answer to the first.
 */
static int connect_goes_on(int fd, const struct sockaddr *addr, socklen_t len)
{
	int saved = errno, r = kernel_connect(fd, addr, len);
	if (r == 0 || (errno != EISCONN && errno != EALREADY))
		return r;
	if (errno == EALREADY || sys_fcntl(fd, F_GETFL, 0) & O_NONBLOCK)
		return edge(-EINPROGRESS);
	errno = saved;
	return 0;
}

int wrap_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct call begun;
	bool nonblock;
	int r;
	do {
		VIA_ENGINE_CANCELLED(fd, engine_connect(&c, addr, len, CONNECT_ANEW));
		r = file_connect(&begun, fd, addr, len, false, &nonblock);
	} while (r == FILE_AGAIN);
	if (r == 0) {
		r = engine_connect(&begun, addr, len, nonblock ? CONNECT_BEGUN_NONBLOCK : CONNECT_BEGUN);
		if (call_end(&begun, r))
			return edge(r);
		return r == -ERESTART ? wrap_connect(fd, addr, len) : connect_goes_on(fd, addr, len);
	}
	if (r != SOCK_KERNEL)
		return edge(r);
	return kernel_connect(fd, addr, len);
}

static int engine_shutdown(struct call *c, int how)
{
	int r;
	do {
		r = sock_shutdown(c->sock, how);
		if (r == SOCK_DISCONNECT)
			r = file_unconnect(c->file, DISCONNECT_SHUTDOWN, how);
	} while (r == -EAGAIN); /* the handshake was over meanwhile */
	return r;
}

/* Linux says ENOTCONN of what is not connected, and remembers it all the same: the next connection begins shut down. */
static int candidate_shutdown(struct file *f, int fd, int how)
{
	candidate_leaves_role(&f->candidate, fd); /* it would undo the shutdown */
	int r = REAL(shutdown)(fd, how), error = errno;
	if (r < 0 && error == ENOTCONN) {
		engine_note_fallback("a socket", "shut down before it was connected");
		file_forget(f);
	}
	errno = error;
	return r;
}

int wrap_shutdown(int fd, int how)
{
	struct call held;
	VIA_ENGINE_OR_HOLD(&held, fd, USE_PLAINLY, engine_shutdown(&c, how));
	if (!held.file)
		return REAL(shutdown)(fd, how);
	int r = candidate_shutdown(held.file, fd, how);
	undecided_let_go(&held);
	return r;
}

/* Linux goes on to tell the port of a connection that a socket had, until it gets another one. */
static int name_with_lost_port(int fd, uint16_t port, struct sockaddr *addr, socklen_t *len)
{
	struct sockaddr_storage name;
	socklen_t name_len = sizeof name;
	struct sockaddr_in *in = (void *)&name; /* the port of both families lies there */
	int r = sys_getsockname(fd, &name, &name_len);
	if (r == 0) /* what the kernel's socket tells may be of the connection that unconnect.c made */
		in->sin_port = htons(port);
	return r < 0 ? r : name_give(&name, name_len, addr, len);
}

int wrap_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	struct call held;
	VIA_LISTENER_AT_ONCE(fd, engine_name(&c, sock_getsockname, addr, len));
	VIA_ENGINE_OR_HOLD(&held, fd, USE_PLAINLY, engine_name(&c, sock_getsockname, addr, len));
	if (!held.file)
		return REAL(getsockname)(fd, addr, len);
	undecided_settle(held.file);
	uint16_t lost = held.file->candidate.lost_port;
	int r = lost ? edge(name_with_lost_port(fd, lost, addr, len)) : REAL(getsockname)(fd, addr, len);
	undecided_let_go(&held);
	return r;
}

int wrap_getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
	VIA_ENGINE(fd, engine_name(&c, sock_getpeername, addr, len));
	return REAL(getpeername)(fd, addr, len);
}

/* -EBADF: the fd is the kernel's from now on: ask it. */
static int option_to_kernel(struct call *c, int level, int option)
{
	char why[64];
	unsigned index = option_find(level, option);
	if (index == OPTION_UNKNOWN)
		snprintf(why, sizeof why, "socket option %d:%d is not the engine's", level, option);
	else
		snprintf(why, sizeof why, "socket option %s is not the engine's",
			 option_table[index].text);
	return file_handover(c->file, why) < 0 ? -ENOPROTOOPT : -EBADF;
}

/* No two sockets that ever were have the same. */
static bool is_identity(int level, int option)
{
	return level == SOL_SOCKET && option == SO_COOKIE;
}

static int engine_getsockopt(struct call *c, int fd, int level, int option, void *value,
			     socklen_t *len)
{
	if (is_identity(level, option))
		c->file->candidate.used = true; /* it does not come home */
	int r = sock_getsockopt(c->sock, level, option, value, len);
	if (r == SOCK_ASK_FD)
		return sys_getsockopt(fd, level, option, value, len);
	return r == SOCK_KERNEL ? option_to_kernel(c, level, option) : r;
}

int wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *len)
{
	struct call held;
	VIA_LISTENER_AT_ONCE(fd, engine_getsockopt(&c, fd, level, option, value, len));
	VIA_ENGINE_OR_HOLD(&held, fd, USE_PLAINLY, engine_getsockopt(&c, fd, level, option, value, len));
	if (held.file && is_identity(level, option))
		file_used(held.file);
	else if (is_identity(level, option))
		fd_used(fd);
	if (held.file)
		undecided_settle(held.file);
	int r = REAL(getsockopt)(fd, level, option, value, len);
	undecided_let_go(&held);
	if (__builtin_expect(shim_left_errors, 0) && r == 0 && level == SOL_SOCKET && option == SO_ERROR && *len == sizeof(int))
		*(int *)value = left_error(fd, *(int *)value);
	return r;
}

/* A connection of connect's may be connected anew, from the kernel socket that it was made of: that
 * one gets the option, too, now or then. The engine has taken the value, so it can be read. */
static void option_to_candidate(struct file *f, int fd, int level, int option, const void *value,
				socklen_t len)
{
	unsigned index = option_find(level, option);
	if (!f->candidate.family)
		return;
	if (f->listener || file_option_late(f, index, value, len) ||
	    sys_setsockopt(fd, level, option, value, len) == 0)
		candidate_note(&f->candidate, index, value, len);
}

static int engine_setsockopt(struct call *c, int fd, int level, int option, const void *value,
			     socklen_t len)
{
	int r = sock_setsockopt(c->sock, level, option, value, len);
	if (r == 0)
		option_to_candidate(c->file, fd, level, option, value, len);
	return r == SOCK_KERNEL ? option_to_kernel(c, level, option) : r;
}

int wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t len)
{
	struct call held;
	VIA_ENGINE_OR_HOLD(&held, fd, USE_PLAINLY, engine_setsockopt(&c, fd, level, option, value, len));
	if (held.file)
		undecided_settle(held.file);
	int r = REAL(setsockopt)(fd, level, option, value, len);
	if (r == 0 && held.file) /* the kernel took it */
		candidate_note(&held.file->candidate, option_find(level, option), value, len);
	undecided_let_go(&held);
	return r;
}

int wrap_sockatmark(int fd)
{
	int mark = 0;
	VIA_ENGINE(fd, sock_ioctl(c.sock, SIOCATMARK, &mark) < 0 ? -ENOTTY : mark);
	return REAL(sockatmark)(fd);
}
