/*
 * RFC 9293 §3.10.7.4: what arrives in SYN-RECEIVED and the synchronized states, step by step in the RFC's order.
 * SYN-SENT is input_syn_sent.c; the fifth step (ACK) is input_ack.c; the seventh and eighth (text, FIN) are
 * input_text.c.
 */
#include "tcp/tcp_int.h"

#include <errno.h>

#define PAWS_VALID_US (INT64_C(24) * 24 * 3600 * USEC_PER_SEC) /* RFC 7323 §5.5: 24 days */

#define QUICKACKS_AFTER_DUP 16 /* as Linux: its ACKs seem to get lost */

/*
 * Answers that the peer's (or an attacker's) bad segments provoke: one in so long, per connection, which stops ACK
 * wars. As Linux; RFC 5961 §7 leaves the limit open.
 */
static bool may_answer(struct tcp_conn *c, int64_t now)
{
	if (c->answered_at && now - c->answered_at < c->stack->config.invalid_ratelimit_us)
		return false;
	c->answered_at = now;
	return true;
}

/*
 * RFC 5961 §7, of all connections: as Linux each second has another limit, half of what is configured to one and a half
 * times, so that nobody can count what others got.
 */
static bool may_challenge(struct tcp_stack *stack, int64_t now)
{
	uint32_t limit = stack->config.challenge_ack_limit, half = (limit + 1) / 2;
	if (!limit || limit >= TCP_CHALLENGES_ANY)
		return true;
	if (now / USEC_PER_SEC != stack->challenge_second) {
		stack->challenge_second = now / USEC_PER_SEC;
		stack->challenges_left = half + tcp_random(stack) % limit;
	}
	if (!stack->challenges_left)
		return false;
	stack->challenges_left--;
	return true;
}

void ack_challenge(struct tcp_conn *c, int64_t now)
{
	if (!may_answer(c, now) || !may_challenge(c->stack, now)) {
		TCP_COUNT(c, ChallengeLimited);
		return;
	}
	TCP_COUNT(c, ChallengeACK);
	c->ack_due = true;
}

/* "If an incoming segment is not acceptable, an acknowledgment should be sent in reply". */
static void ack_unacceptable(struct tcp_conn *c, int64_t now, bool has_text)
{
	if (!has_text && !may_answer(c, now)) {
		TCP_COUNT(c, ReplyLimited);
		return;
	}
	c->ack_due = true;
}

/* RFC 7323 §5.3 R1. RSTs are exempt (§5.2). */
static bool paws_refuses(const struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	return c->ts_on && (seg->has & SEG_HAS_TIMESTAMPS) && !(seg->flags & SEG_RST) &&
	       SEQ_LT(seg->ts_val, c->ts_recent) && now - c->ts_recent_age_us < PAWS_VALID_US;
}

/*
 * RFC 7323 §4.3 (2). The caller has seen that the segment is in the window; in what is let in, that its acknowledgment
 * may be, too.
 */
static void take_timestamp(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	if (!c->ts_on || !(seg->has & SEG_HAS_TIMESTAMPS) || SEQ_GT(seg->seq, c->rcv_wup))
		return;
	if (SEQ_LT(seg->ts_val, c->ts_recent) && now - c->ts_recent_age_us < PAWS_VALID_US)
		return;
	c->ts_recent = seg->ts_val;
	c->ts_recent_age_us = now;
}

/* First step: the four cases of acceptability (§3.4). `space`: SEG.LEN. */
static bool is_acceptable(const struct tcp_conn *c, uint32_t seq, uint32_t space)
{
	uint32_t wnd = rcv_wnd(c), first = seq - c->rcv_nxt;
	if (space == 0)
		return first == 0 || first < wnd;
	return wnd && (first < wnd || first + space - 1 < wnd);
}

/*
 * It begins in the window and ends beyond it. RFC 9293 would have it trimmed. As Linux (6.17): refused, for who sends
 * so does not heed the window; but while nothing waits to be read it is taken whole.
 */
static bool ends_beyond(const struct tcp_conn *c, uint32_t seq, uint32_t space)
{
	return SEQ_GT(seq + space, c->rcv_nxt + rcv_wnd(c)) && SEQ_GT(seq + space, c->rcv_nxt);
}

/* An unacceptable segment gets an ACK and is dropped; some are remembered for what they say. */
static void drop_unacceptable(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg,
			      uint32_t space)
{
	if (seg->flags & SEG_RST) {
		TCP_COUNT(c, RcvdOutOfWindow);
		return;
	}
	uint32_t end = seg->seq + space;
	if (space && SEQ_LEQ(end, c->rcv_nxt)) {
		TCP_COUNT(c, RcvdDup);
		if (end == c->rcv_wup && c->state != TCPS_TIME_WAIT) { /* Linux's window begins there; its TIME-WAIT keeps the first FIN's */
			take_timestamp(c, now, seg);
			ecn_input_any(c, seg);
		}
		sack_note_duplicate(c, seg->seq, end);
		delack_quick(c, QUICKACKS_AFTER_DUP);
		if (c->state == TCPS_TIME_WAIT && (seg->flags & SEG_FIN) && end == c->rcv_nxt)
			c->wait_at = now + c->stack->config.time_wait_us; /* eighth step: restart 2 MSL */
	} else {
		TCP_COUNT(c, RcvdOutOfWindow);
	}
	ack_unacceptable(c, now, space != 0);
}

