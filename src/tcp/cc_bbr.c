/*
 * BBR, version 1, as Linux's tcp_bbr.c (draft-cardwell-iccrg-bbr-congestion-control-00): it sends at the rate that the
 * path was seen to deliver, and keeps in flight what that rate and the least round trip make, so that no queue is
 * needed to fill the path, and losses do not slow it down as such.
 *
 * The model, renewed with each ACK (model): the bandwidth is the greatest delivery rate (rate.c) of the last ten
 * rounds; the least round trip is that of the last ten seconds. What follows from it: c->pacing_rate = pacing_gain *
 * bandwidth, and cwnd = cwnd_gain * bandwidth * round trip.
 *
 * Modes: STARTUP doubles the rate each round, until three rounds have not brought a quarter more; DRAIN takes away the
 * queue that this made; PROBE_BW goes round through eight gains, of which one asks for more bandwidth and one gives
 * back what that queued; PROBE_RTT has four segments in flight for 200 ms where no shorter round trip was seen for ten
 * seconds, so that flows that share a queue see how long the path is.
 *
 * Beside that: a policer's rate is found by long-term sampling, two intervals of loss alike (lt_…); ACKs that come in
 * heaps are allowed for (extra_acked); in the first round of a recovery as much is sent as was delivered.
 *
 * Units: rates in RATE_UNIT bytes a second, so that they fit 32 bits; gains in 1/256; windows are reckoned in segments
 * where Linux rounds to segments. Owns struct bbr in cc_state. Timers: none but the times of ACKs; pace.c has that of
 * the next segment.
 */
#include "tcp/minmax.h"
#include "tcp/tcp_int.h"

#include <string.h>

#define RATE_SHIFT 4 /* RATE_UNIT is 16 bytes a second: up to 550 Gbit/s */
#define UNIT       256
#define HIGH_GAIN  (UNIT * 2885 / 1000 + 1) /* 2/ln(2): the least that doubles the rate each round */
#define DRAIN_GAIN (UNIT * 1000 / 2885)
#define CWND_GAIN  (2 * UNIT)
#define MARGIN_PC  1 /* paced below the estimate, so that queues go away */

#define BW_ROUNDS            10
#define MIN_RTT_US           (10 * USEC_PER_SEC)
#define PROBE_RTT_US         (200 * USEC_PER_MSEC)
#define CWND_MIN_SEGS        4
#define FULL_BW_THRESH       (UNIT * 5 / 4)
#define FULL_BW_ROUNDS       3
#define MIN_TSO_RATE         (1200000 / 8) /* bytes a second */
#define TSO_SEGS_MAX         127
#define INITIAL_SEGS         10
#define RTT_BEFORE_US        USEC_PER_MSEC /* nothing was measured */
#define LT_ROUNDS_MIN        4
#define LT_LOSS_THRESH       50 /* of 256 */
#define LT_RATIO             (UNIT / 8)
#define LT_DIFF              (4000 / 8) /* bytes a second */
#define LT_ROUNDS_MAX        48
#define EXTRA_ACKED_ROUNDS   5
#define EXTRA_ACKED_MAX_US   (100 * USEC_PER_MSEC)
#define ACK_EPOCH_ACKED_MAX  (UINT32_C(1) << 30) /* bytes */

#define CYCLE_LEN 8
static const uint16_t pacing_gains[CYCLE_LEN] = {UNIT * 5 / 4, UNIT * 3 / 4, UNIT, UNIT, UNIT, UNIT, UNIT, UNIT};

enum mode { STARTUP, DRAIN, PROBE_BW, PROBE_RTT };

