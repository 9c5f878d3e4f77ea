/* The window that is offered, what is kept of what comes, and when the peer is told. */
#include "harness.h"

/* What the last segment said the right edge is, relative to the peer's ISS. */
static uint32_t right_edge(struct harness *h, const struct h_out *o)
{
	return o->seg.ack - H_PEER_ISS + ((uint32_t)o->seg.window << h_status(h).rcv_wscale);
}

/* SHLD-14: never moved back, whatever the buffer and the scale. */
START_TEST(SHLD_14_window_is_not_shrunk)
{
	struct harness *h = h_new(_i & 1 ? H_ALL : 0);
	h->open.options.user_rcvbuf = _i & 2;
	h->open.options.rcvbuf_bytes = _i & 2 ? 20001 : 0;
	h_establish(h);
	uint32_t edge = 0, read = 0, got = 0;
	for (uint32_t i = 1; i < 400; i++) {
		uint32_t len = i * 37 % 911 + 1;
		if (len > h_status(h).rcv_wnd)
			len = h_status(h).rcv_wnd;
		if (len) {
			h_peer(h, SEG_ACK, 1, len);
			got += len;
		}
		if (i % 3 == 0) {
			ssize_t n = h_recv(h, i * 53 % 1500 + 1, read);
			read += n > 0 ? (uint32_t)n : 0;
		}
		h_advance(h, 50000);
		for (struct h_out *o; (o = h_take(h));) {
			/*
			 * Scaled, it is a multiple of the unit away from RCV.NXT: less than one unit may be lost in
			 * rounding (RFC 7323 §2.4, appendix F), and never twice.
			 */
			int32_t unit = 1 << h_status(h).rcv_wscale;
			ck_assert_int_gt((int32_t)(right_edge(h, o) - edge), -unit);
			if ((int32_t)(right_edge(h, o) - edge) > 0)
				edge = right_edge(h, o);
		}
		h_drain(h);
	}
	ck_assert_uint_gt(got, 50000);
	h_free(h);
}
END_TEST

/* MUST-39: a full buffer that is emptied slowly does not offer slivers. */
START_TEST(MUST_39_receiver_sws)
{
	struct harness *h = h_new(_i ? H_ALL : 0);
	h->open.options.user_rcvbuf = true;
	h->open.options.rcvbuf_bytes = 8192;
	h_establish(h);
	while (h_status(h).rcv_wnd) {
		uint32_t n = h_status(h).rcv_wnd < H_MSS ? h_status(h).rcv_wnd : H_MSS;
		h_peer(h, SEG_ACK, 1, n);
		h_advance(h, 50000);
	}
	h_drain(h);
	uint32_t edge = h_rcv_nxt(h), read = 0;
	for (int i = 0; i < 40; i++) {
		ck_assert_int_eq(h_recv(h, 100, read), 100);
		read += 100;
		for (struct h_out *o; (o = h_take(h));) { /* a window update, if any, is worth a segment or half the buffer */
			ck_assert_uint_ge(right_edge(h, o) - edge, H_MSS);
			edge = right_edge(h, o);
		}
		/* the peer probes: the answer may not offer a sliver either */
		struct tcp_segment s = h_seg(h, SEG_ACK, -1, 1, 0);
		h_advance(h, 600000);
		h_input(h, &s);
		struct h_out *o = h_take(h);
		ck_assert_ptr_nonnull(o);
		uint32_t moved = right_edge(h, o) - edge;
		ck_assert(moved < 128 || moved > H_MSS - 128); /* less than the window scale's unit is rounding */
		edge = right_edge(h, o);
		h_drain(h);
	}
	ck_assert_int_gt(edge, h_rcv_nxt(h)); /* by now it is open again */
	h_free(h);
}
END_TEST

