/*
 * Close request, section by section of src/tcp/close_request.c. The peer is played by hand: the client in the first
 * half, the server in the second.
 */
#include <string.h>

#include "harness.h"

#define FEATURES (H_ALL | H_CR)
#define HOLD_US  USEC_PER_SEC
#define RTO_US   (200 * USEC_PER_MSEC + H_RTT) /* the least, and the handshake took H_RTT */

struct asking {
	struct close_policy policy;
	struct close_facts facts;
	struct close_outcome out;
	int n_asked, n_out;
};

static void ask_decide(struct close_policy *p, int64_t now, const struct close_facts *facts, struct close_verdict *verdict)
{
	struct asking *a = (struct asking *)p;
	(void)now;
	a->n_asked++;
	a->facts = *facts;
	*verdict = facts->can_ask ? (struct close_verdict){CLOSE_ASK, CLOSE_REASON_ASKED, HOLD_US}
				  : (struct close_verdict){CLOSE_FIN_NOW, CLOSE_REASON_POLICY_OFF, 0};
}

static void ask_outcome(struct close_policy *p, int64_t now, const struct close_outcome *out)
{
	struct asking *a = (struct asking *)p;
	(void)now;
	if (out->late)
		return;
	a->n_out++;
	a->out = *out;
}

static const struct close_policy_ops ask_ops = {"ask", ask_decide, ask_outcome};
static struct asking asking;

/* A server that has a client's request, ESTABLISHED. */
static struct harness *server(unsigned features)
{
	struct harness *h = h_new(features);
	asking = (struct asking){.policy = {&ask_ops}};
	h->policy = &asking.policy;
	h_enter(h, TCPS_ESTABLISHED);
	h_peer(h, SEG_PSH, 1, 10);
	h_drain(h);
	h_recv(h, 100, 0);
	h_drain(h);
	return h;
}

static struct harness *client(void)
{
	struct harness *h = h_new(FEATURES | H_ACTIVE);
	h_enter(h, TCPS_ESTABLISHED);
	h_drain(h);
	h_events(h);
	return h;
}

/* The next segment carries the option with this number, relative to our ISS or the peer's. */
static void expect_option(const struct h_out *o, uint32_t seq)
{
	ck_assert_ptr_nonnull(o);
	ck_assert(o->seg.has & SEG_HAS_CLOSE_REQUEST);
	ck_assert_uint_eq(o->seg.close_seq, seq);
}

static void peer_option(struct harness *h, uint8_t flags, uint32_t ack, uint32_t len, uint32_t seq)
{
	struct tcp_segment s = h_seg(h, flags | SEG_ACK, 0, ack, len);
	s.has |= SEG_HAS_CLOSE_REQUEST;
	s.close_seq = seq;
	h->peer_nxt += len + !!(flags & SEG_FIN);
	h_input(h, &s);
}

static void outcome(enum close_end end, bool answered)
{
	ck_assert_int_eq(asking.n_out, 1);
	ck_assert_int_eq(asking.out.end, end);
	ck_assert(asking.out.asked && asking.out.held);
	ck_assert_int_eq(asking.out.answered, answered);
}

/* ---- §3, negotiation ---- */

START_TEST(agreed_when_both_speak_it)
{
	bool theirs = _i & 1, ours = _i & 2;
	struct harness *h = h_new(H_ALL | (ours ? H_CR : 0));
	struct tcp_segment syn = h_syn(h, SEG_SYN);
	syn.has = theirs ? syn.has | SEG_HAS_CLOSE_CAPABLE : syn.has & ~SEG_HAS_CLOSE_CAPABLE;
	ck_assert_int_eq(tcp_open_passive(&h->c, &h->stack, h->now, &h->open, &syn), 0);
	h->live = true;
	h->peer_nxt = 1;
	h_output(h);
	struct h_out *o = h_expect(h, SEG_SYN | SEG_ACK, 0, 1, 0);
	ck_assert_int_eq(!!(o->seg.has & SEG_HAS_CLOSE_CAPABLE), theirs && ours);
	ck_assert_int_eq(h->c.cr_on, theirs && ours);
	h_free(h);
}
END_TEST

