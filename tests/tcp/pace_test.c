/* Pacing (src/tcp/pace.c): how segments are spaced, what is not held back, and what it costs whoever is not paced. */
#include "harness.h"

#define SEG(k)  (1 + (uint32_t)(k) * H_MSS)
#define RATE    UINT64_C(1000000) /* bytes a second: a segment a millisecond */
#define UNPACED 10                /* segments that go at once at the beginning */

static struct harness *established(uint64_t rate)
{
	struct harness *h = h_new(H_ALL | H_ACTIVE);
	h->open.options.user_sndbuf = true;
	h->open.options.sndbuf_bytes = 1 << 20;
	h->open.options.max_pacing_rate = rate;
	h->stack.config.min_tso_segs = 1; /* else they go in pairs */
	h_establish(h);
	return h;
}

static int count(struct harness *h)
{
	int n = 0;
	while (h_take(h))
		n++;
	return n;
}

/* Ten segments that are acknowledged; what follows is paced. */
static void begin(struct harness *h)
{
	h_send(h, UNPACED * H_MSS);
	ck_assert_int_eq(count(h), UNPACED);
	h_advance(h, H_RTT);
	h_peer_ack(h, SEG(UNPACED));
	h_advance(h, USEC_PER_SEC / 10); /* nothing is owed, and no credit is kept */
	h_silence(h);
}

/*
 * A segment each millisecond, and the deadline says when. The first is let off half of its time: it comes long after
 * its turn.
 */
START_TEST(a_segment_each_millisecond)
{
	struct harness *h = established(RATE);
	begin(h);
	h_send(h, 5 * H_MSS);
	ck_assert_int_eq(count(h), 1);
	ck_assert_int_eq(tcp_next_deadline(&h->c), h->now + 500);
	ck_assert_int_eq(h_next(h), 500);
	for (int i = 2; i < 5; i++) {
		ck_assert_int_eq(count(h), 1);
		ck_assert_int_eq(h_next(h), 1000);
	}
	ck_assert_int_eq(count(h), 1);
	/* Nothing is left: the next deadline is the probe's or the timeout's, not pacing's. */
	ck_assert_int_gt(tcp_next_deadline(&h->c), h->now + 5000);
	h_peer_ack(h, SEG(UNPACED + 5));
	h_free(h);
}
END_TEST

/* A program whose text comes 0.4 ms late is let off so much of the next segment's time; 3 ms late, half of it. */
START_TEST(late_comers)
{
	static const struct {
		int64_t late, next;
	} cases[] = {{0, 1000}, {400, 600}, {3000, 500}};
	struct harness *h = established(RATE);
	begin(h);
	h_send(h, 2 * H_MSS);
	ck_assert_int_eq(count(h), 1);
	ck_assert_int_eq(h_next(h), 500);
	ck_assert_int_eq(count(h), 1);
	h->now += 1000 + cases[_i].late;
	h_send(h, 2 * H_MSS);
	ck_assert_int_eq(count(h), 1);
	ck_assert_int_eq(tcp_next_deadline(&h->c), h->now + cases[_i].next);
	h_advance(h, 10 * USEC_PER_MSEC);
	h_drain(h);
	h_peer_ack(h, SEG(UNPACED + 4));
	h_free(h);
}
END_TEST

/*
 * Text that waited for its time, while the engine's thread had no CPU: all goes that should have gone, of half a round
 * trip at most.
 */
START_TEST(late_engine)
{
	static const struct {
		int64_t late, next;
		int segments;
	} cases[] = {{0, 1000, 1}, {400, 600, 1}, {3000, 1000, 4}, {8000, 500, 6}};
	struct harness *h = established(RATE);
	begin(h);
	h_send(h, 9 * H_MSS);
	ck_assert_int_eq(count(h), 1);
	h->now = tcp_next_deadline(&h->c) + cases[_i].late;
	tcp_tick(&h->c, h->now);
	h_output(h);
	ck_assert_int_eq(count(h), cases[_i].segments);
	ck_assert_int_eq(tcp_next_deadline(&h->c), h->now + cases[_i].next);
	h_advance(h, 10 * USEC_PER_MSEC);
	h_drain(h);
	h_peer_ack(h, SEG(UNPACED + 9));
	h_free(h);
}
END_TEST

