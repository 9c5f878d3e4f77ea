/*
 * CUBIC (RFC 9438) and Linux's HyStart in virtual time: the algorithm alone against the RFC's formulas in floating
 * point, then within the core.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "tcp/cc.h"
#include "tcp/cc_cubic.h"

#define MSS      1000
#define MS       USEC_PER_MSEC
#define C_CUBIC  0.4
#define SEG(k)   (1 + (uint32_t)(k) * H_MSS)
#define ROOT_MAX UINT64_C(2642245) /* the cube of the next is beyond 64 bits */

static const struct tcp_cc_ops *const cubic = &tcp_cc_cubic;

/* ---- arithmetic ---- */

START_TEST(cube_root_is_exact)
{
	for (uint64_t x = 0, r = 0; x < 200000; x++) {
		while ((r + 1) * (r + 1) * (r + 1) <= x)
			r++;
		h_require(cubic_root(x) == r, "root of %llu", (unsigned long long)x);
	}
	for (uint64_t r = 2; r <= ROOT_MAX; r += 1 + r / 1000) {
		uint64_t cube = r * r * r;
		h_require(cubic_root(cube) == r && cubic_root(cube - 1) == r - 1 && cubic_root(cube + 1) == r,
			  "root of %llu", (unsigned long long)cube);
	}
	ck_assert_uint_eq(cubic_root(UINT64_MAX), ROOT_MAX);
	ck_assert_uint_eq(cubic_root(ROOT_MAX * ROOT_MAX * ROOT_MAX), ROOT_MAX);
}
END_TEST

/* §4.2 (1) and (2): within two ticks and a segment, as Linux's C is 410/1024. */
START_TEST(RFC9438_4_2_formulas)
{
	for (uint32_t below = 1; below < 1 << 24; below += 1 + below / 7) {
		double k = cbrt(below / C_CUBIC) * 1024;
		ck_assert_double_le(fabs(cubic_k(below) - k), 2.0 + k / 2000);
	}
	struct cubic s = {.origin = 1 << 25, .k = 100 * 1024};
	for (int64_t t = 0; t < 220 * 1024; t += 1 + t / 50) {
		double d = (t - s.k) / 1024.0, w = C_CUBIC * d * d * d;
		ck_assert_double_le(fabs((double)cubic_window(&s, t) - s.origin - w), 1.0 + fabs(w) / 900);
	}
	ck_assert_uint_gt(cubic_window(&s, INT64_C(1) << 45), s.origin); /* a year: much, but no overflow */
	s.origin = 10;
	ck_assert_uint_eq(cubic_window(&s, 0), 0);
}
END_TEST

/* ---- the algorithm alone ---- */

struct flow {
	struct tcp_conn c;
	int64_t now, rtt;
};

static struct flow flow_new(uint32_t segs, int64_t rtt)
{
	struct flow f = {.now = H_START, .rtt = rtt};
	f.c.cc = cubic;
	f.c.mss = MSS;
	f.c.cwnd = segs * MSS;
	f.c.ssthresh = TCP_SSTHRESH_INITIAL;
	f.c.srtt_us = rtt;
	f.c.snd_una = UINT32_MAX - 20 * MSS; /* it wraps soon */
	f.c.snd_nxt = f.c.snd_una + f.c.cwnd;
	cubic->init(&f.c, f.now);
	return f;
}

/* As recovery.c does. */
static void lose(struct flow *f)
{
	f->c.ssthresh = cubic->ssthresh(&f->c, f->now, f->c.cwnd);
	f->c.cwnd = f->c.ssthresh;
	f->c.cwnd_acked = 0;
}

static void time_out(struct flow *f)
{
	f->c.ssthresh = cubic->ssthresh(&f->c, f->now, f->c.cwnd);
	f->c.cwnd = f->c.mss;
	f->c.cwnd_acked = 0;
	cubic->on_timeout(&f->c, f->now);
}

