/* Every verdict and rule of the close policies, and what the counters say of it. */
#include "base/time.h"
#include "steer/steer.h"
#include "tests/suite.h"

#include <check.h>
#include <stdlib.h>

#define START_US (1000 * USEC_PER_SEC)

static const uint8_t secret[16] = "0123456789abcdef";
static struct steer *s;
static struct close_policy *p;
static struct close_facts f;
static struct close_verdict v;
static int64_t now;

static void make(struct steer_config config)
{
	s = steer_new(&config, secret);
	p = steer_listener_new(s, 80);
	now = START_US;
}

static void teardown(void)
{
	steer_listener_unref(p);
	steer_free(s);
}

static void setup_hold(void)
{
	make((struct steer_config){.kind = STEER_HOLD, .hold_us = 30000, .hold_max_us = 1000000, .client_budget = 4000});
}

static void setup_adaptive(void)
{
	make((struct steer_config){.kind = STEER_ADAPTIVE, .hold_max_us = 1000000, .client_budget = 4000});
}

static void setup_off(void)
{
	make((struct steer_config){.kind = STEER_OFF, .hold_max_us = 1000000, .client_budget = 4000});
}

/* nginx after "Connection: close": all sent, acknowledged just now, then close(). */
static void facts_ready(uint32_t client)
{
	uint8_t server_ip[4] = {10, 0, 0, 1},
		client_ip[4] = {11, (uint8_t)(client >> 16), (uint8_t)(client >> 8),
				(uint8_t)client};
	f = (struct close_facts){.call = CLOSE_CALL_CLOSE,
				 .accepted = true,
				 .last_bytes_ours = true,
				 .all_acked = true,
				 .acked_age_us = 100,
				 .srtt_us = 50,
				 .bytes_in = 100,
				 .bytes_out = 1000,
				 .reader = READER_SILENT};
	f.key.laddr = ip_addr_from_v4(server_ip);
	f.key.raddr = ip_addr_from_v4(client_ip);
	f.key.lport = 80;
	f.key.rport = 40000;
}

static enum close_reason decide(void)
{
	p->ops->decide(p, now, &f, &v);
	return v.reason;
}

static void outcome(enum close_end end, int64_t held_us)
{
	struct close_outcome out = {.end = end,
				    .key = f.key,
				    .held_us = held_us,
				    .held = v.action == CLOSE_HOLD,
				    .peer_fin_after_us = TIME_NEVER};
	p->ops->outcome(p, now, &out);
}

static struct steer_counts counts(void)
{
	struct steer_counts c;
	steer_listener_counts(p, &c);
	return c;
}

/* A FIN at once for this reason, counted once. */
static void fin_now(enum close_reason reason)
{
	uint64_t before = counts().server_first[reason];
	ck_assert_int_eq(decide(), reason);
	ck_assert_int_eq(v.action, CLOSE_FIN_NOW);
	ck_assert_int_eq(v.hold_us, 0);
	ck_assert_uint_eq(
	    counts().server_first[reason],
	    before + (reason != CLOSE_REASON_PEER_FIRST && reason != CLOSE_REASON_NOT_SERVER));
	ck_assert_uint_eq(counts().held_now, 0);
}

START_TEST(refusals)
{
	facts_ready(1);
	f.accepted = false;
	fin_now(CLOSE_REASON_NOT_SERVER);
	facts_ready(1);
	f.peer_closed = true;
	fin_now(CLOSE_REASON_PEER_FIRST);
	facts_ready(1);
	f.unread = true;
	fin_now(CLOSE_REASON_UNREAD);
	facts_ready(1);
	f.linger = true;
	fin_now(CLOSE_REASON_LINGER);
	facts_ready(1);
	f.exiting = true;
	fin_now(CLOSE_REASON_EXITING);
	facts_ready(1);
	f.call = CLOSE_CALL_SHUTDOWN;
	fin_now(CLOSE_REASON_SHUTDOWN);
	f.reader = READER_EOF_DELIMITED;
	fin_now(CLOSE_REASON_SHUTDOWN);
	facts_ready(1);
	f.reader = READER_EOF_DELIMITED;
	fin_now(CLOSE_REASON_EOF_DELIMITED);
	facts_ready(1);
	f.last_bytes_ours = false;
	fin_now(CLOSE_REASON_IDLE);
	facts_ready(1);
	f.acked_age_us = USEC_PER_SEC;
	fin_now(CLOSE_REASON_IDLE);
	ck_assert_uint_eq(counts().closes, 8);
	ck_assert_uint_eq(counts().held, 0);
}
END_TEST

