/*
 * The core's hold and the policy together, segment by segment: each way in which a held close can
 * end, what the peer sees of it, and that the policy gets its place back each time.
 */
#include "harness.h"

#include "steer/steer.h"

#define HOLD_US (30 * USEC_PER_MSEC)
#define REPLY   100 /* bytes, acknowledged before the close */

static const uint8_t secret[16] = "0123456789abcdef";
static struct steer *steer;
static struct harness *h;

static void setup(void)
{
	struct steer_config config = {.kind = STEER_HOLD, .hold_us = HOLD_US, .hold_max_us = USEC_PER_SEC, .client_budget = 4000};
	steer = steer_new(&config, secret);
	h = h_new(0);
	h->policy = steer_listener_new(steer, H_PORT);
	h_establish(h);
}

static void teardown(void)
{
	struct close_policy *policy = h->policy;
	h_free(h);
	steer_listener_unref(policy);
	steer_free(steer);
}

static struct steer_counts counts(void)
{
	struct steer_counts c;
	steer_listener_counts(h->policy, &c);
	return c;
}

/* A request, our answer; the answer is acknowledged or not. */
static void answer(bool acked)
{
	h_peer(h, SEG_PSH, 1, 10);
	h_recv(h, 10, 0);
	h_send(h, REPLY);
	if (acked)
		h_peer_ack(h, 1 + REPLY);
	h_drain(h);
}

static void held_close(void)
{
	answer(true);
	h_close(h);
	h_silence(h);
	ck_assert(tcp_is_held(&h->c));
	ck_assert_uint_eq(counts().held_now, 1);
}

START_TEST(client_closes_first)
{
	held_close();
	h_advance(h, 500);
	h_peer(h, SEG_FIN, 1 + REPLY, 0);
	h_expect(h, SEG_FIN | SEG_ACK, 1 + REPLY, 12, 0);
	h_state(h, TCPS_LAST_ACK);
	h_peer_ack(h, 2 + REPLY);
	h_state(h, TCPS_CLOSED); /* no TIME-WAIT on our side */
	ck_assert_int_eq(tcp_first_fin(&h->c), -1);
	ck_assert_uint_eq(counts().client_first, 1);
	ck_assert_uint_eq(counts().hold_client_fin, 1);
	ck_assert_uint_eq(counts().held_now, 0);
}
END_TEST

START_TEST(hold_runs_out)
{
	held_close();
	ck_assert_int_eq(h_next(h), HOLD_US);
	h_expect(h, SEG_FIN | SEG_ACK, 1 + REPLY, 11, 0);
	h_state(h, TCPS_FIN_WAIT_1);
	ck_assert_uint_eq(counts().hold_expired, 1);
	ck_assert_uint_eq(counts().held_now, 0);
	h_peer(h, SEG_FIN, 2 + REPLY, 0);
	h_drain(h);
	h_state(h, TCPS_TIME_WAIT);
	ck_assert_int_eq(tcp_first_fin(&h->c), 1);
	ck_assert_uint_eq(counts().client_first, 0);
	ck_assert_uint_eq(counts().closes, 1);
}
END_TEST

START_TEST(hold_begins_when_all_is_acknowledged)
{
	answer(false);
	h_close(h);
	h_advance(h, 5000);
	h_silence(h);
	h_peer_ack(h, 1 + REPLY);
	ck_assert_int_eq(h_next(h), HOLD_US);
	h_expect(h, SEG_FIN | SEG_ACK, 1 + REPLY, 11, 0);
	ck_assert_uint_eq(counts().hold_expired, 1);
}
END_TEST

START_TEST(reset_in_a_hold)
{
	held_close();
	h_peer(h, SEG_RST, 1 + REPLY, 0);
	h_silence(h);
	h_state(h, TCPS_CLOSED);
	ck_assert_uint_eq(counts().hold_reset, 1);
	ck_assert_uint_eq(counts().held_now, 0);
}
END_TEST

/* The client reuses the connection: it gets its EOF, then the reset; and the listener stops
 * holding. */
START_TEST(data_in_a_hold)
{
	held_close();
	h_peer(h, SEG_PSH, 1 + REPLY, 10);
	struct h_out *out = h_take(h);
	ck_assert_ptr_nonnull(out);
	ck_assert(out->seg.flags & SEG_FIN);
	out = h_take(h);
	ck_assert_ptr_nonnull(out);
	ck_assert(out->seg.flags & SEG_RST);
	h_state(h, TCPS_CLOSED);
	ck_assert_uint_eq(counts().hold_data, 1);
	ck_assert_uint_eq(counts().held_now, 0);
}
END_TEST

START_TEST(given_up_in_a_hold)
{
	held_close();
	tcp_abort(&h->c, h->now);
	h_output(h);
	h_drain(h);
	ck_assert_uint_eq(counts().held_now, 0);
	ck_assert_uint_eq(counts().client_first + counts().hold_expired + counts().hold_reset, 0);
}
END_TEST

START_TEST(client_was_first_anyway)
{
	answer(true);
	h_peer(h, SEG_FIN, 1 + REPLY, 0);
	h_drain(h);
	h_close(h);
	h_expect(h, SEG_FIN | SEG_ACK, 1 + REPLY, 12, 0);
	ck_assert_uint_eq(counts().closes, 1);
	ck_assert_uint_eq(counts().client_first, 1);
	ck_assert_uint_eq(counts().held, 0);
	ck_assert_int_eq(tcp_close_reason(&h->c), CLOSE_REASON_PEER_FIRST);
}
END_TEST

START_TEST(shutdown_is_not_held)
{
	answer(true);
	h_shutdown(h);
	h_expect(h, SEG_FIN | SEG_ACK, 1 + REPLY, 11, 0);
	ck_assert_uint_eq(counts().server_first[CLOSE_REASON_SHUTDOWN], 1);
	h_close(h); /* the same FIN: not asked again */
	h_silence(h);
	ck_assert_uint_eq(counts().closes, 1);
}
END_TEST

/* Acknowledged a second ago: the server times an idle keep-alive connection out. */
START_TEST(idle_is_not_held)
{
	answer(true);
	h_advance(h, USEC_PER_SEC);
	h_close(h);
	h_expect(h, SEG_FIN | SEG_ACK, 1 + REPLY, 11, 0);
	ck_assert_int_eq(tcp_close_reason(&h->c), CLOSE_REASON_IDLE);
}
END_TEST

/* The client spoke last: it waits for an answer, or sends more. */
START_TEST(unanswered_is_not_held)
{
	answer(true);
	h_peer(h, SEG_PSH, 1 + REPLY, 10);
	h_recv(h, 10, 10);
	h_drain(h);
	h_close(h);
	h_expect(h, SEG_FIN | SEG_ACK, 1 + REPLY, 21, 0);
	ck_assert_int_eq(tcp_close_reason(&h->c), CLOSE_REASON_IDLE);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
	    client_closes_first,     hold_runs_out,        hold_begins_when_all_is_acknowledged,
	    reset_in_a_hold,         data_in_a_hold,       given_up_in_a_hold,
	    client_was_first_anyway, shutdown_is_not_held, idle_is_not_held,
	    unanswered_is_not_held};
	Suite *suite = suite_create("steer_core");
	TCase *tc = tcase_create("hold");
	tcase_add_checked_fixture(tc, setup, teardown);
	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_test(tc, tests[i]);
	suite_add_tcase(suite, tc);
	return h_main(suite);
}
