/*
 * Figures that only struct tcp_info asks for: what Linux counts, and the protocol does not need. Nothing in here
 * changes what the connection does.
 *
 * Kept (struct tcp_kept): counts, and the time for which the connection was busy, and why it did not go faster.
 * Computed when asked for: segments in flight, lost and sent again, from the log of what was sent (sent.h). It knows a
 * segment by when it left, so that short ones that left in one turn count as one.
 */
#include "tcp/tcp_int.h"

#define CWND_INIT_SEGS   10  /* Linux: TCP_INIT_CWND, whatever the route says */
#define GROW_LEAST_BYTES 128 /* Linux's tcp_event_data_recv: shorter segments let the window's threshold be */

static uint32_t segs_of(const struct tcp_conn *c, uint32_t bytes)
{
	uint32_t mss = max_u32(c->mss, 1); /* not negotiated yet */
	return bytes / mss + (bytes % mss != 0);
}

void figures_init(struct tcp_conn *c)
{
	c->kept.reordering = c->stack->config.reordering;
}

/* What the peer may put into a segment, once it is known that timestamps are with it. */
static uint32_t figures_advmss(const struct tcp_conn *c)
{
	return c->mss_advertised - (c->ts_on && (tcp_is_synchronized(c) || c->kept.established_us) ? TCP_OPT_TS_BYTES : 0);
}

void figures_established(struct tcp_conn *c, int64_t now)
{
	c->kept.established_us = now;
	c->kept.delivered_segs = 1; /* the SYN */
	/* Linux's tcp_init_buffer_space: room for a segment stays in reserve. */
	uint32_t advmss = figures_advmss(c), space = window_space(c->rcvbuf_limit), clamp = space;
	if (c->options.window_clamp)
		clamp = min_u32(clamp, c->options.window_clamp);
	if (clamp > 2 * advmss && clamp + advmss > space)
		clamp = max_u32(space - advmss, 2 * advmss);
	c->kept.rcv_clamp = clamp;
	c->kept.rcv_ssthresh = min_u32(rcv_wnd(c), clamp);
	c->kept.rcv_space = min_u32(c->kept.rcv_ssthresh, CWND_INIT_SEGS * advmss);
	c->drs_since = now;
	c->kept.segs_before = c->passive ? c->segs_out : 0;
	c->kept.synack_timeouts = c->passive ? c->kept.timeouts : 0;
	if (c->passive && c->kept.rto_since_us) /* as Linux: since the first SYN-ACK */
		c->kept.rto_since_us = c->syn_at;
}

/*
 * By how much the window may grow for a segment: one that takes more memory than it should, by less, or not at all
 * where the window is large already.
 */
static uint32_t growth(const struct tcp_conn *c, uint32_t len)
{
	uint32_t share = window_share(c, len), most = c->stack->config.rcvbuf_max_bytes / 2;
	if (share <= len)
		return max_u32(2 * c->mss_advertised, 2 * len);
	for (share /= 2, most /= 2; c->kept.rcv_ssthresh <= most; share /= 2, most /= 2)
		if (share <= len)
			return max_u32(2 * c->rcv_mss, 2 * len);
	return 0;
}

/*
 * Linux's tcp_grow_window. What lets the window grow is acknowledged at once: a peer that begins counts ACKs, and
 * learns of the window from them.
 */
void figures_text(struct tcp_conn *c, uint32_t len)
{
	uint32_t most = min_u32(c->kept.rcv_clamp, window_free(c)), *threshold = &c->kept.rcv_ssthresh;
	uint32_t by = len >= GROW_LEAST_BYTES && most > *threshold ? growth(c, len) : 0;
	if (!by)
		return;
	*threshold = min_u32(most, *threshold + by);
	c->quickacks |= 1;
}

void figures_delivered(struct tcp_conn *c, uint32_t bytes)
{
	c->kept.delivered_segs += segs_of(c, bytes);
	if (c->ack_ece)
		c->kept.delivered_ce_segs += segs_of(c, bytes);
}

void figures_probe(struct tcp_conn *c)
{
	if (c->sent.n)
		sent_at(&c->sent, c->sent.n - 1)->bits |= SENT_PROBE;
}

void figures_dsack(struct tcp_conn *c, uint32_t bytes)
{
	c->kept.dsack_dups += max_u32(segs_of(c, bytes), 1);
}

/* What begins at `left` was delivered later than what ends at `fack`. */
void figures_reordered(struct tcp_conn *c, uint32_t left, uint32_t fack)
{
	uint32_t most = c->stack->config.max_reordering, segs = segs_of(c, fack - left);
	c->kept.reord_seen++;
	if (segs > c->kept.reordering)
		c->kept.reordering = min_u32(segs, most);
}

void figures_timeout(struct tcp_conn *c, int64_t now)
{
	if (!c->kept.rto_since_us) {
		c->kept.rto_recoveries++;
		c->kept.rto_since_us = now;
	}
	c->kept.timeouts++;
}

/* An ACK was processed: as in Linux, it ends what the timer began where everything is repaired. */
void figures_ack(struct tcp_conn *c, int64_t now)
{
	if (!c->kept.rto_since_us || c->loss == TCP_LOSS_RTO)
		return;
	c->kept.rto_time_us += now - c->kept.rto_since_us;
	c->kept.rto_since_us = 0;
}

/* ---- the chronographs, Linux's tcp_chrono: one runs at a time ---- */

