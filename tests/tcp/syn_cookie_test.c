/* SYN cookies (RFC 4987 §3.6): what comes back, for how long, and what does not pass. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tcp/syn_cookie.h"
#include "test_memory.h"
#include "tests/suite.h"

#define START (1000 * SYN_COOKIE_PERIOD_US)
#define IRS   UINT32_C(0xffffff00)

static struct test_memory memory;
static struct tcp_stack stack;
static struct syn_cookies cookies;
static struct tcp_open opening;
static int64_t now;
static const uint8_t secret[32] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17};

static void use_family(bool v6)
{
	if (v6) {
		opening.key.laddr = (struct ip_addr){{0xfd, [15] = 1}};
		opening.key.raddr = (struct ip_addr){{0xfd, [15] = 2}};
	} else {
		opening.key.laddr = ip_addr_from_v4("\x0a\0\0\1");
		opening.key.raddr = ip_addr_from_v4("\x0a\0\0\2");
	}
	opening.ts_offset = tcp_ts_offset(&stack, &opening.key);
}

static void setup(void)
{
	struct tcp_config config;
	tcp_config_default(&config);
	test_memory_init(&memory);
	tcp_stack_init(&stack, &config, &memory.memory, secret);
	syn_cookies_init(&cookies, secret);
	now = START;
	opening = (struct tcp_open){
		.key = {.lport = 80, .rport = 40000},
		.mss_advertised = 1460,
		.mss_path = 1460,
		.cc = tcp_cc_find("cubic"),
		.iss = 12345,
	};
	tcp_options_default(&opening.options);
	use_family(false);
}

static void teardown(void)
{
	ck_assert_uint_eq(memory.live_blocks, 0);
}

static struct tcp_segment syn_with(unsigned has, uint16_t mss, uint8_t wscale)
{
	return (struct tcp_segment){.sport = 40000, .dport = 80, .seq = IRS, .flags = SEG_SYN, .window = 64000, .has = has, .mss = mss,
				    .wscale = wscale, .ts_val = 777};
}

static struct tcp_segment ack_of(const struct tcp_segment *synack, uint32_t len)
{
	static uint8_t bytes[100];
	struct tcp_segment a = {.sport = 40000, .dport = 80, .seq = IRS + 1, .ack = synack->seq + 1, .flags = SEG_ACK, .window = 500,
				.payload = {{bytes, len}}, .payload_len = len};
	if (synack->has & SEG_HAS_TIMESTAMPS) {
		a.has = SEG_HAS_TIMESTAMPS;
		a.ts_val = 800;
		a.ts_ecr = synack->ts_val;
	}
	return a;
}

static struct tcp_segment answer(const struct tcp_segment *syn)
{
	struct tcp_segment synack;
	ck_assert_int_eq(syn_cookie_answer(&cookies, &stack, now, &opening, syn, &synack), 0);
	return synack;
}

static bool passes(const struct tcp_segment *ack, const struct flow_key *key)
{
	struct tcp_segment syn;
	uint32_t iss;
	return syn_cookie_check(&cookies, &stack, now, key, ack, &syn, &iss);
}

struct caught {
	struct tcp_emit emit;
	struct tcp_segment seg;
	int n;
};

static void catch(struct tcp_emit *emit, struct tcp_conn *c, const struct tcp_segment *seg, uint16_t gso_size)
{
	struct caught *caught = (struct caught *)emit;
	(void)c;
	(void)gso_size;
	caught->seg = *seg;
	caught->n++;
}

/*
 * Every set of options: the SYN-ACK is the one that a listener with room would send, and the connection is the same,
 * too.
 */
