/* RFC 9293 §3.10.7.4, fifth step: the ACK field. */
#include "tcp/tcp_int.h"

/* SYN-RECEIVED: "If SND.UNA < SEG.ACK =< SND.NXT, then enter ESTABLISHED state". */
static bool ack_of_syn(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	if (!SEQ_GT(seg->ack, c->iss) || SEQ_GT(seg->ack, c->snd_nxt)) {
		TCP_COUNT(c, RcvdSynRcvdBadAck);
		c->rst_due = true; /* <SEQ=SEG.ACK><CTL=RST> */
		c->rst_replies = true;
		c->rst_acks = false;
		c->rst_seq = seg->ack;
		return false;
	}
	c->snd_una = c->iss + 1;
	c->snd_wnd = (uint32_t)seg->window << c->snd_wscale;
	c->max_snd_wnd = max_u32(c->max_snd_wnd, c->snd_wnd);
	c->snd_wl1 = seg->seq;
	c->snd_wl2 = seg->ack;
	rtt_handshake(c, now, seg);
	conn_establish(c, now);
	return true;
}

/* "Any segments on the retransmission queue that are thereby entirely acknowledged are removed". */
void input_acked(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	uint32_t bytes = seg->ack - c->snd_base;
	rack_delivered(c, now, seg, c->snd_una, seg->ack);
	c->rate.first_rtt_us = c->rate.sack_rtt_us;
	c->rate.sack_rtt_us = 0;
	c->rate.acked_again = c->rate.repeated;
	if (c->fin_sent && seg->ack == c->snd_nxt) {
		c->fin_acked = true;
		bytes--;
	}
	chunks_consume(&c->snd, c->stack->memory, bytes);
	if (c->eor.n)
		ranges_drop_before(&c->eor, c->stack->memory, seg->ack);
	c->snd_base += bytes;
	c->bytes_acked += bytes;
	c->snd_una = seg->ack;
	sent_drop_before(&c->sent, c->stack->memory, c->snd_una);
	mtu_probe_on_ack(c, now, bytes);
	c->no_memory = false;
	c->rtx_count = 0; /* the backoff stays until there is a sample: rtt_sample */
	if (SEQ_LT(c->snd_up, c->snd_una))
		c->snd_up = c->snd_una;
	if (c->snd.len == 0) {
		chunks_free(&c->snd, c->stack->memory);
		c->all_acked_us = now;
		hold_on_all_acked(c, now);
	}
}

/*
 * "If SND.UNA =< SEG.ACK =< SND.NXT, the send window should be updated." True: it changed. Of segments that say the
 * same otherwise, as Linux: a smaller window counts only where it is shut, for they may have come in another order.
 */
static bool ack_window(struct tcp_conn *c, const struct tcp_segment *seg)
{
	uint32_t wnd = (uint32_t)seg->window << c->snd_wscale;
	bool newer = SEQ_LT(c->snd_wl1, seg->seq) || SEQ_LT(c->snd_wl2, seg->ack);
	if (!newer && !(c->snd_wl1 == seg->seq && c->snd_wl2 == seg->ack && (wnd > c->snd_wnd || !wnd)))
		return false;
	bool changed = wnd != c->snd_wnd;
	c->snd_wnd = wnd;
	if (wnd > c->max_snd_wnd) {
		uint32_t mss = c->mss;
		c->max_snd_wnd = wnd;
		negotiate_mss(c);
		if (c->mss != mss)
			sent_forget_segments(&c->sent);
		c->cwnd = c->cwnd / mss * c->mss; /* it counts segments */
	}
	c->snd_wl1 = seg->seq;
	c->snd_wl2 = seg->ack;
	return changed;
}

/* The window changed. What it kept back goes after a pause, perhaps. */
static void ack_after_probe(struct tcp_conn *c, int64_t now)
{
	if (snd_unsent(c))
		cwnd_after_idle(c, now);
	if (!snd_flight(c) && c->snd_wnd && c->snd_wnd >= min_u32(c->mss, c->snd.len))
		timer_stop_rtx(c);
	c->backoff = 0;
}

/* What the acknowledgment of our FIN does to the state. */
static void ack_of_fin(struct tcp_conn *c, int64_t now)
{
	switch (c->state) {
	case TCPS_FIN_WAIT_1:
		conn_start_fin_wait_2(c, now);
		if (c->state == TCPS_FIN_WAIT_2)
			c->events |= TCP_EV_FIN_ACKED;
		break;
	case TCPS_CLOSING:
		conn_time_wait(c, now);
		break;
	case TCPS_LAST_ACK:
		conn_close(c, now, 0);
		break;
	default:
		break;
	}
}

/* RFC 5681 §2: (a) data outstanding, (b) no data, (c) no SYN or FIN, (d) the greatest ACK seen, (e) the same window. */
static bool is_duplicate(const struct tcp_conn *c, const struct tcp_segment *seg, bool window_changed)
{
	return snd_flight(c) && seg->payload_len == 0 && !(seg->flags & (SEG_SYN | SEG_FIN)) &&
	       seg->ack == c->snd_una && !window_changed;
}

/* What this ACK took out of the network. */
static void note_delivered(struct tcp_conn *c, int64_t now, uint32_t bytes)
{
	c->delivered += bytes;
	if (c->ack_ece)
		c->delivered_ce += bytes;
	figures_delivered(c, bytes);
	if (c->cc->on_delivered)
		c->cc->on_delivered(c, now);
}

/* Congestion control, or a rate by its window. */
static void note_rate(struct tcp_conn *c, int64_t now, uint32_t acked, uint32_t delivered)
{
	struct rate_sample rs;
	rate_take(c, now, acked, delivered, &rs);
	if (c->cc->control)
		c->cc->control(c, now, &rs);
	else
		c->pacing_rate = tso_rate(c);
}

