/*
 * Options of the handshake and of every segment: MSS (RFC 9293 §3.7.1), timestamps, PAWS and window scale (RFC 7323),
 * SACK; ICMP; snapshots.
 */
#include "harness.h"

#include "tcp/snapshot.h"
#include "tcp/ts_clock.h"

#include <limits.h>

#define SYN_OPTIONS (SEG_HAS_MSS | SEG_HAS_WSCALE | SEG_HAS_SACK_PERMITTED | SEG_HAS_TIMESTAMPS)

/* ---- what is offered, and what is agreed ---- */

START_TEST(MUST_14_syn_offers)
{
	struct harness *h = h_new(H_ALL | H_ACTIVE);
	ck_assert_int_eq(tcp_open_active(&h->c, &h->stack, h->now, &h->open), 0);
	h->live = true;
	h_output(h);
	struct h_out *o = h_expect(h, SEG_SYN, 0, 0, 0);
	ck_assert_uint_eq(o->seg.has, SYN_OPTIONS);
	ck_assert_uint_eq(o->seg.mss, h->open.mss_advertised);
	ck_assert_uint_eq(o->seg.ts_val, tcp_ts_now(h->now, h->open.ts_offset));
	ck_assert_uint_eq(o->seg.ts_ecr, 0);
	ck_assert_uint_le(o->seg.wscale, 14);
	ck_assert_uint_gt(o->seg.window, 0);
	h_free(h);
}
END_TEST

/*
 * Every combination of what each side wants: an option is used when both SYNs had it, and a SYN-ACK answers only what
 * was offered.
 */
START_TEST(agreed_when_both_offer)
{
	unsigned ours = _i & 7, theirs = _i >> 3 & 7;
	struct harness *h = h_new(theirs | (_i & 64 ? H_ACTIVE : 0));
	h->stack.config.timestamps = ours & H_TS;
	h->stack.config.sack = ours & H_SACK;
	h->stack.config.window_scaling = ours & H_WSCALE;
	unsigned both = ours & theirs;
	struct tcp_segment syn = h_syn(h, SEG_SYN), syn_ack = h_syn(h, SEG_SYN | SEG_ACK);
	h->live = true;
	if (h->passive) {
		ck_assert_int_eq(tcp_open_passive(&h->c, &h->stack, h->now, &h->open, &syn), 0);
		h_output(h);
		struct h_out *o = h_expect(h, SEG_SYN | SEG_ACK, 0, 1, 0);
		ck_assert_uint_eq(o->seg.has, SEG_HAS_MSS | (both & H_TS ? SEG_HAS_TIMESTAMPS : 0) |
						      (both & H_SACK ? SEG_HAS_SACK_PERMITTED : 0) |
						      (both & H_WSCALE ? SEG_HAS_WSCALE : 0));
		if (both & H_TS)
			ck_assert_uint_eq(o->seg.ts_ecr, syn.ts_val);
	} else {
		ck_assert_int_eq(tcp_open_active(&h->c, &h->stack, h->now, &h->open), 0);
		h_output(h);
		h_expect(h, SEG_SYN, 0, 0, 0);
		h_input(h, &syn_ack);
		h_expect(h, SEG_ACK, 1, 1, 0);
	}
	h->peer_nxt = 1;
	h->features = both; /* what the peer uses from now on */
	if (h->passive)
		h_peer_ack(h, 1);
	h_state(h, TCPS_ESTABLISHED);
	struct tcp_status st = h_status(h);
	ck_assert_int_eq(st.timestamps, !!(both & H_TS));
	ck_assert_int_eq(st.sack, !!(both & H_SACK));
	ck_assert_int_eq(st.wscale, !!(both & H_WSCALE));
	ck_assert_uint_eq(st.snd_wscale, both & H_WSCALE ? H_PEER_WSCALE : 0);
	if (!(both & H_WSCALE))
		ck_assert_uint_eq(st.rcv_wscale, 0);
	h_send(h, 10);
	struct h_out *o = h_expect(h, SEG_ACK, 1, 1, 10);
	ck_assert_uint_eq(o->seg.has, both & H_TS ? SEG_HAS_TIMESTAMPS : 0); /* MUST-65 */
	ck_assert_uint_eq((uint32_t)o->seg.window << st.rcv_wscale, h_status(h).rcv_wnd);
	h_free(h);
}
END_TEST

