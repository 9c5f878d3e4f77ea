/*
 * What goes out, and when: output_next() decides, tcp_output() emits.
 *
 * The order of importance: a RST; the SYN; retransmissions; new data and the FIN; a probe; a keepalive; a bare ACK.
 * Every segment but a RST acknowledges, so a bare ACK is what is left when nothing else went.
 */
#include "tcp/tcp_int.h"

#include <string.h>

static uint32_t positive(uint32_t end, uint32_t start)
{
	return SEQ_GT(end, start) ? end - start : 0;
}

uint32_t output_mss(const struct tcp_conn *c)
{
	unsigned n = sack_blocks_count(c);
	uint32_t mss = c->mss - (close_request_carried(c) ? TCP_OPT_CLOSE_REQUEST_BYTES : 0);
	return n ? mss - TCP_OPT_SACK_BYTES(n) : mss;
}

static bool fin_due(const struct tcp_conn *c)
{
	/* Of Fast Open: as Linux, which lets a shutdown wait for the handshake's end, but not a close. */
	return c->fin_wanted && !c->fin_held && !c->fin_sent && (c->state != TCPS_SYN_RECEIVED || (c->fastopen_early && c->orphan));
}

static bool is_corked(const struct tcp_conn *c)
{
	return c->options.cork || c->msg_more;
}

/*
 * May the last, partial segment of what is queued go? Nagle (RFC 9293 §3.7.4) in Minshall's form: only a small segment
 * in flight holds the next one back.
 */
static bool small_may_go(const struct tcp_conn *c, enum out_blocked *why)
{
	if (c->push_due || c->fin_wanted || c->frto_wait || SEQ_GT(c->snd_up, c->snd_nxt))
		return true;
	if (is_corked(c)) {
		*why = BLOCKED_CORK;
		return false;
	}
	if (c->options.nodelay || !SEQ_GT(c->snd_sml, c->snd_una))
		return true;
	*why = BLOCKED_NAGLE;
	return false;
}

/* How much of `len` bytes from `seq` on is of one record (MSG_EOR). */
static uint32_t record_left(const struct tcp_conn *c, uint32_t seq, uint32_t len)
{
	for (uint32_t i = 0; i < c->eor.n; i++) {
		const struct range *r = &c->eor.r[i];
		if (SEQ_LEQ(r->right, seq))
			continue;
		uint32_t end = SEQ_GT(r->left, seq) ? r->left + 1 : seq + 1;
		return min_u32(len, end - seq);
	}
	return len;
}

/*
 * What cwnd lets go, in whole segments unless all of `len` fits. Half of it at once at most, so that there are two
 * super-segments on the way: as Linux.
 */
static uint32_t within_cwnd(const struct tcp_conn *c, uint32_t len, uint32_t mss)
{
	uint32_t pipe = recovery_pipe(c);
	uint32_t room = min_u32(c->cwnd > pipe ? c->cwnd - pipe : 0, max_u32(c->cwnd / 2 / mss, 1) * mss);
	if (!pipe) /* one segment may always go, however large segments have become */
		room = max_u32(room, mss);
	if (len <= room)
		return len;
	return room - room % mss;
}

/* The link cuts nothing, and a super-segment is being sent piece by piece: what is left of it goes now. */
static bool next_piece(const struct tcp_conn *c, struct out *o, uint32_t mss, uint32_t most)
{
	if (c->gso_max_bytes || !SEQ_LT(c->snd_nxt, c->burst_end))
		return false;
	uint32_t left = c->burst_end - c->snd_nxt, len = min_u32(left, mss);
	if (len > most || recovery_pipe(c) + len > c->cwnd)
		return false;
	*o = (struct out){OUT_DATA, BLOCKED_NOT, c->snd_nxt, len, fin_due(c) && len == snd_unsent(c) && most > len, left, false};
	return true;
}

/*
 * After a timeout the window counts what goes by segments, however small, as Linux's: one goes again, and all that is
 * new waits for its ACK.
 */
