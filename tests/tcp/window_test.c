/* What may be sent when: Nagle, cork, the sender's silly window avoidance, a peer's window that shrinks. */
#include "harness.h"

static void nodelay(struct tcp_options *opt)
{
	opt->nodelay = true;
}
static void cork(struct tcp_options *opt)
{
	opt->cork = true;
}
static void uncork(struct tcp_options *opt)
{
	opt->cork = false;
}

/* ---- Nagle and cork ---- */

START_TEST(SHLD_7_nagle)
{
	struct harness *h = h_established(_i ? H_ALL : 0, 65535);
	h_send(h, 10);
	h_expect(h, SEG_ACK, 1, 1, 10); /* nothing in flight: goes */
	h_send(h, 20);
	h_send(h, 30);
	h_silence(h);
	h_advance(h, H_RTT);
	h_peer_ack(h, 11);
	h_expect(h, SEG_ACK, 11, 1, 50); /* together */
	h_silence(h);
	h_free(h);
}
END_TEST

/* A full segment does not wait. */
START_TEST(SHLD_7_nagle_full_segment)
{
	struct harness *h = h_established(0, 65535);
	h_send(h, 10);
	h_expect(h, SEG_ACK, 1, 1, 10);
	h_send(h, H_MSS + 5);
	h_expect(h, SEG_ACK, 11, 1, H_MSS);
	h_silence(h);
	h_peer_ack(h, 11 + H_MSS);
	h_expect(h, SEG_ACK, 11 + H_MSS, 1, 5);
	h_free(h);
}
END_TEST

START_TEST(MUST_17_nagle_can_be_disabled)
{
	struct harness *h = h_established(0, 65535);
	h_send(h, 10);
	h_expect(h, SEG_ACK, 1, 1, 10);
	h_send(h, 20);
	h_silence(h);
	h_set_options(h, nodelay); /* what waited goes */
	h_expect(h, SEG_ACK, 11, 1, 20);
	h_send(h, 5);
	h_expect(h, SEG_ACK, 31, 1, 5);
	h_free(h);
}
END_TEST

START_TEST(cork_holds_partial_segments)
{
	struct harness *h = h_established(0, 65535);
	h_set_options(h, cork);
	h_send(h, 700);
	h_silence(h);
	h_send(h, 700);
	h_expect(h, SEG_ACK, 1, 1, H_MSS);
	h_silence(h);
	h_set_options(h, uncork);
	h_expect(h, SEG_ACK, 1001, 1, 400);
	h_free(h);
}
END_TEST

/* tcp(7): TCP_NODELAY pushes what is queued, over TCP_CORK, too; what is written afterwards is corked again. */
START_TEST(nodelay_pushes_over_cork)
{
	struct harness *h = h_established(0, 65535);
	h_set_options(h, cork);
	h_send(h, 700);
	h_silence(h);
	h_set_options(h, nodelay);
	h_expect(h, SEG_ACK, 1, 1, 700);
	h_send(h, 30);
	h_silence(h);
	h_free(h);
}
END_TEST

START_TEST(cork_is_bounded)
{
	struct harness *h = h_established(0, 65535);
	h_set_options(h, cork);
	h_send(h, 700);
	ck_assert_int_eq(h_next(h), 200 * USEC_PER_MSEC + H_RTT); /* tcp(7): a 200 ms ceiling; Linux's is the RTO */
	h_expect(h, SEG_ACK, 1, 1, 700);
	h_free(h);
}
END_TEST

/* A FIN is not held by cork or Nagle. */
START_TEST(fin_pushes_everything)
{
	struct harness *h = h_established(0, 65535);
	h_set_options(h, cork);
	h_send(h, 700);
	h_shutdown(h);
	h_expect(h, SEG_ACK | SEG_FIN, 1, 1, 700);
	h_free(h);
}
END_TEST