/* RFC 7323 §2.2: the window field of a SYN is never scaled; §2.3: a shift above 14 is 14. */
START_TEST(RFC7323_scale_in_syn)
{
	struct harness *h = h_new(H_ALL);
	struct tcp_segment syn = h_syn(h, SEG_SYN);
	syn.window = 5000;
	syn.wscale = 200;
	ck_assert_int_eq(tcp_open_passive(&h->c, &h->stack, h->now, &h->open, &syn), 0);
	h->live = true;
	h_output(h);
	h_drain(h);
	struct tcp_status st = h_status(h);
	ck_assert_uint_eq(st.snd_wnd, 5000);
	ck_assert_uint_eq(st.snd_wscale, 14);
	h_free(h);
}
END_TEST

/* ---- segment sizes ---- */

/* `want` bytes in the first segment of a long send. */
static void check_segment_size(struct harness *h, uint32_t want)
{
	h->open.options.user_sndbuf = true;
	h->open.options.sndbuf_bytes = 1 << 20;
	h_establish(h);
	h_send(h, 20000);
	struct h_out *o = h_take(h);
	ck_assert_ptr_nonnull(o);
	ck_assert_uint_eq(o->seg.payload_len, want);
	ck_assert_uint_eq(h_status(h).mss_snd, want);
	h_drain(h);
	h_free(h);
}

START_TEST(MUST_15_default_mss)
{
	struct harness *h = h_new(0);
	h->peer_mss = 0; /* no option */
	check_segment_size(h, 536);
}
END_TEST

START_TEST(MUST_15_default_mss_v6)
{
	struct harness *h = h_new(0);
	uint8_t v6[16] = {0xfe, 0x80, [15] = 1};
	h->open.key.laddr = ip_addr_from_v6(v6);
	v6[15] = 2;
	h->open.key.raddr = ip_addr_from_v6(v6);
	h->open.mss_path = 1440;
	h->peer_mss = 0;
	check_segment_size(h, 1220);
}
END_TEST

/* MUST-16: the smaller of the peer's MSS and the path, less our options. */
START_TEST(MUST_16_effective_mss)
{
	static const struct {
		uint16_t peer, path;
		unsigned features;
		uint32_t want;
	} cases[] = {
		{1460, 1000, 0, 1000}, {700, 1000, 0, 700}, {1460, 1000, H_TS, 988}, {700, 1000, H_TS, 688}, {1000, 1000, H_ALL, 988},
	};
	struct harness *h = h_new(cases[_i].features);
	h->peer_mss = cases[_i].peer;
	h->open.mss_path = cases[_i].path;
	check_segment_size(h, cases[_i].want);
}
END_TEST

/* A peer that announces next to nothing does not make us send headers only. */
START_TEST(tiny_mss_has_a_floor)
{
	static const uint16_t sizes[] = {1, 12, 40};
	struct harness *h = h_new(_i & 1 ? H_ALL : 0);
	h->peer_mss = sizes[_i];
	h_establish(h);
	ck_assert_uint_ge(h_status(h).mss_snd, 36);
	h_free(h);
}
END_TEST

START_TEST(maxseg_option)
{
	struct harness *h = h_new(0);
	h->open.options.maxseg = 500;
	check_segment_size(h, 500);
}
END_TEST

/* SACK blocks take their room from the text. */
START_TEST(sack_blocks_leave_room)
{
	struct harness *h = h_new(H_ALL);
	h_establish(h);
	struct tcp_segment s;
	for (int i = 1; i <= 3; i++) {
		s = h_seg(h, SEG_ACK, i * 200, 1, 100);
		h_input(h, &s);
	}
	h_drain(h);
	h_send(h, 3 * H_MSS);
	uint32_t end = 1;
	for (struct h_out *o; (o = h_take(h));) {
		uint32_t room = H_MSS + 12 - 12 - (o->seg.n_sack ? 4 + 8 * o->seg.n_sack : 0);
		ck_assert_uint_le(o->seg.payload_len, room);
		end += o->seg.payload_len;
	}
	ck_assert_uint_gt(end, 1);
	h_free(h);
}
END_TEST

/* ---- timestamps ---- */