static bool small_ones_fill_cwnd(const struct tcp_conn *c, uint32_t mss)
{
	if (c->loss != TCP_LOSS_RTO)
		return false;
	struct piece_walk w = piece_walk(c->snd_una, c->snd_nxt);
	struct piece p;
	uint32_t segs = 0;
	while (piece_next(c, &w, &p))
		segs += sent_peek(&c->sent, p.record)->lost ? 0 : (p.right - p.left + mss - 1) / mss;
	return (uint64_t)segs * mss >= c->cwnd;
}

/* New data and the FIN (RFC 9293 §3.8.6.2.1, the sender's SWS avoidance). */
static void next_new(const struct tcp_conn *c, struct out *o)
{
	uint32_t unsent = snd_unsent(c);
	bool fin = fin_due(c);
	if (!unsent && !fin)
		return;
	if (c->bounced_waits)
		return;
	uint32_t wnd = positive(c->snd_una + c->snd_wnd, c->snd_nxt);
	if (!unsent) {
		/* A lone FIN: cwnd does not hold it back (as Linux), the window does. */
		if (wnd || c->fin_then_rst)
			*o = (struct out){OUT_DATA, BLOCKED_NOT, c->snd_nxt, 0, true, 0, false};
		else
			o->blocked = BLOCKED_WINDOW;
		return;
	}
	uint32_t mss = output_mss(c);
	uint32_t len = min_u32(unsent, wnd);
	if (len == 0) { /* Linux looks at its own window first */
		o->blocked = within_cwnd(c, mss, mss) ? BLOCKED_WINDOW : BLOCKED_CWND;
		return;
	}
	if (next_piece(c, o, mss, len))
		return;
	if (c->pace_waits) {
		o->blocked = BLOCKED_PACE;
		return;
	}
	if (SEQ_GT(c->snd_up, c->snd_nxt)) /* every segment points at the urgent byte anew: no GSO */
		len = min_u32(len, mss);
	switch (mtu_probe_next(c, o)) {
	case MTU_PROBE_NOW:
		return;
	case MTU_PROBE_LATER:
		o->blocked = BLOCKED_CWND;
		return;
	case MTU_PROBE_NO:
		break;
	}
	if (tso_defers(c, wnd, mss, !fin && !c->eor.n, &o->blocked))
		return;
	if (len > mss) /* it is a segment at least */
		len = min_u32(len, tso_bytes(c, mss));
	uint32_t record = record_left(c, c->snd_nxt, unsent);
	len = within_cwnd(c, min_u32(len, record), mss);
	if (len == 0 || (len < mss && small_ones_fill_cwnd(c, mss))) {
		o->blocked = BLOCKED_CWND;
		return;
	}
	uint32_t tail = len % mss;
	if (len < min_u32(mss, record)) {
		/*
		 * What fits is less than a segment: the persist timer sends it. RFC 9293's (3), which would send half
		 * the largest window at once, is not Linux's.
		 */
		len = 0;
		o->blocked = BLOCKED_WINDOW;
	} else if (tail && (len < record || record == unsent) && !small_may_go(c, &o->blocked)) { /* (2): all that is queued, or all that the window lets go */
		len -= tail;
	}
	if (len == 0)
		return;
	*o = (struct out){OUT_DATA, BLOCKED_NOT, c->snd_nxt, len, fin && len == unsent && wnd > len, len, false};
	if (!c->gso_max_bytes && len > mss) {
		o->len = mss;
		o->fin = false;
	}
}

/*
 * Of [seq, seq + len), which goes again and is less than a segment, with the small segments behind it: they leave as
 * one, whether they are lost or not, as Linux has it (tcp_retrans_collapse). Only whole ones, and none that has
 * arrived.
 */
static uint32_t with_small_ones(const struct tcp_conn *c, uint32_t seq, uint32_t len, uint32_t mss)
{
	uint32_t i = sent_find(&c->sent, seq + len - 1);
	if (!c->stack->config.retrans_collapse || i >= c->sent.n || sent_peek(&c->sent, i)->end != seq + len)
		return len;
	while (++i < c->sent.n) {
		uint32_t end = sent_peek(&c->sent, i)->end;
		if (end - seq > mss || SEQ_GT(end, c->snd_una + c->snd_wnd) || ranges_find(&c->sacked, seq + len))
			break;
		len = end - seq;
	}
	return len;
}