/* One segment is acknowledged; the window is full again. */
static void ack_one(struct flow *f, uint32_t rtt_us)
{
	f->c.snd_una += MSS;
	f->c.ack_rtt_us = rtt_us;
	cubic->on_delivered(&f->c, f->now);
	cubic->on_ack(&f->c, f->now, MSS);
	f->c.snd_nxt = f->c.snd_una + f->c.cwnd;
}

/* A window's worth of ACKs over a round trip. */
static void round_trip(struct flow *f)
{
	uint32_t n = f->c.cwnd / MSS;
	int64_t start = f->now;
	for (uint32_t i = 1; i <= n; i++) {
		f->now = start + f->rtt * i / n;
		ack_one(f, f->rtt);
	}
}

static double segs(const struct flow *f)
{
	return f->c.cwnd / (double)MSS;
}

/*
 * RFC 3465 §2.1: a segment that is acknowledged in pieces is one segment, in slow start and behind it; the short one
 * that ends a flight is one, too.
 */
START_TEST(pieces_of_a_segment)
{
	struct flow f = flow_new(20, 100 * MS);
	if (_i) {
		lose(&f);
		ack_one(&f, f.rtt);
	}
	struct flow whole = f;
	for (int i = 0; i < 40; i++) {
		ack_one(&whole, f.rtt);
		for (int piece = 0; piece < 10; piece++) {
			f.c.snd_una += MSS / 10;
			cubic->on_ack(&f.c, f.now, MSS / 10);
		}
		ck_assert_uint_eq(f.c.cwnd, whole.c.cwnd);
		f.c.snd_nxt = f.c.snd_una + f.c.cwnd;
	}
	f.c.ssthresh = TCP_SSTHRESH_INITIAL;
	uint32_t before = f.c.cwnd;
	f.c.snd_una = f.c.snd_nxt;
	cubic->on_ack(&f.c, f.now, 1);
	ck_assert_uint_eq(f.c.cwnd, before + MSS);
}
END_TEST

/* The shape on a long fat path: W_cubic(t) within 2 %, flat at K, concave before and convex behind it. */
START_TEST(window_follows_W_cubic)
{
	struct flow f = flow_new(1000, 100 * MS);
	lose(&f);
	ck_assert_uint_eq(f.c.cwnd, 700 * MSS);
	double k = cbrt(300 / C_CUBIC), at_k = 0, first = 0, last = 0;
	int64_t epoch = 0;
	for (int i = 0; i < 160; i++) {
		double before = segs(&f);
		round_trip(&f);
		if (!epoch)
			epoch = f.now - f.rtt + f.rtt / 700;
		double t = (f.now - epoch) / 1e6, w = C_CUBIC * pow(t - k, 3) + 1000;
		h_require(fabs(segs(&f) - w) < 20, "at %f s: %f, not %f", t, segs(&f), w);
		if (i == 0)
			first = segs(&f) - before;
		if (fabs(t - k) < 0.06)
			at_k = segs(&f);
		last = segs(&f) - before;
	}
	ck_assert_double_le(fabs(at_k - 1000), 3);
	ck_assert_double_gt(first, 5);
	ck_assert_double_gt(last, 5);
	ck_assert_double_gt(segs(&f), 1100);
}
END_TEST

/* At most a segment for two, however late it is. */
START_TEST(growth_is_bounded)
{
	struct flow f = flow_new(50, 100 * MS);
	lose(&f);
	ack_one(&f, f.rtt);
	f.now += 60 * USEC_PER_SEC;
	for (int i = 0; i < 4; i++) {
		double before = segs(&f);
		round_trip(&f);
		ck_assert_double_le(segs(&f), before * 1.5 + 1);
		ck_assert_double_ge(segs(&f), before * 1.4);
	}
}
END_TEST

