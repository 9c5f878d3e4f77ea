/* What others may know of a connection, and its options. */
#include "tcp/tcp_int.h"

#include <string.h>

enum tcp_state tcp_state(const struct tcp_conn *c)
{
	return c->state;
}

const struct tcp_options *tcp_get_options(const struct tcp_conn *c)
{
	return &c->options;
}

bool tcp_is_opening(const struct tcp_conn *c)
{
	return c->state == TCPS_SYN_SENT || (c->state == TCPS_SYN_RECEIVED && !c->fastopen_early);
}

void tcp_fastopen_accepted(struct tcp_conn *c)
{
	c->fastopen_accepted = true;
}

int tcp_error(const struct tcp_conn *c)
{
	return c->error;
}

void tcp_tell_error(struct tcp_conn *c, int err)
{
	c->error = err;
	c->error_soft = 0; /* told once */
	c->events |= TCP_EV_ERROR;
}

int tcp_take_error(struct tcp_conn *c)
{
	int err = c->error;
	c->error = 0;
	return err;
}

int tcp_take_any_error(struct tcp_conn *c)
{
	int err = tcp_take_error(c);
	if (err)
		return err;
	err = c->error_soft;
	c->error_soft = 0;
	return err;
}

void tcp_put_error(struct tcp_conn *c, int err)
{
	c->error = err;
}

uint32_t tcp_take_events(struct tcp_conn *c)
{
	uint32_t events = c->events;
	c->events = 0;
	return events;
}

/* Of a connection that ended, as Linux: what it did not get rid of. */
static uint32_t left_behind(const struct tcp_conn *c, uint32_t from)
{
	return SEQ_GT(c->snd_base, from) ? c->snd_base - from : 0;
}

uint32_t tcp_outq(const struct tcp_conn *c)
{
	if (c->state == TCPS_CLOSED)
		return left_behind(c, c->snd_una);
	return c->snd.len + (c->fin_wanted && !c->fin_acked);
}

uint32_t tcp_outq_unsent(const struct tcp_conn *c)
{
	if (c->state == TCPS_CLOSED)
		return left_behind(c, c->snd_nxt);
	return snd_unsent(c) + (c->fin_wanted && !c->fin_sent && (!c->fastopen_early || c->orphan)); /* a shutdown waits for the handshake */
}

uint32_t tcp_send_end(const struct tcp_conn *c)
{
	return snd_end(c);
}

bool tcp_is_delivered(const struct tcp_conn *c, uint32_t end)
{
	return c->state == TCPS_CLOSED || SEQ_GEQ(c->snd_una, end);
}

uint32_t tcp_unsent_bytes(const struct tcp_conn *c)
{
	return snd_unsent(c);
}

uint8_t tcp_last_word(const struct tcp_conn *c, uint32_t *seq, uint32_t *ack)
{
	*seq = c->snd_nxt;
	*ack = c->rcv_nxt;
	if (c->state == TCPS_SYN_RECEIVED)
		return SEG_RST;
	if ((c->state != TCPS_ESTABLISHED && c->state != TCPS_CLOSE_WAIT) || c->fin_sent)
		return 0;
	return SEG_ACK | (snd_unsent(c) || tcp_readable_bytes(c) ? SEG_RST : SEG_FIN);
}

uint32_t tcp_unacked_bytes(const struct tcp_conn *c)
{
	return c->snd.len;
}

bool tcp_peer_fin(const struct tcp_conn *c)
{
	return conn_eof(c);
}

bool tcp_send_closed(const struct tcp_conn *c)
{
	return c->fin_wanted;
}

bool tcp_is_closed_late(const struct tcp_conn *c)
{
	return c->state == TCPS_TIME_WAIT && c->orphan && c->closed_late;
}

bool tcp_peer_answers(const struct tcp_conn *c, int64_t now, int64_t us)
{
	if (now - c->last_rcvd_us < us)
		return true;
	if (!timer_persists(c))
		return false;
	return !c->rtx_count || (c->rtx_count == 1 && now - (c->rtx_at - rtt_backed_off(c)) < us); /* the first unanswered one went out so lately */
}

bool tcp_is_held(const struct tcp_conn *c)
{
	return c->fin_held;
}

bool tcp_close_request_unheard(const struct tcp_conn *c)
{
	return c->cr_left_out && !c->passive;
}

bool tcp_close_request_declined(const struct tcp_conn *c)
{
	return c->cr_offered && !c->cr_on && !c->passive;
}

bool tcp_rcvd_fin(const struct tcp_conn *c, uint32_t *seq)
{
	*seq = c->rcv_nxt - 1;
	return c->peer_fin;
}

int tcp_first_fin(const struct tcp_conn *c)
{
	return c->first_fin;
}

enum close_reason tcp_close_reason(const struct tcp_conn *c)
{
	return c->close_reason;
}

void tcp_options_default(struct tcp_options *opt)
{
	*opt = (struct tcp_options){
		.rcvlowat_bytes = 1,
		.keepidle_us = 7200 * USEC_PER_SEC, /* net.ipv4.tcp_keepalive_time, _intvl, _probes */
		.keepintvl_us = 75 * USEC_PER_SEC,
		.keepcnt = 9,
	};
}