static bool next_retransmission(const struct tcp_conn *c, struct out *o)
{
	uint32_t seq, len;
	bool forced;
	if (c->loss == TCP_LOSS_OPEN || c->frto_wait || !recovery_next(c, &seq, &len, &forced))
		return false;
	if (c->pace_waits && !(forced && c->loss == TCP_LOSS_RTO)) {
		o->blocked = BLOCKED_PACE;
		return false;
	}
	uint32_t mss = output_mss(c);
	if (forced) {
		len = min_u32(len, mss);
	} else {
		/* As it left (sent.h), as far as cwnd and the peer's window let it go. */
		uint32_t pipe = recovery_pipe(c), room = c->cwnd > pipe ? c->cwnd - pipe : 0;
		len = min_u32(len, c->gso_max_bytes ? tso_bytes(c, mss) : mss);
		len = min_u32(len, positive(c->snd_una + c->snd_wnd, seq));
		if (!pipe)
			room = max_u32(room, mss);
		if (len > room)
			len = room - room % mss;
		if (len == 0 || (len < mss && small_ones_fill_cwnd(c, mss)))
			return false;
	}
	if (SEQ_GT(c->snd_up, seq))
		len = min_u32(len, mss);
	if (len < mss)
		len = with_small_ones(c, seq, len, mss);
	len = record_left(c, seq, len);
	*o = (struct out){OUT_RETRANSMIT, BLOCKED_NOT, seq, len, false, 0, false};
	if (SEQ_GT(seq + len, snd_end(c))) { /* the last number is the FIN's */
		o->len = snd_end(c) - seq;
		o->fin = true;
	}
	return true;
}

/*
 * RFC 9293 §3.8.6.1. What the window lets go, in flight or not. Where it is shut and nothing is in flight, a number
 * that the peer has had: its ACK tells the window as well as that of "at least one octet of new data" would, and
 * nothing needs to be taken back. As Linux.
 */
static struct out next_probe(const struct tcp_conn *c)
{
	uint32_t mss = output_mss(c), flight = snd_flight(c);
	if (!flight && !c->snd_wnd)
		return (struct out){OUT_PROBE, BLOCKED_NOT, c->snd_una - 1, 0, false, 0, false};
	uint32_t len = record_left(c, c->snd_una, min_u32(c->snd.len, flight ? mss : min_u32(c->snd_wnd, mss)));
	return (struct out){OUT_PROBE, BLOCKED_NOT, c->snd_una, len, len == 0, 0, false};
}

struct out output_next(const struct tcp_conn *c)
{
	struct out o = {.kind = OUT_NONE};
	if (c->rst_due) {
		o.kind = OUT_RST;
		return o;
	}
	if (c->state <= TCPS_LISTEN)
		return o;
	if (c->syn_due) {
		o.kind = OUT_SYN;
		return o;
	}
	if (c->state == TCPS_SYN_SENT)
		return o;
	if (c->ack_prior_due) {
		o.kind = OUT_ACK;
		return o;
	}
	if (tcp_may_transmit(c)) {
		if (!c->fastopen_early && (next_retransmission(c, &o) || tlp_next(c, &o))) /* until then only the SYN-ACK goes again */
			return o;
		if (o.blocked != BLOCKED_PACE)
			next_new(c, &o);
		if (o.kind != OUT_NONE)
			return o;
		if (c->probe_due)
			return next_probe(c);
	}
	if (c->keepalive_due)
		o.kind = OUT_KEEPALIVE;
	else if (c->ack_due || c->dup_acks_due || c->cr_due || window_update_due(c))
		o.kind = OUT_ACK;
	return o;
}

bool tcp_may_say_later(const struct tcp_conn *c)
{
	uint32_t unacked = c->rcv_nxt - c->rcv_wup;
	if (!c->ack_due)
		return false;
	if (c->state == TCPS_ESTABLISHED && !c->passive && c->segs_out == 1)
		unacked++; /* the peer's SYN */
	bool asked = c->ack_prior_due || c->dup_acks_due || c->cr_due || c->ecn_echo || sack_blocks_count(c) || window_update_due(c);
	return !asked && unacked && unacked < 2 * (uint32_t)c->rcv_mss && !delack_has_many(c) && output_next(c).kind == OUT_ACK;
}

#define ACKS_MUCH_BYTES (UINT32_C(1) << 17) /* two super-segments */

