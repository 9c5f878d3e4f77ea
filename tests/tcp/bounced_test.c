/* What the device's queue refuses did not leave (src/tcp/bounced.c). */
#include "harness.h"

/* The device refused it: as if it had not been sent. */
static void bounce(struct harness *h, uint32_t seq, uint32_t len)
{
	tcp_bounced(&h->c, h->now, H_ISS + seq, len);
	ck_assert_int_gt(tcp_next_deadline(&h->c), h->now);
	h_output(h);
	h_silence(h);
}

START_TEST(bounced_text_is_tried_twice_a_second)
{
	struct harness *h = h_new(_i ? H_ALL : 0);
	h->open.options.user_timeout_us = 2 * USEC_PER_SEC;
	h_establish(h);
	h_send(h, 2 * H_MSS);
	h_drain(h);
	bounce(h, 1 + H_MSS, H_MSS); /* the newest first */
	ck_assert_uint_eq(h->c.snd_nxt - h->c.snd_una, H_MSS);
	bounce(h, 1, H_MSS);
	ck_assert_uint_eq(h->c.snd_nxt - h->c.snd_una, 0);
	ck_assert(h->c.cwr);
	int64_t start = h->now;
	for (int i = 0; i < 4; i++) {
		int64_t waited = h_next(h);
		ck_assert_int_eq(waited, i ? 500 * USEC_PER_MSEC : 200 * USEC_PER_MSEC + waited % (100 * USEC_PER_MSEC));
		h_drain(h);
		bounce(h, 1 + H_MSS, H_MSS);
		bounce(h, 1, H_MSS);
		ck_assert_uint_eq(h->c.keep_probes, i + 1);
	}
	ck_assert_uint_eq(h_status(h).rto_events, 0);
	while (tcp_state(&h->c) != TCPS_CLOSED)
		h_next(h);
	ck_assert_int_eq(tcp_error(&h->c), ETIMEDOUT);
	ck_assert_int_ge(h->now - start, 2200 * USEC_PER_MSEC);
	ck_assert_int_le(h->now - start, 2400 * USEC_PER_MSEC);
	h_drain(h);
	h_free(h);
}
END_TEST

START_TEST(bounced_text_leaves_later)
{
	struct harness *h = h_established(_i ? H_ALL : 0, 65535);
	h_send(h, 3 * H_MSS);
	h_drain(h);
	bounce(h, 1 + 2 * H_MSS, H_MSS);
	tcp_bounced(&h->c, h->now, H_ISS + 1, H_MSS); /* not the newest: a segment is lost */
	ck_assert_uint_eq(h->c.snd_nxt - h->c.snd_una, 2 * H_MSS);
	h_advance(h, 10000);
	h_peer_ack(h, 1 + 2 * H_MSS);
	h_expect(h, SEG_ACK | SEG_PSH, 1 + 2 * H_MSS, 1, H_MSS);
	h_advance(h, 10000);
	h_peer_ack(h, 1 + 3 * H_MSS);
	h_silence(h);
	ck_assert(!h->c.cwr);
	ck_assert_uint_eq(h_status(h).rto_events, 0);
	h_free(h);
}
END_TEST

START_TEST(bounced_repetition_backs_nothing_off)
{
	struct harness *h = h_established(0, 65535); /* without SACK no tail loss probe goes before */
	h_send(h, H_MSS);
	h_drain(h);
	h_next(h);
	for (int i = 0; i < 3; i++) {
		h_drain(h);
		bounce(h, 1, H_MSS);
		ck_assert_uint_eq(h->c.backoff, 0);
		ck_assert_uint_eq(h->c.snd_nxt - h->c.snd_una, H_MSS);
		ck_assert_int_eq(h_next(h), 500 * USEC_PER_MSEC);
	}
	h_drain(h);
	h_advance(h, 10000);
	h_peer_ack(h, 1 + H_MSS);
	h_silence(h);
	h_free(h);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("bounced");
	TCase *tc = tcase_create("text");
	tcase_add_loop_test(tc, bounced_text_is_tried_twice_a_second, 0, 2);
	tcase_add_loop_test(tc, bounced_text_leaves_later, 0, 2);
	tcase_add_test(tc, bounced_repetition_backs_nothing_off);
	suite_add_tcase(s, tc);
	return h_main(s);
}