/* Before the first loss: a segment for each twenty, where the curve is flatter. */
START_TEST(first_stage_grows_by_a_twentieth)
{
	struct flow f = flow_new(100, 20 * MS);
	f.c.ssthresh = f.c.cwnd;
	for (int i = 1; i <= 5; i++)
		round_trip(&f);
	ck_assert_double_ge(segs(&f), 124);
	ck_assert_double_le(segs(&f), 129);
}
END_TEST

/* §4.3: with a small bandwidth-delay product it is Reno's average, eight segments in fifteen windows. */
START_TEST(RFC9438_4_3_reno_friendly)
{
	struct flow f = flow_new(20, 5 * MS);
	lose(&f);
	ck_assert_uint_eq(f.c.cwnd, 14 * MSS);
	int rounds = 0;
	for (; f.c.cwnd < 20 * MSS; rounds++)
		round_trip(&f);
	ck_assert_int_ge(rounds, 10);
	ck_assert_int_le(rounds, 17);
}
END_TEST

/* §4.6: 0.7 in whole segments, and two at least. */
START_TEST(RFC9438_4_6_decrease)
{
	struct flow f = flow_new(100, 10 * MS);
	ck_assert_uint_eq(cubic->ssthresh(&f.c, f.now, 100 * MSS), 70 * MSS);
	ck_assert_uint_eq(cubic->ssthresh(&f.c, f.now, 40 * MSS), 28 * MSS); /* what was in flight, not what might have been */
	ck_assert_uint_eq(cubic->ssthresh(&f.c, f.now, MSS), 2 * MSS);
	ck_assert_uint_eq(cubic->ssthresh(&f.c, f.now, 300 * MSS), 70 * MSS); /* nor what went beyond the window in recovery */
	f.c.cwnd = 11 * MSS + 999;
	ck_assert_uint_eq(cubic->ssthresh(&f.c, f.now, f.c.cwnd), 7 * MSS);
}
END_TEST

/* §4.7: a loss below W_max gives 15 % of the window away; one at or above does not. */
START_TEST(RFC9438_4_7_fast_convergence)
{
	struct flow f = flow_new(100, 10 * MS);
	const struct cubic *s = (const struct cubic *)f.c.cc_state;
	lose(&f);
	ck_assert_uint_eq(s->w_max, 100);
	lose(&f);
	ck_assert_uint_eq(s->w_max, 59);
	f.c.cwnd = 60 * MSS;
	lose(&f);
	ck_assert_uint_eq(s->w_max, 60);
}
END_TEST

/* §4.8: slow start to 0.7 of what was, then from there: K is 0, and W_max undefined. */
START_TEST(RFC9438_4_8_timeout)
{
	struct flow f = flow_new(1000, 100 * MS);
	const struct cubic *s = (const struct cubic *)f.c.cc_state;
	time_out(&f);
	ck_assert_uint_eq(f.c.ssthresh, 700 * MSS);
	ck_assert_uint_eq(s->w_max, 0);
	int rounds = 0;
	for (; f.c.cwnd < f.c.ssthresh; rounds++) {
		uint32_t before = f.c.cwnd;
		for (uint32_t n = before / MSS; n; n--, f.now += 3 * MS) /* no train */
			ack_one(&f, f.rtt);
		ck_assert(f.c.cwnd == 2 * before || f.c.cwnd >= f.c.ssthresh);
	}
	ck_assert_int_eq(rounds, 10);
	ck_assert_uint_eq(s->k, 0);
	ck_assert_uint_eq(s->origin, 700);
	ck_assert_uint_eq(s->w_max, 0);
}
END_TEST

/* A timeout while congestion avoidance goes on must not leave its clock running. */
START_TEST(timeout_ends_the_epoch)
{
	struct flow f = flow_new(100, 100 * MS);
	const struct cubic *s = (const struct cubic *)f.c.cc_state;
	lose(&f);
	round_trip(&f);
	ck_assert_int_ne(s->epoch_start_us, 0);
	f.c.cwnd = MSS; /* as recovery_on_rto within TCP_LOSS_RTO: ssthresh is not asked again */
	cubic->on_timeout(&f.c, f.now);
	ck_assert_int_eq(s->epoch_start_us, 0);
}
END_TEST

