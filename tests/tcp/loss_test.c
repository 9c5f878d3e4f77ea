/*
 * Loss, found and repaired: fast retransmit and recovery with and without SACK, timeouts, congestion windows (RFC 5681,
 * 6582, 6675, 3042, 2018, 2883, 6298). The sender's segments are H_MSS bytes; segment k (from 0) is [1 + k * H_MSS, …).
 */
#include "harness.h"
#include "tcp/sent.h"

#define SEG(k) (1 + (uint32_t)(k) * H_MSS)

/* `segs` segments in flight, all expected; cwnd is at least that. */
static struct harness *in_flight(unsigned features, uint32_t segs, uint32_t unsent)
{
	struct harness *h = h_new(features);
	h->open.options.user_sndbuf = true;
	h->open.options.sndbuf_bytes = 1 << 20;
	h_establish(h);
	ck_assert_uint_ge(h_status(h).cwnd_bytes, segs * H_MSS);
	h->peer_window = 65535;
	h_send(h, segs * H_MSS + unsent * H_MSS);
	for (uint32_t k = 0; k < segs; k++)
		h_expect(h, SEG_ACK, SEG(k), 1, H_MSS);
	h_advance(h, H_RTT);
	return h;
}

/* The initial window is 10 segments (RFC 6928); what is queued beyond waits. */
START_TEST(RFC6928_initial_window)
{
	struct harness *h = in_flight(0, 10, 5);
	h_silence(h);
	h_drain(h);
	h_free(h);
}
END_TEST

/* ---- congestion window ---- */

START_TEST(MUST_19_slow_start)
{
	struct harness *h = in_flight(0, 10, 200);
	uint32_t before = h_status(h).cwnd_bytes;
	h_peer_ack(h, SEG(2)); /* two segments acknowledged: two more may go for them, and two for the growth */
	ck_assert_uint_eq(h_status(h).cwnd_bytes, before + 2 * H_MSS);
	for (int k = 10; k < 14; k++)
		h_expect(h, SEG_ACK, SEG(k), 1, H_MSS);
	h_silence(h);
	h_free(h);
}
END_TEST

/* An ACK of one byte is worth one byte: splitting ACKs gains nothing (RFC 3465 §2.1). */
START_TEST(ack_splitting_gains_nothing)
{
	struct harness *h = in_flight(0, 10, 200);
	uint32_t before = h_status(h).cwnd_bytes;
	for (uint32_t i = 1; i <= 100; i++)
		h_peer_ack(h, SEG(0) + i * 10);
	ck_assert_uint_le(h_status(h).cwnd_bytes, before + H_MSS);
	h_drain(h);
	h_free(h);
}
END_TEST

START_TEST(MUST_19_congestion_avoidance)
{
	struct harness *h = in_flight(0, 10, 300);
	/* loss by timeout: ssthresh is half of the flight, cwnd one segment */
	h_next(h);
	struct tcp_status st = h_status(h);
	ck_assert_uint_eq(st.cwnd_bytes, H_MSS);
	ck_assert_uint_eq(st.ssthresh_bytes, 5 * H_MSS);
	h_expect(h, SEG_ACK, SEG(0), 1, H_MSS);
	h_silence(h);
	h_advance(h, H_RTT);
	h_peer_ack(h, SEG(10)); /* all is there after all */
	h_drain(h);
	uint32_t acked = 10;
	while (h_status(h).cwnd_bytes < 5 * H_MSS) { /* slow start up to ssthresh */
		uint32_t nxt = h_snd_nxt(h);
		h_advance(h, H_RTT);
		h_peer_ack(h, nxt);
		acked++;
		ck_assert_uint_lt(acked, 100);
	}
	/* then one segment per round trip */
	for (uint32_t round = 0; round < 4; round++) {
		uint32_t cwnd = h_status(h).cwnd_bytes, una = h_status(h).snd_una - H_ISS, nxt = h_snd_nxt(h);
		ck_assert_uint_eq(nxt - una, cwnd / H_MSS * H_MSS);
		h_advance(h, H_RTT);
		for (uint32_t ack = una + H_MSS; ack <= nxt; ack += H_MSS)
			h_peer_ack(h, ack);
		ck_assert_uint_ge(h_status(h).cwnd_bytes, cwnd);
		ck_assert_uint_le(h_status(h).cwnd_bytes, cwnd + H_MSS);
		if (round)
			ck_assert_uint_gt(h_status(h).cwnd_bytes, cwnd);
	}
	h_drain(h);
	h_free(h);
}
END_TEST