START_TEST(the_third_syn_goes_without)
{
	struct harness *h = h_new(FEATURES | (_i ? H_ACTIVE : 0));
	if (_i)
		h_open_active(h);
	else
		h_open_passive(h);
	for (int i = 1; i <= 3; i++) {
		h_next(h);
		struct h_out *o = h_take(h);
		ck_assert(o && (o->seg.flags & SEG_SYN));
		ck_assert_int_eq(!!(o->seg.has & SEG_HAS_CLOSE_CAPABLE), i < 2);
		ck_assert_int_eq(tcp_close_request_unheard(&h->c), _i && i >= 2);
	}
	h_free(h);
}
END_TEST

START_TEST(not_offered_where_it_is_known_to_be_dropped)
{
	struct harness *h = h_new(FEATURES | H_ACTIVE);
	h->open.no_close_request = true;
	ck_assert_int_eq(tcp_open_active(&h->c, &h->stack, h->now, &h->open), 0);
	h->live = true;
	h_output(h);
	struct h_out *o = h_expect(h, SEG_SYN, 0, 0, 0);
	ck_assert(!(o->seg.has & SEG_HAS_CLOSE_CAPABLE));
	ck_assert(!tcp_close_request_unheard(&h->c));
	h_free(h);
}
END_TEST

START_TEST(a_syn_ack_without_it_is_a_no)
{
	struct harness *h = h_new(FEATURES | H_ACTIVE);
	h_open_active(h);
	struct tcp_segment s = h_syn(h, SEG_SYN | SEG_ACK);
	s.has &= ~SEG_HAS_CLOSE_CAPABLE;
	h_input(h, &s);
	h->peer_nxt = 1;
	h_drain(h);
	peer_option(h, 0, 1, 0, H_PEER_ISS + 1);
	ck_assert(!tcp_peer_fin(&h->c));
	h_silence(h);
	h_free(h);
}
END_TEST

/* ---- §4, §5: the server ---- */

START_TEST(asked_answered_closed)
{
	struct harness *h = server(FEATURES);
	h_send(h, 20);
	h_expect(h, SEG_ACK, 1, 11, 20);
	h_peer_ack(h, 21);
	if (_i)
		h_shutdown(h);
	else
		h_close(h);
	ck_assert(asking.facts.can_ask);
	expect_option(h_expect(h, SEG_ACK, 21, 11, 0), H_ISS + 21);
	h_silence(h);
	h_state(h, TCPS_ESTABLISHED);
	peer_option(h, 0, 21, 0, H_ISS + 21); /* the echo */
	h_silence(h);
	ck_assert_int_eq(tcp_next_deadline(&h->c), h->now + HOLD_US);
	h_advance(h, HOLD_US / 2);
	h_silence(h); /* nothing is repeated */
	h_peer(h, SEG_FIN, 21, 0);
	h_expect(h, SEG_FIN | SEG_ACK, 21, 12, 0);
	ck_assert_int_eq(tcp_first_fin(&h->c), -1);
	outcome(CLOSE_END_PEER_FIN, true);
	h_peer_ack(h, 22);
	h_state(h, TCPS_CLOSED);
	h_free(h);
}
END_TEST

START_TEST(two_misses_and_the_fin_goes)
{
	struct harness *h = server(FEATURES);
	h_close(h);
	expect_option(h_expect(h, SEG_ACK, 1, 11, 0), H_ISS + 1);
	ck_assert_int_eq(h_next(h), RTO_US);
	expect_option(h_expect(h, SEG_ACK, 1, 11, 0), H_ISS + 1);
	h_peer_ack(h, 1); /* alive, and the option was taken out */
	ck_assert_int_eq(h_next(h), 2 * RTO_US);
	struct h_out *o = h_expect(h, SEG_FIN | SEG_ACK, 1, 11, 0);
	ck_assert(!(o->seg.has & SEG_HAS_CLOSE_REQUEST));
	ck_assert_int_eq(tcp_first_fin(&h->c), 1);
	outcome(CLOSE_END_EXPIRED, false);
	h_silence(h);
	h_free(h);
}
END_TEST

