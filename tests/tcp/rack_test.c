/*
 * RACK-TLP (RFC 8985), the undoing of repairs that had no reason (RFC 3522, RFC 3708), and the log of what is in flight
 * (tcp/sent.h). Segment k (from 0) is [1 + k * H_MSS, …). The round trip is H_RTT.
 */
#include "harness.h"

#include "tcp/seq.h"
#include "tcp/sent.h"

#include <stdlib.h>

#define SEG(k) (1 + (uint32_t)(k) * H_MSS)
#define MS     USEC_PER_MSEC

static struct harness *start(unsigned features)
{
	struct harness *h = h_new(features);
	h->open.options.user_sndbuf = true;
	h->open.options.sndbuf_bytes = 1 << 20;
	h_establish(h);
	h->peer_window = 65535;
	return h;
}

/* `n` segments leave, each a millisecond after the one before; all expected. */
static void send_spaced(struct harness *h, uint32_t first, uint32_t n)
{
	for (uint32_t k = first; k < first + n; k++) {
		h_send(h, H_MSS);
		h_expect(h, SEG_ACK, SEG(k), 1, H_MSS);
		h_advance(h, MS);
	}
}

static void sack(struct harness *h, uint32_t ack, uint32_t left, uint32_t right)
{
	h_peer_sack(h, ack, 1, (uint32_t[]){SEG(left), SEG(right)});
}

/* ---- loss by time ---- */

/*
 * One SACKed segment above is enough, after a quarter of the round trip: three duplicates never come of a short flight.
 */
START_TEST(RFC8985_one_sack_and_a_reordering_window)
{
	struct harness *h = start(H_ALL);
	send_spaced(h, 0, 2);
	h_advance(h, H_RTT - 2 * MS);
	sack(h, 1, 1, 2);
	h_silence(h);
	int64_t wait = h_next(h);
	ck_assert_int_le(wait, H_RTT / 2);
	h_expect(h, SEG_ACK, SEG(0), 1, H_MSS);
	h_silence(h);
	ck_assert_uint_eq(h_status(h).fast_recoveries, 1);
	ck_assert_uint_eq(h_status(h).rto_events, 0);
	h_free(h);
}
END_TEST

/*
 * As Linux: a segment of which a part is told was not delivered, and what is told of several is cut to those that are
 * whole. Segments that are not known to be whole are taken as they are told.
 */
START_TEST(parts_of_segments_are_not_delivered)
{
	struct harness *h = start(H_ALL);
	uint32_t end = SEG(3) + H_MSS / 2;
	h_send(h, end - 1);
	h_drain(h);
	h_advance(h, H_RTT);
	uint32_t parts[][2] = {{end - 1, end}, {SEG(2) + 1, SEG(3)}, {SEG(1), SEG(2) - 1}, {SEG(1) + 1, SEG(3) - 1}};
	for (unsigned i = 0; i < 4; i++)
		h_peer_sack(h, 1, 1, parts[i]);
	ck_assert_uint_eq(h->c.sacked_bytes, 0);
	ck_assert_int_eq(h->c.reo_at, TIME_NEVER);
	h_peer_sack(h, 1, 1, (uint32_t[]){SEG(1) + 1, end - 1});
	ck_assert_uint_eq(h->c.sacked_bytes, H_MSS);
	h_peer_sack(h, 1, 1, (uint32_t[]){SEG(3), end});
	ck_assert_uint_eq(h->c.sacked_bytes, H_MSS + H_MSS / 2);
	h_drain(h);
	h_free(h);
}
END_TEST

START_TEST(short_segments_are_taken_as_told)
{
	struct harness *h = start(H_ALL);
	h->c.options.nodelay = true;
	for (unsigned i = 0; i < 5; i++) { /* one record: they leave at one time */
		h_send(h, 100);
		h_expect(h, SEG_ACK | SEG_PSH, 1 + 100 * i, 1, 100);
	}
	h_advance(h, H_RTT);
	h_peer_sack(h, 1, 1, (uint32_t[]){101, 301});
	ck_assert_uint_eq(h->c.sacked_bytes, 200);
	h_drain(h);
	h_free(h);
}
END_TEST

static void send_at_once(struct harness *h, uint32_t n)
{
	for (uint32_t k = 0; k < n; k++) {
		h_send(h, H_MSS);
		h_expect(h, SEG_ACK, SEG(k), 1, H_MSS);
	}
	h_advance(h, H_RTT);
}