/* As Linux: half of what might have been in flight, not of what the program had to send. */
START_TEST(a_timeout_halves_the_window_not_the_flight)
{
	struct harness *h = in_flight(0, 4, 0);
	uint32_t cwnd = h_status(h).cwnd_bytes;
	ck_assert_uint_gt(cwnd, 4 * H_MSS);
	h_next(h);
	ck_assert_uint_eq(h_status(h).ssthresh_bytes, cwnd / 2);
	h_drain(h);
	h_free(h);
}
END_TEST

/* RFC 5681 §3.1: ssthresh is lowered once for a flight, however often its first segment times out. */
START_TEST(repeated_timeouts_lower_ssthresh_once)
{
	struct harness *h = in_flight(_i ? H_ALL : 0, 10, 0);
	h_timeout(h);
	uint32_t ssthresh = h_status(h).ssthresh_bytes;
	ck_assert_uint_eq(ssthresh, 5 * H_MSS);
	for (int i = 0; i < 3; i++)
		h_next(h);
	ck_assert_uint_eq(h_status(h).ssthresh_bytes, ssthresh);
	ck_assert_uint_eq(h_status(h).cwnd_bytes, H_MSS);
	ck_assert_uint_eq(h_status(h).rto_events, 4);
	if (_i)
		h_expect(h, SEG_ACK, SEG(9), 1, H_MSS); /* the tail loss probe */
	for (int i = 0; i < 4; i++)
		h_expect(h, SEG_ACK, SEG(0), 1, H_MSS);
	h_silence(h);
	h_free(h);
}
END_TEST

/* RFC 5681 §4.1: after an idle time cwnd is not a burst that may still be sent. */
START_TEST(window_restarts_after_idle)
{
	struct harness *h = h_new(0);
	h->open.options.user_sndbuf = true;
	h->open.options.sndbuf_bytes = 1 << 20;
	h_establish(h);
	h_grow_cwnd(h, 40);
	h_advance(h, 60 * USEC_PER_SEC);
	h_send(h, 40 * H_MSS);
	ck_assert_uint_le(h->n_out, 10);
	ck_assert_uint_ge(h->n_out, 1);
	h_drain(h);
	h_free(h);
}
END_TEST

/* ---- without SACK ---- */

START_TEST(RFC3042_limited_transmit)
{
	struct harness *h = in_flight(0, 10, 10);
	h_peer_ack(h, 1); /* first duplicate */
	h_expect(h, SEG_ACK, SEG(10), 1, H_MSS);
	h_silence(h);
	h_peer_ack(h, 1);
	h_expect(h, SEG_ACK, SEG(11), 1, H_MSS);
	h_silence(h);
	ck_assert_uint_eq(h_status(h).fast_recoveries, 0);
	h_free(h);
}
END_TEST

START_TEST(RFC5681_fast_retransmit_on_the_third)
{
	struct harness *h = in_flight(0, 10, 0);
	h_peer_ack(h, 1);
	h_peer_ack(h, 1);
	h_silence(h);
	h_peer_ack(h, 1);
	h_expect(h, SEG_ACK, SEG(0), 1, H_MSS);
	h_silence(h);
	struct tcp_status st = h_status(h);
	ck_assert_uint_eq(st.fast_recoveries, 1);
	ck_assert_uint_eq(st.ssthresh_bytes, 5 * H_MSS);
	ck_assert_uint_eq(st.rto_events, 0);
	/* the repair is seen: all acknowledged, cwnd is not above ssthresh */
	h_advance(h, H_RTT);
	h_peer_ack(h, SEG(10));
	h_silence(h);
	st = h_status(h);
	ck_assert_uint_le(st.cwnd_bytes, 5 * H_MSS);
	ck_assert_uint_eq(st.in_flight_bytes, 0);
	h_free(h);
}
END_TEST

/* RFC 5681 §2: what is not a duplicate acknowledgment: with data, with another window, without anything in flight. */
START_TEST(RFC5681_what_is_no_duplicate)
{
	struct harness *h = in_flight(0, 10, 0);
	for (int i = 0; i < 6; i++) {
		switch (_i) {
		case 0:
			h_peer(h, SEG_ACK, 1, 10);
			break;
		case 1:
			h->peer_window = i % 2 ? 60000 : 0; /* a smaller one that is not shut does not count, as in Linux */
			h_peer_ack(h, 1);
			break;
		default:
			h_peer_ack(h, SEG(10));
			break;
		}
	}
	while (h->next_out < h->n_out)
		ck_assert_uint_eq(h_take(h)->seg.payload_len, 0);
	ck_assert_uint_eq(h_status(h).fast_recoveries, 0);
	ck_assert_uint_eq(h_status(h).total_retrans, 0);
	h_free(h);
}
END_TEST

