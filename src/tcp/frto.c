/*
 * F-RTO (RFC 5682), as Linux: was a timeout spurious? Its steps, with SACK (§3.1) and without (§2.1).
 *
 * After the timeout's retransmission, an ACK that moves SND.UNA lets new text go instead of what seems lost (step 2.b).
 * What is acknowledged next decides: something that was sent before the timeout, and not again, has arrived (step 3.b:
 * nothing was lost), or a duplicate ACK or SACK tells of the new text alone (step 3.a).
 *
 * Owns c->frto: it is not decided yet; and c->frto_wait: new text goes first, nothing is sent again, until the next
 * ACK.
 */
#include "tcp/tcp_int.h"

void frto_begin(struct tcp_conn *c, bool fresh)
{
	c->frto = c->stack->config.frto && (fresh || c->rtx_count > 1);
}

static bool may_send_new(const struct tcp_conn *c)
{
	return snd_unsent(c) && SEQ_GT(c->snd_una + c->snd_wnd, c->snd_nxt);
}

bool frto_on_ack(struct tcp_conn *c, uint32_t acked, bool dup)
{
	c->frto_wait = false;
	if (!c->frto)
		return false;
	if (c->ack_orig && (c->sack_on || !c->rate.repeated)) { /* step 3.b */
		TCP_COUNT(c, SpuriousRTOs);
		undo_now(c);
		return true;
	}
	if (SEQ_GT(c->snd_nxt, c->recovery_point)) {
		if (c->ack_sacked || dup) /* step 3.a */
			c->frto = false;
	} else if (acked && SEQ_LT(c->snd_una, c->recovery_point)) {
		c->recovery_point = c->snd_nxt;
		c->frto = c->frto_wait = may_send_new(c); /* step 2.b */
	}
	return false;
}

bool frto_settle(struct tcp_conn *c)
{
	if (!c->frto_wait || SEQ_GT(c->snd_nxt, c->recovery_point))
		return false;
	c->frto = c->frto_wait = false;
	return true;
}
