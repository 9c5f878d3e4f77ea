/*
 * Unseen text: a segment whose header is here and whose bytes are still somewhere else, in the kernel. It is received
 * like any other, with the bytes missing: they have their place in the receive buffer, are acknowledged, and may be
 * read as soon as whoever has them has put them there, or may be read from elsewhere and dropped here.
 *
 * The core never looks at bytes but where it copies them. So only a segment is taken unseen of which it is certain that
 * its text is taken whole, in order and at once, or not at all: either all of it was here before, or nothing is cut off
 * it, nothing waits out of order, and no urgent byte is to be picked out of it.
 */
#include "tcp/tcp_int.h"

#include <errno.h>

bool tcp_may_take_unseen(const struct tcp_conn *c, const struct tcp_segment *seg)
{
	if (c->state != TCPS_ESTABLISHED || c->urgent != TCP_URGENT_NONE || (seg->flags & (SEG_ACK | SEG_SYN | SEG_FIN | SEG_RST | SEG_URG)) != SEG_ACK)
		return false;
	if (SEQ_LT(seg->seq, c->rcv_nxt)) /* all of it was here before */
		return SEQ_LEQ(seg->seq + seg->payload_len, c->rcv_nxt);
	return seg->seq == c->rcv_nxt && seg->payload_len <= rcv_wnd(c) && !c->orphan && !c->rcv_shut && !c->cr_eof && !c->ooo.n && !c->ahead.n && !c->fin_ahead;
}

bool tcp_input_unseen(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	uint32_t next = c->rcv_nxt;
	tcp_input(c, now, seg);
	return c->rcv_nxt - next == seg->payload_len;
}

int tcp_unseen_place(struct tcp_conn *c, uint32_t seq, uint32_t len, struct iovec place[2])
{
	uint32_t at = seq - tcp_recv_next(c);
	if (at >= c->rcv.len || len > c->rcv.len - at)
		return 0;
	if (SEQ_GT(seq + len, c->rcv_filled))
		c->rcv_filled = seq + len;
	return ring_span(&c->rcv, at, len, place);
}

void tcp_unseen_lost(struct tcp_conn *c, int64_t now)
{
	c->text_lost = true;
	ring_free(&c->rcv, c->stack->memory);
	if (c->state != TCPS_CLOSED)
		conn_reset(c, now, ECONNRESET);
	else if (!c->error)
		c->error = ECONNRESET;
}
