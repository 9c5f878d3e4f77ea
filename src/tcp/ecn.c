/*
 * Explicit congestion notification (RFC 3168): routers mark packets (CE) instead of dropping them, the receiver echoes
 * it (ECE) until the sender says that it has slowed down (CWR).
 *
 * Agreed in the SYN exchange (§6.1.1). A SYN that is repeated does not ask any more, since something on the path may
 * drop those that do; a SYN whose packet is marked as capable itself is refused (as Linux: a host whose bits something
 * sets at random), unless it asks for RFC 9768's feedback as well, whose SYNs may be. New text is sent as ECT(0); what
 * is repeated and bare ACKs are not (§6.1.4, §6.1.5). An algorithm that needs ECN (DCTCP) has every packet capable,
 * those of the SYN exchange, too, and decides itself what is echoed.
 *
 * What the sender does about an echo is recovery.c's: once per round trip, as if something had been lost. Owns the
 * ecn_… fields of the connection. No timers.
 */
#include "tcp/tcp_int.h"

#define QUICKACKS_AFTER_CE 2 /* the sender's window may be a segment: its ACKs are not delayed for so long; as Linux */

/* Ours to ask for it. (Linux's 3 and 4 stand for AccECN, where this is what it asks for besides, or falls back to.) */
static bool may_ask(const struct tcp_conn *c)
{
	uint8_t ecn = c->stack->config.ecn;
	return ecn == TCP_ECN_ON || ecn == TCP_ECN_ACCURATE || ecn == TCP_ECN_ACCURATE_IN || c->ecn_route || c->cc->needs_ecn;
}

void ecn_offer(struct tcp_conn *c)
{
	c->ecn_on = may_ask(c);
}

/* §6.1.1: an ECN-setup SYN has both flags, an ECN-setup SYN-ACK has ECE only. */
void ecn_agree(struct tcp_conn *c, const struct tcp_segment *syn)
{
	bool ece = syn->flags & SEG_ECE, cwr = syn->flags & SEG_CWR;
	if (!c->passive) {
		bool answered = syn->flags & SEG_ACK ? ece && !cwr : ece && cwr;
		c->ecn_on = c->ecn_on && answered;
		return;
	}
	bool allowed = c->stack->config.ecn != TCP_ECN_OFF || c->ecn_route;
	bool believed = syn->ecn == ECN_NOT_ECT || (syn->flags & (SEG_AE | SEG_RESERVED));
	c->ecn_on = ece && cwr && ((believed && allowed) || c->cc->needs_ecn);
}

static void output_syn(const struct tcp_conn *c, struct tcp_segment *seg)
{
	if (c->ecn_on && (seg->flags & SEG_ACK))
		seg->flags |= SEG_ECE;
	else if (c->ecn_on && !(c->syn_retransmitted && c->stack->config.ecn_fallback))
		seg->flags |= SEG_ECE | SEG_CWR;
	if (c->ecn_on && c->cc->needs_ecn)
		seg->ecn = ECN_ECT_0;
}

void ecn_output(struct tcp_conn *c, struct tcp_segment *seg)
{
	if (seg->flags & SEG_SYN) {
		output_syn(c, seg);
		return;
	}
	if (!c->ecn_on)
		return;
	bool fresh = seg->payload_len && seg->seq == c->snd_nxt;
	if (fresh || c->cc->needs_ecn)
		seg->ecn = ECN_ECT_0;
	if (fresh && c->ecn_cwr_due) { /* §6.1.2: "on the first new data packet sent after the window reduction" */
		c->ecn_cwr_due = false;
		seg->flags |= SEG_CWR;
	}
	if (c->ecn_echo)
		seg->flags |= SEG_ECE;
}

void ecn_input_any(struct tcp_conn *c, const struct tcp_segment *seg)
{
	if (!c->ecn_on && seg->ecn != ECN_NOT_ECT)
		c->ecn_seen = true;
}

/* §6.1.3. Nothing but text is looked at: ACKs are not capable. */
void ecn_input_text(struct tcp_conn *c, const struct text *t)
{
	if (!c->ecn_on)
		return;
	if (t->cwr) {
		c->ecn_echo = false;
		c->ack_due = true; /* its window may be one segment now */
	}
	if (t->ecn == ECN_NOT_ECT) {
		if (c->ecn_seen) /* most likely it was sent again */
			delack_quick(c, QUICKACKS_AFTER_CE);
		return;
	}
	c->ecn_seen = true;
	if (c->cc->on_text_ecn)
		c->cc->on_text_ecn(c, t->ecn == ECN_CE);
	if (t->ecn == ECN_CE && !c->ecn_echo) {
		delack_quick(c, QUICKACKS_AFTER_CE);
		c->ecn_echo = true;
	}
}

bool ecn_is_echo(const struct tcp_conn *c, const struct tcp_segment *seg)
{
	return c->ecn_on && (seg->flags & (SEG_ECE | SEG_SYN)) == SEG_ECE;
}

void ecn_reduced(struct tcp_conn *c)
{
	c->ecn_cwr_due = c->ecn_on;
}
