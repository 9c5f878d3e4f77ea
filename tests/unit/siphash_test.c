/*
 * SipHash-2-4 against the paper's appendix A and the authors' published vectors; SipHash-1-3 against CPython's
 * hash(bytes).
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/siphash.h"
#include "tests/suite.h"

static void sequence(uint8_t *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = i;
}

/* Key 00..0f, message 00..(len-1). Length 15 is the paper's worked example; the others are from the authors' table. */
static const struct {
	size_t len;
	uint64_t hash;
} vectors[] = {
	{0, 0x726fdb47dd0e0e31}, {1, 0x74f839c593dc67fd}, {2, 0x0d6c8009d9a94f5a},
	{3, 0x85676696d7fb7e2d}, {4, 0xcf2794e0277187b7}, {5, 0x18765564cd99a68d},
	{6, 0xcbc9466e58fee3ce}, {7, 0xab0200f58b01d137}, {8, 0x93f5f5799a932462},
	{15, 0xa129ca6149be45e5},
};

START_TEST(test_vectors)
{
	uint8_t key[16], msg[16];
	sequence(key, sizeof key);
	sequence(msg, sizeof msg);
	ck_assert_uint_eq(siphash24(msg, vectors[_i].len, key), vectors[_i].hash);
}
END_TEST

/* CPython 3.11 with PYTHONHASHSEED=0, whose key is zero. */
static const struct {
	const char *message;
	uint64_t hash;
} python[] = {
	{"a", 0x407448d2b89b1813},
	{"abcdefgh", 0x3f7b849c0b8e35ea},
	{"abcdefghi", 0xf89b34a3d11eb6e5},
	{"0123456789abcdefghijklmnopqrstuvwxyzABC", 0x36ec19ea56100f5f},
};

START_TEST(test_python)
{
	static const uint8_t key[16];
	ck_assert_uint_eq(siphash13(python[_i].message, strlen(python[_i].message), key), python[_i].hash);
}
END_TEST

START_TEST(test_unaligned_message_and_key_bits)
{
	uint8_t key[16], buf[24];
	sequence(key, sizeof key);
	for (size_t at = 0; at < 8; at++) {
		sequence(buf + at, 15);
		ck_assert_uint_eq(siphash24(buf + at, 15, key), 0xa129ca6149be45e5);
	}
	for (size_t bit = 0; bit < 128; bit++) {
		uint8_t other[16];
		memcpy(other, key, sizeof key);
		other[bit / 8] ^= 1 << bit % 8;
		sequence(buf, 15);
		ck_assert_uint_ne(siphash24(buf, 15, other), 0xa129ca6149be45e5);
	}
}
END_TEST

/* The memo never says another thing than the function: whatever came before, of whatever length. */
START_TEST(test_memo)
{
	static const size_t lengths[] = {0, 4, 4, 36, 36, 39, 40, 40, 39, 4, 0, 64, 4};
	struct siphash_memo m24 = {0}, m13 = {0};
	uint8_t key[16], buf[64];
	sequence(key, sizeof key);
	sequence(buf, sizeof buf);
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
		for (int change = 0; change < 3; change++) {
			size_t n = lengths[i];
			if (n)
				buf[n - 1] += change == 1;
			ck_assert_uint_eq(siphash24_again(&m24, buf, n, key), siphash24(buf, n, key));
			ck_assert_uint_eq(siphash13_again(&m13, buf, n, key), siphash13(buf, n, key));
		}
	siphash24_again(&m24, buf, 12, key);
	m24.hash = 1; /* it is what answers */
	ck_assert_uint_eq(siphash24_again(&m24, buf, 12, key), 1);
	ck_assert_uint_ne(siphash24_again(&m24, buf, 11, key), 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("siphash");
	TCase *tc = tcase_create("siphash");
	tcase_add_loop_test(tc, test_vectors, 0, sizeof vectors / sizeof *vectors);
	tcase_add_loop_test(tc, test_python, 0, sizeof python / sizeof *python);
	tcase_add_test(tc, test_unaligned_message_and_key_bits);
	tcase_add_test(tc, test_memo);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