bool tcp_acks_much(const struct tcp_conn *c)
{
	return c->rcv_nxt - c->rcv_wup >= ACKS_MUCH_BYTES;
}

/*
 * The sequence number of an ACK without data. The peer drops what lies beyond its window, ACKs too; and SND.NXT lies
 * there when the peer took window back (RFC 9293 §3.8.6.2.1 has us be ready for that). Then the window's end is good,
 * as in Linux. Less than the window's unit beyond is rounding.
 */
static uint32_t bare_ack_seq(const struct tcp_conn *c)
{
	uint32_t end = c->snd_una + c->snd_wnd;
	if (SEQ_LEQ(c->snd_nxt, end) || c->snd_nxt - end < UINT32_C(1) << c->snd_wscale)
		return c->snd_nxt;
	return end;
}

static void syn_options(struct tcp_conn *c, struct tcp_segment *seg)
{
	seg->has |= SEG_HAS_MSS;
	/*
	 * As Linux: what was found out of the path when a SYN of Fast Open was too long tells what may come back, too.
	 */
	seg->mss = c->syn_text && c->syn_retransmitted ? min_u32(c->mss_advertised, c->mss_path) : c->mss_advertised;
	if (c->sack_on)
		seg->has |= SEG_HAS_SACK_PERMITTED;
	if (c->wscale_on) {
		seg->has |= SEG_HAS_WSCALE;
		seg->wscale = c->rcv_wscale;
	}
	if (close_request_in_syn(c)) {
		seg->has |= SEG_HAS_CLOSE_CAPABLE;
		c->cr_offered = true;
	} else {
		c->cr_left_out = c->cr_on;
	}
	if (c->cookie.there) {
		seg->has |= c->cookie.old ? SEG_HAS_FASTOPEN_OLD : SEG_HAS_FASTOPEN;
		seg->cookie = c->cookie.val;
		seg->cookie_len = c->cookie.len;
	}
}

/* Everything that a segment of a live connection carries; the ACK is thereby sent. */
static void emit_segment(struct tcp_conn *c, int64_t now, struct tcp_emit *emit, uint8_t flags,
			 uint32_t seq, uint32_t len)
{
	struct tcp_segment seg;
	memset(&seg, 0, sizeof seg);
	seg.sport = c->key.lport;
	seg.dport = c->key.rport;
	seg.seq = seq;
	seg.flags = flags;
	seg.payload_len = len;
	if (len) /* a SYN's text stands behind it */
		chunks_span(&c->snd, seq + !!(flags & SEG_SYN) - c->snd_base, len, seg.payload);
	uint16_t gso_size = 0;
	if (!c->mtu_probes && (len > c->mss || (len && (sack_blocks_count(c) || close_request_carried(c))))) {
		uint32_t mss = output_mss(c);
		gso_size = len > mss ? mss : 0;
	}
	if (c->ts_on) {
		seg.has |= SEG_HAS_TIMESTAMPS;
		seg.ts_val = tcp_ts_now(now, c->ts_offset);
		seg.ts_ecr = c->ts_recent; /* of a SYN: 0, or that of the TIME-WAIT before, as Linux */
	}
	if (flags & SEG_ACK) {
		seg.ack = c->rcv_nxt;
		if (c->sack_on && !(flags & SEG_SYN)) {
			seg.n_sack = sack_blocks(c, seg.sack);
			c->dsack.left = c->dsack.right;
		}
		delack_sent(c);
		if (c->dup_acks_due)
			c->dup_acks_due--;
	}
	if (flags & SEG_SYN) {
		syn_options(c, &seg);
	} else if (SEQ_GT(c->snd_up, c->snd_una) && SEQ_GT(c->snd_up, seq)) {
		uint32_t up = c->snd_up - seq; /* points behind the urgent byte: RFC 6093 §3.1, RFC 9293 §3.8.5 */
		seg.flags |= SEG_URG;
		seg.urgent = up < UINT16_MAX ? up : UINT16_MAX;
	}
	if (!(flags & SEG_SYN) && close_request_carried(c))
		close_request_emit(c, &seg);
	seg.window = window_advertise(c, flags & SEG_SYN);
	if (flags & SEG_ACK)
		c->rcv_wup = c->rcv_nxt;
	ecn_output(c, &seg);
	if (c->paced)
		pace_emit(c, now);
	c->last_sent_us = now;
	TCP_COUNT(c, OutSegs);
	c->segs_out += gso_size ? (len + gso_size - 1) / gso_size : 1;
	emit->segment(emit, c, &seg, gso_size);
}

