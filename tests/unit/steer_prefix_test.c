/*
 * The adaptive policy and populations of many client prefixes, in virtual time, against an oracle that knows each
 * client: it holds those who close first, and nobody else. STEER_TABLE=1 in the environment prints the regret as a
 * table.
 */
#include "base/time.h"
#include "steer/steer.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define WAITS   (-1)
#define CLOSES  20000
#define WARM_UP 100
#define SEEDS   20
#define SPACING_US 500 /* between closes */

static const uint8_t secret[16] = "0123456789abcdef";

struct run {
	uint64_t random;
	int64_t now;
	int i; /* which close */
	int64_t srtt_us; /* 0: 100 µs */
	struct steer *steer;
	struct close_policy *policy;
	/* after WARM_UP */
	int closers, closers_first, waiters, n_delays;
	int64_t lost_us;
	int64_t delays[CLOSES];
};

struct population {
	const char *name;
	int prefixes;
	int64_t (*takes)(struct run *r, int prefix); /* how long this client takes, or WAITS */
	enum reader_says reader;
	int (*pick)(struct run *r, int prefixes); /* whose close is next; NULL: each as likely */
	/*
	 * What is asked of the policy: closers that were let close first, at least; waiters' mean and 99th percentile
	 * of delay, at most.
	 */
	double first_min;
	int64_t mean_us, p99_us;
};

static uint64_t below(struct run *r, uint64_t n)
{
	r->random ^= r->random << 13; /* xorshift64 (Marsaglia 2003) */
	r->random ^= r->random >> 7;
	r->random ^= r->random << 17;
	return r->random % n;
}

static int64_t prompt(struct run *r, int prefix)
{
	(void)prefix;
	return 50 + (int64_t)below(r, 500);
}

static int64_t waiting(struct run *r, int prefix)
{
	(void)r;
	(void)prefix;
	return WAITS;
}

static int64_t half_of_prefixes(struct run *r, int prefix)
{
	return prefix % 2 ? prompt(r, prefix) : WAITS;
}

static int64_t half_of_clients(struct run *r, int prefix)
{
	return below(r, 2) ? prompt(r, prefix) : WAITS;
}

/* One prefix makes nine in ten of the closes and waits; the others close. */
static int64_t first_waits(struct run *r, int prefix)
{
	return prefix == 0 ? WAITS : prompt(r, prefix);
}

/* … and the other way round: it closes, so that the others should be made to wait. */
static int64_t first_closes(struct run *r, int prefix)
{
	return prefix == 0 ? prompt(r, prefix) : WAITS;
}

static int64_t changing(struct run *r, int prefix)
{
	return r->i < CLOSES / 2 ? WAITS : prompt(r, prefix);
}

static int64_t changing_back(struct run *r, int prefix)
{
	return r->i < CLOSES / 2 ? prompt(r, prefix) : WAITS;
}

static int64_t slow(struct run *r, int prefix)
{
	(void)prefix;
	return 3000 + (int64_t)below(r, 4000);
}

static int one_is_large(struct run *r, int prefixes)
{
	return below(r, 10) ? 0 : (int)below(r, prefixes);
}

/* The large one finds the table full. */
static int large_comes_late(struct run *r, int prefixes)
{
	if (r->i < CLOSES / 4)
		return 1 + (int)below(r, prefixes - 1);
	return one_is_large(r, prefixes);
}

/* Half of the time the large one and 32 others are among themselves; then there are many whom nobody knows yet. */
static int newcomers(struct run *r, int prefixes)
{
	return one_is_large(r, r->i < CLOSES / 2 ? 32 : prefixes);
}

