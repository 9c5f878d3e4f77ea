/*
 * An engine socket is an undecided kernel socket again, under all its numbers: what happens to a file when its socket
 * is unconnected (src/socket/disconnect.c says when).
 *
 * The file itself ends as in a handover: calls in progress hold it, their verbs say -EBADF, and call_end has them look
 * again. A new file, FILE_CANDIDATE, takes over its numbers and its epoll registrations, which the kernel's epolls get
 * back. Behind the numbers is the kernel socket that connect or listen was called on, with the options that were set on
 * it then and later (most of the latter are put off until now); of an accepted connection, whose numbers hold a
 * placeholder, a fresh one with the connection's options.
 *
 * Linux leaves ECONNRESET in SO_ERROR when it dissolves what was not over. The kernel socket is made to say so in the
 * kernel's own way: a connect that meets nobody is given up. Its SYN goes over the loopback, and a filter keeps the
 * answer away. Where that is not possible (no loopback, a socket bound to a device), SO_ERROR says nothing. What was
 * over may have left another error (ETIMEDOUT, EPIPE). No kernel socket can be brought to have that at once, so it gets
 * ECONNRESET, which poll shows the same way; whoever is told that by the kernel is told the right one instead
 * (left_error).
 */
#include "shim.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

static const struct sockaddr unspecified = {.sa_family = AF_UNSPEC};

/* Seized. */
static void set_late_options(struct file *f)
{
	for (unsigned i = 0; i < f->late.n; i++) {
		const struct option *o = &option_table[f->late.index[i]];
		sys_setsockopt(f->fd, o->level, o->number, &f->late.value[i], sizeof f->late.value[i]);
	}
	f->late.n = 0;
}

/* fd is non-blocking. A refusal is left by letting the answer in. */
static void leave_error(int fd, int family, int error)
{
	struct sock_filter drop = {.code = BPF_RET | BPF_K, .k = 0};
	struct sock_fprog filter = {1, &drop};
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(9), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	bool is_v6 = family == AF_INET6;
	bool refused = error == ECONNREFUSED;
	int at_once = 0;
	socklen_t len = sizeof at_once;
	if (!refused && sys_setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) < 0)
		return;
	/* With TCP_FASTOPEN_CONNECT the SYN could wait for text. */
	sys_getsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &at_once, &len);
	if (at_once)
		sys_setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &(int){0}, sizeof(int));
	int r = sys_connect(fd, is_v6 ? (void *)&v6 : &v4, is_v6 ? sizeof v6 : sizeof v4);
	if (r == 0 || r == -EINPROGRESS) /* 0: the option could not be taken off, as the namespace's sysctl has changed */
		sys_connect(fd, &unspecified, sizeof unspecified);
	if (at_once)
		sys_setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &at_once, sizeof at_once);
	if (!refused)
		sys_setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &filter, sizeof(int));
}

/*
 * A candidate that was a client goes to the kernel for good. Where kernels remember that (kernel/roles.h), its socket
 * becomes a client for a moment, too, and may not listen. But it would lose a port that the kernel chose for it at a
 * bind. Not earlier: most are connected anew, and the kernel would count a connection that it opened.
 */
void candidate_leaves_role(const struct candidate *c, int fd)
{
	int error, flags;
	struct sockaddr_in6 own;
	socklen_t len = sizeof own;
	if (!c->was_client || (flags = sys_fcntl(fd, F_GETFL, 0)) < 0)
		return;
	bool has_port = sys_getsockname(fd, &own, &len) == 0 && own.sin6_port; /* of both families it lies there */
	if ((has_port && !c->port_chosen) || !sock_role_is_kept(c))
		return;
	sys_fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	leave_error(fd, c->family, ECONNRESET);
	sys_fcntl(fd, F_SETFL, flags);
	len = sizeof error;
	sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
}

_Atomic bool shim_left_errors;

int left_error(int fd, int error)
{
	struct call c;
	if (error != ECONNRESET || !call_hold(&c, fd))
		return error;
	struct candidate *left = &c.file->candidate;
	if (c.file->kind == FILE_CANDIDATE && left->left_error) {
		error = left->left_error;
		left->left_error = 0;
	}
	call_let_go(&c);
	return error;
}

/*
 * Nobody but the socket itself heeds it, and in which order it is set among others makes no difference. Sizes and locks
 * of buffers are not like that; nor is SO_REUSEADDR, which others see who bind.
 */
