/*
 * The TCP core: one connection, RFC 9293.
 *
 * Owns: what is not in struct tcp_conn itself: the two rings (snd, rcv), the range sets (ooo, sacked), the chunks of
 * `ahead`, the records of `sent`, `undo`; blocks of stack->memory; none of them while nothing is unacknowledged, unread
 * or missing. tcp_fini gives them back.
 *
 * How it turns. tcp_input (input*.c) and the verbs (send.c, receive.c, close.c) never emit: they change the sequence
 * variables and set what is owed (`…_due` flags). tcp_output (output.c) asks output_next() again and again and emits
 * what it names; tcp_tick (timers.c) turns a due timer into what is owed. tcp_next_deadline asks the same
 * output_next(), so that "something may go" has one definition.
 *
 * Invariants
 *  - snd_una <= snd_nxt; snd holds [snd_base, snd_base + len): snd_base is snd_una, but iss + 1 while the SYN is
 *    unacknowledged,
 *    and one less once the FIN is acknowledged. snd_nxt never goes back but for one case: a window probe's octet.
 *  - rcv holds [rcv_nxt − len, rcv_nxt) (one less behind a FIN); `ahead` what `ooo` names.
 *  - rcv_adv, the window's right edge as the peer knows it, never goes back (RFC 9293 SHLD-14), but by
 *    tcp_shrink_window.
 *  - CLOSED: no timer, no buffer but unread data.
 *
 * Timers: rtx_at (SYN, retransmission, persist: timer_persists tells), tlp_at, reo_at, pace_ns, delack_at, cork_at,
 * keep_at, hold_at, cr_at, wait_at. Limits: RANGES_MAX holes either way; SENT_MAX records; rcvbuf_limit (a quarter
 * more, as memory is taken, the set of holes included) and sndbuf_limit; answers to bad segments (ack_challenge).
 * References: RFC 9293, 5681, 6582, 6675, 8985, 6937, 3522, 6298, 7323, 2018, 2883, 5961, 6093, 6928, 2861, 3042.
 */
#include "tcp/tcp_int.h"

#include <errno.h>
#include <string.h>


static int open_check(const struct tcp_open *open)
{
	if (open->mss_path < TCP_MSS_MIN || open->mss_advertised < TCP_MSS_MIN || !open->cc)
		return -EINVAL;
	return 0;
}

static void take_route(struct tcp_conn *c, const struct tcp_open *open)
{
	uint32_t segs = open->initial_window_segs ? open->initial_window_segs : c->stack->config.initial_window_segs;
	c->initial_window_segs = min_u32(segs, UINT8_MAX);
	c->initial_rcv_segs = min_u32(open->initial_rcv_segs, UINT8_MAX);
	c->rto_min_us = open->rto_min_us;
	c->route_quickack = open->quickack;
	c->conversing = open->options.conversing;
	if (!c->options.window_clamp)
		c->options.window_clamp = open->window_clamp;
}

static void conn_init(struct tcp_conn *c, struct tcp_stack *stack, int64_t now,
		      const struct tcp_open *open)
{
	memset(c, 0, sizeof *c);
	c->stack = stack;
	c->key = open->key;
	c->options = open->options;
	c->cc = open->options.cc ? open->options.cc : open->cc;
	c->policy = open->policy;
	c->mss_advertised = open->mss_advertised;
	c->mss_path = open->mss_path;
	c->gso_max_bytes = open->gso_max_bytes;
	c->ts_offset = open->ts_offset;
	c->iss = c->snd_una = open->iss;
	c->snd_nxt = c->iss; /* the SYN moves it */
	c->snd_base = c->snd_up = c->snd_sml = c->snd_push = c->snd_pushed = c->burst_end = c->iss + 1;
	c->rtx_at = c->tlp_at = c->reo_at = c->stall_at = TIME_NEVER;
	c->delack_at = c->cork_at = c->keep_at = c->hold_at = c->cr_at = c->wait_at = TIME_NEVER;
	c->rcvbuf_limit = open->options.rcvbuf_bytes ? open->options.rcvbuf_bytes
						     : stack->config.rcvbuf_init_bytes;
	c->sndbuf_limit = open->options.sndbuf_bytes ? open->options.sndbuf_bytes
						     : stack->config.sndbuf_init_bytes;
	window_fits_lowat(c);
	c->drs_since = now;
	c->ecn_route = open->ecn_route;
	c->reuses = open->reuses;
	c->ts_recent = open->ts_recent;
	rtt_init(c);
	recovery_init(c);
	rate_init(c);
	figures_init(c);
	take_route(c, open);
	negotiate_ours(c);
	if (open->no_close_request)
		c->cr_on = false;
	c->syn_waits = open->syn_waits;
	c->syn_due = !c->syn_waits;
}