static void output_rst(struct tcp_conn *c, int64_t now, struct tcp_emit *emit)
{
	struct tcp_segment seg = {
		.sport = c->key.lport,
		.dport = c->key.rport,
		.seq = c->rst_seq,
		.flags = SEG_RST,
	};
	if (!c->rst_replies) { /* as any segment of the connection */
		seg.flags |= SEG_ACK;
		seg.ack = c->rcv_nxt;
		seg.window = c->rst_window;
		if (c->ts_on) { /* RFC 7323 §3.2: MAY, and TIME-WAIT peers believe it then */
			seg.has = SEG_HAS_TIMESTAMPS;
			seg.ts_val = tcp_ts_now(now, c->ts_offset);
			seg.ts_ecr = c->ts_recent;
		}
	} else if (c->rst_acks) {
		seg.flags |= SEG_ACK;
		seg.ack = c->rst_ack;
	}
	c->rst_due = false;
	TCP_COUNT(c, OutSegs);
	TCP_COUNT(c, OutRsts);
	c->segs_out += !c->rst_replies; /* in Linux no socket sends those */
	emit->segment(emit, c, &seg, 0);
	if (c->closed_due) {
		c->closed_due = false;
		c->events |= TCP_EV_CLOSED;
	}
}

static void output_syn(struct tcp_conn *c, int64_t now, struct tcp_emit *emit)
{
	uint32_t text = 0;
	c->syn_due = false;
	if (c->snd_nxt == c->iss) {
		c->snd_nxt = c->iss + 1;
		c->syn_at = now;
		text = c->syn_text ? fastopen_syn_text(c) : 0;
		if (c->fastopen_early) /* what is in flight from now on is text */
			c->snd_una = c->snd_nxt;
	} else {
		c->cookie.there = false; /* as Linux */
		c->syn_retransmitted = true;
		TCP_COUNT(c, RetransSegs);
		c->total_retrans += c->passive || c->state == TCPS_SYN_SENT || c->crossed;
		c->crossed |= !c->passive && c->state == TCPS_SYN_RECEIVED;
	}
	uint8_t flags = c->state == TCPS_SYN_SENT ? SEG_SYN : SEG_SYN | SEG_ACK;
	c->kept.segs_before += c->fastopen_early;
	emit_segment(c, now, emit, flags, c->iss, text);
	if (text)
		fastopen_syn_sent(c, now, text);
	if (c->rtx_at == TIME_NEVER)
		timer_start_rtx(c, now);
}

static uint8_t data_flags(const struct tcp_conn *c, uint32_t seq, uint32_t len, bool fin)
{
	uint8_t flags = SEG_ACK;
	/*
	 * MUST-61: a write's last segment is pushed; and super-segments, so that who puts segments together on the way
	 * does not wait: as Linux.
	 */
	if (len && (seq + len == c->snd_push || len > output_mss(c) || (c->eor.n && ranges_find(&c->eor, seq + len - 1))))
		flags |= SEG_PSH;
	return fin ? flags | SEG_FIN : flags;
}

/* What goes again. */
static uint8_t flags_again(const struct tcp_conn *c, const struct out *o)
{
	uint32_t end = o->seq + o->len, i = sent_find(&c->sent, end - 1);
	bool push = o->len && i < c->sent.n && sent_peek(&c->sent, i)->end == end && sent_peek(&c->sent, i)->bits & SENT_PUSH;
	return data_flags(c, o->seq, o->len, o->fin) | (push ? SEG_PSH : 0);
}

/*
 * Where a super-segment is one segment, as the peer's window is small: PSH on what is more than half of that behind the
 * last one. Linux's forced_push.
 */
static bool fills_window(const struct tcp_conn *c, const struct out *o)
{
	uint32_t half = tso_half_window(c);
	return o->len && c->just_written && half < 2 * output_mss(c) && o->seq + o->len - c->snd_pushed > half;
}

