/* Timers, to the microsecond: RTO (RFC 6298), delayed ACKs, persist, keepalive, giving up. */
#include "harness.h"

/* A connection whose RTO has no floor and is not rounded, so that RFC 6298's arithmetic shows. */
static struct harness *bare(unsigned features)
{
	struct harness *h = h_new(features);
	h->stack.config.rto_min_us = 1;
	h->stack.config.tick_us = 1;
	h_establish(h);
	return h;
}

/* (2.2): SRTT <- R, RTTVAR <- R/2, RTO <- SRTT + max (G, K*RTTVAR), from the handshake. */
START_TEST(MUST_18_first_sample)
{
	struct harness *h = bare(_i ? H_ALL | H_ACTIVE : 0);
	struct tcp_status st = h_status(h);
	ck_assert_int_eq(st.srtt_us, 10000);
	ck_assert_int_eq(st.rttvar_us, 5000);
	ck_assert_int_eq(st.rto_us, 30000);
	ck_assert_int_eq(st.handshake_rtt_us, 10000);
	h_send(h, 100);
	h_expect(h, SEG_ACK, 1, 1, 100);
	ck_assert_int_eq(h_next(h), 30000);
	h_expect(h, SEG_ACK, 1, 1, 100);
	h_free(h);
}
END_TEST

/*
 * (2.3) says G, the clock's granularity: Linux's timers go by ticks, and none is early; what is doubled is what was
 * rounded.
 */
START_TEST(MUST_18_whole_ticks)
{
	struct harness *h = bare(0);
	h->stack.config.tick_us = 4000;
	h_send(h, 100);
	h_expect(h, SEG_ACK, 1, 1, 100);
	ck_assert_int_eq(h_next(h), 32000);
	h_expect(h, SEG_ACK, 1, 1, 100);
	ck_assert_int_eq(h_next(h), 64000);
	h_expect(h, SEG_ACK, 1, 1, 100);
	h_free(h);
}
END_TEST

/* (2.3): RTTVAR <- 3/4 RTTVAR + 1/4 |SRTT - R'|, SRTT <- 7/8 SRTT + 1/8 R'. */
START_TEST(MUST_18_second_sample)
{
	struct harness *h = bare(0);
	h_send(h, 100);
	h_expect(h, SEG_ACK, 1, 1, 100);
	h_advance(h, 26000);
	h_peer_ack(h, 101);
	struct tcp_status st = h_status(h);
	ck_assert_int_eq(st.rttvar_us, 3750 + 4000);
	ck_assert_int_eq(st.srtt_us, 8750 + 3250);
	ck_assert_int_eq(st.rto_us, 12000 + 31000);
	ck_assert_int_eq(st.min_rtt_us, 10000);
	h_free(h);
}
END_TEST

/* (2.1) and (2.4): 1 s before any sample; never below the configured minimum afterwards. */
START_TEST(MUST_18_floor)
{
	struct harness *h = h_new(0);
	h_enter(h, TCPS_SYN_RECEIVED);
	ck_assert_int_eq(h_status(h).rto_us, 1000000);
	h_peer_ack(h, 1); /* an RTT of nothing */
	ck_assert_int_ge(h_status(h).rto_us, h->stack.config.rto_min_us);
	ck_assert_int_le(h_status(h).rto_us, h->stack.config.rto_min_us + h->stack.config.tick_us);
	h_free(h);
}
END_TEST

/* (5.5), (2.5): doubled each time, up to the maximum. */
START_TEST(MUST_19_exponential_backoff)
{
	struct harness *h = bare(_i ? H_ALL : 0);
	h_send(h, 100);
	h_expect(h, SEG_ACK, 1, 1, 100);
	int64_t rto = 30000, most = h->stack.config.rto_max_us;
	if (_i) { /* with SACK a tail loss probe goes before (RFC 8985 §7.2: never later than the RTO), which backs nothing off */
		ck_assert_int_eq(h_next(h), rto);
		h_expect(h, SEG_ACK, 1, 1, 100);
	}
	for (int i = 0; i < 14; i++) {
		ck_assert_int_eq(h_next(h), rto < most ? rto : most);
		h_expect(h, SEG_ACK, 1, 1, 100);
		h_silence(h);
		rto *= 2;
	}
	h_free(h);
}
END_TEST