struct bbr {
	int64_t min_rtt_at, probe_rtt_done_at; /* 0: not yet known when */
	int64_t cycle_at, ack_epoch_at;
	uint64_t next_round_delivered;
	uint64_t lt_delivered, lt_lost;
	int64_t lt_at;
	struct minmax bw;
	uint32_t min_rtt_us; /* UINT32_MAX: none was seen */
	uint32_t rounds, full_bw, lt_bw, prior_cwnd;
	uint32_t extra_acked[2], ack_epoch_acked; /* bytes */
	uint16_t pacing_gain, cwnd_gain;
	uint8_t lt_rounds, full_bw_rounds, cycle, extra_acked_rounds, extra_acked_index;
	uint8_t mode : 2, prev_loss : 2; /* enum tcp_loss */
	bool round_start : 1, idle_restart : 1, probe_rtt_round_done : 1, packet_conservation : 1;
	bool lt_sampling : 1, lt_use : 1, has_seen_rtt : 1, full_bw_reached : 1;
};

static struct bbr *bbr_of(const struct tcp_conn *c)
{
	_Static_assert(sizeof(struct bbr) <= sizeof c->cc_state, "cc_state is too small");
	return (struct bbr *)(uintptr_t)c->cc_state;
}

static uint32_t max_bw(const struct bbr *b)
{
	return minmax_get(&b->bw);
}

static uint32_t bw_of(const struct bbr *b)
{
	return b->lt_use ? b->lt_bw : max_bw(b);
}

static uint32_t rate_of(uint64_t bytes, uint64_t us)
{
	uint64_t rate = bytes * USEC_PER_SEC / us >> RATE_SHIFT;
	return rate < UINT32_MAX ? rate : UINT32_MAX;
}

/* What a rate carries in so much time. */
static uint64_t bytes_in(uint32_t bw, uint64_t us)
{
	return ((uint64_t)bw << RATE_SHIFT) * us / USEC_PER_SEC;
}

static uint64_t pacing_rate(const struct tcp_conn *c, uint64_t bytes_per_sec, unsigned gain)
{
	return pace_bounded(c, bytes_per_sec * gain / UNIT * (100 - MARGIN_PC) / 100);
}

static void init_pacing_rate(struct tcp_conn *c, struct bbr *b)
{
	uint32_t rtt_us = c->srtt_us ? c->srtt_us : RTT_BEFORE_US;
	b->has_seen_rtt = c->srtt_us != 0;
	c->pacing_rate = pacing_rate(c, (uint64_t)c->cwnd * USEC_PER_SEC / rtt_us, HIGH_GAIN);
}

static void set_pacing_rate(struct tcp_conn *c, struct bbr *b, uint32_t bw, unsigned gain)
{
	uint64_t rate = pacing_rate(c, (uint64_t)bw << RATE_SHIFT, gain);
	if (!b->has_seen_rtt && c->srtt_us)
		init_pacing_rate(c, b);
	if (b->full_bw_reached || rate > c->pacing_rate)
		c->pacing_rate = rate;
}

static unsigned bbr_min_tso_segs(const struct tcp_conn *c)
{
	return c->pacing_rate < MIN_TSO_RATE ? 1 : 2;
}

static uint32_t tso_goal_segs(const struct tcp_conn *c)
{
	uint64_t bytes = c->pacing_rate >> 10; /* a millisecond's, as tso.c */
	uint32_t segs = (bytes < UINT16_MAX ? bytes : UINT16_MAX) / c->mss;
	return min_u32(max_u32(segs, bbr_min_tso_segs(c)), TSO_SEGS_MAX);
}

/* ---- windows, in segments ---- */

static uint32_t bdp_segs(const struct tcp_conn *c, const struct bbr *b, uint32_t bw, unsigned gain)
{
	if (b->min_rtt_us == UINT32_MAX)
		return INITIAL_SEGS;
	return (bytes_in(bw, b->min_rtt_us) * gain / UNIT + c->mss - 1) / c->mss;
}

/*
 * Room for what waits as a super-segment in either host; an even number, for ACKs of every second segment; and more
 * than the path's when more is asked for.
 */
static uint32_t with_room(const struct tcp_conn *c, const struct bbr *b, uint32_t segs)
{
	segs += 3 * tso_goal_segs(c);
	segs = (segs + 1) & ~UINT32_C(1);
	return b->mode == PROBE_BW && b->cycle == 0 ? segs + 2 : segs;
}