/* Reading all of a full buffer tells the peer at once: nobody else would. */
START_TEST(window_update_after_zero)
{
	struct harness *h = h_new(_i ? H_ALL : 0);
	h->open.options.user_rcvbuf = true;
	h->open.options.rcvbuf_bytes = 8192;
	h_establish(h);
	uint32_t got = 0;
	while (h_status(h).rcv_wnd) {
		uint32_t n = h_status(h).rcv_wnd < H_MSS ? h_status(h).rcv_wnd : H_MSS;
		h_peer(h, SEG_ACK, 1, n);
		got += n;
		h_advance(h, 50000);
	}
	h_drain(h);
	ck_assert_int_eq(h_recv(h, got, 0), (ssize_t)got);
	struct h_out *o = h_expect(h, SEG_ACK, 1, 1 + got, 0);
	ck_assert_uint_ge(right_edge(h, o) - (1 + got), 3000); /* half of the buffer, a segment in reserve, as Linux */
	h_silence(h);
	h_free(h);
}
END_TEST

/* What is received stays within what was promised, and the promise within the buffer. */
START_TEST(receive_buffer_bounds)
{
	struct harness *h = h_new(0);
	h->open.options.user_rcvbuf = true;
	h->open.options.rcvbuf_bytes = 10000;
	h_establish(h);
	ck_assert_uint_le(h_status(h).rcv_wnd, 10000);
	h_peer(h, SEG_ACK, 1, 100);
	struct tcp_segment s = h_seg(h, SEG_ACK, 0, 1, 60000); /* a peer that ignores the window: nothing of it is taken, as Linux */
	h_input(h, &s);
	ck_assert_uint_eq(tcp_readable_bytes(&h->c), 100);
	ck_assert_uint_eq(h_rcv_nxt(h), 1 + tcp_readable_bytes(&h->c));
	h_drain(h);
	h_free(h);
}
END_TEST

/*
 * TCP_WINDOW_CLAMP is one bound among others, and what comes last counts, as in Linux: it is over when segments turn
 * out to take another share of the buffer.
 */
START_TEST(a_clamp_holds_for_a_while)
{
	struct harness *h = h_new(H_ALL);
	uint32_t full = 0;
	h->open.options.window_clamp = 5000;
	h_establish(h);
	ck_assert_uint_eq(tcp_window_clamp(&h->c), 5000);
	h_peer(h, SEG_ACK, 1, 100); /* of which nothing is learned */
	ck_assert_int_eq(h_recv(h, 100, 0), 100);
	h_drain(h);
	ck_assert_uint_eq(tcp_window_clamp(&h->c), 5000);
	ck_assert_uint_le(h_status(h).rcv_wnd, 5000);
	for (int i = 0; i < 6; i++) {
		h_peer(h, SEG_ACK, 1, 1000);
		ck_assert_int_eq(h_recv(h, 1000, 100 + i * 1000), 1000);
		h_drain(h);
		full = tcp_window_clamp(&h->c);
	}
	ck_assert_uint_eq(full, h_status(h).rcvbuf_bytes * (uint64_t)h->c.rcv_ratio / 256);
	tcp_set_window_clamp(&h->c, 3000);
	for (int i = 0; i < 40; i++) {
		h_peer(h, SEG_ACK, 1, 1000);
		ck_assert_int_eq(h_recv(h, 1000, 6100 + i * 1000), 1000);
		h_drain(h);
	}
	ck_assert_uint_eq(tcp_window_clamp(&h->c), 3000);
	ck_assert_uint_le(h_status(h).rcv_wnd, 3000 + (1 << h->c.rcv_wscale));
	tcp_set_window_clamp(&h->c, full);
	ck_assert_uint_eq(tcp_window_clamp(&h->c), full);
	h_free(h);
}
END_TEST

/* However much net.ipv4.tcp_rmem allows: a window that the packet ring cannot hold is lost by bursts. */
START_TEST(autotuning_knows_the_ring)
{
	struct harness *h = h_new(H_ALL);
	h->stack.config.rcvbuf_max_bytes = 64 << 20;
	h_establish(h);
	h_advance(h, H_RTT);
	h->c.drs_copied = 64 << 20; /* so fast is the application */
	h_peer(h, SEG_ACK, 1, 1000);
	ck_assert_int_eq(h_recv(h, 1000, 0), 1000);
	h_drain(h);
	ck_assert_uint_gt(h_status(h).rcvbuf_bytes, 1 << 20);
	uint64_t window = h_status(h).rcvbuf_bytes * (uint64_t)(h->c.rcv_ratio ? h->c.rcv_ratio : 128) / 256;
	ck_assert_uint_le(window, 2048 * 1460);
	h_free(h);
}
END_TEST

