/*
 * CUBIC (RFC 9438) in Linux's arithmetic, with Linux's HyStart (cc_hystart.c) in slow start.
 *
 * Owns struct cubic in cc_state; c->cwnd_acked is what was acknowledged towards the next segment of growth.
 *
 * Events: each ACK tells a round trip (on_delivered). One for which the window was the limit (on_ack) grows it: slow
 * start, or a segment for each segs_per_growth that were acknowledged. That number follows from the curve, and is
 * looked at anew when cwnd changed, or 1/32 s later. A loss (ssthresh) fixes W_max and ends the stage of congestion
 * avoidance; the next ACK at or above ssthresh begins one. What leaves after a pause (on_start) moves the stage on by
 * it (§5.8). A timeout forgets all.
 *
 * Otherwise than in the RFC, as in Linux: windows are whole segments; growth is at most one segment for two (§4.4: 0.5
 * of cwnd per round trip); where no loss was seen yet, at least one for twenty; the Reno-friendly window grows by 8
 * segments in 15 windows (§4.3: 9/17), past W_max, too; §4.9's state is not brought back: what follows is a new stage.
 * Nor ABE (RFC 8511): a mark is answered as a loss is. No timers. References: RFC 9438, 5681.
 */
#include "tcp/cc_cubic.h"

#include "tcp/tcp_int.h"

#include <string.h>

/* RFC 9438 §4.6: beta_cubic = 0.7; §5: C = 0.4. Linux's fractions of them. */
#define BETA_NUM      717
#define BETA_DEN      1024
#define C_NUM         410
#define C_SHIFT       10
#define EST_NUM       15 /* of 8 windows, for a segment of the Reno-friendly one */
#define EST_SHIFT     3
#define T_MAX         (INT64_C(1) << 17) /* two minutes; its cube times C_NUM still fits */
#define FASTEST       2   /* segments acknowledged for one more, at the least … */
#define FIRST_SLOWEST 20  /* … and at the most before the first loss */
#define FLAT          100 /* windows, where the curve is below */
#define UPDATE_US     (USEC_PER_SEC / 32)
#define SETTLE_US     USEC_PER_SEC /* round trips of a stage that is so young are not its path's */