/* RFC 7323 §4.3: an ACK echoes the timestamp of the segment that was at the left edge, not the latest. */
START_TEST(RFC7323_which_timestamp_is_echoed)
{
	struct harness *h = h_new(H_ALL);
	h_establish(h);
	for (int i = 0; i < 20; i++) { /* past the segments that are acknowledged at once */
		h_peer(h, SEG_ACK, 1, 10);
		h_advance(h, 100000);
	}
	h_drain(h);
	struct tcp_segment first = h_seg(h, SEG_ACK, 0, 1, 10);
	h->peer_nxt += 10;
	h_input(h, &first);
	h_silence(h);
	h_advance(h, 5000);
	struct tcp_segment second = h_seg(h, SEG_ACK, 0, 1, 10);
	h->peer_nxt += 10;
	h_input(h, &second);
	if (h->next_out == h->n_out)
		h_next(h);
	struct h_out *o = h_take(h);
	ck_assert_ptr_nonnull(o);
	ck_assert_uint_eq(o->seg.ts_ecr, first.ts_val);
	/* a segment beyond a hole is not echoed; the one that fills it is */
	struct tcp_segment ahead = h_seg(h, SEG_ACK, 10, 1, 10);
	h_advance(h, 5000);
	h_input(h, &ahead);
	o = h_take(h);
	ck_assert_ptr_nonnull(o);
	ck_assert_uint_eq(o->seg.ts_ecr, first.ts_val);
	h_advance(h, 5000);
	struct tcp_segment fill = h_seg(h, SEG_ACK, 0, 1, 10);
	h_input(h, &fill);
	o = h_take(h);
	ck_assert_ptr_nonnull(o);
	ck_assert_uint_eq(o->seg.ts_ecr, fill.ts_val);
	h_free(h);
}
END_TEST

/* RFC 7323 §5.4: our clock ticks each millisecond. */
START_TEST(RFC7323_our_clock)
{
	struct harness *h = h_new(H_ALL);
	h_establish(h);
	h_send(h, 10);
	uint32_t first = h_take(h)->seg.ts_val;
	h_peer_ack(h, 11);
	h_advance(h, 7000);
	h_send(h, 10);
	ck_assert_uint_eq(h_take(h)->seg.ts_val, first + 7);
	h_free(h);
}
END_TEST

START_TEST(RFC7323_paws)
{
	struct harness *h = h_new(H_ALL);
	h_establish(h);
	h_advance(h, USEC_PER_SEC);
	h_peer(h, SEG_ACK, 1, 10);
	h_advance(h, USEC_PER_SEC);
	h_drain(h);
	struct tcp_segment s = h_seg(h, SEG_ACK, 0, 1, 10);
	s.ts_val -= 1500; /* older than the last */
	h_input(h, &s);
	h_expect(h, SEG_ACK, 1, 11, 0); /* R1: an ACK, and the segment is dropped */
	ck_assert_uint_eq(h_rcv_nxt(h), 11);
	ck_assert_uint_eq(h->stack.counters[TCPC_PAWSEstab], 1);
	/* RSTs are exempt (§5.2) */
	s = h_seg(h, SEG_RST, 0, 0, 0);
	s.ts_val -= 1500;
	h_input(h, &s);
	h_state(h, TCPS_CLOSED);
	h_free(h);
}
END_TEST

/* §5.5: after 24 days of idleness an old timestamp proves nothing. */
START_TEST(RFC7323_paws_after_24_days)
{
	struct harness *h = h_new(H_ALL);
	h_establish(h);
	h_advance(h, INT64_C(25) * 24 * 3600 * USEC_PER_SEC);
	struct tcp_segment s = h_seg(h, SEG_ACK, 0, 1, 10);
	s.ts_val = H_PEER_TS - 100;
	h_input(h, &s);
	ck_assert_uint_eq(h_rcv_nxt(h), 11);
	h_advance(h, USEC_PER_SEC);
	h_drain(h);
	h_free(h);
}
END_TEST

/* ---- attacks ---- */

/*
 * As Linux: one answer in tcp_invalid_ratelimit, to a challenge or to what is out of the window; text is answered
 * always.
 */