static const struct population populations[] = {
	{"prompt closers, 1 prefix", 1, prompt, READER_SILENT, NULL, 0.99, 0, 0},
	{"prompt closers, 64 prefixes", 64, prompt, READER_SILENT, NULL, 0.99, 0, 0},
	{"prompt closers, 2000 prefixes", 2000, prompt, READER_SILENT, NULL, 0.99, 0, 0},
	{"… whose reader speaks", 64, prompt, READER_MESSAGE_OVER, NULL, 0.99, 0, 0},
	{"closers of 3 to 7 ms, 64", 64, slow, READER_SILENT, NULL, 0.95, 0, 0},
	{"waiters, 1", 1, waiting, READER_SILENT, NULL, 0, 100, 2000},
	{"waiters, 64", 64, waiting, READER_SILENT, NULL, 0, 200, 2000},
	{"waiters, 2000", 2000, waiting, READER_SILENT, NULL, 0, 200, 2000},
	{"… whose reader speaks (ab)", 64, waiting, READER_MESSAGE_OVER, NULL, 0, 200, 2000},
	{"half of 64 prefixes wait", 64, half_of_prefixes, READER_SILENT, NULL, 0.90, 1000, 20000},
	{"half of the clients wait, 64", 64, half_of_clients, READER_SILENT, NULL, 0, 2500, 20000},
	{"one large prefix waits, 64", 64, first_waits, READER_SILENT, one_is_large, 0.90, 200, 2000},
	{"one large prefix closes, 64", 64, first_closes, READER_SILENT, one_is_large, 0.97, 5000, 20000},
	{"… that comes late, 300", 300, first_waits, READER_SILENT, large_comes_late, 0.97, 200, 2000},
	{"… and newcomers close, 2000", 2000, first_waits, READER_SILENT, newcomers, 0.97, 200, 2000},
	{"waiters become closers, 64", 64, changing, READER_SILENT, NULL, 0.90, 200, 2000},
	{"closers become waiters, 64", 64, changing_back, READER_SILENT, NULL, 0.97, 1500, 20000},
};
#define POPULATIONS ((int)(sizeof populations / sizeof populations[0]))

static void one_close(struct run *r, const struct population *p)
{
	int prefix = p->pick ? p->pick(r, p->prefixes) : (int)below(r, p->prefixes);
	uint8_t server_ip[4] = {10, 0, 0, 1}, client_ip[4] = {11, (uint8_t)(prefix >> 8), (uint8_t)prefix, (uint8_t)below(r, 250)};
	struct close_facts f = {
		.call = CLOSE_CALL_CLOSE, .accepted = true, .last_bytes_ours = true, .all_acked = true, .acked_age_us = 10, .srtt_us = r->srtt_us ? r->srtt_us : 100,
		.bytes_in = 100, .bytes_out = 1000, .reader = p->reader,
		.key = {ip_addr_from_v4(server_ip), ip_addr_from_v4(client_ip), 80, (uint16_t)(1024 + below(r, 60000))},
	};
	int64_t takes = p->takes(r, prefix);
	struct close_verdict v;
	r->now += SPACING_US;
	r->policy->ops->decide(r->policy, r->now, &f, &v);
	bool held = v.action == CLOSE_HOLD, first = held && takes != WAITS && takes <= v.hold_us;
	struct close_outcome out = {.key = f.key, .reader = f.reader, .held = held, .peer_fin_after_us = TIME_NEVER};
	out.end = first ? CLOSE_END_PEER_FIN : held ? CLOSE_END_EXPIRED : CLOSE_END_FIN_SENT;
	out.held_us = first ? takes : held ? v.hold_us : 0;
	r->policy->ops->outcome(r->policy, r->now + out.held_us, &out);
	if (!first) {
		out.late = true;
		out.peer_fin_after_us = f.srtt_us + (takes == WAITS || takes < out.held_us ? 0 : takes - out.held_us);
		r->policy->ops->outcome(r->policy, r->now + out.held_us + out.peer_fin_after_us, &out);
	}
	if (r->i < WARM_UP)
		return;
	if (takes == WAITS) {
		r->waiters++;
		r->lost_us += out.held_us;
		r->delays[r->n_delays++] = out.held_us;
	} else {
		r->closers++;
		r->closers_first += first;
	}
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return x < y ? -1 : x > y;
}

static void run(struct run *r, const struct population *p, uint64_t seed)
{
	struct steer_config config = {.kind = STEER_ADAPTIVE, .hold_max_us = USEC_PER_SEC, .client_budget = 1000000};
	*r = (struct run){.random = seed * 2654435761u + 1, .now = 1000 * USEC_PER_SEC};
	r->steer = steer_new(&config, secret);
	r->policy = steer_listener_new(r->steer, 80);
	for (r->i = 0; r->i < CLOSES; r->i++)
		one_close(r, p);
	steer_listener_unref(r->policy);
	steer_free(r->steer);
	qsort(r->delays, r->n_delays, sizeof r->delays[0], compare);
}