/*
 * Of ACKs that overtook each other the later one may carry the older number: its blocks count (as Linux; RFC 6675 §4
 * asks for no order).
 */
static void ack_old_sack(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	uint32_t before = c->sacked_bytes;
	c->ack_sacked = c->ack_orig = c->rack.rtt_acked = false;
	c->ack_rtt_us = 0;
	sack_input(c, now, seg);
	c->sacked_bytes = ranges_total(&c->sacked);
	if (c->sacked_bytes <= before)
		return;
	note_delivered(c, now, c->sacked_bytes - before);
	recovery_on_ack(c, now, seg, 0, c->sacked_bytes - before, false);
	recovery_wait_for_reo(c, now);
}

/*
 * As Linux, which has one timer for both: where a probe was to come and does not any more, the timeout counts from when
 * the oldest segment left, not from this ACK. A peer that took SACKs back has a shorter one already.
 */
static void ack_timers(struct tcp_conn *c, int64_t now, bool probe_came)
{
	tlp_schedule(c, now, true);
	if (!probe_came || c->tlp_at != TIME_NEVER || c->rtx_at == TIME_NEVER || c->rtx_is_persist || !c->sent.n || c->options.user_timeout_us)
		return;
	c->rtx_at = min_time(c->rtx_at, max_time(sent_peek(&c->sent, 0)->at_us + rtt_backed_off(c), now + 1));
}

/*
 * An ACK of something that was never sent, or one too old to be the peer's: it is challenged, and nothing of the
 * segment counts.
 */
static bool ack_refused(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	if (SEQ_GT(seg->ack, c->snd_nxt)) /* "send an ACK, drop the segment, and return" */
		TCP_COUNT(c, RcvdAckTooNew);
	else if (SEQ_LT(seg->ack, c->snd_una - c->max_snd_wnd)) /* RFC 5961 §5.2 */
		TCP_COUNT(c, RcvdAckTooOld);
	else
		return false;
	ack_challenge(c, now);
	return true;
}

/*
 * The SACK blocks, RFC 2018. Returns how many bytes the first one, a D-SACK, says came twice (RFC 2883); 0: it is none.
 */
static uint32_t ack_blocks(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg, bool acked)
{
	uint32_t dsack = seg->n_sack && c->sack_on ? sack_input(c, now, seg) : 0;
	if (acked && c->sacked.n)
		ranges_drop_before(&c->sacked, c->stack->memory, c->snd_una);
	if (dsack) {
		figures_dsack(c, dsack);
		recovery_on_dsack(c, seg->sack[0].right, dsack);
		if (!c->tlp_out)
			rack_on_dsack(c);
	}
	return dsack;
}

/* How many bytes this ACK says have left the network. */
static uint32_t count_delivered(struct tcp_conn *c, uint32_t acked, bool dup, uint32_t sacked_before, uint32_t dsack)
{
	if (!c->sack_on)
		return reno_delivered(c, acked, dup);
	/*
	 * As Linux: a retransmission for nothing has left the network, too. If more came twice than we retransmitted,
	 * the path makes them.
	 */
	uint32_t ours = c->kept.dsack_dups > c->total_retrans ? 0 : dsack;
	c->sacked_bytes = ranges_total(&c->sacked);
	uint32_t now_known = acked + c->sacked_bytes;
	return ours + (now_known > sacked_before ? now_known - sacked_before : 0);
}

bool input_ack(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	bool established_now = c->state == TCPS_SYN_RECEIVED, probe_came = c->tlp_at != TIME_NEVER;
	if (established_now && !ack_of_syn(c, now, seg))
		return false;
	if (ack_refused(c, now, seg))
		return false;
	c->last_ack_rcvd_us = now;
	c->bounced = c->bounced_waits = false;
	c->tso_waits = c->just_written = false;
	if (timer_persists(c))
		c->rtx_count = 0; /* MUST-37: the peer lives; the connection stays open */
	if (SEQ_LT(seg->ack, c->snd_una)) { /* a duplicate: "it can be ignored"; but not what it tells of what arrived since */
		if (seg->n_sack && c->sack_on && snd_flight(c))
			ack_old_sack(c, now, seg);
		return true;
	}
	bool changed = ack_window(c, seg);
	bool dup = is_duplicate(c, seg, changed);
	uint32_t acked = seg->ack - c->snd_una;
	rate_begin(c);
	if (acked)
		input_acked(c, now, seg);
	else if (changed)
		ack_after_probe(c, now);
	uint32_t sacked_before = c->sacked_bytes;
	uint32_t dsack = ack_blocks(c, now, seg, acked != 0);
	dup = dup && !established_now;
	uint32_t delivered = count_delivered(c, acked, dup, sacked_before, dsack);
	rtt_of_ack(c, now, seg, acked);
	if (acked)
		timer_stop_rtx(c); /* RFC 6298 (5.2), (5.3) */
	if (acked && snd_flight(c))
		timer_start_rtx(c, now);
	c->ack_ece = ecn_is_echo(c, seg);
	note_delivered(c, now, delivered);
	tlp_on_ack(c, now, seg, dsack, dup);
	if (acked || delivered || dup || c->ack_ece)
		recovery_on_ack(c, now, seg, acked, delivered, dup);
	if (delivered || snd_flight(c))
		note_rate(c, now, acked, delivered);
	figures_ack(c, now);
	if (acked)
		ack_timers(c, now, probe_came);
	recovery_wait_for_reo(c, now);
	if (acked) {
		if (c->fin_acked)
			ack_of_fin(c, now);
		c->wake_asked = c->nospace;
	}
	return true;
}
