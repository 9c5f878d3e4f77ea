/*
 * CUBIC (RFC 9438) with HyStart++ (cc_hystart.c) as its first slow start. One function per section.
 *
 * Owns struct cubic in cc_state; c->cwnd_acked is the remainder of the growth that is below a byte (times cwnd).
 *
 * Events: an ACK (on_ack) grows cwnd; a loss (ssthresh) fixes W_max and ends the stage of congestion avoidance; a timeout makes W_max undefined;
 * time in which cwnd was not the limit (on_unused) is taken out of t. The next ACK at or above ssthresh begins a stage: K follows from
 * W_max, or is 0 where W_max is undefined or not above cwnd (§4.8, §4.10).
 *
 * Arithmetic: integers. Windows in bytes, W_est with 12 bits of fraction, t and K in 1/1024 s; what they may grow to is said where it matters.
 *
 * Not here: §4.9 (spurious loss). undo.c does it for every algorithm, and brings cc_state back. Nor ABE (RFC 8511): a mark is answered as a loss is.
 * No timers. References: RFC 9438, 9406, 5681.
 */
#include "tcp/cc_cubic.h"

#include "tcp/tcp_int.h"

#include <string.h>

/* RFC 9438 §4.6: beta_cubic = 0.7; §5: C = 0.4; §4.3: alpha_cubic = 3 (1 − beta) / (1 + beta) = 9/17. */
#define BETA_NUM  7
#define BETA_DEN  10
#define C_NUM     2
#define C_DEN     5
#define ALPHA_NUM 9
#define ALPHA_DEN 17
#define T_MAX     (INT64_C(1) << 20) /* 17 minutes; its cube times C_NUM still fits */
#define CWND_MAX  TCP_SSTHRESH_INITIAL

static struct cubic *cubic_of(struct tcp_conn *c)
{
	_Static_assert(sizeof(struct cubic) <= TCP_CC_UNDO_WORDS * sizeof *c->cc_state, "undo.c keeps less");
	return (struct cubic *)c->cc_state;
}

uint32_t cubic_root(uint64_t x)
{
	uint64_t root = 0;
	for (int bit = 21; bit >= 0; bit--) { /* (2^64)^(1/3) < 2^22 */
		uint64_t with = root | UINT64_C(1) << bit;
		if (with * with <= x / with) /* with^3 <= x, without overflow */
			root = with;
	}
	return root;
}

/* §4.2 (2): K = cubic_root((W_max - cwnd_epoch) / C), windows in segments. `below` < 2^31: 5 * 2^61 at most. */
uint32_t cubic_k(uint32_t below, uint32_t mss)
{
	return cubic_root(((uint64_t)below * C_DEN << (3 * CUBIC_HZ_SHIFT)) / C_NUM / mss);
}

/* §4.2 (1), less W_max. 2^61 at most before the shift, 2^56 after mss. */
int64_t cubic_offset(int64_t t, uint32_t k, uint32_t mss)
{
	int64_t d = t - k;
	bool before = d < 0;
	uint64_t u = before ? -d : d;
	if (u > T_MAX)
		u = T_MAX;
	uint64_t segs = u * u * u * C_NUM / C_DEN >> (2 * CUBIC_HZ_SHIFT); /* in 1/1024 segments */
	int64_t bytes = segs * mss >> CUBIC_HZ_SHIFT;
	return before ? -bytes : bytes;
}

static int64_t to_ticks(int64_t us)
{
	return (us << CUBIC_HZ_SHIFT) / USEC_PER_SEC;
}

static void cubic_init(struct tcp_conn *c, int64_t now)
{
	struct cubic *s = cubic_of(c);
	memset(s, 0, sizeof *s);
	s->last_us = now;
	c->cwnd_acked = 0;
	if (c->ssthresh == TCP_SSTHRESH_INITIAL) /* RFC 9406 §4.3: the initial slow start, and no other */
		hystart_init(&s->hystart);
}

/* §4.10: slow start, HyStart++ at first. How much of `acked` is left for congestion avoidance. */
static uint32_t slow_start(struct tcp_conn *c, struct cubic *s, uint32_t acked)
{
	uint32_t room = c->ssthresh - c->cwnd;
	s->epoch_start_us = 0; /* what follows is another stage of congestion avoidance */
	if (s->hystart.phase == HYSTART_OFF) {
		uint32_t grow = min_u32(acked, room);
		c->cwnd += grow;
		return acked - grow;
	}
	c->cwnd += min_u32(hystart_growth(&s->hystart, acked), room);
	if (hystart_on_ack(&s->hystart, c)) {
		s->cwnd_prior = c->cwnd; /* §4.10; W_max is undefined */
		c->ssthresh = c->cwnd;
	}
	return 0;
}

/* §4.2: a stage of congestion avoidance begins. §4.8 and §4.10: W_max undefined, so K is 0 and W_max is cwnd; the same where cwnd is past W_max. */
static void start_epoch(struct tcp_conn *c, struct cubic *s, int64_t now)
{
	s->epoch_start_us = now;
	c->cwnd_acked = 0;
	if (s->w_max > c->cwnd) {
		s->k = cubic_k(s->w_max - c->cwnd, c->mss);
	} else {
		s->k = 0;
		s->w_max = c->cwnd;
	}
	s->w_est = (uint64_t)c->cwnd << CUBIC_EST_SHIFT; /* §4.3: W_est is cwnd_epoch */
}