/* Text (and FIN) left for the first time, in segments of `mss`. */
static void account_new(struct tcp_conn *c, int64_t now, const struct out *o, bool fin, uint32_t mss)
{
	uint32_t seq = o->seq, len = o->len, end = seq + len + fin;
	uint32_t numbers = end - c->snd_nxt;
	c->pipe += numbers;
	c->snd_nxt = end;
	recovery_sent_new(c, now, numbers, mss);
	if (fin && !c->fin_sent) {
		c->fin_sent = true;
		hold_on_fin_sent(c, now);
	}
	if (!len)
		return;
	c->bytes_out += len;
	c->data_segs_out += (len + c->mss - 1) / c->mss;
	if (len % output_mss(c) && !o->probe)
		c->snd_sml = seq + len;
	delack_on_answer(c, now);
	c->last_data_sent_us = now;
}

static void output_data(struct tcp_conn *c, int64_t now, struct tcp_emit *emit, const struct out *o)
{
	uint8_t flags = data_flags(c, o->seq, o->len, o->fin);
	if (!c->gso_max_bytes && o->burst) { /* as if the kernel's software had cut it: PSH on the last piece */
		bool first = SEQ_GEQ(o->seq, c->burst_end);
		if (!first && o->len == o->burst)
			flags |= SEG_PSH;
		c->burst_end = o->seq + o->burst;
	}
	if (fills_window(c, o))
		flags |= SEG_PSH;
	if (flags & SEG_PSH)
		c->snd_pushed = o->seq + o->len;
	if (c->cc->on_start && !recovery_pipe(c))
		c->cc->on_start(c, now);
	uint32_t mss = output_mss(c);
	c->mtu_probes = o->probe;
	emit_segment(c, now, emit, o->probe ? SEG_ACK : flags, o->seq, o->len);
	c->mtu_probes = false;
	account_new(c, now, o, o->fin, mss);
	if (o->probe)
		mtu_probe_sent(c, o->seq, o->len);
	pace_sent(c, now, o->len);
	tso_look(c, now);
	if (snd_unsent(c) == 0)
		c->push_due = false;
	if (c->rtx_at == TIME_NEVER || c->rtx_is_persist) /* RFC 6298 (5.1) */
		timer_start_rtx(c, now);
	tlp_schedule(c, now, false);
	c->cork_at = TIME_NEVER;
	if (c->fin_then_rst && c->fin_sent)
		conn_reset(c, now, 0);
}

/* It has left before. */
static void account_again(struct tcp_conn *c, int64_t now, const struct out *o)
{
	uint32_t segs = (o->len + c->mss - 1) / c->mss + (o->len == 0);
	c->stack->counters[TCPC_RetransSegs] += segs;
	if (c->loss == TCP_LOSS_RECOVERY)
		c->stack->counters[TCPC_FastRetrans] += segs;
	c->total_retrans += segs;
	c->data_segs_out += segs;
	c->bytes_retrans += o->len;
	c->last_data_sent_us = now;
}

static void output_retransmission(struct tcp_conn *c, int64_t now, struct tcp_emit *emit,
				  const struct out *o)
{
	emit_segment(c, now, emit, flags_again(c, o), o->seq, o->len);
	if (o->seq == c->snd_una && c->rtx_at != TIME_NEVER && c->loss == TCP_LOSS_RECOVERY)
		c->rtx_at = now + rtt_backed_off(c);
	recovery_sent_again(c, now, o->seq, o->len + o->fin);
	account_again(c, now, o);
	pace_sent(c, now, o->len);
}

static void output_tlp(struct tcp_conn *c, int64_t now, struct tcp_emit *emit, const struct out *o)
{
	bool again = o->seq != c->snd_nxt;
	uint32_t mss = output_mss(c);
	emit_segment(c, now, emit, again ? flags_again(c, o) : data_flags(c, o->seq, o->len, o->fin), o->seq, o->len);
	if (again) {
		recovery_sent_again(c, now, o->seq, o->len + o->fin);
		figures_probe(c);
		account_again(c, now, o);
	} else {
		account_new(c, now, o, false, mss);
	}
	tlp_sent(c, again);
}