/* Acknowledgments do not wait, nor does what the retransmission timer sends. */
START_TEST(what_does_not_wait)
{
	struct harness *h = established(RATE);
	begin(h);
	h_send(h, 3 * H_MSS);
	ck_assert_int_eq(count(h), 1);
	h->c.pace_ns += 10 * USEC_PER_SEC * 1000; /* as if the rate were tiny */
	h_peer(h, SEG_PSH, SEG(UNPACED), 2 * H_MSS);
	h_expect(h, SEG_ACK, SEG(UNPACED + 1), 1 + 2 * H_MSS, 0);
	h_timeout(h);
	h_expect(h, SEG_ACK, SEG(UNPACED + 1), 1 + 2 * H_MSS, H_MSS); /* the tail loss probe */
	h_expect(h, SEG_ACK, SEG(UNPACED), 1 + 2 * H_MSS, H_MSS);
	h_silence(h);
	tcp_abort(&h->c, h->now);
	h_output(h);
	h_drain(h);
	h_free(h);
}
END_TEST

/* Repairs wait as new text does. */
START_TEST(repairs_wait)
{
	struct harness *h = established(RATE / 2);
	begin(h);
	h_send(h, 8 * H_MSS);
	h_advance(h, 16 * USEC_PER_MSEC);
	ck_assert_int_eq(count(h), 8);
	h_advance(h, H_RTT);
	h_peer_sack(h, SEG(UNPACED), 1, (uint32_t[]){SEG(UNPACED + 3), SEG(UNPACED + 8)});
	ck_assert_int_eq(count(h), 1);
	ck_assert_int_eq(h_next(h), 1000);
	ck_assert_int_eq(count(h), 1);
	ck_assert_int_eq(h_next(h), 2000);
	ck_assert_int_eq(count(h), 1);
	h_peer_ack(h, SEG(UNPACED + 8));
	h_free(h);
}
END_TEST

/* The bound is taken away, or set, in the middle of a connection. */
START_TEST(bound_is_set_later)
{
	struct harness *h = established(0);
	begin(h);
	struct tcp_options opt = *tcp_get_options(&h->c);
	opt.max_pacing_rate = RATE;
	tcp_set_options(&h->c, h->now, &opt);
	h_send(h, 6 * H_MSS);
	ck_assert_int_eq(count(h), 1);
	opt.max_pacing_rate = 100 * RATE;
	tcp_set_options(&h->c, h->now, &opt);
	ck_assert_int_eq(h_next(h), 500);
	h_advance(h, 100);
	ck_assert_int_ge(count(h), 1);
	h_advance(h, USEC_PER_MSEC);
	h_drain(h);
	h_peer_ack(h, SEG(UNPACED + 6));
	h_free(h);
}
END_TEST

START_TEST(unbounded)
{
	struct harness *h = established(0);
	begin(h);
	h_send(h, 9 * H_MSS);
	ck_assert_int_eq(count(h), 9);
	ck_assert_int_eq(h->c.pace_ns, 0);
	h_peer_ack(h, SEG(UNPACED + 9));
	h_free(h);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pacing");
	TCase *tc = tcase_create("pacing");
	tcase_add_test(tc, a_segment_each_millisecond);
	tcase_add_loop_test(tc, late_comers, 0, 3);
	tcase_add_loop_test(tc, late_engine, 0, 4);
	tcase_add_test(tc, what_does_not_wait);
	tcase_add_test(tc, repairs_wait);
	tcase_add_test(tc, bound_is_set_later);
	tcase_add_test(tc, unbounded);
	suite_add_tcase(s, tc);
	return h_main(s);
}