START_TEST(off_never_holds)
{
	facts_ready(1);
	fin_now(CLOSE_REASON_POLICY_OFF);
	f.call = CLOSE_CALL_SHUTDOWN;
	f.reader = READER_MESSAGE_OVER;
	fin_now(CLOSE_REASON_POLICY_OFF);
	facts_ready(1);
	f.peer_closed = true;
	fin_now(CLOSE_REASON_PEER_FIRST);
	ck_assert_int_eq(counts().hold_quantile_us, 0);
	ck_assert(!counts().learned_off);
	ck_assert_str_eq(p->ops->name, "off");
}
END_TEST

START_TEST(hold_holds)
{
	facts_ready(1);
	ck_assert_int_eq(decide(), CLOSE_REASON_HELD);
	ck_assert_int_eq(v.action, CLOSE_HOLD);
	ck_assert_int_eq(v.hold_us, 30000);
	outcome(CLOSE_END_PEER_FIN, 500);
	f.acked_age_us = USEC_PER_SEC - 1;
	ck_assert_int_eq(decide(), CLOSE_REASON_HELD);
	outcome(CLOSE_END_EXPIRED, 30000);
	f.all_acked = false; /* still sending: not idle */
	f.acked_age_us = 0;
	ck_assert_int_eq(decide(), CLOSE_REASON_HELD);
	outcome(CLOSE_END_PEER_RST, 10);
	facts_ready(1);
	f.reader = READER_TLS; /* the user's word */
	ck_assert_int_eq(decide(), CLOSE_REASON_HELD);
	outcome(CLOSE_END_ABANDONED, 0);
	facts_ready(1);
	f.reader = READER_MESSAGE_OVER; /* the client knows, however long ago that was */
	f.acked_age_us = 5 * USEC_PER_SEC;
	ck_assert_int_eq(decide(), CLOSE_REASON_HELD);
	outcome(CLOSE_END_PEER_FIN, 1);
	f.call = CLOSE_CALL_SHUTDOWN;
	ck_assert_int_eq(decide(), CLOSE_REASON_HELD);
	outcome(CLOSE_END_PEER_FIN, 1);
	struct steer_counts c = counts();
	ck_assert_uint_eq(c.closes, 6);
	ck_assert_uint_eq(c.held, 6);
	ck_assert_uint_eq(c.held_now, 0);
	ck_assert_uint_eq(c.client_first, 3);
	ck_assert_uint_eq(c.hold_client_fin, 3);
	ck_assert_uint_eq(c.hold_expired, 1);
	ck_assert_uint_eq(c.hold_reset, 1);
	ck_assert_uint_eq(c.server_first[CLOSE_REASON_EXPIRED], 1);
	ck_assert_int_eq(c.hold_quantile_us, 30000);
	ck_assert_str_eq(p->ops->name, "hold");
}
END_TEST

START_TEST(hold_is_bounded)
{
	steer_listener_unref(p);
	steer_free(s);
	make((struct steer_config){.kind = STEER_HOLD, .hold_us = 30000, .hold_max_us = 20000, .client_budget = 4000});
	facts_ready(1);
	decide();
	ck_assert_int_eq(v.hold_us, 20000);
	outcome(CLOSE_END_EXPIRED, 20000);
	ck_assert_int_eq(counts().hold_quantile_us, 20000);
}
END_TEST

