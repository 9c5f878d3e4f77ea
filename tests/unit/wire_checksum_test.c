/* The Internet checksum against RFC 1071's example, a slow reference, and itself. */
#include <stdbool.h>
#include <string.h>

#include "unit.h"
#include "wire/checksum.h"

/* RFC 1071 §1, word by word, big-endian. Returns the sum, not complemented. */
static uint16_t reference(const uint8_t *p, size_t n)
{
	uint32_t sum = 0;
	for (size_t i = 0; i < n; i++) {
		sum += (uint32_t)p[i] << (i % 2 ? 0 : 8);
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

static uint16_t host_order(uint16_t memory_order)
{
	return load_be16(&memory_order);
}

START_TEST(test_rfc1071_example)
{
	static const uint8_t bytes[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
	uint16_t sum = checksum_fold(checksum_add(0, bytes, sizeof bytes));
	ck_assert_uint_eq(host_order(sum), 0xddf2); /* §3's worked sum */
	ck_assert_uint_eq(host_order(checksum_finish(checksum_add(0, bytes, sizeof bytes))), 0x220d);
}
END_TEST

START_TEST(test_every_length_and_alignment)
{
	uint8_t buf[200 + 8];
	bool all = true;
	uint32_t seed = 5;
	for (size_t i = 0; i < sizeof buf; i++)
		buf[i] = (seed = seed * 1664525 + 1013904223) >> 24;
	for (size_t at = 0; at < 8; at++)
		for (size_t n = 0; n <= 200; n++)
			WITH_EXACT_COPY(p, buf + at, n, {
				uint16_t got = checksum_fold(checksum_add(0, p, n));
				all &= host_order(got) == reference(p, n);
			});
	ck_assert(all);
}
END_TEST

/* All ones is where carries get lost; 1 MiB is longer than any packet. */
START_TEST(test_carries)
{
	size_t n = 1 << 20;
	uint8_t *p = malloc(n);
	memset(p, 0xff, n);
	ck_assert_uint_eq(checksum_fold(checksum_add(0, p, n)), 0xffff);
	ck_assert_uint_eq(checksum_fold(checksum_add(UINT32_MAX, p, n)), 0xffff);
	p[n - 1] = 0xfe;
	ck_assert_uint_eq(host_order(checksum_fold(checksum_add(0, p, n))), 0xfffe);
	free(p);
	ck_assert_uint_eq(checksum_fold(UINT64_MAX), 0xffff);
	ck_assert_uint_eq(checksum_fold(0), 0);
	ck_assert_uint_eq(checksum_fold(0x1ffffffffULL), 1);
}
END_TEST

START_TEST(test_pieces_add_up)
{
	uint8_t buf[64];
	for (size_t i = 0; i < sizeof buf; i++)
		buf[i] = i * 37;
	uint16_t whole = checksum_fold(checksum_add(0, buf, 63));
	for (size_t cut = 0; cut < 63; cut += 2) {
		uint64_t sum = checksum_add(checksum_add(0, buf, cut), buf + cut, 63 - cut);
		ck_assert_uint_eq(checksum_fold(sum), whole);
	}
}
END_TEST

START_TEST(test_pseudo_headers)
{
	/* The pseudo-headers spelled out as bytes, as the RFCs draw them. */
	uint8_t v4[12] = {192, 0, 2, 1, 198, 51, 100, 254, 0, 6, 0xff, 0xee};
	uint8_t v6[40];
	for (unsigned i = 0; i < 32; i++)
		v6[i] = 0xf0 + i;
	memcpy(v6 + 32, (uint8_t[]){0, 1, 0x23, 0x45, 0, 0, 0, 58}, 8);
	ck_assert_uint_eq(host_order(checksum_fold(checksum_pseudo_v4(v4, v4 + 4, 6, 0xffee))),
			  reference(v4, 12));
	ck_assert_uint_eq(host_order(checksum_fold(checksum_pseudo_v6(v6, v6 + 16, 58, 0x12345))),
			  reference(v6, 40));
}
END_TEST

START_TEST(test_valid_after_store)
{
	uint8_t buf[21];
	bool seen = true;
	for (unsigned fill = 0; fill < 256; fill++) {
		memset(buf, fill, sizeof buf);
		checksum_store(buf + 10, 0);
		checksum_store(buf + 10, checksum_finish(checksum_add(0, buf, sizeof buf)));
		ck_assert(checksum_is_valid(checksum_add(0, buf, sizeof buf)));
		for (unsigned bit = 0; bit < 8 * sizeof buf; bit++) {
			buf[bit / 8] ^= 1 << bit % 8;
			seen &= !checksum_is_valid(checksum_add(0, buf, sizeof buf));
			buf[bit / 8] ^= 1 << bit % 8;
		}
	}
	ck_assert(seen);
}
END_TEST

/* RFC 1624 §4: the case that RFC 1141 got wrong, and a sweep against recomputation. */
START_TEST(test_incremental)
{
	uint16_t field = be16_swap(0xdd2f), from = be16_swap(0x5555), to = be16_swap(0x3285);
	ck_assert_uint_eq(host_order(checksum_update16(field, from, to)), 0x0000);
	uint8_t buf[8] = {1, 2, 3, 4, 0, 0, 7, 8};
	for (uint32_t value = 0; value < 65536; value += 251) {
		uint16_t old, new = be16_swap((uint16_t)value), f;
		memcpy(&old, buf + 2, 2);
		store_be16(buf + 4, 0);
		f = checksum_finish(checksum_add(0, buf, sizeof buf));
		checksum_store(buf + 2, new);
		checksum_store(buf + 4, checksum_update16(f, old, new));
		ck_assert(checksum_is_valid(checksum_add(0, buf, sizeof buf)));
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("wire/checksum");
	TCase *tc = tcase_create("checksum");
	tcase_add_test(tc, test_rfc1071_example);
	tcase_add_test(tc, test_every_length_and_alignment);
	tcase_add_test(tc, test_carries);
	tcase_add_test(tc, test_pieces_add_up);
	tcase_add_test(tc, test_pseudo_headers);
	tcase_add_test(tc, test_valid_after_store);
	tcase_add_test(tc, test_incremental);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
