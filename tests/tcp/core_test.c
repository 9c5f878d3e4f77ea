/* The core by itself: opening, data, closing, loss, window. */
#include <check.h>
#include <errno.h>

#include "core_pair.h"
#include "tests/suite.h"

static struct pair pair;
static uint8_t out_bytes[1 << 20], in_bytes[1 << 20];

static void setup(void)
{
	for (size_t i = 0; i < sizeof out_bytes; i++)
		out_bytes[i] = i * 31 + (i >> 8);
	pair_connect(&pair);
}

static void teardown(void)
{
	pair_fini(&pair);
	ck_assert_uint_eq(test_memory.in_use, 0);
}

/* Sends n bytes from one side and reads them at the other as they come. */
static void transfer(struct side *from, struct side *to, size_t n)
{
	size_t sent = 0, got = 0;
	while (got < n) {
		pair.now += 100;
		if (sent < n) {
			ssize_t ret = side_send(&pair, from, out_bytes + sent, n - sent);
			ck_assert(ret > 0 || ret == -EAGAIN);
			sent += ret > 0 ? ret : 0;
		}
		pair_run(&pair);
		ssize_t ret = side_recv(&pair, to, in_bytes + got, n - got);
		if (ret == -EAGAIN)
			pair_advance(&pair, pair.now + 1000);
		else
			got += ret;
		ck_assert(ret > 0 || ret == -EAGAIN);
		ck_assert_int_lt(pair.now, 1000 * USEC_PER_SEC);
	}
	ck_assert_mem_eq(in_bytes, out_bytes, n);
}

START_TEST(handshake)
{
	ck_assert_int_eq(tcp_state(&pair.a.conn), TCPS_ESTABLISHED);
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_ESTABLISHED);
	ck_assert(pair.a.events & TCP_EV_CONNECTED);
	ck_assert(pair.b.events & TCP_EV_CONNECTED);
	struct tcp_status st;
	tcp_get_status(&pair.a.conn, &st);
	ck_assert(st.timestamps && st.sack && st.wscale);
	ck_assert_uint_eq(st.mss_snd, 1448);
	ck_assert_uint_eq(st.cwnd_bytes, 10 * 1448);
	ck_assert_uint_eq(test_memory.in_use, 0); /* an idle connection has no buffers */
	ck_assert(tcp_is_writable(&pair.a.conn));
}
END_TEST

START_TEST(data_both_ways)
{
	transfer(&pair.a, &pair.b, sizeof out_bytes);
	transfer(&pair.b, &pair.a, sizeof out_bytes);
	pair_advance(&pair, pair.now + USEC_PER_SEC);
	ck_assert_uint_eq(test_memory.in_use, 0);
	ck_assert_uint_eq(pair.a.stack.counters[TCPC_RetransSegs], 0);
	struct tcp_status st;
	tcp_get_status(&pair.b.conn, &st);
	ck_assert_uint_gt(st.rcvbuf_bytes, 131072); /* autotuned */
}
END_TEST

START_TEST(close_active_then_passive)
{
	transfer(&pair.a, &pair.b, 1000);
	tcp_close(&pair.a.conn, pair.now, false, false);
	pair_run(&pair);
	ck_assert_int_eq(tcp_state(&pair.a.conn), TCPS_FIN_WAIT_1);
	pair_advance(&pair, pair.now + pair.b.stack.config.delack_us); /* after text the ACK of a FIN waits for the program's */
	ck_assert_int_eq(tcp_state(&pair.a.conn), TCPS_FIN_WAIT_2);
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_CLOSE_WAIT);
	ck_assert(pair.b.events & TCP_EV_PEER_FIN);
	ck_assert_int_eq(side_recv(&pair, &pair.b, in_bytes, 1), 0);
	tcp_close(&pair.b.conn, pair.now, false, false);
	pair_run(&pair);
	ck_assert_int_eq(tcp_state(&pair.a.conn), TCPS_TIME_WAIT);
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_CLOSED);
	ck_assert(pair.a.events & TCP_EV_TIME_WAIT);
	ck_assert(pair.b.events & TCP_EV_CLOSED);
	ck_assert_int_eq(tcp_first_fin(&pair.a.conn), 1);
	ck_assert_int_eq(tcp_first_fin(&pair.b.conn), -1);
	pair_advance(&pair, pair.now + 60 * USEC_PER_SEC);
	ck_assert_int_eq(tcp_state(&pair.a.conn), TCPS_CLOSED);
	ck_assert_int_eq(tcp_next_deadline(&pair.a.conn), TIME_NEVER);
}
END_TEST

