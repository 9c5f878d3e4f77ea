/*
 * Explicit congestion notification (RFC 3168) and DCTCP (RFC 8257) in the core: agreed in the SYN exchange, marks
 * echoed, echoes answered.
 */
#include "harness.h"

#include <string.h>

#define SEG(k) (1 + (uint32_t)(k) * H_MSS)
#define SETUP  (SEG_ECE | SEG_CWR)

/*
 * A listener that a SYN with `flags` and the IP header's `ecn` reaches; the SYN-ACK that answers, without looking at
 * its flags.
 */
static struct h_out *answered(struct harness *h, uint8_t flags, uint8_t ecn)
{
	struct tcp_segment syn = h_syn(h, SEG_SYN | flags);
	syn.ecn = ecn;
	ck_assert_int_eq(tcp_open_passive(&h->c, &h->stack, h->now, &h->open, &syn), 0);
	h->live = true;
	h->peer_nxt = 1;
	h_output(h);
	struct h_out *o = h_take(h);
	ck_assert_ptr_nonnull(o);
	return o;
}

static struct harness *listening(uint8_t ecn)
{
	struct harness *h = h_new(H_ALL);
	h->stack.config.ecn = ecn;
	h->open.options.user_sndbuf = true;
	h->open.options.sndbuf_bytes = 1 << 20;
	return h;
}

/* A server's connection with ECN. */
static struct harness *agreed(const struct tcp_cc_ops *cc)
{
	struct harness *h = listening(TCP_ECN_ACCEPT);
	h->open.cc = cc;
	ck_assert_uint_eq(answered(h, SETUP, ECN_NOT_ECT)->seg.flags, SEG_SYN | SEG_ACK | SEG_ECE);
	h_advance(h, H_RTT);
	h_peer_ack(h, 1);
	h_silence(h);
	ck_assert(h_status(h).ecn);
	return h;
}

static void text_with(struct harness *h, uint8_t flags, uint8_t ecn)
{
	struct tcp_segment s = h_seg(h, SEG_ACK | flags, 0, h_snd_nxt(h), H_MSS);
	s.ecn = ecn;
	h->peer_nxt += H_MSS;
	h_input(h, &s);
}

/* SHLD-8. */
START_TEST(RFC3168_6_1_1_passive)
{
	static const struct {
		uint8_t setting, flags, ecn;
		bool agrees;
	} cases[] = {
		{TCP_ECN_OFF, SETUP, ECN_NOT_ECT, false},	{TCP_ECN_ON, SETUP, ECN_NOT_ECT, true},
		{TCP_ECN_ACCEPT, SETUP, ECN_NOT_ECT, true},	{TCP_ECN_ACCEPT, SEG_ECE, ECN_NOT_ECT, false},
		{TCP_ECN_ACCEPT, SEG_CWR, ECN_NOT_ECT, false},	{TCP_ECN_ACCEPT, 0, ECN_NOT_ECT, false},
		{TCP_ECN_ACCEPT, SETUP, ECN_ECT_0, false}, /* a host whose bits something sets */
		{TCP_ECN_ACCEPT, SETUP, ECN_CE, false},
	};
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct harness *h = listening(cases[i].setting);
		struct h_out *o = answered(h, cases[i].flags, cases[i].ecn);
		ck_assert_msg(!!(o->seg.flags & SEG_ECE) == cases[i].agrees, "case %u", i);
		ck_assert(!(o->seg.flags & SEG_CWR));
		ck_assert_uint_eq(o->seg.ecn, ECN_NOT_ECT);
		ck_assert_int_eq(h_status(h).ecn, cases[i].agrees);
		h_free(h);
	}
}
END_TEST

/* The route's feature is enough, whatever the setting. */
START_TEST(route_feature)
{
	struct harness *h = listening(TCP_ECN_OFF);
	h->open.ecn_route = true;
	ck_assert_uint_eq(answered(h, SETUP, ECN_NOT_ECT)->seg.flags, SEG_SYN | SEG_ACK | SEG_ECE);
	h_free(h);
	h = h_new(H_ALL | H_ACTIVE);
	h->open.ecn_route = true;
	ck_assert_int_eq(tcp_open_active(&h->c, &h->stack, h->now, &h->open), 0);
	h->live = true;
	h_output(h);
	ck_assert_uint_eq(h_take(h)->seg.flags, SEG_SYN | SETUP);
	h_free(h);
}
END_TEST

static struct harness *asking(uint8_t setting, bool fallback)
{
	struct harness *h = h_new(H_ALL | H_ACTIVE);
	h->stack.config.ecn = setting;
	h->stack.config.ecn_fallback = fallback;
	ck_assert_int_eq(tcp_open_active(&h->c, &h->stack, h->now, &h->open), 0);
	h->live = true;
	h_output(h);
	return h;
}

