/* RFC 9293 §3.10.7.4, seventh and eighth step: the segment text and the FIN; and when to acknowledge them. */
#include "tcp/tcp_int.h"

#include <errno.h>

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
		/*
		 * Our FIN is not acknowledged, or we would be in FIN-WAIT-2. If it was not even sent, the peer's is the
		 * first: then the close was queued behind data, and is processed in CLOSE-WAIT.
		 */
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

/*
 * A buffer that grows copies what it has, and not the places of bytes that are still somewhere else: of a stream that
 * is read unseen that would be all of it, again and again.
 */
static int grow_rcv(struct tcp_conn *c, uint32_t len)
{
	uint32_t next = tcp_recv_next(c), need = c->rcv.len + len;
	if (need <= c->rcv.cap)
		return 0;
	return ring_reserve_keep(&c->rcv, c->stack->memory, need, SEQ_GT(c->rcv_filled, next) ? min_u32(c->rcv_filled - next, c->rcv.len) : 0);
}

/* Room for `len` bytes that are in order. What waits out of order makes room for them. */
static bool reserve(struct tcp_conn *c, uint32_t len)
{
	if (grow_rcv(c, len) == 0)
		return true;
	if (!c->ahead.n)
		return false;
	TCP_COUNT(c, OfoPruned);
	conn_drop_ahead(c);
	return grow_rcv(c, len) == 0;
}

/*
 * Unseen text (unseen.c) has its place, and no bytes. Behind a stream of it, what was filled last is no longer in the
 * buffer; 2 GiB on its number would look like one ahead.
 */
static void append(struct tcp_conn *c, const uint8_t *bytes, uint32_t n)
{
	uint32_t next = tcp_recv_next(c);
	if (bytes)
		ring_write(&c->rcv, c->rcv.len, bytes, n);
	else if (c->rcv_filled - next > c->rcv.len)
		c->rcv_filled = next;
	ring_commit(&c->rcv, n);
	c->rcv_nxt += n;
	c->bytes_in += n;
	if (bytes)
		c->rcv_filled = c->rcv_nxt;
}

/* RFC 2883 §4: of the text that came in order, the first piece that had come before. */
static void note_overtaken(struct tcp_conn *c)
{
	if (c->ooo.n && SEQ_LT(c->ooo.r[0].left, c->rcv_nxt))
		sack_note_duplicate(c, c->ooo.r[0].left, seq_min(c->ooo.r[0].right, c->rcv_nxt));
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
		if (!n)
			break;
		if (grow_rcv(c, n) < 0) { /* the peer sends it again: an ACK of what waits behind no gap would keep it from that */
			TCP_COUNT(c, OfoPruned);
			conn_drop_ahead(c);
			break;
		}
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

bool input_take(struct tcp_conn *c, const uint8_t *bytes, uint32_t len)
{
	if (!reserve(c, len)) {
		TCP_COUNT(c, RcvdNoMemory);
		return false;
	}
	append(c, bytes, len);
	figures_text(c, len);
	return true;
}

static void input_in_order(struct tcp_conn *c, int64_t now, const struct text *t)
{
	bool at_once = t->syn, fin = t->fin;
	if (t->len) {
		if (!input_take(c, t->bytes, t->len)) {
			c->ack_due = true;
			return;
		}
		note_overtaken(c);
		if (fin) /* nothing can follow it */
			conn_drop_ahead(c);
		at_once |= advance(c);
		rtt_receiver_text(c, now);
		if (is_worth_a_wake(c))
			c->events |= TCP_EV_READABLE;
		c->last_bytes_ours = false;
		urgent_arrived(c);
		if (!t->syn)
			delack_on_text(c, now);
	}
	if (c->fin_ahead && c->rcv_nxt == c->fin_ahead_seq)
		fin = true;
	if (fin) { /* as Linux: after a conversation the program will soon close, and its FIN carries the ACK */
		input_fin(c, now);
		c->conversing = c->ato_us != 0; /* else Linux's timer is due at once, which ends the conversation */
		at_once |= c->state != TCPS_CLOSE_WAIT || !c->conversing;
		if (!c->ato_us)
			delack_begin(c);
	}
	if (at_once)
		c->ack_due = true;
	else
		delack_schedule(c, now, t);
}

/*
 * Memory for what is out of order: with what is in order, SO_RCVBUF and a quarter. As Linux's truesize it counts what
 * the chunks take. Under pressure a few segments, so that loss can still be repaired without a time-out.
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

static void input_out_of_order(struct tcp_conn *c, int64_t now, const struct text *t)
{
	struct tcp_memory *m = c->stack->memory;
	uint32_t end = t->seq + t->len + t->fin;
	if (c->sack_on)
		delack_behind_gap(c, now, t);
	else
		c->ack_due = true;
	if (!c->sack_on && c->dup_acks_due < UINT8_MAX)
		c->dup_acks_due++;
	c->kept.rcv_ooopack += tcp_segs_of(t->len, t->gso_size);
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
	window_on_ahead(c);
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
	if (c->fin_then_rst)
		return; /* both are on their way: the segment before this one came in the same turn */
	if (!c->fin_held) {
		hold_on_closed(c, now, CLOSE_END_PEER_DATA);
		conn_reset_reply(c, now, ack, ECONNRESET); /* as Linux; whoever has closed is not told */
		return;
	}
	/* In a hold the peer has a right to its EOF first: FIN, then RST. */
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
		if (nobody_reads(c)) {
			input_after_close(c, now, t->ack);
			return;
		}
		if (!t->syn) /* as Linux: nothing is learned of it */
			delack_observe(c, t);
		ecn_input_text(c, t);
	}
	if (t->seq == c->rcv_nxt)
		input_in_order(c, now, t);
	else
		input_out_of_order(c, now, t);
}