START_TEST(the_hold_bounds_the_application)
{
	struct harness *h = server(FEATURES);
	h_close(h);
	h_drain(h);
	peer_option(h, 0, 1, 0, H_ISS + 1);
	ck_assert_int_eq(h_next(h), HOLD_US);
	h_expect(h, SEG_FIN | SEG_ACK, 1, 11, 0);
	outcome(CLOSE_END_EXPIRED, true);
	h_free(h);
}
END_TEST

START_TEST(an_echo_of_something_else)
{
	struct harness *h = server(FEATURES);
	h_close(h);
	h_drain(h);
	peer_option(h, 0, 1, 0, H_ISS + 2);
	h_silence(h);
	ck_assert_int_eq(h_next(h), RTO_US);
	expect_option(h_expect(h, SEG_ACK, 1, 11, 0), H_ISS + 1);
	h_free(h);
}
END_TEST

START_TEST(rides_on_data)
{
	struct harness *h = server(FEATURES);
	h->c.options.cork = true;
	h_send(h, 2500);
	h_drain(h);
	h->c.options.cork = false;
	uint32_t sent = h_snd_nxt(h);
	h_close(h);
	while (sent < 2501) {
		struct h_out *o = h_take(h);
		ck_assert_ptr_nonnull(o);
		ck_assert_uint_eq(o->seg.seq, H_ISS + sent);
		ck_assert_uint_le(o->seg.payload_len, H_MSS - 8); /* the option takes room */
		expect_option(o, H_ISS + 2501);
		sent += o->seg.payload_len;
	}
	h_silence(h); /* no bare ACK besides */
	h_free(h);
}
END_TEST

START_TEST(zero_window)
{
	struct harness *h = server(FEATURES);
	h->peer_window = 0;
	h_peer_ack(h, 1);
	h_send(h, 100);
	h_silence(h);
	h_close(h);
	expect_option(h_expect(h, SEG_ACK, 1, 11, 0), H_ISS + 101);
	peer_option(h, 0, 1, 0, H_ISS + 101);
	h_silence(h);
	h->peer_window = 1000;
	h_peer_ack(h, 1);
	struct h_out *o = h_expect(h, SEG_ACK, 1, 11, 100);
	ck_assert(!(o->seg.has & SEG_HAS_CLOSE_REQUEST));
	h_free(h);
}
END_TEST

/* §7: the application still has the socket. */
START_TEST(data_after_a_shutdown_is_delivered)
{
	struct harness *h = server(FEATURES);
	h_shutdown(h);
	h_drain(h);
	peer_option(h, 0, 1, 0, H_ISS + 1);
	h_peer(h, SEG_PSH, 1, 30);
	ck_assert_int_eq(h_recv(h, 100, 10), 30);
	h_state(h, TCPS_ESTABLISHED);
	h_free(h);
}
END_TEST

START_TEST(data_after_a_close_is_refused)
{
	struct harness *h = server(FEATURES);
	h_close(h);
	h_drain(h);
	h_peer(h, SEG_PSH, 1, 30);
	h_expect(h, SEG_FIN | SEG_ACK, 1, 11, 0);
	h_expect(h, SEG_RST | SEG_ACK, 2, 11, 0);
	outcome(CLOSE_END_PEER_DATA, false);
	h_free(h);
}
END_TEST

/* §8 */
START_TEST(crossing_fins)
{
	struct harness *h = server(FEATURES);
	h_close(h);
	h_drain(h);
	h_peer(h, SEG_FIN, 1, 0); /* left before our request came */
	struct h_out *o = h_expect(h, SEG_FIN | SEG_ACK, 1, 12, 0);
	ck_assert(!(o->seg.has & SEG_HAS_CLOSE_REQUEST));
	outcome(CLOSE_END_PEER_FIN, false);
	h_peer_ack(h, 2);
	h_state(h, TCPS_CLOSED);
	h_free(h);
}
END_TEST

