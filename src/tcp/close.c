/* The application's last verbs: shutdown, close, abort (RFC 9293 §3.10.4, §3.10.5). */
#include "tcp/tcp_int.h"

#include <errno.h>

void tcp_set_reader(struct tcp_conn *c, enum reader_says says)
{
	c->reader = says;
}

int tcp_shutdown(struct tcp_conn *c, int64_t now)
{
	switch (c->state) {
	case TCPS_CLOSED:
	case TCPS_LISTEN:
		return -ENOTCONN;
	case TCPS_SYN_SENT: /* "Delete the TCB"; Linux disconnects */
		conn_close(c, now, ECONNRESET);
		return 0;
	default:
		hold_on_close(c, now, CLOSE_CALL_SHUTDOWN, false, false);
		return 0;
	}
}

void tcp_shutdown_receive(struct tcp_conn *c)
{
	c->rcv_shut = true;
}

bool tcp_has_unread(const struct tcp_conn *c)
{
	return c->rcv.len != 0;
}

void tcp_close(struct tcp_conn *c, int64_t now, bool linger, bool exiting)
{
	bool unread = tcp_has_unread(c);
	c->orphan = true;
	c->options.keepalive = c->options.keepalive && c->state < TCPS_TIME_WAIT;
	switch (c->state) {
	case TCPS_CLOSED:
	case TCPS_LISTEN:
		ring_free(&c->rcv, c->stack->memory);
		return;
	case TCPS_SYN_SENT: /* "Delete the TCB" */
		conn_close(c, now, 0);
		return;
	case TCPS_TIME_WAIT:
		ring_free(&c->rcv, c->stack->memory);
		return;
	default:
		break;
	}
	if (!c->fin_wanted || c->fin_held)
		hold_on_close(c, now, CLOSE_CALL_CLOSE, linger, exiting);
	if (unread) {
		/* RFC 9293 §3.6.1 (RFC 2525 §2.17): the peer must not believe that it was all read. */
		TCP_COUNT(c, AbortOnClose);
		c->close_reason = CLOSE_REASON_UNREAD;
		conn_reset(c, now, 0);
		return;
	}
	window_release_rcv(c);
	if (c->state == TCPS_FIN_WAIT_2)
		conn_start_fin_wait_2(c, now); /* nobody waits for the peer any more */
}

void tcp_destroy(struct tcp_conn *c, int64_t now, int err)
{
	if (c->state > TCPS_LISTEN)
		conn_reset(c, now, err);
}

void tcp_abort(struct tcp_conn *c, int64_t now)
{
	c->orphan = true;
	if (c->state <= TCPS_LISTEN) {
		ring_free(&c->rcv, c->stack->memory);
		return;
	}
	TCP_COUNT(c, AbortByUser);
	/* RFC 9293 §3.10.5: in CLOSING and LAST-ACK, where all is sent, the connection just goes, as Linux's does. */
	if ((c->state == TCPS_CLOSING || c->state == TCPS_LAST_ACK) && c->fin_sent)
		conn_close(c, now, 0);
	else
		conn_reset(c, now, 0);
}
