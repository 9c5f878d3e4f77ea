/*
 * Loss and its repair: episodes. With SACK, rack.c says what is lost; without, recovery_reno.c (RFC 6582). By timeout: RFC 6298 §5.
 *
 * An episode begins when something is found lost, and ends when recovery_point, what had been sent by then, is acknowledged. `pipe` is what is thought to be in
 * the network: what is neither SACKed nor lost. Sending is allowed while pipe < cwnd, so limited transmit (RFC 3042) needs no code of its own. In an
 * episode of fast recovery cwnd is pipe and what proportional rate reduction (RFC 6937) allows on top. After a timeout cwnd is one segment, and grows by
 * slow start. An episode that turns out to have had no reason is undone (undo.c).
 */
#include "tcp/tcp_int.h"

#define SENT_GRAINS    128 /* per round trip: how finely times are kept */
#define RENEGE_BACKOFF 2 /* consecutive timeouts after which the scoreboard is not believed (RFC 2018 §8) */

void recovery_init(struct tcp_conn *c)
{
	c->loss = TCP_LOSS_OPEN;
	c->recovery_point = c->high_rxt = c->iss;
	c->rack.fack = c->iss;
}

void recovery_fini(struct tcp_conn *c)
{
	struct tcp_memory *m = c->stack->memory;
	ranges_free(&c->sacked, m);
	sent_free(&c->sent, m);
	undo_forget(c);
	c->sacked_bytes = 0;
}

static uint32_t scoreboard_pipe(const struct tcp_conn *c)
{
	struct piece_walk w = piece_walk(c->snd_una, c->snd_nxt);
	struct piece p;
	uint32_t pipe = 0;
	while (piece_next(c, &w, &p))
		pipe += sent_peek(&c->sent, p.record)->lost ? 0 : p.right - p.left;
	return pipe;
}

void recovery_update_pipe(struct tcp_conn *c)
{
	uint32_t flight = snd_flight(c);
	if (!c->sack_on)
		c->pipe = reno_pipe(c);
	else if (c->loss == TCP_LOSS_OPEN)
		c->pipe = flight > c->sacked_bytes ? flight - c->sacked_bytes : 0;
	else
		c->pipe = scoreboard_pipe(c);
}

/* RFC 2861: the window grows when it was the limit. */
static void grow(struct tcp_conn *c, int64_t now, uint32_t acked)
{
	if (c->cc->control) /* by input_ack.c */
		return;
	c->cwnd_used_at = now; /* an ACK says that the window is not too large for the path */
	if (cwnd_is_limit(c))
		c->cc->on_ack(c, now, acked);
	else if (c->cc->on_unused)
		c->cc->on_unused(c, now);
}

static void reduce(struct tcp_conn *c, int64_t now, uint32_t flight)
{
	c->ssthresh = c->cc->ssthresh(c, now, flight);
	if (!c->cc->control)
		c->cwnd = c->ssthresh;
	c->cwnd_acked = 0;
	ecn_reduced(c);
}

void recovery_reduce(struct tcp_conn *c, int64_t now)
{
	/* RFC 5681 §3.2 step 2: what limited transmit sent beyond cwnd "MUST NOT be included" */
	reduce(c, now, min_u32(snd_flight(c), c->cwnd));
}

static void start_reduction(struct tcp_conn *c, uint32_t flight)
{
	c->prr_delivered = c->prr_out = 0;
	c->recover_fs = flight;
	c->tlp_due = c->tlp_out = false;
	c->tlp_at = TIME_NEVER;
}

/* RFC 3168 §6.1.2: a mark is congestion, of which the sender hears once a round trip. Nothing has to be repaired. */
static void enter_cwr(struct tcp_conn *c, int64_t now)
{
	uint32_t cwnd = c->cwnd; /* as Linux: what the ACK with the mark took out of the flight counts */
	undo_forget(c);
	reduce(c, now, cwnd);
	start_reduction(c, cwnd);
	c->cwr = true;
	c->cwr_point = c->snd_nxt;
}

/* Something above the point was acknowledged, so the peer has seen our CWR. */
static void leave_cwr(struct tcp_conn *c)
{
	c->cwr = false;
	if (!c->cc->control)
		c->cwnd = c->ssthresh;
}

