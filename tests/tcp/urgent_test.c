/*
 * Urgent data, both ways: RFC 9293 §3.8.5, and what tcp(7) adds: in line or not, the mark, SIGURG's and POLLPRI's
 * reasons.
 */
#include "harness.h"

static ssize_t send_urgent(struct harness *h, uint32_t len)
{
	uint8_t bytes[64];
	for (uint32_t i = 0; i < len; i++)
		bytes[i] = h_byte(h->sent + i);
	struct iovec iov = {bytes, len};
	ssize_t n = tcp_send(&h->c, h->now, &iov, 1, false, true);
	h->sent += (uint32_t)n;
	h_output(h);
	return n;
}

/* MUST-30, MUST-62: the pointer is behind the last urgent octet (RFC 6093 §3.1's practice: RFC 9293 §3.8.5). */
START_TEST(MUST_62_sending_urgent_data)
{
	struct harness *h = h_established(0, 65535);
	h_send(h, 10);
	h_expect(h, SEG_ACK, 1, 1, 10);
	ck_assert_int_eq(send_urgent(h, 3), 3);
	struct h_out *o = h_expect(h, SEG_ACK | SEG_URG, 11, 1, 3); /* not held by Nagle */
	ck_assert_uint_eq(o->seg.urgent, 3);
	h_peer_ack(h, 14);
	h_send(h, 5);
	h_expect(h, SEG_ACK, 14, 1, 5); /* over */
	h_free(h);
}
END_TEST

/*
 * MUST-31, MUST-32, MUST-33: announced ahead of its data, of any length; the application is told, and where the mark
 * is.
 */
START_TEST(MUST_32_receiving_urgent_data)
{
	struct harness *h = h_established(_i ? H_ALL : 0, 65535);
	uint8_t byte;
	ck_assert_int_eq(tcp_recv_urgent(&h->c, &byte, false), -EINVAL);
	struct tcp_segment s = h_seg(h, SEG_ACK | SEG_URG, 0, 1, 10);
	s.urgent = 15; /* five more to come */
	h_input(h, &s);
	h->peer_nxt += 10;
	ck_assert(h_events(h) & TCP_EV_URGENT);
	ck_assert_int_eq(tcp_recv_urgent(&h->c, &byte, false), -EAGAIN);
	ck_assert(!tcp_at_mark(&h->c));
	h_peer(h, SEG_ACK, 1, 10);
	ck_assert_uint_eq(tcp_readable_bytes(&h->c), 19);
	ck_assert_uint_eq(tcp_ready_bytes(&h->c), 20); /* with the urgent one: it is not next */
	ck_assert_int_eq(tcp_recv_urgent(&h->c, &byte, true), 1); /* MSG_PEEK */
	ck_assert_int_eq(tcp_recv_urgent(&h->c, &byte, false), 1);
	ck_assert_int_eq(tcp_recv_urgent(&h->c, &byte, false), -EINVAL); /* once */
	ck_assert_uint_eq(byte, h_byte(14)); /* the octet before the pointer */
	ck_assert_int_eq(h_recv(h, 100, 0), 14); /* reads stop at the mark */
	ck_assert(tcp_at_mark(&h->c));
	ck_assert_uint_eq(tcp_ready_bytes(&h->c), 5);
	ck_assert_uint_eq(tcp_unread_bytes(&h->c), 6);
	ck_assert_int_eq(h_recv(h, 100, 15), 5); /* and pass over it */
	ck_assert(!tcp_at_mark(&h->c));
	h_advance(h, USEC_PER_SEC);
	h_drain(h);
	h_free(h);
}
END_TEST

/* In line, the urgent byte is read with the others, but a read still ends at the mark, which POLLPRI tells of. */
START_TEST(urgent_in_line)
{
	struct harness *h = h_established(0, 65535);
	uint8_t byte;
	struct tcp_options opt = *tcp_get_options(&h->c);
	opt.oobinline = true;
	tcp_set_options(&h->c, h->now, &opt);
	struct tcp_segment s = h_seg(h, SEG_ACK | SEG_URG, 0, 1, 10);
	s.urgent = 5;
	h_input(h, &s);
	h->peer_nxt += 10;
	ck_assert_int_eq(tcp_recv_urgent(&h->c, &byte, false), -EINVAL);
	ck_assert(tcp_urgent_ready(&h->c));
	ck_assert_int_eq(h_recv(h, 100, 0), 4);
	ck_assert(tcp_at_mark(&h->c));
	ck_assert_int_eq(h_recv(h, 100, 4), 6);
	ck_assert(!tcp_urgent_ready(&h->c));
	h_advance(h, USEC_PER_SEC);
	h_drain(h);
	h_free(h);
}
END_TEST

/*
 * A read that goes past the urgent byte loses it; one that finds nothing else does, too. What is left of it is unread
 * data at close.
 */
START_TEST(urgent_passed_over)
{
	struct harness *h = h_established(0, 65535);
	uint8_t byte;
	struct tcp_segment s = h_seg(h, SEG_ACK | SEG_URG, 0, 1, 1);
	s.urgent = 1;
	h_input(h, &s);
	h->peer_nxt += 1;
	ck_assert(tcp_urgent_ready(&h->c));
	if (_i) {
		tcp_close(&h->c, h->now, false, false);
		ck_assert_int_eq(tcp_state(&h->c), TCPS_CLOSED); /* RST */
	} else {
		ck_assert_int_eq(tcp_recv(&h->c, h->now, NULL, 0, false, false), -EAGAIN);
		ck_assert(!tcp_urgent_ready(&h->c));
		ck_assert_int_eq(tcp_recv_urgent(&h->c, &byte, false), -EINVAL);
		h_advance(h, USEC_PER_SEC);
	}
	h_drain(h);
	h_free(h);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("urgent");
	TCase *tc = tcase_create("urgent");
	tcase_add_test(tc, MUST_62_sending_urgent_data);
	tcase_add_loop_test(tc, MUST_32_receiving_urgent_data, 0, 2);
	tcase_add_test(tc, urgent_in_line);
	tcase_add_loop_test(tc, urgent_passed_over, 0, 2);
	suite_add_tcase(s, tc);
	return h_main(s);
}
