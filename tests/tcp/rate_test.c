/* Delivery rate samples (src/tcp/rate.c), as struct tcp_info tells them. */
#include "harness.h"

#include "tcp/tcp_int.h"

#define SEG(k) (1 + (uint32_t)(k) * H_MSS)
#define RATE(bytes, us) ((uint64_t)(bytes) * USEC_PER_SEC / (us))

static struct harness *established(unsigned features)
{
	struct harness *h = h_new(features | H_ACTIVE);
	h->open.options.user_sndbuf = true;
	h->open.options.sndbuf_bytes = 1 << 20;
	h_establish(h);
	return h;
}

static void told(struct harness *h, uint64_t rate, bool app_limited)
{
	struct tcp_figures f;
	tcp_get_figures(&h->c, h->now, &f);
	ck_assert_uint_eq(f.delivery_rate, rate);
	ck_assert_int_eq(f.delivery_app_limited, app_limited);
}

/* What the program limits: from leaving to being acknowledged. With SACK or without. */
START_TEST(of_the_program)
{
	struct harness *h = established(_i ? H_ALL : H_TS | H_WSCALE);
	told(h, 0, true);
	h_send(h, 4 * H_MSS);
	h_advance(h, 8000);
	h_drain(h);
	told(h, 0, true);
	h_advance(h, 4000);
	h_peer_ack(h, SEG(4));
	told(h, RATE(4 * H_MSS, 12000), true);
	/* Slower, and the program's doing again: nothing new of the path. */
	h_send(h, 2 * H_MSS);
	h_advance(h, 15000);
	h_drain(h);
	h_peer_ack(h, SEG(6));
	told(h, RATE(4 * H_MSS, 12000), true);
	h_free(h);
}
END_TEST

/* cwnd limits: the mark goes with the last of what the program had limited, and a slower sample counts. */
START_TEST(of_the_path)
{
	struct harness *h = established(_i ? H_ALL : H_TS | H_WSCALE);
	h_send(h, 60 * H_MSS);
	h_advance(h, H_RTT);
	h_peer_ack(h, SEG(10));
	told(h, RATE(10 * H_MSS, H_RTT), true);
	h_advance(h, 2 * H_RTT);
	h_peer_ack(h, SEG(20));
	told(h, RATE(10 * H_MSS, 2 * H_RTT), false);
	/* The next at once: what is delivered counts from when that flight left. */
	h_advance(h, 1000);
	h_peer_ack(h, SEG(30));
	told(h, RATE(20 * H_MSS, 2 * H_RTT + 1000), false);
	h_drain(h);
	h_free(h);
}
END_TEST

/* ACKs that were held up and come at once say that the path is fast: the time of sending says how fast at most. */
START_TEST(sending_takes_longer)
{
	struct harness *h = established(H_ALL);
	h_send(h, H_MSS);
	h_advance(h, 9000);
	h_send(h, H_MSS);
	h_advance(h, 9000);
	h_send(h, H_MSS);
	h_advance(h, 5000);
	h_peer_ack(h, SEG(2)); /* the second left 9 ms after the first, and was under way for 14 */
	told(h, RATE(2 * H_MSS, 23000), true);
	h_advance(h, 5001);
	h_peer_ack(h, SEG(3)); /* of the last flight's: 10 ms */
	told(h, RATE(3 * H_MSS, 28001), true);
	h_drain(h);
	h_free(h);
}
END_TEST

/* What SACK has told of does not count once more. */
START_TEST(sacked_counts_once)
{
	struct harness *h = established(H_ALL);
	h_send(h, 5 * H_MSS);
	h_advance(h, H_RTT);
	h_peer_sack(h, 1, 1, (uint32_t[]){SEG(2), SEG(5)});
	told(h, RATE(3 * H_MSS, H_RTT), true);
	uint64_t delivered = h->c.delivered;
	h_advance(h, H_RTT);
	h_peer_ack(h, SEG(5));
	ck_assert_uint_eq(h->c.delivered - delivered, 2 * H_MSS);
	h_drain(h);
	h_free(h);
}
END_TEST

/* net.ipv4.tcp_min_rtt_wlen: the path has become longer, and in so much time the least round trip is the longer one. */
START_TEST(least_round_trip_of_a_window)
{
	struct harness *h = h_new(H_ALL | H_ACTIVE);
	h->stack.config.min_rtt_window_us = 10 * USEC_PER_SEC;
	h_establish(h);
	ck_assert_int_eq(h_status(h).min_rtt_us, H_RTT);
	uint32_t seq = 1;
	for (int64_t end = h->now + 30 * USEC_PER_SEC; h->now < end; h_advance(h, USEC_PER_SEC / 2)) {
		int64_t since = h->now - (end - 30 * USEC_PER_SEC);
		h_send(h, H_MSS);
		h_advance(h, 3 * H_RTT);
		h_drain(h);
		h_peer_ack(h, seq += H_MSS);
		if (since < 9 * USEC_PER_SEC)
			ck_assert_int_eq(h_status(h).min_rtt_us, H_RTT);
		if (since > 12 * USEC_PER_SEC)
			ck_assert_int_eq(h_status(h).min_rtt_us, 3 * H_RTT);
	}
	h_free(h);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("delivery rate");
	TCase *tc = tcase_create("samples");
	tcase_add_loop_test(tc, of_the_program, 0, 2);
	tcase_add_loop_test(tc, of_the_path, 0, 2);
	tcase_add_test(tc, sending_takes_longer);
	tcase_add_test(tc, sacked_counts_once);
	tcase_add_test(tc, least_round_trip_of_a_window);
	suite_add_tcase(s, tc);
	return h_main(s);
}