static void enter_recovery(struct tcp_conn *c, int64_t now)
{
	TCP_COUNT_IF(c, c->sack_on, SackRecovery, RenoRecovery);
	c->fast_recoveries++;
	if (!c->cwr) { /* else the window was reduced in this round trip already */
		undo_begin(c);
		recovery_reduce(c, now);
		start_reduction(c, snd_flight(c));
	}
	c->cwr = false;
	c->loss = TCP_LOSS_RECOVERY;
	if (!c->sack_on)
		c->lost += min_u32(c->mss, snd_flight(c));
	c->recovery_point = c->snd_nxt;
	c->high_rxt = c->snd_una;
	c->rtx_due = true; /* the first retransmission does not ask cwnd */
	c->rtt_timing = c->tlp_due = c->tlp_out = false;
	c->tlp_at = TIME_NEVER;
}

static void leave(struct tcp_conn *c)
{
	c->loss = TCP_LOSS_OPEN;
	c->dupacks = 0;
	c->rtx_due = false;
	if (!c->sack_on)
		c->sacked_bytes = 0;
	c->reo_at = TIME_NEVER;
}

/* The whole of what was in flight when the episode began is acknowledged. */
static void recovered(struct tcp_conn *c)
{
	bool fast = c->loss == TCP_LOSS_RECOVERY;
	leave(c);
	rack_on_recovered(c);
	if (!fast || c->cc->control)
		return;
	/* RFC 6937 §3: "cwnd = ssthresh"; RFC 6582 §3.2 step 3 (1): no burst of what the inflated window had withheld */
	c->cwnd = c->sack_on ? c->ssthresh : min_u32(c->ssthresh, max_u32(snd_flight(c), c->mss) + c->mss);
}

/* It had no reason: as if nothing had been lost. */
static void undone(struct tcp_conn *c)
{
	leave(c);
	rack_forgive(c);
}

/*
 * RFC 6937 with the bound of its successor (draft-ietf-tcpm-prr-rfc6937bis): one segment more than was delivered while SND.UNA moves and nothing new is
 * found lost, exactly what was delivered otherwise. c->pipe is what it is now.
 */
static void prr(struct tcp_conn *c, uint32_t delivered, bool good)
{
	if (c->cc->control)
		return;
	uint32_t allowed = 0;
	c->prr_delivered += delivered;
	uint32_t sent_over = c->prr_delivered > c->prr_out ? c->prr_delivered - c->prr_out : 0;
	if (c->pipe > c->ssthresh) {
		uint64_t due = ((uint64_t)c->prr_delivered * c->ssthresh + c->recover_fs - 1) / (c->recover_fs ? c->recover_fs : 1);
		allowed = due > c->prr_out ? due - c->prr_out : 0;
	} else {
		uint32_t limit = max_u32(sent_over, delivered) + (good ? c->mss : 0);
		allowed = min_u32(c->ssthresh - c->pipe, limit);
	}
	c->cwnd = c->pipe + allowed;
}

static void hear_mark(struct tcp_conn *c, int64_t now)
{
	if (c->cwr && SEQ_GT(c->snd_una, c->cwr_point))
		leave_cwr(c);
	if (c->ack_ece && c->loss == TCP_LOSS_OPEN && !c->cwr)
		enter_cwr(c, now);
}

/* With SACK. `delivered`: bytes that this ACK took out of the network. */
static void sack_on_ack(struct tcp_conn *c, int64_t now, uint32_t acked, uint32_t delivered)
{
	if (c->loss != TCP_LOSS_OPEN && SEQ_GEQ(c->snd_una, c->recovery_point))
		recovered(c);
	bool found = rack_detect(c, now);
	if (found && c->loss == TCP_LOSS_OPEN)
		enter_recovery(c, now);
	hear_mark(c, now);
	recovery_update_pipe(c);
	if (c->loss == TCP_LOSS_RECOVERY || c->cwr)
		prr(c, delivered, acked && !found);
	else if (acked || (delivered && c->kept.reordering > c->stack->config.reordering))
		grow(c, now, delivered); /* what SACKs told of counted before */
}

static void reno_on_ack(struct tcp_conn *c, int64_t now, uint32_t acked, uint32_t delivered, bool dup)
{
	bool whole = SEQ_GEQ(c->snd_una, c->recovery_point);
	switch (c->loss) {
	case TCP_LOSS_OPEN:
		if (reno_is_lost(c, acked, dup))
			enter_recovery(c, now);
		hear_mark(c, now);
		if (acked && c->loss == TCP_LOSS_OPEN && !c->cwr)
			grow(c, now, acked);
		break;
	case TCP_LOSS_RECOVERY:
		if (whole)
			recovered(c);
		else
			reno_go_on(c, acked, dup);
		break;
	case TCP_LOSS_RTO:
		if (whole)
			recovered(c);
		if (acked)
			grow(c, now, acked);
		break;
	}
	recovery_update_pipe(c);
	if (c->cwr)
		prr(c, delivered, acked);
}

