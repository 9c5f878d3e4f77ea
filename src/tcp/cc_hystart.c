#include "tcp/cc_hystart.h"

#include "tcp/tcp_int.h"

/* RFC 9406 §4.3 */
#define MIN_RTT_THRESH_US  (4 * USEC_PER_MSEC)
#define MAX_RTT_THRESH_US  (16 * USEC_PER_MSEC)
#define MIN_RTT_DIVISOR    8
#define N_RTT_SAMPLE       8
#define CSS_GROWTH_DIVISOR 4
#define CSS_ROUNDS         5

/* §4.2, "at the start of each round during standard slow start and CSS" */
static void start_round(struct hystart *h, const struct tcp_conn *c)
{
	h->window_end = c->snd_nxt;
	h->last_round_min_rtt = h->current_round_min_rtt;
	h->current_round_min_rtt = 0;
	h->rtt_sample_count = 0;
	h->round_due = false;
}

void hystart_init(struct hystart *h)
{
	*h = (struct hystart){.phase = HYSTART_SLOW_START, .round_due = true};
}

/* §4.2: min(N, L * SMSS), divided in CSS. L is infinity here, as if paced: a receiver that takes super-segments acknowledges dozens of segments
   at once, and would be held to 8 of them. */
uint32_t hystart_growth(const struct hystart *h, uint32_t acked)
{
	return h->phase == HYSTART_CSS ? acked / CSS_GROWTH_DIVISOR : acked;
}

/* §4.2: currentRoundMinRTT = min(currentRoundMinRTT, currRTT) */
static void sample(struct hystart *h, uint32_t rtt_us)
{
	if (!rtt_us)
		return;
	if (!h->current_round_min_rtt || rtt_us < h->current_round_min_rtt)
		h->current_round_min_rtt = rtt_us;
	if (h->rtt_sample_count < N_RTT_SAMPLE)
		h->rtt_sample_count++;
}

/* §4.2: RttThresh = max(MIN_RTT_THRESH, min(lastRoundMinRTT / MIN_RTT_DIVISOR, MAX_RTT_THRESH)) */
static uint32_t rtt_thresh(const struct hystart *h)
{
	return max_u32(MIN_RTT_THRESH_US, min_u32(h->last_round_min_rtt / MIN_RTT_DIVISOR, MAX_RTT_THRESH_US));
}

/* §4.2, "For rounds where at least N_RTT_SAMPLE RTT samples have been obtained": did the delay grow? */
static void check_delay_increase(struct hystart *h)
{
	if (h->rtt_sample_count < N_RTT_SAMPLE || !h->last_round_min_rtt)
		return;
	if (h->current_round_min_rtt < h->last_round_min_rtt + rtt_thresh(h))
		return;
	h->css_baseline_min_rtt = h->current_round_min_rtt;
	h->css_rounds = 0;
	h->phase = HYSTART_CSS;
}

/* §4.2, "For CSS rounds where at least N_RTT_SAMPLE …": was it spurious? Then back to slow start. */
static void check_spurious_exit(struct hystart *h)
{
	if (h->rtt_sample_count < N_RTT_SAMPLE || h->current_round_min_rtt >= h->css_baseline_min_rtt)
		return;
	h->css_baseline_min_rtt = 0;
	h->phase = HYSTART_SLOW_START;
}

bool hystart_on_ack(struct hystart *h, const struct tcp_conn *c)
{
	if (h->round_due)
		start_round(h, c);
	sample(h, c->ack_rtt_us);
	if (h->phase == HYSTART_SLOW_START)
		check_delay_increase(h);
	else
		check_spurious_exit(h);
	if (SEQ_LT(c->snd_una, h->window_end))
		return false;
	h->round_due = true;
	/* §4.2: "CSS lasts at most CSS_ROUNDS rounds"; the partial one in which it began counts. */
	if (h->phase != HYSTART_CSS || ++h->css_rounds < CSS_ROUNDS)
		return false;
	hystart_stop(h);
	return true;
}

void hystart_stop(struct hystart *h)
{
	h->phase = HYSTART_OFF;
}
