/* RECEIVE (RFC 9293 §3.10.3): from the receive buffer to the application. */
#include "tcp/tcp_int.h"

#include <errno.h>

uint32_t tcp_recv_next(const struct tcp_conn *c)
{
	return c->rcv_nxt - c->peer_fin - c->rcv.len;
}

uint32_t tcp_readable_bytes(const struct tcp_conn *c)
{
	return c->rcv.len - (urgent_offset(c) != UINT32_MAX);
}

uint32_t tcp_unread_bytes(const struct tcp_conn *c)
{
	return c->rcv.len;
}

uint32_t tcp_ready_bytes(const struct tcp_conn *c)
{
	return c->rcv.len - (urgent_offset(c) == 0);
}

uint32_t tcp_readable_to_mark(const struct tcp_conn *c)
{
	uint32_t mark = urgent_offset(c);
	return mark == UINT32_MAX ? c->rcv.len : mark;
}

bool tcp_recv_ended(const struct tcp_conn *c)
{
	return conn_eof(c) || c->state == TCPS_CLOSED;
}

/*
 * Nothing is there: why? As Linux's tcp_recvmsg: the peer's end of file, then the error, which is told once, then the
 * end of the connection. An end of file says that all was read.
 */
static ssize_t nothing(struct tcp_conn *c)
{
	if (conn_eof(c) && !c->text_lost)
		return 0;
	if (c->error)
		return -tcp_take_error(c);
	return tcp_recv_ended(c) ? 0 : -EAGAIN;
}

ssize_t tcp_splice_stops(struct tcp_conn *c)
{
	return tcp_at_mark(c) && c->rcv.len ? nothing(c) : 1;
}

/* How much may be read from `at` in one piece: a read ends before the urgent byte, also where that is in line. */
static uint32_t until_mark(const struct tcp_conn *c, uint32_t at)
{
	uint32_t mark = urgent_mark(c);
	return mark != UINT32_MAX && mark > at ? mark - at : c->rcv.len - at;
}

/* A read that meets nothing but the urgent byte passes it over, and it is lost, as in Linux. */
static void pass_urgent(struct tcp_conn *c)
{
	if (urgent_offset(c) != 0)
		return;
	ring_consume(&c->rcv, 1);
	urgent_passed(c);
	window_release_rcv(c);
}

ssize_t tcp_recv(struct tcp_conn *c, int64_t now, const struct iovec *iov, int iovcnt, bool peek,
		 bool discard)
{
	if (!tcp_readable_bytes(c)) {
		if (!peek)
			pass_urgent(c);
		return nothing(c);
	}
	uint32_t at = urgent_offset(c) == 0 ? 1 : 0; /* the byte at the mark is read by tcp_recv_urgent only */
	uint32_t left = until_mark(c, at), done = 0;
	for (int i = 0; i < iovcnt && left; i++) {
		uint32_t piece = iov[i].iov_len < left ? iov[i].iov_len : left;
		if (!discard && !ring_read(&c->rcv, at + done, iov[i].iov_base, piece)) {
			if (!done)
				return -EFAULT;
			break;
		}
		done += piece;
		left -= piece;
	}
	if (peek || !done)
		return done;
	ring_consume(&c->rcv, at + done);
	urgent_passed(c);
	window_on_read(c, now, done);
	delack_on_read(c, now);
	window_release_rcv(c);
	return done;
}