static uint8_t chrono_now(const struct tcp_conn *c, enum out_blocked blocked)
{
	if (c->state == TCPS_SYN_SENT && c->syn_text)
		return TCP_CHRONO_BUSY;
	if (!c->snd.len || !tcp_may_transmit(c))
		return TCP_CHRONO_NONE;
	if (blocked == BLOCKED_WINDOW)
		return TCP_CHRONO_RWND;
	if (!snd_unsent(c) && c->nospace && recovery_pipe(c) < c->cwnd && !cwnd_is_limit(c))
		return TCP_CHRONO_SNDBUF;
	return TCP_CHRONO_BUSY;
}

/* Linux reads its clock of ticks at both ends: what lasted not quite so many ticks mostly counts as so many. */
static int64_t ticks_between(const struct tcp_conn *c, int64_t from, int64_t to)
{
	int64_t tick = max_time(c->stack->config.tick_us, 1);
	return to - to % tick - (from - from % tick);
}

void figures_output(struct tcp_conn *c, int64_t now, enum out_blocked blocked)
{
	struct tcp_kept *k = &c->kept;
	uint8_t next = chrono_now(c, blocked);
	if (next == k->chrono)
		return;
	k->chrono_us[k->chrono] += ticks_between(c, k->chrono_since_us, now);
	k->chrono = next;
	k->chrono_since_us = now;
}

static int64_t chrono_total(const struct tcp_conn *c, int64_t now, uint8_t which)
{
	const struct tcp_kept *k = &c->kept;
	return k->chrono_us[which] + (k->chrono == which ? ticks_between(c, k->chrono_since_us, now) : 0);
}

/* ---- what is in flight ---- */

static void count_flight(const struct tcp_conn *c, struct tcp_figures *out)
{
	uint32_t left = c->snd_una;
	if (!c->sack_on)
		out->sacked = segs_of(c, c->sacked_bytes);
	if (!c->sent.n) {
		out->unacked = segs_of(c, snd_flight(c));
		return;
	}
	for (uint32_t i = 0; i < c->sent.n; i++) {
		const struct sent *r = sent_peek(&c->sent, i);
		uint32_t segs = SEQ_GT(r->end, left) ? segs_of(c, r->end - left) : 0;
		out->unacked += segs;
		left = seq_max(left, r->end);
	}
	for (uint32_t i = 0; i < c->sacked.n; i++)
		out->sacked += segs_of(c, c->sacked.r[i].right - c->sacked.r[i].left);
	struct piece_walk w = piece_walk(c->snd_una, c->snd_nxt);
	struct piece p;
	while (piece_next(c, &w, &p)) {
		const struct sent *r = sent_peek(&c->sent, p.record);
		/* Linux's segment stays marked lost when it was sent again, and counts as both. */
		out->lost += r->lost || (r->again && c->loss != TCP_LOSS_OPEN) ? segs_of(c, p.right - p.left) : 0;
		out->retrans += r->again && !r->lost && !(r->bits & SENT_PROBE) ? segs_of(c, p.right - p.left) : 0;
	}
}

uint32_t tcp_rehashes(const struct tcp_conn *c)
{
	return c->kept.timeouts;
}

void tcp_get_figures(const struct tcp_conn *c, int64_t now, struct tcp_figures *out)
{
	const struct tcp_kept *k = &c->kept;
	bool persists = timer_persists(c);
	*out = (struct tcp_figures){
		.established_us = k->established_us,
		.retransmits = persists ? 0 : c->rtx_count,
		.probes = persists && !c->bounced ? c->backoff : c->keep_probes,
		.rto_base_us = c->rto_us,
		.ato_us = delack_ato(c),
		.rcv_mss = c->rcv_mss,
		.reordering = k->reordering,
		.rcv_ssthresh = k->rcv_ssthresh,
		.rcv_rtt_us = c->rcv_rtt.us,
		.rcv_space = c->drs_space ? c->drs_space : k->rcv_space,
		.pacing_rate = k->established_us ? c->pacing_rate : UINT64_MAX,
		.delivery_rate = c->rate.interval_us ? (uint64_t)segs_of(c, c->rate.delivered) * c->mss * USEC_PER_SEC / c->rate.interval_us : 0,
		.delivery_app_limited = c->rate.limited,
		.advmss = figures_advmss(c),
		.segs_out = c->segs_out - k->segs_before,
		.busy_us = chrono_total(c, now, TCP_CHRONO_BUSY),
		.rwnd_limited_us = chrono_total(c, now, TCP_CHRONO_RWND),
		.sndbuf_limited_us = chrono_total(c, now, TCP_CHRONO_SNDBUF),
		/* the SYN-ACK is not acknowledged yet; SYN and SYN-ACK are */
		.delivered = k->delivered_segs - c->fastopen_early + (c->crossed && k->established_us),
		.delivered_ce = k->delivered_ce_segs,
		.dsack_dups = k->dsack_dups,
		.reord_seen = k->reord_seen,
		.rcv_ooopack = k->rcv_ooopack,
		.rcv_wnd = c->rcv_adv - c->rcv_wup,
		.timeouts = k->timeouts,
		.rehashes = k->timeouts - k->synack_timeouts,
		.rto_recoveries = k->rto_recoveries,
		.rto_time_us = k->rto_time_us + (k->rto_since_us ? now - k->rto_since_us : 0),
		.client = !c->passive,
		.fastopen_early = c->fastopen_early,
		.crossed = c->crossed,
		.persists = persists,
		.syn_text = c->syn_text,
		.fin_acked = c->fin_acked,
		.peer_fin = c->peer_fin,
		.disorder = c->loss == TCP_LOSS_OPEN && c->sacked_bytes,
		.cwr = c->cwr,
		.loss = c->loss,
	};
	count_flight(c, out);
}
