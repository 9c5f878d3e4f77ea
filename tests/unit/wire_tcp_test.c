/* TCP headers: known bytes, every truncation, options of every kind and malformation, round trips. */
#include <errno.h>
#include <string.h>

#include "unit.h"
#include "wire/tcp.h"

/* A SYN of Linux 6.1, captured: mss 1460, sackOK, TS val 0x9f2c4a10 ecr 0, wscale 7. */
static const uint8_t linux_syn[40] = {
	0xd4, 0x31, 0x00, 0x50, 0x1f, 0x2e, 0x3d, 0x4c, 0x00, 0x00, 0x00, 0x00, 0xa0, 0x02,
	0xfa, 0xf0, 0x12, 0x34, 0x00, 0x00, 0x02, 0x04, 0x05, 0xb4, 0x04, 0x02, 0x08, 0x0a,
	0x9f, 0x2c, 0x4a, 0x10, 0x00, 0x00, 0x00, 0x00, 0x01, 0x03, 0x03, 0x07,
};

START_TEST(test_parses_linux_syn)
{
	struct tcp_segment s;
	ck_assert_int_eq(tcp_parse(linux_syn, sizeof linux_syn, &s), 0);
	ck_assert_uint_eq(s.sport, 54321);
	ck_assert_uint_eq(s.dport, 80);
	ck_assert_uint_eq(s.seq, 0x1f2e3d4c);
	ck_assert_uint_eq(s.ack, 0);
	ck_assert_uint_eq(s.flags, SEG_SYN);
	ck_assert_uint_eq(s.window, 64240);
	ck_assert_uint_eq(s.urgent, 0);
	ck_assert_uint_eq(s.has, SEG_HAS_MSS | SEG_HAS_WSCALE | SEG_HAS_SACK_PERMITTED |
					 SEG_HAS_TIMESTAMPS);
	ck_assert_uint_eq(s.mss, 1460);
	ck_assert_uint_eq(s.wscale, 7);
	ck_assert_uint_eq(s.ts_val, 0x9f2c4a10);
	ck_assert_uint_eq(s.ts_ecr, 0);
	ck_assert_uint_eq(s.n_sack, 0);
	ck_assert_uint_eq(s.payload_len, 0);
}
END_TEST

START_TEST(test_builds_linux_syn)
{
	struct tcp_segment s;
	uint8_t out[TCP_HDR_MAX], want[40];
	ck_assert_int_eq(tcp_parse(linux_syn, sizeof linux_syn, &s), 0);
	memcpy(want, linux_syn, sizeof want);
	want[16] = want[17] = 0; /* the checksum is not ours to fill */
	ck_assert_uint_eq(tcp_build(&s, out), 40);
	ck_assert_mem_eq(out, want, 40);
}
END_TEST

START_TEST(test_truncated_at_every_length)
{
	for (size_t n = 0; n <= sizeof linux_syn; n++) {
		struct tcp_segment s;
		int r;
		WITH_EXACT_COPY(p, linux_syn, n, r = tcp_parse(p, n, &s));
		ck_assert_int_eq(r, n < 40 ? -EBADMSG : 0);
	}
}
END_TEST

START_TEST(test_data_offset)
{
	uint8_t bytes[TCP_HDR_MAX] = {0};
	struct tcp_segment s;
	for (unsigned off = 0; off < 16; off++) {
		bytes[12] = off << 4;
		ck_assert_int_eq(tcp_parse(bytes, sizeof bytes, &s), off < 5 ? -EBADMSG : 0);
		if (off >= 5) {
			ck_assert_uint_eq(s.payload_len, sizeof bytes - off * 4);
			ck_assert_ptr_eq(s.payload[0].iov_base, bytes + off * 4);
			ck_assert_uint_eq(s.payload[0].iov_len, s.payload_len);
			ck_assert_int_eq(tcp_parse(bytes, off * 4 - 1, &s), -EBADMSG);
		}
	}
}
END_TEST

