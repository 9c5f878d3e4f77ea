/* ICMP errors and their quotes: known messages, every truncation, quotes that lie. */
#include <string.h>

#include "frames.h"
#include "unit.h"
#include "wire/checksum.h"
#include "wire/icmp.h"
#include "wire/ndisc.h"

#define V4_AT (14 + 20) /* the ICMP message in an Ethernet frame without IP options */
#define V6_AT (14 + 40)

static struct icmp_message m;

START_TEST(test_v4_known)
{
	const uint8_t *p = frame_v4_host_unreachable + V4_AT;
	size_t n = sizeof frame_v4_host_unreachable - V4_AT;
	ck_assert_int_eq(icmp_parse(p, n, false, NULL, NULL, &m), ICMP_OK);
	ck_assert_uint_eq(m.type, ICMP4_UNREACHABLE);
	ck_assert_uint_eq(m.code, 1);
	ck_assert(icmp_is_error(&m, false));
	ck_assert_int_eq(icmp_parse_quote(p, n, false, &m), ICMP_OK);
	ck_assert_uint_eq(m.protocol, 6);
	ck_assert_mem_eq(m.src, "\x0a\x09\1\1", 4);
	ck_assert_mem_eq(m.dst, "\x0a\x09\3\3", 4);
	ck_assert_uint_eq(load_be16(m.upper), 57812);
	ck_assert_uint_eq(load_be16(m.upper + 2), 80);
}
END_TEST

START_TEST(test_v6_known)
{
	const uint8_t *ip = frame_v6_no_route + 14, *p = frame_v6_no_route + V6_AT;
	size_t n = sizeof frame_v6_no_route - V6_AT;
	ck_assert_int_eq(icmp_parse(p, n, true, ip + 8, ip + 24, &m), ICMP_OK);
	ck_assert_uint_eq(m.type, ICMP6_UNREACHABLE);
	ck_assert_uint_eq(m.code, 0);
	ck_assert(icmp_is_error(&m, true));
	ck_assert_int_eq(icmp_parse_quote(p, n, true, &m), ICMP_OK);
	ck_assert_uint_eq(m.protocol, 6);
	ck_assert_uint_eq(load_be16(m.upper), 58944);
	/* The pseudo-header counts: another source is a wrong checksum. */
	uint8_t src[16];
	memcpy(src, ip + 8, 16);
	src[15] ^= 1;
	ck_assert_int_eq(icmp_parse(p, n, true, src, ip + 24, &m), ICMP_BAD_CHECKSUM);
}
END_TEST

START_TEST(test_every_bit_is_checked)
{
	uint8_t p[sizeof frame_v4_host_unreachable - V4_AT];
	memcpy(p, frame_v4_host_unreachable + V4_AT, sizeof p);
	for (size_t bit = 0; bit < 8 * sizeof p; bit++) {
		p[bit / 8] ^= 1 << bit % 8;
		enum icmp_result r = icmp_parse(p, sizeof p, false, NULL, NULL, &m);
		if (r != ICMP_BAD_CHECKSUM)
			ck_abort_msg("bit %zu: %d", bit, r);
		p[bit / 8] ^= 1 << bit % 8;
	}
}
END_TEST

/* A quote is good from the IP header and 8 bytes on, and never before. */
START_TEST(test_truncated_at_every_length)
{
	for (size_t n = 0; n <= sizeof frame_v4_time_exceeded - V4_AT; n++) {
		enum icmp_result r;
		WITH_EXACT_COPY(p, frame_v4_time_exceeded + V4_AT, n,
				r = icmp_parse_quote(p, n, false, &m));
		ck_assert_int_eq(r, n < 8 + 20 + 8 ? ICMP_SHORT : ICMP_OK);
	}
	for (size_t n = 0; n <= sizeof frame_v6_time_exceeded - V6_AT; n++) {
		enum icmp_result r;
		WITH_EXACT_COPY(p, frame_v6_time_exceeded + V6_AT, n,
				r = icmp_parse_quote(p, n, true, &m));
		ck_assert_int_eq(r, n < 8 + 40 + 8 ? ICMP_SHORT : ICMP_OK);
	}
	for (size_t n = 0; n < 8; n++) {
		enum icmp_result r;
		WITH_EXACT_COPY(p, frame_v4_time_exceeded + V4_AT, n,
				r = icmp_parse(p, n, false, NULL, NULL, &m));
		ck_assert_int_eq(r, ICMP_SHORT);
	}
}
END_TEST

