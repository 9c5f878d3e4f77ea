/*
 * TCP Fast Open (RFC 7413): keys, cookies as the kernel makes them, what becomes of a SYN, and the connection that one
 * opens.
 */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "tcp/fastopen.h"
#include "test_memory.h"
#include "tests/suite.h"

#define ISS UINT32_C(0xfffffff8)
#define IRS UINT32_C(0xffffff00)

/*
 * As the kernel (6.18) gave them out for 192.0.2.1 to 192.168.0.1 and for fd3d:fa7b:d17d::1 to fd3d:a0b:17d6::1, with
 * the key 00 01 … 0f.
 */
static const uint8_t key[FASTOPEN_KEY_BYTES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const uint8_t cookie_v4[] = {0x41, 0xa9, 0xf9, 0x7e, 0x16, 0x8a, 0x1b, 0x96};
static const uint8_t cookie_v6[] = {0xfd, 0x62, 0x03, 0x9a, 0xfa, 0xf7, 0x5a, 0x4f};

static struct flow_key flow_v4(void)
{
	return (struct flow_key){ip_addr_from_v4("\xc0\xa8\0\1"), ip_addr_from_v4("\xc0\0\2\1"), 8080, 40000};
}

static struct flow_key flow_v6(void)
{
	struct flow_key f = {.lport = 8080, .rport = 40000};
	ck_assert_int_eq(ip_addr_parse("fd3d:a0b:17d6::1", &f.laddr), 0);
	ck_assert_int_eq(ip_addr_parse("fd3d:fa7b:d17d::1", &f.raddr), 0);
	return f;
}

static struct tcp_segment syn_with(uint8_t has, const uint8_t *cookie, unsigned len, uint32_t payload)
{
	static uint8_t bytes[2000];
	return (struct tcp_segment){.sport = 40000, .dport = 8080, .seq = IRS, .flags = SEG_SYN, .window = 3000, .has = has | SEG_HAS_MSS, .mss = 1000, .cookie = cookie,
				    .cookie_len = len, .payload = {{bytes, payload}}, .payload_len = payload};
}

START_TEST(keys_are_the_settings)
{
	struct fastopen_keys k;
	ck_assert(fastopen_keys_parse("03020100-07060504-0b0a0908-0f0e0d0c\n", &k));
	ck_assert_uint_eq(k.n, 1);
	ck_assert_mem_eq(k.key[0], key, sizeof key);
	ck_assert(fastopen_keys_parse("1-2-3-4,03020100-07060504-0b0a0908-0f0e0d0c", &k));
	ck_assert_uint_eq(k.n, 2);
	ck_assert_mem_eq(k.key[1], key, sizeof key);
	ck_assert(!fastopen_keys_parse("", &k));
	ck_assert(!fastopen_keys_parse("1-2-3", &k));
	ck_assert(!fastopen_keys_parse("1-2-3-", &k));
	ck_assert(!fastopen_keys_parse("100000000-2-3-4", &k));
}
END_TEST

START_TEST(cookies_are_the_kernels)
{
	struct fastopen_keys k = {.n = 1};
	struct fastopen_cookie c;
	struct flow_key v4 = flow_v4(), v6 = flow_v6();
	struct tcp_segment ask = syn_with(SEG_HAS_FASTOPEN, NULL, 0, 100);
	memcpy(k.key[0], key, sizeof key);
	ck_assert_int_eq(fastopen_judge(&k, &v4, &ask, false, &c), FASTOPEN_REQUEST);
	ck_assert(c.there && !c.old);
	ck_assert_uint_eq(c.len, sizeof cookie_v4);
	ck_assert_mem_eq(c.val, cookie_v4, sizeof cookie_v4);
	ck_assert_int_eq(fastopen_judge(&k, &v6, &ask, false, &c), FASTOPEN_REQUEST);
	ck_assert_mem_eq(c.val, cookie_v6, sizeof cookie_v6);
}
END_TEST

START_TEST(what_becomes_of_a_syn)
{
	struct fastopen_keys k = {.n = 1}, both = {.n = 2}, none = {.n = 0};
	struct fastopen_cookie c;
	struct flow_key flow = flow_v4();
	memcpy(k.key[0], key, sizeof key);
	memcpy(both.key[1], key, sizeof key);
	struct tcp_segment good = syn_with(SEG_HAS_FASTOPEN, cookie_v4, 8, 100), bad = syn_with(SEG_HAS_FASTOPEN_OLD, cookie_v6, 8, 100);
	struct tcp_segment brief = syn_with(SEG_HAS_FASTOPEN, cookie_v4, 6, 100), text = syn_with(0, NULL, 0, 100), bare = syn_with(0, NULL, 0, 0);
	ck_assert_int_eq(fastopen_judge(&k, &flow, &good, false, &c), FASTOPEN_TAKEN);
	ck_assert(!c.there);
	ck_assert_int_eq(fastopen_judge(&both, &flow, &good, false, &c), FASTOPEN_TAKEN);
	ck_assert(c.there); /* of the first key */
	ck_assert_mem_ne(c.val, cookie_v4, 8);
	ck_assert_int_eq(fastopen_judge(&k, &flow, &bad, false, &c), FASTOPEN_REFUSED);
	ck_assert(c.there && c.old);
	ck_assert_mem_eq(c.val, cookie_v4, 8);
	ck_assert_int_eq(fastopen_judge(&k, &flow, &brief, false, &c), FASTOPEN_REFUSED);
	ck_assert_int_eq(fastopen_judge(&none, &flow, &good, false, &c), FASTOPEN_REFUSED);
	ck_assert(!c.there);
	ck_assert_int_eq(fastopen_judge(&k, &flow, &text, false, &c), FASTOPEN_NONE);
	ck_assert_int_eq(fastopen_judge(&k, &flow, &text, true, &c), FASTOPEN_TAKEN);
	ck_assert_int_eq(fastopen_judge(&k, &flow, &bare, true, &c), FASTOPEN_NONE);
}
END_TEST

/*
 * Every even length that a cookie may have comes through the wire, in both forms; others do not, and none does but in a
 * SYN.
 */
START_TEST(option_on_the_wire)
{
	uint8_t out[TCP_HDR_MAX], cookie[18] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18};
	for (unsigned len = 0; len <= sizeof cookie; len++) {
		for (unsigned old = 0; old < 2; old++) {
			struct tcp_segment in, s = syn_with(old ? SEG_HAS_FASTOPEN_OLD : SEG_HAS_FASTOPEN, cookie, len, 0);
			bool good = len % 2 == 0 && (len == 0 || (len >= SEG_COOKIE_MIN && len <= SEG_COOKIE_MAX));
			size_t n = tcp_build(&s, out);
			ck_assert_uint_eq(n % 4, 0);
			ck_assert_int_eq(tcp_parse(out, n, &in), 0);
			ck_assert_uint_eq(in.has, good ? s.has : SEG_HAS_MSS);
			if (good) {
				ck_assert_uint_eq(in.cookie_len, len);
				ck_assert(!len || memcmp(in.cookie, cookie, len) == 0);
			}
			s.flags = SEG_ACK;
			ck_assert_int_eq(tcp_parse(out, tcp_build(&s, out), &in), 0);
			ck_assert_uint_eq(in.has, SEG_HAS_MSS);
		}
	}
	struct tcp_segment in, s = syn_with(SEG_HAS_FASTOPEN | SEG_HAS_TIMESTAMPS | SEG_HAS_SACK_PERMITTED | SEG_HAS_WSCALE | SEG_HAS_CLOSE_CAPABLE, cookie, 16, 0);
	size_t n = tcp_build(&s, out); /* no room */
	ck_assert_uint_le(n, TCP_HDR_MAX);
	ck_assert_int_eq(tcp_parse(out, n, &in), 0);
	ck_assert_uint_eq(in.has, s.has & ~SEG_HAS_FASTOPEN);
}
END_TEST

