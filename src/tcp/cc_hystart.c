#include "tcp/cc_hystart.h"

#include "tcp/tcp_int.h"

/* Linux's tcp_cubic.c */
#define HYSTART_LOW_SEGS 16
#define MIN_SAMPLES      8
#define TRAIN_GAP_US     (2 * USEC_PER_MSEC)
#define THRESH_LEAST_US  (4 * USEC_PER_MSEC)
#define THRESH_MOST_US   (16 * USEC_PER_MSEC)
#define THRESH_DIVISOR   8
#define BURST_BYTES      65536 /* super-segments, four of which may wait at the receiver … */
#define BURST_DELAY_MOST_US USEC_PER_MSEC

static void start_round(struct hystart *h, const struct tcp_conn *c, int64_t now)
{
	h->round_start_us = h->last_ack_us = now;
	h->round_end = c->snd_nxt;
	h->round_rtt_us = UINT32_MAX;
	h->samples = 0;
}

void hystart_init(struct hystart *h, const struct tcp_conn *c, int64_t now)
{
	*h = (struct hystart){0};
	start_round(h, c, now);
}

void hystart_sample(struct hystart *h, uint32_t rtt_us)
{
	if (!h->least_rtt_us || rtt_us < h->least_rtt_us)
		h->least_rtt_us = rtt_us;
}

/* … for so long, at the connection's rate. */
static int64_t burst_delay(const struct tcp_conn *c)
{
	if (!c->pacing_rate)
		return 0;
	uint64_t us = UINT64_C(4) * BURST_BYTES * USEC_PER_SEC / c->pacing_rate;
	return us < BURST_DELAY_MOST_US ? us : BURST_DELAY_MOST_US;
}

static bool train_is_long(struct hystart *h, const struct tcp_conn *c, int64_t now)
{
	if (now - h->last_ack_us > TRAIN_GAP_US)
		return false;
	h->last_ack_us = now;
	int64_t thresh = h->least_rtt_us + burst_delay(c);
	if (!c->paced)
		thresh /= 2;
	return now - h->round_start_us > thresh;
}

static bool delay_is_long(struct hystart *h, uint32_t rtt_us)
{
	h->round_rtt_us = min_u32(h->round_rtt_us, rtt_us);
	if (h->samples < MIN_SAMPLES) {
		h->samples++;
		return false;
	}
	uint32_t thresh = min_u32(max_u32(h->least_rtt_us / THRESH_DIVISOR, THRESH_LEAST_US), THRESH_MOST_US);
	return h->round_rtt_us > h->least_rtt_us + thresh;
}

bool hystart_on_ack(struct hystart *h, const struct tcp_conn *c, int64_t now, uint32_t rtt_us)
{
	if (h->found)
		return false;
	if (SEQ_GT(c->snd_una, h->round_end))
		start_round(h, c, now);
	if (c->cwnd < HYSTART_LOW_SEGS * c->mss)
		return false;
	bool train = train_is_long(h, c, now), delay = delay_is_long(h, rtt_us);
	h->found = train || delay;
	return h->found;
}