START_TEST(RFC5961_one_answer_in_a_time)
{
	struct harness *h = h_new(H_ALL);
	h->stack.config.invalid_ratelimit_us = 300 * USEC_PER_MSEC;
	h_establish(h);
	for (int span = 0; span < 5; span++) {
		int answers = 0;
		for (int i = 0; i < 60; i++) {
			struct tcp_segment s = h_seg(h, i & 1 ? SEG_SYN : SEG_ACK, i & 1 ? 100 : 100000000, 0, 0);
			h_input(h, &s);
			while (h_take(h))
				answers++;
			h_advance(h, USEC_PER_MSEC);
		}
		ck_assert_int_eq(answers, 1);
		struct tcp_segment text = h_seg(h, SEG_ACK, 100000000, 1, 10);
		h_input(h, &text);
		h_expect(h, SEG_ACK, 1, 1, 0);
		h_advance(h, 250 * USEC_PER_MSEC);
		h_drain(h);
	}
	h_free(h);
}
END_TEST

/* net.ipv4.tcp_challenge_ack_limit: of all connections, in a second of the clock; nobody knows how many exactly. */
START_TEST(RFC5961_7_limit_of_all)
{
	struct harness *h = h_new(H_ALL);
	h->stack.config.invalid_ratelimit_us = 0;
	h->stack.config.challenge_ack_limit = _i ? 10 : TCP_CHALLENGES_ANY;
	h_establish(h);
	int least = INT_MAX, most = 0;
	for (int second = 0; second < 200; second++) {
		int answers = 0;
		h_advance(h, USEC_PER_SEC - h->now % USEC_PER_SEC);
		for (int i = 0; i < 40; i++) {
			struct tcp_segment s = h_seg(h, SEG_SYN, 100, 0, 0);
			h_input(h, &s);
			while (h_take(h))
				answers++;
			h_advance(h, USEC_PER_MSEC);
		}
		h_drain(h);
		least = answers < least ? answers : least;
		most = answers > most ? answers : most;
	}
	ck_assert_int_eq(least, _i ? 5 : 40);
	ck_assert_int_eq(most, _i ? 14 : 40);
	h_free(h);
}
END_TEST

/* RFC 5961 §7: challenge ACKs are limited. */
START_TEST(RFC5961_challenge_limit)
{
	struct harness *h = h_new(_i ? H_ALL : 0);
	h_establish(h);
	int answers = 0;
	for (int i = 0; i < 1000; i++) {
		struct tcp_segment s = h_seg(h, i & 1 ? SEG_SYN : SEG_RST, 100, 0, 0);
		h_input(h, &s);
		while (h_take(h))
			answers++;
		h_drain(h);
	}
	ck_assert_int_ge(answers, 1);
	ck_assert_int_le(answers, 100);
	ck_assert_uint_gt(h->stack.counters[TCPC_ChallengeLimited], 0);
	h_state(h, TCPS_ESTABLISHED);
	h_advance(h, 60 * USEC_PER_SEC); /* and they come back */
	struct tcp_segment s = h_seg(h, SEG_SYN, 100, 0, 0);
	h_input(h, &s);
	h_expect(h, SEG_ACK, 1, 1, 0);
	h_free(h);
}
END_TEST

/* Two ends that disagree do not shout at each other. */
START_TEST(no_ack_war)
{
	struct harness *h = h_new(_i ? H_ALL : 0);
	h_establish(h);
	int answers = 0;
	for (int i = 0; i < 1000; i++) {
		struct tcp_segment s = h_seg(h, SEG_ACK, -1000, 1, 0);
		h_input(h, &s);
		while (h_take(h))
			answers++;
		h_drain(h);
		h_advance(h, 100);
	}
	ck_assert_int_ge(answers, 1);
	ck_assert_int_le(answers, 100);
	h_free(h);
}
END_TEST

/* ---- ICMP ---- */