START_TEST(nobody_is_asked_who_does_not_speak_it)
{
	struct harness *h = server(H_ALL);
	h_close(h);
	ck_assert(!asking.facts.can_ask);
	h_expect(h, SEG_FIN | SEG_ACK, 1, 11, 0);
	h_free(h);
}
END_TEST

/* ---- §6: the client ---- */

static void expect_eof(struct harness *h, bool is)
{
	ck_assert_int_eq(tcp_peer_fin(&h->c), is);
	ck_assert_int_eq(!!(h_events(h) & TCP_EV_PEER_FIN), is);
	ck_assert_int_eq(h_recv(h, 100, 0), is ? 0 : -EAGAIN);
}

START_TEST(end_of_file_and_first_fin)
{
	struct harness *h = client();
	peer_option(h, 0, 1, 0, H_PEER_ISS + 1);
	expect_option(h_expect(h, SEG_ACK, 1, 1, 0), H_PEER_ISS + 1); /* rcv_nxt stays */
	h_silence(h);
	expect_eof(h, true);
	h_state(h, TCPS_ESTABLISHED);
	h_close(h);
	struct h_out *o = h_expect(h, SEG_FIN | SEG_ACK, 1, 1, 0);
	ck_assert(!(o->seg.has & SEG_HAS_CLOSE_REQUEST));
	ck_assert_int_eq(tcp_first_fin(&h->c), 1);
	h_state(h, TCPS_FIN_WAIT_1);
	h_peer(h, SEG_FIN, 2, 0);
	h_expect(h, SEG_ACK, 2, 2, 0);
	h_state(h, TCPS_TIME_WAIT);
	h_free(h);
}
END_TEST

START_TEST(end_of_file_behind_the_data)
{
	struct harness *h = client();
	struct tcp_segment late = h_seg(h, SEG_ACK, 0, 1, 50);
	peer_option(h, 0, 1, 0, H_PEER_ISS + 51); /* the request overtook the data */
	expect_option(h_expect(h, SEG_ACK, 1, 1, 0), H_PEER_ISS + 51);
	expect_eof(h, false);
	h->peer_nxt += 50;
	h_input(h, &late);
	h_drain(h);
	ck_assert(h_events(h) & TCP_EV_PEER_FIN);
	ck_assert_int_eq(h_recv(h, 100, 0), 50);
	ck_assert_int_eq(h_recv(h, 100, 50), 0);
	h_free(h);
}
END_TEST

START_TEST(echoed_each_time_told_once)
{
	struct harness *h = client();
	for (int i = 0; i < 3; i++) {
		peer_option(h, 0, 1, 0, H_PEER_ISS + 1);
		expect_option(h_expect(h, SEG_ACK, 1, 1, 0), H_PEER_ISS + 1);
		h_silence(h);
		ck_assert_int_eq(!!(h_events(h) & TCP_EV_PEER_FIN), i == 0);
	}
	h_free(h);
}
END_TEST

START_TEST(what_does_not_fit_is_ignored)
{
	struct harness *h = client();
	h_peer(h, SEG_PSH, 1, 10);
	h_drain(h);
	h_events(h);
	peer_option(h, 0, 1, 0, H_PEER_ISS + 5); /* before what came already */
	h_silence(h);
	ck_assert(!tcp_peer_fin(&h->c));
	peer_option(h, 0, 1, 0, H_PEER_ISS + 31);
	h_drain(h);
	peer_option(h, 0, 1, 0, H_PEER_ISS + 11); /* the first stands */
	h_silence(h);
	ck_assert(!tcp_peer_fin(&h->c));
	struct tcp_segment bad = h_seg(h, SEG_ACK, 100000, 1, 0); /* outside the window: as a FIN there */
	bad.has |= SEG_HAS_CLOSE_REQUEST;
	bad.close_seq = H_PEER_ISS + 11;
	h_input(h, &bad);
	ck_assert(!tcp_peer_fin(&h->c));
	h_expect(h, SEG_ACK, 1, H_PEER_ISS + 11 - H_PEER_ISS, 0);
	h_free(h);
}
END_TEST

