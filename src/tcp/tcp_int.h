/* Between the files of src/tcp. */
#ifndef FINESSE_TCP_TCP_INT_H
#define FINESSE_TCP_TCP_INT_H

#include "tcp/cc.h"
#include "tcp/seq.h"
#include "tcp/tcp.h"
#include "tcp/ts_clock.h"

#define TCP_COUNT(c, name) ((c)->stack->counters[TCPC_##name]++)
#define TCP_COUNT_IF(c, cond, yes, no) \
	((c)->stack->counters[(cond) ? TCPC_##yes : TCPC_##no]++)

#define TCP_MSS_DEFAULT_V4 536  /* RFC 9293 MUST-15 */
#define TCP_MSS_DEFAULT_V6 1220
#define TCP_MSS_MIN        88   /* below, a peer or a forged ICMP makes us send headers only; Linux's TCP_MIN_SND_MSS */
#define TCP_MSS_PATH_MIN   512  /* what ICMP may bring it down to: Linux's min_pmtu 552 less headers */
#define TCP_WSCALE_MAX     14   /* RFC 7323 §2.3 */
#define TCP_OPT_TS_BYTES   12   /* NOP NOP timestamps */
#define TCP_OPT_SACK_BYTES(n) (4 + 8 * (n)) /* NOP NOP SACK */
#define TCP_OPT_CLOSE_REQUEST_BYTES 8
#define PRESSURE_SEGS      4    /* what a connection's window is worth when memory is short; as Linux's */
#define TCP_CORK_US        (200 * USEC_PER_MSEC) /* tcp(7): the ceiling on TCP_CORK, or the RTO if that is more */

static inline uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}
static inline uint32_t max_u32(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/* ---- conn.c: states ---- */
static inline bool tcp_is_synchronized(const struct tcp_conn *c)
{
	return c->state >= TCPS_ESTABLISHED;
}
/* Data may still go out (or a FIN be repeated). */
static inline bool tcp_may_transmit(const struct tcp_conn *c)
{
	return (c->state >= TCPS_ESTABLISHED || c->fastopen_early) && c->state <= TCPS_LAST_ACK && c->state != TCPS_FIN_WAIT_2;
}
void conn_establish(struct tcp_conn *c, int64_t now);
/* The windows and the congestion control of a connection that may send from now on. */
void conn_begin_transfer(struct tcp_conn *c, int64_t now);
/* tcp_open_passive, not counted: a connection that may be for a moment only. */
int conn_open_passive(struct tcp_conn *c, struct tcp_stack *stack, int64_t now, const struct tcp_open *open,
		      const struct tcp_segment *syn);
/* CLOSED, with `err` for the application (0: none); buffers of unsent data go. TCP_EV_CLOSED follows a due RST. */
void conn_close(struct tcp_conn *c, int64_t now, int err);
/* A RST from where we are, then CLOSED. */
void conn_reset(struct tcp_conn *c, int64_t now, int err);
/* The same as the answer to a segment that acknowledged `ack`: <SEQ=SEG.ACK><CTL=RST>. */
void conn_reset_reply(struct tcp_conn *c, int64_t now, uint32_t ack, int err);
/* What is there out of order goes; the peer sends it again (RFC 2018 §8 allows that of SACKed text). */
void conn_drop_ahead(struct tcp_conn *c);
void conn_time_wait(struct tcp_conn *c, int64_t now);
/* The FIN is due after the data: FIN-WAIT-1 or LAST-ACK. */
void conn_queue_fin(struct tcp_conn *c, int64_t now);
void conn_start_fin_wait_2(struct tcp_conn *c, int64_t now);

/* Sequence number after the last byte in snd. */
static inline uint32_t snd_end(const struct tcp_conn *c)
{
	return c->snd_base + c->snd.len;
}
static inline uint32_t snd_flight(const struct tcp_conn *c)
{
	return c->snd_nxt - c->snd_una;
}
/* Bytes in snd that were never sent. */
static inline uint32_t snd_unsent(const struct tcp_conn *c)
{
	return c->fin_sent ? 0 : SEQ_GT(c->snd_nxt, c->snd_base) ? snd_end(c) - c->snd_nxt : c->snd.len;
}
/* Everything of ours, a FIN apart, was acknowledged. */
static inline bool snd_all_acked(const struct tcp_conn *c)
{
	return c->snd.len == 0;
}

/* ---- negotiate.c: options of the SYN exchange, segment sizes ---- */
void negotiate_ours(struct tcp_conn *c);
void negotiate_theirs(struct tcp_conn *c, const struct tcp_segment *syn, int64_t now);
void negotiate_mss(struct tcp_conn *c);
uint32_t negotiate_room(const struct tcp_conn *c, uint16_t mss_peer); /* text and options in a segment to such a peer */

/* ---- input ---- */
void input_syn_sent(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg);
/* Fifth step: false when the segment must be dropped. */
bool input_ack(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg);
void input_acked(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg); /* SND.UNA moves */
/* A segment as it is looked at after the first step: trimmed to the window. */
struct text {
	uint32_t seq, len, ack;
	const uint8_t *bytes;
	bool fin, push, cwr;
	uint8_t ecn; /* of its packet */
	uint16_t gso_size; /* as the segment's */
	bool syn;          /* it came with a SYN-ACK */
};
/* Of how many segments it is made. */
static inline uint32_t tcp_segs_of(uint32_t len, uint16_t gso_size)
{
	return gso_size ? (len + gso_size - 1) / gso_size : 1;
}

/* Text that is in order goes to the application, as far as there is memory. False: there is none. */
bool input_take(struct tcp_conn *c, const uint8_t *bytes, uint32_t len);
void input_text(struct tcp_conn *c, int64_t now, const struct text *t);
void ack_challenge(struct tcp_conn *c, int64_t now);

/* ---- delack.c: when text is acknowledged ---- */
void delack_quick(struct tcp_conn *c, uint32_t most); /* so many segments, at most, are acknowledged at once from now on */
void delack_handshake(struct tcp_conn *c, int64_t now); /* a client is established */
void delack_begin(struct tcp_conn *c); /* a FIN without text before it */
void delack_on_text(struct tcp_conn *c, int64_t now);
void delack_observe(struct tcp_conn *c, const struct text *t);
void delack_schedule(struct tcp_conn *c, int64_t now, const struct text *t);
void delack_sent(struct tcp_conn *c);
bool delack_has_many(const struct tcp_conn *c); /* so many segments wait for an ACK that it waits for nothing, however short they are */
void delack_expired(struct tcp_conn *c);
void delack_on_answer(struct tcp_conn *c, int64_t now);
void delack_on_read(struct tcp_conn *c, int64_t now);
uint32_t delack_ato(const struct tcp_conn *c);
void delack_behind_gap(struct tcp_conn *c, int64_t now, const struct text *t); /* with SACK; t is not in c->ooo yet */

/* ---- output.c ---- */
enum out_kind {
	OUT_NONE, OUT_RST, OUT_SYN, OUT_RETRANSMIT, OUT_TLP, OUT_DATA, OUT_PROBE, OUT_KEEPALIVE, OUT_ACK
};
/* Why nothing (more) may go although there is something. */
enum out_blocked { BLOCKED_NOT, BLOCKED_CWND, BLOCKED_WINDOW, BLOCKED_NAGLE, BLOCKED_CORK, BLOCKED_PACE };
struct out {
	enum out_kind kind;
	enum out_blocked blocked;
	uint32_t seq, len;
	bool fin;
	uint32_t burst; /* of new text: what goes together, `len` first */
	bool probe;     /* of the path's MTU: one segment, however long */
};
/* What goes next; does not depend on the time. */
struct out output_next(const struct tcp_conn *c);
/* Is it worth an ACK of its own that the application made room? */
bool window_update_due(const struct tcp_conn *c);
/*
 * For sure nothing, and nothing is held back: what output_next() would find out by all its questions. Most looks are at
 * such a connection.
 */
static inline bool output_is_idle(const struct tcp_conn *c)
{
	if (c->syn_due || c->ack_due || c->rst_due || c->probe_due || c->keepalive_due || c->tlp_due || c->cr_due || c->ack_prior_due)
		return false;
	if (c->dup_acks_due || c->loss != TCP_LOSS_OPEN || snd_unsent(c) || (c->fin_wanted && !c->fin_sent && !c->fin_held))
		return false;
	return !c->read_since || c->peer_fin || !window_update_due(c);
}
uint32_t output_mss(const struct tcp_conn *c); /* payload per segment, SACK blocks taken off */

/* ---- mtu_probe.c: packetization layer path MTU discovery ---- */
enum mtu_probe_says { MTU_PROBE_NO, MTU_PROBE_NOW, MTU_PROBE_LATER };
void mtu_probe_init(struct tcp_conn *c, int64_t now); /* again once the options are agreed */
uint32_t mtu_probe_bound(const struct tcp_conn *c, uint32_t room);
enum mtu_probe_says mtu_probe_next(const struct tcp_conn *c, struct out *o); /* LATER: new text waits, so that there is room for one */
void mtu_probe_sent(struct tcp_conn *c, uint32_t seq, uint32_t len);
void mtu_probe_on_ack(struct tcp_conn *c, int64_t now, uint32_t acked); /* SND.UNA has moved by `acked` */
bool mtu_probe_failed(struct tcp_conn *c); /* something was found lost, at first. True: the probe, for which the window is not to blame */
void mtu_probe_on_rto(struct tcp_conn *c, int64_t now);

/* ---- send.c ---- */
uint64_t send_bytes(const struct iovec *iov, int iovcnt); /* how many there are */
/* the first n of them into the send buffer, which has the room. How many: fewer where the program's memory is bad */
uint32_t send_put(struct tcp_conn *c, const struct iovec *iov, uint32_t n);
void send_wake(struct tcp_conn *c); /* the program, if it waits for room and there is some */

/* ---- tso.c ---- */
uint64_t tso_rate(const struct tcp_conn *c); /* a pacing rate by cwnd, bytes a second; UINT64_MAX: not known */
uint32_t tso_bytes(const struct tcp_conn *c, uint32_t mss); /* the most that one emit carries: whole segments */
uint32_t tso_half_window(const struct tcp_conn *c); /* a write's super-segments are no more */
void tso_look(struct tcp_conn *c, int64_t now); /* … at the time, for tso_defers */
/* unsent text waits for the next ACK, to go with more */
bool tso_defers(const struct tcp_conn *c, uint32_t wnd, uint32_t mss, bool more_may_come, enum out_blocked *why);

/* ---- cwnd.c ---- */
bool cwnd_is_limit(const struct tcp_conn *c); /* … so that it may grow */
void cwnd_validate(struct tcp_conn *c, int64_t now, bool limited); /* new text left, or cwnd kept it back */
void cwnd_after_idle(struct tcp_conn *c, int64_t now); /* the program's text begins a buffer, or the peer's window changed */

/* ---- pace.c ---- */
void pace_init(struct tcp_conn *c); /* the congestion control or the bound is another; before: the connection is established */
uint64_t pace_bounded(const struct tcp_conn *c, uint64_t rate); /* … by SO_MAX_PACING_RATE */
int64_t pace_at(const struct tcp_conn *c); /* when pace_waits ends */
static inline void pace_look(struct tcp_conn *c, int64_t now) /* … and ends it */
{
	if (c->pace_waits && pace_at(c) <= now)
		c->pace_waits = false;
}
static inline int64_t pace_delay(const struct tcp_conn *c, int64_t now) /* until what may leave next does */
{
	return c->pace_waits && pace_at(c) > now ? pace_at(c) - now : 0;
}
void pace_emit(struct tcp_conn *c, int64_t now); /* a segment leaves */
void pace_charge(struct tcp_conn *c, int64_t now, uint32_t bytes);
static inline void pace_sent(struct tcp_conn *c, int64_t now, uint32_t bytes) /* of text, new or again */
{
	if (c->paced)
		pace_charge(c, now, bytes);
}

/* ---- timers.c ---- */
void timer_start_rtx(struct tcp_conn *c, int64_t now); /* from zero: new data or progress */
void timer_stop_rtx(struct tcp_conn *c);
void timer_keepalive(struct tcp_conn *c, int64_t now);
bool timer_persists(const struct tcp_conn *c); /* rtx_at is the persist timer */

/* ---- rtt.c ---- */
void rtt_init(struct tcp_conn *c);
/* After SND.UNA has moved and SACKs were read. */
void rtt_of_ack(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg, bool acked);
/* The peer's text has come, with time stamps or in order: a sample as a receiver sees it. */
void rtt_receiver_ts(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg);
void rtt_receiver_text(struct tcp_conn *c, int64_t now);
/* `seg` acknowledges our SYN: the first sample, or the RTO of a path that is not known. */
void rtt_handshake(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg);
int64_t rtt_backed_off(const struct tcp_conn *c);

/* ---- recovery.c: episodes of loss and repair ---- */
void recovery_init(struct tcp_conn *c);
void recovery_fini(struct tcp_conn *c); /* its memory */
/*
 * After snd_una moved by `acked`. `delivered`: bytes that left the network, as far as SACK tells; `dup`: a duplicate
 * ACK.
 */
void recovery_on_ack(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg, uint32_t acked, uint32_t delivered, bool dup);
/* `bytes` arrived twice. */
void recovery_on_dsack(struct tcp_conn *c, uint32_t right, uint32_t bytes);
void recovery_on_rto(struct tcp_conn *c, int64_t now);
/*
 * After an ACK: as Linux, which has one timer for both, no timeout comes before rack.c's timer, unless that is more
 * than a timeout away.
 */
void recovery_wait_for_reo(struct tcp_conn *c, int64_t now);
void recovery_reo_expired(struct tcp_conn *c, int64_t now); /* rack.c's timer */
/* Congestion, but no episode: the window as after a fast recovery. */
void recovery_reduce(struct tcp_conn *c, int64_t now);
/* Everything in flight must go again, in other segments: the path's MTU shrank. Not congestion. */
void recovery_resegment(struct tcp_conn *c);
/* What is in flight before `right` goes again, the rest does not. Not congestion. */
void recovery_repeat(struct tcp_conn *c, uint32_t right);
/* The next range to retransmit: true. *forced: whatever cwnd says. */
bool recovery_next(const struct tcp_conn *c, uint32_t *seq, uint32_t *len, bool *forced);
/* After snd_nxt moved by `len` numbers that left now. */
void recovery_sent_new(struct tcp_conn *c, int64_t now, uint32_t len, uint32_t mss);
void recovery_sent_again(struct tcp_conn *c, int64_t now, uint32_t seq, uint32_t len);
/* Without SACK, all that had been sent when the episode began is acknowledged, and nothing more: it goes on. */
static inline bool recovery_is_held(const struct tcp_conn *c)
{
	return !c->sack_on && c->loss != TCP_LOSS_OPEN && c->snd_una == c->recovery_point;
}
static inline uint32_t recovery_pipe(const struct tcp_conn *c)
{
	return c->loss == TCP_LOSS_OPEN && !c->sacked_bytes ? snd_flight(c) : c->pipe;
}

/* ---- recovery_reno.c: without SACK ---- */
uint32_t reno_delivered(struct tcp_conn *c, uint32_t acked, bool dup); /* bytes that this ACK took out of the network; counts it */
bool reno_detect(struct tcp_conn *c, uint32_t acked); /* true: the first segment was newly found lost */

/* ---- frto.c: was a timeout spurious? ---- */
void frto_begin(struct tcp_conn *c, bool fresh); /* a timeout has begun its episode; fresh: nothing was lost before it */
bool frto_on_ack(struct tcp_conn *c, uint32_t acked, bool dup); /* true: it was. The windows are as before, the caller ends the episode */
bool frto_settle(struct tcp_conn *c); /* all that may go has gone; true: something goes again after all */

/* ---- rack.c: with SACK ---- */
/* [left, right) was delivered, with SACK or without: before the scoreboard or the log of what was sent says so. */
void rack_delivered(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg, uint32_t left, uint32_t right);
bool rack_detect(struct tcp_conn *c, int64_t now); /* true: something was newly found lost. Arms reo_at */
bool rack_detect_on_ack(struct tcp_conn *c, int64_t now);
void rack_on_dsack(struct tcp_conn *c);
void rack_on_recovered(struct tcp_conn *c);
void rack_mark_on_rto(struct tcp_conn *c, int64_t now);
void rack_mark_all(struct tcp_conn *c);
bool rack_has_lost(const struct tcp_conn *c);
void rack_forgive(struct tcp_conn *c); /* nothing is lost, after all */
/* What is in flight and not SACKed, piece by piece, each within one record of `sent`. */
#define PIECE_START UINT32_MAX
struct piece {
	uint32_t left, right, record;
};
struct piece_walk {
	uint32_t at, limit, record, range;
};
static inline struct piece_walk piece_walk(uint32_t left, uint32_t right)
{
	return (struct piece_walk){.at = left, .limit = right, .record = PIECE_START};
}
bool piece_next(const struct tcp_conn *c, struct piece_walk *w, struct piece *p);

/* ---- rate.c: delivery rate samples ---- */
void rate_init(struct tcp_conn *c);
struct sent_mark rate_mark(struct tcp_conn *c, int64_t now, bool idle); /* something leaves; `idle`: nothing was in flight */
static inline void rate_begin(struct tcp_conn *c) /* an ACK's work begins */
{
	c->rate.known = c->rate.repeated = c->rate.acked_again = c->ack_sacked = c->ack_orig = false;
	c->rate.rtt_us = c->rate.first_rtt_us = c->rate.sack_rtt_us = 0;
	c->rate.lost_before = c->lost;
	c->rack.rtt_acked = false;
	c->rate.prior_flight = recovery_pipe(c);
}
void rate_delivered(struct tcp_conn *c, int64_t now, const struct sent *r, uint32_t right); /* … it delivers record r up to `right` */
/* … c->delivered has moved, what is lost is known */
void rate_take(struct tcp_conn *c, int64_t now, uint32_t acked, uint32_t delivered, struct rate_sample *s);
void rate_check_app_limited(struct tcp_conn *c); /* the program is about to send */

/* ---- tlp.c: tail loss probe ---- */
void tlp_schedule(struct tcp_conn *c, int64_t now, bool acked); /* new data left, or was acknowledged */
void tlp_expired(struct tcp_conn *c, int64_t now);
bool tlp_next(const struct tcp_conn *c, struct out *o);
void tlp_sent(struct tcp_conn *c, bool again);
void tlp_on_ack(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg, bool dsack, bool dup);

/* ---- undo.c: what a recovery did that had no reason ---- */
void undo_begin(struct tcp_conn *c);
void undo_forget(struct tcp_conn *c);
void undo_note_sent(struct tcp_conn *c, int64_t now, uint32_t seq, uint32_t len);
/* True: the windows are as before the episode, which the caller ends. */
bool undo_by_timestamp(struct tcp_conn *c, const struct tcp_segment *seg, uint32_t acked);
bool undo_by_dsack(struct tcp_conn *c, uint32_t right, uint32_t len); /* of `len` bytes up to `right` */
void undo_now(struct tcp_conn *c); /* for another sign */

/* ---- sack.c ---- */
uint32_t sack_last_segment(const struct tcp_conn *c); /* where the last segment in flight begins */
/* Into the scoreboard. How many bytes the peer had twice (D-SACK). */
uint32_t sack_input(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg);
bool sack_is_lost(const struct tcp_conn *c, uint32_t seq);
/* Blocks for an ACK of ours; how many. */
unsigned sack_blocks(const struct tcp_conn *c, struct sack_block out[TCP_SACK_BLOCKS]);
unsigned sack_blocks_count(const struct tcp_conn *c);
bool sack_is_third(const struct tcp_conn *c, uint32_t left, uint32_t right);
void sack_note_recent(struct tcp_conn *c, uint32_t seq);
void sack_note_duplicate(struct tcp_conn *c, uint32_t left, uint32_t right);

/* ---- window.c ---- */
/* Bytes we accept beyond rcv_nxt. */
static inline uint32_t rcv_wnd(const struct tcp_conn *c)
{
	return SEQ_GT(c->rcv_adv, c->rcv_nxt) ? c->rcv_adv - c->rcv_nxt : 0;
}
/* The window field of a segment that goes now; moves rcv_adv. */
uint16_t window_advertise(struct tcp_conn *c, bool syn);
uint32_t window_of(const struct tcp_conn *c); /* … of this connection, whose segments were seen */
uint32_t window_free(const struct tcp_conn *c); /* … of that, what nothing is in */
uint32_t window_share(const struct tcp_conn *c, uint32_t len);
void window_saw(struct tcp_conn *c, uint32_t len); /* a full segment */
uint32_t window_space(uint32_t rcvbuf); /* the bytes of text that a receive buffer of this size is for */
/* The first one, bytes. A SYN's field cannot tell all of it; the next segment does. */
uint32_t window_initial(const struct tcp_conn *c);
bool window_is_half_used(const struct tcp_conn *c);
bool window_keeps(const struct tcp_conn *c); /* an ACK now would not tell of a smaller window than the last one did */
void window_on_read(struct tcp_conn *c, int64_t now, uint32_t n);
void window_on_ahead(struct tcp_conn *c); /* text came out of order */
void window_grow_sndbuf(struct tcp_conn *c);
void window_release_rcv(struct tcp_conn *c);
/* SO_RCVLOWAT was set, or inherited: the buffer grows with it, unless the program fixed its size. */
void window_fits_lowat(struct tcp_conn *c);

/* ---- hold.c: closing by policy ---- */
/* The application closes its direction: FIN now, or held. */
void hold_on_close(struct tcp_conn *c, int64_t now, enum close_call call, bool linger, bool exiting);
void hold_on_all_acked(struct tcp_conn *c, int64_t now);
void hold_release(struct tcp_conn *c, int64_t now, enum close_end end);
void hold_on_fin_sent(struct tcp_conn *c, int64_t now);
void hold_on_peer_fin(struct tcp_conn *c, int64_t now);
void hold_on_closed(struct tcp_conn *c, int64_t now, enum close_end end);
void hold_tick(struct tcp_conn *c, int64_t now);

/* ---- close_request.c ---- */
bool close_request_in_syn(const struct tcp_conn *c);
bool close_request_carried(const struct tcp_conn *c);
void close_request_emit(struct tcp_conn *c, struct tcp_segment *seg);
void close_request_begin(struct tcp_conn *c, int64_t now);
void close_request_end(struct tcp_conn *c);
void close_request_tick(struct tcp_conn *c, int64_t now);
void close_request_input(struct tcp_conn *c, const struct tcp_segment *seg);
void close_request_reached(struct tcp_conn *c);
/* The application gets end of file: by the peer's FIN, or by its request. */
static inline bool conn_eof(const struct tcp_conn *c)
{
	return c->peer_fin || c->cr_eof;
}

/* ---- fastopen.c ---- */
void fastopen_begin(struct tcp_conn *c, int64_t now, const struct tcp_segment *syn);
void fastopen_timeout(struct tcp_conn *c, int64_t now); /* the SYN-ACK goes again */

/* ---- fastopen_client.c ---- */
static inline bool fastopen_asked(const struct tcp_conn *c) /* our SYN was one of Fast Open */
{
	return c->syn_option || c->syn_text;
}
uint32_t fastopen_syn_text(const struct tcp_conn *c); /* how much text it has: the path may have become smaller since */
void fastopen_syn_sent(struct tcp_conn *c, int64_t now, uint32_t len);
/* The SYN-ACK; SND.UNA is behind our SYN. True: it did not acknowledge all of the text, which goes again. */
bool fastopen_on_syn_ack(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg);
void fastopen_look_for_hole(struct tcp_conn *c, bool over); /* the retransmission timer expired; `over`: for the last time */
void fastopen_closed(struct tcp_conn *c);

/* ---- ecn.c ---- */
void ecn_offer(struct tcp_conn *c);
void ecn_agree(struct tcp_conn *c, const struct tcp_segment *syn);
void ecn_output(struct tcp_conn *c, struct tcp_segment *seg); /* flags and codepoint of a segment that leaves now */
void ecn_input_any(struct tcp_conn *c, const struct tcp_segment *seg); /* for tcp_info: Linux tells where nothing was agreed of ACKs, too */
void ecn_input_text(struct tcp_conn *c, const struct text *t);
bool ecn_is_echo(const struct tcp_conn *c, const struct tcp_segment *seg);
void ecn_reduced(struct tcp_conn *c); /* the window was reduced: the peer is told */

/* ---- figures.c: for tcp_info only ---- */
void figures_init(struct tcp_conn *c);
void figures_established(struct tcp_conn *c, int64_t now);
void figures_text(struct tcp_conn *c, uint32_t len); /* a segment of the peer's, in order */
void figures_delivered(struct tcp_conn *c, uint32_t bytes);
void figures_probe(struct tcp_conn *c); /* what was sent last is a tail loss probe, of text that was sent before */
void figures_dsack(struct tcp_conn *c, uint32_t bytes);
void figures_reordered(struct tcp_conn *c, uint32_t left, uint32_t fack);
void figures_timeout(struct tcp_conn *c, int64_t now);
void figures_ack(struct tcp_conn *c, int64_t now); /* an acceptable ACK was processed */
/* bounced.c */
bool bounced_try(struct tcp_conn *c, int64_t now); /* the timer: once more. False: it took too long */
void recovery_bounced(struct tcp_conn *c, int64_t now);
void figures_output(struct tcp_conn *c, int64_t now, enum out_blocked blocked); /* all that may go has gone */

/* ---- urgent.c ---- */
void urgent_input(struct tcp_conn *c, const struct tcp_segment *seg);
void urgent_arrived(struct tcp_conn *c);
/* The mark's offset in rcv: the urgent byte is there; else UINT32_MAX. */
uint32_t urgent_mark(const struct tcp_conn *c);
/* The same while the byte is not part of the stream: not inline. */
uint32_t urgent_offset(const struct tcp_conn *c);
/* The application has read on: a mark behind it is forgotten. */
void urgent_passed(struct tcp_conn *c);

#endif