START_TEST(close_simultaneously)
{
	tcp_close(&pair.a.conn, pair.now, false, false);
	tcp_close(&pair.b.conn, pair.now, false, false);
	side_output(&pair, &pair.a);
	side_output(&pair, &pair.b);
	struct packet *fa = side_take(&pair.a), *fb = side_take(&pair.b);
	side_input(&pair, &pair.a, &fb->seg);
	side_input(&pair, &pair.b, &fa->seg);
	ck_assert_int_eq(tcp_state(&pair.a.conn), TCPS_CLOSING);
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_CLOSING);
	pair_run(&pair);
	ck_assert_int_eq(tcp_state(&pair.a.conn), TCPS_TIME_WAIT);
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_TIME_WAIT);
}
END_TEST

START_TEST(open_simultaneously)
{
	struct pair *p = &pair;
	pair_fini(p);
	pair_init(p, NULL);
	struct tcp_open a = pair_open(true, ISS_A), b = pair_open(false, ISS_B);
	ck_assert_int_eq(tcp_open_active(&p->a.conn, &p->a.stack, p->now, &a), 0);
	ck_assert_int_eq(tcp_open_active(&p->b.conn, &p->b.stack, p->now, &b), 0);
	side_output(p, &p->a);
	side_output(p, &p->b);
	struct packet *sa = side_take(&p->a), *sb = side_take(&p->b);
	side_input(p, &p->a, &sb->seg);
	side_input(p, &p->b, &sa->seg);
	ck_assert_int_eq(tcp_state(&p->a.conn), TCPS_SYN_RECEIVED);
	ck_assert_int_eq(tcp_state(&p->b.conn), TCPS_SYN_RECEIVED);
	pair_run(p);
	ck_assert_int_eq(tcp_state(&p->a.conn), TCPS_ESTABLISHED);
	ck_assert_int_eq(tcp_state(&p->b.conn), TCPS_ESTABLISHED);
	transfer(&p->a, &p->b, 5000);
}
END_TEST

START_TEST(lost_segment_is_retransmitted_by_timer)
{
	ck_assert_int_eq(side_send(&pair, &pair.a, "hello", 5), 5);
	side_output(&pair, &pair.a);
	ck_assert_ptr_nonnull(side_take(&pair.a)); /* lost */
	side_clear(&pair.a);
	int64_t at = tcp_next_deadline(&pair.a.conn);
	ck_assert_int_ge(at, pair.now + 200 * USEC_PER_MSEC);
	ck_assert_int_le(at, pair.now + 300 * USEC_PER_MSEC);
	pair_advance(&pair, at);
	ck_assert_int_eq(side_recv(&pair, &pair.b, in_bytes, 10), 5);
	ck_assert_mem_eq(in_bytes, "hello", 5);
	ck_assert_uint_eq(pair.a.stack.counters[TCPC_Timeouts], 0); /* a tail loss probe, in its place */
	ck_assert_uint_eq(pair.a.stack.counters[TCPC_LossProbes], 1);
	pair_advance(&pair, pair.now + USEC_PER_MSEC);
	ck_assert_int_eq(tcp_next_deadline(&pair.a.conn), TIME_NEVER);
}
END_TEST

