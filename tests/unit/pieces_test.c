/* Packets in pieces: in each order, twice, with what contradicts itself; the whole is what was cut, to the byte. */
#include <linux/if_packet.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "frames.h"
#include "ip/ip.h"
#include "ip/pieces.h"
#include "unit.h"
#include "wire/bytes.h"
#include "wire/checksum.h"

static struct pieces *r;
static struct link_rx whole;
static int64_t now;

static void set_up(void)
{
	r = pieces_new();
	ck_assert_ptr_nonnull(r);
	now = USEC_PER_SEC;
}

static void tear_down(void)
{
	pieces_free(r);
}

static bool given(const uint8_t *frame, uint32_t len)
{
	struct link_rx rx = {.data = frame, .len = len, .wire_len = len, .pkttype = PACKET_HOST, .csum_ok = true};
	struct ip_input in;
	ip_input_parse(&rx, true, &in);
	ck_assert_str_eq(ip_fate_name(in.fate), "Fragment");
	return pieces_add(r, now, &rx, true, &whole);
}

/* `len` bytes of a packet's upper part, from `at` on, come in a frame of their own. True: with them it is whole. */
static bool piece(const uint8_t *frame, uint32_t id, uint32_t at, uint32_t len, bool more, int ecn)
{
	bool v6 = frame[12] == 0x86, is_whole = false;
	uint32_t headers = v6 ? 54 : 34, of_fragment = v6 ? 8 : 0;
	uint8_t p[2000];
	memcpy(p, frame, headers);
	memcpy(p + headers + of_fragment, frame + headers + at, len);
	if (v6) {
		store_be16(p + 18, of_fragment + len);
		p[20] = 44;
		p[15] |= ecn << 4;
		p[headers] = 6;
		p[headers + 1] = 0;
		store_be16(p + headers + 2, at | more);
		store_be32(p + headers + 4, id);
	} else {
		p[15] |= ecn;
		store_be16(p + 16, 20 + len);
		store_be16(p + 18, id);
		store_be16(p + 20, at / 8 | more << 13);
		store_be16(p + 24, 0);
		checksum_store(p + 24, checksum_finish(checksum_add(0, p + 14, 20)));
	}
	const uint32_t n = headers + of_fragment + len;
	WITH_EXACT_COPY(copy, p, n, is_whole = given(copy, n));
	return is_whole;
}

static void ck_is(const uint8_t *frame, uint32_t len, int ecn)
{
	struct ip_input in;
	ck_assert_uint_eq(whole.len, len);
	ck_assert_uint_eq(whole.wire_len, len);
	ip_input_parse(&whole, true, &in);
	ck_assert_str_eq(ip_fate_name(in.fate), "Delivered");
	ck_assert_int_eq(in.ecn, ecn);
	ck_assert_mem_eq(whole.data + (frame[12] == 0x86 ? 54 : 34), frame + (frame[12] == 0x86 ? 54 : 34), len - (frame[12] == 0x86 ? 54 : 34));
}

static const struct {
	const uint8_t *frame;
	uint32_t len, headers;
} frames[] = {{frame_v4_data, sizeof frame_v4_data, 34}, {frame_v6_data, sizeof frame_v6_data, 54}};

static const uint8_t *longer(int i) /* by what a fragment may have behind the end */
{
	static uint8_t bytes[sizeof frame_v6_data + 8];
	memset(bytes, 0, sizeof bytes);
	memcpy(bytes, frames[i].frame, frames[i].len);
	return bytes;
}

#define FIRST 24 /* in IPv6 a first fragment has the whole of TCP's header */
#define FRAME const uint8_t *frame = longer(_i); const uint32_t len = frames[_i].len, upper = len - frames[_i].headers

START_TEST(all_orders)
{
	static const uint8_t orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
	FRAME;
	for (int o = 0; o < 6; o++)
		for (int k = 0; k < 3; k++) {
			const uint32_t cuts[] = {0, FIRST, FIRST + 8, upper};
			uint32_t at = cuts[orders[o][k]], end = cuts[orders[o][k] + 1];
			ck_assert_int_eq(piece(frame, 7 + o, at, end - at, end != upper, 0), k == 2);
			if (k < 2) /* once more: passed over */
				ck_assert(!piece(frame, 7 + o, at, end - at, end != upper, 0));
			else
				ck_is(frame, len, 0);
		}
}
END_TEST

START_TEST(two_at_once)
{
	FRAME;
	ck_assert(!piece(frame, 1, 0, FIRST, true, 0));
	ck_assert(!piece(frame, 2, FIRST, upper - FIRST, false, 0));
	ck_assert(piece(frame, 1, FIRST, upper - FIRST, false, 0));
	ck_is(frame, len, 0);
	ck_assert(piece(frame, 2, 0, FIRST, true, 0));
	ck_is(frame, len, 0);
}
END_TEST

