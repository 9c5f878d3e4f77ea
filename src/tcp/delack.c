/*
 * When text is acknowledged: RFC 1122 §4.2.3.2, RFC 5681 §4.2, RFC 9293 SHLD-19, MUST-58, MUST-59; the times are
 * Linux's.
 *
 * The timeout adapts: ato_us follows the time between segments, doubles with each time that the timer was what sent the
 * ACK, and is bounded by the round trip. While program and peer converse (`conversing`, Linux's pingpong), answers
 * carry the ACKs. Otherwise `quickacks` are sent at once: at the start, after a pause and after what came twice, since
 * the peer may be in slow start.
 *
 * Events: text in order (delack_on_text, then delack_schedule), its length (delack_observe), an ACK leaves
 * (delack_sent), the timer (delack_expired), a read (delack_on_read).
 */
#include "tcp/tcp_int.h"

#define DELACK_MAX_US  (200 * USEC_PER_MSEC) /* … TCP_DELACK_MAX */
#define ATO_MOST_US    (500 * USEC_PER_MSEC) /* of what came without PSH, one way */
#define QUICKACKS_MOST 16
#define UNREAD_US      (2 * USEC_PER_MSEC)   /* a quick ACK waits so long for the message to be read: a busy server has others before it */
#define FIRST_US       (6 * USEC_PER_MSEC)   /* … and before the connection is accepted: a busy loop accepts one in each of its rounds */
#define SHORT_SEGS     2                     /* … and so many at most: the peer's window counts segments, however short (RFC 5681: it may begin with two) */
#define AT_ONCE_MOST   3                     /* behind a gap, with SACK, before ACKs are joined; as Linux: the peer's fast retransmission needs so many */
#define PAIR_US        USEC_PER_MSEC         /* a head and a body wait so long for what is said next: a tail-loss probe comes 2 ms after two segments, or later */
#define ANSWER_US      (USEC_PER_MSEC / 2)   /* … and then for an answer to ride on */

/* Linux's TCP_ATO_MIN and TCP_DELACK_MIN. */
static uint32_t ato_min(const struct tcp_conn *c)
{
	return c->stack->config.delack_us;
}

static bool two_segments_unacked(const struct tcp_conn *c)
{
	return c->rcv_nxt - c->rcv_wup > c->rcv_mss;
}

bool delack_has_many(const struct tcp_conn *c)
{
	return (uint32_t)c->data_segs_in - c->data_segs_acked > SHORT_SEGS;
}

/*
 * In a conversation an answer often comes as two pushed segments, its head and its body. Together they are no more than
 * one full-sized segment may be, of which RFC 5681 has every second acknowledged. Linux goes by the size that it saw,
 * and acknowledges these at once, alone. Here what the program says next carries the ACK, where it comes soon.
 */
static bool is_pair(const struct tcp_conn *c)
{
	uint32_t full = c->mss_advertised - (c->ts_on ? TCP_OPT_TS_BYTES : 0);
	return c->conversing && !c->route_quickack && c->rcv_nxt - c->rcv_wup <= full && !delack_has_many(c);
}

/* Linux's tcp_incr_quickack: no more than half a window's. */
static void add_quickacks(struct tcp_conn *c, uint32_t most)
{
	uint32_t n = rcv_wnd(c) / (2 * (uint32_t)max_u32(c->rcv_mss, 1));
	c->quickacks = max_u32(c->quickacks, min_u32(n ? n : 2, most));
}

void delack_quick(struct tcp_conn *c, uint32_t most)
{
	add_quickacks(c, most);
	c->conversing = false;
	c->ato_us = ato_min(c);
}

/*
 * As Linux: the ACK of a client that converses, or defers, waits for its first text, which is an answer where it comes
 * soon; else ACKs are quick from then on.
 */
void delack_handshake(struct tcp_conn *c, int64_t now)
{
	if (!c->conversing && !c->options.ack_waits) {
		c->ack_due = true;
		return;
	}
	delack_quick(c, QUICKACKS_MOST);
	c->delack_at = now + DELACK_MAX_US;
	c->last_data_rcvd_us = now; /* for delack_on_answer */
}

void delack_begin(struct tcp_conn *c)
{
	c->ato_us = ato_min(c);
}