START_TEST(fragmentation_needed)
{
	struct harness *h = h_new(_i ? H_ALL : 0);
	h_establish(h);
	h_send(h, 3 * H_MSS);
	h_drain(h);
	tcp_on_frag_needed(&h->c, h->now, 600, H_ISS + 50000); /* not in flight: forged */
	h_output(h);
	h_silence(h);
	ck_assert_uint_eq(h_status(h).mss_snd, H_MSS);
	tcp_on_frag_needed(&h->c, h->now, 612, H_ISS + 1);
	h_output(h);
	ck_assert_uint_eq(h_status(h).mss_snd, _i ? 600 : 612);
	uint32_t ssthresh = h_status(h).ssthresh_bytes;
	ck_assert_uint_gt(ssthresh, 1 << 20); /* no congestion was seen */
	uint32_t end = 1;
	for (int i = 0; i < 20 && end <= 3 * H_MSS; i++) { /* all of it goes again, in smaller pieces */
		struct h_out *o = h_take(h);
		if (!o) {
			h_advance(h, H_RTT);
			h_peer_ack(h, end);
			o = h_take(h);
		}
		ck_assert_ptr_nonnull(o);
		ck_assert_uint_le(o->seg.payload_len, 612);
		ck_assert_uint_eq(o->seg.seq, H_ISS + end);
		end += o->seg.payload_len;
	}
	ck_assert_uint_eq(end, 1 + 3 * H_MSS);
	h_peer_ack(h, end);
	ck_assert_uint_eq(tcp_unacked_bytes(&h->c), 0);
	h_drain(h);
	h_free(h);
}
END_TEST

/*
 * SHLD-6: our own interface's or route's MTU falls and rises: what is in flight goes again only where it cannot have
 * left.
 */
START_TEST(path_mss_falls_and_rises)
{
	struct harness *h = h_new(H_ALL);
	h_establish(h);
	h_send(h, 2 * H_MSS);
	h_drain(h);
	tcp_set_path_mss(&h->c, h->now, 612, false); /* another connection's news */
	h_output(h);
	h_silence(h);
	ck_assert_uint_eq(h_status(h).mss_snd, 600);
	tcp_set_path_mss(&h->c, h->now, 512, true);
	h_output(h);
	struct h_out *o = h_take(h);
	ck_assert_ptr_nonnull(o);
	ck_assert_uint_eq(o->seg.seq, H_ISS + 1);
	ck_assert_uint_le(o->seg.payload_len, 500);
	for (int i = 0; i < 10; i++) {
		h_advance(h, H_RTT);
		h_peer_ack(h, h_snd_nxt(h));
	}
	h_drain(h);
	tcp_set_path_mss(&h->c, h->now, H_MSS + 12, true);
	ck_assert_uint_eq(h_status(h).mss_snd, H_MSS);
	h_send(h, H_MSS);
	h_expect(h, SEG_ACK | SEG_PSH, 1 + 2 * H_MSS, 1, H_MSS);
	h_peer_ack(h, h_snd_nxt(h));
	h_drain(h);
	h_free(h);
}
END_TEST

START_TEST(fragmentation_needed_has_a_floor)
{
	struct harness *h = h_new(0);
	h_establish(h);
	h_send(h, H_MSS);
	h_drain(h);
	tcp_on_frag_needed(&h->c, h->now, 1, H_ISS + 1);
	tcp_on_frag_needed(&h->c, h->now, 5000, H_ISS + 1); /* never up */
	h_output(h);
	h_drain(h);
	ck_assert_uint_ge(h_status(h).mss_snd, 48);
	ck_assert_uint_lt(h_status(h).mss_snd, H_MSS);
	h_free(h);
}
END_TEST

/* ---- snapshots ---- */

static void check_bytes(const struct iovec iov[2], uint32_t len, uint32_t pos)
{
	uint32_t at = 0;
	for (int i = 0; i < 2; i++)
		for (size_t j = 0; j < iov[i].iov_len; j++, at++)
			h_require(((const uint8_t *)iov[i].iov_base)[j] == h_byte(pos + at), "byte %u is wrong", at);
	ck_assert_uint_eq(at, len);
}

static void check_chunks(const struct chunks *c, uint32_t len, uint32_t pos)
{
	struct iovec iov[2] = {};
	chunks_span(c, 0, len, iov);
	check_bytes(iov, len, pos);
}