/* RFC 9293 §3.10.1, OPEN call, active. */
int tcp_open_active(struct tcp_conn *c, struct tcp_stack *stack, int64_t now,
		    const struct tcp_open *open)
{
	int ret = open_check(open);
	if (ret < 0)
		return ret;
	conn_init(c, stack, now, open);
	mtu_probe_init(c, now);
	c->state = TCPS_SYN_SENT;
	if (!c->syn_waits)
		TCP_COUNT(c, ActiveOpens);
	return 0;
}

/* RFC 9293 §3.10.7.2, third step. Text in the SYN is left to the peer's retransmission, but for Fast Open. */
int conn_open_passive(struct tcp_conn *c, struct tcp_stack *stack, int64_t now,
		      const struct tcp_open *open, const struct tcp_segment *syn)
{
	int ret = open_check(open);
	if (ret < 0)
		return ret;
	if ((syn->flags & (SEG_SYN | SEG_ACK | SEG_RST)) != SEG_SYN)
		return -EINVAL;
	conn_init(c, stack, now, open);
	c->passive = true;
	c->segs_in = 1;
	c->last_rcvd_us = now;
	negotiate_theirs(c, syn, now);
	c->state = TCPS_SYN_RECEIVED;
	c->cookie = open->cookie;
	if (open->fastopen)
		fastopen_begin(c, now, syn);
	return 0;
}

int tcp_open_passive(struct tcp_conn *c, struct tcp_stack *stack, int64_t now,
		     const struct tcp_open *open, const struct tcp_segment *syn)
{
	int ret = conn_open_passive(c, stack, now, open, syn);
	if (ret == 0)
		TCP_COUNT(c, PassiveOpens);
	return ret;
}

void conn_drop_ahead(struct tcp_conn *c)
{
	ranges_free(&c->ooo, c->stack->memory);
	reassembly_free(&c->ahead, c->stack->memory);
	c->fin_ahead = false;
	c->n_recent = 0;
}

void tcp_fini(struct tcp_conn *c)
{
	if (!c->stack)
		return;
	chunks_free(&c->snd, c->stack->memory);
	ranges_free(&c->eor, c->stack->memory);
	ring_free(&c->rcv, c->stack->memory);
	conn_drop_ahead(c);
	recovery_fini(c);
}

/*
 * RFC 6928 §2. RFC 5681 §3.1 asks for one segment when the SYN or SYN-ACK was lost; as Linux, when it was lost twice.
 */
static uint32_t initial_window(const struct tcp_conn *c)
{
	uint32_t segs = c->initial_window_segs;
	if (c->total_retrans > 1)
		return c->mss;
	return min_u32(segs * c->mss, max_u32(2 * c->mss, segs * 1460));
}

void conn_begin_transfer(struct tcp_conn *c, int64_t now)
{
	negotiate_mss(c);
	/* a guess, as Linux's: what it sends is as large as what it takes */
	c->rcv_mss = max_u32(min_u32(min_u32(c->rcv_mss, c->mss), rcv_wnd(c) / 2), TCP_MSS_MIN);
	c->cwnd = initial_window(c);
	c->ssthresh = TCP_SSTHRESH_INITIAL;
	c->recovery_point = c->iss;
	c->flight_seq = c->snd_nxt;
	c->cwnd_used_at = now;
	c->cwr = false;
	c->cc->init(c, now);
	pace_init(c);
	figures_established(c, now);
	window_grow_sndbuf(c);
}

void conn_establish(struct tcp_conn *c, int64_t now)
{
	c->state = TCPS_ESTABLISHED;
	c->events |= TCP_EV_CONNECTED;
	c->syn_due = false;
	c->backoff = c->rtx_count = 0;
	timer_stop_rtx(c);
	if (c->fastopen_early)
		c->fastopen_early = false;
	else
		conn_begin_transfer(c, now);
	mtu_probe_init(c, now);
	if (snd_flight(c)) /* text that left before */
		timer_start_rtx(c, now);
	timer_keepalive(c, now);
	if (c->fin_wanted && !c->fin_held) /* CLOSE was called in SYN-RECEIVED: §3.10.4, "queue" */
		conn_queue_fin(c, now);
}