static uint32_t buffer_after(uint32_t rtt_us)
{
	struct harness *h = h_new(H_ALL);
	h_establish(h);
	h_advance(h, H_RTT);
	h_peer(h, SEG_ACK, 1, 1000);
	h->c.rcv_rtt.us = rtt_us;
	h->c.drs_copied = 60000;
	ck_assert_int_eq(h_recv(h, 1000, 0), 1000);
	h_drain(h);
	uint32_t bytes = h_status(h).rcvbuf_bytes;
	h_free(h);
	return bytes;
}

/*
 * On a near path nobody waits for a window, and a small buffer stays in the cache. Time stamps tell a tick of a
 * millisecond of it, at least.
 */
START_TEST(a_near_path_needs_less)
{
	ck_assert_uint_lt(buffer_after(1000), buffer_after(1001));
}
END_TEST

/*
 * Without time stamps a receiver knows the round trip by its window: what comes beyond it was sent when it had been
 * told.
 */
START_TEST(round_trip_of_a_receiver)
{
	struct harness *h = h_new(0);
	struct tcp_figures f;
	h_establish(h);
	int64_t began = h->now, expected = 0;
	uint32_t window = h->c.rcv_adv - h->c.rcv_wup;
	for (int i = 0; !h->c.rcv_rtt.us && i < 1000; i++) {
		h_advance(h, 1000);
		h_peer(h, SEG_ACK, 1, 1000);
		expected = h->now - began;
		ck_assert_int_eq(h_recv(h, 1000, i * 1000), 1000);
		h_drain(h);
	}
	tcp_get_figures(&h->c, h->now, &f);
	ck_assert_uint_eq(f.rcv_rtt_us, expected - 1000); /* it began with the first segment */
	ck_assert_int_ge(expected, window);               /* a byte a microsecond */
	h_free(h);
}
END_TEST

/* While nothing waits to be read, one such segment is taken whole, as Linux does; then the window is shut. */
START_TEST(one_segment_beyond)
{
	struct harness *h = h_new(0);
	h->open.options.user_rcvbuf = true;
	h->open.options.rcvbuf_bytes = 10000;
	h_establish(h);
	h_peer(h, SEG_ACK, 1, 9000);
	ck_assert_uint_eq(tcp_readable_bytes(&h->c), 9000);
	h_silence(h); /* nobody has read, and no larger window can be told */
	h_next(h);
	struct h_out *o = h_expect(h, SEG_ACK, 1, 9001, 0);
	ck_assert_uint_eq(o->seg.window, 0);
	h_peer(h, SEG_ACK, 1, 9000);
	ck_assert_uint_eq(tcp_readable_bytes(&h->c), 9000);
	h_drain(h);
	h_free(h);
}
END_TEST

/*
 * A stranger's byte at the window's end must not cost the whole buffer; and all that waits out of order is bounded by
 * SO_RCVBUF.
 */
START_TEST(far_bytes_cost_what_they_are)
{
	struct harness *h = h_new(H_ALL);
	h_establish(h);
	uint64_t before = h->memory.live_bytes;
	struct tcp_segment s = h_seg(h, SEG_ACK, 60000, 1, 1);
	h_input(h, &s);
	ck_assert_uint_eq(h_status(h).ooo_bytes, 1);
	ck_assert_uint_le(h->memory.live_bytes - before, 64 + 64); /* its chunk, and the set of ranges */
	for (int32_t at = 59000; at > 0; at -= 7) {
		s = h_seg(h, SEG_ACK, at, 1, 3);
		h_input(h, &s);
		h_drain(h);
	}
	ck_assert_uint_le(h->memory.live_bytes - before, 131072 / 4 * 5);
	h_drain(h);
	h_close(h);
	h_drain(h);
	h_free(h);
}
END_TEST

/*
 * What the set of ranges has no room for is not kept either: the peer is not told that it is there, and it would be
 * read without having been acknowledged.
 */