/* RFC 6582: a partial ACK means that the next segment was lost too: it goes at once, one per round trip. */
START_TEST(RFC6582_partial_acknowledgments)
{
	struct harness *h = in_flight(0, 10, 0); /* 0, 3 and 6 are lost */
	for (int i = 0; i < 7; i++)
		h_peer_ack(h, 1);
	h_expect(h, SEG_ACK, SEG(0), 1, H_MSS);
	h_silence(h);
	h_advance(h, H_RTT);
	h_peer_ack(h, SEG(3));
	h_expect(h, SEG_ACK, SEG(3), 1, H_MSS);
	h_silence(h);
	h_advance(h, H_RTT);
	h_peer_ack(h, SEG(6));
	h_expect(h, SEG_ACK, SEG(6), 1, H_MSS);
	h_silence(h);
	ck_assert_uint_eq(h_status(h).fast_recoveries, 1); /* one episode, one reduction */
	ck_assert_uint_eq(h_status(h).ssthresh_bytes, 5 * H_MSS);
	h_advance(h, H_RTT);
	h_peer_ack(h, SEG(10));
	h_silence(h);
	ck_assert_uint_eq(h_status(h).rto_events, 0);
	h_free(h);
}
END_TEST

/* RFC 6582 §3.2 step 2: duplicates caused by our own retransmissions after a timeout start nothing. */
START_TEST(RFC6582_no_recovery_below_recover)
{
	struct harness *h = in_flight(0, 10, 0);
	h_next(h); /* timeout */
	h_expect(h, SEG_ACK, SEG(0), 1, H_MSS);
	h_advance(h, H_RTT);
	h_peer_ack(h, SEG(5)); /* 0 was lost, and 5; 1 to 4 had arrived */
	h_drain(h);
	uint32_t reductions = h_status(h).ssthresh_bytes;
	for (int i = 0; i < 5; i++)
		h_peer_ack(h, SEG(5));
	ck_assert_uint_eq(h_status(h).fast_recoveries, 0);
	ck_assert_uint_eq(h_status(h).ssthresh_bytes, reductions);
	h_drain(h);
	h_free(h);
}
END_TEST

/* Recovery keeps sending: each duplicate ACK is a segment that left the network. */
START_TEST(RFC5681_inflation_lets_new_data_go)
{
	struct harness *h = in_flight(0, 10, 20);
	for (int i = 0; i < 3; i++)
		h_peer_ack(h, 1);
	h_drain(h); /* limited transmit and the retransmission */
	uint32_t sent = h_snd_nxt(h);
	for (int i = 0; i < 8; i++)
		h_peer_ack(h, 1);
	ck_assert_uint_gt(h_snd_nxt(h), sent);
	/* never more in the network than before the loss */
	ck_assert_uint_le(h_snd_nxt(h) - 1, 20 * H_MSS);
	h_drain(h);
	h_free(h);
}
END_TEST

/* ---- with SACK, sender ---- */

static void sack_one(struct harness *h, uint32_t left, uint32_t right)
{
	uint32_t edges[] = {SEG(left), SEG(right)};
	h_peer_sack(h, 1, 1, edges);
}

START_TEST(RFC6675_lost_after_three_sacked)
{
	struct harness *h = in_flight(H_ALL, 10, 0);
	sack_one(h, 1, 2);
	sack_one(h, 1, 3);
	h_silence(h);
	sack_one(h, 1, 4);
	h_expect(h, SEG_ACK, SEG(0), 1, H_MSS);
	h_silence(h);
	ck_assert_uint_eq(h_status(h).fast_recoveries, 1);
	ck_assert_uint_eq(h_status(h).ssthresh_bytes, 5 * H_MSS);
	h_free(h);
}
END_TEST

/* One ACK that reports four segments is as good as three that report one (byte-counting IsLost). */
START_TEST(RFC6675_lost_by_bytes)
{
	struct harness *h = in_flight(H_ALL, 10, 0);
	sack_one(h, 1, 5);
	h_expect(h, SEG_ACK, SEG(0), 1, H_MSS);
	h_drain(h);
	ck_assert_uint_eq(h_status(h).fast_recoveries, 1);
	h_free(h);
}
END_TEST