/* (5.2), (5.3): an ACK of new data restarts the timer; an ACK of all stops it. */
START_TEST(RFC6298_5_timer_management)
{
	struct harness *h = bare(0);
	h_send(h, 2 * H_MSS);
	h_drain(h);
	h_advance(h, 10000);
	h_peer_ack(h, 1 + H_MSS);
	int64_t rto = h_status(h).rto_us;
	ck_assert_int_eq(tcp_next_deadline(&h->c), h->now + rto);
	h_advance(h, 5000);
	h_peer_ack(h, 1 + H_MSS); /* nothing new: the timer goes on */
	ck_assert_int_eq(tcp_next_deadline(&h->c), h->now - 5000 + rto);
	h_peer_ack(h, 1 + 2 * H_MSS);
	ck_assert_int_eq(tcp_next_deadline(&h->c), TIME_NEVER);
	h_free(h);
}
END_TEST

/* Karn: an ACK of what was retransmitted gives no sample (without timestamps) … */
START_TEST(MUST_18_karn_no_ambiguous_sample)
{
	struct harness *h = bare(0);
	h_send(h, 100);
	h_next(h);
	h_drain(h);
	h_advance(h, 1000);
	int64_t srtt = h_status(h).srtt_us;
	h_peer_ack(h, 101);
	ck_assert_int_eq(h_status(h).srtt_us, srtt);
	h_free(h);
}
END_TEST

/* … and the backed-off RTO stays until there is one (RFC 6298 §5). */
START_TEST(MUST_18_karn_keeps_the_backoff)
{
	struct harness *h = bare(0);
	h_send(h, 100);
	h_next(h);
	h_next(h);
	h_drain(h);
	h_advance(h, 1000);
	h_peer_ack(h, 101);
	h_send(h, 100);
	h_expect(h, SEG_ACK, 101, 1, 100);
	ck_assert_int_eq(tcp_next_deadline(&h->c), h->now + 4 * 30000);
	h_advance(h, 10000);
	h_peer_ack(h, 201); /* an unambiguous sample */
	h_send(h, 100);
	h_expect(h, SEG_ACK, 201, 1, 100);
	ck_assert_int_lt(tcp_next_deadline(&h->c), h->now + 30001);
	h_free(h);
}
END_TEST

/* With timestamps the same ACK is unambiguous (RFC 7323 §4). */
START_TEST(RFC7323_sample_from_a_retransmission)
{
	struct harness *h = bare(H_ALL);
	h_send(h, 100);
	h_next(h);
	struct h_out *first = h_take(h), *again = h_take(h);
	ck_assert(first && again);
	ck_assert_uint_ne(first->seg.ts_val, again->seg.ts_val);
	h_advance(h, 20000);
	struct tcp_segment s = h_seg(h, SEG_ACK, 0, 101, 0);
	s.ts_ecr = again->seg.ts_val;
	int64_t srtt = h_status(h).srtt_us;
	h_input(h, &s);
	ck_assert_int_gt(h_status(h).srtt_us, srtt);
	h_free(h);
}
END_TEST

/*
 * (5.7): when the SYN was retransmitted, 3 s when data transmission begins; the window stays the initial one, as
 * Linux's.
 */
START_TEST(RFC6298_5_7_after_a_lost_syn)
{
	struct harness *h = h_new(0);
	h_enter(h, TCPS_SYN_RECEIVED);
	h_next(h);
	h_expect(h, SEG_SYN | SEG_ACK, 0, 1, 0);
	h_advance(h, H_RTT);
	h_peer_ack(h, 1);
	ck_assert_int_eq(h_status(h).srtt_us, 0); /* Karn */
	ck_assert_uint_eq(h_status(h).cwnd_bytes, 10 * H_MSS);
	h_send(h, 100);
	h_expect(h, SEG_ACK, 1, 1, 100);
	ck_assert_int_eq(h_next(h), 3 * USEC_PER_SEC);
	h_drain(h);
	h_free(h);
}
END_TEST