/* MUST-60, MUST-61: the last segment of what is buffered carries PSH. */
START_TEST(MUST_61_push)
{
	struct harness *h = h_established(0, 65535);
	h_send(h, 2 * H_MSS + 100);
	ck_assert_uint_eq(h_expect(h, SEG_ACK, 1, 1, H_MSS)->seg.flags & SEG_PSH, 0);
	h_take(h);
	struct h_out *last = h_take(h);
	if (!last) { /* Nagle may hold the rest until an ACK */
		h_peer_ack(h, 1 + 2 * H_MSS);
		last = h_take(h);
	}
	ck_assert_ptr_nonnull(last);
	ck_assert_uint_eq(last->seg.flags & SEG_PSH, SEG_PSH);
	h_free(h);
}
END_TEST

/* ---- the sender and the peer's window ---- */

START_TEST(never_beyond_the_window)
{
	struct harness *h = h_established(_i ? H_ALL : 0, 2500 & ~7u);
	uint32_t window = h->peer_window;
	h_send(h, 10000);
	uint32_t end = 1;
	for (struct h_out *o; (o = h_take(h));)
		end = o->seg.seq - H_ISS + o->seg.payload_len;
	ck_assert_uint_le(end, 1 + window);
	ck_assert_uint_ge(end, 1 + 2 * H_MSS);
	h_free(h);
}
END_TEST

/* MUST-38: no small segment because the window is small, unless it is half of the largest there was. */
START_TEST(MUST_38_sender_sws)
{
	struct harness *h = h_established(0, 10000);
	h_send(h, 10000);
	h_drain(h);
	h_advance(h, H_RTT);
	h->peer_window = 300;
	h_peer_ack(h, 10001);
	h_send(h, 5000);
	h_silence(h);
	h->peer_window = H_MSS;
	h_peer_ack(h, 10001);
	h_expect(h, SEG_ACK, 10001, 1, H_MSS);
	h_silence(h);
	h_free(h);
}
END_TEST

/* … nor is it held back for ever: the override timeout. */
START_TEST(MUST_38_override)
{
	struct harness *h = h_established(0, 10000);
	h_send(h, 10000);
	h_drain(h);
	h_advance(h, H_RTT);
	h->peer_window = 300;
	h_peer_ack(h, 10001);
	h_send(h, 5000);
	h_silence(h);
	ck_assert_int_le(h_next(h), 2 * USEC_PER_SEC);
	struct h_out *o = h_take(h);
	ck_assert_ptr_nonnull(o);
	ck_assert_uint_ge(o->seg.payload_len, 1);
	ck_assert_uint_le(o->seg.payload_len, 300);
	h_peer_ack(h, 10001 + o->seg.payload_len);
	h_drain(h);
	h_free(h);
}
END_TEST

/* A peer whose largest window is small gets small segments at once. */
START_TEST(MUST_38_small_peer)
{
	struct harness *h = h_established(0, 600);
	h_send(h, 5000);
	h_expect(h, SEG_ACK, 1, 1, 300); /* half of the largest window each, as Linux */
	h_expect(h, SEG_ACK, 301, 1, 300);
	h_silence(h);
	h->peer_window = 310;
	h_peer_ack(h, 601);
	h_expect(h, SEG_ACK, 601, 1, 300);
	h_expect(h, SEG_ACK, 901, 1, 10);
	h_silence(h);
	h_free(h);
}
END_TEST