START_TEST(no_text_without_its_range)
{
	struct harness *h = h_new(H_ALL);
	h_establish(h);
	struct tcp_segment s;
	for (uint32_t i = 0; i < RANGES_MAX; i++) {
		s = h_seg(h, SEG_ACK, 10 + 2 * i, 1, 1);
		h_input(h, &s);
		h_drain(h);
	}
	uint64_t before = h->memory.live_bytes;
	ck_assert_uint_eq(h_status(h).ooo_bytes, RANGES_MAX);
	s = h_seg(h, SEG_ACK, 10 + 2 * RANGES_MAX, 1, 1000);
	h_input(h, &s);
	ck_assert_uint_eq(h_status(h).ooo_bytes, RANGES_MAX);
	ck_assert_uint_eq(h->memory.live_bytes, before);
	ck_assert_uint_eq(h->stack.counters[TCPC_RcvdPruned], 1);
	s = h_seg(h, SEG_ACK, 11, 1, 1); /* closes a hole */
	h_input(h, &s);
	ck_assert_uint_eq(h_status(h).ooo_bytes, RANGES_MAX + 1);
	h_drain(h);
	h_close(h);
	h_drain(h);
	h_free(h);
}
END_TEST

/* A FIN out of order, then text that passes its number: the peer lies, and nothing is read that was not received. */
START_TEST(text_passes_a_fin_that_was_ahead)
{
	struct harness *h = h_new(H_ALL);
	h_establish(h);
	struct tcp_segment s = h_seg(h, SEG_ACK | SEG_FIN, 50, 1, 10); /* FIN at 60 */
	h_input(h, &s);
	s = h_seg(h, SEG_ACK, 80, 1, 100);
	h_input(h, &s);
	h_peer(h, SEG_ACK, 1, 90); /* over both */
	ck_assert_int_eq(tcp_readable_bytes(&h->c), 180);
	ck_assert_int_eq(h_recv(h, 1000, 0), 180);
	h_state(h, TCPS_ESTABLISHED);
	h_advance(h, USEC_PER_SEC);
	h_drain(h);
	h_free(h);
}
END_TEST

/* What came out of order makes room for what is in order. */
START_TEST(text_in_order_comes_first)
{
	struct harness *h = h_new(H_ALL);
	h_establish(h);
	struct tcp_segment s = h_seg(h, SEG_ACK, 2000, 1, 1400);
	h_input(h, &s);
	h_drain(h);
	h->memory.limit_bytes = h->memory.live_bytes + 1024; /* no room for a ring of 2048 */
	h_peer(h, SEG_ACK, 1, 100);
	ck_assert_uint_eq(h->stack.counters[TCPC_OfoPruned], 1);
	ck_assert_uint_eq(h_status(h).ooo_bytes, 0);
	ck_assert_int_eq(h_recv(h, 100, 0), 100);
	h->memory.limit_bytes = 0;
	h_peer(h, SEG_ACK, 1, 3400); /* all of it again */
	ck_assert_int_eq(h_recv(h, 4000, 100), 3400);
	h_advance(h, USEC_PER_SEC);
	h_drain(h);
	h_free(h);
}
END_TEST

START_TEST(pressure_makes_windows_small)
{
	struct harness *h = h_new(H_ALL);
	h->peer_mss = 1460;
	h_establish(h);
	h->memory.memory.pressure = true;
	uint32_t edge = h_status(h).rcv_wnd, n = 0;
	while (h_status(h).rcv_wnd && n < 200000) { /* nobody reads */
		uint32_t len = h_status(h).rcv_wnd < 1000 ? h_status(h).rcv_wnd : 1000;
		h_peer(h, SEG_ACK, 1, len);
		n += len;
		h_drain(h);
	}
	ck_assert_uint_lt(n, edge + 20000); /* the edge that was promised, and little more */
	h->memory.memory.pressure = false;
	h_recv(h, n, 0);
	h_drain(h);
	ck_assert_uint_gt(h_status(h).rcv_wnd, 50000);
	h_advance(h, USEC_PER_SEC);
	h_drain(h);
	h_free(h);
}
END_TEST