/* Timestamps tell which of the two SYNs, or SYN-ACKs, was answered: (2.2) and (2.4) set the RTO, not (5.7). */
START_TEST(RFC6298_2_2_after_a_lost_syn_with_timestamps)
{
	struct harness *h = h_new(H_TS | (_i ? H_ACTIVE : 0));
	h_enter(h, _i ? TCPS_SYN_SENT : TCPS_SYN_RECEIVED);
	h_next(h);
	const struct h_out *again = h_expect(h, _i ? SEG_SYN : SEG_SYN | SEG_ACK, 0, _i ? 0 : 1, 0);
	h_advance(h, 20000);
	struct tcp_segment s = _i ? h_syn(h, SEG_SYN | SEG_ACK) : h_seg(h, SEG_ACK, 0, 1, 0);
	h->peer_nxt = 1;
	s.ts_ecr = again->seg.ts_val;
	h_input(h, &s);
	h_state(h, TCPS_ESTABLISHED);
	ck_assert_int_eq(h_status(h).srtt_us, 20000);
	h_drain(h);
	h_send(h, 100);
	h_drain(h);
	ck_assert_int_eq(h_next(h), 20000 + h->stack.config.rto_min_us);
	h_drain(h);
	h_free(h);
}
END_TEST

/* ---- giving up ---- */

/* MUST-20: at R2 the connection is closed; MUST-21: which the application may set (RFC 5482). */
START_TEST(MUST_20_retransmission_ends)
{
	struct harness *h = h_new(_i ? H_ALL : 0);
	h_establish(h);
	int64_t start = h->now;
	h_send(h, 100);
	unsigned sent = 0;
	while (tcp_state(&h->c) != TCPS_CLOSED) {
		h_next(h);
		ck_assert_uint_lt(sent++, 50);
	}
	ck_assert_int_eq(tcp_error(&h->c), ETIMEDOUT);
	ck_assert(h_events(h) & TCP_EV_ERROR);
	ck_assert_int_ge(h->now - start, 100 * USEC_PER_SEC); /* SHLD-11 */
	ck_assert_uint_eq(sent - h->stack.counters[TCPC_LossProbes], h->stack.config.retries2 + 1);
	h_drain(h);
	h_free(h);
}
END_TEST

START_TEST(MUST_21_user_timeout)
{
	struct harness *h = h_new(0);
	h->open.options.user_timeout_us = 5 * USEC_PER_SEC;
	h_establish(h);
	int64_t start = h->now;
	h_send(h, 100);
	while (tcp_state(&h->c) != TCPS_CLOSED)
		h_next(h);
	ck_assert_int_eq(tcp_error(&h->c), ETIMEDOUT);
	ck_assert_int_ge(h->now - start, 5 * USEC_PER_SEC);
	ck_assert_int_le(h->now - start, 6 * USEC_PER_SEC);
	h_drain(h);
	h_free(h);
}
END_TEST

/* SHLD-25: a soft error is what the application hears of when we give up; MUST-56: it does not abort. */
START_TEST(MUST_56_soft_errors)
{
	struct harness *h = h_new(0);
	h->open.options.user_timeout_us = 2 * USEC_PER_SEC;
	h_establish(h);
	h_send(h, 100);
	h_drain(h);
	tcp_on_unreachable(&h->c, h->now, EHOSTUNREACH, false, H_ISS + 1);
	tcp_on_unreachable(&h->c, h->now, ECONNREFUSED, true, H_ISS + 5000); /* not in flight: forged */
	h_output(h);
	h_state(h, TCPS_ESTABLISHED);
	while (tcp_state(&h->c) != TCPS_CLOSED)
		h_next(h);
	ck_assert_int_eq(tcp_error(&h->c), EHOSTUNREACH);
	h_drain(h);
	h_free(h);
}
END_TEST