void delack_on_text(struct tcp_conn *c, int64_t now)
{
	int64_t pause = now - c->last_data_rcvd_us;
	uint32_t tight = ato_min(c) / 2;
	if (!c->ato_us) {
		add_quickacks(c, QUICKACKS_MOST);
		c->ato_us = ato_min(c);
	} else if (pause <= tight) {
		c->ato_us = c->ato_us / 2 + tight;
	} else if (pause < c->ato_us) {
		c->ato_us = min_u32(c->ato_us / 2 + pause, c->rto_us);
	} else if (pause > c->rto_us) { /* the peer begins anew */
		add_quickacks(c, QUICKACKS_MOST);
	}
	c->last_data_rcvd_us = now;
}

/*
 * The size of the peer's full segments. Linux's tcp_measure_rcv_mss. A super-segment of which the link does not say
 * what it is made of tells only that they are not larger than we allow.
 */
void delack_observe(struct tcp_conn *c, const struct text *t)
{
	uint32_t len = t->gso_size ? t->gso_size : t->len;
	bool push = t->push || t->fin;
	uint32_t header = TCP_HDR_MIN + (c->ts_on ? TCP_OPT_TS_BYTES : 0), last = c->rcv_last;
	c->rcv_last = 0;
	if (len >= c->rcv_mss) {
		if (len != c->rcv_seen)
			window_saw(c, t->len);
		c->rcv_seen = len;
		c->rcv_mss = min_u32(len, header > TCP_HDR_MIN ? c->mss_advertised - TCP_OPT_TS_BYTES : c->mss_advertised);
		c->ack_pushed |= push;
		return;
	}
	/* Shorter ones: two alike, which are not the end of a write, are full ones of a path whose MTU shrank. */
	if (len + header >= TCP_MSS_DEFAULT_V4 + TCP_HDR_MIN || (len + header >= TCP_MSS_MIN + TCP_HDR_MIN && !push)) {
		c->rcv_last = len;
		if (len == last) {
			c->rcv_mss = len;
			return;
		}
	}
	c->ack_pushed_twice |= c->ack_pushed;
	c->ack_pushed = true;
}

/* Linux's tcp_send_delayed_ack. */
static void arm(struct tcp_conn *c, int64_t now)
{
	int64_t ato = c->ato_us, rto_least = c->rto_min_us ? c->rto_min_us : c->stack->config.rto_min_us;
	if (ato > ato_min(c)) {
		int64_t most = c->conversing || c->ack_pushed ? DELACK_MAX_US : ATO_MOST_US;
		if (c->srtt_us)
			most = min_time(most, max_time(c->srtt_us, ato_min(c)));
		ato = min_time(ato, most);
	}
	ato = min_time(ato, min_time(DELACK_MAX_US, max_time(rto_least - c->stack->config.tick_us, c->stack->config.tick_us)));
	if (c->delack_at != TIME_NEVER && !c->delack_short && c->delack_at <= now + ato / 4) /* it is about to expire */
		c->ack_due = true;
	else
		c->delack_at = min_time(c->delack_at, now + ato);
}

/* A segment's ACK rather waits for the message to be read, and for its answer. */
static void arm_short(struct tcp_conn *c, int64_t at)
{
	if (at < c->delack_at) {
		c->delack_at = at;
		c->delack_short = true;
	}
}

/*
 * Every second full-sized segment at once, else within the delay; a pair within less. As Linux (__tcp_ack_snd_check):
 * where an ACK could only tell of a smaller window, because the application has yet to read, its read brings the ACK.
 * So a super-segment costs one ACK, not two.
 */
void delack_schedule(struct tcp_conn *c, int64_t now, const struct text *t)
{
	if (t->push && two_segments_unacked(c) && is_pair(c)) {
		arm_short(c, now + PAIR_US);
		return;
	}
	if ((two_segments_unacked(c) && (c->rcv.len < c->options.rcvlowat_bytes || window_keeps(c))) || c->route_quickack) {
		c->ack_due = true;
		return;
	}
	if (window_is_half_used(c)) /* the application has enough to do: the peer need not hurry */
		c->quickacks = 0;
	if (!c->quickacks || c->conversing) {
		arm(c, now);
		return;
	}
	if (!t->push || t->len >= c->rcv_mss || delack_has_many(c)) {
		c->ack_due = true;
		return;
	}
	/* A short pushed segment is a message: its answer, when it comes soon, is the ACK. */
	arm_short(c, now + (c->passive && !c->accepted ? FIRST_US : UNREAD_US));
	c->quickack_owed = true;
}