static uint32_t inflight_segs(const struct tcp_conn *c, const struct bbr *b, unsigned gain)
{
	return with_room(c, b, bdp_segs(c, b, max_bw(b), gain));
}

/* What will be in the network when the next segment may leave. */
static uint32_t segs_in_net(const struct tcp_conn *c, const struct bbr *b, int64_t now, uint32_t flight)
{
	int64_t at = pace_at(c);
	uint64_t gone = at > now ? bytes_in(bw_of(b), at - now) : 0;
	uint64_t then = flight + (b->pacing_gain > UNIT ? (uint64_t)tso_goal_segs(c) * c->mss : 0);
	return gone >= then ? 0 : (then - gone) / c->mss;
}

static void save_cwnd(const struct tcp_conn *c, struct bbr *b)
{
	if (b->prev_loss == TCP_LOSS_OPEN && b->mode != PROBE_RTT)
		b->prior_cwnd = c->cwnd;
	else
		b->prior_cwnd = max_u32(b->prior_cwnd, c->cwnd);
}

/* ---- modes ---- */

static void next_phase(const struct tcp_conn *c, struct bbr *b)
{
	b->cycle = (b->cycle + 1) % CYCLE_LEN;
	b->cycle_at = c->rate.delivered_us;
}

/* Anywhere in the cycle but where it gives back, so that flows do not ask for more at the same time. */
static void enter_probe_bw(struct tcp_conn *c, struct bbr *b)
{
	b->mode = PROBE_BW;
	b->cycle = CYCLE_LEN - 1 - tcp_random(c->stack) % (CYCLE_LEN - 1);
	next_phase(c, b);
}

static void leave_probe_rtt(struct tcp_conn *c, struct bbr *b, int64_t now)
{
	if (!b->probe_rtt_done_at || now <= b->probe_rtt_done_at)
		return;
	b->min_rtt_at = now;
	c->cwnd = max_u32(c->cwnd, b->prior_cwnd);
	if (b->full_bw_reached)
		enter_probe_bw(c, b);
	else
		b->mode = STARTUP;
}

static bool phase_is_over(const struct tcp_conn *c, const struct bbr *b, int64_t now, const struct rate_sample *rs)
{
	bool full = c->rate.delivered_us - b->cycle_at > (int64_t)b->min_rtt_us;
	if (b->pacing_gain == UNIT)
		return full;
	uint32_t flight = segs_in_net(c, b, now, rs->prior_flight);
	if (b->pacing_gain > UNIT)
		return full && (rs->lost || flight >= inflight_segs(c, b, b->pacing_gain));
	return full || flight <= inflight_segs(c, b, UNIT);
}

/* ---- long-term sampling: a policer, which lets bursts pass and then no more than its rate ---- */

static void lt_start_interval(const struct tcp_conn *c, struct bbr *b)
{
	b->lt_at = c->rate.delivered_us;
	b->lt_delivered = c->delivered;
	b->lt_lost = c->lost;
	b->lt_rounds = 0;
}

static void lt_reset(const struct tcp_conn *c, struct bbr *b)
{
	b->lt_bw = 0;
	b->lt_use = b->lt_sampling = false;
	lt_start_interval(c, b);
}

static void lt_interval_done(const struct tcp_conn *c, struct bbr *b, uint32_t bw)
{
	uint32_t diff = bw > b->lt_bw ? bw - b->lt_bw : b->lt_bw - bw;
	if (b->lt_bw && ((uint64_t)diff * UNIT <= (uint64_t)LT_RATIO * b->lt_bw || (uint64_t)diff << RATE_SHIFT <= LT_DIFF)) {
		b->lt_bw = ((uint64_t)bw + b->lt_bw) / 2;
		b->lt_use = true;
		b->pacing_gain = UNIT;
		b->lt_rounds = 0;
		return;
	}
	b->lt_bw = bw;
	lt_start_interval(c, b);
}