/* The peer's segment arrives, and nothing is said yet: may that wait? Then it is said. */
static bool may_say_later(struct harness *h, struct tcp_segment seg, bool in_order)
{
	tcp_input(&h->c, h->now, &seg);
	bool later = tcp_may_say_later(&h->c);
	if (in_order)
		h->peer_nxt += seg.payload_len + !!(seg.flags & SEG_FIN) + !!(seg.flags & SEG_SYN);
	h_output(h);
	ck_assert(!tcp_may_say_later(&h->c));
	h_drain(h);
	return later;
}

START_TEST(what_may_be_said_later)
{
	struct harness *h = h_new(H_ALL | H_ACTIVE);
	h_open_active(h);
	ck_assert(may_say_later(h, h_syn(h, SEG_SYN | SEG_ACK), true));
	/* Its ACK was lost, it seems: not again. */
	ck_assert(!may_say_later(h, h_syn(h, SEG_SYN | SEG_ACK), false));
	ck_assert(may_say_later(h, h_seg(h, SEG_ACK, 0, 1, H_MSS), true));
	struct tcp_segment seg = h_seg(h, SEG_ACK, 0, 1, H_MSS);
	tcp_input(&h->c, h->now, &seg);
	h->peer_nxt += H_MSS;
	ck_assert(!may_say_later(h, h_seg(h, SEG_ACK, 0, 1, H_MSS), true)); /* two full ones: MUST-58 */
	ck_assert(!may_say_later(h, h_seg(h, SEG_ACK, -H_MSS, 1, H_MSS), false)); /* once more */
	ck_assert(!may_say_later(h, h_seg(h, SEG_ACK, H_MSS, 1, H_MSS), false)); /* one is missing */
	ck_assert(!may_say_later(h, h_seg(h, SEG_ACK, 0, 1, H_MSS), false)); /* is there */
	h->peer_nxt += 2 * H_MSS;
	/* With text to send there is more to say than an ACK. */
	uint8_t first = h_byte(h->sent++);
	struct iovec iov = {&first, 1};
	ck_assert_int_eq(tcp_send(&h->c, h->now, &iov, 1, false, false), 1);
	ck_assert(!may_say_later(h, h_seg(h, SEG_ACK, 0, 1, H_MSS), true));
	h_free(h);
}
END_TEST

/* A peer's window counts segments: messages that nobody reads or answers must not fill it, however short they are. */
START_TEST(short_messages_do_not_fill_a_window)
{
	struct harness *h = h_established(H_ALL | H_ACTIVE, 65535);
	for (uint32_t n = 1; n <= 6; n++) {
		h_peer(h, SEG_PSH, 1, 2);
		if (n % 3 == 0)
			h_expect(h, SEG_ACK, 1, 1 + 2 * n, 0);
		h_silence(h);
	}
	h_free(h);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("receive window");
	TCase *tc = tcase_create("receiver");
	tcase_add_loop_test(tc, SHLD_14_window_is_not_shrunk, 0, 4);
	tcase_add_loop_test(tc, MUST_39_receiver_sws, 0, 2);
	tcase_add_loop_test(tc, window_update_after_zero, 0, 2);
	tcase_add_test(tc, receive_buffer_bounds);
	tcase_add_test(tc, a_clamp_holds_for_a_while);
	tcase_add_test(tc, one_segment_beyond);
	tcase_add_test(tc, autotuning_knows_the_ring);
	tcase_add_test(tc, a_near_path_needs_less);
	tcase_add_test(tc, round_trip_of_a_receiver);
	tcase_add_test(tc, far_bytes_cost_what_they_are);
	tcase_add_test(tc, no_text_without_its_range);
	tcase_add_test(tc, text_in_order_comes_first);
	tcase_add_test(tc, text_passes_a_fin_that_was_ahead);
	tcase_add_test(tc, pressure_makes_windows_small);
	tcase_add_test(tc, what_may_be_said_later);
	tcase_add_test(tc, short_messages_do_not_fill_a_window);
	suite_add_tcase(s, tc);
	return h_main(s);
}
