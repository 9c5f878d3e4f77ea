/* Windows and what may go when: Nagle, cork, silly window avoidance on both sides, shrinking windows, buffers. */
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

/* ---- the receiver's window ---- */

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
			/* Scaled, it is a multiple of the unit away from RCV.NXT: less than one unit may be lost in rounding (RFC 7323
			   §2.4, appendix F), and never twice. */
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

/* TCP_WINDOW_CLAMP is one bound among others, and what comes last counts, as in Linux: it is over when segments turn out to take another share of the buffer. */
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

/* Without time stamps a receiver knows the round trip by its window: what comes beyond it was sent when it had been told. */
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

/* A stranger's byte at the window's end must not cost the whole buffer; and all that waits out of order is bounded by SO_RCVBUF. */
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

/* What the set of ranges has no room for is not kept either: the peer is not told that it is there, and it would be read without having been acknowledged. */
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

/* Out of memory with text in the buffer: not writable until something is acknowledged, or an event loop would spin. */
START_TEST(a_sender_without_memory_waits)
{
	struct harness *h = h_established(0, 65535);
	ck_assert_int_eq(h_send(h, 1000), 1000);
	h->memory.limit_bytes = h->memory.live_bytes;
	ssize_t n = h_send(h, 100000);
	ck_assert_int_lt(n, 100000);
	while (n > 0)
		n = h_send(h, 100000);
	ck_assert_int_eq(n, -EAGAIN);
	ck_assert(!tcp_is_writable(&h->c));
	h_drain(h);
	h_events(h);
	h->memory.limit_bytes = 0;
	h_peer_ack(h, h_snd_nxt(h));
	ck_assert(h_events(h) & TCP_EV_WRITABLE);
	ck_assert(tcp_is_writable(&h->c));
	h_drain(h);
	for (int i = 0; i < 10 && tcp_unacked_bytes(&h->c); i++) {
		h_advance(h, H_RTT);
		h_peer_ack(h, h_snd_nxt(h));
		h_drain(h);
	}
	h_drain(h);
	h_free(h);
}
END_TEST

/* ---- the application's side ---- */

START_TEST(send_buffer_and_writability)
{
	struct harness *h = h_new(0);
	h->open.options.user_sndbuf = true;
	h->open.options.sndbuf_bytes = 9000;
	h_establish(h);
	ck_assert(tcp_is_writable(&h->c));
	uint32_t space = tcp_send_space(&h->c, 200000);
	ck_assert_uint_ge(space, 9000);
	ck_assert_int_eq(h_send(h, space + 5000), (ssize_t)space);
	ck_assert(!tcp_is_writable(&h->c));
	ck_assert_int_eq(h_send(h, 1), -EAGAIN);
	ck_assert_uint_eq(tcp_unacked_bytes(&h->c), space);
	h_events(h);
	h_drain(h);
	h_advance(h, H_RTT);
	h_peer_ack(h, 1 + space / 10); /* a little room: not worth waking anybody */
	ck_assert(!(h_events(h) & TCP_EV_WRITABLE));
	unsigned events = 0;
	for (int i = 0; i < 10 && tcp_unacked_bytes(&h->c); i++) {
		h_drain(h);
		h_advance(h, H_RTT);
		h_peer_ack(h, h_status(h).snd_nxt - H_ISS);
		events |= h_events(h);
	}
	ck_assert(events & TCP_EV_WRITABLE);
	ck_assert(tcp_is_writable(&h->c));
	ck_assert_uint_eq(tcp_unacked_bytes(&h->c), 0);
	h_drain(h);
	h_free(h);
}
END_TEST

/* What Linux takes at once on a new connection with an initial window of 10 segments (its SO_SNDBUF says so, under cubic): 2 · 10 · 2304. */
START_TEST(first_send)
{
	struct harness *h = h_new(_i ? H_ALL : 0);
	h_establish(h);
	ck_assert_uint_eq(h_status(h).sndbuf_bytes, 46080);
	ck_assert_uint_eq(tcp_send_space(&h->c, 30000), 30000);
	ck_assert_int_eq(h_send(h, 100000), 42000); /* by whole buffers of half the window, the last one whole: as Linux */
	h_drain(h);
	h_free(h);
}
END_TEST