/* An interval lasts 4 to 16 rounds, and ends with a loss, when the policer has no tokens left. */
static void lt_sample(struct tcp_conn *c, struct bbr *b, bool lost, bool app_limited)
{
	if (b->lt_use) {
		if (b->mode == PROBE_BW && b->round_start && ++b->lt_rounds >= LT_ROUNDS_MAX) {
			lt_reset(c, b);
			enter_probe_bw(c, b);
		}
		return;
	}
	if (!b->lt_sampling) {
		if (!lost)
			return;
		lt_start_interval(c, b);
		b->lt_sampling = true;
	}
	if (app_limited) {
		lt_reset(c, b);
		return;
	}
	if (b->round_start)
		b->lt_rounds++;
	if (b->lt_rounds < LT_ROUNDS_MIN)
		return;
	if (b->lt_rounds > 4 * LT_ROUNDS_MIN) {
		lt_reset(c, b);
		return;
	}
	uint64_t gone = c->lost - b->lt_lost, delivered = c->delivered - b->lt_delivered;
	int64_t us = c->rate.delivered_us - b->lt_at;
	if (lost && delivered && gone * UNIT >= LT_LOSS_THRESH * delivered && us >= USEC_PER_MSEC)
		lt_interval_done(c, b, rate_of(delivered, us));
}

/* ---- the model ---- */

static void update_bw(struct tcp_conn *c, struct bbr *b, const struct rate_sample *rs)
{
	b->round_start = false;
	if (!rs->interval_us)
		return;
	if (rs->prior_delivered >= b->next_round_delivered) {
		b->next_round_delivered = c->delivered;
		b->rounds++;
		b->round_start = true;
		b->packet_conservation = false;
	}
	lt_sample(c, b, rs->lost != 0, rs->app_limited);
	uint32_t bw = rate_of(rs->delivered, rs->interval_us);
	/* What the program limits tells how fast the path is at least. */
	if (!rs->app_limited || bw >= max_bw(b))
		minmax_add_max(&b->bw, BW_ROUNDS, b->rounds, bw);
}

/* By how much more was acknowledged than the bandwidth makes: the peer, or the path, acknowledges in heaps. */
static void update_ack_aggregation(const struct tcp_conn *c, struct bbr *b, const struct rate_sample *rs)
{
	if (!rs->acked_sacked || !rs->interval_us)
		return;
	if (b->round_start && ++b->extra_acked_rounds >= EXTRA_ACKED_ROUNDS) {
		b->extra_acked_rounds = 0;
		b->extra_acked_index ^= 1;
		b->extra_acked[b->extra_acked_index] = 0;
	}
	uint64_t expected = bytes_in(bw_of(b), c->rate.delivered_us - b->ack_epoch_at);
	if (b->ack_epoch_acked <= expected || b->ack_epoch_acked + rs->acked_sacked >= ACK_EPOCH_ACKED_MAX) {
		b->ack_epoch_acked = 0;
		b->ack_epoch_at = c->rate.delivered_us;
		expected = 0;
	}
	b->ack_epoch_acked = min_u32(ACK_EPOCH_ACKED_MAX, b->ack_epoch_acked + rs->acked_sacked);
	uint32_t extra = min_u32(b->ack_epoch_acked - expected, c->cwnd);
	b->extra_acked[b->extra_acked_index] = max_u32(b->extra_acked[b->extra_acked_index], extra);
}

static void check_full_bw(struct bbr *b, const struct rate_sample *rs)
{
	if (b->full_bw_reached || !b->round_start || rs->app_limited)
		return;
	if (max_bw(b) >= (uint64_t)b->full_bw * FULL_BW_THRESH / UNIT) {
		b->full_bw = max_bw(b);
		b->full_bw_rounds = 0;
		return;
	}
	b->full_bw_reached = ++b->full_bw_rounds >= FULL_BW_ROUNDS;
}

static void check_drain(struct tcp_conn *c, struct bbr *b, int64_t now)
{
	if (b->mode == STARTUP && b->full_bw_reached) {
		b->mode = DRAIN;
		c->ssthresh = inflight_segs(c, b, UNIT) * c->mss;
	}
	if (b->mode == DRAIN && segs_in_net(c, b, now, recovery_pipe(c)) <= inflight_segs(c, b, UNIT))
		enter_probe_bw(c, b);
}