static void output_probe(struct tcp_conn *c, int64_t now, struct tcp_emit *emit, const struct out *o)
{
	c->probe_due = false;
	TCP_COUNT(c, ZeroWindowProbes);
	uint32_t mss = output_mss(c);
	emit_segment(c, now, emit, data_flags(c, o->seq, o->len, o->fin), o->seq, o->len);
	if (SEQ_GT(o->seq + o->len + o->fin, c->snd_nxt))
		account_new(c, now, o, o->fin, mss);
}

/* RFC 8257 §3.2: what was to be acknowledged late is, as it was before the marks began or ended. */
static void output_prior_ack(struct tcp_conn *c, int64_t now, struct tcp_emit *emit)
{
	uint32_t rcv_nxt = c->rcv_nxt;
	bool echo = c->ecn_echo;
	c->ack_prior_due = false;
	c->rcv_nxt = c->ack_prior;
	c->ecn_echo = c->ack_prior_echo;
	emit_segment(c, now, emit, SEG_ACK, bare_ack_seq(c), 0);
	c->rcv_nxt = rcv_nxt;
	c->ecn_echo = echo;
	c->ack_due = true;
}

static void output_one(struct tcp_conn *c, int64_t now, struct tcp_emit *emit, const struct out *o)
{
	switch (o->kind) {
	case OUT_NONE:
		break;
	case OUT_RST:
		output_rst(c, now, emit);
		break;
	case OUT_SYN:
		output_syn(c, now, emit);
		break;
	case OUT_RETRANSMIT:
		output_retransmission(c, now, emit, o);
		break;
	case OUT_TLP:
		output_tlp(c, now, emit, o);
		break;
	case OUT_DATA:
		output_data(c, now, emit, o);
		break;
	case OUT_PROBE:
		output_probe(c, now, emit, o);
		break;
	case OUT_KEEPALIVE: /* RFC 9293 §3.8.4: a sequence number that the peer has had */
		c->keepalive_due = false;
		TCP_COUNT(c, KeepAlive);
		emit_segment(c, now, emit, SEG_ACK, c->snd_nxt - 1, 0);
		break;
	case OUT_ACK:
		if (c->ack_prior_due)
			output_prior_ack(c, now, emit);
		else
			emit_segment(c, now, emit, SEG_ACK, bare_ack_seq(c), 0);
		break;
	}
}

/* What could not go is looked at again when a timer says so. */
static void output_settle(struct tcp_conn *c, int64_t now, enum out_blocked blocked)
{
	switch (blocked) {
	case BLOCKED_WINDOW:
		if (!snd_flight(c) && c->rtx_at == TIME_NEVER) {
			timer_start_rtx(c, now); /* the persist timer */
			c->rtx_is_persist = true;
		}
		break;
	case BLOCKED_CORK:
		if (c->cork_at == TIME_NEVER && !snd_flight(c)) /* as Linux, whose ceiling is the retransmission timeout */
			c->cork_at = now + max_time(c->rto_us, TCP_CORK_US);
		break;
	case BLOCKED_CWND:
	case BLOCKED_NAGLE:
	case BLOCKED_PACE: /* tcp_next_deadline tells when */
	case BLOCKED_NOT:
		break;
	}
}

void tcp_output(struct tcp_conn *c, int64_t now, struct tcp_emit *emit)
{
	pace_look(c, now);
	struct out o = {.kind = OUT_NONE};
	uint32_t snd_nxt = c->snd_nxt;
	do {
		for (; !output_is_idle(c); output_one(c, now, emit, &o)) {
			o = output_next(c);
			if (o.kind == OUT_NONE)
				break;
			if (emit->full)
				return;
			o.blocked = BLOCKED_NOT; /* if this is the last */
		}
	} while (frto_settle(c));
	if (c->snd_nxt != snd_nxt || o.blocked == BLOCKED_CWND)
		cwnd_validate(c, now, o.blocked == BLOCKED_CWND || recovery_pipe(c) + c->mss > c->cwnd);
	c->pace_held = o.blocked == BLOCKED_PACE;
	output_settle(c, now, o.blocked);
	if (c->wake_asked) {
		window_grow_sndbuf(c); /* as Linux, only for who met a shortage */
		send_wake(c);
	}
	c->wake_asked = false;
	figures_output(c, now, o.blocked);
}