/* The histogram: 64 µs and twice that and so on, each edge within its step; who closed first was not delayed. */
START_TEST(delays_are_counted)
{
	static const struct {
		int64_t us;
		int step;
	} holds[] = {{1, 0}, {64, 0}, {65, 1}, {1024, 4}, {1025, 5}, {USEC_PER_SEC, 14}, {64 << 14, 14}, {(64 << 14) + 1, 15}, {60 * USEC_PER_SEC, 15}};
	uint64_t expected[STEER_DELAYS] = {0};
	for (size_t i = 0; i < sizeof holds / sizeof holds[0]; i++) {
		facts_ready(1);
		decide();
		outcome(CLOSE_END_EXPIRED, holds[i].us);
		expected[holds[i].step]++;
		decide();
		outcome(CLOSE_END_PEER_FIN, holds[i].us);
	}
	struct steer_counts c = counts();
	ck_assert_mem_eq(c.delays, expected, sizeof expected);
	ck_assert_uint_eq(c.avoided, sizeof holds / sizeof holds[0]);
}
END_TEST

START_TEST(peer_first_is_counted_by_its_outcome)
{
	facts_ready(1);
	f.peer_closed = true;
	decide();
	outcome(CLOSE_END_PEER_FIRST, 0);
	ck_assert_uint_eq(counts().closes, 1);
	ck_assert_uint_eq(counts().client_first, 1);
	ck_assert_uint_eq(counts().held, 0);
}
END_TEST

START_TEST(tls_is_not_held)
{
	facts_ready(1);
	f.reader = READER_TLS;
	fin_now(CLOSE_REASON_TLS);
	ck_assert_str_eq(p->ops->name, "adaptive");
}
END_TEST

/* Rule 0 with the default: 4,000 closes in a minute, of whichever kind, then FIN now; other clients
 * and later minutes are free. */
/* The client thinks that the connection lives: FIN at once, or it would send its next request into a hold. */
START_TEST(kept_alive_is_not_held)
{
	facts_ready(1);
	f.reader = READER_KEPT_ALIVE;
	fin_now(CLOSE_REASON_KEPT_ALIVE);
}
END_TEST

/* ---- rule 4 ---- */

static void asked_outcome(enum close_end end, bool answered)
{
	struct close_outcome out = {.end = end, .key = f.key, .held = true, .asked = true, .answered = answered, .peer_fin_after_us = TIME_NEVER};
	p->ops->outcome(p, now, &out);
}

/* Whatever the protocol, a shutdown, too; without budget, up to hold_max. */
START_TEST(who_can_be_asked_is_asked)
{
	for (uint32_t i = 0; i < 5000; i++) { /* beyond the budget of one client */
		facts_ready(1);
		f.can_ask = true;
		f.call = i & 1 ? CLOSE_CALL_SHUTDOWN : CLOSE_CALL_CLOSE;
		f.reader = i % 4;
		f.last_bytes_ours = i & 2;
		ck_assert_int_eq(decide(), CLOSE_REASON_ASKED);
		ck_assert_int_eq(v.action, CLOSE_ASK);
		ck_assert_int_eq(v.hold_us, 1000000);
		asked_outcome(CLOSE_END_PEER_FIN, true);
	}
	struct steer_counts c = counts();
	ck_assert_uint_eq(c.asked, 5000);
	ck_assert_uint_eq(c.answered, 5000);
	ck_assert_uint_eq(c.client_first, 5000);
	ck_assert_uint_eq(c.held_now, 0);
	facts_ready(1);
	f.can_ask = f.exiting = true;
	fin_now(CLOSE_REASON_EXITING);
	facts_ready(1);
	f.can_ask = f.unread = true;
	fin_now(CLOSE_REASON_UNREAD);
	facts_ready(1);
	f.can_ask = f.linger = true;
	fin_now(CLOSE_REASON_LINGER);
}
END_TEST