/* RFC 5461 §4.1, as Linux: a soft error ends an attempt, so that connect says EHOSTUNREACH at once. */
START_TEST(soft_error_while_opening)
{
	struct harness *h = h_new(H_ACTIVE);
	h_enter(h, TCPS_SYN_SENT);
	tcp_on_unreachable(&h->c, h->now, EHOSTUNREACH, false, H_ISS + 77);
	h_output(h);
	h_state(h, TCPS_SYN_SENT); /* not about our SYN */
	tcp_on_unreachable(&h->c, h->now, EHOSTUNREACH, false, H_ISS);
	h_output(h);
	h_state(h, TCPS_CLOSED);
	ck_assert_int_eq(tcp_error(&h->c), EHOSTUNREACH);
	h_drain(h);
	h_free(h);
}
END_TEST

START_TEST(SHLD_26_hard_error_while_opening)
{
	struct harness *h = h_new(H_ACTIVE);
	h_enter(h, TCPS_SYN_SENT);
	tcp_on_unreachable(&h->c, h->now, ECONNREFUSED, true, H_ISS + 77);
	h_output(h);
	h_state(h, TCPS_SYN_SENT); /* RFC 5927 §4.1: not about our SYN */
	tcp_on_unreachable(&h->c, h->now, ECONNREFUSED, true, H_ISS);
	h_output(h);
	h_state(h, TCPS_CLOSED);
	ck_assert_int_eq(tcp_error(&h->c), ECONNREFUSED);
	h_silence(h);
	h_free(h);
}
END_TEST

/*
 * As Linux's tcp_req_err: a half-open connection to where no way leads goes, unheard; "port unreachable" says nothing
 * new.
 */
START_TEST(unreachable_while_half_open)
{
	struct harness *h = h_new(H_ALL);
	h_enter(h, TCPS_SYN_RECEIVED);
	tcp_on_unreachable(&h->c, h->now, EHOSTUNREACH, false, H_ISS + 1); /* not about our SYN-ACK */
	tcp_on_unreachable(&h->c, h->now, ECONNREFUSED, true, H_ISS);
	h_output(h);
	h_state(h, TCPS_SYN_RECEIVED);
	tcp_on_unreachable(&h->c, h->now, EHOSTUNREACH, false, H_ISS);
	h_output(h);
	h_state(h, TCPS_CLOSED);
	ck_assert_int_eq(tcp_error(&h->c), 0);
	h_silence(h);
	h_free(h);
}
END_TEST

/* ---- acknowledgments ---- */

/* The first segments are acknowledged at once (for the peer's slow start); this is a connection past that. */
#define SETTLED_SEGS 40

static struct harness *settled(unsigned features)
{
	struct harness *h = h_new(features);
	h_establish(h);
	uint32_t pos = 0;
	for (int i = 0; i < SETTLED_SEGS; i++) {
		h_peer(h, SEG_ACK, 1, H_MSS);
		h_advance(h, H_RTT);
		ck_assert_int_eq(h_recv(h, H_MSS, pos), H_MSS);
		pos += H_MSS;
	}
	h_advance(h, h->stack.config.delack_us);
	h_drain(h);
	return h;
}

START_TEST(MUST_40_delayed_ack)
{
	struct harness *h = settled(_i ? H_ALL : 0);
	h_peer(h, SEG_ACK, 1, 100);
	h_silence(h);
	int64_t waited = h_next(h);
	ck_assert_int_eq(waited, h->stack.config.delack_us);
	ck_assert_int_lt(waited, 500000);
	h_expect(h, SEG_ACK, 1, h->peer_nxt, 0);
	h_silence(h);
	h_free(h);
}
END_TEST

