/*
 * Timers: retransmission (RFC 6298 §5), persist (RFC 9293 §3.8.6.1), SYN, delayed ACK, cork, keepalive (§3.8.4),
 * FIN-WAIT-2, TIME-WAIT, close request, user timeout (RFC 5482). A due timer only sets what is owed; tcp_output sends
 * it. Every due timer is re-armed, cleared or ends the connection.
 */
#include "tcp/tcp_int.h"

#include <errno.h>

#define ORPHAN_RETRIES      8 /* of an orphan whose peer may live, where the namespace says 0; as Linux's tcp_orphan_retries */
#define THIN_SEGS           4 /* fewer in flight are a thin stream; Linux's tcp_stream_is_thin */
#define THIN_LINEAR_RETRIES 6 /* as Linux's TCP_THIN_LINEAR_RETRIES */

static void arm_rtx(struct tcp_conn *c, int64_t now)
{
	c->rtx_at = now + rtt_backed_off(c);
	if (c->options.user_timeout_us && c->stall_at != TIME_NEVER)
		c->rtx_at = min_time(c->rtx_at, c->stall_at + c->options.user_timeout_us);
	if (c->rtx_at <= now)
		c->rtx_at = now + 1;
}

void timer_start_rtx(struct tcp_conn *c, int64_t now)
{
	c->rtx_is_persist = false;
	c->stall_at = TIME_NEVER;
	arm_rtx(c, now + pace_delay(c, now));
	if (c->state == TCPS_SYN_SENT)
		c->stall_at = now;
}

void timer_stop_rtx(struct tcp_conn *c)
{
	c->rtx_at = c->tlp_at = c->stall_at = TIME_NEVER;
	c->rtx_is_persist = false;
	c->probe_due = false;
}

bool timer_persists(const struct tcp_conn *c)
{
	return c->rtx_is_persist || (c->snd_wnd == 0 && snd_flight(c) && tcp_may_transmit(c) && !c->fastopen_early);
}

void timer_keepalive(struct tcp_conn *c, int64_t now)
{
	c->keep_at = c->options.keepalive && c->state >= TCPS_ESTABLISHED && c->state < TCPS_TIME_WAIT
			     ? c->last_rcvd_us + c->options.keepidle_us
			     : TIME_NEVER;
	if (c->keep_at != TIME_NEVER && c->keep_at <= now)
		c->keep_at = now + 1;
}

static unsigned retries(const struct tcp_conn *c)
{
	const struct tcp_config *config = &c->stack->config;
	switch (c->state) {
	case TCPS_SYN_SENT:
		return (c->options.syncnt ? c->options.syncnt : config->syn_retries) + config->syn_linear_timeouts;
	case TCPS_SYN_RECEIVED:
		if (c->fastopen_early) /* as Linux: TCP_SYNCNT where it was set, or one more */
			return c->options.syncnt && c->options.syncnt != config->syn_retries ? c->options.syncnt : config->synack_retries + 1;
		return config->synack_retries;
	default:
		if (c->orphan)
			return config->orphan_retries ? config->orphan_retries : ORPHAN_RETRIES;
		return config->retries2;
	}
}

#define SYN_DOUBLINGS 6 /* of a second, until it is as long as a time-out may be */

/*
 * So long does a SYN wait: as long as its retries would take if each time-out were twice the one before, even where
 * they are not. Linux's tcp_model_timeout.
 */
static int64_t syn_patience(const struct tcp_conn *c)
{
	const struct tcp_config *config = &c->stack->config;
	unsigned n = c->options.syncnt ? c->options.syncnt : config->syn_retries, doublings = n < SYN_DOUBLINGS ? n : SYN_DOUBLINGS;
	return ((INT64_C(2) << doublings) - 1) * config->rto_init_us + (n - doublings) * config->rto_max_us;
}

/* RFC 9293 MUST-20 family: R2 is reached. */
static bool is_hopeless(const struct tcp_conn *c, int64_t now)
{
	if (c->options.user_timeout_us && c->stall_at != TIME_NEVER &&
	    now - c->stall_at >= c->options.user_timeout_us)
		return true;
	/*
	 * An orphan's peer that keeps its window shut, but answers, is not waited for without end: until the time
	 * between probes is the longest (as Linux).
	 */
	if (c->orphan && timer_persists(c) && rtt_backed_off(c) >= c->stack->config.rto_max_us)
		return c->backoff >= retries(c);
	if (c->state == TCPS_SYN_SENT && c->rtx_count && now - c->stall_at >= syn_patience(c))
		return true;
	return c->rtx_count >= retries(c);
}