/* Eight in a row and for two seconds without an answer: something takes the option out. For a minute, then two. */
START_TEST(nobody_answers)
{
	int64_t stop = 60 * USEC_PER_SEC;
	for (int round = 0; round < 3; round++, stop *= 2) {
		for (int i = 0; i < 8; i++) {
			facts_ready(1);
			f.can_ask = true;
			ck_assert_int_eq(decide(), CLOSE_REASON_ASKED);
			asked_outcome(CLOSE_END_EXPIRED, false);
			now += i < 7 ? 300 * USEC_PER_MSEC : 0;
		}
		facts_ready(1);
		f.can_ask = true;
		f.call = CLOSE_CALL_SHUTDOWN;
		now += stop - 1;
		fin_now(CLOSE_REASON_SHUTDOWN);
		now++;
	}
	ck_assert_uint_eq(counts().server_first[CLOSE_REASON_ASKED], 24);
}
END_TEST

/* A client process that ends takes its connections with it: many without an answer, at one moment. */
START_TEST(many_go_at_once)
{
	for (int i = 0; i < 1000; i++) {
		facts_ready(1);
		f.can_ask = true;
		ck_assert_int_eq(decide(), CLOSE_REASON_ASKED);
		asked_outcome(CLOSE_END_EXPIRED, false);
		now += USEC_PER_MSEC;
	}
	facts_ready(1);
	f.can_ask = true;
	ck_assert_int_eq(decide(), CLOSE_REASON_ASKED);
	asked_outcome(CLOSE_END_PEER_FIN, true);
}
END_TEST

START_TEST(budget)
{
	for (int i = 0; i < 4000; i++) {
		facts_ready(1);
		f.peer_closed = i % 2;
		decide();
		outcome(f.peer_closed ? CLOSE_END_PEER_FIRST : CLOSE_END_PEER_FIN, 100);
		now += 1000;
	}
	facts_ready(1);
	fin_now(CLOSE_REASON_BUDGET);
	ck_assert_uint_eq(counts().over_budget, 1);
	facts_ready(2);
	ck_assert_int_eq(decide(), CLOSE_REASON_HELD);
	outcome(CLOSE_END_PEER_FIN, 100);
	now += 66 * USEC_PER_SEC;
	facts_ready(1);
	ck_assert_int_eq(decide(), CLOSE_REASON_HELD);
	outcome(CLOSE_END_PEER_FIN, 100);
}
END_TEST

/* What is held counts too, or a burst would pass; a hold that ran out, or a reset, left the client
 * with nothing. */
START_TEST(budget_counts_what_is_held)
{
	steer_listener_unref(p);
	steer_free(s);
	make((struct steer_config){.kind = STEER_HOLD, .hold_us = 30000, .hold_max_us = 1000000, .client_budget = 3});
	facts_ready(1);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(decide(), CLOSE_REASON_HELD);
	ck_assert_int_eq(decide(), CLOSE_REASON_BUDGET);
	v.action = CLOSE_HOLD; /* the three end one by one */
	outcome(CLOSE_END_EXPIRED, 30000);
	ck_assert_int_eq(decide(), CLOSE_REASON_HELD);
	ck_assert_int_eq(decide(), CLOSE_REASON_BUDGET);
	v.action = CLOSE_HOLD;
	outcome(CLOSE_END_PEER_RST, 1);
	outcome(CLOSE_END_PEER_FIN, 1);
	outcome(CLOSE_END_ABANDONED, 0);
	ck_assert_uint_eq(counts().held_now, 0);
	ck_assert_int_eq(decide(), CLOSE_REASON_HELD);
	outcome(CLOSE_END_PEER_FIN, 1);
	ck_assert_int_eq(decide(), CLOSE_REASON_HELD);
	outcome(CLOSE_END_PEER_FIN, 1);
	ck_assert_int_eq(decide(), CLOSE_REASON_BUDGET);
}
END_TEST