START_TEST(snapshot_of_a_busy_connection)
{
	struct harness *h = h_new(_i ? H_ALL : 0);
	struct tcp_snapshot snap;
	h->peer_window = 3200;
	h_establish(h);
	h_send(h, 500);
	h_peer_ack(h, 501);
	h_send(h, 6000); /* some in flight, some not */
	h_peer(h, SEG_ACK, 501, 300);
	h_peer(h, SEG_ACK, 501, 300);
	ck_assert_int_eq(h_recv(h, 100, 0), 100);
	struct tcp_segment ahead = h_seg(h, SEG_ACK, 50, 501, 50); /* out of order: the peer sends it again */
	h_input(h, &ahead);
	h_drain(h);
	struct tcp_status st = h_status(h);
	ck_assert_int_eq(tcp_snapshot(&h->c, h->now, &snap), 0);
	ck_assert(flow_key_equal(&snap.key, &h->open.key));
	ck_assert_uint_eq(snap.snd_una, H_ISS + 501);
	ck_assert_uint_eq(snap.snd_nxt, st.snd_nxt);
	ck_assert_uint_gt(snap.snd_nxt - snap.snd_una, 0);
	ck_assert_uint_lt(snap.snd_nxt - snap.snd_una, 6000);
	ck_assert_uint_eq(snap.snd_data_len, 6000);
	check_chunks(&snap.snd_data, 6000, 500);
	ck_assert_uint_eq(snap.rcv_nxt, H_PEER_ISS + 601);
	ck_assert_uint_eq(snap.rcv_data_len, 500);
	check_bytes(snap.rcv_data, 500, 100);
	ck_assert_uint_eq(snap.snd_wnd, st.snd_wnd);
	ck_assert_uint_eq(snap.rcv_wnd, st.rcv_wnd);
	ck_assert_uint_eq(snap.mss_clamp, 1460);
	ck_assert_int_eq(snap.timestamps, _i);
	ck_assert_int_eq(snap.sack, _i);
	ck_assert_int_eq(snap.wscale, _i);
	if (_i) {
		ck_assert_uint_eq(snap.ts_now, tcp_ts_now(h->now, h->open.ts_offset));
		ck_assert_uint_eq(snap.snd_wscale, H_PEER_WSCALE);
		ck_assert_uint_eq(snap.rcv_wscale, st.rcv_wscale);
	}
	ck_assert(!snap.fin_ours && !snap.fin_peer);
	h_free(h);
}
END_TEST

START_TEST(snapshot_with_fins)
{
	struct harness *h = h_new(0);
	struct tcp_snapshot snap;
	h_establish(h);
	h_peer(h, SEG_FIN, 1, 20);
	h_drain(h);
	ck_assert_int_eq(tcp_snapshot(&h->c, h->now, &snap), 0);
	ck_assert(snap.fin_peer && !snap.fin_ours);
	ck_assert_uint_eq(snap.rcv_nxt, H_PEER_ISS + 21); /* without the FIN */
	ck_assert_uint_eq(snap.rcv_data_len, 20);
	h_send(h, 30);
	h_shutdown(h);
	h_drain(h);
	ck_assert_int_eq(tcp_snapshot(&h->c, h->now, &snap), 0);
	ck_assert(snap.fin_peer && snap.fin_ours);
	ck_assert_uint_eq(snap.snd_data_len, 30);
	ck_assert_uint_eq(snap.snd_una, H_ISS + 1);
	ck_assert_uint_eq(snap.snd_nxt, H_ISS + 31);
	check_chunks(&snap.snd_data, 30, 0);
	h_free(h);
}
END_TEST

START_TEST(snapshot_needs_a_connection)
{
	static const enum tcp_state states[] = {TCPS_SYN_SENT, TCPS_SYN_RECEIVED, TCPS_TIME_WAIT, TCPS_CLOSED};
	struct harness *h = h_new(states[_i] == TCPS_SYN_SENT ? H_ACTIVE : 0);
	struct tcp_snapshot snap;
	h_enter(h, states[_i]);
	ck_assert_int_eq(tcp_snapshot(&h->c, h->now, &snap), -ENOTCONN);
	h_free(h);
}
END_TEST

/* ---- memory ---- */

/* An idle connection holds no buffers; and when there is no memory, nothing that was accepted is lost. */
START_TEST(idle_connection_holds_no_buffer)
{
	struct harness *h = h_new(_i ? H_ALL : 0);
	h_establish(h);
	ck_assert_uint_eq(h->memory.live_bytes, 0);
	h_send(h, 5000);
	h_peer_ack(h, h_snd_nxt(h));
	h_peer(h, SEG_ACK, 5001, 700);
	ck_assert_int_eq(h_recv(h, 1000, 0), 700);
	h_advance(h, USEC_PER_SEC);
	h_drain(h);
	ck_assert_uint_eq(tcp_unacked_bytes(&h->c), 0);
	ck_assert_uint_eq(h->memory.live_bytes, 0);
	h_free(h);
}
END_TEST

