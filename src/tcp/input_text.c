/* RFC 9293 §3.10.7.4, seventh and eighth step: the segment text and the FIN; and when to acknowledge them. */
#include "tcp/tcp_int.h"

#include <errno.h>

#define QUICKACK_UNREAD_US  (2 * USEC_PER_MSEC) /* a quick ACK waits so long for the message to be read: a busy server has others before it */
#define QUICKACK_ANSWER_US  (USEC_PER_MSEC / 2)     /* … and then for an answer to ride on */
#define QUICKACK_AFTER_IDLE 16 /* segments acknowledged at once when the peer starts anew; as Linux */

static bool two_segments_unacked(const struct tcp_conn *c)
{
	return c->rcv_nxt - c->rcv_wup > c->rcv_mss;
}

/*
 * RFC 5681 §4.2, RFC 9293 SHLD-19, MUST-58/59: every second full-sized segment at once, else within the delay. As Linux (__tcp_ack_snd_check): where an ACK could only
 * tell of a smaller window, because the application has yet to read, its read brings the ACK. So a super-segment costs one ACK, not two.
 */
static void schedule_ack(struct tcp_conn *c, int64_t now, const struct text *t)
{
	if ((two_segments_unacked(c) && (c->rcv.len < c->options.rcvlowat_bytes || window_keeps(c))) || c->options.quickack || c->route_quickack) {
		c->ack_due = true;
		return;
	}
	int64_t delay = c->stack->config.delack_us;
	if (c->quickacks && window_is_half_used(c)) /* the application has enough to do: the peer need not hurry */
		c->quickacks = 0;
	if (c->quickacks) {
		c->quickacks--;
		if (!t->push || t->len >= c->rcv_mss) {
			c->ack_due = true;
			return;
		}
		/* A short pushed segment is a message: its answer, when it comes soon, is the ACK. */
		delay = min_time(delay, QUICKACK_UNREAD_US);
		c->quickack_owed = true;
	}
	c->delack_at = min_time(c->delack_at, now + delay);
}

void input_text_was_read(struct tcp_conn *c, int64_t now)
{
	if (two_segments_unacked(c))
		c->ack_due = true;
	if (c->quickack_owed)
		c->delack_at = min_time(c->delack_at, now + QUICKACK_ANSWER_US);
	c->quickack_owed = false;
}

/* The size of the peer's full segments; a super-segment says no more than that they are not larger than we allow. */
static void observe_mss(struct tcp_conn *c, uint32_t len)
{
	uint32_t most = c->mss_advertised - (c->ts_on ? TCP_OPT_TS_BYTES : 0);
	uint32_t seen = min_u32(len, most);
	if (len < c->rcv_mss || len == c->rcv_seen)
		return;
	window_saw(c, len);
	c->rcv_seen = len;
	c->rcv_mss = max_u32(c->rcv_mss, seen);
}

/* Eighth step. rcv_nxt is at the FIN. */
static void input_fin(struct tcp_conn *c, int64_t now)
{
	c->rcv_nxt++;
	c->peer_fin = true;
	conn_drop_ahead(c); /* nothing can follow a FIN */
	c->events |= TCP_EV_PEER_FIN;
	if (!c->first_fin)
		c->first_fin = -1;
	switch (c->state) {
	case TCPS_ESTABLISHED:
		c->state = TCPS_CLOSE_WAIT;
		break;
	case TCPS_FIN_WAIT_1:
		/* Our FIN is not acknowledged, or we would be in FIN-WAIT-2. If it was not even sent, the peer's is the first:
		   then the close was queued behind data, and is processed in CLOSE-WAIT. */
		c->state = c->fin_sent ? TCPS_CLOSING : TCPS_LAST_ACK;
		break;
	case TCPS_FIN_WAIT_2:
		conn_time_wait(c, now);
		break;
	default:
		break;
	}
	hold_on_peer_fin(c, now);
}