/* Closes of a client whose ports are drawn from a range, until it is let go because of its budget. */
static uint32_t closes_from(uint32_t client, uint16_t first, uint16_t n_ports, bool timestamps)
{
	for (uint32_t i = 0;; i++) {
		facts_ready(client);
		f.timestamps = timestamps;
		f.key.rport = (uint16_t)(first + i * 7919 % n_ports);
		if (decide() != CLOSE_REASON_HELD)
			return i;
		outcome(CLOSE_END_PEER_FIN, 100);
	}
}

/*
 * `auto`: a third of the ports that a client was seen to use, in whole blocks of 1,024, where its TIME-WAITs take a
 * minute at most.
 */
START_TEST(budget_grows)
{
	steer_listener_unref(p);
	steer_free(s);
	make((struct steer_config){.kind = STEER_HOLD, .hold_us = 30000, .hold_max_us = 1000000, .client_budget = 4000, .budget_grows = true});
	ck_assert_uint_eq(closes_from(1, 32768, 28232, true), 28 * 1024 / 3); /* Linux */
	ck_assert_uint_eq(v.reason, CLOSE_REASON_BUDGET);
	ck_assert_uint_eq(closes_from(2, 32768, 28232, false), 4000);
	ck_assert_uint_eq(closes_from(3, 40000, 10000, true), 4000);
	ck_assert_uint_eq(closes_from(4, 1024, 64512, true), 63 * 1024 / 3);
	now += 66 * USEC_PER_SEC; /* the address may be another host's by now */
	ck_assert_uint_eq(closes_from(4, 40000, 10000, true), 4000);
}
END_TEST

START_TEST(budget_of_nothing)
{
	steer_listener_unref(p);
	steer_free(s);
	make((struct steer_config){.kind = STEER_HOLD, .hold_us = 30000, .hold_max_us = 1000000, .client_budget = 0});
	facts_ready(1);
	fin_now(CLOSE_REASON_BUDGET);
}
END_TEST

/* Rule 1. One prefix may not take all places; the listener's own limit holds over many prefixes. */
START_TEST(caps)
{
	unsigned held = 0;
	for (uint32_t i = 0; i < 3000; i++) {
		facts_ready(i % 256); /* one /24 */
		held += decide() == CLOSE_REASON_HELD;
	}
	ck_assert_int_eq(v.reason, CLOSE_REASON_CAPPED);
	ck_assert_int_eq(v.action, CLOSE_FIN_NOW);
	ck_assert_uint_eq(held, 2048);
	for (uint32_t i = 0; i < 10000; i++) {
		facts_ready(256 + i);
		held += decide() == CLOSE_REASON_HELD;
	}
	ck_assert_uint_eq(held, 8192);
	ck_assert_uint_eq(counts().held_now, 8192);
	ck_assert_uint_eq(counts().server_first[CLOSE_REASON_CAPPED], 13000 - 8192);
	facts_ready(1);
	v.action = CLOSE_HOLD;
	outcome(CLOSE_END_EXPIRED,
		30000); /* a place is free again, but for the prefix only by one */
	facts_ready(2);
	ck_assert_int_eq(decide(), CLOSE_REASON_HELD);
	ck_assert_int_eq(decide(), CLOSE_REASON_CAPPED);
}
END_TEST

START_TEST(engine_cap)
{
	struct close_policy *listeners[3] = {p, steer_listener_new(s, 81),
					     steer_listener_new(s, 82)};
	unsigned held = 0;
	for (uint32_t i = 0; i < 30000; i++) {
		facts_ready(i * 7);
		f.key.lport = (uint16_t)(80 + i % 3);
		listeners[i % 3]->ops->decide(listeners[i % 3], now, &f, &v);
		held += v.action == CLOSE_HOLD;
	}
	ck_assert_uint_eq(held, 16384);
	/* Torn down without outcomes: the listener's places come back. */
	steer_listener_unref(listeners[1]);
	steer_listener_unref(listeners[2]);
	facts_ready(0x550000);
	ck_assert_int_eq(decide(), CLOSE_REASON_HELD);
}
END_TEST