/* A burst of ten segments without GSO; `lost` of them is dropped. */
static void burst_with_loss(bool sack)
{
	struct pair *p = &pair;
	struct tcp_config config;
	pair_fini(p);
	tcp_config_default(&config);
	config.sack = sack;
	pair_init(p, &config);
	struct tcp_open a = pair_open(true, ISS_A), b = pair_open(false, ISS_B);
	a.gso_max_bytes = 0;
	pair_connect_with(p, &a, &b);
	ck_assert_int_eq(side_send(p, &p->a, out_bytes, 10 * 1448), 10 * 1448);
	side_output(p, &p->a);
	ck_assert_uint_eq(p->a.n_out, 10);
	for (int i = 0; i < 10; i++) {
		struct packet *pkt = side_take(&p->a);
		if (i != 2 && i != 5)
			side_input(p, &p->b, &pkt->seg);
	}
	side_clear(&p->a);
	pair_advance(p, p->now + USEC_PER_MSEC); /* a round trip: what is sent again is younger */
	pair_run(p);
	if (!sack) /* NewReno repairs one loss per round trip, still without a timeout */
		pair_run(p);
	ck_assert_int_eq(side_recv(p, &p->b, in_bytes, sizeof in_bytes), 10 * 1448);
	ck_assert_mem_eq(in_bytes, out_bytes, 10 * 1448);
	ck_assert_uint_eq(p->a.stack.counters[TCPC_Timeouts], 0);
	ck_assert_uint_eq(p->a.stack.counters[TCPC_RetransSegs], 2);
	ck_assert_uint_eq(p->a.stack.counters[sack ? TCPC_SackRecovery : TCPC_RenoRecovery], 1);
}

START_TEST(fast_recovery_with_sack)
{
	burst_with_loss(true);
}
END_TEST

START_TEST(fast_recovery_without_sack)
{
	burst_with_loss(false);
}
END_TEST

START_TEST(delayed_ack)
{
	transfer(&pair.a, &pair.b, 20000); /* uses up the quick ACKs */
	transfer(&pair.b, &pair.a, 100);   /* b answers: a conversation */
	pair_run(&pair);
	pair_advance(&pair, pair.now + USEC_PER_MSEC * 50);
	side_send(&pair, &pair.a, "x", 1);
	side_output(&pair, &pair.a);
	struct packet *x = side_take(&pair.a);
	side_input(&pair, &pair.b, &x->seg);
	ck_assert_uint_eq(pair.b.n_out, 0);
	ck_assert_int_eq(tcp_next_deadline(&pair.b.conn), pair.now + 40 * USEC_PER_MSEC);
	pair_advance(&pair, pair.now + 40 * USEC_PER_MSEC);
	ck_assert_uint_eq(pair.b.stack.counters[TCPC_DelayedACKs], 1);
}
END_TEST

/* At the start full segments are acknowledged at once; a short message's ACK waits a moment for its answer. */
START_TEST(quick_ack_rides_on_the_answer)
{
	side_send(&pair, &pair.a, "request", 7);
	side_output(&pair, &pair.a);
	side_input(&pair, &pair.b, &side_take(&pair.a)->seg);
	ck_assert_uint_eq(pair.b.n_out, 0);
	ck_assert_int_eq(tcp_next_deadline(&pair.b.conn), pair.now + 6 * USEC_PER_MSEC); /* it has to be accepted first */
	tcp_accepted(&pair.b.conn);
	pair.now += 5 * USEC_PER_MSEC;
	ck_assert_int_eq(side_recv(&pair, &pair.b, in_bytes, 100), 7);
	ck_assert_int_eq(tcp_next_deadline(&pair.b.conn), pair.now + USEC_PER_MSEC / 2);
	side_send(&pair, &pair.b, "answer", 6);
	side_output(&pair, &pair.b);
	ck_assert_uint_eq(pair.b.n_out, 1);
	ck_assert_uint_eq(pair.b.out[0].seg.ack, ISS_A + 1 + 7);
}
END_TEST

/* Whose connection the program has, waits no longer than scripts of a peer allow, read or not. */
START_TEST(quick_ack_once_accepted)
{
	tcp_accepted(&pair.b.conn);
	side_send(&pair, &pair.a, "request", 7);
	side_output(&pair, &pair.a);
	side_input(&pair, &pair.b, &side_take(&pair.a)->seg);
	ck_assert_int_eq(tcp_next_deadline(&pair.b.conn), pair.now + 2 * USEC_PER_MSEC);
}
END_TEST