static void give_up(struct tcp_conn *c, int64_t now)
{
	TCP_COUNT(c, AbortOnTimeout);
	if (c->state <= TCPS_SYN_RECEIVED)
		TCP_COUNT(c, AttemptFails);
	conn_close(c, now, c->error_soft ? c->error_soft : ETIMEDOUT);
}

/* A stream that is never fast enough for fast retransmission: tcp_thin_linear_timeouts spares it the doubling. */
static bool is_thin(const struct tcp_conn *c)
{
	return c->stack->config.thin_linear_timeouts && c->state == TCPS_ESTABLISHED && snd_flight(c) < THIN_SEGS * (uint32_t)c->mss;
}

static void on_rtx(struct tcp_conn *c, int64_t now)
{
	if (c->bounced && c->rtx_is_persist) {
		if (c->keep_probes >= retries(c) || !bounced_try(c, now))
			give_up(c, now);
		return;
	}
	bool persists = timer_persists(c), over = is_hopeless(c, now);
	if (!persists)
		fastopen_look_for_hole(c, over);
	if (over) {
		give_up(c, now);
		return;
	}
	c->rtx_count++;
	if (is_thin(c) && !persists && c->rtx_count <= THIN_LINEAR_RETRIES)
		c->backoff = 0;
	/* RFC 6298 (5.5). The first SYNs go at an even pace, as Linux's do since 6.5. */
	else if (c->backoff < UINT8_MAX && !(c->state == TCPS_SYN_SENT && c->rtx_count <= c->stack->config.syn_linear_timeouts))
		c->backoff++;
	if (c->stall_at == TIME_NEVER)
		c->stall_at = now;
	if (!persists)
		figures_timeout(c, now);
	if (c->fastopen_early)
		fastopen_timeout(c, now);
	if (c->state <= TCPS_SYN_RECEIVED)
		c->syn_due = true;
	else if (persists)
		c->probe_due = true;
	else {
		mtu_probe_on_rto(c, now);
		recovery_on_rto(c, now);
	}
	arm_rtx(c, now); /* (5.6) */
}

static void on_keepalive(struct tcp_conn *c, int64_t now)
{
	const struct tcp_options *opt = &c->options;
	if (snd_flight(c) || snd_unsent(c)) { /* retransmission or persist tells as much */
		c->keep_at = now + opt->keepidle_us;
		return;
	}
	int64_t idle = now - c->last_rcvd_us;
	if (idle < opt->keepidle_us) {
		c->keep_at = c->last_rcvd_us + opt->keepidle_us;
		return;
	}
	bool over = opt->user_timeout_us ? idle >= opt->user_timeout_us && c->keep_probes
					 : c->keep_probes >= opt->keepcnt;
	if (over) {
		TCP_COUNT(c, AbortOnKeepalive);
		conn_reset(c, now, c->error_soft ? c->error_soft : ETIMEDOUT);
		return;
	}
	c->keep_probes++;
	c->keepalive_due = true;
	c->keep_at = now + opt->keepintvl_us;
}

static void on_wait(struct tcp_conn *c, int64_t now)
{
	c->wait_at = TIME_NEVER;
	if (c->state == TCPS_TIME_WAIT)
		TCP_COUNT(c, TimeWaitExpired);
	else
		TCP_COUNT(c, AbortOnLinger);
	conn_close(c, now, 0);
}

void tcp_tick(struct tcp_conn *c, int64_t now)
{
	if (c->delack_at <= now) {
		delack_expired(c);
	}
	if (c->cork_at <= now) {
		c->cork_at = TIME_NEVER;
		c->push_due = true;
		c->snd_push = snd_end(c);
	}
	pace_look(c, now);
	if (c->tlp_at <= now)
		tlp_expired(c, now);
	if (c->reo_at <= now) /* before the timeout: recovery_wait_for_reo */
		recovery_reo_expired(c, now);
	if (c->rtx_at <= now)
		on_rtx(c, now);
	if (c->hold_at <= now)
		hold_tick(c, now);
	if (c->cr_at <= now)
		close_request_tick(c, now);
	if (c->keep_at <= now)
		on_keepalive(c, now);
	if (c->wait_at <= now)
		on_wait(c, now);
}

int64_t tcp_next_deadline(const struct tcp_conn *c)
{
	struct out o = {.kind = OUT_NONE};
	if (!output_is_idle(c))
		o = output_next(c);
	if (o.kind != OUT_NONE)
		return 0; /* now */
	int64_t at = min_time(c->rtx_at, c->delack_at);
	if (o.blocked == BLOCKED_PACE)
		at = min_time(at, pace_at(c));
	at = min_time(at, min_time(c->tlp_at, c->reo_at));
	at = min_time(at, min_time(c->cork_at, c->hold_at));
	at = min_time(at, min_time(c->keep_at, c->wait_at));
	return min_time(at, c->cr_at);
}