/* Three discontiguous ranges above are enough too; parts of segments are none. */
START_TEST(RFC6675_lost_by_ranges)
{
	struct harness *h = in_flight(H_SACK, 10, 0);
	uint32_t parts[] = {SEG(1), SEG(1) + 10, SEG(3), SEG(3) + 10, SEG(5), SEG(5) + 10};
	h_peer_sack(h, 1, 3, parts);
	h_silence(h);
	uint32_t edges[] = {SEG(1), SEG(2), SEG(3), SEG(4), SEG(5), SEG(6)};
	h_peer_sack(h, 1, 3, edges);
	h_expect(h, SEG_ACK, SEG(0), 1, H_MSS);
	h_drain(h);
	ck_assert_uint_eq(h_status(h).fast_recoveries, 1);
	h_free(h);
}
END_TEST

/* Only the holes are sent again, each once. */
START_TEST(RFC6675_only_holes_are_retransmitted)
{
	struct harness *h = in_flight(H_ALL, 10, 0); /* 0, 2 and 4 are lost */
	uint32_t edges[] = {SEG(5), SEG(10), SEG(3), SEG(4), SEG(1), SEG(2)};
	h_peer_sack(h, 1, 3, edges);
	h_expect(h, SEG_ACK, SEG(0), 1, H_MSS);
	h_expect(h, SEG_ACK, SEG(2), 1, H_MSS);
	h_expect(h, SEG_ACK, SEG(4), 1, H_MSS);
	h_silence(h);
	h_peer_sack(h, 1, 3, edges); /* the same again says nothing new */
	h_silence(h);
	h_advance(h, H_RTT);
	h_peer_ack(h, SEG(10));
	h_silence(h);
	ck_assert_uint_eq(h_status(h).total_retrans, 3);
	h_free(h);
}
END_TEST

/*
 * RFC 6937: while more is in the network than ssthresh, one segment goes for two that were delivered (ssthresh is half
 * of cwnd); of halves, as Linux, the whole.
 */
START_TEST(RFC6937_reduces_in_proportion)
{
	struct harness *h = in_flight(H_ALL, 10, 30);
	sack_one(h, 1, 4); /* pipe: 10 - 3 SACKed - 1 lost = 6; ssthresh 5; 3 delivered allow 1.5 */
	h_expect(h, SEG_ACK, SEG(0), 1, H_MSS);
	h_expect(h, SEG_ACK, SEG(10), 1, H_MSS);
	h_silence(h);
	sack_one(h, 1, 5); /* 4 delivered allow 2 */
	h_silence(h);
	sack_one(h, 1, 6);
	h_expect(h, SEG_ACK, SEG(11), 1, H_MSS);
	h_silence(h);
	sack_one(h, 1, 7);
	h_silence(h);
	sack_one(h, 1, 8); /* pipe is 5 now */
	h_silence(h);
	sack_one(h, 1, 9);
	h_expect(h, SEG_ACK, SEG(12), 1, H_MSS);
	h_silence(h);
	h_free(h);
}
END_TEST

/*
 * … and when less is there than ssthresh, what goes is what was delivered, and one more while SND.UNA moves: no burst
 * after many losses.
 */
START_TEST(RFC6937_no_burst_after_many_losses)
{
	struct harness *h = in_flight(H_ALL, 10, 30);
	sack_one(h, 7, 10); /* pipe 0, seven are lost, three delivered */
	for (int k = 0; k < 3; k++)
		h_expect(h, SEG_ACK, SEG(k), 1, H_MSS);
	h_silence(h);
	h_advance(h, H_RTT);
	h_peer_sack(h, SEG(1), 1, (uint32_t[]){SEG(7), SEG(10)}); /* one delivered, and SND.UNA moves */
	h_expect(h, SEG_ACK, SEG(3), 1, H_MSS);
	h_expect(h, SEG_ACK, SEG(4), 1, H_MSS);
	h_silence(h);
	h_free(h);
}
END_TEST

/* Limited transmit in RFC 6675's terms: the first two ACKs with new SACK information let new data go. */
START_TEST(RFC6675_limited_transmit)
{
	struct harness *h = in_flight(H_ALL, 10, 10);
	sack_one(h, 1, 2);
	h_expect(h, SEG_ACK, SEG(10), 1, H_MSS);
	h_silence(h);
	ck_assert_uint_eq(h_status(h).fast_recoveries, 0);
	h_free(h);
}
END_TEST