/* New data in a hold: the client had not taken our last bytes for the end. A minute without holds,
 * doubling. */
START_TEST(data_in_a_hold)
{
	facts_ready(1);
	decide();
	outcome(CLOSE_END_PEER_DATA, 300);
	ck_assert_uint_eq(counts().hold_data, 1);
	fin_now(CLOSE_REASON_IDLE);
	f.reader = READER_MESSAGE_OVER; /* where a reader knows, it goes on */
	ck_assert_int_eq(decide(), CLOSE_REASON_HELD);
	outcome(CLOSE_END_PEER_FIN, 1);
	facts_ready(1);
	now += 60 * USEC_PER_SEC - 1;
	fin_now(CLOSE_REASON_IDLE);
	now += 1;
	ck_assert_int_eq(decide(), CLOSE_REASON_HELD);
	outcome(CLOSE_END_PEER_DATA, 300);
	now += 120 * USEC_PER_SEC - 1;
	fin_now(CLOSE_REASON_IDLE);
	now += 1;
	for (int i = 0; i < 20; i++) { /* up to an hour, not for ever */
		ck_assert_int_eq(decide(), CLOSE_REASON_HELD);
		outcome(CLOSE_END_PEER_DATA, 300);
		now += 3600 * USEC_PER_SEC;
	}
	now += 3601 * USEC_PER_SEC; /* a long peace: back to a minute */
	ck_assert_int_eq(decide(), CLOSE_REASON_HELD);
	outcome(CLOSE_END_PEER_DATA, 300);
	now += 60 * USEC_PER_SEC;
	ck_assert_int_eq(decide(), CLOSE_REASON_HELD);
	outcome(CLOSE_END_PEER_FIN, 300);
}
END_TEST

START_TEST(references)
{
	steer_listener_ref(p);
	steer_listener_unref(p);
	facts_ready(1);
	ck_assert_int_eq(decide(), CLOSE_REASON_HELD); /* still there */
	outcome(CLOSE_END_PEER_FIN, 1);
}
END_TEST

START_TEST(names)
{
	ck_assert_str_eq(close_reason_name(CLOSE_REASON_PEER_FIRST), "peer-first");
	ck_assert_str_eq(close_reason_name(CLOSE_REASON_EOF_DELIMITED), "eof-delimited");
	for (int i = 0; i < CLOSE_REASON_COUNT; i++) {
		ck_assert(close_reason_name(i)[0] && close_reason_text(i)[0]);
		for (int j = 0; j < i; j++)
			ck_assert_str_ne(close_reason_name(i), close_reason_name(j));
	}
}
END_TEST

static void add(Suite *suite, const char *name, void (*setup)(void), const TTest *const *tests,
		size_t n)
{
	TCase *tc = tcase_create(name);
	tcase_add_checked_fixture(tc, setup, teardown);
	for (size_t i = 0; i < n; i++)
		tcase_add_test(tc, tests[i]);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	const TTest *const hold[] = {refusals,
				     hold_holds,
				     hold_is_bounded,
				     delays_are_counted,
				     peer_first_is_counted_by_its_outcome,
				     budget,
				     budget_counts_what_is_held,
				     budget_of_nothing,
				     budget_grows,
				     caps,
				     engine_cap,
				     data_in_a_hold,
				     references,
				     names};
	const TTest *const adaptive[] = {refusals, tls_is_not_held, kept_alive_is_not_held, who_can_be_asked_is_asked, nobody_answers, many_go_at_once};
	const TTest *const off[] = {off_never_holds};
	Suite *suite = suite_create("steer_policy");
	add(suite, "hold", setup_hold, hold, sizeof hold / sizeof hold[0]);
	add(suite, "adaptive", setup_adaptive, adaptive, sizeof adaptive / sizeof adaptive[0]);
	add(suite, "off", setup_off, off, sizeof off / sizeof off[0]);
	return suite_main(suite);
}
