/* RFC 6528 initial sequence numbers and RFC 7323 §5.4 timestamp offsets. */
#include <check.h>
#include <stdlib.h>

#include "tcp/tcp.h"
#include "tests/suite.h"

static struct tcp_stack stack;
static const struct flow_key flow = {
	.laddr = {{[10] = 0xff, 0xff, 10, 0, 0, 1}},
	.raddr = {{[10] = 0xff, 0xff, 10, 0, 0, 2}},
	.lport = 80,
	.rport = 50000,
};

static void setup(void)
{
	for (int i = 0; i < 16; i++) {
		stack.isn_secret[i] = i;
		stack.ts_secret[i] = 0x80 + i;
	}
}

/* Every way in which a 4-tuple can differ from `flow` by one bit of one field. */
static struct flow_key other_flow(int which)
{
	struct flow_key k = flow;
	switch (which) {
	case 0:
		k.laddr.b[15] ^= 1;
		break;
	case 1:
		k.raddr.b[15] ^= 1;
		break;
	case 2:
		k.lport ^= 1;
		break;
	default:
		k.rport ^= 1;
		break;
	}
	return k;
}

START_TEST(MUST_8_clock_of_4_us)
{
	int64_t t = 123456789;
	t -= t % 4;
	uint32_t isn = tcp_isn(&stack, t, &flow);
	ck_assert_uint_eq(tcp_isn(&stack, t + 3, &flow), isn);
	ck_assert_uint_eq(tcp_isn(&stack, t + 4, &flow), isn + 1);
	ck_assert_uint_eq(tcp_isn(&stack, t + 4000000, &flow), isn + 1000000);
	/* about 4.55 hours later the numbers come round (RFC 9293 §3.4.1), and the clock goes on */
	ck_assert_uint_eq(tcp_isn(&stack, t + (INT64_C(4) << 32), &flow), isn);
	ck_assert_uint_eq(tcp_isn(&stack, t + (INT64_C(4) << 32) + 4, &flow), isn + 1);
}
END_TEST

START_TEST(SHLD_1_depends_on_the_whole_4_tuple)
{
	struct flow_key k = other_flow(_i);
	ck_assert_uint_ne(tcp_isn(&stack, 0, &k), tcp_isn(&stack, 0, &flow));
	ck_assert_uint_ne(tcp_ts_offset(&stack, &k), tcp_ts_offset(&stack, &flow));
}
END_TEST

/* MUST-9. */
START_TEST(depends_on_the_secrets)
{
	struct tcp_stack twin = stack;
	ck_assert_uint_eq(tcp_isn(&twin, 7, &flow), tcp_isn(&stack, 7, &flow));
	twin.isn_secret[15] ^= 1;
	ck_assert_uint_ne(tcp_isn(&twin, 7, &flow), tcp_isn(&stack, 7, &flow));
	ck_assert_uint_eq(tcp_ts_offset(&twin, &flow), tcp_ts_offset(&stack, &flow));
	twin.ts_secret[0] ^= 1;
	ck_assert_uint_ne(tcp_ts_offset(&twin, &flow), tcp_ts_offset(&stack, &flow));
}
END_TEST

START_TEST(iss_at_least_in_sequence_space)
{
	ck_assert_uint_eq(tcp_iss_at_least(10, 5), 10);
	ck_assert_uint_eq(tcp_iss_at_least(5, 10), 10);
	ck_assert_uint_eq(tcp_iss_at_least(7, 7), 7);
	ck_assert_uint_eq(tcp_iss_at_least(3, 0xfffffff0u), 3); /* 3 is after the wrap */
	ck_assert_uint_eq(tcp_iss_at_least(0xfffffff0u, 3), 3);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("isn");
	TCase *tc = tcase_create("isn");
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, MUST_8_clock_of_4_us);
	tcase_add_loop_test(tc, SHLD_1_depends_on_the_whole_4_tuple, 0, 4);
	tcase_add_test(tc, depends_on_the_secrets);
	tcase_add_test(tc, iss_at_least_in_sequence_space);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
