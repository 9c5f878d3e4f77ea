/*
 * TCP Fast Open (RFC 7413) of a client: what its SYN has with it, what the SYN-ACK makes of that, and when a black hole
 * is suspected.
 */
#include <string.h>

#include "harness.h"

#define TEXT 500

static const struct fastopen_cookie cookie = {.there = true, .len = 8, .val = {1, 2, 3, 4, 5, 6, 7, 8}};
static const struct fastopen_cookie asks = {.there = true};

/* The SYN waits. */
static struct harness *waiting(unsigned features)
{
	struct harness *h = h_new(features | H_ACTIVE);
	h->open.syn_waits = true;
	ck_assert_int_eq(tcp_open_active(&h->c, &h->stack, h->now, &h->open), 0);
	h->live = true;
	h_output(h);
	h_silence(h);
	ck_assert(tcp_syn_waits(&h->c));
	return h;
}

/* It leaves, with as much of `len` bytes as it takes. */
static uint32_t begin(struct harness *h, const struct tcp_fastopen *f, uint32_t len)
{
	static uint8_t text[4000];
	struct iovec iov[2] = {{text, len / 3}, {text + len / 3, len - len / 3}};
	for (uint32_t i = 0; i < len; i++)
		text[i] = h_byte(i);
	uint32_t n = tcp_fastopen_begin(&h->c, f, iov, 2);
	h->sent += n;
	h_output(h);
	return n;
}

static struct harness *with_text(unsigned features)
{
	struct harness *h = waiting(features);
	ck_assert_uint_eq(begin(h, &(struct tcp_fastopen){.text = true, .cookie = cookie, .mss_peer = H_MSS}, TEXT), TEXT);
	struct h_out *o = h_expect(h, SEG_SYN, 0, 0, TEXT);
	ck_assert_uint_eq(o->seg.cookie_len, 8);
	h_silence(h);
	return h;
}

static void syn_ack(struct harness *h, uint32_t ack)
{
	struct tcp_segment s = h_syn(h, SEG_SYN | SEG_ACK);
	s.ack += ack - 1;
	h->peer_nxt = 1;
	h_input(h, &s);
}

START_TEST(syn_waits_for_text)
{
	struct harness *h = waiting(H_ALL);
	ck_assert_int_eq(tcp_next_deadline(&h->c), TIME_NEVER);
	ck_assert_uint_eq(h->stack.counters[TCPC_ActiveOpens], 0);
	struct tcp_segment s = h_seg(h, SEG_ACK, 0, 5, 0); /* nothing of ours was sent: a reset, and still no SYN */
	h_input(h, &s);
	h_expect(h, SEG_RST, 5, 0, 0);
	ck_assert_int_eq(tcp_next_deadline(&h->c), TIME_NEVER);
	h_close(h);
	h_silence(h);
	h_free(h);
}
END_TEST

/* All is acknowledged, and what follows is as on any connection; its end. */
static void goes_on(struct harness *h)
{
	ck_assert_uint_eq(h_status(h).in_flight_bytes, 0);
	ck_assert_int_eq(h_send(h, 10), 10);
	h_expect(h, SEG_ACK, 1 + TEXT, 1, 10);
	h_peer_ack(h, 1 + TEXT + 10);
	h_silence(h);
	h_free(h);
}

START_TEST(text_is_acknowledged)
{
	struct harness *h = with_text(H_ALL);
	h_advance(h, H_RTT);
	syn_ack(h, 1 + TEXT);
	h_expect(h, SEG_ACK, 1 + TEXT, 1, 0);
	h_silence(h);
	h_state(h, TCPS_ESTABLISHED);
	struct tcp_status st = h_status(h);
	ck_assert(st.syn_data && !st.fastopen_fail);
	ck_assert_uint_eq(st.bytes_acked, TEXT);
	ck_assert_uint_eq(st.srtt_us, H_RTT);
	ck_assert_uint_eq(h->stack.counters[TCPC_FastOpenActive], 1);
	goes_on(h);
}
END_TEST

/*
 * With and without SACK: nothing of it; a part. It leaves at once, the window is untouched, and then all is as if
 * nothing had been.
 */
START_TEST(text_is_not_acknowledged)
{
	static const unsigned features[] = {H_ALL, H_WSCALE};
	for (int i = 0; i < 4; i++) {
		uint32_t part = i / 2 * 200;
		struct harness *h = with_text(features[i % 2]);
		h_advance(h, H_RTT);
		uint32_t cwnd = 10 * (H_MSS - (i % 2 ? 0 : 12));
		syn_ack(h, 1 + part);
		h_expect(h, SEG_ACK, 1 + part, 1, TEXT - part);
		h_silence(h);
		ck_assert_int_eq(h_status(h).fastopen_fail, TCP_FASTOPEN_NOT_ACKED);
		ck_assert(!h_status(h).syn_data);
		ck_assert_uint_ge(h_status(h).cwnd_bytes, cwnd);
		h_timeout(h); /* lost again: as any text */
		h_expect(h, SEG_ACK, 1 + part, 1, TEXT - part);
		h_peer_ack(h, 1 + TEXT);
		h_silence(h);
		goes_on(h);
	}
}
END_TEST

