/* Compact TIME-WAIT: RFC 9293 §3.10.7.4 in TIME-WAIT, RFC 6191, RFC 1337, RFC 7323 PAWS. */
#include <check.h>
#include <stdlib.h>

#include "tcp/tcp.h"
#include "tcp/ts_clock.h"
#include "tests/suite.h"

#define MSL2     (60 * USEC_PER_SEC)
#define NOW      (INT64_C(1000) * USEC_PER_SEC)
#define RCV_NXT  0x00000005u /* the peer's FIN was number 4; its last data straddle 2^32 */
#define SND_NXT  0xfffffff0u
#define TS_PEER  0x7ffffff0u /* timestamps that are about to change sign */
#define TS_OFF   0x1000u
#define WND      65536u

static struct tcp_stack stack;
static struct tcp_tw tw;
static struct tcp_segment reply;
static uint32_t iss_min;

static void setup(void)
{
	stack = (struct tcp_stack){.config = {.time_wait_us = MSL2, .invalid_ratelimit_us = 500 * USEC_PER_MSEC}};
	tw = (struct tcp_tw){
		.snd_nxt = SND_NXT,
		.rcv_nxt = RCV_NXT,
		.rcv_wnd = WND,
		.rcv_wscale = 7,
		.ts_recent = TS_PEER,
		.ts_offset = TS_OFF,
		.timestamps = true,
		.ts_recent_age_us = NOW,
		.expires_us = NOW + MSL2,
	};
	reply = (struct tcp_segment){.flags = 0xee};
	iss_min = 0xdeadbeef;
}

static void setup_without_timestamps(void)
{
	setup();
	tw.timestamps = false;
	tw.ts_recent = 0;
}

static struct tcp_segment segment(uint32_t seq, uint8_t flags, uint32_t len)
{
	static uint8_t text[64];
	struct tcp_segment s = {
		.sport = 40000,
		.dport = 80,
		.seq = seq,
		.ack = SND_NXT,
		.flags = flags,
		.window = 500,
		.payload = {{text, len}},
		.payload_len = len,
	};
	if (tw.timestamps) {
		s.has = SEG_HAS_TIMESTAMPS;
		s.ts_val = TS_PEER + 1;
		s.ts_ecr = 1;
	}
	return s;
}

static enum tw_verdict input(int64_t now, struct tcp_segment s)
{
	return tcp_tw_input(&tw, &stack, now, &s, &reply, &iss_min);
}

static void assert_counted(enum tcp_counter which)
{
	for (int i = 0; i < TCPC_COUNT; i++)
		ck_assert_msg(stack.counters[i] == (i == (int)which), "counter %d is %llu", i,
			      (unsigned long long)stack.counters[i]);
}

static void assert_ack(int64_t now, uint32_t ts_ecr)
{
	ck_assert_uint_eq(reply.flags, SEG_ACK);
	ck_assert_uint_eq(reply.sport, 80);
	ck_assert_uint_eq(reply.dport, 40000);
	ck_assert_uint_eq(reply.seq, SND_NXT);
	ck_assert_uint_eq(reply.ack, RCV_NXT);
	ck_assert_uint_eq(reply.window, WND >> 7);
	ck_assert_uint_eq(reply.payload_len, 0);
	ck_assert_uint_eq(reply.n_sack, 0);
	if (!tw.timestamps) {
		ck_assert_uint_eq(reply.has, 0);
		return;
	}
	ck_assert_uint_eq(reply.has, SEG_HAS_TIMESTAMPS);
	ck_assert_uint_eq(reply.ts_val, tcp_ts_now(now, TS_OFF));
	ck_assert_uint_eq(reply.ts_ecr, ts_ecr);
}

START_TEST(repeated_fin_is_acked_and_restarts_2msl)
{
	int64_t t = NOW + 10 * USEC_PER_SEC;
	ck_assert_int_eq(input(t, segment(RCV_NXT - 1, SEG_FIN | SEG_ACK, 0)), TW_REPLY);
	assert_ack(t, TS_PEER); /* as Linux: the first FIN's */
	assert_counted(TCPC_TWFinRepeated);
	ck_assert_int_eq(tw.expires_us, t + MSL2);
	if (tw.timestamps)
		ck_assert_int_eq(tw.ts_recent_age_us, t);
}
END_TEST