/* In a conversation in which no segment was longer than 600 bytes, a says these, each a segment of its own. */
static void say(const unsigned *lens, unsigned n)
{
	struct tcp_options opt = {.nodelay = true};
	tcp_set_options(&pair.a.conn, pair.now, &opt);
	transfer(&pair.a, &pair.b, 600);
	transfer(&pair.b, &pair.a, 100);
	pair_run(&pair);
	pair_advance(&pair, pair.now + 50 * USEC_PER_MSEC);
	side_clear(&pair.b);
	for (unsigned i = 0; i < n; i++) {
		side_send(&pair, &pair.a, out_bytes, lens[i]);
		side_output(&pair, &pair.a);
		side_input(&pair, &pair.b, &side_take(&pair.a)->seg);
	}
}

/*
 * An answer's head and body are two segments, and no more text than one may have: the next request carries their ACK.
 */
START_TEST(ack_of_head_and_body_rides)
{
	say((unsigned[]){200, 600}, 2);
	ck_assert_uint_eq(pair.b.n_out, 0);
	ck_assert_int_eq(tcp_next_deadline(&pair.b.conn), pair.now + USEC_PER_MSEC);
	ck_assert_int_eq(side_recv(&pair, &pair.b, in_bytes, 1000), 800);
	side_output(&pair, &pair.b);
	ck_assert_uint_eq(pair.b.n_out, 0);
	side_send(&pair, &pair.b, "next", 4);
	side_output(&pair, &pair.b);
	ck_assert_uint_eq(pair.b.n_out, 1);
	ck_assert_uint_eq(pair.b.out[0].seg.payload_len, 4);
	ck_assert_uint_eq(pair.b.out[0].seg.ack, pair.a.out[pair.a.n_out - 1].seg.seq + 600);
}
END_TEST

START_TEST(ack_of_head_and_body_is_soon)
{
	say((unsigned[]){200, 600}, 2);
	ck_assert_int_eq(side_recv(&pair, &pair.b, in_bytes, 1000), 800);
	pair_advance(&pair, pair.now + USEC_PER_MSEC);
	ck_assert_uint_eq(pair.a.conn.snd_una, pair.a.conn.snd_nxt);
}
END_TEST

/* Who sends more waits for the ACK: a third segment, or more text than a segment may have. */
START_TEST(ack_of_more_is_at_once)
{
	say((unsigned[]){200, 500, 100}, 3);
	ck_assert_int_eq(side_recv(&pair, &pair.b, in_bytes, 1000), 800);
	side_output(&pair, &pair.b);
	ck_assert_uint_eq(pair.b.n_out, 1);
}
END_TEST

START_TEST(ack_of_two_long_ones_is_at_once)
{
	say((unsigned[]){600, 900}, 2);
	ck_assert_int_eq(side_recv(&pair, &pair.b, in_bytes, 2000), 1500);
	side_output(&pair, &pair.b);
	ck_assert_uint_eq(pair.b.n_out, 1);
}
END_TEST