static void probe_rtt(struct tcp_conn *c, struct bbr *b, int64_t now)
{
	uint32_t flight = recovery_pipe(c);
	c->rate.app_limited = c->delivered + flight ? c->delivered + flight : 1; /* rates in this mode say nothing of the path */
	if (!b->probe_rtt_done_at && flight <= CWND_MIN_SEGS * (uint32_t)c->mss) {
		b->probe_rtt_done_at = now + PROBE_RTT_US;
		b->probe_rtt_round_done = false;
		b->next_round_delivered = c->delivered;
	} else if (b->probe_rtt_done_at) {
		b->probe_rtt_round_done |= b->round_start;
		if (b->probe_rtt_round_done)
			leave_probe_rtt(c, b, now);
	}
}

static void update_min_rtt(struct tcp_conn *c, struct bbr *b, int64_t now, const struct rate_sample *rs)
{
	bool expired = now > b->min_rtt_at + MIN_RTT_US;
	if (rs->rtt_us && (rs->rtt_us <= b->min_rtt_us || (expired && !rs->ack_delayed))) {
		b->min_rtt_us = rs->rtt_us;
		b->min_rtt_at = now;
	}
	if (expired && !b->idle_restart && b->mode != PROBE_RTT) {
		save_cwnd(c, b);
		b->mode = PROBE_RTT;
		b->probe_rtt_done_at = 0;
	}
	if (b->mode == PROBE_RTT)
		probe_rtt(c, b, now);
	if (rs->delivered)
		b->idle_restart = false;
}

static void update_gains(struct bbr *b)
{
	switch (b->mode) {
	case STARTUP:
		b->pacing_gain = b->cwnd_gain = HIGH_GAIN;
		break;
	case DRAIN:
		b->pacing_gain = DRAIN_GAIN;
		b->cwnd_gain = HIGH_GAIN;
		break;
	case PROBE_BW:
		b->pacing_gain = b->lt_use ? UNIT : pacing_gains[b->cycle];
		b->cwnd_gain = CWND_GAIN;
		break;
	case PROBE_RTT:
		b->pacing_gain = b->cwnd_gain = UNIT;
		break;
	}
}

/* ---- what follows from it ---- */

/* True: as much is sent as was delivered, and no target is looked at. */
static bool conserve(struct tcp_conn *c, struct bbr *b, const struct rate_sample *rs)
{
	uint32_t flight = recovery_pipe(c) + rs->acked_sacked;
	if (rs->lost)
		c->cwnd = c->cwnd > rs->lost + c->mss ? c->cwnd - rs->lost : c->mss;
	if (c->loss == TCP_LOSS_RECOVERY && b->prev_loss != TCP_LOSS_RECOVERY) {
		b->packet_conservation = true;
		b->next_round_delivered = c->delivered;
		c->cwnd = flight;
	} else if (c->loss == TCP_LOSS_OPEN && b->prev_loss != TCP_LOSS_OPEN) {
		c->cwnd = max_u32(c->cwnd, b->prior_cwnd);
		b->packet_conservation = false;
	}
	b->prev_loss = c->loss;
	if (b->packet_conservation)
		c->cwnd = max_u32(c->cwnd, flight);
	return b->packet_conservation;
}

static uint32_t target_cwnd(const struct tcp_conn *c, const struct bbr *b)
{
	uint32_t segs = bdp_segs(c, b, bw_of(b), b->cwnd_gain);
	if (b->full_bw_reached) {
		uint64_t most = bytes_in(bw_of(b), EXTRA_ACKED_MAX_US), extra = max_u32(b->extra_acked[0], b->extra_acked[1]);
		segs += (extra < most ? extra : most) / c->mss;
	}
	uint64_t bytes = (uint64_t)with_room(c, b, segs) * c->mss;
	return bytes < TCP_SSTHRESH_INITIAL ? bytes : TCP_SSTHRESH_INITIAL;
}