/* net.ipv4.tcp_recovery: three SACKed segments above are no sign with bit 2, so that only time tells. */
START_TEST(tcp_recovery_without_dupthresh)
{
	struct harness *h = start(H_ALL);
	h->stack.config.recovery = 1 | TCP_RECOVERY_NO_DUPTHRESH;
	send_at_once(h, 5);
	sack(h, 1, 1, 5);
	h_silence(h);
	ck_assert_int_gt(h_next(h), 0);
	h_expect(h, SEG_ACK, SEG(0), 1, H_MSS);
	ck_assert_uint_eq(h_status(h).fast_recoveries, 1);
	h_free(h);
}
END_TEST

/* net.ipv4.tcp_reordering is the DupThresh. */
START_TEST(tcp_reordering_is_dupthresh)
{
	struct harness *h = h_new(H_ALL);
	h->stack.config.reordering = _i;
	h->open.options.user_sndbuf = true;
	h->open.options.sndbuf_bytes = 1 << 20;
	h_establish(h);
	h->peer_window = 65535;
	send_at_once(h, 6);
	sack(h, 1, 1, 5);
	if (_i <= 4)
		h_expect(h, SEG_ACK, SEG(0), 1, H_MSS);
	h_silence(h);
	h_free(h);
}
END_TEST

/* net.ipv4.tcp_early_retrans: tail loss probes with 3 and 4 only; else nothing goes before the timeout. */
START_TEST(tcp_early_retrans_is_probes)
{
	struct harness *h = start(H_ALL);
	h->stack.config.early_retrans = _i;
	send_spaced(h, 0, 2);
	h_next(h);
	h_expect(h, SEG_ACK, _i >= 3 ? SEG(1) : SEG(0), 1, H_MSS);
	ck_assert_uint_eq(h_status(h).rto_events, _i < 3);
	h_free(h);
}
END_TEST

/* A segment that is only late is not sent again. */
START_TEST(RFC8985_reordering_within_the_window)
{
	struct harness *h = start(H_ALL);
	send_spaced(h, 0, 2);
	h_advance(h, H_RTT - 2 * MS);
	sack(h, 1, 1, 2);
	h_advance(h, MS);
	h_peer_ack(h, SEG(2));
	h_advance(h, H_RTT);
	h_silence(h);
	ck_assert_uint_eq(h_status(h).fast_recoveries, 0);
	ck_assert_uint_eq(h_status(h).total_retrans, 0);
	h_free(h);
}
END_TEST

/* Once the path was seen to reorder, three SACKed segments above are no proof any more. */
START_TEST(RFC8985_reordering_seen)
{
	struct harness *h = start(H_ALL);
	send_spaced(h, 0, 2);
	h_advance(h, H_RTT - 2 * MS);
	sack(h, 1, 1, 2);
	h_peer_ack(h, SEG(2)); /* 0 came after 1 */
	h_send(h, 6 * H_MSS);
	h_drain(h);
	h_advance(h, H_RTT);
	sack(h, SEG(2), 3, 8);
	h_silence(h);
	h_next(h);
	h_expect(h, SEG_ACK, SEG(2), 1, H_MSS);
	h_silence(h);
	h_free(h);
}
END_TEST

/* A retransmission that is lost, too, is found lost by what was sent after it: no timeout. */
START_TEST(RFC8985_lost_retransmission)
{
	struct harness *h = start(H_ALL);
	send_spaced(h, 0, 8);
	h_advance(h, H_RTT - 8 * MS);
	sack(h, 1, 1, 4);
	h_expect(h, SEG_ACK, SEG(0), 1, H_MSS);
	h_advance(h, MS);
	h_send(h, 4 * H_MSS);
	sack(h, 1, 1, 8); /* makes room for new data, which leaves after the retransmission */
	struct h_out *o = h_take(h);
	ck_assert_ptr_nonnull(o);
	ck_assert_uint_ge(o->seg.seq - H_ISS, SEG(8));
	h_drain(h);
	uint32_t sent = h_snd_nxt(h);
	h_advance(h, H_RTT);
	h_peer_sack(h, 1, 1, (uint32_t[]){SEG(1), sent}); /* all of it arrived, 0 is still missing */
	h_expect(h, SEG_ACK, SEG(0), 1, H_MSS);
	ck_assert_uint_eq(h_status(h).rto_events, 0);
	ck_assert_uint_eq(h_status(h).fast_recoveries, 1);
	h_drain(h);
	h_free(h);
}
END_TEST

/* What left in one turn is one record; that its first half is lost says nothing of the second. */
START_TEST(only_what_was_overtaken_is_lost)
{
	struct harness *h = start(H_ALL);
	h_send(h, 10 * H_MSS);
	h_drain(h);
	h_advance(h, H_RTT);
	sack(h, 1, 2, 9);
	uint32_t again = 0;
	for (struct h_out *o; (o = h_take(h)); again++)
		ck_assert_uint_lt(o->seg.seq - H_ISS, SEG(2));
	ck_assert_uint_eq(again, 2);
	h_free(h);
}
END_TEST