/* Room for `len` bytes that are in order. What waits out of order makes room for them. */
static bool reserve(struct tcp_conn *c, uint32_t len)
{
	struct tcp_memory *m = c->stack->memory;
	if (ring_reserve(&c->rcv, m, c->rcv.len + len) == 0)
		return true;
	if (!c->ahead.n)
		return false;
	TCP_COUNT(c, OfoPruned);
	conn_drop_ahead(c);
	return ring_reserve(&c->rcv, m, c->rcv.len + len) == 0;
}

static void append(struct tcp_conn *c, const uint8_t *bytes, uint32_t n)
{
	ring_write(&c->rcv, c->rcv.len, bytes, n);
	ring_commit(&c->rcv, n);
	c->rcv_nxt += n;
	c->bytes_in += n;
}

/* What waited behind the text that came goes into the stream. True: a gap was filled. */
static bool advance(struct tcp_conn *c)
{
	struct tcp_memory *m = c->stack->memory;
	bool had_gap = c->ooo.n;
	const uint8_t *bytes;
	uint32_t n;
	if (c->fin_ahead && SEQ_LT(c->fin_ahead_seq, c->rcv_nxt))
		c->fin_ahead = false; /* the peer lied: text in order has passed its FIN's number */
	while (c->ahead.n && (n = reassembly_at(&c->ahead, m, c->rcv_nxt, &bytes))) {
		if (c->fin_ahead && SEQ_LEQ(c->fin_ahead_seq, c->rcv_nxt + n))
			n = c->fin_ahead_seq - c->rcv_nxt;
		if (!n || ring_reserve(&c->rcv, m, c->rcv.len + n) < 0)
			break; /* without memory it waits on: the peer sends it again */
		append(c, bytes, n);
	}
	if (had_gap)
		ranges_drop_before(&c->ooo, m, c->rcv_nxt);
	return had_gap;
}

/* SO_RCVLOWAT bytes, or as much as the window lets come: as Linux's tcp_data_ready. */
static bool is_worth_a_wake(const struct tcp_conn *c)
{
	return c->rcv.len >= c->options.rcvlowat_bytes || rcv_wnd(c) <= c->mss_advertised;
}

/* As Linux: after a conversation the program will soon close, and its FIN carries the ACK. */
static bool fin_may_wait(const struct tcp_conn *c)
{
	return c->state == TCPS_ESTABLISHED && c->last_data_rcvd_us && c->rcv_nxt + 1 - c->rcv_wup <= c->rcv_mss && !c->route_quickack;
}

static void input_in_order(struct tcp_conn *c, int64_t now, const struct text *t)
{
	bool at_once = false, fin = t->fin;
	if (t->len) {
		if (!reserve(c, t->len)) {
			TCP_COUNT(c, RcvdNoMemory);
			c->ack_due = true;
			return;
		}
		append(c, t->bytes, t->len);
		figures_text(c, t->len);
		at_once |= advance(c);
		if (is_worth_a_wake(c))
			c->events |= TCP_EV_READABLE;
		c->last_bytes_ours = false;
		urgent_arrived(c);
		if (now - c->last_data_rcvd_us > c->rto_us && c->last_data_rcvd_us)
			c->quickacks = QUICKACK_AFTER_IDLE;
		c->last_data_rcvd_us = now;
	}
	if (c->fin_ahead && c->rcv_nxt == c->fin_ahead_seq)
		fin = true;
	if (at_once || (fin && !fin_may_wait(c)))
		c->ack_due = true;
	else if (fin)
		c->delack_at = min_time(c->delack_at, now + c->stack->config.delack_us);
	else
		schedule_ack(c, now, t);
	if (fin)
		input_fin(c, now);
}

/*
 * Memory for what is out of order: with what is in order, SO_RCVBUF and a quarter. As Linux's truesize it counts what the chunks take. Under pressure a few
 * segments, so that loss can still be repaired without a time-out.
 */
static uint32_t ahead_most(const struct tcp_conn *c)
{
	uint32_t limit = c->rcvbuf_limit + c->rcvbuf_limit / 4, used = c->rcv.len + ranges_bytes(&c->ooo);
	if (c->stack->memory->pressure)
		limit = min_u32(limit, used + PRESSURE_SEGS * 2048);
	return limit > used ? limit - used : 0;
}

