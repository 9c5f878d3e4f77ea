#include "link/tx_pending.h"
#include "tests/suite.h"

#include <check.h>
#include <string.h>

static struct tx_pending p;

static void setup(void)
{
	ck_assert_int_eq(tx_pending_open(&p), 0);
}

static void teardown(void)
{
	tx_pending_close(&p);
}

/* A frame of `len` bytes that carries its number at both ends, in two pieces. */
static bool push(uint32_t number, uint32_t len)
{
	static uint8_t bytes[70000];
	memcpy(bytes, &number, 4);
	memcpy(bytes + len - 4, &number, 4);
	struct iovec iov[2] = {{bytes, len / 3}, {bytes + len / 3, len - len / 3}};
	return tx_pending_push(&p, iov, 2, number & 1, number % 7);
}

static uint32_t number_of(const struct tx_pending_frame *f)
{
	uint32_t first, last;
	memcpy(&first, f->data, 4);
	memcpy(&last, f->data + f->len - 4, 4);
	ck_assert_uint_eq(first, last);
	ck_assert_int_eq(f->v6, first & 1);
	return first;
}

START_TEST(first_in_first_out_round_the_ring)
{
	uint32_t in = 0, out = 0, rnd = 1, refused = 0;
	for (int step = 0; step < 20000; step++) {
		rnd = rnd * 1664525 + 1013904223;
		uint32_t len = 8 + (rnd >> 8) % ((rnd >> 4) % 5 ? 1500 : 66000);
		if (push(in, len))
			in++;
		else
			refused++;
		/* Now full, now nearly empty: both ends go round. */
		unsigned pops = step / 500 % 2 ? (rnd >> 28) % 3 : (rnd >> 28) % 2;
		while (pops-- && p.n) {
			ck_assert_uint_eq(number_of(tx_pending_first(&p)), out++);
			tx_pending_pop(&p);
		}
		ck_assert_uint_eq(p.n, in - out);
		ck_assert_uint_le(p.used, TX_PENDING_BYTES);
	}
	ck_assert_uint_gt(refused, 10);
	for (; p.n; tx_pending_pop(&p))
		ck_assert_uint_eq(number_of(tx_pending_first(&p)), out++);
	ck_assert_uint_eq(out, in);
	ck_assert_uint_eq(p.used, 0);
	ck_assert_ptr_null(tx_pending_first(&p));
}
END_TEST

START_TEST(next_walks_what_first_and_pop_would)
{
	uint32_t in = 0, out = 0;
	while (push(in, 60000))
		in++;
	while (out < 10) {
		tx_pending_pop(&p);
		out++;
	}
	while (push(in, 1200))
		in++;
	ck_assert_uint_eq(in - out, p.n);
	uint32_t n = out;
	for (struct tx_pending_frame *f = tx_pending_first(&p); f; f = tx_pending_next(&p, f))
		ck_assert_uint_eq(number_of(f), n++);
	ck_assert_uint_eq(n, in);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tx_pending");
	TCase *t = tcase_create("ring");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, first_in_first_out_round_the_ring);
	tcase_add_test(t, next_walks_what_first_and_pop_would);
	suite_add_tcase(s, t);
	return suite_main(s);
}
