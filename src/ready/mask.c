/*
 * What poll(2) says of a socket of the engine.
 *
 * It is Linux's tcp_poll, clause by clause, over the connection's state: a program that waits for an event that Linux
 * reports must get it, and one that Linux does not report would have it spin. The kernel's queue of a listener is not
 * looked at here: poll.c and queue.c do.
 */
#include "ready/internal.h"

#include "socket/errqueue.h"

#include <poll.h>

/* Linux's tcp_poll, clause by clause. */
static short conn_mask(struct sock *s)
{
	struct tcp_conn *c = &s->tcp;
	enum tcp_state state = tcp_state(c);
	bool done = state == TCPS_CLOSED || (state == TCPS_TIME_WAIT);
	bool rcv_shut = s->shut_rd || done || tcp_peer_fin(c);
	bool snd_shut = done || tcp_send_closed(c);
	short mask = 0;
	if (tcp_is_opening(c)) { /* a SYN that waits for text leaves with what is written */
		mask = tcp_error(c) || errqueue_has(s) ? POLLERR : 0;
		return mask | (tcp_syn_waits(c) ? POLLOUT | POLLWRNORM : 0);
	}
	if (rcv_shut && snd_shut)
		mask |= POLLHUP;
	if (rcv_shut)
		mask |= POLLIN | POLLRDNORM | POLLRDHUP;
	uint32_t readable = tcp_ready_bytes(c);
	if (readable && readable >= (uint32_t)s->lowat)
		mask |= POLLIN | POLLRDNORM;
	if (snd_shut || tcp_ask_writable(c))
		mask |= POLLOUT | POLLWRNORM;
	if (tcp_error(c) || errqueue_has(s))
		mask |= POLLERR;
	if (tcp_urgent_ready(c))
		mask |= POLLPRI;
	return mask;
}

short sock_mask(struct engine *e, struct sock *s)
{
	(void)e;
	switch (s->kind) {
	case SOCK_KIND_LISTENER:
		return list_empty(&s->lst->accept_queue) ? 0 : POLLIN | POLLRDNORM;
	case SOCK_KIND_CONN:
		return conn_mask(s);
	default:
		return POLLNVAL;
	}
}
