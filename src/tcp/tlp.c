/*
 * Tail loss probe (RFC 8985 §7): when the end of a flight gets no answer, one segment goes after two round trips, so
 * that its ACK tells RACK what was lost, instead of a timeout that sets everything back. Its names are the RFC's.
 *
 * One probe at a time: until its answer, or until the flight is over. tlp_at is its timer; it never expires later than
 * rtx_at, goes first, and rtx_at is armed anew when the probe leaves.
 */
#include "tcp/tcp_int.h"

#define WC_DEL_ACK_US (200 * USEC_PER_MSEC) /* §7.2 TLP.max_ack_delay */
#define PTO_MIN_TICKS 2                     /* on top of two round trips: Linux's TCP_TIMEOUT_MIN, and what its timers add */
#define PTO_INIT_US   USEC_PER_SEC          /* nothing was measured yet */

/*
 * The timeout that the probe is to forestall: from now on after an ACK of new data, else from when the oldest segment
 * left; as Linux, which has one timer for both.
 */
static int64_t timeout_at(const struct tcp_conn *c, int64_t now, bool acked)
{
	int64_t at = (acked || !c->sent.n ? now : sent_peek(&c->sent, 0)->at_us) + rtt_backed_off(c);
	return at > now ? at : TIME_NEVER;
}

/* §7.2: FlightSize is one segment: its ACK may be delayed. Each small segment of several is one. */
static bool is_one_segment(const struct tcp_conn *c)
{
	return c->sent.n <= 1 && snd_flight(c) - c->fin_sent <= c->mss;
}

void tlp_schedule(struct tcp_conn *c, int64_t now, bool acked)
{
	c->tlp_at = TIME_NEVER;
	c->tlp_due = false;
	unsigned wanted = c->stack->config.early_retrans;
	if ((wanted != 3 && wanted != 4) || !c->sack_on || c->loss != TCP_LOSS_OPEN || c->sacked.n || !snd_flight(c) || c->rtx_at == TIME_NEVER ||
	    timer_persists(c) || !tcp_may_transmit(c) || c->fastopen_early || SEQ_GT(c->snd_nxt, c->snd_una + c->snd_wnd))
		return;
	int64_t pto = PTO_INIT_US;
	if (c->srtt_us)
		pto = 2 * (int64_t)c->srtt_us + (is_one_segment(c) ? WC_DEL_ACK_US : PTO_MIN_TICKS * c->stack->config.tick_us);
	c->tlp_at = min_time(now + pto, timeout_at(c, now, acked)) + pace_delay(c, now);
	if (c->rtx_at < c->tlp_at) {
		if (c->options.user_timeout_us)
			c->tlp_at = c->rtx_at;
		else
			c->rtx_at = c->tlp_at;
	}
}

/* §7.3: TLP_send_probe; output sends it. */
void tlp_expired(struct tcp_conn *c, int64_t now)
{
	c->tlp_at = TIME_NEVER;
	if (c->loss != TCP_LOSS_OPEN || !snd_flight(c) || timer_persists(c) || !tcp_may_transmit(c))
		return;
	c->tlp_due = !c->tlp_out; /* one at a time; Linux's timeout is put off all the same */
	c->rtx_at = now + rtt_backed_off(c);
}

bool tlp_next(const struct tcp_conn *c, struct out *o)
{
	if (!c->tlp_due)
		return false;
	uint32_t mss = output_mss(c), edge = c->snd_una + c->snd_wnd;
	uint32_t wnd = SEQ_GT(edge, c->snd_nxt) ? edge - c->snd_nxt : 0;
	uint32_t len = min_u32(min_u32(snd_unsent(c), wnd), mss);
	if (len) {
		*o = (struct out){.kind = OUT_TLP, .seq = c->snd_nxt, .len = len};
		return true;
	}
	uint32_t sent = snd_flight(c) - c->fin_sent; /* the last segment again */
	len = min_u32(min_u32(sent, mss), c->snd_nxt - c->fin_sent - sack_last_segment(c));
	if (SEQ_GT(c->snd_nxt, edge)) /* RFC 9293 SHLD-16: the peer took window back */
		return false;
	*o = (struct out){.kind = OUT_TLP, .seq = c->snd_una + sent - len, .len = len, .fin = c->fin_sent};
	return true;
}

void tlp_sent(struct tcp_conn *c, bool again)
{
	TCP_COUNT(c, LossProbes);
	c->tlp_due = false;
	c->tlp_out = true;
	c->tlp_again = again;
	c->tlp_end = c->snd_nxt;
}

/* §7.4.2: TLP_process_ack. */
void tlp_on_ack(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg, bool dsack, bool dup)
{
	if (!c->tlp_out || SEQ_LT(seg->ack, c->tlp_end))
		return;
	bool repaired = false;
	if (!c->tlp_again || dsack) {
		c->tlp_out = false; /* new data, or both copies arrived */
	} else if (SEQ_GT(seg->ack, c->tlp_end)) {
		c->tlp_out = false;
		repaired = true;
	} else if (dup && !seg->n_sack) {
		c->tlp_out = false;
	}
	if (repaired && c->loss == TCP_LOSS_OPEN) {
		TCP_COUNT(c, LossProbeRecovery);
		recovery_reduce(c, now);
	}
}