void recovery_on_ack(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg, uint32_t acked, uint32_t delivered, bool dup)
{
	if (acked && c->undo && undo_by_timestamp(c, seg))
		undone(c);
	if (c->sack_on)
		sack_on_ack(c, now, acked, delivered);
	else
		reno_on_ack(c, now, acked, delivered, dup);
	if (c->loss == TCP_LOSS_OPEN && c->undo && !snd_flight(c))
		undo_forget(c);
}

void recovery_on_dsack(struct tcp_conn *c, uint32_t bytes)
{
	if (c->undo && undo_by_dsack(c, bytes))
		undone(c);
}

void recovery_reo_expired(struct tcp_conn *c, int64_t now)
{
	if (!rack_detect(c, now))
		return;
	if (c->loss == TCP_LOSS_OPEN)
		enter_recovery(c, now);
	recovery_update_pipe(c);
	if (c->loss == TCP_LOSS_RECOVERY)
		prr(c, 0, false);
}

static void start_over(struct tcp_conn *c)
{
	c->loss = TCP_LOSS_RTO;
	c->recovery_point = c->snd_nxt;
	c->high_rxt = c->snd_una;
	c->rtx_due = true;
	c->dupacks = 0;
	if (!c->sack_on)
		c->sacked_bytes = 0;
	c->rtt_timing = c->tlp_due = c->tlp_out = false;
	c->tlp_at = TIME_NEVER;
	recovery_update_pipe(c);
}

void recovery_on_rto(struct tcp_conn *c, int64_t now)
{
	TCP_COUNT(c, Timeouts);
	c->rto_events++;
	if (c->loss == TCP_LOSS_OPEN)
		undo_begin(c);
	if (!c->sack_on) /* else rack.c counts */
		c->lost += c->pipe;
	/* RFC 5681 §3.1: ssthresh is set once for a segment, however often it is retransmitted; and within an episode that has set it already, not again. As
	   Linux it follows cwnd, which is more than the flight where the program sends less than it may. */
	if (c->loss == TCP_LOSS_OPEN && !c->cwr)
		c->ssthresh = c->cc->ssthresh(c, now, c->cwnd);
	c->cwr = false;
	ecn_reduced(c);
	c->cwnd = c->mss; /* the loss window */
	c->cwnd_acked = 0;
	if (c->cc->on_timeout)
		c->cc->on_timeout(c, now);
	if (c->backoff >= RENEGE_BACKOFF && c->sacked.n) {
		TCP_COUNT(c, SackReneged);
		ranges_free(&c->sacked, c->stack->memory);
		c->sacked_bytes = 0;
		rack_mark_all(c);
	}
	if (c->sack_on)
		rack_mark_on_rto(c, now);
	start_over(c);
}

void recovery_resegment(struct tcp_conn *c)
{
	if (!snd_flight(c))
		return;
	undo_forget(c);
	rack_mark_all(c);
	start_over(c);
}

bool recovery_next(const struct tcp_conn *c, uint32_t *seq, uint32_t *len, bool *forced)
{
	struct piece_walk w = piece_walk(c->snd_una, c->snd_nxt);
	struct piece p;
	*forced = c->rtx_due;
	if (!c->sack_on)
		return reno_next(c, seq, len);
	while (piece_next(c, &w, &p)) {
		if (!sent_peek(&c->sent, p.record)->lost)
			continue;
		*seq = p.left;
		*len = p.right - p.left;
		return true;
	}
	return false;
}

void recovery_sent_new(struct tcp_conn *c, int64_t now, uint32_t len)
{
	struct sent_mark mark = rate_mark(c, now, snd_flight(c) == len);
	sent_append(&c->sent, c->stack->memory, c->snd_nxt, now, c->srtt_us / SENT_GRAINS, &mark);
	c->prr_out += len;
}

void recovery_sent_again(struct tcp_conn *c, int64_t now, uint32_t seq, uint32_t len)
{
	undo_note_sent(c, now, seq, len);
	struct sent_mark mark = rate_mark(c, now, false);
	sent_again(&c->sent, c->stack->memory, c->snd_una, seq, seq + len, now, &mark);
	c->high_rxt = seq_max(c->high_rxt, seq + len);
	c->prr_out += len;
	c->rtx_due = false;
	c->rtt_timing = false; /* Karn: RFC 6298 §3 */
	recovery_update_pipe(c);
}