/* What overlaps spoils the packet: the rest of it makes up nothing. */
START_TEST(contradictions)
{
	FRAME;
	(void)len;
	ck_assert(!piece(frame, 1, 0, FIRST, true, 0));
	ck_assert(!piece(frame, 1, FIRST - 8, upper - FIRST + 8, false, 0));
	ck_assert(!piece(frame, 1, FIRST, upper - FIRST, false, 0));
	/* two ends */
	ck_assert(!piece(frame, 2, FIRST, upper - FIRST, false, 0));
	ck_assert(!piece(frame, 2, FIRST - 8, 8, false, 0));
	ck_assert(!piece(frame, 2, 0, FIRST, true, 0));
	/* beyond the end, before it came and after */
	ck_assert(!piece(frame, 3, FIRST + 8, 8, true, 0));
	ck_assert(!piece(frame, 3, FIRST, 8, false, 0));
	ck_assert(!piece(frame, 3, 0, FIRST, true, 0));
	ck_assert(!piece(frame, 4, FIRST, 8, false, 0));
	ck_assert(!piece(frame, 4, FIRST + 8, 8, true, 0));
	ck_assert(!piece(frame, 4, 0, FIRST, true, 0));
	/* only the last may have a length that is no multiple of 8 */
	ck_assert(!piece(frame, 5, 0, FIRST - 1, true, 0));
	ck_assert(!piece(frame, 5, FIRST, upper - FIRST, false, 0));
}
END_TEST

/* RFC 3168 §5.3. */
START_TEST(ecn)
{
	static const struct {
		int a, b, whole;
	} rows[] = {{0, 0, 0}, {1, 1, 1}, {2, 2, 2}, {1, 3, 3}, {3, 2, 3}, {3, 3, 3}, {0, 3, -1}, {3, 0, -1}, {0, 1, -1}, {2, 0, -1}};
	FRAME;
	for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
		ck_assert(!piece(frame, 1, 0, FIRST, true, rows[k].a));
		ck_assert_int_eq(piece(frame, 1, FIRST, upper - FIRST, false, rows[k].b), rows[k].whole >= 0);
		if (rows[k].whole >= 0)
			ck_is(frame, len, rows[k].whole);
	}
}
END_TEST

START_TEST(old_ones_and_too_many)
{
	FRAME;
	ck_assert(!piece(frame, 1, 0, FIRST, true, 0));
	now += (frame[12] == 0x86 ? 60 : 30) * USEC_PER_SEC;
	ck_assert(!piece(frame, 1, FIRST, upper - FIRST, false, 0));
	ck_assert(piece(frame, 1, 0, FIRST, true, 0)); /* to the end that was not old */
	for (int id = 100; id < 200; id++, now++)
		ck_assert(!piece(frame, id, 0, FIRST, true, 0));
	ck_assert(!piece(frame, 100, FIRST, upper - FIRST, false, 0));
	ck_assert(piece(frame, 199, FIRST, upper - FIRST, false, 0));
	ck_is(frame, len, 0);
}
END_TEST

/* The oldest goes, whatever its family lets it live, and also of those that came in one turn. */
START_TEST(oldest_goes)
{
	const uint8_t *v4 = frame_v4_data, *v6 = frame_v6_data;
	const uint32_t upper = sizeof frame_v4_data - 34;
	for (int id = 100; id < 132; id++)
		ck_assert(!piece(v6, id, 0, FIRST, true, 0));
	for (int id = 1; id <= 32; id++)
		ck_assert(!piece(v4, id, 0, FIRST, true, 0));
	for (int id = 1; id <= 32; id++)
		ck_assert(piece(v4, id, FIRST, upper - FIRST, false, 0));
}
END_TEST

/* RFC 8200 §4.5: a first fragment has all headers, or the packet is discarded. IPv4 has no such rule. */
START_TEST(header_is_in_the_first)
{
	FRAME;
	bool v6 = frame[12] == 0x86;
	for (uint32_t first = 8; first <= 16; first += 8) {
		ck_assert(!piece(frame, first, first, upper - first, false, 0));
		ck_assert_int_eq(piece(frame, first, 0, first, true, 0), !v6);
	}
	ck_assert(!piece(frame, 24, 24, upper - 24, false, 0));
	ck_assert(piece(frame, 24, 0, 24, true, 0));
	ck_is(frame, len, 0);
}
END_TEST

/* A whole packet of the greatest length, and one that says that it is longer. */
START_TEST(the_longest)
{
	uint8_t *frame = calloc(1, 34 + 70000);
	memcpy(frame, frame_v4_data, 34);
	memset(frame + 34, 0x5a, 70000);
	uint32_t most = 65535 - 20, at = 0;
	for (; at + 1480 < most; at += 1480)
		ck_assert(!piece(frame, 1, at, 1480, true, 0));
	ck_assert(piece(frame, 1, at, most - at, false, 0));
	ck_assert_uint_eq(whole.len, 34 + most);
	for (at = 0; at + 1480 < most; at += 1480)
		ck_assert(!piece(frame, 2, at, 1480, true, 0));
	ck_assert(!piece(frame, 2, at, most + 1 - at, false, 0));
	free(frame);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pieces");
	TCase *t = tcase_create("all");
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_loop_test(t, all_orders, 0, 2);
	tcase_add_loop_test(t, two_at_once, 0, 2);
	tcase_add_loop_test(t, contradictions, 0, 2);
	tcase_add_loop_test(t, ecn, 0, 2);
	tcase_add_loop_test(t, old_ones_and_too_many, 0, 2);
	tcase_add_test(t, oldest_goes);
	tcase_add_loop_test(t, header_is_in_the_first, 0, 2);
	tcase_add_test(t, the_longest);
	suite_add_tcase(s, t);
	return suite_main(s);
}