/* After a timeout what was SACKed is not sent again. */
START_TEST(timeout_skips_what_was_sacked)
{
	struct harness *h = in_flight(H_ALL, 10, 0);
	sack_one(h, 1, 2);
	sack_one(h, 1, 3);
	while (!h_status(h).rto_events) { /* after the reordering window, and again at the timeout */
		h_next(h);
		h_expect(h, SEG_ACK, SEG(0), 1, H_MSS);
		h_silence(h);
	}
	h_advance(h, H_RTT);
	uint32_t edges[] = {SEG(1), SEG(3)};
	h_peer_sack(h, SEG(3), 0, edges);
	h_expect(h, SEG_ACK, SEG(3), 1, H_MSS); /* slow start goes on behind it */
	h_expect(h, SEG_ACK, SEG(4), 1, H_MSS);
	h_drain(h);
	h_free(h);
}
END_TEST

/* RFC 2018 §8: a receiver may renege; repeated timeouts do not believe the scoreboard for ever. */
START_TEST(RFC2018_reneging)
{
	struct harness *h = in_flight(H_ALL, 10, 0);
	sack_one(h, 1, 10);
	h_drain(h);
	uint32_t una = 1;
	for (int i = 0; i < 60 && h_status(h).in_flight_bytes; i++) { /* a peer that forgot everything but what it acknowledged */
		h_next(h);
		for (struct h_out *o; (o = h_take(h));) {
			uint32_t seq = o->seg.seq - H_ISS;
			if (seq == una)
				una += o->seg.payload_len;
		}
		h_peer_ack(h, una);
	}
	ck_assert_uint_eq(una, SEG(10));
	ck_assert_uint_eq(tcp_unacked_bytes(&h->c), 0);
	h_drain(h);
	h_free(h);
}
END_TEST

static const struct {
	uint32_t left, right;
} lies[] = {
	{SEG(10), SEG(11)},	       /* not sent yet */
	{SEG(5), SEG(11)},	       /* partly */
	{SEG(5), SEG(4)},	       /* backwards */
	{SEG(5), SEG(5)},	       /* empty */
	{SEG(0) - 70000, SEG(0) - 5},  /* long acknowledged: a D-SACK */
	{SEG(5), SEG(5) + 0x80000000u},
};
START_TEST(lying_sack_blocks)
{
	struct harness *h = in_flight(H_ALL, 10, 0);
	uint32_t edges[] = {lies[_i].left, lies[_i].right};
	for (int i = 0; i < 5; i++)
		h_peer_sack(h, 1, 1, edges);
	h_silence(h);
	ck_assert_uint_eq(h_status(h).fast_recoveries, 0);
	h_next(h); /* and everything is repaired as if nothing had been said: a tail loss probe, a timeout */
	h_expect(h, SEG_ACK, SEG(9), 1, H_MSS);
	h_next(h);
	h_expect(h, SEG_ACK, SEG(0), 1, H_MSS);
	h_peer_ack(h, SEG(10));
	h_silence(h);
	h_free(h);
}
END_TEST

/* SACK blocks on a connection without SACK are nothing. */
START_TEST(sack_not_negotiated)
{
	struct harness *h = in_flight(0, 10, 0);
	sack_one(h, 1, 2);
	sack_one(h, 1, 8);
	h_silence(h);
	ck_assert_uint_eq(h_status(h).fast_recoveries, 0);
	h_free(h);
}
END_TEST

/* ---- with SACK, receiver ---- */

static void text(struct harness *h, uint32_t from, uint32_t len, uint8_t flags)
{
	struct tcp_segment s = h_seg(h, flags | SEG_ACK, (int32_t)(from - h->peer_nxt), h_snd_nxt(h), len);
	h_input(h, &s);
}

static void expect_sack(struct harness *h, uint32_t ack, int n, const uint32_t *edges)
{
	struct h_out *o = h_expect(h, SEG_ACK, h_snd_nxt(h), ack, 0);
	ck_assert_int_eq(o->seg.n_sack, n);
	for (int i = 0; i < n; i++) {
		ck_assert_uint_eq(o->seg.sack[i].left - H_PEER_ISS, edges[2 * i]);
		ck_assert_uint_eq(o->seg.sack[i].right - H_PEER_ISS, edges[2 * i + 1]);
	}
}