START_TEST(SHLD_19_every_second_full_segment)
{
	struct harness *h = settled(_i ? H_ALL : 0);
	uint32_t pos = SETTLED_SEGS * H_MSS;
	for (int i = 0; i < 5; i++) {
		h_peer(h, SEG_ACK, 1, H_MSS);
		ck_assert_int_eq(h_recv(h, H_MSS, pos), H_MSS);
		h_output(h);
		h_silence(h);
		h_peer(h, SEG_ACK, 1, H_MSS);
		ck_assert_int_eq(h_recv(h, H_MSS, pos + H_MSS), H_MSS);
		pos += 2 * H_MSS;
		h_output(h);
		h_expect(h, SEG_ACK, 1, h->peer_nxt, 0);
		h_silence(h);
	}
	h_free(h);
}
END_TEST

/* As Linux: an ACK that could only tell of a smaller window waits for the read, or for its delay. */
START_TEST(unread_segments_wait_for_the_read)
{
	struct harness *h = settled(_i ? H_ALL : 0);
	uint32_t pos = SETTLED_SEGS * H_MSS;
	for (int i = 0; i < 4; i++) {
		h_peer(h, SEG_ACK, 1, H_MSS);
		h_silence(h);
	}
	ck_assert_int_eq(h_recv(h, 100, pos), 100);
	h_output(h);
	h_expect(h, SEG_ACK, 1, h->peer_nxt, 0);
	h_silence(h);
	for (int i = 0; i < 4; i++)
		h_peer(h, SEG_ACK, 1, H_MSS);
	h_silence(h);
	ck_assert_int_eq(h_next(h), h->stack.config.delack_us);
	h_expect(h, SEG_ACK, 1, h->peer_nxt, 0);
	h_silence(h);
	h_free(h);
}
END_TEST

/* MUST-58, MUST-59: all segments of a turn are processed before an ACK goes, and there is one ACK. */
START_TEST(MUST_58_acks_are_aggregated)
{
	struct harness *h = settled(0);
	struct tcp_segment s;
	for (int i = 0; i < 6; i++) {
		s = h_seg(h, SEG_ACK, 0, 1, H_MSS);
		tcp_input(&h->c, h->now, &s);
		h->peer_nxt += H_MSS;
	}
	h_silence(h);
	ck_assert_int_eq(h_recv(h, 6 * H_MSS, SETTLED_SEGS * H_MSS), 6 * H_MSS);
	h_output(h);
	h_expect(h, SEG_ACK, 1, h->peer_nxt, 0);
	h_silence(h);
	h_free(h);
}
END_TEST

/* An answer carries the ACK. */
START_TEST(ack_rides_on_data)
{
	struct harness *h = settled(0);
	h_peer(h, SEG_ACK, 1, 100);
	h_silence(h);
	h_send(h, 50);
	h_expect(h, SEG_ACK, 1, h->peer_nxt, 50);
	h_peer_ack(h, 51);
	ck_assert_int_eq(tcp_next_deadline(&h->c), TIME_NEVER);
	h_free(h);
}
END_TEST

/* A bare ACK is never acknowledged. */
START_TEST(no_ack_of_an_ack)
{
	struct harness *h = settled(_i ? H_ALL : 0);
	for (int i = 0; i < 5; i++)
		h_peer_ack(h, 1);
	h_advance(h, 10 * USEC_PER_SEC);
	h_silence(h);
	h_free(h);
}
END_TEST

/* ---- persist ---- */

static struct harness *zero_window(unsigned features)
{
	struct harness *h = h_new(features);
	h->peer_window = 4000;
	h_establish(h);
	h_send(h, 4000);
	h_drain(h);
	h->peer_window = 0;
	h_peer_ack(h, 4001);
	h_send(h, 500);
	h_silence(h);
	return h;
}

/*
 * What the peer's window held up is told as Linux counts it, by its ticks: from the one in which it began to the one
 * that is now.
 */
START_TEST(time_of_a_zero_window_is_in_ticks)
{
	struct harness *h = h_established(0, 0);
	h->stack.config.tick_us = 4000;
	h_advance(h, 3000 + 4000 - h->now % 4000);
	h_send(h, 100);
	h_advance(h, 98000);
	struct tcp_figures f;
	tcp_get_figures(&h->c, h->now, &f);
	ck_assert_int_eq(f.rwnd_limited_us, 100000);
	h_free(h);
}
END_TEST