START_TEST(repeated_fin_with_its_data)
{
	ck_assert_int_eq(input(NOW, segment(RCV_NXT - 31, SEG_FIN | SEG_ACK | SEG_PSH, 30)), TW_REPLY);
	assert_ack(NOW, TS_PEER);
	assert_counted(TCPC_TWFinRepeated);
}
END_TEST

START_TEST(repeated_fins_are_each_answered)
{
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(input(NOW + i, segment(RCV_NXT - 1, SEG_FIN | SEG_ACK, 0)), TW_REPLY);
}
END_TEST

/* Nothing but the peer's FIN prolongs TIME-WAIT. */
START_TEST(other_segments_do_not_restart_2msl)
{
	int64_t t = NOW + 10 * USEC_PER_SEC;
	input(t, segment(RCV_NXT, SEG_ACK, 0));
	input(t, segment(RCV_NXT, SEG_ACK, 10));
	input(t, segment(RCV_NXT, SEG_FIN | SEG_ACK, 0)); /* a second, different FIN */
	input(t, segment(RCV_NXT - 2, SEG_FIN | SEG_ACK, 0));
	input(t, segment(RCV_NXT - 100, SEG_ACK, 10));
	input(t, segment(RCV_NXT, SEG_RST, 0));
	ck_assert_int_eq(tw.expires_us, NOW + MSL2);
}
END_TEST

START_TEST(bare_ack_in_window_is_silence)
{
	ck_assert_int_eq(input(NOW, segment(RCV_NXT, SEG_ACK, 0)), TW_DROP);
	assert_counted(TCPC_TWBareAck);
	ck_assert_uint_eq(reply.flags, 0xee);
}
END_TEST

/* Both ends in TIME-WAIT after a simultaneous close: whatever one says, the exchange dies out. */
START_TEST(two_time_waits_do_not_fight)
{
	struct tcp_tw peer = tw;
	peer.snd_nxt = tw.rcv_nxt;
	peer.rcv_nxt = tw.snd_nxt;
	peer.ts_offset = TS_PEER - tcp_ts_now(NOW, 0);
	peer.ts_recent = tcp_ts_now(NOW, TS_OFF);
	struct tcp_segment s = segment(RCV_NXT - 50, SEG_ACK, 0), out;
	int answers = 0;
	for (bool ours = true; answers < 10; ours = !ours) {
		if (tcp_tw_input(ours ? &tw : &peer, &stack, NOW, &s, &out, &iss_min) != TW_REPLY)
			break;
		s = out;
		answers++;
	}
	ck_assert_int_eq(answers, 1);
}
END_TEST

START_TEST(text_beyond_the_fin_is_ignored)
{
	ck_assert_int_eq(input(NOW, segment(RCV_NXT, SEG_ACK, 10)), TW_REPLY);
	assert_ack(NOW, TS_PEER + 1);
	assert_counted(TCPC_TWBeyondFin);
	ck_assert_uint_eq(tw.rcv_nxt, RCV_NXT);
}
END_TEST

struct unacceptable {
	uint32_t seq, len;
	uint32_t wnd;
};
static const struct unacceptable unacceptable_cases[] = {
	{RCV_NXT - 1, 0, WND},	       /* before the window: a keepalive probe */
	{RCV_NXT + WND, 0, WND},       /* just beyond it */
	{RCV_NXT - 10, 10, WND},       /* text that ends before the window */
	{RCV_NXT + WND, 1, WND},       /* text just beyond it */
	{RCV_NXT + 0x80000000u, 0, WND},
	{RCV_NXT + 1, 0, 0},	       /* zero window: RCV.NXT only … */
	{RCV_NXT, 1, 0},	       /* … and never text */
};

START_TEST(MUST_unacceptable_is_acked)
{
	const struct unacceptable *c = &unacceptable_cases[_i];
	tw.rcv_wnd = c->wnd;
	ck_assert_int_eq(input(NOW, segment(c->seq, SEG_ACK, c->len)), TW_REPLY);
	ck_assert_uint_eq(reply.flags, SEG_ACK);
	ck_assert_uint_eq(reply.seq, SND_NXT);
	ck_assert_uint_eq(reply.ack, RCV_NXT);
	ck_assert_uint_eq(reply.ts_ecr, tw.timestamps ? TS_PEER : 0); /* not taken: RFC 7323 §5.3 R2 */
	assert_counted(TCPC_TWUnacceptable);
}
END_TEST