/* Who was woken for room, and finds none because what waited has left meanwhile, is woken again. */
START_TEST(who_asks_for_room_is_told)
{
	struct harness *h = h_new(0);
	h_establish(h);
	h_send(h, 100000);
	h_drain(h);
	h->c.nospace = false; /* as after a wake-up */
	ck_assert(!tcp_ask_writable(&h->c));
	h_events(h);
	while (h->c.snd.len) {
		h_peer_ack(h, h->c.snd_nxt - h->c.iss);
		h_drain(h);
	}
	ck_assert(h_events(h) & TCP_EV_WRITABLE);
	ck_assert(tcp_ask_writable(&h->c));
	h_free(h);
}
END_TEST

/* As much as the path carries in a millisecond, two segments at least; each super-segment is pushed, and so is a write's end. */
START_TEST(super_segments_of_a_far_peer)
{
	struct harness *h = h_new(0);
	h->open.gso_max_bytes = 64240;
	h_establish(h);
	h_send(h, 5 * H_MSS);
	h_expect(h, SEG_ACK | SEG_PSH, 1, 1, 2 * H_MSS);
	h_expect(h, SEG_ACK | SEG_PSH, 1 + 2 * H_MSS, 1, 2 * H_MSS);
	h_expect(h, SEG_ACK | SEG_PSH, 1 + 4 * H_MSS, 1, H_MSS);
	h_peer_ack(h, 1 + 5 * H_MSS);
	h->c.srtt_us = h->c.min_rtt_us = 4000;
	h->c.pacing_rate = 5000000;
	h_send(h, 9 * H_MSS); /* twice a window of 10 in 4 ms: 5 MB/s */
	h_expect(h, SEG_ACK | SEG_PSH, 1 + 5 * H_MSS, 1, 5 * H_MSS);
	h_drain(h);
	h_free(h);
}
END_TEST

/* MSG_EOR: a record's end is a segment's, and nothing is joined to it; within a record segments are as large as ever. */
START_TEST(records_stay_apart)
{
	struct harness *h = h_new(H_ALL);
	h->open.gso_max_bytes = 64240;
	h_establish(h);
	h_set_options(h, cork);
	uint32_t seq = 1;
	for (int i = 0; i < 3; i++) {
		h_send(h, 100);
		h_send(h, 300);
		tcp_end_record(&h->c);
	}
	h_send(h, 1500);
	for (int i = 0; i < 3; i++, seq += 400)
		h_expect(h, SEG_ACK | SEG_PSH, seq, 1, 400);
	h_expect(h, SEG_ACK, seq, 1, H_MSS);
	h_silence(h);
	/* Nor are they joined when they go again. */
	struct h_out *o;
	for (int i = 0; i < 8; i++) {
		h_next(h);
		while ((o = h_take(h)))
			ck_assert(o->seg.seq != H_ISS + 1 || o->seg.payload_len == 400);
	}
	h_drain(h);
	h_free(h);
}
END_TEST

/* One emit may carry many segments, all but the last full. */
START_TEST(super_segments)
{
	struct harness *h = h_new(_i ? H_ALL : 0);
	h->open.gso_max_bytes = 64240;
	h->open.options.user_sndbuf = true;
	h->open.options.sndbuf_bytes = 1 << 20;
	h_establish(h);
	h->c.min_rtt_us = 100; /* near by */
	h_send(h, 9 * H_MSS + 10);
	uint32_t end = 1, most = 0;
	for (struct h_out *o; (o = h_take(h));) {
		ck_assert_uint_eq(o->seg.seq, H_ISS + end);
		if (o->seg.payload_len > H_MSS)
			ck_assert_uint_eq(o->gso_size, H_MSS);
		else
			ck_assert_uint_eq(o->gso_size, 0);
		end += o->seg.payload_len;
		most = o->seg.payload_len > most ? o->seg.payload_len : most;
	}
	ck_assert_uint_eq(most, 5 * H_MSS); /* half of the congestion window */
	ck_assert_uint_eq(end, 1 + 9 * H_MSS + 10);
	h_free(h);
}
END_TEST

