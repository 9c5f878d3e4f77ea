/*
 * Loss without SACK: RFC 5681 §3.2 and RFC 6582 (NewReno).
 *
 * Each duplicate ACK stands for one segment that left the network (sacked_bytes), so that the inflation and deflation
 * of RFC 6582 need no code of their own. What is lost is marked in the log of what was sent (sent.h), as with SACK: the
 * first segment, and with each partial ACK the one that is first then.
 */
#include "tcp/tcp_int.h"

/* One more segment has left the network. More than are in flight: something came in another order. */
static void note_departure(struct tcp_conn *c)
{
	uint32_t flight = snd_flight(c), most = flight > c->mss ? flight - c->mss : 0;
	if (c->sacked_bytes + c->mss > most)
		figures_reordered(c, c->snd_una, c->snd_nxt);
	c->sacked_bytes = min_u32(c->sacked_bytes + c->mss, most);
}

/* Of what is acknowledged one segment was the hole; the rest the duplicates have told of. */
static uint32_t take_duplicates(struct tcp_conn *c, uint32_t acked)
{
	uint32_t told = c->sacked_bytes, hole = min_u32(acked, c->mss), left = acked - hole;
	c->sacked_bytes = told > left && c->loss == TCP_LOSS_RECOVERY ? told - left : 0;
	return acked > told ? max_u32(acked - told, hole) : hole;
}

uint32_t reno_delivered(struct tcp_conn *c, uint32_t acked, bool dup)
{
	if (acked)
		return take_duplicates(c, acked);
	/* After a timeout a duplicate of what was sent again tells nothing. */
	if (!dup || recovery_is_held(c) || (c->loss == TCP_LOSS_RTO && !SEQ_GT(c->snd_nxt, c->recovery_point)))
		return 0;
	note_departure(c);
	return c->mss;
}

bool reno_detect(struct tcp_conn *c, uint32_t acked)
{
	bool begins = c->loss == TCP_LOSS_OPEN && c->sacked_bytes >= c->kept.reordering * c->mss;
	struct piece_walk w = piece_walk(c->snd_una, c->snd_nxt);
	struct piece p;
	if (!begins && !(c->loss == TCP_LOSS_RECOVERY && acked))
		return false;
	if (!piece_next(c, &w, &p) || sent_peek(&c->sent, p.record)->lost)
		return false;
	uint32_t right = seq_min(p.right, p.left + c->mss);
	c->lost += right - p.left;
	sent_mark_lost(&c->sent, c->stack->memory, p.record, right);
	return true;
}