START_TEST(edges_of_the_window_are_acceptable)
{
	ck_assert_int_eq(input(NOW, segment(RCV_NXT, SEG_ACK, 0)), TW_DROP);
	ck_assert_int_eq(input(NOW, segment(RCV_NXT + WND - 1, SEG_ACK, 0)), TW_REPLY); /* beyond the FIN: as Linux, and so often only */
	ck_assert_int_eq(input(NOW, segment(RCV_NXT + WND - 1, SEG_ACK, 0)), TW_DROP);
	ck_assert_int_eq(input(NOW, segment(RCV_NXT + WND - 1, SEG_ACK, 1)), TW_REPLY);
	ck_assert_int_eq(input(NOW, segment(RCV_NXT - 1, SEG_ACK, 2)), TW_REPLY);
	ck_assert_uint_eq(stack.counters[TCPC_TWUnacceptable], 0);
	tw.rcv_wnd = 0;
	ck_assert_int_eq(input(NOW, segment(RCV_NXT, SEG_ACK, 0)), TW_DROP);
	ck_assert_uint_eq(stack.counters[TCPC_TWUnacceptable], 0);
}
END_TEST

START_TEST(replies_to_bare_acks_are_spaced)
{
	struct tcp_segment s = segment(RCV_NXT - 1, SEG_ACK, 0);
	ck_assert_int_eq(input(NOW, s), TW_REPLY);
	ck_assert_int_eq(input(NOW + 1, s), TW_DROP);
	ck_assert_int_eq(input(NOW + 499999, s), TW_DROP);
	ck_assert_uint_eq(stack.counters[TCPC_TWReplySkipped], 2);
	ck_assert_int_eq(input(NOW + 500000, s), TW_REPLY);
}
END_TEST

START_TEST(segment_without_ack_is_dropped)
{
	ck_assert_int_eq(input(NOW, segment(RCV_NXT, 0, 10)), TW_DROP);
	ck_assert_int_eq(input(NOW, segment(RCV_NXT - 1, SEG_FIN, 0)), TW_DROP);
	ck_assert_uint_eq(stack.counters[TCPC_TWNoAck], 2);
	ck_assert_int_eq(tw.expires_us, NOW + MSL2);
}
END_TEST

/* ---- SYN ---- */

START_TEST(MAY_2_higher_sequence_number_takes_over)
{
	ck_assert_int_eq(input(NOW, segment(RCV_NXT, SEG_SYN, 0)), TW_REUSE);
	assert_counted(TCPC_TWRecycled);
	ck_assert_int_gt((int32_t)(iss_min - SND_NXT), 65535); /* beyond all we used, over the wrap */
	ck_assert_int_eq(input(NOW, segment(RCV_NXT + 0x7fffffff, SEG_SYN, 0)), TW_REUSE);
}
END_TEST

START_TEST(MUST_old_syn_gets_a_challenge_ack)
{
	ck_assert_int_eq(input(NOW, segment(RCV_NXT - 1, SEG_SYN, 0)), TW_REPLY);
	assert_ack(NOW, 0);
	assert_counted(TCPC_TWSynChallenged);
	ck_assert_int_eq(tw.expires_us, NOW + MSL2);
	ck_assert_int_eq(input(NOW + 1, segment(RCV_NXT - 1, SEG_SYN, 0)), TW_DROP); /* spaced */
}
END_TEST

struct syn_case {
	bool before;	      /* the previous incarnation had timestamps */
	bool has;	      /* the SYN has one … */
	int32_t ts;	      /* … so much later than the last one seen */
	int32_t seq;	      /* SEG.SEQ relative to RCV.NXT */
	enum tw_verdict want;
};
/* RFC 6191 §2, line by line */
static const struct syn_case syn_cases[] = {
	{true, true, 1, -1000, TW_REUSE},
	{true, true, 0x7fffffff, -1000, TW_REUSE},
	{true, true, 0, 0, TW_REUSE},
	{true, true, 0, -1, TW_REPLY},
	{true, true, -1, 1000, TW_REPLY},
	{true, false, 0, 0, TW_REUSE},
	{true, false, 0, -1, TW_REPLY},
	{false, true, 0, -1000, TW_REUSE},
	{false, false, 0, 0, TW_REUSE},
	{false, false, 0, -1, TW_REPLY},
};