/* MUST-35, MUST-36, SHLD-29, SHLD-30: probes after RTO, then ever slower, while the window is shut … */
START_TEST(MUST_36_zero_window_probes)
{
	struct harness *h = zero_window(_i ? H_ALL : 0);
	int64_t rto = h_status(h).rto_us;
	for (int i = 0; i < 5; i++) {
		ck_assert_int_eq(h_next(h), rto);
		struct h_out *o = h_take(h);
		ck_assert_ptr_nonnull(o);
		ck_assert_uint_le(o->seg.payload_len, 1);
		h_silence(h);
		h_peer_ack(h, 4001);
		h_silence(h);
		rto *= 2;
	}
	/* … and the data when it opens, exactly once from the left edge */
	h->peer_window = 4000;
	h_peer_ack(h, 4001);
	uint32_t end = 4001;
	for (struct h_out *o; (o = h_take(h));) {
		ck_assert_uint_eq(o->seg.seq, H_ISS + end);
		end += o->seg.payload_len;
	}
	ck_assert_uint_eq(end, 4501);
	h_free(h);
}
END_TEST

/* Between two probes nothing is known that speaks against the peer; from an unanswered one on, its time counts. */
START_TEST(zero_window_peer_answers)
{
	struct harness *h = zero_window(0);
	for (int i = 0; i < 8; i++) {
		ck_assert(tcp_peer_answers(&h->c, h->now, 2 * USEC_PER_SEC));
		h_next(h);
		h_drain(h);
		ck_assert(tcp_peer_answers(&h->c, h->now, 2 * USEC_PER_SEC));
		h_peer_ack(h, 4001);
		h_drain(h);
	}
	ck_assert_int_gt(h_next(h), 10 * USEC_PER_SEC);
	h_drain(h);
	h_advance(h, 2 * USEC_PER_SEC - 1);
	ck_assert(tcp_peer_answers(&h->c, h->now, 2 * USEC_PER_SEC));
	h_advance(h, 1);
	ck_assert(!tcp_peer_answers(&h->c, h->now, 2 * USEC_PER_SEC));
	h_peer_ack(h, 4001);
	ck_assert(tcp_peer_answers(&h->c, h->now, 2 * USEC_PER_SEC));
	h_free(h);
}
END_TEST

START_TEST(silent_peer_answers_no_more)
{
	struct harness *h = bare(0);
	h_send(h, 100);
	h_drain(h);
	while (h->now - H_START < 1900000) {
		ck_assert(tcp_peer_answers(&h->c, h->now, 2 * USEC_PER_SEC));
		h_next(h);
		h_drain(h);
	}
	while (h->now - H_START < 4000000) {
		h_next(h);
		h_drain(h);
	}
	ck_assert(!tcp_peer_answers(&h->c, h->now, 2 * USEC_PER_SEC));
	h_free(h);
}
END_TEST

/* MUST-37: the connection stays open for as long as the peer answers. */
START_TEST(MUST_37_zero_window_for_ever)
{
	struct harness *h = zero_window(0);
	for (int i = 0; i < 200; i++) {
		h_next(h);
		h_peer_ack(h, 4001);
		h_drain(h);
	}
	h_state(h, TCPS_ESTABLISHED);
	ck_assert_int_gt(h->now - H_START, 3600 * USEC_PER_SEC);
	h->peer_window = 4000;
	h_peer_ack(h, 4001);
	ck_assert_int_gt(h->n_out, 0);
	h_drain(h);
	h_free(h);
}
END_TEST

/* … but not when nobody answers. */
START_TEST(zero_window_of_a_dead_peer)
{
	struct harness *h = zero_window(0);
	for (int i = 0; i < 60 && tcp_state(&h->c) != TCPS_CLOSED; i++)
		h_next(h);
	h_state(h, TCPS_CLOSED);
	ck_assert_int_eq(tcp_error(&h->c), ETIMEDOUT);
	h_drain(h);
	h_free(h);
}
END_TEST