START_TEST(syn_goes_again_without)
{
	struct harness *h = with_text(H_ALL);
	h_next(h);
	struct h_out *o = h_expect(h, SEG_SYN, 0, 0, 0);
	ck_assert(!(o->seg.has & (SEG_HAS_FASTOPEN | SEG_HAS_FASTOPEN_OLD)));
	h_silence(h);
	syn_ack(h, 1);
	h_expect(h, SEG_ACK, 1, 1, TEXT);
	ck_assert_int_eq(h_status(h).fastopen_fail, TCP_FASTOPEN_SYN_AGAIN);
	h_peer_ack(h, 1 + TEXT);
	h_silence(h);
	h_free(h);
}
END_TEST

/* A simultaneous open: our SYN-ACK has no text; the handshake's end may acknowledge what the SYN had, or not. */
START_TEST(simultaneous_open)
{
	for (int all = 0; all < 2; all++) {
		struct harness *h = with_text(H_ALL);
		struct tcp_segment syn = h_syn(h, SEG_SYN);
		h->peer_nxt = 1;
		h_input(h, &syn);
		h_expect(h, SEG_SYN | SEG_ACK, 0, 1, 0);
		h_silence(h);
		h_peer_ack(h, all ? 1 + TEXT : 1);
		h_state(h, TCPS_ESTABLISHED);
		h_silence(h);
		if (!all) {
			h_timeout(h);
			h_drain(h);
			h_peer_ack(h, 1 + TEXT);
		}
		ck_assert_uint_eq(h_status(h).in_flight_bytes, 0);
		h_drain(h);
		h_free(h);
	}
}
END_TEST

START_TEST(room_is_linuxs)
{
	struct harness *h = waiting(H_ALL);
	struct tcp_fastopen f = {.text = true, .cookie = cookie};
	ck_assert_uint_eq(tcp_fastopen_room(&h->c, &f), h->open.mss_path - 40);
	f.mss_peer = 536;
	ck_assert_uint_eq(tcp_fastopen_room(&h->c, &f), 536 - 40);
	f.mss_peer = 1; /* what the peer said may be nonsense */
	ck_assert_uint_eq(tcp_fastopen_room(&h->c, &f), 88 - 40);
	f.mss_peer = 536;
	ck_assert_uint_eq(begin(h, &f, 2000), 536 - 40);
	h_expect(h, SEG_SYN, 0, 0, 536 - 40);
	h_peer(h, SEG_RST, 1 + 536 - 40, 0);
	h_state(h, TCPS_CLOSED);
	ck_assert_int_eq(tcp_take_error(&h->c), ECONNREFUSED);
	h_free(h);
}
END_TEST

/* The path is smaller than the SYN: it goes again at once, and the text in pieces. */
START_TEST(syn_was_too_long)
{
	struct harness *h = with_text(H_ALL);
	ck_assert(tcp_on_frag_needed(&h->c, h->now, 512, h->c.iss));
	h_output(h);
	ck_assert_uint_eq(h_expect(h, SEG_SYN, 0, 0, 0)->seg.mss, 512);
	h_silence(h);
	syn_ack(h, 1);
	h_expect(h, SEG_ACK, 1, 1, 500);
	h_peer_ack(h, 1 + TEXT);
	h_silence(h);
	h_free(h);
}
END_TEST

/* It became smaller between the program's call and the SYN: what has no room follows. */
START_TEST(path_shrinks_before_the_syn)
{
	struct harness *h = waiting(H_ALL);
	static uint8_t text[900];
	struct iovec iov = {text, sizeof text};
	for (uint32_t i = 0; i < sizeof text; i++)
		text[i] = h_byte(i);
	ck_assert_uint_eq(tcp_fastopen_begin(&h->c, &(struct tcp_fastopen){.text = true, .cookie = cookie}, &iov, 1), sizeof text);
	h->sent += sizeof text;
	tcp_set_path_mss(&h->c, h->now, 600, true);
	h_output(h);
	h_expect(h, SEG_SYN, 0, 0, 600 - 40);
	h_silence(h);
	syn_ack(h, 1 + 560);
	h_expect(h, SEG_ACK, 1 + 560, 1, 340);
	h_peer_ack(h, 1 + 900);
	h_silence(h);
	ck_assert(h_status(h).syn_data);
	h_free(h);
}
END_TEST

/* A long cookie leaves no room for finesse's own option. */
START_TEST(long_cookie)
{
	for (int len = 8; len <= 16; len += 8) {
		struct harness *h = waiting(H_ALL | H_CR);
		struct tcp_fastopen f = {.text = true, .cookie = {.there = true, .len = len}};
		begin(h, &f, TEXT);
		struct h_out *o = h_expect(h, SEG_SYN, 0, 0, TEXT);
		ck_assert_uint_eq(o->seg.cookie_len, len);
		ck_assert_int_eq(!!(o->seg.has & SEG_HAS_CLOSE_CAPABLE), len == 8);
		h_free(h);
	}
}
END_TEST

