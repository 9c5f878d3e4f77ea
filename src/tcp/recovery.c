/*
 * Loss: how it is found and repaired (RFC 5681 §3.2, RFC 6675 with SACK, RFC 6582 without, RFC 6298 §5 by timeout).
 *
 * One account serves all three: `pipe`, the bytes thought to be in the network. With SACK it is RFC 6675's; without, each
 * duplicate ACK stands for one segment that left (sacked_bytes). Sending is allowed while pipe < cwnd, so limited transmit
 * (RFC 3042) and the inflation and deflation of RFC 6582 need no code of their own. high_rxt divides what was
 * retransmitted in this episode from what was not; the episode ends when recovery_point is acknowledged.
 */
#include "tcp/tcp_int.h"

#define RENEGE_BACKOFF 2 /* consecutive timeouts after which the scoreboard is not believed (RFC 2018 §8) */

void recovery_init(struct tcp_conn *c)
{
	c->loss = TCP_LOSS_OPEN;
	c->recovery_point = c->high_rxt = c->iss;
}

/* The hole [left, right): what of it is in the network. */
static uint32_t hole_pipe(const struct tcp_conn *c, uint32_t left, uint32_t right, bool lost)
{
	uint32_t sent_again = SEQ_GT(c->high_rxt, left) ? seq_min(c->high_rxt, right) - left : 0;
	return lost ? sent_again : right - left;
}

/* RFC 6675 §4 SetPipe, hole by hole; a retransmitted octet that was not lost counts once. */
static uint32_t scoreboard_pipe(const struct tcp_conn *c)
{
	uint32_t pipe = 0, left = c->snd_una;
	bool rto = c->loss == TCP_LOSS_RTO;
	for (uint32_t i = 0; i < c->sacked.n; i++) {
		const struct range *r = &c->sacked.r[i];
		if (SEQ_LT(left, r->left)) {
			bool lost = rto ? SEQ_LT(left, c->recovery_point) : sack_is_lost(c, left);
			pipe += hole_pipe(c, left, r->left, lost);
		}
		left = r->right;
	}
	if (rto && SEQ_LT(left, c->recovery_point)) {
		pipe += hole_pipe(c, left, c->recovery_point, true);
		left = c->recovery_point;
	}
	return pipe + (SEQ_LT(left, c->snd_nxt) ? c->snd_nxt - left : 0);
}

void recovery_update_pipe(struct tcp_conn *c)
{
	uint32_t flight = snd_flight(c);
	if (c->loss == TCP_LOSS_OPEN || (c->loss == TCP_LOSS_RECOVERY && !c->sack_on)) {
		uint32_t gone = c->sacked_bytes;
		if (c->loss == TCP_LOSS_RECOVERY && SEQ_LEQ(c->high_rxt, c->snd_una))
			gone += min_u32(c->mss, flight); /* the segment to be retransmitted */
		c->pipe = flight > gone ? flight - gone : 0;
		return;
	}
	c->pipe = scoreboard_pipe(c);
}

/* RFC 2861: the window grows when it was the limit. */
static void grow(struct tcp_conn *c, int64_t now, uint32_t acked)
{
	bool slow_start = c->cwnd < c->ssthresh;
	if (c->cwnd_limited || (slow_start && c->cwnd < 2 * c->flight_max))
		c->cc->on_ack(c, now, acked);
	else if (c->cc->on_unused)
		c->cc->on_unused(c, now);
	if (SEQ_GEQ(c->snd_una, c->flight_seq)) { /* a round is over */
		c->flight_seq = c->snd_nxt;
		c->flight_max = snd_flight(c);
		c->cwnd_limited = false;
	}
}

/* Without SACK: one more segment has left the network. */
static void note_departure(struct tcp_conn *c)
{
	uint32_t flight = snd_flight(c);
	uint32_t most = flight > c->mss ? flight - c->mss : 0;
	c->sacked_bytes = min_u32(c->sacked_bytes + c->mss, most);
}

static void enter_recovery(struct tcp_conn *c, int64_t now)
{
	TCP_COUNT_IF(c, c->sack_on, SackRecovery, RenoRecovery);
	c->fast_recoveries++;
	/* RFC 5681 §3.2 step 2: what limited transmit sent beyond cwnd "MUST NOT be included" */
	c->ssthresh = c->cc->ssthresh(c, now, min_u32(snd_flight(c), c->cwnd));
	c->cwnd = c->ssthresh;
	c->cwnd_acked = 0;
	c->loss = TCP_LOSS_RECOVERY;
	c->recovery_point = c->snd_nxt;
	c->high_rxt = c->snd_una;
	c->rtx_due = true; /* the first retransmission does not ask cwnd */
	c->rtt_timing = false;
}

static void leave(struct tcp_conn *c)
{
	c->loss = TCP_LOSS_OPEN;
	c->dupacks = 0;
	c->rtx_due = false;
	if (!c->sack_on)
		c->sacked_bytes = 0;
	c->flight_seq = c->snd_nxt;
	c->flight_max = snd_flight(c);
}

static void on_ack_open(struct tcp_conn *c, int64_t now, uint32_t acked, bool dup)
{
	if (acked) {
		c->dupacks = 0;
		if (!c->sack_on)
			c->sacked_bytes = 0;
	}
	if (dup) {
		if (c->dupacks < UINT8_MAX)
			c->dupacks++;
		if (!c->sack_on)
			note_departure(c);
	}
	bool lost = c->dupacks >= DUP_THRESH || (c->sacked.n && sack_is_lost(c, c->snd_una));
	/* RFC 6582 §3.2 step 2: without SACK, duplicates of our own retransmissions must not start another episode. */
	if (lost && snd_flight(c) && (c->sack_on || SEQ_GT(c->snd_una, c->recovery_point)))
		enter_recovery(c, now);
	else if (acked)
		grow(c, now, acked);
}

