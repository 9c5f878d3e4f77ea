/*
 * Close-first steering, the mechanism: when an application's call would send a FIN on a connection that a peer opened,
 * the listener's policy is asked, and the FIN may wait for the peer's.
 *
 * A held connection stays ESTABLISHED with fin_wanted and fin_held. The hold's clock (hold_at) starts when all data is
 * acknowledged. It ends by time, by an unanswered close request (close_request.c), by the peer's FIN (our FIN follows:
 * CLOSE-WAIT, LAST-ACK), by RST, or by new data after close() (input_text.c: FIN, then RST).
 *
 * Promised to the policy: one outcome for every connection it was asked about; and where our FIN was first, a late one
 * that tells how long the peer's took.
 */
#include "tcp/tcp_int.h"

static bool has_policy(const struct tcp_conn *c)
{
	return c->passive && c->policy;
}

static void tell(struct tcp_conn *c, int64_t now, const struct close_outcome *out)
{
	if (has_policy(c) && c->policy->ops->outcome)
		c->policy->ops->outcome(c->policy, now, out);
}

static void tell_outcome(struct tcp_conn *c, int64_t now, enum close_end end)
{
	if (c->outcome_told || !c->asked)
		return;
	c->outcome_told = true;
	c->late_owed = end == CLOSE_END_EXPIRED || end == CLOSE_END_FIN_SENT;
	c->close_end = end;
	struct close_outcome out = {
		.end = end,
		.key = c->key,
		.held_us = c->hold_at != TIME_NEVER ? now - c->hold_start_us : 0,
		.held = c->hold_us > 0,
		.reader = c->reader_asked,
		.asked = c->cr_asked,
		.answered = c->cr_answered,
		.peer_fin_after_us = TIME_NEVER,
	};
	tell(c, now, &out);
}

static void tell_late(struct tcp_conn *c, int64_t now, int64_t after)
{
	struct close_outcome out = {
		.end = c->close_end,
		.key = c->key,
		.held_us = c->close_end == CLOSE_END_EXPIRED ? c->hold_us : 0,
		.held = c->hold_us > 0,
		.reader = c->reader_asked,
		.asked = c->cr_asked,
		.answered = c->cr_answered,
		.peer_fin_after_us = after,
		.late = true,
	};
	c->late_owed = false;
	tell(c, now, &out);
}

static void ask(struct tcp_conn *c, int64_t now, enum close_call call, bool linger, bool exiting,
		struct close_verdict *verdict)
{
	verdict->action = CLOSE_FIN_NOW;
	verdict->reason = c->passive ? CLOSE_REASON_POLICY_OFF : CLOSE_REASON_NOT_SERVER;
	verdict->hold_us = 0;
	c->asked = true;
	if (!has_policy(c))
		return;
	bool acked = snd_all_acked(c);
	struct close_facts facts = {
		.call = call,
		.key = c->key,
		.accepted = true,
		.unread = c->rcv.len != 0,
		.linger = linger,
		.exiting = exiting,
		.peer_closed = c->peer_fin,
		.last_bytes_ours = c->last_bytes_ours,
		.all_acked = acked,
		.acked_age_us = acked && c->bytes_acked ? now - c->all_acked_us : 0,
		.srtt_us = c->srtt_us,
		.bytes_in = c->bytes_in,
		.bytes_out = c->bytes_out + snd_unsent(c),
		.reader = c->reader,
		.timestamps = c->ts_on,
		.can_ask = c->cr_on && c->state == TCPS_ESTABLISHED,
	};
	c->reader_asked = c->reader;
	c->policy->ops->decide(c->policy, now, &facts, verdict);
}

static void start_clock(struct tcp_conn *c, int64_t now)
{
	c->hold_start_us = now;
	c->hold_at = now + c->hold_us;
}

void hold_on_close(struct tcp_conn *c, int64_t now, enum close_call call, bool linger, bool exiting)
{
	if (c->fin_wanted) { /* a close after a shutdown: the same FIN, the same hold */
		if (c->fin_held && (linger || exiting))
			hold_release(c, now, CLOSE_END_ABANDONED);
		return;
	}
	struct close_verdict verdict;
	ask(c, now, call, linger, exiting, &verdict);
	c->close_reason = verdict.reason;
	c->hold_us = verdict.action != CLOSE_FIN_NOW ? verdict.hold_us : 0;
	if (c->hold_us > 0 && c->state == TCPS_ESTABLISHED &&
	    !exiting && !linger) {
		TCP_COUNT(c, CloseHeld);
		c->fin_wanted = c->fin_held = true;
		if (verdict.action == CLOSE_ASK)
			close_request_begin(c, now);
		if (snd_all_acked(c))
			start_clock(c, now);
		return;
	}
	if (c->peer_fin)
		tell_outcome(c, now, CLOSE_END_PEER_FIRST);
	conn_queue_fin(c, now);
}

void hold_on_all_acked(struct tcp_conn *c, int64_t now)
{
	if (c->fin_held && c->hold_at == TIME_NEVER)
		start_clock(c, now);
}

void hold_release(struct tcp_conn *c, int64_t now, enum close_end end)
{
	tell_outcome(c, now, end);
	conn_queue_fin(c, now);
}

void hold_on_fin_sent(struct tcp_conn *c, int64_t now)
{
	c->fin_sent_us = now;
	if (!c->first_fin)
		c->first_fin = 1;
	tell_outcome(c, now, CLOSE_END_FIN_SENT);
}

void hold_on_peer_fin(struct tcp_conn *c, int64_t now)
{
	if (c->late_owed) {
		tell_late(c, now, now - c->fin_sent_us);
	} else if (c->fin_held) {
		TCP_COUNT(c, CloseHoldPeerFin);
		hold_release(c, now, CLOSE_END_PEER_FIN);
	} else if (c->fin_wanted && !c->fin_sent) {
		tell_outcome(c, now, CLOSE_END_PEER_FIRST); /* ours was queued behind data */
	}
}

void hold_on_closed(struct tcp_conn *c, int64_t now, enum close_end end)
{
	if (c->late_owed)
		tell_late(c, now, TIME_NEVER);
	else
		tell_outcome(c, now, end);
}

void hold_tick(struct tcp_conn *c, int64_t now)
{
	TCP_COUNT(c, CloseHoldExpired);
	hold_release(c, now, CLOSE_END_EXPIRED);
}