/* §5.8: a pause is no part of t. */
START_TEST(RFC9438_5_8_pause)
{
	struct flow busy = flow_new(1000, 100 * MS), idle = busy;
	lose(&busy);
	lose(&idle);
	for (int i = 0; i < 20; i++) {
		round_trip(&busy);
		round_trip(&idle);
		idle.c.last_data_sent_us = idle.now;
		idle.now += 10 * USEC_PER_SEC;
		cubic->on_start(&idle.c, idle.now);
		h_require(abs((int)idle.c.cwnd - (int)busy.c.cwnd) <= MSS, "round %d: %u, not %u", i, idle.c.cwnd, busy.c.cwnd);
	}
}
END_TEST

/* ---- HyStart ---- */

static bool in_slow_start(const struct flow *f)
{
	return f->c.ssthresh == TCP_SSTHRESH_INITIAL;
}

/* A window's worth of ACKs, `gap` apart, that tell `rtt`. */
static void slow_round(struct flow *f, uint32_t rtt, int64_t gap)
{
	for (uint32_t n = f->c.cwnd / MSS; n; n--, f->now += gap)
		ack_one(f, rtt);
}

/* RTT of the path, and the threshold that it gives. */
static const struct {
	uint32_t rtt, thresh;
} delays[] = {{1 * MS, 4 * MS}, {20 * MS, 4 * MS}, {80 * MS, 10 * MS}, {400 * MS, 16 * MS}};

START_TEST(hystart_delay)
{
	uint32_t rtt = delays[_i].rtt, high = rtt + delays[_i].thresh;
	struct flow f = flow_new(16, rtt);
	slow_round(&f, rtt, 3 * MS);
	slow_round(&f, high, 3 * MS); /* not quite */
	ck_assert(in_slow_start(&f));
	uint32_t before = f.c.cwnd;
	f.c.snd_una += 1; /* the round that begins now is this one's */
	for (int i = 0; i < 8; i++, f.now += 3 * MS)
		ack_one(&f, high + 1);
	ck_assert(in_slow_start(&f));
	ack_one(&f, high + 1); /* the ninth */
	ck_assert_uint_eq(f.c.ssthresh, before + 8 * MSS);
	ck_assert_uint_eq(f.c.cwnd, before + 8 * MSS);
}
END_TEST

/* A round trip that falls within a round, wireless jitter, few samples, none: slow start goes on. */
START_TEST(hystart_noise)
{
	struct flow f = flow_new(16, 20 * MS);
	uint32_t random = 12345;
	slow_round(&f, 20 * MS, 3 * MS);
	for (int round = 0; round < 4; round++) {
		uint32_t before = f.c.cwnd;
		for (uint32_t i = 0; i < before / MSS; i++, f.now += 3 * MS) {
			random = random * 1103515245 + 12345;
			uint32_t rtt = 0;
			if (_i == 0)
				rtt = 20 * MS + (i % 8 ? 60 * MS : 0); /* one in eight is on time */
			else if (_i == 1)
				rtt = 20 * MS + (i < 3 ? 0 : (random >> 16) % (30 * MS));
			else if (_i == 2)
				rtt = i < 7 ? 90 * MS : 0; /* seven samples are too few */
			ack_one(&f, rtt);
		}
		ck_assert_uint_eq(f.c.cwnd, 2 * before);
	}
	ck_assert(in_slow_start(&f));
}
END_TEST