struct narrow {
	struct tcp_emit emit;
	unsigned n;
};

/* Room for one. */
static void take_one(struct tcp_emit *emit, struct tcp_conn *c, const struct tcp_segment *seg, uint16_t gso_size)
{
	((struct narrow *)emit)->n++;
	ck_assert_uint_eq(seg->payload_len, H_MSS);
	emit->full = true;
}

/* Where segments go says that it is full: the rest stays unsent, and due. */
START_TEST(a_full_way_out_holds_the_rest)
{
	struct harness *h = h_established(0, 65535);
	uint8_t bytes[4 * H_MSS];
	struct iovec iov = {bytes, sizeof bytes};
	struct narrow narrow = {.emit.segment = take_one};
	for (uint32_t i = 0; i < sizeof bytes; i++)
		bytes[i] = h_byte(i);
	ck_assert_int_eq(tcp_send(&h->c, h->now, &iov, 1, false, false), sizeof bytes);
	tcp_output(&h->c, h->now, &narrow.emit);
	ck_assert_uint_eq(narrow.n, 1);
	ck_assert_uint_eq(h_snd_nxt(h), 1 + H_MSS);
	ck_assert_int_le(tcp_next_deadline(&h->c), h->now);
	tcp_output(&h->c, h->now, &narrow.emit); /* still full */
	ck_assert_uint_eq(narrow.n, 1);
	ck_assert_int_le(tcp_next_deadline(&h->c), h->now);
	h_output(h);
	for (uint32_t i = 1; i < 4; i++)
		h_expect(h, i == 3 ? SEG_ACK | SEG_PSH : SEG_ACK, 1 + i * H_MSS, 1, H_MSS);
	h_silence(h);
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
	tc = tcase_create("receiver");
	tcase_add_loop_test(tc, SHLD_14_window_is_not_shrunk, 0, 4);
	tcase_add_loop_test(tc, MUST_39_receiver_sws, 0, 2);
	tcase_add_loop_test(tc, window_update_after_zero, 0, 2);
	tcase_add_test(tc, receive_buffer_bounds);
	tcase_add_test(tc, a_clamp_holds_for_a_while);
	tcase_add_test(tc, one_segment_beyond);
	tcase_add_test(tc, autotuning_knows_the_ring);
	tcase_add_test(tc, round_trip_of_a_receiver);
	tcase_add_test(tc, far_bytes_cost_what_they_are);
	tcase_add_test(tc, no_text_without_its_range);
	tcase_add_test(tc, text_in_order_comes_first);
	tcase_add_test(tc, text_passes_a_fin_that_was_ahead);
	tcase_add_test(tc, pressure_makes_windows_small);
	tcase_add_test(tc, a_sender_without_memory_waits);
	suite_add_tcase(s, tc);
	tc = tcase_create("application");
	tcase_add_test(tc, send_buffer_and_writability);
	tcase_add_loop_test(tc, first_send, 0, 2);
	tcase_add_test(tc, who_asks_for_room_is_told);
	tcase_add_test(tc, super_segments_of_a_far_peer);
	tcase_add_test(tc, records_stay_apart);
	tcase_add_loop_test(tc, super_segments, 0, 2);
	tcase_add_test(tc, a_full_way_out_holds_the_rest);
	tcase_add_test(tc, what_may_be_said_later);
	tcase_add_test(tc, short_messages_do_not_fill_a_window);
	suite_add_tcase(s, tc);
	return h_main(s);
}
