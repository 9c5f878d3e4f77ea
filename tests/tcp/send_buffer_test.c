/* The send buffer: room and writability, its memory, and how segments are cut from it. */
#include "harness.h"

#include "tcp/tcp_int.h"

static void cork(struct tcp_options *opt)
{
	opt->cork = true;
}

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

/*
 * What Linux takes at once on a new connection with an initial window of 10 segments (its SO_SNDBUF says so, under
 * cubic): 2 · 10 · 2304.
 */
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

/*
 * As Linux's, SO_SNDBUF grows with the congestion window; near by, no further than what a cache holds. A path that was
 * near is not any more when its round trips have become long.
 */
START_TEST(near_by_the_buffer_stays_small)
{
	static const struct {
		uint32_t least_us, smoothed_us, most;
	} paths[] = {{50, 5000, 1 << 20}, {H_RTT, H_RTT, 4 << 20}, {50, H_RTT, 4 << 20}};
	struct harness *h = h_new(0);
	h_establish(h);
	h->c.min_rtt_us = paths[_i].least_us;
	h->c.srtt_us = paths[_i].smoothed_us;
	h->c.cwnd = 1000 * H_MSS;
	window_grow_sndbuf(&h->c);
	ck_assert_uint_eq(h_status(h).sndbuf_bytes, paths[_i].most);
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

/*
 * As much as the path carries in a millisecond, two segments at least; each super-segment is pushed, and so is a
 * write's end.
 */
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

/*
 * MSG_EOR: a record's end is a segment's, and nothing is joined to it; within a record segments are as large as ever.
 */
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

int main(void)
{
	Suite *s = suite_create("send buffer");
	TCase *tc = tcase_create("application");
	tcase_add_test(tc, send_buffer_and_writability);
	tcase_add_loop_test(tc, first_send, 0, 2);
	tcase_add_loop_test(tc, near_by_the_buffer_stays_small, 0, 3);
	tcase_add_test(tc, who_asks_for_room_is_told);
	tcase_add_test(tc, super_segments_of_a_far_peer);
	tcase_add_test(tc, records_stay_apart);
	tcase_add_loop_test(tc, super_segments, 0, 2);
	tcase_add_test(tc, a_full_way_out_holds_the_rest);
	tcase_add_test(tc, a_sender_without_memory_waits);
	suite_add_tcase(s, tc);
	return h_main(s);
}
