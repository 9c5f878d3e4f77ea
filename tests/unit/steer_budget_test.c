/* Rule 0's table: the sliding window, its keys, and what happens when it is full. */
#include "base/time.h"
#include "steer/budget.h"
#include "tests/suite.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static const uint8_t secret[16] = "0123456789abcdef";
static struct budget_table *table;
static struct budget *b;

static void setup(void)
{
	table = budget_table_new(secret);
	ck_assert_ptr_nonnull(table);
	b = budget_new(table);
	ck_assert_ptr_nonnull(b);
}

static void teardown(void)
{
	budget_free(b);
	budget_table_free(table);
}

static struct ip_addr client(uint32_t n)
{
	uint8_t v4[4] = {10, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
	return ip_addr_from_v4(v4);
}

static uint32_t count(int64_t now_s, uint32_t n, uint16_t port)
{
	struct ip_addr a = client(n);
	return budget_count(b, now_s * USEC_PER_SEC, &a, port);
}

static void charge(int64_t now_s, uint32_t n, uint16_t port)
{
	struct ip_addr a = client(n);
	budget_charge(b, now_s * USEC_PER_SEC, &a, port);
}

static void refund(int64_t now_s, uint32_t n, uint16_t port)
{
	struct ip_addr a = client(n);
	budget_refund(b, now_s * USEC_PER_SEC, &a, port);
}

START_TEST(window_slides)
{
	ck_assert_uint_eq(count(0, 1, 80), 0);
	for (int64_t t = 0; t < 30; t++)
		charge(t, 1, 80); /* one a second for 30 s */
	for (int64_t t = 30; t <= 60; t++)
		ck_assert_uint_eq(count(t, 1, 80), 30);
	uint32_t last = 30;
	for (int64_t t = 61; t < 95; t++) {
		uint32_t now = count(t, 1, 80);
		ck_assert_uint_le(now, last);
		/* never less than the last 60 s hold, never more than the last 65 s */
		ck_assert_uint_ge(now, t - 60 < 30 ? (uint32_t)(29 - (t - 60)) : 0);
		ck_assert_uint_le(now, t - 65 < 30 ? (uint32_t)(30 - (t - 65)) : 0);
		last = now;
	}
	ck_assert_uint_eq(count(95, 1, 80), 0);
}
END_TEST

START_TEST(window_after_a_long_silence)
{
	charge(1000000, 1, 80);
	ck_assert_uint_eq(count(1000000, 1, 80), 1);
	ck_assert_uint_eq(count(2000000, 1, 80), 0);
	charge(2000000, 1, 80);
	ck_assert_uint_eq(count(2000000, 1, 80), 1);
	charge(2000059, 1, 80);
	ck_assert_uint_eq(count(2000059, 1, 80), 2);
}
END_TEST

START_TEST(keys)
{
	charge(7, 1, 80);
	charge(7, 1, 80);
	charge(7, 1, 443);
	charge(7, 2, 80);
	ck_assert_uint_eq(count(7, 1, 80), 2);
	ck_assert_uint_eq(count(7, 1, 443), 1);
	ck_assert_uint_eq(count(7, 2, 80), 1);
	ck_assert_uint_eq(count(7, 2, 443), 0);
}
END_TEST

START_TEST(refunds)
{
	refund(1, 1, 80); /* unknown: nothing happens */
	ck_assert_uint_eq(count(1, 1, 80), 0);
	charge(1, 1, 80);
	charge(20, 1, 80);
	refund(40, 1, 80); /* the newest goes */
	ck_assert_uint_eq(count(40, 1, 80), 1);
	ck_assert_uint_eq(count(66, 1, 80), 0);
	refund(40, 1, 80);
	refund(40, 1, 80); /* one more than there were */
	ck_assert_uint_eq(count(40, 1, 80), 0);
	charge(40, 1, 80);
	ck_assert_uint_eq(count(40, 1, 80), 1);
}
END_TEST

/* A hundred thousand addresses pass by: the busy client's count survives, and memory is what it
 * was. */
START_TEST(busy_clients_survive_eviction)
{
	for (int i = 0; i < 1000; i++)
		charge(1, 999999, 80);
	for (uint32_t n = 0; n < 100000; n++)
		charge(2, n, 80);
	ck_assert_uint_eq(count(3, 999999, 80), 1000);
	uint32_t known = 0;
	for (uint32_t n = 0; n < 100000; n++)
		known += count(3, n, 80);
	ck_assert_uint_le(known, 8192);
	ck_assert_uint_ge(known, 8000); /* and it is full, with the latest in it */
	ck_assert_uint_eq(count(3, 99999, 80), 1);
}
END_TEST

/* Forked processes count in one table, and one that is killed leaves nothing that stops the others. */
START_TEST(processes_share)
{
	charge(1, 1, 80);
	pid_t children[4];
	for (int i = 0; i < 4; i++) {
		children[i] = fork();
		ck_assert_int_ge(children[i], 0);
		if (children[i] == 0) {
			for (int n = 0; n < 1000; n++)
				charge(2, 1, 80);
			refund(2, 1, 80);
			kill(getpid(), SIGKILL);
		}
	}
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(waitpid(children[i], NULL, 0), children[i]);
	ck_assert_uint_eq(count(3, 1, 80), 1 + 4 * 999);
	charge(3, 1, 80);
	ck_assert_uint_eq(count(3, 1, 80), 2 + 4 * 999);
}
END_TEST

/* A worker of another user may write anything there: nobody else hangs, or writes elsewhere. */
START_TEST(whatever_is_written_there)
{
	static const int64_t rows[] = {INT64_MAX, INT64_MAX - 1, INT64_MIN, -1, -100, 0};
	for (size_t i = 0; i < 8192 * 10; i++) /* of each entry each word */
		((int64_t *)table)[i] = rows[_i];
	for (uint32_t n = 0; n < 1000; n++) {
		struct ip_addr a = client(n);
		count(7, n, 80);
		refund(7, n, 80);
		charge(7, n, 80);
		refund(7, n, 80);
		ck_assert_uint_le(budget_ports(b, &a, 80, 1), 65536);
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {window_slides, window_after_a_long_silence, keys, refunds,
				      busy_clients_survive_eviction, processes_share};
	Suite *suite = suite_create("steer_budget");
	TCase *tc = tcase_create("budget");
	tcase_add_checked_fixture(tc, setup, teardown);
	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_test(tc, tests[i]);
	tcase_add_loop_test(tc, whatever_is_written_there, 0, 6);
	suite_add_tcase(suite, tc);
	return suite_main(suite);
}