/* §4.2 (1) */
static uint32_t w_cubic(const struct cubic *s, int64_t elapsed_us, uint32_t mss)
{
	int64_t w = s->w_max + cubic_offset(to_ticks(elapsed_us), s->k, mss);
	return w < 0 ? 0 : w > CWND_MAX ? CWND_MAX : w;
}

/* §4.2: target, between cwnd and 1.5 * cwnd. */
static uint32_t target_of(const struct tcp_conn *c, const struct cubic *s, int64_t t_us)
{
	uint32_t w = w_cubic(s, t_us + c->srtt_us, c->mss);
	uint64_t most = c->cwnd + (uint64_t)c->cwnd / 2;
	return w < c->cwnd ? c->cwnd : w > most ? most : w;
}

/* §4.3 (4): W_est += alpha_cubic * segments_acked / cwnd, alpha_cubic being 1 from cwnd_prior on. `acked` and mss below 2^30 and 2^16: 2^62. */
static uint32_t reno_estimate(const struct tcp_conn *c, struct cubic *s, uint32_t acked)
{
	bool past_prior = s->w_est >> CUBIC_EST_SHIFT >= s->cwnd_prior;
	uint64_t num = (uint64_t)min_u32(acked, c->cwnd) * c->mss << CUBIC_EST_SHIFT;
	s->w_est += past_prior ? num / c->cwnd : num * ALPHA_NUM / ((uint64_t)c->cwnd * ALPHA_DEN);
	uint64_t w = s->w_est >> CUBIC_EST_SHIFT;
	return w > CWND_MAX ? CWND_MAX : w;
}

/* §4.4 and §4.5, concave and convex alike: (target − cwnd) / cwnd for each segment acknowledged. */
static void grow_to(struct tcp_conn *c, uint32_t target, uint32_t acked)
{
	uint64_t sum = (uint64_t)(target - c->cwnd) * min_u32(acked, c->cwnd) + c->cwnd_acked;
	uint32_t cwnd = c->cwnd;
	c->cwnd += sum / cwnd;
	c->cwnd_acked = sum % cwnd;
}

/* §4.2: which region are we in? */
static void avoid_congestion(struct tcp_conn *c, struct cubic *s, int64_t now, uint32_t acked)
{
	if (!s->epoch_start_us)
		start_epoch(c, s, now);
	int64_t t_us = now - s->epoch_start_us;
	uint32_t w_est = reno_estimate(c, s, acked);
	if (w_cubic(s, t_us, c->mss) < w_est) /* §4.3, the Reno-friendly region. An ACK never takes from cwnd. */
		c->cwnd = max_u32(c->cwnd, w_est);
	else
		grow_to(c, target_of(c, s, t_us), acked);
}

static void cubic_on_ack(struct tcp_conn *c, int64_t now, uint32_t acked)
{
	struct cubic *s = cubic_of(c);
	s->last_us = now;
	if (c->cwnd < c->ssthresh)
		acked = slow_start(c, s, acked);
	if (acked)
		avoid_congestion(c, s, now, acked);
}

/* §4.2, §5.8: t "MUST NOT" count the time in which cwnd was not updated because the application or the receiver was the limit. */
static void cubic_on_unused(struct tcp_conn *c, int64_t now)
{
	struct cubic *s = cubic_of(c);
	if (s->epoch_start_us)
		s->epoch_start_us += now - s->last_us;
	s->last_us = now;
}

/* §4.7: give way to flows that are new. */
static uint32_t fast_convergence(const struct cubic *s, uint32_t cwnd)
{
	if (cwnd < s->w_max)
		return (uint64_t)cwnd * (BETA_DEN + BETA_NUM) / (2 * BETA_DEN);
	return cwnd;
}

/* §4.6, of flight_size or of cwnd, which the RFC allows, whichever is less. They differ when a timeout ends fast recovery: what went beyond the hole
   is in flight then, and cwnd is what the loss left of it, of which the timeout says that it was still too much. */
static uint32_t cubic_ssthresh(struct tcp_conn *c, int64_t now, uint32_t flight)
{
	struct cubic *s = cubic_of(c);
	s->w_max = fast_convergence(s, c->cwnd);
	s->cwnd_prior = c->cwnd;
	s->epoch_start_us = 0;
	hystart_stop(&s->hystart); /* RFC 9406 §4.2: loss leaves slow start and CSS */
	return max_u32((uint64_t)min_u32(flight, c->cwnd) * BETA_NUM / BETA_DEN, TCP_LOSS_WINDOW_SEGS * c->mss);
}

/* §4.8: the stage after a timeout starts with K = 0 and W_max = cwnd; cwnd and ssthresh are as ever (the core's, §4.6's). */
static void cubic_on_timeout(struct tcp_conn *c, int64_t now)
{
	struct cubic *s = cubic_of(c);
	s->w_max = 0;
	s->epoch_start_us = 0;
}

const struct tcp_cc_ops tcp_cc_cubic = {
	.name = "cubic",
	.init = cubic_init,
	.on_ack = cubic_on_ack,
	.on_unused = cubic_on_unused,
	.ssthresh = cubic_ssthresh,
	.on_timeout = cubic_on_timeout,
};
