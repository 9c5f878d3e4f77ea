/*
 * CUBIC (RFC 9438) and HyStart++ (RFC 9406) in virtual time: the algorithm alone against the RFC's formulas in floating point, then within the core.
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
#define BETA     0.7
#define ALPHA    (3 * (1 - BETA) / (1 + BETA))
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

/* §4.2 (1) and (2) over all that windows and segment sizes can be; within a tick and 1/500 segment. */
START_TEST(RFC9438_4_2_formulas)
{
	static const uint32_t sizes[] = {88, 536, 1460, 8960, 65495};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		uint32_t mss = sizes[i];
		for (uint64_t below = 1; below < UINT32_MAX / 2; below += 1 + below / 7) {
			double k = cbrt(below / (double)mss / C_CUBIC) * 1024;
			ck_assert_double_le(fabs(cubic_k(below, mss) - k), 1.0);
		}
		for (int64_t t = 0; t < 300 * 1024; t += 1 + t / 50) {
			uint32_t k = 100 * 1024;
			double d = (t - k) / 1024.0, w = C_CUBIC * d * d * d * mss;
			ck_assert_double_le(fabs(cubic_offset(t, k, mss) - w), mss / 500.0 + 1);
		}
		ck_assert_int_gt(cubic_offset(INT64_C(1) << 45, 0, mss), UINT32_MAX / 2); /* a year: much, but no overflow */
	}
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

/* RFC 9438 §4.2 to §4.5 in segments and seconds, ACK by ACK. */
struct reference {
	double cwnd, w_max, k, w_est, cwnd_prior;
	int64_t epoch;
};

static void reference_ack(struct reference *r, int64_t now, int64_t rtt)
{
	if (!r->epoch) {
		r->epoch = now;
		r->w_max = fmax(r->w_max, r->cwnd);
		r->k = cbrt((r->w_max - r->cwnd) / C_CUBIC);
		r->w_est = r->cwnd;
	}
	double t = (now - r->epoch) / 1e6, ahead = t + rtt / 1e6;
	double w = C_CUBIC * pow(t - r->k, 3) + r->w_max;
	double target = C_CUBIC * pow(ahead - r->k, 3) + r->w_max;
	r->w_est += (r->w_est >= r->cwnd_prior ? 1 : ALPHA) / r->cwnd;
	target = fmin(fmax(target, r->cwnd), 1.5 * r->cwnd);
	if (w < r->w_est)
		r->cwnd = fmax(r->cwnd, r->w_est);
	else
		r->cwnd += (target - r->cwnd) / r->cwnd;
}

static const struct {
	uint32_t window;
	int64_t rtt;
} paths[] = {{10, 1 * MS}, {20, 5 * MS}, {40, 50 * MS}, {100, 20 * MS}, {300, 300 * MS}, {1000, 100 * MS}, {5000, 80 * MS}};

/* Window after a loss, and after a second one below W_max (fast convergence): as the formulas say, within a segment at every ACK. */
START_TEST(window_after_loss_is_the_formulas)
{
	struct flow f = flow_new(paths[_i].window, paths[_i].rtt);
	struct reference r = {.cwnd = segs(&f)};
	for (int losses = 0; losses < 3; losses++) {
		r.w_max = r.cwnd < r.w_max ? r.cwnd * (1 + BETA) / 2 : r.cwnd;
		r.cwnd_prior = r.cwnd;
		r.cwnd = segs(&f) * BETA;
		r.epoch = 0;
		lose(&f);
		int rounds = losses == 1 ? 3 : 120; /* the third comes early */
		for (int i = 0; i < rounds; i++) {
			uint32_t n = f.c.cwnd / MSS;
			int64_t start = f.now;
			for (uint32_t a = 1; a <= n; a++) {
				f.now = start + f.rtt * a / n;
				ack_one(&f, f.rtt);
				reference_ack(&r, f.now, f.rtt);
				h_require(fabs(segs(&f) - r.cwnd) < 1 + r.cwnd / 500, "loss %d, round %d: %f, not %f", losses, i, segs(&f),
					  r.cwnd);
			}
		}
		r.cwnd = segs(&f);
	}
}
END_TEST