START_TEST(out_of_memory)
{
	struct harness *h = h_new(_i ? H_ALL : 0);
	h_establish(h);
	h->memory.limit_bytes = 1;
	ssize_t n = h_send(h, 1000);
	ck_assert(n == -ENOMEM || n == -EAGAIN);
	struct tcp_segment s = h_seg(h, SEG_ACK, 0, 1, 500);
	h_input(h, &s);
	ck_assert_uint_eq(h_rcv_nxt(h), 1); /* not taken, so not acknowledged */
	s = h_seg(h, SEG_ACK, 100, 1, 500);
	h_input(h, &s);
	ck_assert_uint_eq(h_rcv_nxt(h), 1);
	h_drain(h);
	h->memory.limit_bytes = 0;
	h_peer(h, SEG_ACK, 1, 500);
	ck_assert_int_eq(h_recv(h, 1000, 0), 500);
	ck_assert_int_eq(h_send(h, 1000), 1000);
	h_advance(h, 50000);
	h_peer_ack(h, 1001);
	h_drain(h);
	h_free(h);
}
END_TEST

/*
 * Others have all the memory that there is to share: who has nothing on its way may send little all the same, and then
 * waits for its ACK as ever.
 */
START_TEST(owed_memory)
{
	struct harness *h = h_new(_i ? H_ALL : 0);
	h_establish(h);
	h_send(h, 100000); /* so much it had, and will not have again */
	h_peer_ack(h, h_snd_nxt(h));
	while (tcp_unacked_bytes(&h->c))
		h_peer_ack(h, h_snd_nxt(h));
	h_drain(h);
	h->memory.limit_bytes = 1;
	h->memory.gives_owed = true;
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(h_send(h, 100000), 4096);
		ck_assert_int_eq(h_send(h, 1), -EAGAIN);
		ck_assert(!tcp_is_writable(&h->c));
		h_advance(h, 50000);
		h_peer_ack(h, h_snd_nxt(h));
		h_drain(h);
		ck_assert(tcp_is_writable(&h->c));
		h_advance(h, USEC_PER_SEC); /* idle: its buffer goes */
	}
	h_free(h);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("options");
	TCase *tc = tcase_create("handshake");
	tcase_add_test(tc, MUST_14_syn_offers);
	tcase_add_loop_test(tc, agreed_when_both_offer, 0, 128);
	tcase_add_test(tc, RFC7323_scale_in_syn);
	tcase_add_test(tc, MUST_15_default_mss);
	tcase_add_test(tc, MUST_15_default_mss_v6);
	tcase_add_loop_test(tc, MUST_16_effective_mss, 0, 5);
	tcase_add_loop_test(tc, tiny_mss_has_a_floor, 0, 3);
	tcase_add_test(tc, maxseg_option);
	tcase_add_test(tc, sack_blocks_leave_room);
	suite_add_tcase(s, tc);
	tc = tcase_create("timestamps");
	tcase_add_test(tc, RFC7323_which_timestamp_is_echoed);
	tcase_add_test(tc, RFC7323_our_clock);
	tcase_add_test(tc, RFC7323_paws);
	tcase_add_test(tc, RFC7323_paws_after_24_days);
	suite_add_tcase(s, tc);
	tc = tcase_create("attacks");
	tcase_add_loop_test(tc, RFC5961_7_limit_of_all, 0, 2);
	tcase_add_loop_test(tc, RFC5961_challenge_limit, 0, 2);
	tcase_add_test(tc, RFC5961_one_answer_in_a_time);
	tcase_add_loop_test(tc, no_ack_war, 0, 2);
	tcase_add_loop_test(tc, fragmentation_needed, 0, 2);
	tcase_add_test(tc, fragmentation_needed_has_a_floor);
	tcase_add_test(tc, path_mss_falls_and_rises);
	suite_add_tcase(s, tc);
	tc = tcase_create("snapshot");
	tcase_add_loop_test(tc, snapshot_of_a_busy_connection, 0, 2);
	tcase_add_test(tc, snapshot_with_fins);
	tcase_add_loop_test(tc, snapshot_needs_a_connection, 0, 4);
	tcase_add_loop_test(tc, idle_connection_holds_no_buffer, 0, 2);
	tcase_add_loop_test(tc, out_of_memory, 0, 2);
	tcase_add_loop_test(tc, owed_memory, 0, 2);
	suite_add_tcase(s, tc);
	return h_main(s);
}
