/*
 * Loss and its repair: episodes. With SACK, rack.c says what is lost; without, recovery_reno.c (RFC 6582). By timeout:
 * RFC 6298 §5.
 *
 * An episode begins when something is found lost, and ends when recovery_point, what had been sent by then, is
 * acknowledged. Without SACK it is held until more than that is: an ACK of just that point cannot be told from a
 * duplicate of what was sent again (RFC 6582 §6). `pipe` is what is thought to be in the network: what is neither
 * SACKed nor lost. Sending is allowed while pipe < cwnd, so limited transmit (RFC 3042) needs no code of its own. In an
 * episode of fast recovery cwnd is pipe and what proportional rate reduction (RFC 6937) allows on top. After a timeout
 * cwnd is one segment more than what may still be on its way, and grows by slow start. An episode that turns out to
 * have had no reason is undone (undo.c, frto.c).
 */
#include "tcp/tcp_int.h"

#define SENT_GRAINS    128 /* per round trip: how finely times are kept */
/*
 * A reduction is one of cwnd, as in Linux, where up to so many segments of it are unused; of a larger one, of
 * FlightSize (RFC 5681 (4)). Slow start lets cwnd grow to twice what the peer's window or the send buffer lets go: half
 * of that would be no reduction, and overflow the queue again that has just overflowed.
 */
#define UNUSED_SEGS 256
#define RENEGE_WAIT_US (10 * USEC_PER_MSEC) /* at least, before the scoreboard is not believed any more (RFC 2018 §8); as Linux */

/* The peer takes back what it had told, as it seems. */
static bool starts_sacked(const struct tcp_conn *c)
{
	return c->sacked.n && c->sacked.r[0].left == c->snd_una;
}