/* What the next SYN will have with it. */
START_TEST(news_for_the_next_time)
{
	static const uint8_t new_cookie[16] = {7, 7, 7, 7};
	struct tcp_fastopen_news news;
	for (int i = 0; i < 5; i++) { /* asked; asked the old way; given; text without an option; asked, and repeated */
		struct tcp_fastopen f = {.text = i == 3, .cookie = i == 3 ? (struct fastopen_cookie){0} : asks};
		struct harness *h = waiting(H_ALL);
		f.cookie.old = i == 1;
		begin(h, &f, TEXT);
		h_drain(h);
		ck_assert_int_eq(h_status(h).fastopen_fail, f.text ? TCP_FASTOPEN_FAIL_NOT : TCP_FASTOPEN_NO_COOKIE_YET);
		if (i == 4)
			h_next(h);
		h_drain(h);
		struct tcp_segment s = h_syn(h, SEG_SYN | SEG_ACK);
		s.mss = 900;
		if (i >= 2 && i < 4) {
			s.has |= SEG_HAS_FASTOPEN;
			s.cookie = new_cookie;
			s.cookie_len = 16;
		}
		h->peer_nxt = 1;
		h_input(h, &s);
		h_drain(h);
		ck_assert(tcp_fastopen_news(&h->c, &news));
		ck_assert_uint_eq(news.mss_peer, 900);
		ck_assert_int_eq(news.cookie.there, i == 2);
		ck_assert(i != 2 || (news.cookie.len == 16 && !memcmp(news.cookie.val, new_cookie, 16)));
		ck_assert_int_eq(news.unanswered, i < 2);
		ck_assert_int_eq(news.asked_old, i == 1);
		h_free(h);
	}
	struct harness *plain = h_new(H_ALL | H_ACTIVE);
	h_establish(plain);
	ck_assert(!tcp_fastopen_news(&plain->c, &news));
	h_free(plain);
}
END_TEST

/* The third time-out in a row, and of an ordinary SYN none. */
START_TEST(black_hole_by_timeouts)
{
	struct harness *h = with_text(H_ALL);
	for (int i = 0; i < 3; i++) {
		ck_assert(!(h_events(h) & TCP_EV_BLACK_HOLE));
		h_next(h);
		h_expect(h, SEG_SYN, 0, 0, 0);
	}
	ck_assert(h_events(h) & TCP_EV_BLACK_HOLE);
	h_next(h);
	ck_assert(!(h_events(h) & TCP_EV_BLACK_HOLE)); /* once */
	h_drain(h);
	h_free(h);
	h = waiting(H_ALL);
	begin(h, &(struct tcp_fastopen){.cookie = {0}}, TEXT);
	for (int i = 0; i < 4; i++)
		h_next(h);
	ck_assert(!(h_events(h) & TCP_EV_BLACK_HOLE));
	h_drain(h);
	h_free(h);
}
END_TEST

/* A FIN beyond text that never came is all that was heard; with some text it is not. */
START_TEST(black_hole_by_fin)
{
	for (int text = 0; text < 2; text++) {
		struct harness *h = with_text(H_ALL);
		syn_ack(h, 1 + TEXT);
		if (text)
			h_peer(h, SEG_ACK, 1 + TEXT, 10);
		h->peer_nxt += 100;
		h_peer(h, SEG_FIN, 1 + TEXT, 0);
		h_drain(h);
		h_events(h);
		ck_assert_int_eq(tcp_fastopen_heard_text(&h->c), text);
		tcp_abort(&h->c, h->now);
		h_output(h);
		ck_assert_int_eq(!!(h_events(h) & TCP_EV_BLACK_HOLE), !text);
		h_drain(h);
		h_free(h);
	}
}
END_TEST

/* Without memory for the text the SYN asks for a cookie. */
START_TEST(without_memory)
{
	struct harness *h = waiting(H_ALL);
	h->memory.limit_bytes = 1;
	ck_assert_uint_eq(begin(h, &(struct tcp_fastopen){.text = true, .cookie = cookie}, TEXT), 0);
	ck_assert_uint_eq(h_expect(h, SEG_SYN, 0, 0, 0)->seg.cookie_len, 0);
	h_free(h);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fastopen_client");
	TCase *t = tcase_create("fastopen_client");
	tcase_add_test(t, syn_waits_for_text);
	tcase_add_test(t, text_is_acknowledged);
	tcase_add_test(t, text_is_not_acknowledged);
	tcase_add_test(t, syn_goes_again_without);
	tcase_add_test(t, simultaneous_open);
	tcase_add_test(t, room_is_linuxs);
	tcase_add_test(t, syn_was_too_long);
	tcase_add_test(t, path_shrinks_before_the_syn);
	tcase_add_test(t, long_cookie);
	tcase_add_test(t, news_for_the_next_time);
	tcase_add_test(t, black_hole_by_timeouts);
	tcase_add_test(t, black_hole_by_fin);
	tcase_add_test(t, without_memory);
	suite_add_tcase(s, t);
	return h_main(s);
}
