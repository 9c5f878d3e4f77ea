/*
 * Repairs for nothing: what a recovery did to the congestion window is undone when its retransmissions turn out to have
 * been unneeded.
 *
 * Two signs: the ACK that moves SND.UNA over what was sent again echoes a time stamp from before that (Eifel, RFC 3522,
 * and its response, RFC 4015); or D-SACKs report each retransmitted byte as a duplicate (RFC 3708). Owns one block of
 * memory for as long as an episode lasts; without memory nothing is undone.
 */
#include "tcp/tcp_int.h"

#include <string.h>

struct undo {
	uint32_t cwnd, ssthresh;
	uint64_t cc_state[TCP_CC_UNDO_WORDS];
	uint32_t begin;       /* SND.UNA when the episode began */
	uint32_t seq, ts;     /* of the first retransmission: where it begins, and its time stamp */
	uint32_t outstanding; /* retransmitted bytes that no D-SACK has reported */
	bool sent_any, answered; /* answered: an ACK has moved over `seq` */
};
#define UNDO_BYTES 128
_Static_assert(sizeof(struct undo) <= UNDO_BYTES, "tcp_memory gives powers of two");

void undo_begin(struct tcp_conn *c)
{
	undo_forget(c);
	struct undo *u = c->stack->memory->alloc(c->stack->memory, UNDO_BYTES);
	if (!u)
		return;
	*u = (struct undo){.cwnd = c->cwnd, .ssthresh = c->ssthresh, .begin = c->snd_una};
	memcpy(u->cc_state, c->cc_state, sizeof u->cc_state);
	c->undo = u;
}

void undo_forget(struct tcp_conn *c)
{
	if (c->undo)
		c->stack->memory->free(c->stack->memory, c->undo, UNDO_BYTES);
	c->undo = NULL;
}

void undo_note_sent(struct tcp_conn *c, int64_t now, uint32_t seq, uint32_t len)
{
	struct undo *u = c->undo;
	if (!u)
		return;
	if (!u->sent_any) {
		u->seq = seq;
		u->ts = tcp_ts_now(now, c->ts_offset);
	}
	u->sent_any = true;
	u->outstanding += len;
}

static void restore(struct tcp_conn *c)
{
	struct undo *u = c->undo;
	if (!c->cc->control)
		c->cwnd = max_u32(c->cwnd, u->cwnd);
	c->ssthresh = max_u32(c->ssthresh, u->ssthresh);
	if (c->cc->undo)
		c->cc->undo(c);
	else
		memcpy(c->cc_state, u->cc_state, sizeof u->cc_state);
	c->rack.reordering_seen = true; /* what was taken for lost came late */
	undo_forget(c);
}

void undo_now(struct tcp_conn *c)
{
	if (c->undo)
		restore(c);
}

bool undo_by_timestamp(struct tcp_conn *c, const struct tcp_segment *seg, uint32_t acked)
{
	struct undo *u = c->undo;
	if (!u->sent_any || u->answered || !SEQ_GT(c->snd_una, u->seq))
		return false;
	u->answered = true; /* RFC 3522 §3.2: the first acceptable ACK tells */
	if (!c->ts_on || !(seg->has & SEG_HAS_TIMESTAMPS) || !seg->ts_ecr || !SEQ_LT(seg->ts_ecr, u->ts))
		return false;
	TCP_COUNT(c, EifelUndo);
	if (c->loss == TCP_LOSS_RECOVERY && c->sack_on && SEQ_LT(c->snd_una, c->recovery_point)) /* the hole was filled by what came late */
		figures_reordered(c, c->snd_una - acked, seq_max(c->rack.fack, c->snd_una));
	restore(c);
	return true;
}

/* What had been acknowledged before came twice for another reason: the path's, or an earlier episode's. */
bool undo_by_dsack(struct tcp_conn *c, uint32_t right, uint32_t len)
{
	struct undo *u = c->undo;
	if (!u->sent_any || !SEQ_GT(right, u->begin))
		return false;
	u->outstanding -= min_u32(u->outstanding, len);
	if (u->outstanding)
		return false;
	TCP_COUNT(c, DSACKUndo);
	restore(c);
	return true;
}
