/* The hold: who sends the first FIN, when, and what the policy is told. `b` is the server. */
#include <check.h>
#include <errno.h>

#include "core_pair.h"
#include "tests/suite.h"

#define HOLD_US (100 * USEC_PER_MSEC)

struct fake_policy {
	struct close_policy policy; /* first */
	struct close_verdict verdict;
	struct close_facts facts;
	struct close_outcome out[4];
	unsigned n_asked, n_out;
};

static void fake_decide(struct close_policy *policy, int64_t now, const struct close_facts *facts,
			struct close_verdict *verdict)
{
	struct fake_policy *f = (struct fake_policy *)policy;
	f->n_asked++;
	f->facts = *facts;
	*verdict = f->verdict;
}

static void fake_outcome(struct close_policy *policy, int64_t now, const struct close_outcome *out)
{
	struct fake_policy *f = (struct fake_policy *)policy;
	ck_assert_uint_lt(f->n_out, 4);
	f->out[f->n_out++] = *out;
}

static const struct close_policy_ops fake_ops = {"fake", fake_decide, fake_outcome};
static struct fake_policy fake;
static struct pair pair;
static uint8_t buf[4096];

static void setup(void)
{
	fake = (struct fake_policy){
		.policy = {&fake_ops},
		.verdict = {CLOSE_HOLD, CLOSE_REASON_HELD, HOLD_US},
	};
	struct tcp_open a = pair_open(true, ISS_A), b = pair_open(false, ISS_B);
	b.policy = &fake.policy;
	pair_init(&pair, NULL);
	pair_connect_with(&pair, &a, &b);
	/* A request, read, and its response, acknowledged. */
	side_send(&pair, &pair.a, "request", 7);
	pair_run(&pair);
	ck_assert_int_eq(side_recv(&pair, &pair.b, buf, sizeof buf), 7);
	side_send(&pair, &pair.b, "response", 8);
	pair_run(&pair);
	pair_advance(&pair, pair.now + 50 * USEC_PER_MSEC);
	ck_assert_uint_eq(tcp_unacked_bytes(&pair.b.conn), 0);
}

static void teardown(void)
{
	pair_fini(&pair);
	ck_assert_uint_eq(test_memory.in_use, 0);
}

static void server_close(void)
{
	tcp_close(&pair.b.conn, pair.now, false, false);
	pair_run(&pair);
	ck_assert_uint_eq(fake.n_asked, 1);
}

/* The client delays it: its program may close soon. */
static void ack_of_fin(void)
{
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_FIN_WAIT_1);
	pair_advance(&pair, pair.now + pair.a.stack.config.delack_us);
}

START_TEST(facts_are_told)
{
	server_close();
	ck_assert_int_eq(fake.facts.call, CLOSE_CALL_CLOSE);
	ck_assert(fake.facts.accepted && fake.facts.last_bytes_ours && fake.facts.all_acked);
	ck_assert(!fake.facts.unread && !fake.facts.linger && !fake.facts.exiting && !fake.facts.peer_closed);
	ck_assert_uint_eq(fake.facts.bytes_in, 7);
	ck_assert_uint_eq(fake.facts.bytes_out, 8);
	ck_assert_int_ge(fake.facts.acked_age_us, 0);
	ck_assert_uint_eq(fake.facts.key.lport, 80);
}
END_TEST

START_TEST(the_client_closes_first)
{
	server_close();
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_ESTABLISHED);
	ck_assert(tcp_is_held(&pair.b.conn) && tcp_send_closed(&pair.b.conn));
	pair_advance(&pair, pair.now + 10 * USEC_PER_MSEC);
	ck_assert_uint_eq(fake.n_out, 0);
	ck_assert_int_eq(side_recv(&pair, &pair.a, buf, sizeof buf), 8); /* or its close would be a RST */
	tcp_close(&pair.a.conn, pair.now, false, false);
	pair_run(&pair);
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_CLOSED); /* CLOSE-WAIT, LAST-ACK, CLOSED */
	ck_assert_int_eq(tcp_state(&pair.a.conn), TCPS_TIME_WAIT);
	ck_assert_int_eq(tcp_first_fin(&pair.b.conn), -1);
	ck_assert_uint_eq(fake.n_out, 1);
	ck_assert_int_eq(fake.out[0].end, CLOSE_END_PEER_FIN);
	ck_assert_int_eq(fake.out[0].held_us, 10 * USEC_PER_MSEC);
}
END_TEST