START_TEST(options_come_back)
{
	unsigned has = SEG_HAS_MSS | (_i & 1 ? SEG_HAS_TIMESTAMPS : 0) | (_i & 2 ? SEG_HAS_SACK_PERMITTED : 0) |
		       (_i & 4 ? SEG_HAS_WSCALE : 0) | (_i & 8 ? SEG_HAS_CLOSE_CAPABLE : 0);
	use_family(_i & 16);
	struct tcp_segment syn = syn_with(has, 1440, _i & 1 ? 9 : 0), synack = answer(&syn), again, ack;
	struct tcp_conn ordinary, c;
	struct caught caught = {.emit.segment = catch};
	struct tcp_status a, b;
	uint32_t iss;

	ck_assert_int_eq(tcp_open_passive(&ordinary, &stack, now, &opening, &syn), 0);
	tcp_output(&ordinary, now, &caught.emit);
	ck_assert_int_eq(caught.n, 1);
	ck_assert_uint_eq(synack.flags, SEG_SYN | SEG_ACK);
	ck_assert_uint_eq(synack.ack, IRS + 1);
	ck_assert_uint_eq(synack.mss, caught.seg.mss);
	ck_assert_uint_eq(synack.window, caught.seg.window);
	ck_assert_uint_eq(synack.wscale, caught.seg.wscale);
	ck_assert_uint_eq(synack.ts_ecr, caught.seg.ts_ecr);
	if (_i & 1)
		ck_assert_uint_eq(synack.has, caught.seg.has);
	else
		ck_assert_uint_eq(synack.has, SEG_HAS_MSS);

	now += 30 * USEC_PER_MSEC;
	ack = ack_of(&synack, 10);
	ck_assert(syn_cookie_check(&cookies, &stack, now, &opening.key, &ack, &again, &iss));
	ck_assert_uint_eq(iss, synack.seq);
	ck_assert_uint_eq(again.seq, IRS);
	opening.iss = iss;
	ck_assert_int_eq(tcp_open_cookie(&c, &stack, now, &opening, &again), 0);
	tcp_input(&c, now, &ack);
	ck_assert_int_eq(tcp_state(&c), TCPS_ESTABLISHED);
	ck_assert_uint_eq(tcp_readable_bytes(&c), 10); /* data on the ACK */
	ck_assert_uint_eq(tcp_take_events(&c) & (TCP_EV_CONNECTED | TCP_EV_READABLE), TCP_EV_CONNECTED | TCP_EV_READABLE);
	tcp_get_status(&c, &a);
	tcp_get_status(&ordinary, &b);
	ck_assert_uint_eq(a.timestamps, b.timestamps);
	ck_assert_uint_eq(a.sack, _i & 1 ? b.sack : false);
	ck_assert_uint_eq(a.wscale, _i & 1 ? b.wscale : false);
	ck_assert_uint_eq(a.snd_wscale, _i & 1 ? b.snd_wscale : 0);
	ck_assert_uint_eq(a.rcv_wscale, _i & 1 ? b.rcv_wscale : 0);
	ck_assert_uint_eq(a.close_request, _i & 1 ? b.close_request : false);
	if (a.timestamps) { /* nobody knows when the SYN-ACK left, but its time stamp tells, within the 64 ms that it spends on options */
		ck_assert_int_ge(a.handshake_rtt_us, 29 * USEC_PER_MSEC);
		ck_assert_int_le(a.handshake_rtt_us, (30 + 64) * USEC_PER_MSEC);
	} else {
		ck_assert_int_eq(a.handshake_rtt_us, 0);
	}
	ck_assert_uint_eq(a.snd_wnd, 500u << a.snd_wscale);
	caught.n = 0;
	tcp_output(&c, now, &caught.emit);
	ck_assert(!caught.n || !(caught.seg.flags & SEG_SYN));
	if (caught.n && (_i & 1)) /* our clock does not go back for the peer */
		ck_assert_int_ge((int32_t)(caught.seg.ts_val - synack.ts_val), 0);
	tcp_fini(&c);
	tcp_fini(&ordinary);
}
END_TEST

START_TEST(every_mss_has_its_class)
{
	static const uint16_t v4[] = {536, 1300, 1440, 1460}, v6[] = {1220, 1420, 1440, 8940};
	const uint16_t *table = _i ? v6 : v4;
	use_family(_i);
	for (unsigned mss = 1; mss <= UINT16_MAX; mss += mss < 1500 ? 1 : 97) {
		struct tcp_segment syn = syn_with(SEG_HAS_MSS, mss, 0), synack = answer(&syn), ack = ack_of(&synack, 0), again;
		uint32_t iss;
		uint16_t want = table[0];
		for (int i = 0; i < 4; i++)
			if (table[i] <= mss)
				want = table[i];
		ck_assert(syn_cookie_check(&cookies, &stack, now, &opening.key, &ack, &again, &iss));
		if (again.mss != want)
			ck_abort_msg("mss %u came back as %u", mss, again.mss);
	}
	struct tcp_segment syn = syn_with(0, 0, 0), synack = answer(&syn), ack = ack_of(&synack, 0), again;
	uint32_t iss;
	ck_assert(syn_cookie_check(&cookies, &stack, now, &opening.key, &ack, &again, &iss));
	ck_assert_uint_eq(again.mss, table[0]); /* RFC 9293 MUST-15 */
}
END_TEST

