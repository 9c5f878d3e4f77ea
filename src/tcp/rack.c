/*
 * RACK: loss found by time (RFC 8985 §6). With SACK only; its names are the RFC's.
 *
 * A segment is lost when one that was sent after it has been delivered, and a reordering window has passed since.
 * Retransmissions have times of their own (sent.h), so that a lost retransmission is found, too. Before any reordering
 * was seen, three SACKed segments above (RFC 6675's IsLost) make the window
 * zero: so a path that keeps the order behaves as by RFC 6675. The window grows with each round that D-SACK shows to
 * have been repaired for nothing.
 *
 * Events: bytes are delivered (rack_delivered, before the scoreboard forgets them), then rack_detect; the timer reo_at
 * calls it again when the window of what may be lost has passed.
 */
#include "tcp/tcp_int.h"

#define REO_WND_PERSIST  16  /* §6.2 step 4: recoveries without a D-SACK, after which the window is small again */
#define REO_WND_MULT_MAX 255
#define TIMER_LATE_US    (2 * USEC_PER_MSEC) /* the timer's, as Linux's TCP_TIMEOUT_MIN_US: an ACK that is on its way may come first */

/*
 * §6.2: RACK_sent_after, for the newest delivered segment. What left in one turn left in the order of its numbers, what
 * went again before what was new.
 */
static bool sent_after(const struct tcp_rack *k, const struct sent *r, uint32_t end)
{
	return k->xmit_us > r->at_us || (k->xmit_us == r->at_us && (k->again == r->again ? SEQ_GT(k->end_seq, end) : r->again));
}

/* Steps 1 and 3 for the part [left, right) of record r, which was delivered just now. */
static void delivered(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg, const struct sent *r, uint32_t left, uint32_t right)
{
	struct tcp_rack *k = &c->rack;
	if (SEQ_GT(right, k->fack)) {
		k->fack = right;
	} else if (SEQ_LT(right, k->fack) && !r->again) {
		k->reordering_seen = true;
		figures_reordered(c, left, seq_max(k->fack, seg->ack));
	}
	int64_t rtt = now - r->at_us;
	if (r->again) { /* the original's acknowledgment, as it seems */
		bool has_ts = c->ts_on && (seg->has & SEG_HAS_TIMESTAMPS) && seg->ts_ecr;
		if (has_ts && SEQ_LT(seg->ts_ecr, tcp_ts_now(r->at_us, c->ts_offset)))
			return;
		if (rtt < c->min_rtt_us)
			return;
	}
	k->advanced = true;
	/*
	 * As Linux, of the last that was delivered, not of the newest as in §6.2: after reordering, what is told late
	 * makes the patience longer.
	 */
	bool acks = SEQ_LEQ(right, seg->ack);
	if (acks || !k->rtt_acked)
		k->rtt_us = rtt > 0 ? rtt : 0;
	k->rtt_acked |= acks;
	if (!k->xmit_us || !sent_after(k, r, right)) {
		k->xmit_us = r->at_us;
		k->end_seq = right;
		k->again = r->again;
	}
}

void rack_delivered(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg, uint32_t left, uint32_t right)
{
	struct piece_walk w = piece_walk(left, right);
	struct piece p;
	while (piece_next(c, &w, &p)) {
		const struct sent *r = sent_peek(&c->sent, p.record);
		rate_delivered(c, now, r, p.right);
		bool whole = p.right == r->end || p.right - p.left >= c->mss; /* as Linux: some bytes of a segment tell nothing of it */
		c->ack_orig |= whole && !r->again && SEQ_LT(p.left, c->recovery_point);
		if (c->sack_on && whole)
			delivered(c, now, seg, r, p.left, p.right);
	}
}

void rack_on_dsack(struct tcp_conn *c)
{
	struct tcp_rack *k = &c->rack;
	if (!k->reordering_seen || (k->in_dsack_round && SEQ_LT(c->snd_una, k->dsack_round)))
		return;
	k->in_dsack_round = true;
	k->dsack_round = c->snd_nxt;
	k->reo_wnd_mult = k->reo_wnd_mult < REO_WND_MULT_MAX ? k->reo_wnd_mult + 1 : REO_WND_MULT_MAX;
	k->reo_wnd_persist = REO_WND_PERSIST;
}

void rack_on_recovered(struct tcp_conn *c)
{
	struct tcp_rack *k = &c->rack;
	if (k->reo_wnd_persist && --k->reo_wnd_persist == 0)
		k->reo_wnd_mult = 0;
}