/* A train as long as half of the round trip, or where the sender paces all of it; a gap ends it. */
START_TEST(hystart_train)
{
	struct flow f = flow_new(150, 100 * MS);
	f.c.paced = _i == 1;
	slow_round(&f, 100 * MS, 3 * MS);
	f.c.snd_una += 1;
	ack_one(&f, 100 * MS);
	int64_t start = f.now, last = _i == 1 ? 100 : 50;
	for (int i = 1; i <= last; i++) {
		f.now += _i == 2 && i == 10 ? 3 * MS : MS;
		ack_one(&f, 100 * MS);
		ck_assert(in_slow_start(&f));
	}
	f.now += MS;
	ack_one(&f, 100 * MS);
	ck_assert_int_eq(in_slow_start(&f), _i == 2);
	ck_assert_int_ge(f.now - start, (last + 1) * MS);
}
END_TEST

/* Loss leaves slow start; a timeout's slow start looks for the path's room once more. */
START_TEST(hystart_after_timeout)
{
	struct flow f = flow_new(200, 20 * MS);
	slow_round(&f, 20 * MS, 3 * MS);
	f.c.snd_una = f.c.snd_nxt;
	time_out(&f);
	uint32_t ssthresh = f.c.ssthresh;
	for (int i = 0; i < 5; i++)
		slow_round(&f, 20 * MS, 3 * MS);
	ck_assert_uint_eq(f.c.ssthresh, ssthresh);
	slow_round(&f, 40 * MS, 3 * MS);
	ck_assert_uint_lt(f.c.ssthresh, ssthresh);
}
END_TEST

/* ---- within the core ---- */

static struct harness *established(unsigned features)
{
	struct harness *h = h_new(features);
	h->open.cc = cubic;
	h->open.options.user_sndbuf = true;
	h->open.options.sndbuf_bytes = 1 << 20;
	h->peer_window = 500000;
	h_establish(h);
	h->peer_window = 500000;
	return h;
}

static uint32_t una(struct harness *h)
{
	return h_status(h).snd_una - H_ISS;
}

/* `len` bytes, acknowledged segment by segment a round trip after they went, until nothing is in flight. */
static void transfer(struct harness *h, uint32_t len)
{
	ck_assert_int_eq(h_send(h, len), (ssize_t)len);
	h_drain(h);
	while (h_status(h).in_flight_bytes) {
		uint32_t nxt = h_snd_nxt(h);
		h_advance(h, H_RTT);
		for (uint32_t ack = una(h); ack != nxt;) {
			ack = nxt - ack > H_MSS ? ack + H_MSS : nxt;
			h_peer_ack(h, ack);
			h_drain(h);
		}
	}
}

/* Fast recovery with a window of `window` segments, all in flight, and out of it. */
static void fast_recovery(struct harness *h, uint32_t window)
{
	h->c.cwnd = window * H_MSS; /* it grew beyond */
	uint32_t first = una(h);
	ck_assert_int_eq(h_send(h, window * H_MSS), (ssize_t)(window * H_MSS));
	h_advance(h, H_RTT);
	uint32_t edges[2] = {first + H_MSS, first + window * H_MSS};
	h_peer_sack(h, first, 1, edges);
	ck_assert_uint_eq(h_status(h).ssthresh_bytes, window * H_MSS * 7 / 10);
	h_drain(h);
	h_advance(h, H_RTT);
	h_peer_ack(h, first + window * H_MSS);
	h_require(h_status(h).cwnd_bytes / H_MSS == window * 7 / 10, "cwnd is %u", h_status(h).cwnd_bytes); /* it may grow for this ACK */
	h_drain(h);
}

/*
 * §5.8 by the core: five busy rounds grow the window alike, whether they follow each other at once, with 150 ms of
 * nothing between them, or with small writes.
 */