START_TEST(SHLD_4_rfc6191)
{
	const struct syn_case *c = &syn_cases[_i];
	tw.timestamps = c->before;
	struct tcp_segment s = segment(RCV_NXT + c->seq, SEG_SYN, 0);
	s.has = SEG_HAS_MSS | (c->has ? SEG_HAS_TIMESTAMPS : 0);
	s.ts_val = c->has ? TS_PEER + c->ts : 0;
	ck_assert_int_eq(input(NOW, s), c->want);
}
END_TEST

START_TEST(syn_with_ack_or_fin_never_takes_over)
{
	ck_assert_int_eq(input(NOW, segment(RCV_NXT + 9, SEG_SYN | SEG_ACK, 0)), TW_REPLY);
	ck_assert_int_eq(input(NOW + USEC_PER_SEC, segment(RCV_NXT + 9, SEG_SYN | SEG_FIN, 0)), TW_REPLY);
	ck_assert_uint_eq(stack.counters[TCPC_TWSynChallenged], 2);
	ck_assert_uint_eq(iss_min, 0xdeadbeef);
}
END_TEST

/* ---- RST ---- */

START_TEST(RFC1337_provoked_reset_is_ignored)
{
	/* The peer is CLOSED and answers an old ACK of ours; or lives: with the setting it is the same. */
	stack.config.rfc1337 = true;
	struct tcp_segment s = segment(RCV_NXT, SEG_RST, 0);
	if (_i)
		s.has = 0;
	ck_assert_int_eq(input(NOW, s), TW_DROP);
	assert_counted(TCPC_TWRstIgnored);
}
END_TEST

START_TEST(reset_closes)
{
	struct tcp_segment s = segment(RCV_NXT, SEG_RST | SEG_ACK, 0);
	if (_i)
		s.has = 0;
	ck_assert_int_eq(input(NOW, s), TW_GONE);
	assert_counted(TCPC_TWRstClosed);
}
END_TEST

static const int32_t rst_offsets[] = {-1, 1, 100, WND - 1, WND, INT32_MIN};
START_TEST(RFC5961_inexact_reset_is_ignored)
{
	ck_assert_int_eq(input(NOW, segment(RCV_NXT + rst_offsets[_i], SEG_RST, 0)), TW_DROP);
	assert_counted(TCPC_TWRstIgnored);
	ck_assert_uint_eq(reply.flags, 0xee);
}
END_TEST

START_TEST(reset_with_old_timestamp_is_ignored)
{
	struct tcp_segment s = segment(RCV_NXT, SEG_RST, 0);
	s.ts_val = TS_PEER - 1;
	ck_assert_int_eq(input(NOW, s), TW_DROP);
	assert_counted(TCPC_TWRstIgnored);
}
END_TEST

/* ---- timestamps ---- */

START_TEST(RFC7323_paws_old_segment_is_acked)
{
	struct tcp_segment s = segment(RCV_NXT - 1, SEG_FIN | SEG_ACK, 0);
	s.ts_val = TS_PEER - 1;
	ck_assert_int_eq(input(NOW + 5, s), TW_REPLY);
	assert_ack(NOW + 5, TS_PEER);
	assert_counted(TCPC_TWPaws);
	ck_assert_int_eq(tw.expires_us, NOW + MSL2); /* an old duplicate, not the peer repeating itself */
}
END_TEST

START_TEST(RFC7323_timestamp_over_the_sign_change)
{
	struct tcp_segment s = segment(RCV_NXT, SEG_ACK, 0);
	s.ts_val = TS_PEER + 0x20; /* 0x80000010 */
	ck_assert_int_eq(input(NOW, s), TW_DROP);
	ck_assert_uint_eq(tw.ts_recent, 0x80000010u);
}
END_TEST

