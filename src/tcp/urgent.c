/*
 * Urgent data (RFC 9293 §3.8.5, RFC 6093), with Linux's meaning: the pointer is behind the urgent byte (what comes,
 * with tcp_stdurg, points at it), there is one such byte at a time, and it is out of band unless SO_OOBINLINE.
 */
#include "tcp/tcp_int.h"

#include <errno.h>

uint32_t urgent_mark(const struct tcp_conn *c)
{
	if (c->urgent < TCP_URGENT_HERE)
		return UINT32_MAX;
	uint32_t at = c->urgent_seq - tcp_recv_next(c);
	return at < c->rcv.len ? at : UINT32_MAX;
}

uint32_t urgent_offset(const struct tcp_conn *c)
{
	return c->options.oobinline ? UINT32_MAX : urgent_mark(c);
}

void urgent_passed(struct tcp_conn *c)
{
	if (c->urgent != TCP_URGENT_NONE && SEQ_LT(c->urgent_seq, tcp_recv_next(c)))
		c->urgent = TCP_URGENT_NONE;
}

/* The byte may have come with this or an earlier segment. */
void urgent_arrived(struct tcp_conn *c)
{
	if (c->urgent != TCP_URGENT_ANNOUNCED || !SEQ_LT(c->urgent_seq, c->rcv_nxt))
		return;
	uint32_t at = c->urgent_seq - tcp_recv_next(c);
	if (at >= c->rcv.len)
		return;
	ring_read(&c->rcv, at, &c->urgent_byte, 1);
	c->urgent = TCP_URGENT_HERE;
	c->events |= TCP_EV_URGENT;
}

/* Sixth step: "RCV.UP <- max(RCV.UP, SEG.UP), and signal the user". */
void urgent_input(struct tcp_conn *c, const struct tcp_segment *seg)
{
	if (c->state < TCPS_ESTABLISHED || c->peer_fin)
		return;
	uint32_t at = seg->seq + seg->urgent - (seg->urgent && !c->stack->config.stdurg); /* Linux: nought is the first byte, too */
	if (SEQ_LT(at, tcp_recv_next(c)))
		return; /* read already */
	if (c->urgent != TCP_URGENT_NONE && SEQ_LEQ(at, c->urgent_seq))
		return;
	if (urgent_offset(c) == 0) { /* the reader stands before the old byte: a new one takes its place, and it is lost, as in Linux */
		ring_consume(&c->rcv, 1);
		window_release_rcv(c);
	}
	c->urgent_seq = at;
	c->urgent = TCP_URGENT_ANNOUNCED;
	c->events |= TCP_EV_URGENT;
	urgent_arrived(c);
}

int tcp_recv_urgent(struct tcp_conn *c, uint8_t *byte, bool peek)
{
	if (c->options.oobinline || c->urgent == TCP_URGENT_NONE || c->urgent == TCP_URGENT_READ)
		return -EINVAL;
	if (c->state == TCPS_CLOSED && !conn_eof(c))
		return -ENOTCONN;
	if (c->urgent == TCP_URGENT_ANNOUNCED)
		return tcp_recv_ended(c) ? 0 : -EAGAIN;
	*byte = c->urgent_byte;
	if (!peek)
		c->urgent = TCP_URGENT_READ;
	return 1;
}

bool tcp_urgent_ready(const struct tcp_conn *c)
{
	return c->urgent == TCP_URGENT_HERE;
}

bool tcp_is_mark(const struct tcp_conn *c, uint32_t offset)
{
	return c->urgent != TCP_URGENT_NONE && c->urgent_seq == tcp_recv_next(c) + offset;
}

bool tcp_at_mark(const struct tcp_conn *c)
{
	return tcp_is_mark(c, 0);
}
