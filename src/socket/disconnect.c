/*
 * A socket becomes unconnected again: Linux's SS_UNCONNECTED, reached a second time.
 *
 * Ways there: connect(AF_UNSPEC) on anything; a connect that failed and was told of; shutdown while the handshake goes
 * on; shutdown of a listener. From there connect and listen are possible anew, so the socket is what it was before the
 * engine took it: the program's fd is an undecided kernel socket, which the kernel's own answers are right for (poll,
 * bind, getsockname, options). The shim sees to that (preload/unconnect.c). Here the engine's part
 * ends: what waits for it is woken, the peer gets its RST, the listening port goes back. Calls in progress say -EBADF,
 * and the shim makes them again on the kernel socket.
 *
 * The fd of an accepted connection is no TCP socket; its twin becomes one: a fresh kernel socket with the connection's
 * options. What Linux leaves in SO_ERROR of a dissolved connection is told to the caller, who sees to it that the
 * kernel socket says so.
 */
#include "socket/engine.h"
#include "socket/listener.h"

#include "base/fd.h"
#include "base/sys.h"

#include <errno.h>
#include <netinet/in.h>

/* Linux's tcp_disconnect: what is left in SO_ERROR. Lock held. */
static int conn_dissolve(struct engine *e, struct sock *s)
{
	enum tcp_state state = tcp_state(&s->tcp);
	int error = tcp_take_error(&s->tcp);
	bool alive = state != TCPS_CLOSED && state != TCPS_TIME_WAIT;
	if (alive && state != TCPS_CLOSING && state != TCPS_LAST_ACK)
		error = ECONNRESET;
	if (alive) {
		connect_given_up(e, s);
		tcp_abort(&s->tcp, e->now);
		sock_process_events(e, s);
		sock_mark_dirty(e, s);
	}
	s->kind = SOCK_KIND_DEAD;
	sock_notify(e, s);
	return error;
}

/* The state may have changed since the caller looked: -EAGAIN. */
static int disconnect_locked(struct engine *e, struct sock *s, enum disconnect why, int *error)
{
	if (s->kind == SOCK_KIND_LISTENER) {
		listener_close(e, s, true);
		return 0;
	}
	if (s->kind != SOCK_KIND_CONN)
		return -EBADF;
	if (why == DISCONNECT_SHUTDOWN && tcp_state(&s->tcp) != TCPS_SYN_SENT)
		return -EAGAIN;
	s->connect_result = why == DISCONNECT_SHUTDOWN ? -ECONNRESET : -EPIPE;
	*error = conn_dissolve(e, s);
	if (why == DISCONNECT_SHUTDOWN && s->connecting) /* it is told there */
		*error = 0;
	return 0;
}

int sock_disconnect(struct sock *s, enum disconnect why, int *error)
{
	struct engine *e = s->engine;
	*error = 0;
	turn_enter(e);
	int r = disconnect_locked(e, s, why, error);
	turn_leave(e);
	return r;
}

/*
 * Which options a twin of `s` has been given: those that a connection keeps in fields of its own, and those whose
 * values are noted.
 */
static void note_options(const struct sock *s, struct candidate *c)
{
	const struct tcp_options *opt = tcp_get_options(&s->tcp);
	for (unsigned i = 0; i < OPTION_COUNT; i++) {
		bool own = option_table[i].source == OPTION_OWN && option_table[i].class == OPTION_CARRIED;
		if ((i == OPTION_TCP_MAXSEG && !opt->maxseg) || (i == OPTION_TCP_WINDOW_CLAMP && !opt->window_clamp))
			own = false; /* not set, these say what the kernel's last attempt to connect found */
		if (own || option_values_has(s->values, i))
			option_set_add(&c->set, i);
	}
}

void bind_address_only(int fd, const struct sockaddr *name, socklen_t len)
{
	int on = 1, before = 0;
	socklen_t size = sizeof before;
	sys_getsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &before, &size);
	sys_setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
	sys_bind(fd, name, len);
	sys_setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &before, sizeof before);
}

/* In own-address mode the kernel has no such address. */
static void bind_address(struct engine *e, const struct sock *s, int fd)
{
	struct sockaddr_storage name;
	socklen_t len = sizeof name;
	name_from_addr(e, s->family, &s->flow.key.laddr, 0, (struct sockaddr *)&name, &len);
	bind_address_only(fd, (struct sockaddr *)&name, len);
}

int sock_twin(struct sock *s, struct candidate *c)
{
	struct engine *e = s->engine;
	*c = (struct candidate){.family = s->family};
	engine_lock(e);
	int fd = s->bound_again ? fd_dup(s->port_fd) : fd_socket(s->family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && s->kind == SOCK_KIND_CONN) {
		if (s->keeps_address && !s->bound_again)
			bind_address(e, s, fd);
		options_to_kernel(e, s, fd);
		options_sndbuf_to_kernel(s, fd);
		note_options(s, c);
	}
	engine_unlock(e);
	return fd;
}