START_TEST(idle_time_does_not_count)
{
	uint32_t grown[3];
	for (int mode = 0; mode < 3; mode++) {
		struct harness *h = established(H_ALL);
		while (h_status(h).cwnd_bytes < 400 * H_MSS)
			transfer(h, h_status(h).cwnd_bytes / H_MSS * H_MSS);
		fast_recovery(h, 400);
		for (int round = 0; round < 5; round++) {
			transfer(h, h_status(h).cwnd_bytes / 2 * 3);
			if (mode == 1)
				h_advance(h, 150 * MS);
			for (int i = 0; mode == 2 && i < 10; i++) {
				transfer(h, H_MSS);
				h_advance(h, 5 * MS);
			}
		}
		grown[mode] = h_status(h).cwnd_bytes;
		ck_assert_uint_eq(h_status(h).fast_recoveries, 1);
		h_drain(h);
		h_free(h);
	}
	ck_assert_uint_gt(grown[0], 280 * H_MSS);
	ck_assert_uint_le(grown[0], 295 * H_MSS);
	/* K is 6.7 s: had the 0.75 s counted, it were 35 segments more */
	ck_assert_uint_le(grown[1], grown[0] + 2 * H_MSS);
	ck_assert_uint_le(grown[2], grown[0] + 2 * H_MSS);
	ck_assert_uint_ge(grown[1] + 2 * H_MSS, grown[0]);
	ck_assert_uint_ge(grown[2] + 2 * H_MSS, grown[0]);
}
END_TEST

/*
 * A timeout within fast recovery, when much new data went beyond the hole: ssthresh does not go up, whatever is in
 * flight by then.
 */
START_TEST(timeout_in_recovery_does_not_raise_ssthresh)
{
	struct harness *h = established(H_ALL);
	if (_i)
		h->c.cc = &tcp_cc_newreno;
	while (h_status(h).cwnd_bytes < 40 * H_MSS)
		transfer(h, h_status(h).cwnd_bytes / H_MSS * H_MSS);
	uint32_t cwnd = h_status(h).cwnd_bytes, first = una(h), edges[2] = {first + H_MSS, 0};
	h_send(h, 500 * H_MSS);
	h_advance(h, H_RTT);
	edges[1] = h_snd_nxt(h);
	h_peer_sack(h, first, 1, edges); /* the first is lost, and its retransmission too */
	uint32_t ssthresh = h_status(h).ssthresh_bytes;
	ck_assert_uint_le(ssthresh, cwnd * 7 / 10);
	for (int i = 0; i < 3; i++) {
		h_drain(h);
		h_advance(h, H_RTT);
		edges[1] = h_snd_nxt(h);
		h_peer_sack(h, first, 1, edges);
	}
	ck_assert_uint_gt(h_status(h).in_flight_bytes, 2 * cwnd);
	h_drain(h);
	while (!h_status(h).rto_events)
		h_next(h);
	ck_assert_uint_le(h_status(h).ssthresh_bytes, ssthresh);
	h_drain(h);
	h_free(h);
}
END_TEST

START_TEST(timeout_by_the_core)
{
	struct harness *h = established(_i ? H_ALL : 0);
	h_send(h, 10 * H_MSS);
	h_drain(h);
	h_timeout(h);
	ck_assert_uint_eq(h_status(h).cwnd_bytes, H_MSS);
	ck_assert_uint_eq(h_status(h).ssthresh_bytes, 7 * H_MSS);
	for (int i = 0; i < 3; i++)
		h_next(h);
	ck_assert_uint_eq(h_status(h).ssthresh_bytes, 7 * H_MSS); /* RFC 5681 §3.1: once for a flight */
	h_drain(h);
	h_free(h);
}
END_TEST

/* Every ACK of new data tells a round trip, which is what HyStart needs. */
START_TEST(every_ack_tells_its_rtt)
{
	struct harness *h = established(_i ? H_ALL : 0);
	h_advance(h, 50 * MS); /* the harness echoes as if H_RTT ago, once there was so much time */
	h_send(h, 10 * H_MSS);
	h_drain(h);
	h_advance(h, H_RTT);
	for (uint32_t i = 1; i <= 10; i++) {
		h_peer_ack(h, SEG(i));
		ck_assert_int_le(llabs((long long)h->c.ack_rtt_us - H_RTT), MS);
	}
	h_drain(h);
	h_free(h);
}
END_TEST