/* What of it was here: the first piece, and those that go on from it (RFC 2883 §4: one block). */
static void note_covered(struct tcp_conn *c, uint32_t seq, uint32_t end)
{
	for (uint32_t i = 0; i < c->ooo.n; i++) {
		const struct range *r = &c->ooo.r[i];
		if (SEQ_LT(seq, r->right) && SEQ_LT(r->left, end)) {
			sack_note_duplicate(c, seq_max(seq, r->left), SEQ_LT(end, r->right) ? end : r->right);
			return;
		}
	}
}

static void input_out_of_order(struct tcp_conn *c, const struct text *t)
{
	struct tcp_memory *m = c->stack->memory;
	uint32_t end = t->seq + t->len + t->fin;
	/* RFC 5681 §4.2: "SHOULD send an immediate duplicate ACK when an out-of-order segment arrives". */
	c->ack_due = true;
	if (!c->sack_on && c->dup_acks_due < UINT8_MAX)
		c->dup_acks_due++;
	const struct range *there = ranges_find(&c->ooo, t->seq);
	if (there && SEQ_LEQ(end, there->right)) {
		sack_note_recent(c, t->seq);
		TCP_COUNT(c, RcvdDup);
		sack_note_duplicate(c, t->seq, end);
		return;
	}
	note_covered(c, t->seq, end);
	if (!ranges_fits(&c->ooo, m, t->seq, end)) { /* nor is its text kept: nobody would be told that it is there */
		TCP_COUNT(c, RcvdPruned);
		return;
	}
	if (t->len && reassembly_add(&c->ahead, m, t->seq, t->bytes, t->len, ahead_most(c)) < 0) {
		TCP_COUNT(c, RcvdNoMemory);
		return;
	}
	ranges_add(&c->ooo, m, t->seq, end);
	sack_note_recent(c, t->seq);
	TCP_COUNT(c, OfoQueue);
	figures_text(c, t->len);
	c->kept.rcv_ooopack += t->len > c->rcv_mss ? t->len / c->rcv_mss : 1;
	if (t->fin) {
		c->fin_ahead = true;
		c->fin_ahead_seq = end - 1;
	}
}

/* Nobody reads what arrives: after close, or after a shutdown of both directions. */
static bool nobody_reads(const struct tcp_conn *c)
{
	return c->orphan || (c->rcv_shut && c->fin_wanted);
}

/* New data for an application that has closed: the peer must learn that nobody reads it. */
static void input_after_close(struct tcp_conn *c, int64_t now, uint32_t ack)
{
	TCP_COUNT(c, AbortOnData);
	if (!c->fin_held) {
		hold_on_closed(c, now, CLOSE_END_PEER_DATA);
		conn_reset_reply(c, now, ack, ECONNRESET); /* as Linux; whoever has closed is not told */
		return;
	}
	/* In a hold the peer has a right to its EOF first: FIN, then RST (DESIGN §6.1). */
	bool can_fin = snd_unsent(c) == 0;
	hold_release(c, now, CLOSE_END_PEER_DATA);
	if (can_fin)
		c->fin_then_rst = true;
	else
		conn_reset(c, now, ECONNRESET);
}

void input_text(struct tcp_conn *c, int64_t now, const struct text *t)
{
	if (!t->len && !t->fin)
		return;
	switch (c->state) {
	case TCPS_ESTABLISHED:
	case TCPS_FIN_WAIT_1:
	case TCPS_FIN_WAIT_2:
		break;
	default: /* "This should not occur since a FIN has been received from the remote side." */
		TCP_COUNT(c, RcvdBeyondFin);
		c->ack_due = true;
		return;
	}
	if (t->len && c->cr_eof) { /* close_request.c §6 */
		TCP_COUNT(c, RcvdBeyondFin);
		c->ack_due = true;
		return;
	}
	if (t->len) {
		c->data_segs_in++;
		if (nobody_reads(c)) {
			input_after_close(c, now, t->ack);
			return;
		}
		observe_mss(c, t->len);
		ecn_input_text(c, t);
	}
	if (t->seq == c->rcv_nxt)
		input_in_order(c, now, t);
	else
		input_out_of_order(c, t);
}