START_TEST(RFC7323_missing_timestamp_is_dropped)
{
	struct tcp_segment s = segment(RCV_NXT - 1, SEG_FIN | SEG_ACK, 0);
	s.has = 0;
	ck_assert_int_eq(input(NOW, s), TW_DROP);
	assert_counted(TCPC_TWNoTimestamp);
}
END_TEST

/* ---- our own clients ---- */

/* SHLD-4. */
START_TEST(reuse_after_a_second)
{
	ck_assert(!tcp_tw_may_reuse(&tw, NOW + USEC_PER_SEC, TCP_TW_REUSE_US, &iss_min));
	ck_assert(tcp_tw_may_reuse(&tw, NOW + USEC_PER_SEC + USEC_PER_MSEC, TCP_TW_REUSE_US, &iss_min));
	ck_assert_int_gt((int32_t)(iss_min - SND_NXT), 65535);
	ck_assert(tcp_tw_may_reuse(&tw, NOW, TCP_TW_REUSE_SOON_US, &iss_min));
	/* a repeated FIN is a use */
	input(NOW + USEC_PER_SEC + 1, segment(RCV_NXT - 1, SEG_FIN | SEG_ACK, 0));
	ck_assert(!tcp_tw_may_reuse(&tw, NOW + 2 * USEC_PER_SEC, TCP_TW_REUSE_US, &iss_min));
}
END_TEST

START_TEST(no_reuse_without_timestamps_before_2msl)
{
	ck_assert(!tcp_tw_may_reuse(&tw, NOW + MSL2 - 1, TCP_TW_REUSE_US, &iss_min));
	ck_assert(tcp_tw_may_reuse(&tw, NOW + MSL2, TCP_TW_REUSE_US, &iss_min));
	ck_assert_int_gt((int32_t)(iss_min - SND_NXT), 0);
}
END_TEST

#define COUNT(a) (int)(sizeof(a) / sizeof *(a))

static void add_common(TCase *tc)
{
	tcase_add_test(tc, repeated_fin_is_acked_and_restarts_2msl);
	tcase_add_test(tc, repeated_fin_with_its_data);
	tcase_add_test(tc, repeated_fins_are_each_answered);
	tcase_add_test(tc, other_segments_do_not_restart_2msl);
	tcase_add_test(tc, bare_ack_in_window_is_silence);
	tcase_add_test(tc, two_time_waits_do_not_fight);
	tcase_add_test(tc, text_beyond_the_fin_is_ignored);
	tcase_add_loop_test(tc, MUST_unacceptable_is_acked, 0, COUNT(unacceptable_cases));
	tcase_add_test(tc, edges_of_the_window_are_acceptable);
	tcase_add_test(tc, replies_to_bare_acks_are_spaced);
	tcase_add_test(tc, segment_without_ack_is_dropped);
	tcase_add_test(tc, syn_with_ack_or_fin_never_takes_over);
	tcase_add_loop_test(tc, RFC5961_inexact_reset_is_ignored, 0, COUNT(rst_offsets));
	tcase_add_loop_test(tc, RFC1337_provoked_reset_is_ignored, 0, 2);
}

int main(void)
{
	Suite *s = suite_create("tw");
	TCase *with = tcase_create("timestamps");
	tcase_add_checked_fixture(with, setup, NULL);
	add_common(with);
	tcase_add_loop_test(with, SHLD_4_rfc6191, 0, COUNT(syn_cases));
	tcase_add_loop_test(with, reset_closes, 0, 2);
	tcase_add_test(with, reset_with_old_timestamp_is_ignored);
	tcase_add_test(with, RFC7323_paws_old_segment_is_acked);
	tcase_add_test(with, RFC7323_timestamp_over_the_sign_change);
	tcase_add_test(with, RFC7323_missing_timestamp_is_dropped);
	tcase_add_test(with, reuse_after_a_second);
	suite_add_tcase(s, with);
	TCase *without = tcase_create("plain");
	tcase_add_checked_fixture(without, setup_without_timestamps, NULL);
	add_common(without);
	tcase_add_test(without, MAY_2_higher_sequence_number_takes_over);
	tcase_add_test(without, MUST_old_syn_gets_a_challenge_ack);
	tcase_add_test(without, no_reuse_without_timestamps_before_2msl);
	suite_add_tcase(s, without);
	return suite_main(s);
}