/* The shape on a long fat path: W_cubic(t) within 2 %, flat at K, concave before and convex behind it. */
START_TEST(window_follows_W_cubic)
{
	struct flow f = flow_new(1000, 100 * MS);
	lose(&f);
	ck_assert_uint_eq(f.c.cwnd, 700 * MSS);
	double k = cbrt(300 / C_CUBIC), last = 700, step = INFINITY, at_k = 0;
	int64_t epoch = 0;
	for (int i = 0; i < 160; i++) {
		round_trip(&f);
		if (!epoch)
			epoch = f.now - f.rtt + f.rtt / 700;
		double t = (f.now - epoch) / 1e6, w = C_CUBIC * pow(t - k, 3) + 1000;
		h_require(fabs(segs(&f) - w) < 20, "at %f s: %f, not %f", t, segs(&f), w);
		double grown = segs(&f) - last;
		if (t < k - 1)
			h_require(grown <= step + 0.1, "at %f s, not concave: %f after %f", t, grown, step);
		if (t > k + 1)
			h_require(grown >= step - 0.1, "at %f s, not convex: %f after %f", t, grown, step);
		if (fabs(t - k) < 0.06)
			at_k = segs(&f);
		step = grown;
		last = segs(&f);
	}
	ck_assert_double_le(fabs(at_k - 1000), 2);
	ck_assert_double_gt(last, 1100);
}
END_TEST

/* §4.2: never more than half as much again in a round trip, however late it is. */
START_TEST(growth_is_bounded_by_target)
{
	struct flow f = flow_new(50, 100 * MS);
	lose(&f);
	ack_one(&f, f.rtt);
	f.now += 100 * USEC_PER_SEC;
	for (int i = 0; i < 4; i++) {
		double before = segs(&f);
		round_trip(&f);
		ck_assert_double_le(segs(&f), before * 1.66); /* 1.5 − 1 compounds over the ACKs of a round: e^0.5 */
		ck_assert_double_ge(segs(&f), before * 1.4);
	}
}
END_TEST

/* §4.3: with a small bandwidth-delay product it is Reno's average: alpha_cubic a round, and one segment from cwnd_prior on. */
START_TEST(RFC9438_4_3_reno_friendly)
{
	struct flow f = flow_new(20, 5 * MS);
	lose(&f);
	ck_assert_uint_eq(f.c.cwnd, 14 * MSS);
	int rounds = 0;
	for (; f.c.cwnd < 20 * MSS; rounds++)
		round_trip(&f);
	ck_assert_int_ge(rounds, (int)(6 / ALPHA));
	ck_assert_int_le(rounds, (int)(6 / ALPHA) + 2);
	double before = segs(&f);
	for (int i = 0; i < 10; i++)
		round_trip(&f);
	ck_assert_double_le(fabs(segs(&f) - before - 10), 1);
}
END_TEST

/* §4.6: 0.7, and two segments at least. */
START_TEST(RFC9438_4_6_decrease)
{
	struct flow f = flow_new(100, 10 * MS);
	ck_assert_uint_eq(cubic->ssthresh(&f.c, f.now, 100 * MSS), 70 * MSS);
	ck_assert_uint_eq(cubic->ssthresh(&f.c, f.now, 40 * MSS), 28 * MSS); /* what was in flight, not what might have been */
	ck_assert_uint_eq(cubic->ssthresh(&f.c, f.now, MSS), 2 * MSS);
	ck_assert_uint_eq(cubic->ssthresh(&f.c, f.now, 300 * MSS), 70 * MSS); /* nor what went beyond the window in recovery */
	f.c.cwnd = UINT32_C(1) << 30;
	ck_assert_uint_eq(cubic->ssthresh(&f.c, f.now, f.c.cwnd), (uint32_t)((UINT64_C(7) << 30) / 10));
}
END_TEST

/* §4.7: a loss below W_max gives 15 % of the window away; one at or above does not. */
START_TEST(RFC9438_4_7_fast_convergence)
{
	struct flow f = flow_new(100, 10 * MS);
	const struct cubic *s = (const struct cubic *)f.c.cc_state;
	lose(&f);
	ck_assert_uint_eq(s->w_max, 100 * MSS);
	lose(&f);
	ck_assert_uint_eq(s->w_max, 70 * MSS * 17 / 20);
	f.c.cwnd = 60 * MSS;
	lose(&f);
	ck_assert_uint_eq(s->w_max, 60 * MSS);
}
END_TEST