START_TEST(zero_window_and_probe)
{
	size_t sent = 0;
	/* b does not read: its window closes. */
	for (int i = 0; i < 100; i++) {
		ssize_t ret = side_send(&pair, &pair.a, out_bytes + sent, sizeof out_bytes - sent);
		sent += ret > 0 ? ret : 0;
		pair_advance(&pair, pair.now + 50 * USEC_PER_MSEC); /* what is not read is acknowledged late */
	}
	struct tcp_status st;
	tcp_get_status(&pair.a.conn, &st);
	ck_assert_uint_lt(st.snd_wnd, st.mss_snd); /* silly: not used before the persist timer says so */
	ck_assert_uint_gt(st.unsent_bytes, 0);
	ck_assert(!tcp_is_writable(&pair.a.conn));
	pair_advance(&pair, pair.now + 300 * USEC_PER_SEC);
	ck_assert_uint_gt(pair.a.stack.counters[TCPC_ZeroWindowProbes], 5);
	tcp_get_status(&pair.a.conn, &st);
	ck_assert_uint_eq(st.snd_wnd, 0);
	ck_assert_int_eq(tcp_state(&pair.a.conn), TCPS_ESTABLISHED);
	pair.a.events = 0;
	size_t got = 0;
	while (got < sent) {
		ssize_t ret = side_recv(&pair, &pair.b, in_bytes + got, sizeof in_bytes - got);
		ck_assert_int_gt(ret, 0);
		got += ret;
		pair_run(&pair);
	}
	ck_assert_mem_eq(in_bytes, out_bytes, got);
	ck_assert(pair.a.events & TCP_EV_WRITABLE);
}
END_TEST

START_TEST(unread_data_makes_close_a_reset)
{
	side_send(&pair, &pair.a, "x", 1);
	pair_run(&pair);
	tcp_close(&pair.b.conn, pair.now, false, false);
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_CLOSED);
	pair_run(&pair);
	ck_assert_int_eq(tcp_error(&pair.a.conn), ECONNRESET);
	ck_assert(pair.a.events & TCP_EV_ERROR);
	ck_assert(pair.b.events & TCP_EV_CLOSED);
	ck_assert_int_eq(side_send(&pair, &pair.a, "x", 1), -ECONNRESET);
	ck_assert_int_eq(side_send(&pair, &pair.a, "x", 1), -EPIPE);
	ck_assert_int_eq(side_recv(&pair, &pair.a, in_bytes, 1), 0);
}
END_TEST

START_TEST(data_after_close_is_answered_by_reset)
{
	tcp_close(&pair.b.conn, pair.now, false, false);
	pair_run(&pair);
	side_send(&pair, &pair.a, "x", 1);
	pair_run(&pair);
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_CLOSED);
	ck_assert_int_eq(tcp_error(&pair.a.conn), EPIPE); /* it is in CLOSE-WAIT */
}
END_TEST

START_TEST(nagle_holds_the_second_small_segment)
{
	side_send(&pair, &pair.a, "a", 1);
	side_output(&pair, &pair.a);
	ck_assert_uint_eq(pair.a.n_out, 1);
	side_send(&pair, &pair.a, "b", 1);
	side_output(&pair, &pair.a);
	ck_assert_uint_eq(pair.a.n_out, 1);
	struct tcp_options opt = *tcp_get_options(&pair.a.conn);
	opt.nodelay = true;
	tcp_set_options(&pair.a.conn, pair.now, &opt);
	side_output(&pair, &pair.a);
	ck_assert_uint_eq(pair.a.n_out, 2);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("core");
	TCase *t = tcase_create("core");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, handshake);
	tcase_add_test(t, data_both_ways);
	tcase_add_test(t, close_active_then_passive);
	tcase_add_test(t, close_simultaneously);
	tcase_add_test(t, open_simultaneously);
	tcase_add_test(t, lost_segment_is_retransmitted_by_timer);
	tcase_add_test(t, fast_recovery_with_sack);
	tcase_add_test(t, fast_recovery_without_sack);
	tcase_add_test(t, delayed_ack);
	tcase_add_test(t, quick_ack_rides_on_the_answer);
	tcase_add_test(t, quick_ack_once_accepted);
	tcase_add_test(t, ack_of_head_and_body_rides);
	tcase_add_test(t, ack_of_head_and_body_is_soon);
	tcase_add_test(t, ack_of_more_is_at_once);
	tcase_add_test(t, ack_of_two_long_ones_is_at_once);
	tcase_add_test(t, zero_window_and_probe);
	tcase_add_test(t, unread_data_makes_close_a_reset);
	tcase_add_test(t, data_after_close_is_answered_by_reset);
	tcase_add_test(t, nagle_holds_the_second_small_segment);
	suite_add_tcase(s, t);
	return suite_main(s);
}