static void set_cwnd(struct tcp_conn *c, struct bbr *b, const struct rate_sample *rs)
{
	uint32_t mss = c->mss, acked = rs->acked_sacked, least = CWND_MIN_SEGS * mss;
	if (acked && !conserve(c, b, rs)) {
		uint32_t target = target_cwnd(c, b);
		if (b->full_bw_reached)
			c->cwnd = min_u32(c->cwnd + acked, target);
		else if (c->cwnd < target || c->delivered < (INITIAL_SEGS - 1) * (uint64_t)mss) /* Linux counts the SYN, too */
			c->cwnd += acked;
		c->cwnd = max_u32(c->cwnd, least);
	}
	if (b->mode == PROBE_RTT)
		c->cwnd = min_u32(c->cwnd, least);
}

static void bbr_control(struct tcp_conn *c, int64_t now, const struct rate_sample *rs)
{
	struct bbr *b = bbr_of(c);
	update_bw(c, b, rs);
	update_ack_aggregation(c, b, rs);
	if (b->mode == PROBE_BW && phase_is_over(c, b, now, rs))
		next_phase(c, b);
	check_full_bw(b, rs);
	check_drain(c, b, now);
	update_min_rtt(c, b, now, rs);
	update_gains(b);
	set_pacing_rate(c, b, bw_of(b), b->pacing_gain);
	set_cwnd(c, b, rs);
}

/* ---- other events ---- */

/* The gains are told from the first ACK on, as in Linux. */
static void bbr_init(struct tcp_conn *c, int64_t now)
{
	struct bbr *b = bbr_of(c);
	memset(b, 0, sizeof *b);
	c->ssthresh = TCP_SSTHRESH_INITIAL;
	b->min_rtt_us = c->min_rtt_us ? c->min_rtt_us : UINT32_MAX;
	b->min_rtt_at = now;
	b->ack_epoch_at = now;
	init_pacing_rate(c, b);
	lt_reset(c, b);
}

/*
 * Something leaves where nothing was in flight. After a pause of the program's the path needs no probing: at the rate
 * that is known.
 */
static void bbr_on_start(struct tcp_conn *c, int64_t now)
{
	struct bbr *b = bbr_of(c);
	if (!c->rate.app_limited)
		return;
	b->idle_restart = true;
	b->ack_epoch_at = now;
	b->ack_epoch_acked = 0;
	if (b->mode == PROBE_BW)
		set_pacing_rate(c, b, bw_of(b), UNIT);
	else if (b->mode == PROBE_RTT)
		leave_probe_rtt(c, b, now);
}

static uint32_t bbr_ssthresh(struct tcp_conn *c, int64_t now, uint32_t flight)
{
	save_cwnd(c, bbr_of(c));
	return c->ssthresh;
}

static void bbr_on_timeout(struct tcp_conn *c, int64_t now)
{
	struct bbr *b = bbr_of(c);
	b->prev_loss = TCP_LOSS_RTO;
	b->full_bw = 0;
	b->round_start = true;
	lt_sample(c, b, true, false);
}

static void bbr_undo(struct tcp_conn *c)
{
	struct bbr *b = bbr_of(c);
	b->full_bw = 0;
	b->full_bw_rounds = 0;
	lt_reset(c, b);
}

static size_t bbr_info(const struct tcp_conn *c, uint32_t out[TCP_CC_INFO_WORDS])
{
	const struct bbr *b = bbr_of(c);
	uint64_t bw = (uint64_t)bw_of(b) << RATE_SHIFT;
	out[0] = bw;
	out[1] = bw >> 32;
	out[2] = b->min_rtt_us;
	out[3] = b->pacing_gain;
	out[4] = b->cwnd_gain;
	return 5 * sizeof *out;
}

const struct tcp_cc_ops tcp_cc_bbr = {
	.name = "bbr",
	.sndbuf_windows = 3,
	.init = bbr_init,
	.control = bbr_control,
	.ssthresh = bbr_ssthresh,
	.on_start = bbr_on_start,
	.on_timeout = bbr_on_timeout,
	.undo = bbr_undo,
	.min_tso_segs = bbr_min_tso_segs,
	.info = bbr_info,
};