/* RFC 2018 §4: the first block is the one that the segment fell into, then the most recent ones. */
START_TEST(RFC2018_order_of_blocks)
{
	struct harness *h = h_new(_i ? H_ALL : H_SACK);
	h_establish(h);
	h->stack.config.comp_sack_nr = 0; /* an ACK for each */
	text(h, 101, 100, 0);
	expect_sack(h, 1, 1, (uint32_t[]){101, 201});
	text(h, 301, 100, 0);
	expect_sack(h, 1, 2, (uint32_t[]){301, 401, 101, 201});
	text(h, 501, 100, 0);
	expect_sack(h, 1, 3, (uint32_t[]){501, 601, 301, 401, 101, 201});
	text(h, 701, 100, 0);
	if (_i) /* with timestamps there is room for three */
		expect_sack(h, 1, 3, (uint32_t[]){701, 801, 501, 601, 301, 401});
	else
		expect_sack(h, 1, 4, (uint32_t[]){701, 801, 501, 601, 301, 401, 101, 201});
	text(h, 401, 50, 0); /* grows the second block, which is now the newest */
	struct h_out *o = h_expect(h, SEG_ACK, 1, 1, 0);
	ck_assert_uint_eq(o->seg.sack[0].left - H_PEER_ISS, 301);
	ck_assert_uint_eq(o->seg.sack[0].right - H_PEER_ISS, 451);
	ck_assert_uint_eq(o->seg.sack[1].left - H_PEER_ISS, 701);
	text(h, 1, 100, 0); /* fills the first gap */
	o = h_expect(h, SEG_ACK, 1, 201, 0);
	for (int i = 0; i < o->seg.n_sack; i++)
		ck_assert_int_gt((int32_t)(o->seg.sack[i].left - o->seg.ack), 0); /* nothing that is acknowledged */
	ck_assert_int_eq(h_recv(h, 1000, 0), 200);
	h_drain(h);
	h_free(h);
}
END_TEST

/* SHLD-31: out-of-order segments are kept; one that closes several gaps at once delivers them all. */
START_TEST(SHLD_31_one_segment_fills_many_gaps)
{
	struct harness *h = h_new(_i & 1 ? H_ALL : 0);
	h_establish(h);
	text(h, 101, 50, 0);
	text(h, 201, 50, 0);
	text(h, 301, 50, 0);
	if (_i & 2)
		text(h, 401, 50, SEG_FIN);
	h_drain(h);
	text(h, 1, 320, 0); /* overlaps all but the end of the third */
	h_expect(h, SEG_ACK, 1, 351, 0);
	text(h, 351, 50, 0);
	uint32_t all = _i & 2 ? 452 : 401;
	if (!(_i & 2))
		h_advance(h, h->stack.config.delack_us);
	h_expect(h, SEG_ACK, 1, all, 0);
	h_state(h, _i & 2 ? TCPS_CLOSE_WAIT : TCPS_ESTABLISHED);
	ck_assert_int_eq(h_recv(h, 1000, 0), _i & 2 ? 450 : 400);
	h_drain(h);
	h_free(h);
}
END_TEST

START_TEST(fin_out_of_order)
{
	struct harness *h = h_new(_i ? H_ALL : 0);
	h_establish(h);
	text(h, 101, 0, SEG_FIN); /* alone, ahead of its text */
	h_expect(h, SEG_ACK, 1, 1, 0);
	h_state(h, TCPS_ESTABLISHED);
	text(h, 1, 100, 0);
	h_expect(h, SEG_ACK, 1, 102, 0);
	h_state(h, TCPS_CLOSE_WAIT);
	ck_assert_int_eq(h_recv(h, 1000, 0), 100);
	ck_assert_int_eq(h_recv(h, 1000, 100), 0);
	h_free(h);
}
END_TEST

/* RFC 2883: a duplicate is reported once, in the first block. */
START_TEST(RFC2883_duplicate_segment)
{
	struct harness *h = h_new(H_ALL);
	h_establish(h);
	h_peer(h, SEG_ACK, 1, 100);
	h_advance(h, h->stack.config.delack_us);
	h_drain(h);
	text(h, 1, 100, 0);
	expect_sack(h, 101, 1, (uint32_t[]){1, 101});
	text(h, 301, 100, 0); /* once */
	expect_sack(h, 101, 1, (uint32_t[]){301, 401});
	text(h, 301, 100, 0); /* a duplicate above: the D-SACK, then the block that holds it (§4.1.1 ff.) */
	expect_sack(h, 101, 2, (uint32_t[]){301, 401, 301, 401});
	h_silence(h);
	h_free(h);
}
END_TEST

/* A D-SACK that we receive is no new information and starts no recovery. */
START_TEST(RFC2883_received)
{
	struct harness *h = in_flight(H_ALL, 10, 0);
	h_peer_ack(h, SEG(5));
	uint32_t edges[] = {SEG(1), SEG(2)};
	for (int i = 0; i < 5; i++)
		h_peer_sack(h, SEG(5), 1, edges);
	h_silence(h);
	ck_assert_uint_eq(h_status(h).fast_recoveries, 0);
	ck_assert_uint_eq(h->stack.counters[TCPC_DSACKRecv], 5);
	h_free(h);
}
END_TEST