/* "Segments are trimmed to fit the window": the idealized segment that begins at or after RCV.NXT. */
static void trim(struct tcp_conn *c, struct text *t)
{
	if (SEQ_LT(t->seq, c->rcv_nxt)) {
		uint32_t old = c->rcv_nxt - t->seq;
		if (old > t->len)
			old = t->len;
		if (t->len > old) /* RFC 2883 §4.1.1 */
			sack_note_duplicate(c, t->seq, c->rcv_nxt);
		t->seq += old;
		t->bytes += old;
		t->len -= old;
	}
	uint32_t edge = c->rcv_nxt + rcv_wnd(c);
	if (c->rcv.len == 0 && rcv_wnd(c))
		return;
	if (!rcv_wnd(c) && t->seq == c->rcv_nxt && !t->len) /* a bare FIN is taken even now, as Linux does: some stacks send nothing else */
		return;
	if (SEQ_GT(t->seq + t->len + t->fin, edge)) {
		t->fin = false;
		if (SEQ_GT(t->seq + t->len, edge))
			t->len = edge - t->seq;
	}
}

/* Second step. */
static void input_rst(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	if (seg->seq != c->rcv_nxt) { /* RFC 5961 §3.2 */
		TCP_COUNT(c, RcvdRstInWindow);
		ack_challenge(c, now);
		return;
	}
	int err = ECONNRESET;
	switch (c->state) {
	case TCPS_SYN_RECEIVED:
		TCP_COUNT(c, AttemptFails);
		err = c->fastopen ? ECONNRESET : c->passive ? 0 : ECONNREFUSED; /* passive: back to LISTEN, and nobody is told */
		break;
	case TCPS_CLOSE_WAIT:
		TCP_COUNT(c, EstabResets);
		err = EPIPE; /* as Linux: the peer had closed, what failed is our sending */
		break;
	case TCPS_TIME_WAIT:
		if (c->stack->config.rfc1337) {
			TCP_COUNT(c, RcvdRstTimeWait);
			return;
		}
		err = 0;
		break;
	case TCPS_CLOSING:
	case TCPS_LAST_ACK:
		break;
	default:
		TCP_COUNT(c, EstabResets);
		break;
	}
	c->reset = -1;
	hold_on_closed(c, now, CLOSE_END_PEER_RST);
	conn_close(c, now, err);
}

/* Fourth step. */
static void input_syn(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	if (c->fastopen_early) { /* as Linux: the peer is told, but who forges SYNs ends no connection that the program may have */
		c->rst_due = c->rst_replies = true;
		c->rst_acks = !(seg->flags & SEG_ACK);
		c->rst_seq = c->rst_acks ? 0 : seg->ack;
		c->rst_ack = seg->seq + seg->payload_len + 1 + !!(seg->flags & SEG_FIN);
		return;
	}
	/*
	 * "return this connection to the LISTEN state"; and as Linux tell the peer, who has another connection in mind
	 */
	if (c->state == TCPS_SYN_RECEIVED && c->passive) {
		TCP_COUNT(c, AttemptFails);
		c->rst_acks = !(seg->flags & SEG_ACK);
		c->rst_ack = seg->seq + seg->payload_len + 1 + !!(seg->flags & SEG_FIN);
		conn_reset_reply(c, now, c->rst_acks ? 0 : seg->ack, 0);
		return;
	}
	TCP_COUNT(c, RcvdSynChallenged); /* RFC 5961 §4.2: irrespective of the sequence number */
	ack_challenge(c, now);
}

/* The SYN that we know, again. False: the segment is done with. */
static bool old_syn(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg, struct text *t)
{
	if (!(seg->flags & SEG_ACK)) {
		TCP_COUNT(c, RcvdSynAgain); /* our SYN-ACK was lost */
		if (!c->passive) { /* as Linux: what crossed ours is below the window, as anything old */
			ack_challenge(c, now);
			return false;
		}
		c->segs_in -= !c->fastopen; /* as Linux: the request's, not the connection's */
		if (!may_answer(c, now)) {
			TCP_COUNT(c, ReplyLimited);
			return false;
		}
		c->syn_due = true;
		if (!c->fastopen) /* as Linux: the next one is as late as if this were the timer's */
			timer_start_rtx(c, now);
		return false;
	}
	/*
	 * Simultaneous open: the SYN-ACK repeats a SYN that we have. Trimmed, it begins at RCV.NXT. The peer hears that
	 * it came twice, as of any duplicate.
	 */
	sack_note_duplicate(c, seg->seq, seg->seq + 1);
	delack_quick(c, QUICKACKS_AFTER_DUP);
	c->ack_due = true;
	t->seq++;
	return true;
}

