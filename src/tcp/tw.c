/*
 * TIME-WAIT, compact: what must be remembered of a connection for 2 MSL, without the connection.
 *
 * Owns: nothing. A struct tcp_tw is the caller's storage, found by the caller's key; this file fills it from a
 * connection that has entered TIME-WAIT and judges each later segment of that 4-tuple.
 *
 * Why it exists: the last ACK may be lost (the peer repeats its FIN and must be answered), and old duplicates must not
 * be taken for data of a new connection (RFC 9293 §3.4.2). Both are done with five numbers. The two ways out before 2
 * MSL are those that keep the second promise:
 *  - a SYN that is surely newer than everything seen (RFC 6191, RFC 9293 MAY-2): TW_REUSE;
 *  - a RST at RCV.NXT: TW_GONE. It may have been provoked by an old duplicate (RFC 1337, TIME-WAIT's assassination). As
 *    in Linux the namespace decides:
 *    with tcp_rfc1337 no RST ends it, without it, which is the default, any but one with an old time stamp does.
 *
 * Invariants: rcv_nxt is beyond the peer's FIN, snd_nxt beyond ours; both are final. ts_recent only grows. Timers:
 * expires_us, restarted by a repeated FIN and by nothing else, so that nobody can prolong it with other segments.
 * Limits: answers to segments without sequence space, and to SYNs, are spaced by config's invalid_ratelimit_us: no ACK
 * war (RFC 5961 §7). References: RFC 9293 §3.10.7.4, RFC 6191, RFC 1337, RFC 7323 §5, RFC 5961 §3, §4.
 */
#include "tcp/tcp.h"
#include "tcp/ts_clock.h"

#include <assert.h>

/*
 * The new incarnation's ISS stays this far beyond the old one's last byte, so that it is outside even of what a peer
 * that missed our last ACK still has open as an unscaled window.
 */
#define TW_ISS_GAP UINT32_C(0x10000)

