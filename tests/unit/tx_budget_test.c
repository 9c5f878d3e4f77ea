/* The bound of the interface's queue, alone and against a device that drains at a rate. */
#include "link/tx_budget.h"
#include "unit.h"

START_TEST(test_steps)
{
	struct tx_budget b;
	tx_budget_init(&b);
	ck_assert_uint_eq(b.bytes, TX_BUDGET_START);
	ck_assert(tx_budget_resume(&b, 0)); /* the device was idle */
	ck_assert_uint_eq(b.bytes, 2 * TX_BUDGET_START);
	for (int i = 0; i < TX_BUDGET_CALM - 1; i++)
		ck_assert(!tx_budget_resume(&b, b.bytes / 2));
	ck_assert(!tx_budget_resume(&b, b.bytes / 4)); /* close: not so calm */
	for (int i = 0; i < TX_BUDGET_CALM - 1; i++)
		ck_assert(!tx_budget_resume(&b, b.bytes / 2));
	ck_assert(tx_budget_resume(&b, b.bytes / 2));
	ck_assert_uint_eq(b.bytes, TX_BUDGET_START);
}
END_TEST

START_TEST(test_bounds)
{
	struct tx_budget b;
	tx_budget_init(&b);
	for (int i = 0; i < 20; i++)
		tx_budget_resume(&b, 0);
	ck_assert_uint_eq(b.bytes, TX_BUDGET_MAX);
	for (int i = 0; i < 20 * TX_BUDGET_CALM; i++)
		tx_budget_resume(&b, b.bytes / 2);
	ck_assert_uint_eq(b.bytes, TX_BUDGET_MIN);
}
END_TEST

START_TEST(test_full)
{
	struct tx_budget b;
	tx_budget_init(&b);
	tx_budget_full(&b, TX_BUDGET_MAX); /* it holds more than we let it */
	ck_assert_uint_eq(b.bytes, TX_BUDGET_START);
	tx_budget_full(&b, TX_BUDGET_MIN / 4);
	ck_assert_uint_eq(b.bytes, TX_BUDGET_MIN / 4);
	for (int i = 0; i < 20 * TX_BUDGET_CALM; i++)
		ck_assert(!tx_budget_resume(&b, b.bytes / 2)); /* neither up to the least, which would be refused again, nor down */
	ck_assert(tx_budget_resume(&b, 0));
	ck_assert_uint_eq(b.bytes, TX_BUDGET_MIN / 2);
}
END_TEST

/*
 * Woken `late_us` after the buffer is half empty, by a device of `rate` bytes per microsecond: what the budget comes
 * to.
 */
static uint32_t settle(uint32_t rate, uint32_t late_us)
{
	struct tx_budget b;
	tx_budget_init(&b);
	for (int i = 0; i < 1000; i++) {
		uint32_t half = b.bytes / 2, gone = rate * late_us;
		tx_budget_resume(&b, gone < half ? half - gone : 0);
	}
	return b.bytes;
}

START_TEST(test_rates)
{
	ck_assert_uint_eq(settle(5, 100), TX_BUDGET_MIN);      /* 40 Mbit/s */
	ck_assert_uint_eq(settle(125, 100), TX_BUDGET_MIN);    /* 1 Gbit/s: 12.5 kB while we wake */
	ck_assert_uint_ge(settle(1250, 200), TX_BUDGET_START); /* 10 Gbit/s: 250 kB */
	ck_assert_uint_le(settle(1250, 200), TX_BUDGET_MAX);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tx_budget");
	TCase *tc = tcase_create("tx_budget");
	tcase_add_test(tc, test_steps);
	tcase_add_test(tc, test_bounds);
	tcase_add_test(tc, test_full);
	tcase_add_test(tc, test_rates);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