/* ---- tail loss probe ---- */

/*
 * The end of a flight is lost: after two round trips the last segment goes again, and its SACK tells what is missing.
 */
START_TEST(RFC8985_tail_loss_probe)
{
	struct harness *h = start(H_ALL);
	send_spaced(h, 0, 10);
	h_peer_ack(h, SEG(7));
	h_silence(h);
	int64_t pto = h_next(h);
	ck_assert_int_ge(pto, 2 * (int64_t)h_status(h).srtt_us);
	ck_assert_int_lt(pto, 3 * (int64_t)h_status(h).srtt_us + 3 * MS);
	h_expect(h, SEG_ACK, SEG(9), 1, H_MSS);
	h_silence(h);
	h_advance(h, H_RTT);
	sack(h, SEG(7), 9, 10);
	if (h->next_out == h->n_out)
		h_next(h);
	h_expect(h, SEG_ACK, SEG(7), 1, H_MSS);
	h_advance(h, H_RTT);
	sack(h, SEG(8), 9, 10);
	h_expect(h, SEG_ACK, SEG(8), 1, H_MSS);
	h_advance(h, H_RTT);
	h_peer_ack(h, SEG(10));
	h_silence(h);
	ck_assert_uint_eq(h_status(h).rto_events, 0);
	ck_assert_uint_eq(h->stack.counters[TCPC_LossProbes], 1);
	h_free(h);
}
END_TEST

/* A probe that repairs the loss by itself leaves no other trace of it: the window shrinks all the same. */
START_TEST(RFC8985_probe_repairs)
{
	struct harness *h = start(H_ALL);
	send_spaced(h, 0, 10);
	h_peer_ack(h, SEG(9));
	h_next(h);
	h_expect(h, SEG_ACK, SEG(9), 1, H_MSS);
	h_send(h, H_MSS); /* new data behind it */
	h_expect(h, SEG_ACK, SEG(10), 1, H_MSS);
	uint32_t cwnd = h_status(h).cwnd_bytes;
	h_advance(h, H_RTT);
	h_peer_ack(h, SEG(11));
	ck_assert_uint_lt(h_status(h).cwnd_bytes, cwnd);
	ck_assert_uint_eq(h->stack.counters[TCPC_LossProbeRecovery], 1);
	h_free(h);
}
END_TEST

/* Nothing was lost, only slow: a D-SACK for the probe. */
START_TEST(RFC8985_probe_for_nothing)
{
	struct harness *h = start(H_ALL);
	send_spaced(h, 0, 10);
	h_peer_ack(h, SEG(9));
	h_next(h);
	h_expect(h, SEG_ACK, SEG(9), 1, H_MSS);
	uint32_t cwnd = h_status(h).cwnd_bytes;
	h_peer_ack(h, SEG(10));
	h_peer_sack(h, SEG(10), 1, (uint32_t[]){SEG(9), SEG(10)});
	ck_assert_uint_ge(h_status(h).cwnd_bytes, cwnd);
	ck_assert_uint_eq(h->stack.counters[TCPC_LossProbeRecovery], 0);
	h_silence(h);
	h_free(h);
}
END_TEST

/* New data is the better probe; one probe only, then the timeout. Without SACK there is none. */
START_TEST(RFC8985_probe_with_new_data_then_timeout)
{
	struct harness *h = start(_i ? H_ALL : H_TS | H_WSCALE);
	h_grow_cwnd(h, 10);
	h_drain(h);
	uint32_t una = h_snd_nxt(h), nxt;
	h_send(h, 20 * H_MSS);
	h_drain(h);
	nxt = h_snd_nxt(h);
	ck_assert_uint_lt(nxt, una + 20 * H_MSS);
	h_next(h);
	if (_i) {
		h_expect(h, SEG_ACK, nxt, 1, H_MSS);
		h_silence(h);
		ck_assert_uint_eq(h_status(h).rto_events, 0);
		h_next(h);
	}
	h_expect(h, SEG_ACK, una, 1, H_MSS);
	h_silence(h);
	ck_assert_uint_eq(h_status(h).rto_events, 1);
	ck_assert_uint_eq(h->stack.counters[TCPC_LossProbes], _i ? 1 : 0);
	h_free(h);
}
END_TEST

/* ---- undoing ---- */