/* SHLD-31 and §3.10.7.4: an ACK at once for each segment out of order, and when a gap closes. */
START_TEST(RFC5681_duplicate_acks_at_once)
{
	struct harness *h = h_new(0);
	h_establish(h);
	for (uint32_t i = 0; i < 5; i++) {
		text(h, 101 + i * 100, 100, 0);
		h_expect(h, SEG_ACK, 1, 1, 0);
		h_silence(h);
	}
	text(h, 1, 100, 0);
	h_expect(h, SEG_ACK, 1, 601, 0);
	h_silence(h);
	ck_assert_int_eq(h_recv(h, 1000, 0), 600);
	h_free(h);
}
END_TEST

/*
 * With SACK three are answered at once. Then ACKs wait, but not long, and no more than net.ipv4.tcp_comp_sack_nr
 * segments for them.
 */
START_TEST(sacks_are_joined)
{
	struct harness *h = h_new(H_SACK);
	h_establish(h);
	h->c.conversing = true; /* else ACKs are quick at first */
	h->stack.config.comp_sack_nr = 5;
	for (uint32_t i = 0; i < 3; i++) {
		text(h, 101 + i * 100, 100, 0);
		h_expect(h, SEG_ACK, 1, 1, 0);
		h_silence(h);
	}
	text(h, 401, 100, 0);
	h_silence(h);
	h_advance(h, h->stack.config.comp_sack_slack_ns / 1000);
	expect_sack(h, 1, 1, (uint32_t[]){101, 501});
	for (uint32_t i = 0; i < 5; i++) {
		text(h, 501 + i * 100, 100, 0);
		h_silence(h);
	}
	text(h, 1001, 100, 0);
	expect_sack(h, 1, 1, (uint32_t[]){101, 1101});
	text(h, 1101, 100, 0);
	text(h, 1301, 100, 0);
	h_silence(h);
	text(h, 1501, 100, 0); /* a third block */
	expect_sack(h, 1, 3, (uint32_t[]){1501, 1601, 1301, 1401, 101, 1201});
	text(h, 1, 100, 0);
	h_expect(h, SEG_ACK, 1, 1201, 0);
	h_advance(h, USEC_PER_SEC);
	h_silence(h);
	ck_assert_int_eq(h_recv(h, 2000, 0), 1200);
	h_drain(h);
	h_free(h);
}
END_TEST

/* A peer that makes a thousand holes: memory is bounded, and the stream still comes out right. */
START_TEST(out_of_order_queue_is_bounded)
{
	struct harness *h = h_new(_i ? H_ALL : 0);
	h_establish(h);
	h->stack.config.comp_sack_nr = 0; /* an ACK for each */
	uint32_t span = 30000;
	for (uint32_t at = 2; at < span; at += 4) {
		text(h, at + 1, 1, 0);
		h_expect(h, SEG_ACK, 1, 1, 0);
		h_drain(h);
	}
	ck_assert_uint_lt(h->memory.live_bytes, 512 * 1024);
	for (uint32_t at = 0; at < span; at += 500) {
		text(h, at + 1, 500, 0);
		ck_assert_int_ge(h_rcv_nxt(h), at + 501);
		ck_assert_int_ge(h_recv(h, 2000, at), 500);
		h_drain(h);
	}
	h_free(h);
}
END_TEST

/* ---- gone for good ---- */

START_TEST(retransmission_with_fin)
{
	struct harness *h = h_new(_i ? H_ALL : 0);
	h_establish(h);
	h_send(h, 500);
	h_expect(h, SEG_ACK, 1, 1, 500);
	h_shutdown(h);
	h_expect(h, SEG_ACK | SEG_FIN, 501, 1, 0);
	h_next(h);
	if (_i) { /* the probe is the last segment alone */
		h_expect(h, SEG_ACK | SEG_FIN, 501, 1, 0);
		while (h->next_out == h->n_out)
			h_next(h);
	}
	struct h_out *o = h_take(h);
	ck_assert_ptr_nonnull(o);
	ck_assert_uint_eq(o->seg.seq, H_ISS + 1);
	ck_assert_uint_eq(o->seg.payload_len, 500);
	h_drain(h);
	h_advance(h, H_RTT);
	h_peer_ack(h, 501); /* the FIN is still missing */
	h_state(h, TCPS_FIN_WAIT_1);
	while (h->next_out == h->n_out) /* a probe that has no answer puts the timeout off */
		h_next(h);
	h_expect(h, SEG_ACK | SEG_FIN, 501, 1, 0);
	h_peer_ack(h, 502);
	h_state(h, TCPS_FIN_WAIT_2);
	h_drain(h);
	h_free(h);
}
END_TEST

