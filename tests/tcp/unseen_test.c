/* Unseen text: taken by its header, its bytes come later or never (tcp/unseen.c). */
#include "harness.h"

#include <string.h>

#define LEN 3000

/* A plain segment of the peer's, without its bytes. */
static struct tcp_segment unseen(struct harness *h, int32_t seq_off, uint32_t len)
{
	struct tcp_segment s = h_seg(h, SEG_ACK, seq_off, 1, len);
	s.payload[0].iov_base = NULL;
	return s;
}

static uint32_t take(struct harness *h, uint32_t len)
{
	struct tcp_segment s = unseen(h, 0, len);
	ck_assert(tcp_may_take_unseen(&h->c, &s));
	ck_assert(tcp_input_unseen(&h->c, h->now, &s));
	h->peer_nxt += len;
	h_drain(h);
	return s.seq;
}

static void put(struct harness *h, uint32_t seq, uint32_t from, uint32_t len)
{
	struct iovec place[2];
	int n = tcp_unseen_place(&h->c, seq, len, place);
	ck_assert_int_ge(n, 1);
	for (int k = 0; k < n; k++)
		for (uint32_t i = 0; i < place[k].iov_len; i++)
			((uint8_t *)place[k].iov_base)[i] = h_byte(from++);
}

/* Its place is between what came before and what comes after; whoever fills it later changes neither. */
START_TEST(bytes_that_come_later)
{
	struct harness *h = h_established(H_ALL, 65535);
	h_peer(h, SEG_ACK, 1, 10);
	uint32_t seq = take(h, LEN);
	h_peer(h, SEG_ACK, 1, 500);
	ck_assert_uint_eq(tcp_readable_bytes(&h->c), 10 + LEN + 500);
	put(h, seq, 10, LEN);
	ck_assert_int_eq(h_recv(h, 65535, 0), 10 + LEN + 500);
	h_drain(h);
	h_free(h);
}
END_TEST

/*
 * The buffer grows and grows, and what is there, or comes later into its place, is kept: before, between and behind
 * what never comes.
 */
START_TEST(growth_keeps_what_is_there)
{
	struct harness *h = h_established(H_ALL, 65535);
	static uint8_t none[LEN];
	struct iovec iov = {none, LEN};
	uint32_t seq;
	h_peer(h, SEG_ACK, 1, 700);
	seq = take(h, LEN);
	put(h, seq, 700, LEN);
	take(h, LEN);
	h_peer(h, SEG_ACK, 1, 300);
	for (int i = 0; i < 4; i++)
		seq = take(h, LEN);
	put(h, seq, 1000 + 5 * LEN, LEN);
	take(h, 4 * LEN);
	ck_assert_int_eq(h_recv(h, 700 + LEN, 0), 700 + LEN);
	ck_assert_int_eq(tcp_recv(&h->c, h->now, &iov, 1, false, true), LEN);
	ck_assert_int_eq(h_recv(h, 300, 700 + 2 * LEN), 300);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(tcp_recv(&h->c, h->now, &iov, 1, false, true), LEN);
	ck_assert_int_eq(h_recv(h, LEN, 1000 + 5 * LEN), LEN);
	h_drain(h);
	h_free(h);
}
END_TEST

/*
 * A stream of which no byte ever comes: there is nothing for a growing buffer to copy. What is noted as filled goes
 * along, or it would seem to be ahead 2 GiB later.
 */
START_TEST(nothing_is_filled)
{
	struct harness *h = h_established(0, 65535);
	static uint8_t none[LEN];
	struct iovec iov = {none, LEN};
	h_peer(h, SEG_ACK, 1, 10);
	ck_assert_int_eq(h_recv(h, 10, 0), 10);
	for (int i = 0; i < 10; i++) {
		take(h, LEN);
		ck_assert_uint_eq(h->c.rcv_filled, tcp_recv_next(&h->c));
		ck_assert_int_eq(tcp_recv(&h->c, h->now, &iov, 1, false, true), LEN);
		h_output(h); /* the window's edge moves */
		h_drain(h);
	}
	h_free(h);
}
END_TEST