/* A probe's octet that the peer takes is taken. */
START_TEST(probe_is_acknowledged)
{
	struct harness *h = zero_window(0);
	h_next(h);
	struct h_out *o = h_take(h);
	ck_assert_ptr_nonnull(o);
	if (o->seg.payload_len == 1) {
		h->peer_window = 2000;
		h_peer_ack(h, 4002);
		h_expect(h, SEG_ACK, 4002, 1, 499);
	}
	h_drain(h);
	h_free(h);
}
END_TEST

/* A FIN waits for the window too, and is probed for. */
START_TEST(fin_in_a_zero_window)
{
	struct harness *h = h_new(0);
	h->peer_window = 1000;
	h_establish(h);
	h_send(h, 1000);
	h_drain(h);
	h->peer_window = 0;
	h_peer_ack(h, 1001);
	h_shutdown(h);
	for (int i = 0; i < 3; i++) {
		if (h->next_out == h->n_out)
			h_next(h);
		h_drain(h);
		h_peer_ack(h, 1001);
	}
	h->peer_window = 1000;
	h_peer_ack(h, 1001);
	if (h->next_out == h->n_out)
		h_next(h);
	h_expect(h, SEG_FIN | SEG_ACK, 1001, 1, 0);
	h_peer_ack(h, 1002);
	h_state(h, TCPS_FIN_WAIT_2);
	h_drain(h);
	h_free(h);
}
END_TEST

/* ---- keepalive ---- */

START_TEST(MUST_25_keepalive_is_off)
{
	struct harness *h = h_new(0);
	struct tcp_options opt;
	tcp_options_default(&opt);
	ck_assert(!opt.keepalive);
	ck_assert_int_ge(opt.keepidle_us, 7200 * USEC_PER_SEC); /* MUST-28 */
	h_establish(h);
	ck_assert_int_eq(tcp_next_deadline(&h->c), TIME_NEVER);
	h_free(h);
}
END_TEST

static struct harness *kept_alive(unsigned features)
{
	struct harness *h = h_new(features);
	h->open.options.keepidle_us = 60 * USEC_PER_SEC; /* MUST-27 */
	h->open.options.keepintvl_us = 7 * USEC_PER_SEC;
	h->open.options.keepcnt = 3;
	h_establish(h);
	struct tcp_options opt = *tcp_get_options(&h->c);
	opt.keepalive = true; /* MUST-24 */
	tcp_set_options(&h->c, h->now, &opt);
	h_output(h);
	return h;
}

START_TEST(MUST_24_keepalive_probes)
{
	struct harness *h = kept_alive(_i ? H_ALL : 0);
	h_advance(h, 30 * USEC_PER_SEC);
	h_peer(h, SEG_ACK, 1, 10); /* MUST-26: only when idle */
	h_advance(h, h->stack.config.delack_us);
	h_expect(h, SEG_ACK, 1, 11, 0);
	for (int i = 0; i < 5; i++) {
		h_advance(h, 60 * USEC_PER_SEC - 1 - (i ? 0 : h->stack.config.delack_us));
		h_silence(h);
		h_advance(h, 1);
		struct h_out *o = h_expect(h, SEG_ACK, 0, 11, 0); /* SEG.SEQ = SND.NXT-1, no data: SHLD-12 */
		ck_assert_uint_eq(o->seg.payload_len, 0);
		h_silence(h);
		h_peer_ack(h, 1);
		h_silence(h);
	}
	h_free(h);
}
END_TEST

/* MUST-29: not dead because one probe was not answered. */
START_TEST(MUST_29_keepalive_tolerates_loss)
{
	struct harness *h = kept_alive(0);
	h_advance(h, 60 * USEC_PER_SEC);
	h_expect(h, SEG_ACK, 0, 1, 0);
	h_advance(h, 7 * USEC_PER_SEC);
	h_expect(h, SEG_ACK, 0, 1, 0);
	h_peer_ack(h, 1);
	h_silence(h);
	h_advance(h, 60 * USEC_PER_SEC); /* begins anew */
	for (int i = 0; i < 3; i++) {
		h_expect(h, SEG_ACK, 0, 1, 0);
		h_silence(h);
		h_state(h, TCPS_ESTABLISHED);
		h_advance(h, 7 * USEC_PER_SEC);
	}
	h_state(h, TCPS_CLOSED);
	ck_assert_int_eq(tcp_error(&h->c), ETIMEDOUT);
	h_drain(h); /* a RST may tell the peer */
	h_free(h);
}
END_TEST