static bool may_acknowledge(const struct tcp_conn *c, const struct tcp_segment *seg)
{
	return (seg->flags & SEG_ACK) && SEQ_GEQ(seg->ack, c->snd_una) && SEQ_LEQ(seg->ack, c->snd_nxt);
}

/*
 * MSG_MORE holds a segment back in its call; what comes looks again at what may go, as Linux's tcp_data_snd_check. But
 * not text that comes as it was foretold, and acknowledges nothing new.
 */
static bool is_text_alone(const struct tcp_conn *c, const struct tcp_segment *seg, const struct text *t)
{
	return t->len && t->seq == c->rcv_nxt && seg->ack == c->snd_una && !(seg->flags & (SEG_FIN | SEG_URG | SEG_SYN)) && c->state == TCPS_ESTABLISHED &&
	       (uint32_t)seg->window << c->snd_wscale == c->snd_wnd && !c->ooo.n && rcv_wnd(c) >= t->len;
}

static void input_synchronized(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	c->closed_late = c->state == TCPS_FIN_WAIT_2;
	struct text t = {seg->seq, seg->payload_len, seg->ack, seg->payload[0].iov_base, seg->flags & SEG_FIN,
			 seg->flags & SEG_PSH, seg->flags & SEG_CWR, seg->ecn, seg->gso_size, false};
	bool syn = seg->flags & SEG_SYN;
	if (c->state == TCPS_SYN_RECEIVED && syn && !(seg->flags & SEG_RST) && seg->seq == c->irs) {
		if (!old_syn(c, now, seg, &t))
			return;
		syn = false;
	}
	/* RFC 5961 §4.2 comes before the sequence number is looked at. */
	if (syn && !(seg->flags & SEG_RST) && c->state != TCPS_SYN_RECEIVED) {
		input_syn(c, now, seg);
		return;
	}
	/* First step. */
	uint32_t space = t.len + syn + t.fin;
	if (paws_refuses(c, now, seg)) {
		TCP_COUNT(c, PAWSEstab);
		ack_unacceptable(c, now, space != 0);
		return;
	}
	if (!is_acceptable(c, t.seq, space) || (c->rcv.len && rcv_wnd(c) && ends_beyond(c, t.seq, space))) {
		/*
		 * "If the RCV.WND is zero, no segments will be acceptable, but special allowance should be made to
		 * accept valid ACKs, URGs, and RSTs": a probe at our left edge, without its text.
		 */
		if (rcv_wnd(c) || t.seq != c->rcv_nxt || syn) {
			drop_unacceptable(c, now, seg, space);
			return;
		}
		TCP_COUNT(c, RcvdOutOfWindow);
		ack_unacceptable(c, now, true);
	}
	if (seg->flags & SEG_RST) {
		input_rst(c, now, seg);
		return;
	}
	if (syn) {
		input_syn(c, now, seg);
		return;
	}
	if (may_acknowledge(c, seg)) /* as Linux: or whoever guesses a sequence number could make PAWS refuse the peer from now on */
		take_timestamp(c, now, seg);
	c->last_rcvd_us = now;
	c->keep_probes = 0;
	if (c->state != TCPS_SYN_RECEIVED)
		ecn_input_any(c, seg);
	if (!(seg->flags & SEG_ACK)) { /* fifth step: "if the ACK bit is off, drop the segment and return" */
		TCP_COUNT(c, RcvdNoAck);
		return;
	}
	bool looks_again = !is_text_alone(c, seg, &t);
	trim(c, &t);
	if (!input_ack(c, now, seg) || c->state == TCPS_CLOSED)
		return;
	if (looks_again)
		c->msg_more = false;
	if (seg->flags & SEG_URG) /* sixth step */
		urgent_input(c, seg);
	if (seg->has & SEG_HAS_CLOSE_REQUEST)
		close_request_input(c, seg);
	if (seg->payload_len)
		rtt_receiver_ts(c, now, seg);
	input_text(c, now, &t);
	close_request_reached(c);
}

void tcp_input(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	TCP_COUNT(c, InSegs);
	uint32_t segs = tcp_segs_of(seg->payload_len, seg->gso_size);
	c->segs_in += segs;
	if (seg->payload_len) /* as Linux: whatever becomes of it */
		c->data_segs_in += segs;
	switch (c->state) {
	case TCPS_CLOSED:
	case TCPS_LISTEN:
		TCP_COUNT(c, RcvdClosed);
		return;
	case TCPS_SYN_SENT:
		input_syn_sent(c, now, seg);
		return;
	default:
		input_synchronized(c, now, seg);
		return;
	}
}