START_TEST(test_every_flag_alone)
{
	for (unsigned bit = 0; bit < 12; bit++) { /* three are reserved, and told all the same */
		uint8_t bytes[TCP_HDR_MIN] = {[12] = 0x50 | (1 << bit) >> 8, [13] = 1 << bit};
		struct tcp_segment s;
		ck_assert_int_eq(tcp_parse(bytes, sizeof bytes, &s), 0);
		ck_assert_uint_eq(s.flags, 1 << bit);
	}
}
END_TEST

/* Parses a header with these option bytes, padded by zeros to 32 bits. */
static struct tcp_segment parse_options_of(const uint8_t *opt, size_t n)
{
	uint8_t bytes[TCP_HDR_MAX] = {0};
	size_t len = (TCP_HDR_MIN + n + 3) / 4 * 4;
	struct tcp_segment s;
	memset(&s, 0xee, sizeof s); /* nothing may be left as it was */
	memcpy(bytes + TCP_HDR_MIN, opt, n);
	bytes[12] = len / 4 << 4;
	int r;
	WITH_EXACT_COPY(p, bytes, len, r = tcp_parse(p, len, &s));
	if (r != 0)
		ck_abort_msg("the header itself is well-formed");
	return s;
}

#define OPTIONS(...)                                                                               \
	parse_options_of((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* RFC 9293 MUST-64. */
START_TEST(test_option_layouts)
{
	struct tcp_segment s = OPTIONS(1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2);
	ck_assert_uint_eq(s.has, SEG_HAS_TIMESTAMPS);
	ck_assert_uint_eq(s.ts_val, 1);
	ck_assert_uint_eq(s.ts_ecr, 2);
	s = OPTIONS(8, 10, 0, 0, 0, 3, 0, 0, 0, 4, 1, 1); /* padding behind */
	ck_assert_uint_eq(s.has, SEG_HAS_TIMESTAMPS);
	ck_assert_uint_eq(s.ts_val, 3);
	s = OPTIONS(8, 10, 0, 0, 0, 3, 0, 0, 0, 4, 0, 2, 4, 5, 6); /* END hides what follows */
	ck_assert_uint_eq(s.has, SEG_HAS_TIMESTAMPS);
	s = OPTIONS(1, 1, 1, 1, 1, 2, 4, 5, 6);
	ck_assert_uint_eq(s.has, SEG_HAS_MSS);
	ck_assert_uint_eq(s.mss, 0x0506);
	s = OPTIONS(1, 1, 5, 18, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 5, 0xff, 0, 0, 6);
	ck_assert_uint_eq(s.has, 0);
	ck_assert_uint_eq(s.n_sack, 2);
	ck_assert_uint_eq(s.sack[0].left, 1);
	ck_assert_uint_eq(s.sack[0].right, 2);
	ck_assert_uint_eq(s.sack[1].left, 5);
	ck_assert_uint_eq(s.sack[1].right, 0xff000006);
}
END_TEST

/* RFC 2385: that there is one is all that is known. */
START_TEST(test_signatures_are_seen)
{
	struct tcp_segment s = OPTIONS(19, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1, 1);
	ck_assert_uint_eq(s.has, SEG_HAS_SIGNATURE);
}
END_TEST

/* RFC 9293 MUST-6: an unknown option is passed over by its length. */
START_TEST(test_unknown_kinds_are_skipped)
{
	for (unsigned kind = 0; kind < 256; kind++) {
		if (kind <= 5 || kind == 8 || kind == 19)
			continue;
		struct tcp_segment s = OPTIONS(kind, 4, 2, 4, 2, 4, 1, 2);
		ck_assert_uint_eq(s.has, SEG_HAS_MSS);
		ck_assert_uint_eq(s.mss, 0x0102);
		s = OPTIONS(kind, 2, 3, 3, 9);
		ck_assert_uint_eq(s.has, SEG_HAS_WSCALE);
		ck_assert_uint_eq(s.wscale, 9);
	}
}
END_TEST

/* RFC 9293 MUST-7: lengths 0, 1 and past the end stop the processing and harm nothing before them. */
START_TEST(test_lying_lengths)
{
	bool all = true;
	for (unsigned kind = 2; kind < 256; kind++)
		for (unsigned len = 0; len < 256; len++) {
			struct tcp_segment s;
			if (len >= 2 && len <= 4)
				continue; /* fits into the 4 bytes that follow the MSS */
			s = OPTIONS(2, 4, 7, 8, kind, len, 2, 4);
			all &= s.has == SEG_HAS_MSS && s.mss == 0x0708 && s.n_sack == 0;
		}
	ck_assert(all);
	struct tcp_segment s = OPTIONS(1, 1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7); /* one byte too long */
	ck_assert_uint_eq(s.has, 0);
	s = OPTIONS(254, 1, 2, 4, 5, 6); /* a length of 1 does not resume behind the kind */
	ck_assert_uint_eq(s.has, 0);
	s = OPTIONS(254, 0, 2, 4, 5, 6);
	ck_assert_uint_eq(s.has, 0);
	s = OPTIONS(1, 1, 1, 2); /* a kind without room for its length */
	ck_assert_uint_eq(s.has, 0);
}
END_TEST

/* A known kind with a possible but wrong length says nothing, and what follows still counts. */
START_TEST(test_wrong_lengths_of_known_kinds)
{
	static const uint8_t kinds[][2] = {{2, 4}, {3, 3}, {4, 2}, {8, 10}};
	for (unsigned i = 0; i < 4; i++)
		for (uint8_t len = 2; len < 30; len++) {
			uint8_t opt[40] = {kinds[i][0], len};
			if (len == kinds[i][1])
				continue;
			memcpy(opt + len, (uint8_t[]){5, 10, 0, 0, 0, 1, 0, 0, 0, 2}, 10);
			struct tcp_segment s = parse_options_of(opt, sizeof opt);
			ck_assert_uint_eq(s.has, 0);
			ck_assert_uint_eq(s.n_sack, 1);
		}
	for (uint8_t len = 2; len <= 40; len++) { /* SACK: 2 + 8 n only */
		uint8_t opt[40] = {5, len};
		struct tcp_segment s = parse_options_of(opt, sizeof opt);
		ck_assert_uint_eq(s.n_sack, len % 8 == 2 ? len / 8 : 0);
	}
}
END_TEST

/* RFC 7323 §2.3 */
/* Kind 253 with our experiment's identifier; every other one, and every other length, is somebody else's. */
START_TEST(test_close_request)
{
	struct tcp_segment s = {.flags = SEG_SYN, .has = SEG_HAS_MSS | SEG_HAS_SACK_PERMITTED | SEG_HAS_TIMESTAMPS | SEG_HAS_WSCALE |
							 SEG_HAS_CLOSE_CAPABLE}, in;
	uint8_t out[TCP_HDR_MAX];
	size_t n = tcp_build(&s, out);
	ck_assert_uint_eq(n, 44);
	ck_assert_mem_eq(out + 40, "\xfd\x04\xf1\xfe", 4);
	ck_assert_int_eq(tcp_parse(out, n, &in), 0);
	ck_assert_uint_eq(in.has, s.has);

	s = (struct tcp_segment){.flags = SEG_ACK, .has = SEG_HAS_TIMESTAMPS | SEG_HAS_CLOSE_REQUEST, .close_seq = 0x01020304, .n_sack = 3};
	n = tcp_build(&s, out);
	ck_assert_uint_eq(n, 20 + 12 + 8 + 4 + 2 * 8); /* two of the blocks fit */
	ck_assert_mem_eq(out + 32, "\xfd\x08\xf1\xfe\x01\x02\x03\x04", 8);
	ck_assert_int_eq(tcp_parse(out, n, &in), 0);
	ck_assert(in.has & SEG_HAS_CLOSE_REQUEST);
	ck_assert_uint_eq(in.close_seq, 0x01020304);
	ck_assert_uint_eq(in.n_sack, 2);

	out[34] ^= 1; /* another experiment */
	ck_assert_int_eq(tcp_parse(out, n, &in), 0);
	ck_assert_uint_eq(in.has, SEG_HAS_TIMESTAMPS);
	ck_assert_uint_eq(in.n_sack, 2);
}
END_TEST

START_TEST(test_window_scale_is_at_most_14)
{
	for (unsigned shift = 0; shift < 256; shift++) {
		struct tcp_segment s = OPTIONS(3, 3, shift);
		ck_assert_uint_eq(s.wscale, shift > 14 ? 14 : shift);
	}
}
END_TEST

/* Every combination of options and SACK counts goes through build and parse. */
START_TEST(test_round_trip)
{
	for (unsigned has = 0; has < 16; has++)
		for (unsigned n = 0; n <= TCP_SACK_BLOCKS; n++) {
			uint8_t out[TCP_HDR_MAX + 4];
			struct tcp_segment back, s = {.sport = 1,
						      .dport = 65535,
						      .seq = 0xfffffff0,
						      .ack = 0x80000001,
						      .window = 0xabcd,
						      .urgent = 0x1234,
						      .flags = SEG_ACK | SEG_PSH,
						      .has = has,
						      .wscale = 14,
						      .mss = 536,
						      .ts_val = 0xdeadbeef,
						      .ts_ecr = 0x01020304,
						      .n_sack = n};
			for (unsigned i = 0; i < n; i++)
				s.sack[i] = (struct sack_block){i * 1000, i * 1000 + 7};
			memset(out, 0xee, sizeof out);
			size_t len = tcp_build(&s, out);
			ck_assert_uint_eq(len % 4, 0);
			ck_assert_uint_le(len, TCP_HDR_MAX);
			ck_assert_mem_eq(out + TCP_HDR_MAX, "\xee\xee\xee\xee", 4);
			ck_assert_int_eq(tcp_parse(out, len, &back), 0);
			ck_assert_uint_eq(back.payload_len, 0);
			ck_assert_uint_eq(back.sport, s.sport);
			ck_assert_uint_eq(back.dport, s.dport);
			ck_assert_uint_eq(back.seq, s.seq);
			ck_assert_uint_eq(back.ack, s.ack);
			ck_assert_uint_eq(back.window, s.window);
			ck_assert_uint_eq(back.urgent, s.urgent);
			ck_assert_uint_eq(back.flags, s.flags);
			ck_assert_uint_eq(back.has, has);
			ck_assert_uint_eq(back.mss, has & SEG_HAS_MSS ? 536 : 0);
			ck_assert_uint_eq(back.wscale, has & SEG_HAS_WSCALE ? 14 : 0);
			ck_assert_uint_eq(back.ts_val, has & SEG_HAS_TIMESTAMPS ? s.ts_val : 0);
			ck_assert_uint_eq(back.ts_ecr, has & SEG_HAS_TIMESTAMPS ? s.ts_ecr : 0);
			/* 40 bytes hold the other options and as many blocks as fit behind them. */
			unsigned used = (has & SEG_HAS_MSS ? 4 : 0) + (has & SEG_HAS_WSCALE ? 4 : 0) +
					(has & SEG_HAS_TIMESTAMPS     ? 12 :
					 has & SEG_HAS_SACK_PERMITTED ? 4 :
									0);
			unsigned fit = (40 - used - 4) / 8;
			ck_assert_uint_eq(back.n_sack, n < fit ? n : fit);
			for (unsigned i = 0; i < back.n_sack; i++) {
				ck_assert_uint_eq(back.sack[i].left, s.sack[i].left);
				ck_assert_uint_eq(back.sack[i].right, s.sack[i].right);
			}
		}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("wire/tcp");
	TCase *tc = tcase_create("tcp");
	tcase_add_test(tc, test_parses_linux_syn);
	tcase_add_test(tc, test_builds_linux_syn);
	tcase_add_test(tc, test_truncated_at_every_length);
	tcase_add_test(tc, test_data_offset);
	tcase_add_test(tc, test_every_flag_alone);
	tcase_add_test(tc, test_option_layouts);
	tcase_add_test(tc, test_signatures_are_seen);
	tcase_add_test(tc, test_unknown_kinds_are_skipped);
	tcase_add_test(tc, test_lying_lengths);
	tcase_add_test(tc, test_wrong_lengths_of_known_kinds);
	tcase_add_test(tc, test_close_request);
	tcase_add_test(tc, test_window_scale_is_at_most_14);
	tcase_add_test(tc, test_round_trip);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