size_t tcp_cc_info(const struct tcp_conn *c, uint32_t out[TCP_CC_INFO_WORDS])
{
	return c->cc->info && tcp_is_synchronized(c) ? c->cc->info(c, out) : 0;
}

/* cwnd and ssthresh stay, as in Linux; what the algorithm before knew does not. */
static void change_cc(struct tcp_conn *c, int64_t now, const struct tcp_cc_ops *cc)
{
	c->cc = cc;
	memset(c->cc_state, 0, sizeof c->cc_state);
	if (tcp_is_synchronized(c) || c->fastopen_early) /* else conn_establish does */
		cc->init(c, now);
}

void tcp_set_options(struct tcp_conn *c, int64_t now, const struct tcp_options *opt)
{
	bool keepalive = opt->keepalive != c->options.keepalive ||
			 opt->keepidle_us != c->options.keepidle_us ||
			 opt->keepintvl_us != c->options.keepintvl_us;
	uint32_t lowat = c->options.rcvlowat_bytes;
	/*
	 * TCP_NODELAY set, TCP_CORK cleared: what they held back goes now; TCP_NODELAY does it over TCP_CORK, too, as
	 * in Linux's tcp_push_pending_frames.
	 */
	if ((opt->nodelay && !c->options.nodelay) || (!opt->cork && c->options.cork)) {
		c->push_due = snd_unsent(c) != 0;
		c->msg_more = false;
	}
	if (opt->cc && opt->cc != c->cc)
		change_cc(c, now, opt->cc);
	c->options = *opt;
	pace_init(c);
	if (opt->user_rcvbuf && opt->rcvbuf_bytes)
		c->rcvbuf_limit = opt->rcvbuf_bytes;
	if (opt->rcvlowat_bytes != lowat)
		window_fits_lowat(c);
	if (opt->user_sndbuf && opt->sndbuf_bytes)
		c->sndbuf_limit = opt->sndbuf_bytes;
	if (keepalive && tcp_is_synchronized(c))
		timer_keepalive(c, now);
	send_wake(c);
}

static enum close_reason fin_reason(const struct tcp_conn *c)
{
	if (c->outcome_told && c->close_end == CLOSE_END_EXPIRED)
		return CLOSE_REASON_EXPIRED;
	if (c->outcome_told && c->close_end == CLOSE_END_PEER_DATA)
		return CLOSE_REASON_DATA;
	return c->close_reason;
}

void tcp_get_status(const struct tcp_conn *c, struct tcp_status *out)
{
	*out = (struct tcp_status){
		.state = c->state,
		.iss = c->iss,
		.irs = c->irs,
		.snd_una = c->snd_una,
		.snd_nxt = c->snd_nxt,
		.snd_wnd = c->snd_wnd,
		.rcv_nxt = c->rcv_nxt,
		.rcv_wnd = rcv_wnd(c),
		.snd_wscale = c->snd_wscale,
		.rcv_wscale = c->rcv_wscale,
		.timestamps = c->ts_on,
		.sack = c->sack_on,
		.wscale = c->wscale_on,
		.close_request = c->cr_on,
		.mss_snd = c->mss,
		.mss_advertised = c->mss_advertised,
		.cwnd_bytes = c->cwnd,
		.ssthresh_bytes = c->ssthresh,
		.in_flight_bytes = snd_flight(c),
		.srtt_us = c->srtt_us,
		.rttvar_us = c->rttvar_us,
		.rto_us = rtt_backed_off(c),
		.min_rtt_us = c->min_rtt_us,
		.handshake_rtt_us = c->handshake_rtt_us,
		.bytes_in = c->bytes_in,
		.bytes_out = c->bytes_out,
		.bytes_acked = c->bytes_acked,
		.bytes_retrans = c->bytes_retrans,
		.segs_in = c->segs_in,
		.segs_out = c->segs_out,
		.data_segs_in = c->data_segs_in,
		.data_segs_out = c->data_segs_out,
		.total_retrans = c->total_retrans,
		.rto_events = c->rto_events,
		.fast_recoveries = c->fast_recoveries,
		.backoff = c->backoff,
		.rcvbuf_bytes = c->rcvbuf_limit,
		.sndbuf_bytes = c->sndbuf_limit,
		.readable_bytes = tcp_readable_bytes(c),
		.unsent_bytes = snd_unsent(c),
		.ooo_bytes = ranges_total(&c->ooo),
		.last_data_sent_us = c->last_data_sent_us,
		.last_data_rcvd_us = c->last_data_rcvd_us,
		.last_ack_rcvd_us = c->last_ack_rcvd_us,
		.reset = c->reset,
		.fin_reason = fin_reason(c),
		.hold_us = c->fin_wanted ? c->hold_us : 0,
		.quickack = !c->conversing,
		.cc_name = c->cc ? c->cc->name : "",
		.ecn = c->ecn_on,
		.ecn_seen = c->ecn_seen,
		.fastopen = c->fastopen,
		.syn_data = c->syn_data,
		.fastopen_fail = c->fastopen_fail,
	};
}