/* RFC 3522: the ACK of what was sent again echoes the original's time stamp. */
START_TEST(RFC3522_timeout_for_nothing)
{
	struct harness *h = start(H_ALL);
	h_send(h, 10 * H_MSS);
	h_drain(h);
	uint32_t cwnd = h_status(h).cwnd_bytes, ssthresh = h_status(h).ssthresh_bytes;
	struct tcp_segment late = h_seg(h, SEG_ACK, 0, SEG(5), 0); /* with the time stamps of now */
	while (!h_status(h).rto_events)
		h_next(h);
	h_drain(h);
	ck_assert_uint_eq(h_status(h).cwnd_bytes, H_MSS);
	h_input(h, &late);
	ck_assert_uint_ge(h_status(h).cwnd_bytes, cwnd);
	ck_assert_uint_eq(h_status(h).ssthresh_bytes, ssthresh);
	ck_assert_uint_eq(h->stack.counters[TCPC_EifelUndo], 1);
	for (struct h_out *o; (o = h_take(h));) /* and nothing is sent again any more */
		ck_assert_uint_ge(o->seg.seq - H_ISS, SEG(10));
	h_free(h);
}
END_TEST

/* The retransmission's own time stamp: it was needed. */
START_TEST(RFC3522_timeout_with_reason)
{
	struct harness *h = start(H_ALL);
	h_send(h, 10 * H_MSS);
	h_drain(h);
	while (!h_status(h).rto_events)
		h_next(h);
	h_drain(h);
	h_advance(h, H_RTT);
	h_peer_ack(h, SEG(1)); /* of more it would be F-RTO's sign (RFC 5682) */
	h_drain(h);
	h_advance(h, H_RTT);
	h_peer_ack(h, SEG(10));
	ck_assert_uint_eq(h->stack.counters[TCPC_EifelUndo], 0);
	ck_assert_uint_lt(h_status(h).ssthresh_bytes, 10 * H_MSS);
	h_drain(h);
	h_free(h);
}
END_TEST

/* RFC 3708: the peer had all that was sent again. */
START_TEST(RFC3708_recovery_for_nothing)
{
	struct harness *h = start(H_SACK);
	h_send(h, 10 * H_MSS);
	h_drain(h);
	uint32_t ssthresh = h_status(h).ssthresh_bytes;
	h_advance(h, H_RTT);
	sack(h, 1, 1, 5);
	h_expect(h, SEG_ACK, SEG(0), 1, H_MSS);
	h_drain(h);
	ck_assert_uint_lt(h_status(h).ssthresh_bytes, ssthresh);
	h_peer_ack(h, SEG(5)); /* it was late */
	h_advance(h, H_RTT);
	h_peer_sack(h, SEG(5), 1, (uint32_t[]){SEG(0), SEG(1)});
	ck_assert_uint_eq(h_status(h).ssthresh_bytes, ssthresh);
	ck_assert_uint_eq(h->stack.counters[TCPC_DSACKUndo], 1);
	h_drain(h);
	h_free(h);
}
END_TEST

/* ---- the log ---- */

/* What was SACKed gives the round trip, once; what says the same again does nothing. */
START_TEST(sack_gives_the_round_trip)
{
	struct harness *h = h_new(H_ALL);
	h_establish(h);
	h_send(h, 6 * H_MSS);
	h_drain(h);
	h_advance(h, 18 * USEC_PER_MSEC);
	h_peer_sack(h, 1, 1, (uint32_t[]){1 + H_MSS, 1 + 3 * H_MSS});
	ck_assert_int_eq(h_status(h).srtt_us, 7 * H_RTT / 8 + 18 * USEC_PER_MSEC / 8);
	h_silence(h);
	h_advance(h, USEC_PER_MSEC);
	h_peer_sack(h, 1, 1, (uint32_t[]){1 + H_MSS, 1 + 3 * H_MSS});
	ck_assert_int_eq(h_status(h).srtt_us, 7 * H_RTT / 8 + 18 * USEC_PER_MSEC / 8);
	h_silence(h);
	h_peer_ack(h, 1 + 6 * H_MSS);
	h_drain(h);
	h_free(h);
}
END_TEST

struct byte {
	int64_t at;
	bool again, lost;
};

/*
 * Against a plain array with an entry for each byte, on random steps. The log stays within its bound, and what it says
 * of a byte is never older.
 */
static const struct sent_mark mark; /* rate_test looks at them */