/* The peer's probe is answered. */
START_TEST(peer_keepalive_is_answered)
{
	struct harness *h = settled(_i ? H_ALL : 0);
	for (int i = 0; i < 3; i++) {
		h_advance(h, 60 * USEC_PER_SEC);
		struct tcp_segment s = h_seg(h, SEG_ACK, -1, 1, i == 1); /* with and without the garbage octet */
		h_input(h, &s);
		h_expect(h, SEG_ACK, 1, h->peer_nxt, 0);
		h_silence(h);
	}
	h_free(h);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("timers");
	TCase *tc = tcase_create("rto");
	tcase_add_loop_test(tc, MUST_18_first_sample, 0, 2);
	tcase_add_test(tc, MUST_18_whole_ticks);
	tcase_add_test(tc, MUST_18_second_sample);
	tcase_add_test(tc, MUST_18_floor);
	tcase_add_loop_test(tc, MUST_19_exponential_backoff, 0, 2);
	tcase_add_test(tc, RFC6298_5_timer_management);
	tcase_add_test(tc, MUST_18_karn_no_ambiguous_sample);
	tcase_add_test(tc, MUST_18_karn_keeps_the_backoff);
	tcase_add_test(tc, RFC7323_sample_from_a_retransmission);
	tcase_add_test(tc, RFC6298_5_7_after_a_lost_syn);
	tcase_add_loop_test(tc, RFC6298_2_2_after_a_lost_syn_with_timestamps, 0, 2);
	suite_add_tcase(s, tc);
	tc = tcase_create("giving up");
	tcase_add_loop_test(tc, MUST_20_retransmission_ends, 0, 2);
	tcase_add_test(tc, MUST_21_user_timeout);
	tcase_add_test(tc, MUST_56_soft_errors);
	tcase_add_test(tc, soft_error_while_opening);
	tcase_add_test(tc, SHLD_26_hard_error_while_opening);
	tcase_add_test(tc, unreachable_while_half_open);
	suite_add_tcase(s, tc);
	tc = tcase_create("acks");
	tcase_add_loop_test(tc, MUST_40_delayed_ack, 0, 2);
	tcase_add_loop_test(tc, SHLD_19_every_second_full_segment, 0, 2);
	tcase_add_loop_test(tc, unread_segments_wait_for_the_read, 0, 2);
	tcase_add_test(tc, MUST_58_acks_are_aggregated);
	tcase_add_test(tc, ack_rides_on_data);
	tcase_add_loop_test(tc, no_ack_of_an_ack, 0, 2);
	suite_add_tcase(s, tc);
	tc = tcase_create("persist");
	tcase_add_test(tc, time_of_a_zero_window_is_in_ticks);
	tcase_add_loop_test(tc, MUST_36_zero_window_probes, 0, 2);
	tcase_add_test(tc, zero_window_peer_answers);
	tcase_add_test(tc, silent_peer_answers_no_more);
	tcase_add_test(tc, MUST_37_zero_window_for_ever);
	tcase_add_test(tc, zero_window_of_a_dead_peer);
	tcase_add_test(tc, probe_is_acknowledged);
	tcase_add_test(tc, fin_in_a_zero_window);
	suite_add_tcase(s, tc);
	tc = tcase_create("keepalive");
	tcase_add_test(tc, MUST_25_keepalive_is_off);
	tcase_add_loop_test(tc, MUST_24_keepalive_probes, 0, 2);
	tcase_add_test(tc, MUST_29_keepalive_tolerates_loss);
	tcase_add_loop_test(tc, peer_keepalive_is_answered, 0, 2);
	suite_add_tcase(s, tc);
	return h_main(s);
}
