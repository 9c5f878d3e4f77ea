/*
 * Selective acknowledgment: the blocks we send (RFC 2018 §4, D-SACK RFC 2883) and the scoreboard of those we get (RFC
 * 6675 §4).
 */
#include "tcp/tcp_int.h"

static unsigned blocks_max(const struct tcp_conn *c)
{
	return c->ts_on ? 3 : 4; /* 40 bytes of options */
}

unsigned sack_blocks_count(const struct tcp_conn *c)
{
	unsigned n = c->ooo.n + (c->dsack.left != c->dsack.right);
	if (!n || !c->sack_on)
		return 0;
	return min_u32(n, blocks_max(c));
}

void sack_note_recent(struct tcp_conn *c, uint32_t seq)
{
	for (unsigned i = TCP_SACK_BLOCKS - 1; i > 0; i--)
		c->recent[i] = c->recent[i - 1];
	c->recent[0] = seq;
	if (c->n_recent < TCP_SACK_BLOCKS)
		c->n_recent++;
}

void sack_note_duplicate(struct tcp_conn *c, uint32_t left, uint32_t right)
{
	if (!c->sack_on || !c->stack->config.dsack)
		return;
	c->dsack = (struct range){left, right};
	TCP_COUNT(c, DSACKOldSent);
}

static bool is_listed(const struct sack_block *b, unsigned from, unsigned n, uint32_t left)
{
	for (unsigned i = from; i < n; i++) {
		if (b[i].left == left)
			return true;
	}
	return false;
}

unsigned sack_blocks(const struct tcp_conn *c, struct sack_block out[TCP_SACK_BLOCKS])
{
	unsigned n = 0, most = blocks_max(c);
	if (c->dsack.left != c->dsack.right) /* RFC 2883 §4: the first block */
		out[n++] = (struct sack_block){c->dsack.left, c->dsack.right};
	if (!c->ooo.n)
		return n;
	unsigned from = n;
	/*
	 * "The first SACK block … MUST specify the contiguous block of data containing the segment which triggered this
	 * ACK", then those that were reported before.
	 */
	for (unsigned i = 0; i < c->n_recent && n < most; i++) {
		const struct range *r = ranges_find(&c->ooo, c->recent[i]);
		if (r && !is_listed(out, from, n, r->left))
			out[n++] = (struct sack_block){r->left, r->right};
	}
	for (unsigned i = 0; i < c->ooo.n && n < most; i++) {
		if (!is_listed(out, from, n, c->ooo.r[i].left))
			out[n++] = (struct sack_block){c->ooo.r[i].left, c->ooo.r[i].right};
	}
	return n;
}

/* [left, right) is no part of, nor next to, the two blocks that came last. */
bool sack_is_third(const struct tcp_conn *c, uint32_t left, uint32_t right)
{
	struct sack_block b[TCP_SACK_BLOCKS];
	unsigned first = c->dsack.left != c->dsack.right, n = sack_blocks(c, b);
	if (n < first + 2)
		return false;
	for (unsigned i = first; i < first + 2; i++) {
		if (SEQ_LEQ(b[i].left, right) && SEQ_LEQ(left, b[i].right))
			return false;
	}
	return true;
}

/* RFC 2883 §4: the first block lies below the cumulative ACK, or within the second block. */
static bool is_dsack(const struct tcp_segment *seg)
{
	const struct sack_block *b = seg->sack;
	if (SEQ_LEQ(b[0].right, seg->ack))
		return true;
	return seg->n_sack > 1 && SEQ_GEQ(b[0].left, b[1].left) && SEQ_LEQ(b[0].right, b[1].right);
}

/* Of record i, the place where a segment begins next to `seq`: behind it, or before it. */
static uint32_t segment_edge(const struct tcp_conn *c, uint32_t i, uint32_t seq, bool behind)
{
	const struct sent *r = sent_peek(&c->sent, i);
	uint32_t start = i ? seq_max(sent_peek(&c->sent, i - 1)->end, c->snd_una) : c->snd_una, into = seq - start;
	if (r->bits & SENT_UNEVEN || SEQ_LT(seq, start) || into % c->mss == 0)
		return seq;
	return behind ? seq_min(start + into / c->mss * c->mss + c->mss, r->end) : start + into / c->mss * c->mss;
}