START_TEST(log_against_an_array)
{
	enum { BYTES = 12000 };
	static struct byte model[BYTES];
	struct test_memory memory;
	struct sent_log log = {0};
	uint32_t base = UINT32_C(0xfffffc00), una = 0, nxt = 0;
	int64_t now = 1000;
	bool exact = _i == 0; /* few records: no neighbours are joined */
	test_memory_init(&memory);
	srand(_i + 1);
	while (nxt < BYTES - 200) {
		now += 1 + rand() % 3;
		uint32_t len = 1 + (uint32_t)rand() % (exact ? 100 : 3);
		switch (rand() % (exact ? 4 : 12)) {
		case 0:
			if (nxt > una) {
				una += (uint32_t)rand() % (nxt - una + 1) / (exact ? 1 : 50);
				sent_drop_before(&log, &memory.memory, base + una);
			}
			break;
		case 1:
			if (nxt > una + len) {
				uint32_t left = una + (uint32_t)rand() % (nxt - una - len);
				sent_again(&log, &memory.memory, base + una, base + left, base + left + len, now, &mark);
				for (uint32_t i = left; i < left + len; i++)
					model[i] = (struct byte){now, true, false};
			}
			break;
		default:
			sent_append(&log, &memory.memory, base + nxt + len, now, 0, &mark);
			for (uint32_t i = nxt; i < nxt + len; i++)
				model[i] = (struct byte){now, false, false};
			nxt += len;
		}
		ck_assert_uint_le(log.n, SENT_MAX);
		ck_assert_uint_eq(log.n == 0, una == nxt);
		for (uint32_t i = una; i < nxt; i++) {
			uint32_t r = sent_find(&log, base + i);
			h_require(r < log.n, "byte %u has no record", i);
			const struct sent *s = sent_peek(&log, r);
			h_require(s->at_us >= model[i].at, "byte %u is older than it was", i);
			h_require(!exact || (s->at_us == model[i].at && s->again == model[i].again), "byte %u is not what it was", i);
		}
		if (log.n)
			ck_assert_uint_eq(sent_peek(&log, log.n - 1)->end, base + nxt);
	}
	ck_assert(exact || log.n > SENT_MAX / 8);
	sent_free(&log, &memory.memory);
	ck_assert_uint_eq(memory.live_bytes, 0);
}
END_TEST

/* No memory: the log goes on with what it has. */
START_TEST(log_without_memory)
{
	struct test_memory memory;
	struct sent_log log = {0};
	test_memory_init(&memory);
	memory.limit_bytes = 1;
	for (uint32_t i = 1; i <= 100; i++)
		sent_append(&log, &memory.memory, i * 10, i, 0, &mark);
	sent_again(&log, &memory.memory, 0, 500, 600, 200, &mark);
	ck_assert_uint_le(log.n, SENT_FEW);
	ck_assert_uint_eq(sent_find(&log, 999), log.n - 1);
	sent_drop_before(&log, &memory.memory, 1000);
	ck_assert_uint_eq(log.n, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("RACK-TLP");
	TCase *tc = tcase_create("rack");
	tcase_add_test(tc, sack_gives_the_round_trip);
	tcase_add_test(tc, parts_of_segments_are_not_delivered);
	tcase_add_test(tc, short_segments_are_taken_as_told);
	tcase_add_test(tc, RFC8985_one_sack_and_a_reordering_window);
	tcase_add_test(tc, RFC8985_reordering_within_the_window);
	tcase_add_test(tc, tcp_recovery_without_dupthresh);
	tcase_add_loop_test(tc, tcp_reordering_is_dupthresh, 3, 7);
	tcase_add_loop_test(tc, tcp_early_retrans_is_probes, 0, 5);
	tcase_add_test(tc, RFC8985_reordering_seen);
	tcase_add_test(tc, RFC8985_lost_retransmission);
	tcase_add_test(tc, only_what_was_overtaken_is_lost);
	suite_add_tcase(s, tc);
	tc = tcase_create("probe");
	tcase_add_test(tc, RFC8985_tail_loss_probe);
	tcase_add_test(tc, RFC8985_probe_repairs);
	tcase_add_test(tc, RFC8985_probe_for_nothing);
	tcase_add_loop_test(tc, RFC8985_probe_with_new_data_then_timeout, 0, 2);
	suite_add_tcase(s, tc);
	tc = tcase_create("undo");
	tcase_add_test(tc, RFC3522_timeout_for_nothing);
	tcase_add_test(tc, RFC3522_timeout_with_reason);
	tcase_add_test(tc, RFC3708_recovery_for_nothing);
	suite_add_tcase(s, tc);
	tc = tcase_create("log");
	tcase_set_timeout(tc, 120); /* a busy machine */
	tcase_add_loop_test(tc, log_against_an_array, 0, 4);
	tcase_add_test(tc, log_without_memory);
	suite_add_tcase(s, tc);
	return h_main(s);
}