/*
 * Text behind a gap. RFC 5681 §4.2: "SHOULD send an immediate duplicate ACK when an out-of-order segment arrives". As
 * Linux, three are; what follows is told together, after a part of the round trip and tcp_comp_sack_delay_ns at most,
 * or when there are more than tcp_comp_sack_nr: each would say the same, and a little more. A third block may leave no
 * place for what was held. (Linux sends what it held before that, and holds the block.)
 */
void delack_behind_gap(struct tcp_conn *c, int64_t now, const struct text *t)
{
	const struct tcp_config *config = &c->stack->config;
	if (c->gap_nxt != c->rcv_nxt) {
		c->gap_nxt = c->rcv_nxt;
		c->sacks_at_once = 0;
	}
	bool quick = (c->quickacks && !c->conversing) || c->route_quickack || two_segments_unacked(c);
	if (c->ack_due || quick || c->sacks_held >= config->comp_sack_nr || (c->sacks_held && sack_is_third(c, t->seq, t->seq + t->len))) {
		c->ack_due = true;
		return;
	}
	if (c->sacks_at_once < AT_ONCE_MOST) {
		c->sacks_at_once++;
		c->ack_due = true;
		return;
	}
	if (c->sacks_held++)
		return;
	uint32_t rtt_us = c->srtt_us ? min_u32(c->rcv_rtt.us, c->srtt_us) : c->rcv_rtt.us;
	int64_t wait_ns = min_time((int64_t)rtt_us * config->comp_sack_rtt_percent * 10, config->comp_sack_delay_ns) + config->comp_sack_slack_ns;
	arm_short(c, now + wait_ns / 1000);
}

void tcp_accepted(struct tcp_conn *c)
{
	c->accepted = true;
}

/* An ACK leaves, alone or with text. */
void delack_sent(struct tcp_conn *c)
{
	bool scheduled = c->ack_due || c->rcv_nxt != c->rcv_wup;
	if (c->quickacks && scheduled && --c->quickacks == 0)
		c->ato_us = ato_min(c);
	c->sacks_held = 0;
	c->ack_due = c->quickack_owed = c->ack_pushed = c->ack_pushed_twice = c->delack_short = false;
	c->delack_at = TIME_NEVER;
	c->data_segs_acked = (uint32_t)c->data_segs_in;
}

void delack_expired(struct tcp_conn *c)
{
	c->delack_at = TIME_NEVER;
	c->ack_due = true;
	if (c->delack_short && c->sacks_held)
		return;
	TCP_COUNT(c, DelayedACKs);
	if (c->delack_short)
		return;
	c->ato_us = c->conversing ? ato_min(c) : min_u32(2 * c->ato_us, c->rto_us);
	c->conversing = false;
}

/* Text of ours leaves: it answers what came, if that was just now. */
void delack_on_answer(struct tcp_conn *c, int64_t now)
{
	if (c->last_data_rcvd_us && now - c->last_data_rcvd_us < c->ato_us)
		c->conversing = true;
}

/* Linux's tcp_cleanup_rbuf. */
void delack_on_read(struct tcp_conn *c, int64_t now)
{
	if (two_segments_unacked(c))
		c->ack_due |= !c->delack_short || !is_pair(c);
	else if (c->quickack_owed || (c->rcv_nxt != c->rcv_wup && !c->rcv.len && (c->ack_pushed_twice || (c->ack_pushed && !c->conversing))))
		arm_short(c, now + ANSWER_US);
	c->quickack_owed = false;
}

/* TCP_QUICKACK: not for good, as in Linux; until the next conversation. */
void tcp_set_quickack(struct tcp_conn *c, bool quick)
{
	c->conversing = !quick;
	if (quick && tcp_is_synchronized(c) && c->rcv_nxt != c->rcv_wup && (!c->rcv.len || two_segments_unacked(c)))
		c->ack_due = true;
}

bool tcp_hurry_ack(struct tcp_conn *c)
{
	bool carried = c->fin_wanted || snd_unsent(c);
	if (!tcp_is_synchronized(c) || c->rcv_nxt == c->rcv_wup || carried)
		return false;
	c->ack_due = true;
	return true;
}

uint32_t delack_ato(const struct tcp_conn *c)
{
	return min_u32(c->ato_us, DELACK_MAX_US - c->stack->config.tick_us);
}