/* ---- the connection ---- */

struct wire {
	struct tcp_emit emit;
	struct tcp_segment seg[4];
	uint8_t cookie[SEG_COOKIE_MAX];
	unsigned n;
};

static void keep(struct tcp_emit *emit, struct tcp_conn *c, const struct tcp_segment *seg, uint16_t gso_size)
{
	struct wire *out = (struct wire *)emit;
	(void)c;
	(void)gso_size;
	ck_assert_uint_lt(out->n, 4);
	out->seg[out->n++] = *seg;
	if (seg->cookie_len)
		memcpy(out->cookie, seg->cookie, seg->cookie_len);
}

static struct test_memory memory;
static struct tcp_stack stack;
static struct tcp_conn conn;
static struct wire out;

static void opens(uint32_t payload)
{
	static const uint8_t secret[32];
	struct tcp_config config;
	tcp_config_default(&config);
	test_memory_init(&memory);
	tcp_stack_init(&stack, &config, &memory.memory, secret);
	struct tcp_open open = {.key = flow_v4(), .mss_advertised = 1460, .mss_path = 1460, .cc = tcp_cc_find("cubic"), .iss = ISS, .fastopen = true,
				.cookie = {.there = true, .len = 8}};
	struct tcp_segment syn = syn_with(SEG_HAS_FASTOPEN, cookie_v4, 8, payload);
	tcp_options_default(&open.options);
	ck_assert_int_eq(tcp_open_passive(&conn, &stack, USEC_PER_SEC, &open, &syn), 0);
	out = (struct wire){.emit.segment = keep};
	tcp_output(&conn, USEC_PER_SEC, &out.emit);
}