START_TEST(RFC3168_6_1_1_active)
{
	static const struct {
		uint8_t setting, answer;
		bool asks, agrees;
	} cases[] = {
		{TCP_ECN_OFF, SEG_ECE, false, false}, {TCP_ECN_ACCEPT, SEG_ECE, false, false},
		{TCP_ECN_ON, SEG_ECE, true, true},    {TCP_ECN_ON, 0, true, false},
		{TCP_ECN_ON, SETUP, true, false}, /* a host that reflects bits it does not know */
	};
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct harness *h = asking(cases[i].setting, true);
		ck_assert_uint_eq(h_take(h)->seg.flags, SEG_SYN | (cases[i].asks ? SETUP : 0));
		h_advance(h, H_RTT);
		struct tcp_segment syn_ack = h_syn(h, SEG_SYN | SEG_ACK | cases[i].answer);
		h->peer_nxt = 1;
		h_input(h, &syn_ack);
		h_expect(h, SEG_ACK, 1, 1, 0);
		ck_assert_msg(h_status(h).ecn == cases[i].agrees, "case %u", i);
		h_free(h);
	}
}
END_TEST

/* net.ipv4.tcp_ecn_fallback: what drops SYNs that ask is not asked again. */
START_TEST(a_repeated_syn_does_not_ask)
{
	for (int fallback = 0; fallback < 2; fallback++) {
		struct harness *h = asking(TCP_ECN_ON, fallback);
		ck_assert_uint_eq(h_take(h)->seg.flags, SEG_SYN | SETUP);
		h_next(h);
		ck_assert_uint_eq(h_take(h)->seg.flags, SEG_SYN | (fallback ? 0 : SETUP));
		h_free(h);
	}
}
END_TEST

/* §6.1.3: ECE from the mark until the sender says CWR, and at once. */
START_TEST(RFC3168_6_1_3_a_mark_is_echoed_until_cwr)
{
	struct harness *h = agreed(&tcp_cc_newreno);
	text_with(h, 0, ECN_CE);
	h_expect(h, SEG_ACK | SEG_ECE, 1, SEG(1), 0);
	text_with(h, 0, ECN_ECT_0);
	h_expect(h, SEG_ACK | SEG_ECE, 1, SEG(2), 0);
	text_with(h, SEG_CWR, ECN_ECT_0);
	h_expect(h, SEG_ACK, 1, SEG(3), 0);
	ck_assert(h_status(h).ecn_seen);
	h_free(h);
}
END_TEST

START_TEST(without_ecn_marks_are_nothing)
{
	struct harness *h = h_new(H_ALL);
	h_establish(h);
	for (int i = 0; i < 2; i++)
		text_with(h, 0, ECN_CE);
	for (struct h_out *o; (o = h_take(h));)
		ck_assert_uint_eq(o->seg.flags & SETUP, 0);
	h_send(h, H_MSS);
	ck_assert_uint_eq(h_take(h)->seg.ecn, ECN_NOT_ECT);
	h_free(h);
}
END_TEST

static void send_segs(struct harness *h, uint32_t n)
{
	h_send(h, n * H_MSS);
	for (struct h_out *o; (o = h_take(h));)
		ck_assert_uint_eq(o->seg.ecn, ECN_ECT_0);
	h_drain(h);
}

/* §6.1.2: the window is halved once a round trip, the first new segment says CWR, and only that. */
START_TEST(RFC3168_6_1_2_an_echo_halves_the_window_once)
{
	struct harness *h = agreed(&tcp_cc_newreno);
	send_segs(h, 10);
	h_advance(h, H_RTT);
	uint32_t cwnd = h_status(h).cwnd_bytes;
	h_peer(h, SEG_ECE, SEG(2), 0);
	h_peer(h, SEG_ECE, SEG(4), 0);
	h_peer(h, SEG_ECE, SEG(6), 0);
	struct tcp_figures f;
	tcp_get_figures(&h->c, h->now, &f);
	ck_assert(f.cwr);
	ck_assert_uint_eq(f.delivered_ce, 6);
	h_send(h, 8 * H_MSS);
	struct h_out *o = h_take(h);
	ck_assert_uint_eq(o->seg.flags & ~SEG_PSH, SEG_ACK | SEG_CWR);
	while ((o = h_take(h)))
		ck_assert_uint_eq(o->seg.flags & SEG_CWR, 0);
	h_peer(h, 0, h_snd_nxt(h), 0);
	h_drain(h);
	tcp_get_figures(&h->c, h->now, &f);
	ck_assert(!f.cwr);
	ck_assert_uint_eq(h_status(h).ssthresh_bytes, cwnd / 2);
	ck_assert_uint_ge(h_status(h).cwnd_bytes, cwnd / 2);
	ck_assert_uint_le(h_status(h).cwnd_bytes, cwnd / 2 + 2 * H_MSS);
	ck_assert_uint_eq(h_status(h).fast_recoveries, 0);
	h_free(h);
}
END_TEST