static void on_ack_recovery(struct tcp_conn *c, uint32_t acked, bool dup)
{
	if (SEQ_GEQ(c->snd_una, c->recovery_point)) { /* a full acknowledgment */
		leave(c);
		/* RFC 6582 §3.2 step 3 (1): no burst of what the inflated window had withheld */
		c->cwnd = c->sack_on ? c->ssthresh
				     : min_u32(c->ssthresh, max_u32(snd_flight(c), c->mss) + c->mss);
		return;
	}
	if (c->sack_on)
		return;
	if (acked) { /* a partial acknowledgment: the next segment is lost too */
		uint32_t left = acked > c->mss ? acked - c->mss : 0;
		c->sacked_bytes = c->sacked_bytes > left ? c->sacked_bytes - left : 0;
		c->high_rxt = c->snd_una;
		c->rtx_due = true;
	} else if (dup) {
		note_departure(c);
	}
}

static void on_ack_rto(struct tcp_conn *c, int64_t now, uint32_t acked)
{
	if (SEQ_GEQ(c->snd_una, c->recovery_point))
		leave(c);
	if (acked)
		grow(c, now, acked);
}

void recovery_on_ack(struct tcp_conn *c, int64_t now, uint32_t acked, uint32_t newly_sacked, bool dup)
{
	if (c->sack_on) {
		c->sacked_bytes = ranges_total(&c->sacked);
		dup = newly_sacked; /* RFC 6675 §2: an ACK with new SACK information */
	}
	switch (c->loss) {
	case TCP_LOSS_OPEN:
		on_ack_open(c, now, acked, dup);
		break;
	case TCP_LOSS_RECOVERY:
		on_ack_recovery(c, acked, dup);
		break;
	case TCP_LOSS_RTO:
		on_ack_rto(c, now, acked);
		break;
	}
	recovery_update_pipe(c);
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
	c->rtt_timing = false;
	recovery_update_pipe(c);
}

void recovery_on_rto(struct tcp_conn *c, int64_t now)
{
	TCP_COUNT(c, Timeouts);
	c->rto_events++;
	/* RFC 5681 §3.1: ssthresh is set once for a segment, however often it is retransmitted. In fast recovery what went beyond the hole and was
	   SACKed counts in the flight, too: a part of that may be more than ssthresh was, which a timeout must not raise. */
	if (c->loss != TCP_LOSS_RTO) {
		uint32_t most = c->loss == TCP_LOSS_RECOVERY ? c->ssthresh : UINT32_MAX;
		c->ssthresh = min_u32(c->cc->ssthresh(c, now, snd_flight(c)), most);
	}
	c->cwnd = c->mss; /* the loss window */
	c->cwnd_acked = 0;
	if (c->cc->on_timeout)
		c->cc->on_timeout(c, now);
	if (c->backoff >= RENEGE_BACKOFF && c->sacked.n) {
		TCP_COUNT(c, SackReneged);
		ranges_free(&c->sacked, c->stack->memory);
		c->sacked_bytes = 0;
	}
	start_over(c);
}

void recovery_resegment(struct tcp_conn *c)
{
	if (snd_flight(c))
		start_over(c);
}

/* The first octet from `seq` that is not SACKed, and where that hole ends. */
static uint32_t next_hole(const struct tcp_conn *c, uint32_t seq, uint32_t *end)
{
	for (uint32_t i = 0; i < c->sacked.n; i++) {
		const struct range *r = &c->sacked.r[i];
		if (SEQ_LT(seq, r->left)) {
			*end = seq_min(*end, r->left);
			return seq;
		}
		if (SEQ_LT(seq, r->right))
			seq = r->right;
	}
	return seq;
}

bool recovery_next(const struct tcp_conn *c, uint32_t *seq, uint32_t *len, bool *forced)
{
	uint32_t from = seq_max(c->high_rxt, c->snd_una), end = c->recovery_point;
	*forced = c->rtx_due;
	if (c->loss == TCP_LOSS_RECOVERY && !c->sack_on) {
		if (SEQ_GT(c->high_rxt, c->snd_una))
			return false;
		*seq = c->snd_una;
		*len = min_u32(c->mss, snd_flight(c));
		return true;
	}
	from = next_hole(c, from, &end);
	if (SEQ_GEQ(from, end))
		return false;
	/* NextSeg (1); (3) when no new data could go instead; (2) is output's. The first segment was found lost by whoever entered. */
	if (c->loss == TCP_LOSS_RECOVERY && !*forced && !sack_is_lost(c, from)) {
		bool below_sacked = c->sacked.n && SEQ_LT(from, c->sacked.r[c->sacked.n - 1].left);
		if (!below_sacked || snd_unsent(c))
			return false;
	}
	*seq = from;
	*len = end - from;
	return true;
}

void recovery_sent(struct tcp_conn *c, uint32_t seq, uint32_t len)
{
	c->high_rxt = seq_max(c->high_rxt, seq + len);
	c->rtx_due = false;
	c->rtt_timing = false; /* Karn: RFC 6298 §3 */
	recovery_update_pipe(c);
}