START_TEST(test_v4_quotes_that_lie)
{
	uint8_t p[8 + 60 + 8] = {3, 1};
	for (unsigned first = 0; first < 256; first++) {
		size_t header = (first & 0xf) * 4, n = 8 + 20 + 8;
		p[8] = first;
		ck_assert_int_eq(icmp_parse_quote(p, n, false, &m),
				 first >> 4 != 4 || header < 20 ? ICMP_BAD_QUOTE :
				 header > 20			  ? ICMP_SHORT :
								    ICMP_OK);
		if (first >> 4 == 4 && header >= 20) {
			ck_assert_int_eq(icmp_parse_quote(p, sizeof p, false, &m), ICMP_OK);
			ck_assert_ptr_eq(m.upper, p + 8 + header);
		}
	}
	p[8] = 0x45;
	p[8 + 7] = 1; /* fragment offset 8: no TCP header inside */
	ck_assert_int_eq(icmp_parse_quote(p, sizeof p, false, &m), ICMP_LATER_FRAGMENT);
	p[8 + 7] = 0;
	p[8 + 6] = 0x20; /* a first fragment has one */
	ck_assert_int_eq(icmp_parse_quote(p, sizeof p, false, &m), ICMP_OK);
}
END_TEST

START_TEST(test_v6_quotes)
{
	uint8_t p[8 + 40 + 8 + 8] = {1, 0};
	p[8] = 0x60;
	p[8 + 6] = 44; /* a fragment header in front of TCP */
	p[8 + 40] = 6;
	ck_assert_int_eq(icmp_parse_quote(p, sizeof p, true, &m), ICMP_OK);
	ck_assert_ptr_eq(m.upper, p + 8 + 48);
	p[8 + 40 + 3] = 1; /* first of several: the TCP header is there */
	ck_assert_int_eq(icmp_parse_quote(p, sizeof p, true, &m), ICMP_OK);
	ck_assert_uint_eq(m.protocol, 6);
	p[8 + 40] = 60; /* … behind another extension header: nothing that we send */
	ck_assert_int_eq(icmp_parse_quote(p, sizeof p, true, &m), ICMP_BAD_QUOTE);
	p[8 + 40 + 2] = 1;
	ck_assert_int_eq(icmp_parse_quote(p, sizeof p, true, &m), ICMP_LATER_FRAGMENT);
	p[8] = 0x40;
	ck_assert_int_eq(icmp_parse_quote(p, sizeof p, true, &m), ICMP_BAD_QUOTE);
}
END_TEST

START_TEST(test_which_types_are_errors)
{
	for (unsigned type = 0; type < 256; type++) {
		m.type = type;
		bool v4 = type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
		ck_assert_int_eq(icmp_is_error(&m, false), v4);
		ck_assert_int_eq(icmp_is_error(&m, true), type < 128);
	}
}
END_TEST

/* RFC 4861's own example of a solicited-node group, and a checksum that the parser accepts. */
START_TEST(test_solicitation)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1}, src[16] = {0xfd, 0x77, [15] = 2};
	static const uint8_t target[16] = {0xfd, 0x77, [12] = 1, 2, 3, 4};
	static const uint8_t group[16] = {0xff, 2, [11] = 1, 0xff, 2, 3, 4};
	uint8_t f[NDISC_FRAME_BYTES];
	ndisc_build_solicitation(mac, src, target, f);
	ck_assert_mem_eq(f, ((uint8_t[]){0x33, 0x33, 0xff, 2, 3, 4, 2, 0, 0, 0, 0, 1, 0x86, 0xdd}), 14);
	ck_assert_uint_eq(f[14 + 7], 255); /* hop limit */
	ck_assert_mem_eq(f + 14 + 24, group, 16);
	ck_assert_int_eq(icmp_parse(f + 54, sizeof f - 54, true, src, group, &m), ICMP_OK);
	ck_assert_uint_eq(m.type, 135);
	ck_assert_mem_eq(f + 54 + 8, target, 16);
	ck_assert_mem_eq(f + 54 + 24, ((uint8_t[]){1, 1, 2, 0, 0, 0, 0, 1}), 8);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("wire/icmp");
	TCase *tc = tcase_create("icmp");
	tcase_add_test(tc, test_v4_known);
	tcase_add_test(tc, test_v6_known);
	tcase_add_test(tc, test_every_bit_is_checked);
	tcase_add_test(tc, test_truncated_at_every_length);
	tcase_add_test(tc, test_v4_quotes_that_lie);
	tcase_add_test(tc, test_v6_quotes);
	tcase_add_test(tc, test_which_types_are_errors);
	tcase_add_test(tc, test_solicitation);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
