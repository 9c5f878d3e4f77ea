/*
 * DCTCP (RFC 8257): the window is reduced by the share of marked bytes in a round trip, not by half. As Linux's, with
 * its arithmetic (alpha in 1/1024).
 *
 * The receiver echoes each segment's mark (§3.2): when the state changes, what was acknowledged late until now is
 * acknowledged at once with the old one. The sender reckons alpha once a window (§3.3). Growth and losses are Reno's
 * (§3.4, §3.5). Without ECN it is Reno, called "dctcp-reno". Owns struct dctcp in cc_state. No timers.
 */
#include "tcp/tcp_int.h"

#define ALPHA_SHIFT 10 /* §3.3: alpha = 1024 is all */
#define G_SHIFT     4  /* §4.2: g = 1/16 */

struct dctcp {
	uint64_t delivered, delivered_ce; /* of the connection, when the window began */
	uint32_t window_end;              /* §3.3 */
	uint32_t alpha;
	bool ce; /* §3.2: DCTCP.CE */
};

static const struct tcp_cc_ops dctcp_without_ecn;

static struct dctcp *dctcp_of(struct tcp_conn *c)
{
	_Static_assert(sizeof(struct dctcp) <= TCP_CC_UNDO_WORDS * sizeof *c->cc_state, "undo.c keeps less");
	return (struct dctcp *)c->cc_state;
}

static void start_window(struct tcp_conn *c, struct dctcp *s)
{
	s->window_end = c->snd_nxt;
	s->delivered = c->delivered;
	s->delivered_ce = c->delivered_ce;
}

static void dctcp_init(struct tcp_conn *c, int64_t now)
{
	struct dctcp *s = dctcp_of(c);
	c->cwnd_acked = 0;
	if (!c->ecn_on) {
		c->cc = &dctcp_without_ecn;
		return;
	}
	*s = (struct dctcp){.alpha = 1 << ALPHA_SHIFT};
	start_window(c, s);
}

/* §3.2 */
static void dctcp_on_text_ecn(struct tcp_conn *c, bool ce)
{
	struct dctcp *s = dctcp_of(c);
	if (s->ce != ce) {
		if (c->delack_at != TIME_NEVER) {
			c->ack_prior_due = true;
			c->ack_prior = c->rcv_nxt;
			c->ack_prior_echo = s->ce;
		}
		c->ack_due = true;
	}
	s->ce = c->ecn_echo = ce;
}

/* §3.3: alpha = (1 - g) * alpha + g * M */
static void dctcp_on_delivered(struct tcp_conn *c, int64_t now)
{
	struct dctcp *s = dctcp_of(c);
	if (SEQ_LT(c->snd_una, s->window_end))
		return;
	uint64_t all = c->delivered - s->delivered, marked = c->delivered_ce - s->delivered_ce;
	uint32_t less = s->alpha >> G_SHIFT;
	s->alpha -= less ? less : s->alpha;
	if (marked)
		s->alpha = min_u32(s->alpha + (marked << (ALPHA_SHIFT - G_SHIFT)) / (all ? all : 1), 1 << ALPHA_SHIFT);
	start_window(c, s);
}

/* §3.3: cwnd = cwnd * (1 - alpha / 2) */
static uint32_t dctcp_ssthresh(struct tcp_conn *c, int64_t now, uint32_t flight)
{
	uint32_t less = (uint64_t)c->cwnd * dctcp_of(c)->alpha >> (ALPHA_SHIFT + 1);
	/* §3.5: a loss is answered as by Reno. */
	uint32_t left = c->ack_ece ? c->cwnd - less : c->cwnd / 2;
	return max_u32(left, TCP_LOSS_WINDOW_SEGS * c->mss);
}

const struct tcp_cc_ops tcp_cc_dctcp = {
	.name = "dctcp",
	.needs_ecn = true,
	.init = dctcp_init,
	.on_ack = reno_grow,
	.on_delivered = dctcp_on_delivered,
	.on_text_ecn = dctcp_on_text_ecn,
	.ssthresh = dctcp_ssthresh,
};

static const struct tcp_cc_ops dctcp_without_ecn = {
	.name = "dctcp-reno",
	.init = dctcp_init,
	.on_ack = reno_grow,
	.ssthresh = reno_ssthresh,
};