/* Step 4: RACK_update_reo_wnd. */
static int64_t reo_wnd(const struct tcp_conn *c)
{
	const struct tcp_rack *k = &c->rack;
	unsigned recovery = c->stack->config.recovery;
	bool dupthresh = !(recovery & TCP_RECOVERY_NO_DUPTHRESH);
	if (!k->reordering_seen && (c->loss != TCP_LOSS_OPEN || (dupthresh && sack_is_lost(c, c->snd_una))))
		return 0;
	unsigned mult = recovery & TCP_RECOVERY_STATIC_REO_WND ? 1 : 1 + k->reo_wnd_mult;
	int64_t wnd = (int64_t)mult * c->min_rtt_us / 4;
	return wnd < c->srtt_us ? wnd : c->srtt_us;
}

/* Step 5: RACK_detect_loss. */
bool rack_detect(struct tcp_conn *c, int64_t now)
{
	const struct tcp_rack *k = &c->rack;
	c->reo_at = TIME_NEVER;
	if (!k->xmit_us || (!c->sacked.n && c->loss == TCP_LOSS_OPEN))
		return false;
	struct piece_walk w = piece_walk(c->snd_una, c->snd_nxt);
	struct piece p;
	bool found = false;
	int64_t patience = k->rtt_us + reo_wnd(c);
	while (piece_next(c, &w, &p)) {
		struct sent *r = sent_at(&c->sent, p.record);
		if (r->lost || !sent_after(k, r, p.right))
			continue;
		int64_t due = r->at_us + patience;
		if (due <= now) {
			found = true;
			c->lost_again |= r->again;
			c->lost += p.right - p.left;
			sent_mark_lost(&c->sent, c->stack->memory, p.record, p.right);
			w.record = PIECE_START; /* records may have moved */
		} else {
			due += TIMER_LATE_US;
			c->reo_at = c->reo_at == TIME_NEVER || due > c->reo_at ? due : c->reo_at;
		}
	}
	return found;
}

/* … on an ACK: as Linux, only where it told of something that counts; else the timer goes on. */
bool rack_detect_on_ack(struct tcp_conn *c, int64_t now)
{
	if (!c->rack.advanced)
		return false;
	c->rack.advanced = false;
	return rack_detect(c, now);
}

/* §6.3: the timer expired. The first segment is lost; of the others those that have had their time. */
void rack_mark_on_rto(struct tcp_conn *c, int64_t now)
{
	struct piece_walk w = piece_walk(c->snd_una, c->snd_nxt);
	struct piece p;
	int64_t patience = c->rack.rtt_us; /* no reordering window: as Linux */
	c->reo_at = TIME_NEVER;
	for (bool first = true; piece_next(c, &w, &p); first = false) {
		struct sent *r = sent_at(&c->sent, p.record);
		if (r->at_us + patience <= now) {
			c->lost += r->lost ? 0 : p.right - p.left;
			r->lost = true;
		} else if (first && !r->lost) {
			c->lost += min_u32(p.right - p.left, c->mss);
			sent_mark_lost(&c->sent, c->stack->memory, p.record, seq_min(p.right, p.left + c->mss));
			w.record = PIECE_START;
		}
	}
}

void rack_mark_all(struct tcp_conn *c)
{
	struct piece_walk w = piece_walk(c->snd_una, c->snd_nxt);
	struct piece p;
	c->reo_at = TIME_NEVER;
	while (piece_next(c, &w, &p)) {
		struct sent *r = sent_at(&c->sent, p.record);
		c->lost += r->lost ? 0 : p.right - p.left;
		r->lost = true;
	}
}

bool rack_has_lost(const struct tcp_conn *c)
{
	for (uint32_t i = 0; i < c->sent.n; i++)
		if (sent_peek(&c->sent, i)->lost)
			return true;
	return false;
}

void rack_forgive(struct tcp_conn *c)
{
	for (uint32_t i = 0; i < c->sent.n; i++)
		sent_at(&c->sent, i)->lost = false;
}

/* ---- the scoreboard, piece by piece ---- */

bool piece_next(const struct tcp_conn *c, struct piece_walk *w, struct piece *p)
{
	while (w->range < c->sacked.n && SEQ_LEQ(c->sacked.r[w->range].left, w->at)) { /* step over what was SACKed */
		w->at = seq_max(w->at, c->sacked.r[w->range].right);
		w->range++;
	}
	if (SEQ_GEQ(w->at, w->limit))
		return false;
	if (w->record == PIECE_START)
		w->record = sent_find(&c->sent, w->at);
	while (w->record < c->sent.n && SEQ_LEQ(sent_peek(&c->sent, w->record)->end, w->at))
		w->record++;
	if (w->record >= c->sent.n)
		return false;
	uint32_t right = seq_min(sent_peek(&c->sent, w->record)->end, w->limit);
	if (w->range < c->sacked.n)
		right = seq_min(right, c->sacked.r[w->range].left);
	*p = (struct piece){.left = w->at, .right = right, .record = w->record};
	w->at = right;
	return true;
}
