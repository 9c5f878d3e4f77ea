/*
 * Loss without SACK: RFC 5681 §3.2 and RFC 6582 (NewReno).
 *
 * Each duplicate ACK stands for one segment that left the network (sacked_bytes), so that the inflation and deflation of RFC 6582 need no code of their own.
 * high_rxt divides what was retransmitted in this episode from what was not.
 */
#include "tcp/tcp_int.h"

/* One more segment has left the network. */
static void note_departure(struct tcp_conn *c)
{
	uint32_t flight = snd_flight(c);
	uint32_t most = flight > c->mss ? flight - c->mss : 0;
	c->sacked_bytes = min_u32(c->sacked_bytes + c->mss, most);
}

uint32_t reno_pipe(const struct tcp_conn *c)
{
	uint32_t flight = snd_flight(c);
	if (c->loss == TCP_LOSS_RTO) {
		uint32_t lost_end = seq_max(seq_min(c->recovery_point, c->snd_nxt), c->snd_una);
		uint32_t again = SEQ_GT(c->high_rxt, c->snd_una) ? seq_min(c->high_rxt, lost_end) - c->snd_una : 0;
		return again + (c->snd_nxt - lost_end);
	}
	uint32_t gone = c->sacked_bytes;
	if (c->loss == TCP_LOSS_RECOVERY && SEQ_LEQ(c->high_rxt, c->snd_una))
		gone += min_u32(c->mss, flight); /* the segment to be retransmitted */
	return flight > gone ? flight - gone : 0;
}

bool reno_is_lost(struct tcp_conn *c, uint32_t acked, bool dup)
{
	if (acked)
		c->dupacks = c->sacked_bytes = 0;
	if (dup) {
		if (c->dupacks < UINT8_MAX)
			c->dupacks++;
		note_departure(c);
	}
	/* RFC 6582 §3.2 step 2: duplicates of our own retransmissions must not start another episode. */
	return c->dupacks >= c->kept.reordering && snd_flight(c) && SEQ_GT(c->snd_una, c->recovery_point);
}

void reno_go_on(struct tcp_conn *c, uint32_t acked, bool dup)
{
	if (acked) { /* a partial acknowledgment: the next segment is lost too */
		uint32_t left = acked > c->mss ? acked - c->mss : 0;
		c->sacked_bytes = c->sacked_bytes > left ? c->sacked_bytes - left : 0;
		c->high_rxt = c->snd_una;
		c->rtx_due = true;
		c->lost += min_u32(c->mss, snd_flight(c));
	} else if (dup) {
		note_departure(c);
	}
}

bool reno_next(const struct tcp_conn *c, uint32_t *seq, uint32_t *len)
{
	if (c->loss == TCP_LOSS_RECOVERY) {
		*seq = c->snd_una;
		*len = min_u32(c->mss, snd_flight(c));
		return SEQ_LEQ(c->high_rxt, c->snd_una);
	}
	*seq = seq_max(c->high_rxt, c->snd_una);
	*len = c->recovery_point - *seq;
	return SEQ_LT(*seq, c->recovery_point);
}