START_TEST(valid_for_one_to_two_periods)
{
	now = START + _i * (SYN_COOKIE_PERIOD_US / 8);
	struct tcp_segment syn = syn_with(SEG_HAS_MSS, 1460, 0), synack = answer(&syn), ack = ack_of(&synack, 0);
	int64_t sent = now;
	for (; now <= sent + SYN_COOKIE_PERIOD_US; now += USEC_PER_SEC)
		ck_assert(passes(&ack, &opening.key));
	now = sent + SYN_COOKIE_VALID_US;
	ck_assert(!passes(&ack, &opening.key));
	now = sent + 100 * SYN_COOKIE_PERIOD_US;
	ck_assert(!passes(&ack, &opening.key));
	now = sent;
	ck_assert(passes(&ack, &opening.key)); /* the keys are functions of time alone */
}
END_TEST

START_TEST(of_this_4_tuple_only)
{
	struct tcp_segment syn = syn_with(SEG_HAS_MSS, 1460, 0), synack = answer(&syn), ack = ack_of(&synack, 0);
	struct flow_key other = opening.key;
	ck_assert(passes(&ack, &other));
	other.rport++;
	ck_assert(!passes(&ack, &other));
	other = opening.key;
	other.lport++;
	ck_assert(!passes(&ack, &other));
	other = opening.key;
	other.raddr.b[15]++;
	ck_assert(!passes(&ack, &other));
	other = opening.key;
	other.laddr.b[15]++;
	ck_assert(!passes(&ack, &other));
}
END_TEST

START_TEST(forged_ones_do_not_pass)
{
	struct tcp_segment syn = syn_with(SEG_HAS_MSS, 1460, 0), synack = answer(&syn), ack = ack_of(&synack, 0), bad = ack;
	for (int bit = 0; bit < 32; bit++) {
		bad = ack;
		bad.ack ^= UINT32_C(1) << bit;
		ck_assert(!passes(&bad, &opening.key));
		bad = ack;
		bad.seq ^= UINT32_C(1) << bit;
		ck_assert(!passes(&bad, &opening.key));
	}
	bad = ack;
	for (uint32_t i = 0; i < 100000; i++) {
		bad.ack = i * UINT32_C(2654435761);
		if (bad.ack != ack.ack && passes(&bad, &opening.key))
			ck_abort_msg("ack %u passes", bad.ack);
	}
	for (unsigned flags = 0; flags < 64; flags++) {
		bad = ack;
		bad.flags = flags;
		ck_assert_int_eq(passes(&bad, &opening.key), (flags & (SEG_SYN | SEG_ACK | SEG_RST)) == SEG_ACK);
	}
	syn_cookies_init(&cookies, secret + 1); /* another engine's */
	ck_assert(!passes(&ack, &opening.key));
}
END_TEST

START_TEST(no_syn_no_answer)
{
	struct tcp_segment syn = syn_with(SEG_HAS_MSS, 1460, 0), out;
	syn.flags = SEG_SYN | SEG_ACK;
	ck_assert_int_lt(syn_cookie_answer(&cookies, &stack, now, &opening, &syn, &out), 0);
	opening.mss_path = 1;
	syn.flags = SEG_SYN;
	ck_assert_int_lt(syn_cookie_answer(&cookies, &stack, now, &opening, &syn, &out), 0);
}
END_TEST

/* 64 ms of clock, at every place of its low bits. */
START_TEST(timestamps_do_not_run_ahead)
{
	for (int i = 0; i < 64; i++, now += USEC_PER_MSEC) {
		struct tcp_segment syn = syn_with(SEG_HAS_MSS | SEG_HAS_TIMESTAMPS | SEG_HAS_WSCALE, 1460, _i), synack = answer(&syn);
		uint32_t clock = (uint32_t)(now / USEC_PER_MSEC) + opening.ts_offset;
		ck_assert_int_le((int32_t)(synack.ts_val - clock), 0);
		ck_assert_int_gt((int32_t)(synack.ts_val - clock), -64);
		ck_assert_uint_eq((synack.ts_val - opening.ts_offset) & 15, _i);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tcp/syn_cookie");
	TCase *tc = tcase_create("cookies");
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, options_come_back, 0, 32);
	tcase_add_loop_test(tc, every_mss_has_its_class, 0, 2);
	tcase_add_loop_test(tc, valid_for_one_to_two_periods, 0, 8);
	tcase_add_test(tc, of_this_4_tuple_only);
	tcase_add_test(tc, forged_ones_do_not_pass);
	tcase_add_test(tc, no_syn_no_answer);
	tcase_add_loop_test(tc, timestamps_do_not_run_ahead, 0, 15);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