/* Sequence and timestamp comparison, modulo 2^32 (RFC 9293 §3.4). */
static bool is_before(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

static uint32_t seg_space(const struct tcp_segment *seg)
{
	return seg->payload_len + !!(seg->flags & SEG_SYN) + !!(seg->flags & SEG_FIN);
}

/* RFC 9293 §3.10.7.4, first step: the four cases of segment acceptability. */
static bool is_acceptable(const struct tcp_tw *tw, const struct tcp_segment *seg)
{
	uint32_t len = seg_space(seg), first = seg->seq - tw->rcv_nxt;
	if (len == 0)
		return tw->rcv_wnd == 0 ? first == 0 : first < tw->rcv_wnd;
	if (tw->rcv_wnd == 0)
		return false;
	return first < tw->rcv_wnd || first + len - 1 < tw->rcv_wnd;
}

/* <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK> */
static enum tw_verdict reply_ack(struct tcp_tw *tw, int64_t now, const struct tcp_segment *seg,
				 struct tcp_segment *reply)
{
	uint32_t window = tw->rcv_wnd >> tw->rcv_wscale;
	*reply = (struct tcp_segment){
		.sport = seg->dport,
		.dport = seg->sport,
		.seq = tw->snd_nxt,
		.ack = tw->rcv_nxt,
		.flags = SEG_ACK,
		.window = window > UINT16_MAX ? UINT16_MAX : (uint16_t)window,
	};
	if (tw->timestamps) {
		reply->has = SEG_HAS_TIMESTAMPS;
		reply->ts_val = tcp_ts_now(now, tw->ts_offset);
		reply->ts_ecr = tw->ts_recent;
	}
	return TW_REPLY;
}

/* The same, at most once per spacing: for what a peer in the same mood would answer in turn. */
static enum tw_verdict reply_spaced(struct tcp_tw *tw, struct tcp_stack *stack, int64_t now,
				    const struct tcp_segment *seg, struct tcp_segment *reply)
{
	if (now < tw->reply_after_us) {
		stack->counters[TCPC_TWReplySkipped]++;
		return TW_DROP;
	}
	tw->reply_after_us = now + stack->config.invalid_ratelimit_us;
	return reply_ack(tw, now, seg, reply);
}

/* RFC 6191 §2: is this SYN surely newer than the previous incarnation? */
static bool is_new_incarnation(const struct tcp_tw *tw, const struct tcp_segment *seg)
{
	bool later = !is_before(seg->seq, tw->rcv_nxt); /* beyond the last number seen, the FIN's */
	if (!(seg->has & SEG_HAS_TIMESTAMPS))
		return later;
	if (!tw->timestamps)
		return true; /* timestamps now, none before: PAWS will refuse the old duplicates */
	if (seg->ts_val == tw->ts_recent)
		return later;
	return is_before(tw->ts_recent, seg->ts_val);
}

/* RFC 9293 §3.10.7.4, fourth step, for TIME-WAIT. It comes first because a new ISN need not lie in the old window. */
static enum tw_verdict on_syn(struct tcp_tw *tw, struct tcp_stack *stack, int64_t now,
			      const struct tcp_segment *seg, struct tcp_segment *reply,
			      uint32_t *iss_min)
{
	if (!(seg->flags & (SEG_ACK | SEG_FIN)) && is_new_incarnation(tw, seg)) {
		*iss_min = tw->snd_nxt + TW_ISS_GAP; /* MAY-2 (1): larger than all we used */
		stack->counters[TCPC_TWRecycled]++;
		return TW_REUSE;
	}
	/* All other cases: a challenge ACK, irrespective of the sequence number (RFC 5961 §4). */
	stack->counters[TCPC_TWSynChallenged]++;
	return reply_spaced(tw, stack, now, seg, reply);
}

/* Second step. Exact sequence numbers only (RFC 5961 §3). */
static enum tw_verdict on_rst(struct tcp_tw *tw, struct tcp_stack *stack,
			      const struct tcp_segment *seg)
{
	bool old = tw->timestamps && (seg->has & SEG_HAS_TIMESTAMPS) && is_before(seg->ts_val, tw->ts_recent);
	if (seg->seq != tw->rcv_nxt || old || stack->config.rfc1337) {
		stack->counters[TCPC_TWRstIgnored]++;
		return TW_DROP;
	}
	stack->counters[TCPC_TWRstClosed]++;
	return TW_GONE;
}

/* The peer did not see our last ACK: its FIN again, ending where it ended. */
static bool is_repeated_fin(const struct tcp_tw *tw, const struct tcp_segment *seg)
{
	return (seg->flags & SEG_FIN) && (seg->flags & SEG_ACK) &&
	       seg->seq + seg_space(seg) == tw->rcv_nxt;
}

static void take_timestamp(struct tcp_tw *tw, int64_t now, const struct tcp_segment *seg)
{
	if (!tw->timestamps || is_before(tw->rcv_nxt, seg->seq))
		return; /* RFC 7323 §4.3 (2): SEG.SEQ <= Last.ACK.sent */
	tw->ts_recent = seg->ts_val;
	tw->ts_recent_age_us = now;
}

/* `c` is in TIME-WAIT: 2 MSL have been running since it got there. */
void tcp_tw_enter(struct tcp_tw *tw, const struct tcp_conn *c, int64_t now)
{
	assert(c->state == TCPS_TIME_WAIT);
	*tw = (struct tcp_tw){
		.snd_nxt = c->snd_nxt,
		.rcv_nxt = c->rcv_nxt,
		.rcv_wnd = is_before(c->rcv_nxt, c->rcv_adv) ? c->rcv_adv - c->rcv_nxt : 0,
		.rcv_wscale = c->rcv_wscale,
		.timestamps = c->ts_on,
		.ts_recent = c->ts_recent,
		.ts_recent_age_us = c->ts_recent_age_us,
		.ts_offset = c->ts_offset,
		.expires_us = c->wait_at != TIME_NEVER ? c->wait_at
						       : now + c->stack->config.time_wait_us,
	};
	c->stack->counters[TCPC_TWEntered]++;
}

enum tw_verdict tcp_tw_input(struct tcp_tw *tw, struct tcp_stack *stack, int64_t now,
			     const struct tcp_segment *seg, struct tcp_segment *reply,
			     uint32_t *iss_min)
{
	if (seg->flags & SEG_RST)
		return on_rst(tw, stack, seg);
	if (seg->flags & SEG_SYN)
		return on_syn(tw, stack, now, seg, reply, iss_min);
	if (!(seg->flags & SEG_ACK)) { /* fifth step: no ACK, no segment */
		stack->counters[TCPC_TWNoAck]++;
		return TW_DROP;
	}
	/* PAWS before all else (RFC 7323 §5.3 R1). 2 MSL is far below the 24 days of §5.5: ts_recent is valid. */
	if (tw->timestamps) {
		if (!(seg->has & SEG_HAS_TIMESTAMPS)) {
			stack->counters[TCPC_TWNoTimestamp]++; /* §3.2: SHOULD silently drop */
			return TW_DROP;
		}
		if (is_before(seg->ts_val, tw->ts_recent)) {
			stack->counters[TCPC_TWPaws]++;
			if (seg_space(seg))
				return reply_ack(tw, now, seg, reply);
			return reply_spaced(tw, stack, now, seg, reply);
		}
	}
	if (is_repeated_fin(tw, seg)) { /* fifth and eighth step: acknowledge, restart 2 MSL. As Linux's, the ACK echoes the first FIN's time stamp */
		tw->ts_recent_age_us = now;
		tw->expires_us = now + stack->config.time_wait_us;
		stack->counters[TCPC_TWFinRepeated]++;
		return reply_ack(tw, now, seg, reply);
	}
	if (!is_acceptable(tw, seg)) {
		stack->counters[TCPC_TWUnacceptable]++;
		if (seg_space(seg))
			return reply_ack(tw, now, seg, reply);
		return reply_spaced(tw, stack, now, seg, reply);
	}
	take_timestamp(tw, now, seg);
	if (seg_space(seg) == 0) { /* a bare ACK says nothing new, but where it is beyond the peer's FIN the peer is told, as Linux does */
		stack->counters[TCPC_TWBareAck]++;
		return seg->seq == tw->rcv_nxt ? TW_DROP : reply_spaced(tw, stack, now, seg, reply);
	}
	/* Seventh step: text cannot be, beyond the peer's FIN. Ignored, but the peer is told where we are. */
	stack->counters[TCPC_TWBeyondFin]++;
	return reply_ack(tw, now, seg, reply);
}

bool tcp_tw_may_reuse(const struct tcp_tw *tw, int64_t now, int64_t after_us, uint32_t *iss_min)
{
	*iss_min = tw->snd_nxt + TW_ISS_GAP;
	if (now >= tw->expires_us)
		return true;
	/* The peer accepts our SYN by RFC 6191, and PAWS refuses the old incarnation's duplicates there and here. */
	return tw->timestamps && now / USEC_PER_MSEC > tw->ts_recent_age_us / USEC_PER_MSEC + after_us / USEC_PER_MSEC;
}
