/*
 * What the device's queue refuses at once (its qdisc drops all, say) did not leave. As with Linux's tcp_transmit_skb,
 * whose caller then does not count it as sent: it is not in flight, and not lost on the way; nobody will acknowledge
 * it, and cwnd need not pay for a time-out. It is local congestion (CWR). What waits is tried again by the next ACK, by
 * the next write, or by a timer: first after a time-out, then twice a second. Those tries are counted as probes, as
 * Linux's icsk_probes_out, and TCP_USER_TIMEOUT counts from the first.
 *
 * Only text that left for the first time, just now, is taken back. What else is bounced (SYNs, FINs, ACKs, what goes
 * again) counts as lost on the way, and has its timers; what a time-out sends again is tried twice a second, too.
 */
#include "tcp/tcp_int.h"

#define TRY_US       (500 * USEC_PER_MSEC) /* Linux's TCP_RESOURCE_PROBE_INTERVAL */
#define FIRST_TRY_US (200 * USEC_PER_MSEC) /* at least: Linux's TCP_RTO_MIN */

static bool is_newest(const struct tcp_conn *c, uint32_t seq, uint32_t len)
{
	bool open = (c->state == TCPS_ESTABLISHED || c->state == TCPS_CLOSE_WAIT) && c->loss == TCP_LOSS_OPEN;
	return open && len && !c->fin_sent && seq + len == c->snd_nxt && SEQ_GEQ(seq, c->snd_una) && !c->tlp_out && !c->mtu.probe;
}

static void take_back(struct tcp_conn *c, uint32_t seq)
{
	sent_take_back(&c->sent, c->snd_una, seq);
	c->snd_nxt = seq;
	c->flight_seq = seq_min(c->flight_seq, seq);
	c->snd_sml = seq_min(c->snd_sml, seq);
	c->snd_pushed = seq_min(c->snd_pushed, seq);
	c->burst_end = seq_min(c->burst_end, seq);
}

static void arm(struct tcp_conn *c, int64_t now)
{
	if (!c->bounced) {
		c->bounced_since = 0;
		c->bounced_at = now + max_time(c->rto_us, FIRST_TRY_US);
	} else if (c->bounced_probe) {
		c->bounced_at = now + TRY_US;
	}
	timer_stop_rtx(c);
	c->rtx_is_persist = true;
	c->rtx_at = c->bounced_at;
	if (c->options.user_timeout_us && c->bounced_since)
		c->rtx_at = min_time(c->rtx_at, c->bounced_since + c->options.user_timeout_us);
	c->rtx_at = max_time(c->rtx_at, now + 1);
	c->bounced = true;
	c->bounced_probe = false;
}

/* What a time-out sent again did not leave: the next one is no longer for that. */
static void arm_again(struct tcp_conn *c, int64_t now)
{
	if (c->backoff)
		c->backoff--;
	c->rtx_at = now + TRY_US;
	if (c->options.user_timeout_us)
		c->rtx_at = max_time(min_time(c->rtx_at, c->stall_at + c->options.user_timeout_us), now + 1);
}

void tcp_bounced(struct tcp_conn *c, int64_t now, uint32_t seq, uint32_t len)
{
	bool timed_out = c->loss == TCP_LOSS_RTO && seq == c->snd_una && c->rtx_at == now + rtt_backed_off(c);
	if (timed_out && len)
		arm_again(c, now);
	if (!is_newest(c, seq, len))
		return;
	take_back(c, seq);
	recovery_bounced(c, now);
	c->bounced_waits = true;
	if (!snd_flight(c))
		arm(c, now);
}

bool bounced_try(struct tcp_conn *c, int64_t now)
{
	if (!c->bounced_since)
		c->bounced_since = now;
	if (c->options.user_timeout_us && now - c->bounced_since >= c->options.user_timeout_us)
		return false;
	c->keep_probes++;
	c->bounced_probe = true;
	c->bounced_waits = false;
	c->rtx_at = TIME_NEVER;
	c->rtx_is_persist = false;
	return true;
}