void recovery_init(struct tcp_conn *c)
{
	c->loss = TCP_LOSS_OPEN;
	c->recovery_point = c->iss;
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

static void recovery_update_pipe(struct tcp_conn *c)
{
	uint32_t left = c->loss == TCP_LOSS_OPEN ? snd_flight(c) : scoreboard_pipe(c);
	if (c->loss == TCP_LOSS_OPEN || !c->sack_on) /* else pieces that were SACKed are none of the pipe's */
		left = left > c->sacked_bytes ? left - c->sacked_bytes : 0;
	c->pipe = left;
}

/* RFC 2861: the window grows when it was the limit. */
static void grow(struct tcp_conn *c, int64_t now, uint32_t acked)
{
	if (c->cc->control) /* by input_ack.c */
		return;
	c->cwnd_used_at = now; /* an ACK says that the window is not too large for the path */
	if (cwnd_is_limit(c))
		c->cc->on_ack(c, now, acked + c->mtu.more_acked);
}

static void reduce(struct tcp_conn *c, int64_t now, uint32_t flight)
{
	c->ssthresh = c->cc->ssthresh(c, now, flight);
	if (!c->cc->control)
		c->cwnd = c->ssthresh;
	c->cwnd_acked = 0;
	ecn_reduced(c);
}

/* RFC 5681 §3.2 step 2: what limited transmit sent beyond cwnd "MUST NOT be included". */
static uint32_t window_in_use(const struct tcp_conn *c)
{
	return min_u32(c->cwnd, max_u32(snd_flight(c), UNUSED_SEGS * c->mss));
}

void recovery_reduce(struct tcp_conn *c, int64_t now)
{
	reduce(c, now, window_in_use(c));
}

static void start_reduction(struct tcp_conn *c, uint32_t cwnd)
{
	c->prr_delivered = c->prr_out = 0;
	c->recover_fs = cwnd; /* RFC 6937's RecoverFS: Linux's is the window, not the flight */
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

void recovery_bounced(struct tcp_conn *c, int64_t now)
{
	uint32_t cwnd = c->cwnd;
	recovery_update_pipe(c);
	if (c->loss == TCP_LOSS_OPEN && !c->cwr)
		enter_cwr(c, now);
	if (!c->cc->control)
		c->cwnd = cwnd; /* the ACKs of what is in flight reduce it */
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
		start_reduction(c, window_in_use(c));
		recovery_reduce(c, now);
	}
	c->cwr = c->frto = c->frto_wait = false;
	c->loss = TCP_LOSS_RECOVERY;
	c->recovery_point = c->snd_nxt;
	c->tlp_due = c->tlp_out = false;
	c->tlp_at = TIME_NEVER;
}

static void leave(struct tcp_conn *c)
{
	c->loss = TCP_LOSS_OPEN;
	c->rtx_due = c->frto = c->frto_wait = false;
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
	if (fast && !c->cc->control)
		c->cwnd = c->ssthresh; /* RFC 6937 §3 */
}

/* It had no reason: as if nothing had been lost. */
static void undone(struct tcp_conn *c)
{
	rack_forgive(c);
	if (recovery_is_held(c))
		c->rtx_due = c->frto = c->frto_wait = false;
	else
		leave(c);
}

/*
 * RFC 6937 with the bound of its successor (draft-ietf-tcpm-prr-rfc6937bis): one segment more than was delivered while
 * SND.UNA moves and nothing new is found lost, exactly what was delivered otherwise. The first retransmission does not
 * ask. c->pipe is what it is now.
 */
static void prr(struct tcp_conn *c, uint32_t delivered, bool good)
{
	uint32_t allowed = 0;
	if (c->cc->control || !delivered)
		return;
	c->prr_delivered += delivered;
	if (c->pipe > c->ssthresh) {
		uint64_t due = ((uint64_t)c->prr_delivered * c->ssthresh + c->recover_fs - 1) / (c->recover_fs ? c->recover_fs : 1);
		due = (due + c->mss - 1) / c->mss * c->mss; /* Linux counts segments */
		allowed = due > c->prr_out ? due - c->prr_out : 0;
	} else {
		uint32_t sent_over = c->prr_delivered > c->prr_out ? c->prr_delivered - c->prr_out : 0;
		uint32_t limit = max_u32(sent_over, delivered) + (good ? c->mss : 0);
		allowed = min_u32(c->ssthresh - c->pipe, limit);
	}
	c->cwnd = c->pipe + (c->prr_out ? allowed : max_u32(allowed, c->mss));
}

static void hear_mark(struct tcp_conn *c, int64_t now)
{
	if (c->cwr && SEQ_GT(c->snd_una, c->cwr_point))
		leave_cwr(c);
	if (c->ack_ece && c->loss == TCP_LOSS_OPEN && !c->cwr)
		enter_cwr(c, now);
}

/* What the ACK makes of cwnd, once it is known what is lost. */
static void set_cwnd(struct tcp_conn *c, int64_t now, uint32_t acked, uint32_t delivered, bool found)
{
	recovery_update_pipe(c);
	if (c->loss == TCP_LOSS_RECOVERY || c->cwr)
		prr(c, delivered, acked && !found);
	else if (acked || (delivered && c->kept.reordering > c->stack->config.reordering))
		grow(c, now, delivered); /* what SACKs told of counted before */
}

/* With SACK. `delivered`: bytes that this ACK took out of the network. */
static void sack_on_ack(struct tcp_conn *c, int64_t now, uint32_t acked, uint32_t delivered)
{
	bool ended = c->loss != TCP_LOSS_OPEN && SEQ_GEQ(c->snd_una, c->recovery_point);
	if (ended)
		recovered(c);
	c->lost_again = false;
	bool found = rack_detect_on_ack(c, now);
	bool begins = found && (c->loss == TCP_LOSS_OPEN || (c->loss == TCP_LOSS_RTO && c->lost_again)); /* the latter as Linux */
	if (begins && c->loss == TCP_LOSS_OPEN && mtu_probe_failed(c)) {
		recovery_repeat(c, c->mtu.end);
		return;
	}
	if (begins || (ended && rack_has_lost(c))) /* what was lost in an episode outlasts it */
		enter_recovery(c, now);
	hear_mark(c, now);
	set_cwnd(c, now, acked, delivered, found);
}

static void reno_on_ack(struct tcp_conn *c, int64_t now, uint32_t acked, uint32_t delivered)
{
	bool found = false;
	if (recovery_is_held(c))
		c->sacked_bytes = 0;
	else if (c->loss != TCP_LOSS_OPEN && SEQ_GT(c->snd_una, c->recovery_point))
		recovered(c);
	else if (c->loss != TCP_LOSS_RTO)
		found = reno_detect(c, acked);
	if (found && c->loss == TCP_LOSS_OPEN)
		enter_recovery(c, now);
	hear_mark(c, now);
	set_cwnd(c, now, acked, delivered, found);
}

void recovery_on_ack(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg, uint32_t acked, uint32_t delivered, bool dup)
{
	if ((acked && c->undo && undo_by_timestamp(c, seg, acked)) || (c->loss == TCP_LOSS_RTO && frto_on_ack(c, acked, dup)))
		undone(c);
	if (acked && starts_sacked(c)) {
		c->rtx_at = now + max_time(c->srtt_us / 2, RENEGE_WAIT_US);
		c->reo_at = TIME_NEVER;
		set_cwnd(c, now, acked, delivered, false);
	} else if (c->sack_on) {
		sack_on_ack(c, now, acked, delivered);
	} else {
		reno_on_ack(c, now, acked, delivered);
	}
	if (c->loss == TCP_LOSS_OPEN && c->undo && !snd_flight(c))
		undo_forget(c);
}

void recovery_on_dsack(struct tcp_conn *c, uint32_t right, uint32_t bytes)
{
	if (c->undo && undo_by_dsack(c, right, bytes))
		undone(c);
}

void recovery_wait_for_reo(struct tcp_conn *c, int64_t now)
{
	if (c->reo_at == TIME_NEVER || c->rtx_at == TIME_NEVER || c->rtx_at > c->reo_at || timer_persists(c))
		return;
	c->rtx_at = max_time(c->rtx_at, min_time(c->reo_at + 1, now + rtt_backed_off(c)));
}

void recovery_reo_expired(struct tcp_conn *c, int64_t now)
{
	if (!rack_detect(c, now))
		return;
	bool begins = c->loss != TCP_LOSS_RECOVERY;
	if (begins)
		enter_recovery(c, now);
	if (c->rtx_at <= now) /* what is lost goes first, and the timeout counts from then */
		c->rtx_at = now + 1;
	recovery_update_pipe(c);
	if (begins)
		prr(c, c->mss, false);
}

static void start_over(struct tcp_conn *c)
{
	c->loss = TCP_LOSS_RTO;
	c->recovery_point = c->snd_nxt;
	c->rtx_due = true;
	c->frto = c->frto_wait = false;
	if (!c->sack_on)
		c->sacked_bytes = 0;
	c->tlp_due = c->tlp_out = false;
	c->tlp_at = TIME_NEVER;
	recovery_update_pipe(c);
}

/*
 * A timeout's: the segment that is missing is one that the peer said it had. Nothing of what it said counts (RFC 2018
 * §8).
 */
static bool is_reneged(struct tcp_conn *c)
{
	if (!starts_sacked(c))
		return false;
	TCP_COUNT(c, SackReneged);
	ranges_free(&c->sacked, c->stack->memory);
	c->sacked_bytes = 0;
	return true;
}

/*
 * As Linux: an episode that has reduced the window already does it again only where something was acknowledged since
 * the timeout before.
 */
static bool reduces_again(const struct tcp_conn *c)
{
	if (c->cwr)
		return SEQ_GEQ(c->snd_una, c->cwr_point);
	return c->loss == TCP_LOSS_OPEN || SEQ_GEQ(c->snd_una, c->recovery_point) || (c->loss == TCP_LOSS_RTO && c->rtx_count <= 1);
}

void recovery_on_rto(struct tcp_conn *c, int64_t now)
{
	bool fresh = c->loss == TCP_LOSS_OPEN;
	TCP_COUNT(c, Timeouts);
	c->rto_events++;
	if (fresh && !c->cwr && c->sacked_bytes >= c->stack->config.reordering * c->mss) /* it was not reordering that kept fast recovery away */
		c->kept.reordering = min_u32(c->kept.reordering, c->stack->config.reordering);
	/*
	 * RFC 5681 §3.1: ssthresh is set once for a segment, however often it is retransmitted. As Linux it follows
	 * cwnd, which is more than the flight where the program sends less than it may.
	 */
	if (reduces_again(c)) {
		undo_begin(c);
		c->ssthresh = c->cc->ssthresh(c, now, c->cwnd);
	}
	c->cwr = false;
	ecn_reduced(c);
	if (is_reneged(c) || !c->sack_on)
		rack_mark_all(c);
	else
		rack_mark_on_rto(c, now);
	start_over(c);
	c->cwnd = c->pipe + c->mss; /* the loss window, and what may still arrive */
	c->cwnd_acked = 0;
	if (c->cc->on_timeout)
		c->cc->on_timeout(c, now);
	frto_begin(c, fresh);
}

void recovery_resegment(struct tcp_conn *c)
{
	if (!snd_flight(c))
		return;
	undo_forget(c);
	rack_mark_all(c);
	sent_forget_segments(&c->sent);
	start_over(c);
	c->rtx_due = false; /* cwnd lets all go that it let go before */
}

void recovery_repeat(struct tcp_conn *c, uint32_t right)
{
	uint32_t i = sent_find(&c->sent, c->snd_una);
	undo_forget(c);
	if (i < c->sent.n)
		sent_mark_lost(&c->sent, c->stack->memory, i, right);
	start_over(c);
	c->rtx_due = false;
}

bool recovery_next(const struct tcp_conn *c, uint32_t *seq, uint32_t *len, bool *forced)
{
	struct piece_walk w = piece_walk(c->snd_una, c->snd_nxt);
	struct piece p;
	*forced = c->rtx_due;
	if (starts_sacked(c)) /* the timer, which was made short, tells what of it is true */
		return false;
	while (piece_next(c, &w, &p)) {
		if (!sent_peek(&c->sent, p.record)->lost)
			continue;
		*seq = p.left;
		*len = p.right - p.left;
		return true;
	}
	return false;
}

void recovery_sent_new(struct tcp_conn *c, int64_t now, uint32_t len, uint32_t mss)
{
	struct sent_mark mark = rate_mark(c, now, snd_flight(c) == len);
	mark.short_end = len % mss;
	mark.uneven = mss != c->mss && len > mss;
	mark.push = c->snd_nxt == c->snd_push;
	sent_append(&c->sent, c->stack->memory, c->snd_nxt, now, c->srtt_us / SENT_GRAINS, &mark);
	c->prr_out += len;
}

void recovery_sent_again(struct tcp_conn *c, int64_t now, uint32_t seq, uint32_t len)
{
	undo_note_sent(c, now, seq, len);
	c->mtu.probe = 0; /* it is none any more: as Linux */
	struct sent_mark mark = rate_mark(c, now, false);
	sent_again(&c->sent, c->stack->memory, c->snd_una, seq, seq + len, now, &mark);
	c->prr_out += len;
	c->rtx_due = false;
	recovery_update_pipe(c);
}