static void stop_everything(struct tcp_conn *c)
{
	c->rtx_at = c->tlp_at = c->reo_at = c->stall_at = TIME_NEVER;
	c->delack_at = c->cork_at = c->keep_at = c->hold_at = c->cr_at = c->wait_at = TIME_NEVER;
	c->cr_asking = c->cr_due = c->cr_echo_due = c->fastopen_early = false;
	c->syn_due = c->ack_due = c->probe_due = c->keepalive_due = c->rtx_due = c->tlp_due = false;
	c->fin_then_rst = c->fin_held = c->ack_prior_due = false;
	c->dup_acks_due = c->sacks_held = c->sacks_at_once = 0;
}

void conn_close(struct tcp_conn *c, int64_t now, int err)
{
	struct tcp_memory *m = c->stack->memory;
	hold_on_closed(c, now, CLOSE_END_ABANDONED);
	fastopen_closed(c);
	if (c->state == TCPS_SYN_SENT) /* nothing was agreed */
		c->ts_on = c->sack_on = c->wscale_on = c->ecn_on = false;
	if (c->state != TCPS_CLOSED) /* how much was left is told still, a FIN included */
		c->snd_base = snd_end(c) + c->fin_wanted;
	c->state = TCPS_CLOSED;
	stop_everything(c);
	chunks_free(&c->snd, m);
	ranges_free(&c->eor, m);
	conn_drop_ahead(c);
	recovery_fini(c);
	if (c->orphan || c->rcv.len == 0)
		ring_free(&c->rcv, m);
	if (err && !c->orphan) {
		c->error = err;
		c->events |= TCP_EV_ERROR;
	}
	if (c->rst_due)
		c->closed_due = true; /* "nothing more will be sent": after the RST */
	else
		c->events |= TCP_EV_CLOSED;
}

void conn_reset(struct tcp_conn *c, int64_t now, int err)
{
	/*
	 * RFC 9293 §3.10.5: SYN-SENT has nothing to reset; in TIME-WAIT, CLOSING and LAST-ACK there is no need either,
	 * but a peer that waits for our ACK of its FIN is told sooner.
	 */
	if (c->state >= TCPS_SYN_RECEIVED && c->state != TCPS_TIME_WAIT) {
		c->rst_due = true;
		c->rst_replies = false;
		c->reset = 1;
		c->rst_seq = c->snd_nxt;
		c->rst_window = window_advertise(c, false);
	}
	conn_close(c, now, err);
}

void conn_reset_reply(struct tcp_conn *c, int64_t now, uint32_t ack, int err)
{
	c->rst_due = c->rst_replies = true;
	c->reset = 1;
	c->rst_seq = ack;
	conn_close(c, now, err);
}

void conn_time_wait(struct tcp_conn *c, int64_t now)
{
	c->state = TCPS_TIME_WAIT;
	timer_stop_rtx(c);
	recovery_fini(c);
	c->keep_at = c->delack_at = c->cork_at = TIME_NEVER;
	c->wait_at = now + c->stack->config.time_wait_us;
	c->events |= TCP_EV_TIME_WAIT;
}

void conn_start_fin_wait_2(struct tcp_conn *c, int64_t now)
{
	bool replies = c->state != TCPS_FIN_WAIT_2; /* to the ACK of our FIN */
	c->state = TCPS_FIN_WAIT_2;
	if (!c->orphan)
		return;
	if (c->options.linger2_us < 0) { /* no FIN-WAIT-2 for orphans: as Linux, which tells the peer */
		TCP_COUNT(c, AbortOnLinger);
		if (replies)
			conn_reset_reply(c, now, c->snd_nxt, 0);
		else
			conn_reset(c, now, 0);
		return;
	}
	/* Not in RFC 9293: a peer that never closes would keep an orphan for ever. As Linux's tcp_fin_timeout. */
	int64_t wait = c->options.linger2_us ? c->options.linger2_us : c->stack->config.fin_timeout_us;
	c->wait_at = now + wait;
}

void conn_queue_fin(struct tcp_conn *c, int64_t now)
{
	c->fin_wanted = true;
	c->fin_held = false;
	c->hold_at = TIME_NEVER;
	close_request_end(c);
	c->push_due = true;
	if (c->state == TCPS_ESTABLISHED)
		c->state = TCPS_FIN_WAIT_1;
	else if (c->state == TCPS_CLOSE_WAIT)
		c->state = TCPS_LAST_ACK;
}