uint32_t sack_last_segment(const struct tcp_conn *c)
{
	if (!c->sent.n)
		return c->snd_una;
	uint32_t last = c->sent.n - 1, start = last ? sent_peek(&c->sent, last - 1)->end : c->snd_una, text_end = c->snd_nxt - c->fin_sent;
	if (SEQ_GEQ(start, text_end)) /* the FIN alone */
		return text_end;
	if (sent_peek(&c->sent, last)->bits & SENT_UNEVEN)
		return seq_max(c->snd_una, text_end - c->mss);
	return segment_edge(c, last, text_end - 1, false);
}

/*
 * As Linux, a segment was delivered when all of it is told: a peer that tells a byte of it must not start a recovery
 * with that. False: no segment is whole.
 */
static bool whole_segments(const struct tcp_conn *c, struct sack_block *b)
{
	uint32_t first = sent_find(&c->sent, b->left), last = sent_find(&c->sent, b->right - 1);
	if (first < c->sent.n)
		b->left = segment_edge(c, first, b->left, true);
	if (last < c->sent.n && b->right != sent_peek(&c->sent, last)->end)
		b->right = segment_edge(c, last, b->right, false);
	return SEQ_LT(b->left, b->right);
}

/* The parts of [left, right) that are new to the scoreboard were delivered just now. */
static void block_input(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg, struct sack_block *b)
{
	if (!whole_segments(c, b))
		return;
	struct piece_walk w = piece_walk(b->left, b->right);
	struct piece p;
	if (!piece_next(c, &w, &p)) /* usually it says what the ACK before said */
		return;
	/* as if the peer had not said it: else the next ACK would deliver it once more */
	if (!ranges_fits(&c->sacked, c->stack->memory, b->left, b->right))
		return;
	c->ack_sacked = true;
	rack_delivered(c, now, seg, b->left, b->right);
	ranges_add(&c->sacked, c->stack->memory, b->left, b->right);
	sent_cut(&c->sent, c->stack->memory, c->snd_una, b->left);
	sent_cut(&c->sent, c->stack->memory, c->snd_una, b->right);
}

static bool is_usable(struct tcp_conn *c, const struct sack_block *b)
{
	if (!SEQ_LT(b->left, b->right) || SEQ_GT(b->right, c->snd_nxt)) {
		TCP_COUNT(c, RcvdBadSack);
		return false;
	}
	return SEQ_GEQ(b->left, c->snd_una) && SEQ_GT(b->right, c->snd_una); /* else older than this ACK */
}

/* The lowest first: what one ACK reports did not overtake what the same ACK reports. */
static void sort_blocks(struct sack_block *b, unsigned n)
{
	for (unsigned i = 1; i < n; i++) {
		for (unsigned j = i; j && SEQ_LT(b[j].left, b[j - 1].left); j--) {
			struct sack_block higher = b[j - 1];
			b[j - 1] = b[j];
			b[j] = higher;
		}
	}
}

uint32_t sack_input(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	struct sack_block b[TCP_SACK_BLOCKS];
	unsigned n = 0;
	uint32_t dsack = 0;
	for (unsigned i = 0; i < seg->n_sack; i++) {
		if (i == 0 && SEQ_LT(seg->sack[0].left, seg->sack[0].right) && is_dsack(seg)) {
			TCP_COUNT(c, DSACKRecv);
			dsack = seg->sack[0].right - seg->sack[0].left;
		} else if (is_usable(c, &seg->sack[i])) {
			b[n++] = seg->sack[i];
		}
	}
	sort_blocks(b, n);
	for (unsigned i = 0; i < n; i++)
		block_input(c, now, seg, &b[i]);
	return dsack;
}

/* RFC 6675 §4 IsLost: DupThresh discontiguous ranges, or more than (DupThresh - 1) * SMSS bytes, were SACKed above. */
bool sack_is_lost(const struct tcp_conn *c, uint32_t seq)
{
	uint32_t above = 0, bytes = 0;
	for (uint32_t i = c->sacked.n; i-- > 0 && SEQ_GT(c->sacked.r[i].left, seq);) {
		above++;
		bytes += c->sacked.r[i].right - c->sacked.r[i].left;
		if (above >= c->kept.reordering || bytes > (c->kept.reordering - 1) * (uint32_t)c->mss)
			return true;
	}
	return false;
}
