/*
 * Delivery rate samples, as Linux's (draft-cheng-iccrg-delivery-rate-estimation): how fast the path carried what this
 * ACK tells of.
 *
 * Each record of what is in flight remembers what had been delivered when it left, when the last of that was, and when
 * the flight began to be sent (struct sent_mark). When it is delivered in turn, that spans an interval: what was
 * delivered in between, over the time of sending or of acknowledging, whichever is longer, since ACKs may be pressed
 * together on their way. Of several records that one ACK delivers, the one that left last tells.
 *
 * A sample is app-limited when the program had nothing to send at some time within it: it tells how fast the program
 * is, perhaps, not the path.
 *
 * Owns c->rate. No timers, no memory. In bytes; Linux counts segments.
 */
#include "tcp/tcp_int.h"

struct sent_mark rate_mark(struct tcp_conn *c, int64_t now, bool idle)
{
	struct tcp_rate *r = &c->rate;
	if (idle) /* what is acknowledged from now on, the path carried from now on */
		r->first_us = r->delivered_us = now;
	return (struct sent_mark){
		.delivered = c->delivered,
		.delivered_us = r->delivered_us,
		.first_us = r->first_us,
		.app_limited = r->app_limited != 0,
	};
}

void rate_delivered(struct tcp_conn *c, int64_t now, const struct sent *r, uint32_t right)
{
	struct tcp_rate *k = &c->rate;
	if (r->again) {
		k->repeated = true;
	} else {
		if (!k->sack_rtt_us)
			k->sack_rtt_us = max_u32((uint32_t)now - r->from_us, 1);
		if (right == r->end || r->from_us == (uint32_t)r->at_us) { /* else it left before the record's time */
			int64_t rtt = now - r->at_us;
			k->rtt_us = rtt > 0 ? rtt : 1;
		}
	}
	if (k->known && (r->at_us < k->at_us || (r->at_us == k->at_us && !SEQ_GT(right, k->end))))
		return;
	k->known = true;
	k->at_us = r->at_us;
	k->end = right;
	k->prior_delivered = r->delivered;
	k->prior_us = r->delivered_us;
	k->prior_limited = r->bits & SENT_APP_LIMITED;
	k->first_us = r->at_us;
	k->sending_us = (uint32_t)r->at_us - r->first_us;
}

/* As Linux: before anything was delivered, nothing tells of the path. */
void rate_init(struct tcp_conn *c)
{
	c->rate.app_limited = 1;
	c->rate.limited = true;
}

/* Linux's last non-app-limited sample, or the best app-limited one since. */
static void keep(struct tcp_rate *k, const struct rate_sample *s)
{
	if (s->app_limited && (uint64_t)s->delivered * k->interval_us < (uint64_t)k->delivered * s->interval_us)
		return;
	k->delivered = s->delivered;
	k->interval_us = s->interval_us;
	k->limited = s->app_limited;
}

void rate_take(struct tcp_conn *c, int64_t now, uint32_t acked, uint32_t delivered, struct rate_sample *s)
{
	struct tcp_rate *k = &c->rate;
	if (k->app_limited && c->delivered > k->app_limited)
		k->app_limited = 0;
	if (delivered)
		k->delivered_us = now;
	s->acked_sacked = delivered;
	s->lost = c->lost - k->lost_before;
	s->prior_flight = k->prior_flight;
	s->rtt_us = k->repeated ? c->ack_rtt_us : k->rtt_us;
	s->delivered = s->interval_us = 0;
	s->prior_delivered = c->delivered;
	s->app_limited = s->ack_delayed = false;
	if (!k->known)
		return;
	s->delivered = (uint32_t)c->delivered - k->prior_delivered;
	s->prior_delivered -= s->delivered;
	s->app_limited = k->prior_limited;
	/* A lone short segment, whose ACK the peer may have delayed. */
	s->ack_delayed = acked && acked < c->mss && s->delivered == acked;
	uint32_t interval_us = max_u32(k->sending_us, (uint32_t)now - k->prior_us);
	if (interval_us < c->min_rtt_us) /* of what was repeated for nothing, most likely */
		return;
	s->interval_us = interval_us;
	keep(k, s);
}

void rate_check_app_limited(struct tcp_conn *c)
{
	uint32_t seq, len, pipe = recovery_pipe(c);
	bool forced;
	if (snd_unsent(c) >= c->mss || pipe >= c->cwnd || (c->loss != TCP_LOSS_OPEN && recovery_next(c, &seq, &len, &forced)))
		return;
	c->rate.app_limited = c->delivered + pipe ? c->delivered + pipe : 1;
}