static void ends(void)
{
	tcp_fini(&conn);
	ck_assert_uint_eq(memory.live_blocks, 0);
}

START_TEST(text_and_answer_before_the_last_ack)
{
	uint8_t bytes[2000];
	struct iovec iov = {bytes, sizeof bytes};
	opens(500);
	ck_assert_uint_eq(out.n, 1);
	ck_assert_uint_eq(out.seg[0].flags, SEG_SYN | SEG_ACK);
	ck_assert_uint_eq(out.seg[0].ack, IRS + 501);
	ck_assert(out.seg[0].has & SEG_HAS_FASTOPEN);
	ck_assert_int_eq(tcp_state(&conn), TCPS_SYN_RECEIVED);
	ck_assert(tcp_is_writable(&conn) && !tcp_is_opening(&conn));
	ck_assert_int_eq(tcp_recv(&conn, USEC_PER_SEC, &iov, 1, false, false), 500);
	iov.iov_len = 1000;
	ck_assert_int_eq(tcp_send(&conn, USEC_PER_SEC, &iov, 1, false, false), 1000);
	out.n = 0;
	tcp_output(&conn, USEC_PER_SEC, &out.emit);
	ck_assert_uint_eq(out.n, 1);
	ck_assert_uint_eq(out.seg[0].seq, ISS + 1);
	ck_assert_uint_eq(out.seg[0].payload_len, 1000);
	/* The SYN-ACK is lost: it alone goes again, as it was but for the cookie. */
	int64_t now = tcp_next_deadline(&conn);
	ck_assert_int_eq(now, 2 * USEC_PER_SEC);
	tcp_tick(&conn, now);
	out.n = 0;
	tcp_output(&conn, now, &out.emit);
	ck_assert_uint_eq(out.n, 1);
	ck_assert_uint_eq(out.seg[0].flags, SEG_SYN | SEG_ACK);
	ck_assert_uint_eq(out.seg[0].seq, ISS);
	ck_assert_uint_eq(out.seg[0].ack, IRS + 501);
	ck_assert(!(out.seg[0].has & SEG_HAS_FASTOPEN));
	struct tcp_segment ack = {.sport = 40000, .dport = 8080, .seq = IRS + 501, .ack = ISS + 1001, .flags = SEG_ACK, .window = 3000};
	tcp_input(&conn, now, &ack);
	ck_assert_int_eq(tcp_state(&conn), TCPS_ESTABLISHED);
	ck_assert_uint_eq(tcp_unacked_bytes(&conn), 0);
	tcp_abort(&conn, now);
	ends();
}
END_TEST

START_TEST(reset_before_the_last_ack_is_told)
{
	opens(500);
	struct tcp_segment rst = {.sport = 40000, .dport = 8080, .seq = IRS + 501, .flags = SEG_RST};
	tcp_input(&conn, USEC_PER_SEC, &rst);
	ck_assert_int_eq(tcp_state(&conn), TCPS_CLOSED);
	ck_assert_int_eq(tcp_error(&conn), ECONNRESET);
	ends();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fastopen");
	TCase *tc = tcase_create("all");
	tcase_add_test(tc, keys_are_the_settings);
	tcase_add_test(tc, cookies_are_the_kernels);
	tcase_add_test(tc, what_becomes_of_a_syn);
	tcase_add_test(tc, option_on_the_wire);
	tcase_add_test(tc, text_and_answer_before_the_last_ack);
	tcase_add_test(tc, reset_before_the_last_ack_is_told);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