static bool may_be_late(unsigned index)
{
	switch (index) {
	case OPTION_SO_KEEPALIVE:
	case OPTION_TCP_NODELAY:
	case OPTION_TCP_CORK:
	case OPTION_TCP_QUICKACK:
	case OPTION_TCP_KEEPIDLE:
	case OPTION_TCP_KEEPINTVL:
	case OPTION_TCP_KEEPCNT:
	case OPTION_TCP_USER_TIMEOUT:
		return true;
	default:
		return false;
	}
}

/* False: there is no room. */
static bool put_late(struct late_options *late, unsigned index, const void *value)
{
	unsigned i = 0;
	while (i < late->n && late->index[i] != index)
		i++;
	if (i == FILE_LATE_OPTIONS)
		return false;
	late->index[i] = index;
	memcpy(&late->value[i], value, sizeof late->value[i]);
	late->n += i == late->n;
	return true;
}

bool file_option_late(struct file *f, unsigned index, const void *value, socklen_t len)
{
	if (!may_be_late(index) || len < sizeof(int))
		return false;
	file_seize(f);
	bool fits = f->kind == FILE_SOCK && put_late(&f->late, index, value);
	if (!fits && f->kind == FILE_SOCK)
		set_late_options(f);
	file_unseize(f);
	return fits;
}

/* Every number of `f` leads to `to`, whose registrations they are. */
static void numbers_become(struct file *f, struct file *to)
{
	f->kind = FILE_KERNEL;
	for (int n = fdtable_next(0); n >= 0; n = fdtable_next(n + 1)) {
		if (fdtable_peek(n) != f)
			continue;
		atomic_fetch_add(&to->refs, 1);
		struct file *old = fdtable_swap(n, to, NULL);
		if (old)
			file_put(old); /* not the last: the caller has one */
	}
}

/* The kernel socket behind the numbers, from here on without the engine. */
static int kernel_part(struct file *f, enum disconnect why, int how, int twin)
{
	if (twin >= 0)
		numbers_to_kernel(f, twin);
	else if (f->listener && why == DISCONNECT_ELSEWHERE)
		return 0;
	else if (f->listener && why == DISCONNECT_SHUTDOWN)
		return sys_shutdown(f->fd, how); /* before the engine lets go: no client slips in */
	else if (f->listener)
		return sys_connect(f->fd, &unspecified, sizeof unspecified);
	return 0;
}

static int unconnect(struct file *f, struct file *to, enum disconnect why, int how)
{
	struct sock *s = f->sock;
	bool nonblock = sock_get_nonblock(s), accepted = !f->candidate.family;
	int error = 0, twin = -1, r = 0;
	undecided_settle(f);
	to->candidate = f->candidate;
	if (accepted)
		r = twin = sock_twin(s, &to->candidate);
	to->candidate.lost_port = 0;
	to->candidate.had_port = true;
	if (f->listener)
		to->candidate.was_listener = true;
	else
		sock_note_client(s, &to->candidate);
	to->candidate.nonblock_known = false; /* while the engine had it, nobody noted that here */
	to->candidate.left_error = 0;
	if (r >= 0 && !f->listener)
		r = sock_disconnect(s, why, &error);
	if (r >= 0)
		r = kernel_part(f, why, how, twin);
	if (r >= 0 && f->listener)
		r = sock_disconnect(s, why, &error);
	if (r >= 0) {
		set_late_options(f);
		kernel_fd_set_nonblock(f->fd, true);
		if (error)
			leave_error(f->fd, to->candidate.family, error);
		if (error && error != ECONNREFUSED && error != ECONNRESET) {
			to->candidate.left_error = error;
			shim_left_errors = true;
		}
		kernel_fd_set_status(f->fd, f->status, nonblock);
		registrations_to_undecided(&f->registrations, &to->registrations, f->fd);
		numbers_become(f, to);
	}
	if (twin >= 0)
		sys_close(twin);
	return r < 0 ? r : 0;
}

bool file_ended_elsewhere(struct file *f)
{
	return f->listener && sock_ended_elsewhere(f->sock) && file_unconnect(f, DISCONNECT_ELSEWHERE, 0) == 0;
}

int file_unconnect(struct file *f, enum disconnect why, int how)
{
	int r = -EBADF;
	file_seize(f); /* first: from then on no handler jumps away */
	struct file *to = f->kind == FILE_SOCK ? file_new(FILE_CANDIDATE) : NULL;
	if (to) {
		r = unconnect(f, to, why, how);
		file_put(to);
	} else if (f->kind == FILE_SOCK) {
		r = -ENOMEM;
	}
	file_unseize(f);
	return r;
}