START_TEST(regret)
{
	static struct run r;
	const struct population *p = &populations[_i];
	double first = 0, mean = 0;
	int64_t p99 = 0;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		run(&r, p, seed);
		double share = r.closers ? (double)r.closers_first / r.closers : 1, lost = r.waiters ? (double)r.lost_us / r.waiters : 0;
		int64_t q = r.n_delays ? r.delays[r.n_delays * 99 / 100] : 0;
		first += share / SEEDS;
		mean += lost / SEEDS;
		p99 = q > p99 ? q : p99;
		ck_assert_msg(share >= p->first_min, "%s, seed %d: %.3f of the closers closed first", p->name, (int)seed, share);
		ck_assert_msg(lost <= p->mean_us, "%s, seed %d: waiters lost %.0f us on average", p->name, (int)seed, lost);
		ck_assert_msg(q <= p->p99_us, "%s, seed %d: a hundredth of the waiters lost %d us and more", p->name, (int)seed, (int)q);
	}
	if (getenv("STEER_TABLE"))
		printf("%-32s  closers not let close first %5.2f %%   waiters' delay: mean %6.0f us, p99 %6d us\n", p->name, 100 * (1 - first), mean, (int)p99);
}
END_TEST

/* A thousand prefixes that come once do not take the place of one with evidence. */
START_TEST(a_flood_of_prefixes)
{
	static struct run r;
	struct steer_config config = {.kind = STEER_ADAPTIVE, .hold_max_us = USEC_PER_SEC, .client_budget = 1000000};
	struct population crowd = {"crowd", 60000, waiting, READER_SILENT, NULL, 0, 0, 0}, steady = {"steady", 1, prompt, READER_SILENT, NULL, 0, 0, 0};
	r = (struct run){.random = 7, .now = 1000 * USEC_PER_SEC};
	r.steer = steer_new(&config, secret);
	r.policy = steer_listener_new(r.steer, 80);
	for (r.i = 0; r.i < 200; r.i++)
		one_close(&r, &steady);
	for (r.i = 0; r.i < 19000; r.i++)
		one_close(&r, &crowd);
	r.closers = r.closers_first = 0;
	for (r.i = 200; r.i < 600; r.i++)
		one_close(&r, &steady);
	ck_assert_int_eq(r.closers, 400);
	ck_assert_int_ge(r.closers_first, 396);
	steer_listener_unref(r.policy);
	steer_free(r.steer);
}
END_TEST

/* A close in which a FIN of this prefix crossed ours. */
static void one_crossing(struct run *r, int prefix)
{
	uint8_t server_ip[4] = {10, 0, 0, 1}, client_ip[4] = {12, 0, (uint8_t)prefix, 1};
	struct close_outcome out = {
		.key = {ip_addr_from_v4(server_ip), ip_addr_from_v4(client_ip), 80, 1024}, .end = CLOSE_END_FIN_SENT, .late = true,
		.peer_fin_after_us = 500,
	};
	r->now += SPACING_US;
	r->policy->ops->outcome(r->policy, r->now, &out);
}

/*
 * A client far away whose FINs cross ours, again and again, does not speak for all others: who is new and waits does
 * not pay for it.
 */
START_TEST(late_fins_of_one_prefix)
{
	static struct run r;
	struct steer_config config = {.kind = STEER_ADAPTIVE, .hold_max_us = USEC_PER_SEC, .client_budget = 1000000};
	struct population crowd = {"crowd", 60000, waiting, READER_SILENT, NULL, 0, 0, 0};
	r = (struct run){.random = 7, .now = 1000 * USEC_PER_SEC, .srtt_us = 20000};
	r.steer = steer_new(&config, secret);
	r.policy = steer_listener_new(r.steer, 80);
	for (r.i = 0; r.i < 2000; r.i++)
		one_close(&r, &crowd);
	r.waiters = r.n_delays = 0;
	r.lost_us = 0;
	for (r.i = 2000; r.i < 6000; r.i++) {
		one_close(&r, &crowd);
		for (int i = 0; i < 10; i++)
			one_crossing(&r, 1);
	}
	ck_assert_int_eq(r.waiters, 4000);
	ck_assert_msg(r.lost_us <= 4000 * 500, "waiters lost %d us on average", (int)(r.lost_us / 4000));
	steer_listener_unref(r.policy);
	steer_free(r.steer);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("steer, prefixes");
	TCase *tc = tcase_create("prefixes");
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, regret, 0, POPULATIONS);
	tcase_add_test(tc, a_flood_of_prefixes);
	tcase_add_test(tc, late_fins_of_one_prefix);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