/* TCP_CONGESTION: before the connection, and on a living one, whose window stays. */
START_TEST(chosen_by_the_application)
{
	struct harness *h = h_new(H_ALL);
	h->open.cc = cubic;
	h->open.options.cc = &tcp_cc_newreno;
	h_establish(h);
	ck_assert_str_eq(h_status(h).cc_name, "reno");
	h_grow_cwnd(h, 20);
	uint32_t before = h_status(h).cwnd_bytes;
	struct tcp_options opt = *tcp_get_options(&h->c);
	opt.cc = cubic;
	tcp_set_options(&h->c, h->now, &opt);
	ck_assert_str_eq(h_status(h).cc_name, "cubic");
	ck_assert_uint_eq(h_status(h).cwnd_bytes, before);
	opt.nodelay = true;
	tcp_set_options(&h->c, h->now, &opt); /* another option changes nothing */
	ck_assert_str_eq(h_status(h).cc_name, "cubic");
	h_grow_cwnd(h, 40);
	fast_recovery(h, 20); /* 0.7, not a half */
	h_drain(h);
	h_free(h);
}
END_TEST

START_TEST(names)
{
	ck_assert_ptr_eq(tcp_cc_find("cubic"), &tcp_cc_cubic);
	ck_assert_ptr_eq(tcp_cc_find("reno"), &tcp_cc_newreno);
	ck_assert_ptr_eq(tcp_cc_find("newreno"), &tcp_cc_newreno);
	ck_assert_ptr_null(tcp_cc_find("vegas"));
	ck_assert_ptr_null(tcp_cc_find(""));
	ck_assert_ptr_null(tcp_cc_find("Cubic"));
}
END_TEST

#define COUNT(a) (int)(sizeof(a) / sizeof(a)[0])

int main(void)
{
	Suite *s = suite_create("cubic");
	TCase *tc = tcase_create("cubic");
	tcase_add_test(tc, cube_root_is_exact);
	tcase_add_test(tc, RFC9438_4_2_formulas);
	tcase_add_test(tc, window_follows_W_cubic);
	tcase_add_test(tc, growth_is_bounded);
	tcase_add_loop_test(tc, pieces_of_a_segment, 0, 2);
	tcase_add_test(tc, first_stage_grows_by_a_twentieth);
	tcase_add_test(tc, RFC9438_4_3_reno_friendly);
	tcase_add_test(tc, RFC9438_4_6_decrease);
	tcase_add_test(tc, RFC9438_4_7_fast_convergence);
	tcase_add_test(tc, RFC9438_4_8_timeout);
	tcase_add_test(tc, timeout_ends_the_epoch);
	tcase_add_test(tc, RFC9438_5_8_pause);
	suite_add_tcase(s, tc);
	tc = tcase_create("hystart");
	tcase_add_loop_test(tc, hystart_delay, 0, COUNT(delays));
	tcase_add_loop_test(tc, hystart_noise, 0, 4);
	tcase_add_loop_test(tc, hystart_train, 0, 3);
	tcase_add_test(tc, hystart_after_timeout);
	suite_add_tcase(s, tc);
	tc = tcase_create("core");
	tcase_add_test(tc, idle_time_does_not_count);
	tcase_add_loop_test(tc, timeout_in_recovery_does_not_raise_ssthresh, 0, 2);
	tcase_add_loop_test(tc, timeout_by_the_core, 0, 2);
	tcase_add_loop_test(tc, every_ack_tells_its_rtt, 0, 2);
	tcase_add_test(tc, chosen_by_the_application);
	tcase_add_test(tc, names);
	suite_add_tcase(s, tc);
	return h_main(s);
}