/* Read from elsewhere: the place is passed over, and what follows is right. */
START_TEST(bytes_that_never_come)
{
	struct harness *h = h_established(0, 65535);
	uint8_t none[1];
	uint32_t seq = take(h, LEN);
	h_peer(h, SEG_ACK, 1, 500);
	struct iovec iov = {none, LEN}, place[2];
	ck_assert_int_eq(tcp_recv(&h->c, h->now, &iov, 1, false, true), LEN);
	ck_assert_int_eq(tcp_unseen_place(&h->c, seq, LEN, place), 0);
	ck_assert_int_eq(h_recv(h, 65535, LEN), 500);
	ck_assert_int_eq(tcp_unseen_place(&h->c, seq, LEN, place), 0);
	h_drain(h);
	h_free(h);
}
END_TEST

/*
 * Nothing whose bytes would be looked at: a gap, a part of what is old, more than the window, urgent data, a FIN. All
 * old: taken, and dropped.
 */
START_TEST(what_is_not_taken)
{
	struct harness *h = h_established(H_SACK, 65535);
	struct tcp_segment s = unseen(h, 1, LEN);
	ck_assert(!tcp_may_take_unseen(&h->c, &s));
	s = unseen(h, 0, 65535);
	s.payload_len = 70000;
	ck_assert(!tcp_may_take_unseen(&h->c, &s));
	s = unseen(h, 0, LEN);
	s.flags |= SEG_FIN;
	ck_assert(!tcp_may_take_unseen(&h->c, &s));
	s.flags = SEG_ACK | SEG_URG;
	ck_assert(!tcp_may_take_unseen(&h->c, &s));
	take(h, LEN);
	s = unseen(h, -1, LEN);
	ck_assert(!tcp_may_take_unseen(&h->c, &s));
	s = unseen(h, -LEN, LEN);
	ck_assert(tcp_may_take_unseen(&h->c, &s));
	ck_assert(!tcp_input_unseen(&h->c, h->now, &s));
	ck_assert_uint_eq(tcp_readable_bytes(&h->c), LEN);
	s = h_seg(h, SEG_ACK, 2, 1, 1); /* something waits out of order: what is before it would be joined with it */
	h_input(h, &s);
	s = unseen(h, 0, LEN);
	ck_assert(!tcp_may_take_unseen(&h->c, &s));
	h_drain(h);
	h_free(h);
}
END_TEST

/* The connection ends, and nothing that nobody wrote is ever read. */
START_TEST(bytes_that_are_lost)
{
	struct harness *h = h_established(0, 65535);
	take(h, LEN);
	tcp_unseen_lost(&h->c, h->now);
	h_output(h);
	h_drain(h);
	ck_assert_uint_eq(tcp_readable_bytes(&h->c), 0);
	ck_assert_int_eq(tcp_recv(&h->c, h->now, NULL, 0, false, false), -ECONNRESET);
	ck_assert_int_eq(tcp_state(&h->c), TCPS_CLOSED);
	h_free(h);
}
END_TEST

/* … also where the peer's FIN came: what was read is not all that it sent. */
START_TEST(bytes_that_are_lost_before_a_fin)
{
	struct harness *h = h_established(0, 65535);
	take(h, LEN);
	h_peer(h, SEG_FIN | SEG_ACK, 1, 0);
	tcp_unseen_lost(&h->c, h->now);
	h_output(h);
	h_drain(h);
	ck_assert_int_eq(tcp_recv(&h->c, h->now, NULL, 0, false, false), -ECONNRESET);
	ck_assert_int_eq(tcp_recv(&h->c, h->now, NULL, 0, false, false), 0);
	h_free(h);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("unseen");
	TCase *tc = tcase_create("unseen");
	tcase_add_test(tc, bytes_that_come_later);
	tcase_add_test(tc, bytes_that_never_come);
	tcase_add_test(tc, growth_keeps_what_is_there);
	tcase_add_test(tc, nothing_is_filled);
	tcase_add_test(tc, what_is_not_taken);
	tcase_add_test(tc, bytes_that_are_lost);
	tcase_add_test(tc, bytes_that_are_lost_before_a_fin);
	suite_add_tcase(s, tc);
	return h_main(s);
}