/* §4.8: slow start to 0.7 of what was, then from there: K is 0, so W_cubic(t) = cwnd_epoch + C t^3. */
START_TEST(RFC9438_4_8_timeout)
{
	struct flow f = flow_new(1000, 100 * MS);
	const struct cubic *s = (const struct cubic *)f.c.cc_state;
	time_out(&f);
	ck_assert_uint_eq(f.c.ssthresh, 700 * MSS);
	int rounds = 0;
	for (; f.c.cwnd < f.c.ssthresh; rounds++) {
		uint32_t before = f.c.cwnd;
		round_trip(&f);
		ck_assert(f.c.cwnd == 2 * before || f.c.cwnd >= f.c.ssthresh); /* RFC 5681's slow start, no HyStart++ */
	}
	ck_assert_int_eq(rounds, 10);
	ck_assert_uint_eq(s->k, 0);
	ck_assert_uint_eq(s->w_max, 700 * MSS);
	while (f.now - s->epoch_start_us < 8 * USEC_PER_SEC)
		round_trip(&f);
	double t = (f.now - s->epoch_start_us) / 1e6;
	ck_assert_double_le(fabs(segs(&f) - (700 + C_CUBIC * t * t * t)), 10);
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

/* §5.8: time in which cwnd was not the limit is no part of t. */
START_TEST(RFC9438_5_8_unused_time)
{
	struct flow busy = flow_new(1000, 100 * MS), idle = busy;
	lose(&busy);
	lose(&idle);
	for (int i = 0; i < 20; i++) {
		round_trip(&busy);
		round_trip(&idle);
		for (int j = 0; j < _i; j++) { /* ACKs while the application is the limit, or one restart */
			idle.now += 10 * USEC_PER_SEC / _i;
			cubic->on_unused(&idle.c, idle.now);
		}
		ck_assert_uint_eq(idle.c.cwnd, busy.c.cwnd);
	}
}
END_TEST

/* ---- HyStart++ ---- */

static const struct hystart *hystart_of(const struct flow *f)
{
	return &((const struct cubic *)f->c.cc_state)->hystart;
}

/* A round as HyStart++ counts it, every ACK of which tells `rtt`. How many ACKs. */
static uint32_t slow_round(struct flow *f, uint32_t rtt)
{
	uint32_t n = 0;
	do {
		ack_one(f, rtt);
		n++;
	} while (!hystart_of(f)->round_due);
	f->now += rtt;
	return n;
}

static struct flow in_slow_start(uint32_t rtt)
{
	struct flow f = flow_new(16, rtt);
	for (int i = 0; i < 3; i++) {
		uint32_t before = f.c.cwnd, n = slow_round(&f, rtt);
		ck_assert_uint_eq(n, before / MSS); /* rounds are windows, and stay so */
		ck_assert_uint_eq(f.c.cwnd, 2 * before);
	}
	ck_assert_int_eq(hystart_of(&f)->phase, HYSTART_SLOW_START);
	return f;
}

/* RTT of the path, the threshold that RFC 9406 §4.3 gives it. */
static const struct {
	uint32_t rtt, thresh;
} delays[] = {{1 * MS, 4 * MS}, {20 * MS, 4 * MS}, {80 * MS, 10 * MS}, {400 * MS, 16 * MS}};

START_TEST(RFC9406_delay_increase_leads_to_css)
{
	struct flow f = in_slow_start(delays[_i].rtt);
	slow_round(&f, delays[_i].rtt + delays[_i].thresh - 1); /* not quite */
	ck_assert_int_eq(hystart_of(&f)->phase, HYSTART_SLOW_START);
	f = in_slow_start(delays[_i].rtt);
	uint32_t high = delays[_i].rtt + delays[_i].thresh, before = f.c.cwnd;
	for (int i = 0; i < 8; i++) { /* N_RTT_SAMPLE ACKs tell it, not seven */
		ck_assert_int_eq(hystart_of(&f)->phase, HYSTART_SLOW_START);
		ack_one(&f, high);
	}
	ck_assert_int_eq(hystart_of(&f)->phase, HYSTART_CSS);
	ck_assert_uint_eq(f.c.cwnd, before + 8 * MSS);
	ck_assert_uint_eq(f.c.ssthresh, TCP_SSTHRESH_INITIAL);
}
END_TEST

/* CSS: a quarter of slow start's growth; five rounds with the partial first; then congestion avoidance from where it got, K = 0. */
START_TEST(RFC9406_css_ends_slow_start)
{
	struct flow f = in_slow_start(20 * MS);
	uint32_t high = 30 * MS;
	for (int i = 0; i < 8; i++)
		ack_one(&f, high);
	for (int i = 0; i < 8; i++) {
		uint32_t before = f.c.cwnd;
		ack_one(&f, high);
		ck_assert_uint_eq(f.c.cwnd, before + MSS / 4);
	}
	int rounds = 0;
	while (hystart_of(&f)->phase == HYSTART_CSS) {
		ck_assert_uint_eq(f.c.ssthresh, TCP_SSTHRESH_INITIAL);
		slow_round(&f, high);
		rounds++;
	}
	ck_assert_int_eq(rounds, 5);
	ck_assert_int_eq(hystart_of(&f)->phase, HYSTART_OFF);
	ck_assert_uint_eq(f.c.ssthresh, f.c.cwnd);
	const struct cubic *s = (const struct cubic *)f.c.cc_state;
	uint32_t cwnd = f.c.cwnd;
	ack_one(&f, high); /* RFC 9438 §4.10 */
	ck_assert_uint_eq(s->k, 0);
	ck_assert_uint_eq(s->w_max, cwnd);
	ck_assert_uint_eq(s->cwnd_prior, cwnd);
	ck_assert_uint_le(f.c.cwnd, cwnd + MSS);
}
END_TEST

/* A delay that goes away was noise: slow start goes on, and has lost little. */
START_TEST(RFC9406_css_returns_to_slow_start)
{
	struct flow f = in_slow_start(20 * MS);
	slow_round(&f, 40 * MS);
	ck_assert_int_eq(hystart_of(&f)->phase, HYSTART_CSS);
	slow_round(&f, 40 * MS);
	slow_round(&f, 20 * MS);
	ck_assert_int_eq(hystart_of(&f)->phase, HYSTART_SLOW_START);
	uint32_t before = f.c.cwnd, n = slow_round(&f, 20 * MS);
	ck_assert_uint_eq(f.c.cwnd, before + n * MSS);
	ck_assert_uint_eq(f.c.ssthresh, TCP_SSTHRESH_INITIAL);
}
END_TEST

/* What must not end slow start: late ACKs within a round whose least is low, wireless jitter, few samples, none. */
START_TEST(RFC9406_noise_does_not_end_slow_start)
{
	struct flow f = in_slow_start(20 * MS);
	uint32_t random = 12345;
	for (int round = 0; round < 4; round++) {
		uint32_t before = f.c.cwnd, i = 0;
		for (bool over = false; !over; over = hystart_of(&f)->round_due, i++) {
			uint32_t rtt = 0;
			random = random * 1103515245 + 12345;
			if (_i == 0)
				rtt = 20 * MS + (i % 8 ? 60 * MS : 0); /* one in eight is on time */
			else if (_i == 1)
				rtt = 20 * MS + (i < 3 ? 0 : (random >> 16) % (30 * MS));
			else if (_i == 2)
				rtt = i < 7 ? 90 * MS : 0; /* seven samples are too few */
			ack_one(&f, rtt);
		}
		ck_assert_uint_eq(f.c.cwnd, before + i * MSS);
	}
	ck_assert_int_eq(hystart_of(&f)->phase, HYSTART_SLOW_START);
}
END_TEST

/* Loss ends it for good, in slow start and in CSS. */
START_TEST(RFC9406_loss_ends_hystart)
{
	struct flow f = in_slow_start(20 * MS);
	if (_i)
		slow_round(&f, 40 * MS);
	ck_assert_int_eq(hystart_of(&f)->phase, _i ? HYSTART_CSS : HYSTART_SLOW_START);
	time_out(&f);
	ck_assert_int_eq(hystart_of(&f)->phase, HYSTART_OFF);
	for (int i = 0; i < 4; i++) {
		uint32_t before = f.c.cwnd;
		for (uint32_t n = before / MSS; n; n--)
			ack_one(&f, (20 + 20 * i) * MS);
		ck_assert_uint_eq(f.c.cwnd, 2 * before);
	}
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

/* §5.8 by the core: five busy rounds grow the window alike, whether they follow each other at once, with 150 ms of nothing between them, or with small writes. */
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

/* A timeout within fast recovery, when much new data went beyond the hole: ssthresh does not go up, whatever is in flight by then. */
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

/* Every ACK of new data tells a round trip, which is what HyStart++ needs. */
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
	tcase_add_loop_test(tc, window_after_loss_is_the_formulas, 0, COUNT(paths));
	tcase_add_test(tc, window_follows_W_cubic);
	tcase_add_test(tc, growth_is_bounded_by_target);
	tcase_add_test(tc, RFC9438_4_3_reno_friendly);
	tcase_add_test(tc, RFC9438_4_6_decrease);
	tcase_add_test(tc, RFC9438_4_7_fast_convergence);
	tcase_add_test(tc, RFC9438_4_8_timeout);
	tcase_add_test(tc, timeout_ends_the_epoch);
	tcase_add_loop_test(tc, RFC9438_5_8_unused_time, 1, 4);
	suite_add_tcase(s, tc);
	tc = tcase_create("hystart");
	tcase_add_loop_test(tc, RFC9406_delay_increase_leads_to_css, 0, COUNT(delays));
	tcase_add_test(tc, RFC9406_css_ends_slow_start);
	tcase_add_test(tc, RFC9406_css_returns_to_slow_start);
	tcase_add_loop_test(tc, RFC9406_noise_does_not_end_slow_start, 0, 4);
	tcase_add_loop_test(tc, RFC9406_loss_ends_hystart, 0, 2);
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