START_TEST(data_beyond)
{
	struct harness *h = client();
	peer_option(h, 0, 1, 0, H_PEER_ISS + 1 + (_i ? 5 : 0));
	h_drain(h);
	h_events(h);
	h_peer(h, SEG_PSH, 1, 10);
	if (_i) { /* before EOF: no request, then */
		ck_assert(!tcp_peer_fin(&h->c));
		ck_assert_int_eq(h_recv(h, 100, 0), 10);
		ck_assert_int_eq(h_recv(h, 100, 10), -EAGAIN);
	} else { /* after EOF: as beyond a FIN */
		h_expect(h, SEG_ACK, 1, 1, 0);
		ck_assert_int_eq(h_recv(h, 100, 0), 0);
	}
	h_drain(h);
	h_free(h);
}
END_TEST

START_TEST(the_servers_fin_after_all)
{
	struct harness *h = client();
	peer_option(h, 0, 1, 0, H_PEER_ISS + 1);
	h_drain(h);
	expect_eof(h, true);
	h_peer(h, SEG_FIN, 1, 0);
	h_expect(h, SEG_ACK, 1, 2, 0);
	h_state(h, TCPS_CLOSE_WAIT);
	ck_assert_int_eq(h_recv(h, 100, 0), 0);
	h_close(h);
	h_expect(h, SEG_FIN | SEG_ACK, 1, 2, 0);
	h_state(h, TCPS_LAST_ACK);
	h_free(h);
}
END_TEST

START_TEST(may_go_on_sending)
{
	struct harness *h = client();
	peer_option(h, 0, 1, 0, H_PEER_ISS + 1);
	h_drain(h);
	ck_assert_int_eq(h_send(h, 40), 40);
	h_expect(h, SEG_ACK, 1, 1, 40);
	h_peer_ack(h, 41);
	h_silence(h);
	h_free(h);
}
END_TEST

START_TEST(not_while_closing)
{
	struct harness *h = client();
	h_shutdown(h);
	h_drain(h);
	peer_option(h, 0, 1, 0, H_PEER_ISS + 1);
	h_silence(h);
	ck_assert(!tcp_peer_fin(&h->c));
	h_free(h);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("close request");
	TCase *tc = tcase_create("close request");
	tcase_add_loop_test(tc, agreed_when_both_speak_it, 0, 4);
	tcase_add_loop_test(tc, the_third_syn_goes_without, 0, 2);
	tcase_add_test(tc, not_offered_where_it_is_known_to_be_dropped);
	tcase_add_test(tc, a_syn_ack_without_it_is_a_no);
	tcase_add_loop_test(tc, asked_answered_closed, 0, 2);
	tcase_add_test(tc, two_misses_and_the_fin_goes);
	tcase_add_test(tc, the_hold_bounds_the_application);
	tcase_add_test(tc, an_echo_of_something_else);
	tcase_add_test(tc, rides_on_data);
	tcase_add_test(tc, zero_window);
	tcase_add_test(tc, data_after_a_shutdown_is_delivered);
	tcase_add_test(tc, data_after_a_close_is_refused);
	tcase_add_test(tc, crossing_fins);
	tcase_add_test(tc, nobody_is_asked_who_does_not_speak_it);
	tcase_add_test(tc, end_of_file_and_first_fin);
	tcase_add_test(tc, end_of_file_behind_the_data);
	tcase_add_test(tc, echoed_each_time_told_once);
	tcase_add_test(tc, what_does_not_fit_is_ignored);
	tcase_add_loop_test(tc, data_beyond, 0, 2);
	tcase_add_test(tc, the_servers_fin_after_all);
	tcase_add_test(tc, may_go_on_sending);
	tcase_add_test(tc, not_while_closing);
	suite_add_tcase(s, tc);
	return h_main(s);
}