static struct cubic *cubic_of(struct tcp_conn *c)
{
	_Static_assert(sizeof(struct cubic) <= sizeof c->cc_state, "no room");
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

/*
 * §4.2 (2): K = cubic_root((W_max - cwnd_epoch) / C). A window has less than 2^26 segments of 48 bytes: 2^58 at most.
 */
uint32_t cubic_k(uint32_t below)
{
	return cubic_root((UINT64_C(1) << (C_SHIFT + 3 * CUBIC_HZ_SHIFT)) / C_NUM * below);
}

/* §4.2 (1). */
uint32_t cubic_window(const struct cubic *s, int64_t t)
{
	bool before = t < s->k;
	uint64_t u = before ? s->k - t : t - s->k;
	if (u > T_MAX)
		u = T_MAX;
	uint64_t segs = u * u * u * C_NUM >> (C_SHIFT + 3 * CUBIC_HZ_SHIFT);
	if (!before)
		return s->origin + segs;
	return segs < s->origin ? s->origin - segs : 0;
}

static void cubic_init(struct tcp_conn *c, int64_t now)
{
	struct cubic *s = cubic_of(c);
	memset(s, 0, sizeof *s);
	c->cwnd_acked = 0;
	hystart_init(&s->hystart, c, now);
}

/* §4.2: a stage of congestion avoidance begins. §4.8 and §4.10: where W_max is undefined or not above cwnd, K is 0. */
static void start_epoch(struct cubic *s, int64_t now, uint32_t cwnd, uint32_t acked)
{
	s->epoch_start_us = now;
	s->est_acked = acked;
	s->w_est = cwnd; /* §4.3: W_est is cwnd_epoch */
	s->origin = max_u32(s->w_max, cwnd);
	s->k = cubic_k(s->origin - cwnd);
}

/* §4.4, §4.5: W_cubic(t + RTT) is to be reached within a round trip. */
static uint32_t curve_growth(const struct cubic *s, int64_t now, uint32_t cwnd)
{
	int64_t t_us = now - s->epoch_start_us + s->hystart.least_rtt_us;
	uint32_t target = cubic_window(s, (t_us << CUBIC_HZ_SHIFT) / USEC_PER_SEC);
	uint32_t n = target > cwnd ? cwnd / (target - cwnd) : FLAT * cwnd;
	return s->w_max ? n : min_u32(n, FIRST_SLOWEST);
}

/* §4.3: not slower than Reno with CUBIC's beta would be. */
static uint32_t friendly_growth(struct cubic *s, uint32_t cwnd, uint32_t n)
{
	uint32_t step = max_u32((cwnd * EST_NUM) >> EST_SHIFT, 1);
	if (s->est_acked > step) {
		uint32_t more = (s->est_acked - 1) / step;
		s->est_acked -= more * step;
		s->w_est += more;
	}
	return s->w_est > cwnd ? min_u32(n, cwnd / (s->w_est - cwnd)) : n;
}

static void update(struct cubic *s, int64_t now, uint32_t cwnd, uint32_t acked)
{
	s->est_acked += acked;
	if (s->updated_cwnd == cwnd && now - s->updated_us <= UPDATE_US)
		return;
	s->updated_cwnd = cwnd;
	s->updated_us = now;
	if (!s->epoch_start_us)
		start_epoch(s, now, cwnd, acked);
	uint32_t n = friendly_growth(s, cwnd, curve_growth(s, now, cwnd));
	s->segs_per_growth = max_u32(n, FASTEST);
}

/* RFC 5681 (3), by whole segments. */
static void grow_one_for(struct tcp_conn *c, uint32_t n, uint32_t acked)
{
	if (c->cwnd_acked >= n) { /* from when there were more to a segment */
		c->cwnd_acked = 0;
		c->cwnd += c->mss;
	}
	c->cwnd_acked += acked;
	c->cwnd += c->cwnd_acked / n * c->mss;
	c->cwnd_acked %= n;
}

/*
 * Segments, as Linux counts them: when all of it is acknowledged, so that who acknowledges it in pieces opens no window
 * by it (RFC 3465 §2.1). The last of a flight may be short.
 */
static uint32_t segments_of(const struct tcp_conn *c, struct cubic *s, uint32_t acked)
{
	uint32_t bytes = s->part + acked, segs = bytes / c->mss;
	s->part = bytes % c->mss;
	if (s->part && !snd_flight(c)) {
		s->part = 0;
		segs++;
	}
	return segs;
}

static void cubic_on_ack(struct tcp_conn *c, int64_t now, uint32_t acked)
{
	struct cubic *s = cubic_of(c);
	uint32_t segs = segments_of(c, s, acked);
	if (c->cwnd < c->ssthresh) {
		uint32_t room = (c->ssthresh - c->cwnd + c->mss - 1) / c->mss, grow = min_u32(segs, room);
		c->cwnd += grow * c->mss;
		segs -= grow;
	}
	if (!segs)
		return;
	update(s, now, max_u32(c->cwnd / c->mss, 1), segs);
	grow_one_for(c, s->segs_per_growth, segs);
}

/* What the ACK at hand tells of the path. */
static void cubic_on_delivered(struct tcp_conn *c, int64_t now)
{
	struct cubic *s = cubic_of(c);
	uint32_t rtt_us = c->ack_rtt_us;
	if (!rtt_us || (s->epoch_start_us && now - s->epoch_start_us < SETTLE_US))
		return;
	hystart_sample(&s->hystart, rtt_us);
	if (c->cwnd < c->ssthresh && hystart_on_ack(&s->hystart, c, now, rtt_us))
		c->ssthresh = c->cwnd;
}

/* §5.8: t "MUST NOT" count a time in which nothing was to be sent. */
static void cubic_on_start(struct tcp_conn *c, int64_t now)
{
	struct cubic *s = cubic_of(c);
	if (s->epoch_start_us && c->last_data_sent_us && now > c->last_data_sent_us)
		s->epoch_start_us += now - c->last_data_sent_us;
	if (s->epoch_start_us > now)
		s->epoch_start_us = now;
}

/*
 * §4.6 of flight_size or of cwnd, which the RFC allows, whichever is less. They differ when a timeout ends fast
 * recovery: what went beyond the hole is in flight then, and cwnd is what the loss left of it, of which the timeout
 * says that it was still too much.
 */
static uint32_t cubic_ssthresh(struct tcp_conn *c, int64_t now, uint32_t flight)
{
	struct cubic *s = cubic_of(c);
	uint32_t cwnd = c->cwnd / c->mss;
	s->epoch_start_us = 0;
	s->w_max = cwnd < s->w_max ? (uint64_t)cwnd * (BETA_DEN + BETA_NUM) / (2 * BETA_DEN) : cwnd; /* §4.7: give way to flows that are new */
	uint32_t left = (uint64_t)min_u32(flight, c->cwnd) / c->mss * BETA_NUM / BETA_DEN;
	return max_u32(left, TCP_LOSS_WINDOW_SEGS) * c->mss;
}

/* §4.8, and as in Linux slow start looks for the path's room once more. */
static void cubic_on_timeout(struct tcp_conn *c, int64_t now)
{
	cubic_init(c, now);
}

/* The window is what it was; the stage that begins now knows W_max. */
static void cubic_undo(struct tcp_conn *c)
{
}

const struct tcp_cc_ops tcp_cc_cubic = {
	.name = "cubic",
	.init = cubic_init,
	.on_ack = cubic_on_ack,
	.on_delivered = cubic_on_delivered,
	.on_start = cubic_on_start,
	.ssthresh = cubic_ssthresh,
	.undo = cubic_undo,
	.on_timeout = cubic_on_timeout,
};
