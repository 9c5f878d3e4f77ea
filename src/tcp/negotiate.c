/*
 * The options of the SYN exchange: MSS (RFC 9293 §3.7.1, RFC 6691), window scale and timestamps (RFC 7323),
 * SACK-permitted (RFC 2018), close request. A feature is on when both SYNs carried it. Before the peer's SYN, `…_on`
 * says what we offer.
 */
#include "tcp/tcp_int.h"

#define MSS_LEAST 36 /* the 68 bytes that every path takes, less headers */
#define RCV_MSS_START TCP_MSS_DEFAULT_V4 /* until the peer's segments are seen */

static uint8_t wscale_for(uint32_t bytes)
{
	uint8_t scale = 0;
	while (scale < TCP_WSCALE_MAX && (bytes >> scale) > UINT16_MAX)
		scale++;
	return scale;
}

void negotiate_ours(struct tcp_conn *c)
{
	const struct tcp_config *config = &c->stack->config;
	c->ts_on = config->timestamps != 0;
	c->sack_on = config->sack;
	c->wscale_on = config->window_scaling;
	c->cr_on = config->close_request;
	ecn_offer(c);
	/* The scale cannot change later: it is chosen for what autotuning or the application may reach. */
	uint32_t most = c->options.user_rcvbuf ? window_space(c->rcvbuf_limit)
					       : max_u32(max_u32(config->rcvbuf_max_bytes, config->rmem_core_bytes), c->rcvbuf_limit);
	if (c->options.window_clamp)
		most = min_u32(most, c->options.window_clamp);
	c->rcv_wscale = c->wscale_on ? wscale_for(most) : 0;
	if (c->options.maxseg && c->options.maxseg < c->mss_advertised)
		c->mss_advertised = c->options.maxseg;
	c->rcv_mss = c->mss_advertised < RCV_MSS_START ? c->mss_advertised : RCV_MSS_START;
	c->mss_peer = ip_addr_is_v4(&c->key.raddr) ? TCP_MSS_DEFAULT_V4 : TCP_MSS_DEFAULT_V6;
	negotiate_mss(c);
	c->cwnd = c->mss;
}

/*
 * Half the largest window of the peer, so that a small one is never waited for as a whole: as Linux's
 * tcp_bound_to_half_wnd.
 */
static uint32_t within_half_window(const struct tcp_conn *c, uint32_t mss)
{
	uint32_t most = c->max_snd_wnd > TCP_MSS_DEFAULT_V4 ? c->max_snd_wnd / 2 : c->max_snd_wnd;
	if (!most || mss <= most)
		return mss;
	return max_u32(most, MSS_LEAST);
}

uint32_t negotiate_room(const struct tcp_conn *c, uint16_t mss_peer)
{
	uint32_t mss = mss_peer < c->mss_path ? mss_peer : c->mss_path;
	if (c->options.maxseg && c->options.maxseg < mss)
		mss = c->options.maxseg;
	return max_u32(mss, max_u32(TCP_MSS_MIN, c->stack->config.min_snd_mss));
}

/* What a segment may carry (RFC 9293 §3.7.1: Eff.snd.MSS = min(SendMSS+20, MMS_S) - TCPhdrsize - IPoptionsize). */
void negotiate_mss(struct tcp_conn *c)
{
	c->mss = within_half_window(c, mtu_probe_bound(c, negotiate_room(c, c->mss_peer)) - (c->ts_on ? TCP_OPT_TS_BYTES : 0));
}

/* The peer's SYN or SYN-ACK. */
void negotiate_theirs(struct tcp_conn *c, const struct tcp_segment *syn, int64_t now)
{
	if (syn->has & SEG_HAS_MSS) /* else the default stays: MUST-15 */
		c->mss_peer = syn->mss;
	c->sack_on = c->sack_on && (syn->has & SEG_HAS_SACK_PERMITTED);
	c->ts_on = c->ts_on && (syn->has & SEG_HAS_TIMESTAMPS);
	c->cr_on = c->cr_on && (syn->has & SEG_HAS_CLOSE_CAPABLE);
	ecn_agree(c, syn);
	if (c->ts_on) {
		c->ts_recent = syn->ts_val;
		c->ts_recent_age_us = now;
	}
	c->wscale_on = c->wscale_on && (syn->has & SEG_HAS_WSCALE);
	if (!c->wscale_on)
		c->rcv_wscale = 0;
	else
		c->snd_wscale = syn->wscale < TCP_WSCALE_MAX ? syn->wscale : TCP_WSCALE_MAX;
	negotiate_mss(c);

	c->irs = syn->seq;
	c->rcv_nxt = c->rcv_wup = c->irs + 1;
	c->rcv_adv = c->rcv_nxt + window_initial(c);
	c->snd_wnd = syn->window; /* RFC 7323 §2.2: never scaled in a SYN */
	c->max_snd_wnd = c->snd_wnd;
	c->snd_wl1 = syn->seq;
	c->snd_wl2 = syn->flags & SEG_ACK ? syn->ack : c->iss;
}