START_TEST(the_hold_runs_out)
{
	server_close();
	ck_assert_int_eq(tcp_next_deadline(&pair.b.conn), pair.now + HOLD_US);
	pair_advance(&pair, pair.now + HOLD_US - 1);
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_ESTABLISHED);
	pair_advance(&pair, pair.now + 1);
	ack_of_fin();
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_FIN_WAIT_2);
	ck_assert_int_eq(tcp_first_fin(&pair.b.conn), 1);
	ck_assert_uint_eq(fake.n_out, 1);
	ck_assert_int_eq(fake.out[0].end, CLOSE_END_EXPIRED);
	ck_assert_int_eq(fake.out[0].held_us, HOLD_US);
	/* … and how long the client's FIN took, later. */
	pair_advance(&pair, pair.now + 7000);
	side_recv(&pair, &pair.a, buf, sizeof buf);
	tcp_close(&pair.a.conn, pair.now, false, false);
	pair_run(&pair);
	ck_assert_uint_eq(fake.n_out, 2);
	ck_assert(fake.out[1].late);
	ck_assert_int_eq(fake.out[1].peer_fin_after_us, 7000 + pair.a.stack.config.delack_us);
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_TIME_WAIT);
}
END_TEST

START_TEST(the_clock_starts_when_all_is_acknowledged)
{
	side_send(&pair, &pair.b, "more", 4);
	side_output(&pair, &pair.b);
	tcp_close(&pair.b.conn, pair.now, false, false);
	side_output(&pair, &pair.b);
	ck_assert(tcp_is_held(&pair.b.conn));
	ck_assert(!fake.facts.all_acked);
	int64_t sent = pair.now;
	side_take(&pair.b); /* lost: it takes an RTO */
	int64_t rto = tcp_next_deadline(&pair.b.conn);
	pair_advance(&pair, rto);
	ck_assert_int_eq(tcp_next_deadline(&pair.b.conn) > sent + HOLD_US, 1);
	pair_advance(&pair, rto + 50 * USEC_PER_MSEC); /* the client's delayed ACK */
	ck_assert(tcp_is_held(&pair.b.conn));
	pair_advance(&pair, rto + 50 * USEC_PER_MSEC + HOLD_US);
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_FIN_WAIT_2);
	ck_assert_int_eq(fake.out[0].held_us, HOLD_US);
}
END_TEST

/* `n` segments come in one turn. */
static void expect_fin_then_rst(int n)
{
	server_close();
	for (int i = 0; i < n; i++) {
		side_send(&pair, &pair.a, "another", 7);
		side_output(&pair, &pair.a);
		tcp_input(&pair.b.conn, pair.now, &side_take(&pair.a)->seg);
	}
	side_output(&pair, &pair.b);
	struct packet *fin = side_take(&pair.b), *rst = side_take(&pair.b);
	ck_assert(fin && rst && !side_take(&pair.b));
	ck_assert_uint_eq(fin->seg.flags & (SEG_FIN | SEG_RST), SEG_FIN);
	ck_assert_uint_eq(rst->seg.flags & (SEG_FIN | SEG_RST), SEG_RST);
	ck_assert_uint_eq(rst->seg.seq, fin->seg.seq + 1);
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_CLOSED);
	ck_assert_uint_eq(fake.n_out, 1);
	ck_assert_int_eq(fake.out[0].end, CLOSE_END_PEER_DATA);
	ck_assert(pair.b.events & TCP_EV_CLOSED);
}

START_TEST(new_data_is_answered_by_fin_then_rst)
{
	expect_fin_then_rst(1);
}
END_TEST

START_TEST(much_new_data_is_answered_by_fin_then_rst)
{
	pair.a.conn.options.nodelay = true;
	expect_fin_then_rst(3);
}
END_TEST

START_TEST(probes_are_not_data)
{
	server_close();
	struct tcp_segment probe = {
		.sport = 50000, .dport = 80, .flags = SEG_ACK, .window = 1000,
		.seq = pair.a.conn.snd_nxt - 1, .ack = pair.a.conn.rcv_nxt,
		.has = SEG_HAS_TIMESTAMPS, .ts_val = pair.b.conn.ts_recent, .payload_len = 1,
		.payload = {{buf, 1}},
	};
	side_input(&pair, &pair.b, &probe); /* a keepalive with its garbage byte */
	ck_assert(tcp_is_held(&pair.b.conn));
	ck_assert_uint_eq(pair.b.n_out, 1);
}
END_TEST

START_TEST(rst_in_the_hold)
{
	server_close();
	tcp_abort(&pair.a.conn, pair.now);
	pair_run(&pair);
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_CLOSED);
	ck_assert_uint_eq(fake.n_out, 1);
	ck_assert_int_eq(fake.out[0].end, CLOSE_END_PEER_RST);
}
END_TEST