#define COUNT(a) (int)(sizeof(a) / sizeof *(a))

static void *no_memory(struct tcp_memory *m, size_t size)
{
	(void)m;
	(void)size;
	return NULL;
}

/*
 * Two records are all: a long flight and a FIN, both lost. What goes again does not take the rest with it: that is
 * still to be sent.
 */
START_TEST(what_goes_again_without_memory)
{
	struct tcp_memory m = {.alloc = no_memory};
	struct sent_log l = {0};
	struct sent_mark mark = {0};
	sent_append(&l, &m, 10000, 1, 0, &mark);
	sent_append(&l, &m, 10001, 2, 0, &mark);
	ck_assert_uint_eq(l.n, SENT_FEW);
	sent_mark_lost(&l, &m, 0, 10000);
	sent_mark_lost(&l, &m, 1, 10001);
	for (uint32_t end = 1000; end <= 9000; end += 1000) {
		sent_again(&l, &m, 0, end - 1000, end, 3 + end, &mark);
		ck_assert_uint_eq(l.n, 2);
		ck_assert_uint_eq(sent_at(&l, 0)->end, end);
		ck_assert(sent_at(&l, 0)->again && !sent_at(&l, 0)->lost);
		ck_assert_int_eq(sent_at(&l, 0)->at_us, 3 + end);
		ck_assert_uint_eq(sent_at(&l, 1)->end, 10001);
		ck_assert(sent_at(&l, 1)->lost);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("loss");
	TCase *tc = tcase_create("window");
	tcase_add_test(tc, RFC6928_initial_window);
	tcase_add_test(tc, MUST_19_slow_start);
	tcase_add_test(tc, ack_splitting_gains_nothing);
	tcase_add_test(tc, MUST_19_congestion_avoidance);
	tcase_add_test(tc, a_timeout_halves_the_window_not_the_flight);
	tcase_add_loop_test(tc, repeated_timeouts_lower_ssthresh_once, 0, 2);
	tcase_add_test(tc, window_restarts_after_idle);
	suite_add_tcase(s, tc);
	tc = tcase_create("newreno");
	tcase_add_test(tc, RFC3042_limited_transmit);
	tcase_add_test(tc, RFC5681_fast_retransmit_on_the_third);
	tcase_add_loop_test(tc, RFC5681_what_is_no_duplicate, 0, 3);
	tcase_add_test(tc, RFC6582_partial_acknowledgments);
	tcase_add_test(tc, RFC6582_no_recovery_below_recover);
	tcase_add_test(tc, RFC5681_inflation_lets_new_data_go);
	suite_add_tcase(s, tc);
	tc = tcase_create("sack");
	tcase_add_test(tc, RFC6675_lost_after_three_sacked);
	tcase_add_test(tc, RFC6675_lost_by_bytes);
	tcase_add_test(tc, RFC6675_lost_by_ranges);
	tcase_add_test(tc, RFC6675_only_holes_are_retransmitted);
	tcase_add_test(tc, RFC6937_reduces_in_proportion);
	tcase_add_test(tc, RFC6937_no_burst_after_many_losses);
	tcase_add_test(tc, RFC6675_limited_transmit);
	tcase_add_test(tc, timeout_skips_what_was_sacked);
	tcase_add_test(tc, RFC2018_reneging);
	tcase_add_loop_test(tc, lying_sack_blocks, 0, COUNT(lies));
	tcase_add_test(tc, sack_not_negotiated);
	suite_add_tcase(s, tc);
	tc = tcase_create("receiver");
	tcase_add_loop_test(tc, RFC2018_order_of_blocks, 0, 2);
	tcase_add_loop_test(tc, SHLD_31_one_segment_fills_many_gaps, 0, 4);
	tcase_add_loop_test(tc, fin_out_of_order, 0, 2);
	tcase_add_test(tc, RFC2883_duplicate_segment);
	tcase_add_test(tc, RFC2883_received);
	tcase_add_test(tc, RFC5681_duplicate_acks_at_once);
	tcase_add_test(tc, what_goes_again_without_memory);
	tcase_add_loop_test(tc, out_of_order_queue_is_bounded, 0, 2);
	tcase_add_test(tc, sacks_are_joined);
	tcase_add_loop_test(tc, retransmission_with_fin, 0, 2);
	suite_add_tcase(s, tc);
	return h_main(s);
}