/* MUST-34, SHLD-15, SHLD-16, SHLD-17: the peer takes window back. */
START_TEST(MUST_34_shrinking_window)
{
	struct harness *h = h_established(_i ? H_ALL : 0, 8000);
	h_send(h, 12000);
	for (int k = 0; k < 8; k++)
		h_expect(h, SEG_ACK, 1 + k * H_MSS, 1, H_MSS);
	h_silence(h);
	h_advance(h, H_RTT);
	h->peer_window = 2000; /* right edge from 8001 back to 3001 */
	h_peer_ack(h, 1001);
	h_silence(h); /* SHLD-15: nothing new */
	struct h_out *o;
	int acks = 0;
	h_peer(h, SEG_PSH, 1001, H_MSS);
	h_peer(h, SEG_PSH, 1001, H_MSS);
	for (; (o = h_take(h)); acks++) { /* what the peer sends is acknowledged by ACKs that it does not drop */
		ck_assert_uint_eq(o->seg.payload_len, 0);
		ck_assert_uint_le(o->seg.seq - H_ISS, 3001);
	}
	ck_assert_int_gt(acks, 0);
	h_next(h);
	o = h_take(h);
	ck_assert_ptr_nonnull(o);
	ck_assert_uint_eq(o->seg.seq, H_ISS + 1001); /* SHLD-16: within the window, from the left */
	h_drain(h);
	h->peer_window = 16000;
	h_peer_ack(h, 8001); /* it had arrived */
	uint32_t end = 8001;
	while ((o = h_take(h))) {
		if (o->seg.seq == H_ISS + end)
			end += o->seg.payload_len;
	}
	h_peer_ack(h, end);
	for (int i = 0; i < 20 && end < 12001; i++) {
		while ((o = h_take(h)))
			end = o->seg.seq - H_ISS + o->seg.payload_len;
		h_peer_ack(h, end);
	}
	ck_assert_uint_eq(end, 12001);
	ck_assert_uint_eq(tcp_unacked_bytes(&h->c), 0);
	h_drain(h);
	h_free(h);
}
END_TEST

/* MUST-1: windows are unsigned; RFC 7323 §2.3: scaled, except in a SYN. */
START_TEST(MUST_1_window_is_unsigned)
{
	struct harness *h = h_established(_i ? H_WSCALE : 0, 65535);
	h->peer_window = _i ? 400000 : 65535;
	h_peer_ack(h, 1);
	ck_assert_uint_eq(h_status(h).snd_wnd, h->peer_window & ~(_i ? 7u : 0u));
	h_free(h);
}
END_TEST

/* Only newer segments update the window (SND.WL1, SND.WL2). */
START_TEST(old_segments_do_not_update_the_window)
{
	struct harness *h = h_established(0, 8000);
	h_peer(h, SEG_ACK, 1, 10);
	h_send(h, 100);
	h_peer_ack(h, 101);
	struct tcp_segment s = h_seg(h, SEG_ACK, 0, 1, 0); /* an older ACK number */
	s.window = 1;
	h_input(h, &s);
	ck_assert_uint_eq(h_status(h).snd_wnd, 8000);
	h_drain(h);
	h_free(h);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("window");
	TCase *tc = tcase_create("nagle");
	tcase_add_loop_test(tc, SHLD_7_nagle, 0, 2);
	tcase_add_test(tc, SHLD_7_nagle_full_segment);
	tcase_add_test(tc, MUST_17_nagle_can_be_disabled);
	tcase_add_test(tc, cork_holds_partial_segments);
	tcase_add_test(tc, nodelay_pushes_over_cork);
	tcase_add_test(tc, cork_is_bounded);
	tcase_add_test(tc, fin_pushes_everything);
	tcase_add_test(tc, MUST_61_push);
	suite_add_tcase(s, tc);
	tc = tcase_create("sender");
	tcase_add_loop_test(tc, never_beyond_the_window, 0, 2);
	tcase_add_test(tc, MUST_38_sender_sws);
	tcase_add_test(tc, MUST_38_override);
	tcase_add_test(tc, MUST_38_small_peer);
	tcase_add_loop_test(tc, MUST_34_shrinking_window, 0, 2);
	tcase_add_loop_test(tc, MUST_1_window_is_unsigned, 0, 2);
	tcase_add_test(tc, old_segments_do_not_update_the_window);
	suite_add_tcase(s, tc);
	return h_main(s);
}