START_TEST(a_held_shutdown_goes_on_reading)
{
	ck_assert_int_eq(tcp_shutdown(&pair.b.conn, pair.now), 0);
	pair_run(&pair);
	ck_assert_int_eq(fake.facts.call, CLOSE_CALL_SHUTDOWN);
	ck_assert(tcp_is_held(&pair.b.conn));
	ck_assert_int_eq(side_send(&pair, &pair.b, "x", 1), -EPIPE);
	side_send(&pair, &pair.a, "late", 4);
	pair_run(&pair);
	ck_assert_int_eq(side_recv(&pair, &pair.b, buf, sizeof buf), 4);
	ck_assert(tcp_is_held(&pair.b.conn));
	server_close(); /* the same hold: the policy was asked once */
	ck_assert(tcp_is_held(&pair.b.conn));
	pair_advance(&pair, pair.now + HOLD_US);
	ack_of_fin();
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_FIN_WAIT_2);
}
END_TEST

START_TEST(fin_at_once)
{
	fake.verdict = (struct close_verdict){CLOSE_FIN_NOW, CLOSE_REASON_BUDGET, 0};
	server_close();
	ack_of_fin();
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_FIN_WAIT_2);
	ck_assert_int_eq(tcp_close_reason(&pair.b.conn), CLOSE_REASON_BUDGET);
	ck_assert_int_eq(fake.out[0].end, CLOSE_END_FIN_SENT);
	/* The client never answers: the late report says so when the orphan is given up. */
	pair_advance(&pair, pair.now + 61 * USEC_PER_SEC);
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_CLOSED);
	ck_assert_uint_eq(fake.n_out, 2);
	ck_assert(fake.out[1].late);
	ck_assert_int_eq(fake.out[1].peer_fin_after_us, TIME_NEVER);
}
END_TEST

START_TEST(the_client_was_first)
{
	side_recv(&pair, &pair.a, buf, sizeof buf);
	tcp_close(&pair.a.conn, pair.now, false, false);
	pair_run(&pair);
	server_close();
	ck_assert(fake.facts.peer_closed);
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_CLOSED);
	ck_assert_uint_eq(fake.n_out, 1);
	ck_assert_int_eq(fake.out[0].end, CLOSE_END_PEER_FIRST);
}
END_TEST

START_TEST(never_at_exit_with_linger_or_unread)
{
	tcp_close(&pair.b.conn, pair.now, _i == 0, _i == 1);
	ck_assert(!tcp_is_held(&pair.b.conn));
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_FIN_WAIT_1);
	pair_run(&pair);
}
END_TEST

START_TEST(unread_is_a_reset)
{
	side_send(&pair, &pair.a, "unread", 6);
	pair_run(&pair);
	server_close();
	ck_assert(fake.facts.unread);
	ck_assert_int_eq(tcp_state(&pair.b.conn), TCPS_CLOSED);
	ck_assert_int_eq(tcp_close_reason(&pair.b.conn), CLOSE_REASON_UNREAD);
	ck_assert_int_eq(tcp_error(&pair.a.conn), ECONNRESET);
	ck_assert_int_eq(fake.out[0].end, CLOSE_END_ABANDONED);
}
END_TEST

START_TEST(our_own_connections_are_not_asked_about)
{
	side_recv(&pair, &pair.a, buf, sizeof buf);
	tcp_close(&pair.a.conn, pair.now, false, false);
	ck_assert_uint_eq(fake.n_asked, 0);
	ck_assert_int_eq(tcp_close_reason(&pair.a.conn), CLOSE_REASON_NOT_SERVER);
	pair_run(&pair);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hold");
	TCase *t = tcase_create("hold");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, facts_are_told);
	tcase_add_test(t, the_client_closes_first);
	tcase_add_test(t, the_hold_runs_out);
	tcase_add_test(t, the_clock_starts_when_all_is_acknowledged);
	tcase_add_test(t, new_data_is_answered_by_fin_then_rst);
	tcase_add_test(t, much_new_data_is_answered_by_fin_then_rst);
	tcase_add_test(t, probes_are_not_data);
	tcase_add_test(t, rst_in_the_hold);
	tcase_add_test(t, a_held_shutdown_goes_on_reading);
	tcase_add_test(t, fin_at_once);
	tcase_add_test(t, the_client_was_first);
	tcase_add_loop_test(t, never_at_exit_with_linger_or_unread, 0, 2);
	tcase_add_test(t, unread_is_a_reset);
	tcase_add_test(t, our_own_connections_are_not_asked_about);
	suite_add_tcase(s, t);
	return suite_main(s);
}
