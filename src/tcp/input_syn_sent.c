/* RFC 9293 §3.10.7.3: what arrives in SYN-SENT. */
#include "tcp/tcp_int.h"

#include <errno.h>

/*
 * After our RST the peer has no old connection any more: the next SYN need not wait for the initial RTO (as Linux,
 * which takes two jiffies).
 */
#define SYN_AFTER_RST_US (2 * USEC_PER_MSEC)

/* First step. */
static bool ack_is_acceptable(const struct tcp_conn *c, const struct tcp_segment *seg)
{
	return SEQ_GT(seg->ack, c->iss) && SEQ_LEQ(seg->ack, c->snd_nxt);
}

/* <SEQ=SEG.ACK><CTL=RST> */
static void refuse(struct tcp_conn *c, uint32_t ack)
{
	c->rst_due = true;
	c->rst_replies = true;
	c->rst_seq = ack;
}

/*
 * An ACK of something older: the peer has a connection, or a TIME-WAIT that our SYN could not take over, on these
 * ports. An RST ends it. Once, the SYN follows soon; whoever answers every SYN so does not get them at that pace.
 */
static void on_old_ack(struct tcp_conn *c, int64_t now, uint32_t ack)
{
	TCP_COUNT(c, RcvdSynSentBadAck);
	refuse(c, ack);
	if (c->rtx_count == 0 && !c->syn_waits)
		c->rtx_at = min_time(c->rtx_at, now + SYN_AFTER_RST_US);
}

/*
 * As Linux: the SYN-ACK's echo is none of a SYN of ours, so an old connection's segment it is. It is answered by an
 * RST; the SYN goes on.
 */
static bool echo_is_wrong(const struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	if (!c->ts_on || !(seg->has & SEG_HAS_TIMESTAMPS) || !seg->ts_ecr)
		return false;
	return SEQ_LT(seg->ts_ecr, tcp_ts_now(c->syn_at, c->ts_offset)) || SEQ_GT(seg->ts_ecr, tcp_ts_now(now, c->ts_offset));
}

/*
 * Fourth step, SYN with a good ACK: the handshake is complete. False: its text is left to the peer's retransmission, as
 * Linux leaves it without TCP Fast Open, and where ours must go again.
 */
static bool on_syn_ack(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	c->snd_una = c->iss + 1;
	rtt_handshake(c, now, seg);
	conn_establish(c, now);
	delack_handshake(c, now);
	return fastopen_asked(c) && !fastopen_on_syn_ack(c, now, seg);
}

void input_syn_sent(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	bool ack = seg->flags & SEG_ACK;
	if (ack && !ack_is_acceptable(c, seg)) {
		if (seg->flags & SEG_RST) {
			TCP_COUNT(c, RcvdRstBadAck);
			return;
		}
		on_old_ack(c, now, seg->ack);
		return;
	}
	if (ack && echo_is_wrong(c, now, seg)) {
		TCP_COUNT(c, PAWSActive);
		if (!(seg->flags & SEG_RST))
			refuse(c, seg->ack);
		return;
	}
	/* Second step. RFC 5961: the acceptable ACK is what makes the RST believable. */
	if (seg->flags & SEG_RST) {
		if (!ack) {
			TCP_COUNT(c, RcvdRstBadAck);
			return;
		}
		TCP_COUNT(c, AttemptFails);
		c->reset = -1;
		hold_on_closed(c, now, CLOSE_END_PEER_RST);
		conn_close(c, now, ECONNREFUSED);
		return;
	}
	if (!(seg->flags & SEG_SYN)) { /* fifth step */
		TCP_COUNT(c, RcvdNoSyn);
		return;
	}
	if (!ack && c->reuses && c->ts_on && (seg->has & SEG_HAS_TIMESTAMPS) && SEQ_LT(seg->ts_val, c->ts_recent)) {
		TCP_COUNT(c, PAWSActive); /* of the connection before; a good ACK is proof enough, as in Linux */
		return;
	}
	c->last_rcvd_us = now;
	negotiate_theirs(c, seg, now);
	if (!ack) { /* simultaneous open: <SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK> */
		c->state = TCPS_SYN_RECEIVED;
		c->syn_due = true;
		c->syn_waits = false;
		return;
	}
	if (on_syn_ack(c, now, seg) && (seg->payload_len || (seg->flags & SEG_FIN))) {
		struct text t = {seg->seq + 1, seg->payload_len, seg->ack, seg->payload[0].iov_base,
				 seg->flags & SEG_FIN, seg->flags & SEG_PSH, false, seg->ecn, seg->gso_size, true};
		if (t.len > rcv_wnd(c)) {
			t.len = rcv_wnd(c);
			t.fin = false;
		}
		input_text(c, now, &t);
		if (c->state == TCPS_CLOSE_WAIT) { /* as Linux: after a FIN there is no hurry */
			c->ack_due = false;
			c->conversing = true;
			delack_handshake(c, now);
		}
	}
}