/* §6.1.5: "MUST NOT be set" on what is sent again; §6.1.4: nor on bare ACKs. */
START_TEST(RFC3168_6_1_5_only_new_text_is_capable)
{
	struct harness *h = agreed(&tcp_cc_newreno);
	send_segs(h, 1);
	h_timeout(h);
	struct h_out *o;
	while ((o = h_take(h)))
		ck_assert_uint_eq(o->seg.ecn, ECN_NOT_ECT);
	h_peer_ack(h, SEG(1));
	text_with(h, 0, ECN_CE);
	o = h_take(h);
	ck_assert_uint_eq(o->seg.flags, SEG_ACK | SEG_ECE);
	ck_assert_uint_eq(o->seg.ecn, ECN_NOT_ECT);
	h_free(h);
}
END_TEST

/* RFC 8257 §3.2: a segment without a mark that waits for its ACK gets it without ECE when one with a mark comes. */
START_TEST(RFC8257_3_2_each_mark_is_echoed)
{
	struct harness *h = agreed(&tcp_cc_dctcp);
	uint32_t n = 0, answers;
	do { /* past the quick ACKs */
		ck_assert_uint_lt(n, 60);
		h_drain(h);
		text_with(h, 0, ECN_ECT_0);
		answers = h_take(h) != NULL;
		h_recv(h, H_MSS, n++ * H_MSS);
		answers += h_take(h) != NULL;
	} while (answers);
	text_with(h, 0, ECN_CE);
	h_expect(h, SEG_ACK, 1, SEG(n), 0);
	struct h_out *o = h_expect(h, SEG_ACK | SEG_ECE, 1, SEG(n + 1), 0);
	ck_assert_uint_eq(o->seg.ecn, ECN_ECT_0);
	text_with(h, 0, ECN_ECT_0);
	h_expect(h, SEG_ACK, 1, SEG(n + 2), 0);
	h_free(h);
}
END_TEST

/* RFC 8257 §3.3: after windows without marks, alpha is small, and so is what a mark costs. A loss halves. */
START_TEST(RFC8257_3_3_the_share_of_marks)
{
	struct harness *h = agreed(&tcp_cc_dctcp);
	for (int i = 0; i < 80; i++) { /* alpha *= 15/16, 80 times: less than 1 % */
		send_segs(h, 10);
		h_advance(h, H_RTT);
		h_peer_ack(h, h_snd_nxt(h));
	}
	h_send(h, 10 * H_MSS);
	h_drain(h);
	h_advance(h, H_RTT);
	uint32_t cwnd = h_status(h).cwnd_bytes, una = h_snd_nxt(h) - 10 * H_MSS;
	h_peer(h, SEG_ECE, una + 2 * H_MSS, 0);
	ck_assert_uint_lt(h_status(h).ssthresh_bytes, cwnd);
	ck_assert_uint_ge(h_status(h).ssthresh_bytes, cwnd - cwnd / 10);
	h_drain(h);
	h_free(h);
}
END_TEST

START_TEST(dctcp_without_ecn_is_reno)
{
	struct harness *h = h_new(H_ALL);
	h->open.cc = &tcp_cc_dctcp;
	h_establish(h);
	ck_assert_str_eq(h_status(h).cc_name, "dctcp-reno");
	h_send(h, H_MSS);
	ck_assert_uint_eq(h_take(h)->seg.ecn, ECN_NOT_ECT);
	h_free(h);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ecn");
	TCase *tc = tcase_create("ecn");
	suite_add_tcase(suite, tc);
	tcase_add_test(tc, RFC3168_6_1_1_passive);
	tcase_add_test(tc, route_feature);
	tcase_add_test(tc, RFC3168_6_1_1_active);
	tcase_add_test(tc, a_repeated_syn_does_not_ask);
	tcase_add_test(tc, RFC3168_6_1_3_a_mark_is_echoed_until_cwr);
	tcase_add_test(tc, without_ecn_marks_are_nothing);
	tcase_add_test(tc, RFC3168_6_1_2_an_echo_halves_the_window_once);
	tcase_add_test(tc, RFC3168_6_1_5_only_new_text_is_capable);
	tcase_add_test(tc, RFC8257_3_2_each_mark_is_echoed);
	tcase_add_test(tc, RFC8257_3_3_the_share_of_marks);
	tcase_add_test(tc, dctcp_without_ecn_is_reno);
	return h_main(suite);
}
