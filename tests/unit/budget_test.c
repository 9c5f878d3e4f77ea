/* Answers to strangers: bounded for each network and for all, and never the same number twice. */
#include <check.h>
#include <stdlib.h>

#include "base/budget.h"
#include "tests/suite.h"

static struct budget b;
static const uint8_t secret[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static struct ip_addr v4(uint32_t a)
{
	uint8_t bytes[4] = {a >> 24, a >> 16, a >> 8, a};
	return ip_addr_from_v4(bytes);
}

static unsigned spend(int64_t now, struct ip_addr a, unsigned most)
{
	unsigned n = 0;
	while (n < most && budget_take(&b, now, &a))
		n++;
	return n;
}

static void setup(void)
{
	budget_init(&b, secret);
}

START_TEST(a_network_has_its_own)
{
	unsigned first = spend(0, v4(0x0a000001), 100000);
	ck_assert_uint_ge(first, BUDGET_NETWORK_MIN);
	ck_assert_uint_lt(first, 3 * BUDGET_NETWORK_MIN);
	ck_assert_uint_eq(spend(0, v4(0x0a0000ff), 1000), 0); /* of the same /24 */
	ck_assert_uint_ge(spend(0, v4(0x0a000101), 100000), BUDGET_NETWORK_MIN);
	ck_assert_uint_eq(spend(BUDGET_WINDOW_US - 1, v4(0x0a000001), 1000), 0);
	ck_assert_uint_ge(spend(BUDGET_WINDOW_US, v4(0x0a000001), 100000), BUDGET_NETWORK_MIN);
}
END_TEST

/* The fault that this replaces: whoever spends of a global, exact budget learns what others spent of it. */
START_TEST(what_others_spend_does_not_show)
{
	unsigned with = 0, without = 0;
	for (int i = 0; i < 200; i++) {
		spend(2 * i * BUDGET_WINDOW_US, v4(0xc0a80001), 20); /* forged: the victim's address */
		with += spend(2 * i * BUDGET_WINDOW_US, v4(0x0a000001), 1000);
		without += spend((2 * i + 1) * BUDGET_WINDOW_US, v4(0x0a000001), 1000);
	}
	/* 20 spent of 100 each time would be 4000 of 20000. */
	ck_assert_int_lt(abs((int)with - (int)without), 1500);
}
END_TEST

START_TEST(the_limit_varies)
{
	unsigned seen[3 * BUDGET_NETWORK_MIN] = {0}, different = 0;
	for (int i = 0; i < 64; i++)
		different += !seen[spend(i * BUDGET_WINDOW_US, v4(0x0a000001), 1000)]++;
	ck_assert_uint_gt(different, 20);
}
END_TEST

START_TEST(all_together_are_bounded)
{
	unsigned before = 0, different = 0;
	for (int w = 0; w < 8; w++) {
		unsigned n = 0;
		for (uint32_t i = 0; i < 20000; i++)
			n += spend(w * BUDGET_WINDOW_US, v4(i << 8), 1);
		ck_assert_uint_ge(n, BUDGET_TOTAL_MIN);
		ck_assert_uint_lt(n, 3 * BUDGET_TOTAL_MIN);
		different += n != before;
		before = n;
	}
	ck_assert_uint_ge(different, 7);
}
END_TEST

START_TEST(ipv6_networks_are_56s)
{
	struct ip_addr a = {{0x20, 1, 0xd, 0xb8, 0, 0, 1, 5, 1}}, same = {{0x20, 1, 0xd, 0xb8, 0, 0, 1, 6, 2}},
		       other = {{0x20, 1, 0xd, 0xb8, 0, 0, 2}};
	spend(0, a, 1000);
	ck_assert_uint_eq(spend(0, same, 1000), 0);
	ck_assert_uint_ge(spend(0, other, 1000), BUDGET_NETWORK_MIN);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base/budget");
	TCase *tc = tcase_create("budget");
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, a_network_has_its_own);
	tcase_add_test(tc, what_others_spend_does_not_show);
	tcase_add_test(tc, the_limit_varies);
	tcase_add_test(tc, all_together_are_bounded);
	tcase_add_test(tc, ipv6_networks_are_56s);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
