/*
 * Every state of RFC 9293 against every event of its §3.10: what is said, and what becomes of the connection.
 *
 * One table for SEGMENT ARRIVES in SYN-RECEIVED and the synchronized states (§3.10.7.4), one for SYN-SENT (§3.10.7.3);
 * the user calls (§3.10.1–6) have user_calls_test.c. Each row is an event, each column a state; a cell says the reply
 * and the next state. Every cell runs with and without options (timestamps, SACK, window scale).
 */
#include "harness.h"

/* Columns. */
static const enum tcp_state columns[] = {
	TCPS_SYN_RECEIVED, TCPS_ESTABLISHED, TCPS_FIN_WAIT_1, TCPS_FIN_WAIT_2,
	TCPS_CLOSE_WAIT,   TCPS_CLOSING,     TCPS_LAST_ACK,   TCPS_TIME_WAIT,
};
#define COLUMNS (int)(sizeof columns / sizeof *columns)

/* Replies. */
enum reply {
	NONE,  /* silence */
	ACK,   /* <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>, at once */
	DACK,  /* the same, at once or within the delay of MUST-40 */
	MAY,   /* an ACK or silence: the RFC leaves it open */
	RST,   /* <SEQ=SEG.ACK><CTL=RST> */
	RSTACK, /* … or <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK> */
	SYNACK,
};

/* Next state: SAME or one of TCPS_. */
#define SAME ((enum tcp_state)-1)
#define SR   TCPS_SYN_RECEIVED
#define ES   TCPS_ESTABLISHED
#define F1   TCPS_FIN_WAIT_1
#define F2   TCPS_FIN_WAIT_2
#define CW   TCPS_CLOSE_WAIT
#define CG   TCPS_CLOSING
#define LA   TCPS_LAST_ACK
#define TW   TCPS_TIME_WAIT
#define CL   TCPS_CLOSED

struct cell {
	enum reply reply;
	enum tcp_state next;
};

/* ---- events ---- */

static uint32_t una(struct harness *h)
{
	return h_status(h).snd_una - H_ISS;
}

/* An ACK field that changes nothing; in SYN-RECEIVED the one that acknowledges our SYN. */
static uint32_t neutral(struct harness *h)
{
	return tcp_state(&h->c) == TCPS_SYN_RECEIVED ? 1 : una(h);
}

static void arrive(struct harness *h, uint8_t flags, int32_t seq_off, uint32_t ack, uint32_t len)
{
	struct tcp_segment s = h_seg(h, flags, seq_off, ack, len);
	h_input(h, &s);
}

static int32_t edge(struct harness *h)
{
	return (int32_t)h_status(h).rcv_wnd;
}

static void old_text(struct harness *h)
{
	arrive(h, SEG_ACK, -20, neutral(h), 10);
}
static void old_bare_ack(struct harness *h)
{
	arrive(h, SEG_ACK, -1, neutral(h), 0); /* as a keepalive probe */
}
static void beyond_window(struct harness *h)
{
	arrive(h, SEG_ACK, edge(h), neutral(h), 10);
}
static void far_away(struct harness *h)
{
	arrive(h, SEG_ACK, INT32_MIN + 5, neutral(h), 10);
}
static void rst_exact(struct harness *h)
{
	arrive(h, SEG_RST, 0, 0, 0);
}
static void rst_exact_with_ack(struct harness *h)
{
	arrive(h, SEG_RST | SEG_ACK, 0, neutral(h), 0);
}
static void rst_in_window(struct harness *h)
{
	arrive(h, SEG_RST, 1, 0, 0);
}
static void rst_last_in_window(struct harness *h)
{
	arrive(h, SEG_RST, edge(h) - 1, 0, 0);
}
static void rst_before(struct harness *h)
{
	arrive(h, SEG_RST, -1, 0, 0);
}
static void rst_beyond(struct harness *h)
{
	arrive(h, SEG_RST, edge(h), 0, 0);
}
static void syn_exact(struct harness *h)
{
	arrive(h, SEG_SYN, 0, 0, 0);
}
static void syn_in_window(struct harness *h)
{
	arrive(h, SEG_SYN, 5, 0, 0);
}
static void syn_outside(struct harness *h)
{
	arrive(h, SEG_SYN, -100000, 0, 0);
}
static void syn_ack_outside(struct harness *h)
{
	arrive(h, SEG_SYN | SEG_ACK, -100000, neutral(h), 0);
}
static void text_without_ack(struct harness *h)
{
	arrive(h, 0, 0, 0, 10);
}
static void ack_duplicate(struct harness *h)
{
	arrive(h, SEG_ACK, 0, una(h), 0);
}
static void ack_older(struct harness *h)
{
	arrive(h, SEG_ACK, 0, una(h) - 5, 0);
}
static void ack_too_old(struct harness *h)
{
	arrive(h, SEG_ACK, 0, una(h) - 70000, 10);
}
static void ack_future(struct harness *h)
{
	arrive(h, SEG_ACK, 0, h_snd_nxt(h) + 1, 10);
}
static void ack_all(struct harness *h)
{
	arrive(h, SEG_ACK, 0, h_snd_nxt(h), 0);
}
static void text(struct harness *h)
{
	arrive(h, SEG_ACK, 0, neutral(h), 10);
}
static void text_out_of_order(struct harness *h)
{
	arrive(h, SEG_ACK, 10, neutral(h), 10);
}
static void text_partly_old(struct harness *h)
{
	arrive(h, SEG_ACK, -5, neutral(h), 10);
}
static void text_partly_beyond(struct harness *h)
{
	arrive(h, SEG_ACK, edge(h) - 5, neutral(h), 10);
}
static void text_urgent(struct harness *h)
{
	struct tcp_segment s = h_seg(h, SEG_ACK | SEG_URG, 0, neutral(h), 10);
	s.urgent = 10;
	h_input(h, &s);
}
static void fin(struct harness *h)
{
	arrive(h, SEG_FIN | SEG_ACK, 0, neutral(h), 0);
}
static void fin_with_text(struct harness *h)
{
	arrive(h, SEG_FIN | SEG_ACK, 0, neutral(h), 10);
}
static void fin_that_acks_all(struct harness *h)
{
	arrive(h, SEG_FIN | SEG_ACK, 0, h_snd_nxt(h), 0);
}
static void fin_out_of_order(struct harness *h)
{
	arrive(h, SEG_FIN | SEG_ACK, 10, neutral(h), 0);
}
static void fin_again(struct harness *h)
{
	arrive(h, SEG_FIN | SEG_ACK, -1, neutral(h), 0);
}
static void fin_without_ack(struct harness *h)
{
	arrive(h, SEG_FIN, 0, 0, 0);
}

struct row {
	const char *name;
	void (*event)(struct harness *h);
	uint32_t took; /* by which RCV.NXT moves where text is still taken: SYN-RECEIVED to FIN-WAIT-2 */
	struct cell cells[COLUMNS];
};

#define ALL(reply) {reply, SAME}, {reply, SAME}, {reply, SAME}, {reply, SAME}, {reply, SAME}, {reply, SAME}, {reply, SAME}, {reply, SAME}

static const struct row rows[] = {
	/* first step: sequence number (MUST-1: the window is unsigned) */
	{"old text", old_text, 0, {ALL(ACK)}},
	{"a bare ACK before the window", old_bare_ack, 0, {ALL(ACK)}},
	{"text beyond the window", beyond_window, 0, {ALL(ACK)}},
	{"text half the sequence space away", far_away, 0, {ALL(ACK)}},
	/* second step: RST, RFC 5961 §3; in TIME-WAIT as Linux (tcp_rfc1337) */
	{"RST, exact", rst_exact, 0,
	 {{NONE, CL}, {NONE, CL}, {NONE, CL}, {NONE, CL}, {NONE, CL}, {NONE, CL}, {NONE, CL}, {NONE, CL}}},
	{"RST|ACK, exact", rst_exact_with_ack, 0,
	 {{NONE, CL}, {NONE, CL}, {NONE, CL}, {NONE, CL}, {NONE, CL}, {NONE, CL}, {NONE, CL}, {NONE, CL}}},
	{"RST in the window", rst_in_window, 0, {ALL(ACK)}},
	{"RST at the end of the window", rst_last_in_window, 0, {ALL(ACK)}},
	{"RST before the window", rst_before, 0, {ALL(NONE)}},
	{"RST beyond the window", rst_beyond, 0, {ALL(NONE)}},
	/* fourth step: SYN, RFC 5961 §4. SYN-RECEIVED from a passive OPEN: back to LISTEN */
	{"SYN at RCV.NXT", syn_exact, 0,
	 {{RSTACK, CL}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}}},
	{"SYN in the window", syn_in_window, 0,
	 {{RSTACK, CL}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}}},
	{"SYN outside the window", syn_outside, 0, {ALL(ACK)}},
	{"SYN|ACK outside the window", syn_ack_outside, 0, {ALL(ACK)}},
	/* fifth step: ACK */
	{"text without ACK", text_without_ack, 0, {ALL(NONE)}},
	{"FIN without ACK", fin_without_ack, 0, {ALL(NONE)}},
	{"a duplicate ACK", ack_duplicate, 0,
	 {{RST, SAME}, {NONE, SAME}, {NONE, SAME}, {NONE, SAME}, {NONE, SAME}, {NONE, SAME}, {NONE, SAME}, {NONE, SAME}}},
	{"an older ACK", ack_older, 0,
	 {{RST, SAME}, {NONE, SAME}, {NONE, SAME}, {NONE, SAME}, {NONE, SAME}, {NONE, SAME}, {NONE, SAME}, {NONE, SAME}}},
	{"text with an ACK older than the largest window (RFC 5961 §5)", ack_too_old, 0,
	 {{RST, SAME}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}}},
	{"text with an ACK of what was not sent", ack_future, 0,
	 {{RST, SAME}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}}},
	{"an ACK of everything", ack_all, 0,
	 {{NONE, ES}, {NONE, SAME}, {NONE, F2}, {NONE, SAME}, {NONE, SAME}, {NONE, TW}, {NONE, CL}, {NONE, SAME}}},
	/* sixth and seventh step: URG and text */
	{"text", text, 10,
	 {{DACK, ES}, {DACK, SAME}, {DACK, SAME}, {DACK, SAME}, {MAY, SAME}, {MAY, SAME}, {MAY, SAME}, {MAY, SAME}}},
	{"urgent text", text_urgent, 10,
	 {{DACK, ES}, {DACK, SAME}, {DACK, SAME}, {DACK, SAME}, {MAY, SAME}, {MAY, SAME}, {MAY, SAME}, {MAY, SAME}}},
	{"text out of order", text_out_of_order, 0,
	 {{ACK, ES}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}, {MAY, SAME}, {MAY, SAME}, {MAY, SAME}, {MAY, SAME}}},
	{"text, partly old", text_partly_old, 5,
	 {{DACK, ES}, {DACK, SAME}, {DACK, SAME}, {DACK, SAME}, {MAY, SAME}, {MAY, SAME}, {MAY, SAME}, {MAY, SAME}}},
	{"text, partly beyond the window", text_partly_beyond, 0,
	 {{ACK, ES}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}, {MAY, SAME}, {MAY, SAME}, {MAY, SAME}, {MAY, SAME}}},
	/* eighth step: FIN */
	{"FIN", fin, 1, {{ACK, CW}, {ACK, CW}, {ACK, CG}, {ACK, TW}, {MAY, SAME}, {MAY, SAME}, {MAY, SAME}, {MAY, SAME}}},
	{"FIN with text", fin_with_text, 11,
	 {{DACK, CW}, {DACK, CW}, {ACK, CG}, {ACK, TW}, {MAY, SAME}, {MAY, SAME}, {MAY, SAME}, {MAY, SAME}}},
	{"FIN that acknowledges everything", fin_that_acks_all, 1,
	 {{ACK, CW}, {ACK, CW}, {ACK, TW}, {ACK, TW}, {MAY, SAME}, {MAY, TW}, {MAY, CL}, {MAY, SAME}}},
	{"FIN out of order", fin_out_of_order, 0,
	 {{ACK, ES}, {ACK, SAME}, {ACK, SAME}, {ACK, SAME}, {MAY, SAME}, {MAY, SAME}, {MAY, SAME}, {MAY, SAME}}},
	{"FIN again", fin_again, 0, {ALL(ACK)}},
};
#define ROWS (int)(sizeof rows / sizeof *rows)

static void check_ack(struct harness *h, struct h_out *o, const char *what)
{
	struct tcp_status st = h_status(h);
	ck_assert_msg(o, "%s in %s: no ACK", what, tcp_state_name(tcp_state(&h->c)));
	ck_assert_msg((o->seg.flags & ~SEG_PSH) == SEG_ACK && o->seg.payload_len == 0, "%s: flags %02x len %u", what,
		      o->seg.flags, o->seg.payload_len);
	ck_assert_uint_eq(o->seg.seq, st.snd_nxt);
	ck_assert_uint_eq(o->seg.ack, st.rcv_nxt);
	ck_assert_uint_eq(!!(o->seg.has & SEG_HAS_TIMESTAMPS), !!(h->features & H_TS));
	ck_assert_uint_eq(o->seg.has & ~SEG_HAS_TIMESTAMPS, 0); /* MUST-65: no MSS here */
}

static void check_reply(struct harness *h, enum reply reply, const char *what)
{
	struct h_out *o;
	switch (reply) {
	case NONE:
		break;
	case DACK:
		if (h->next_out == h->n_out) /* MUST-40, and before any retransmission */
			h_advance(h, h->stack.config.delack_us);
		/* fall through */
	case ACK:
		check_ack(h, h_take(h), what);
		break;
	case MAY:
		if ((o = h_take(h)))
			check_ack(h, o, what);
		break;
	case RST:
		o = h_take(h);
		ck_assert_msg(o && o->seg.flags == SEG_RST, "%s: no RST", what);
		break;
	case RSTACK: /* <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>, as Linux */
		o = h_take(h);
		ck_assert_msg(o && o->seg.flags == (SEG_RST | SEG_ACK), "%s: no RST", what);
		break;
	case SYNACK:
		h_expect(h, SEG_SYN | SEG_ACK, 0, 1, 0);
		break;
	}
	h_silence(h);
}

static bool takes_text(enum tcp_state state)
{
	return state == ES || state == F1 || state == F2 || state == SR;
}

START_TEST(segment_arrives)
{
	const struct row *row = &rows[_i / (2 * COLUMNS)];
	enum tcp_state state = columns[_i / 2 % COLUMNS];
	struct cell want = row->cells[_i / 2 % COLUMNS];
	struct harness *h = h_new(_i & 1 ? H_ALL : 0);
	h_enter(h, state);
	uint32_t before = h_rcv_nxt(h), seg_ack = 0;
	row->event(h);
	if (want.reply == RST) { /* its number is that of the segment's ACK: in SYN-RECEIVED only */
		seg_ack = row->event == ack_future ? 2 : row->event == ack_duplicate ? 0 : row->event == ack_older ? -5u : -70000u;
		ck_assert_uint_eq(h->out[h->next_out].seg.seq, H_ISS + seg_ack);
	}
	enum tcp_state next = want.next == SAME ? state : want.next;
	ck_assert_msg(tcp_state(&h->c) == next, "%s in %s: now in %s", row->name, tcp_state_name(state),
		      tcp_state_name(tcp_state(&h->c)));
	if (next != TCPS_CLOSED)
		ck_assert_msg(h_rcv_nxt(h) == before + (takes_text(state) ? row->took : 0), "%s in %s: RCV.NXT moved by %u",
			      row->name, tcp_state_name(state), h_rcv_nxt(h) - before);
	check_reply(h, want.reply, row->name);
	if (next == TCPS_CLOSED) {
		ck_assert(h_events(h) & TCP_EV_CLOSED);
		ck_assert_int_eq(tcp_next_deadline(&h->c), TIME_NEVER);
	}
	h_free(h);
}
END_TEST

/* A connection that was reset tells its application why (MUST-12), and only once. */
START_TEST(MUST_12_reset_is_reported)
{
	static const struct {
		enum tcp_state state;
		int error;
	} cases[] = {{ES, ECONNRESET}, {F1, ECONNRESET}, {F2, ECONNRESET}, {CW, EPIPE}};
	struct harness *h = h_new(H_ALL);
	h_enter(h, cases[_i].state);
	rst_exact(h);
	ck_assert(h_events(h) & TCP_EV_ERROR);
	ck_assert_int_eq(tcp_error(&h->c), cases[_i].error);
	ck_assert_int_eq(tcp_take_error(&h->c), cases[_i].error);
	ck_assert_int_eq(tcp_take_error(&h->c), 0);
	h_free(h);
}
END_TEST

/* MUST-66: RST is processed with a zero window too; so is a valid ACK. */
START_TEST(MUST_66_zero_window)
{
	struct harness *h = h_new(_i & 1 ? H_ALL : 0);
	h->open.options.user_rcvbuf = true;
	h->open.options.rcvbuf_bytes = 4096;
	h_establish(h);
	while (h_status(h).rcv_wnd) { /* fill the window */
		uint32_t n = h_status(h).rcv_wnd < H_MSS ? h_status(h).rcv_wnd : H_MSS;
		h_peer(h, SEG_ACK, 1, n);
		h_advance(h, h->stack.config.delack_us);
	}
	h_drain(h);
	h_send(h, 100);
	h_expect(h, SEG_ACK, 1, h_rcv_nxt(h), 100);
	h_advance(h, H_RTT);
	uint32_t nxt = h_rcv_nxt(h);
	struct tcp_segment s = h_seg(h, SEG_ACK, 0, 101, 1); /* a probe whose ACK counts although its text is refused */
	h_input(h, &s);
	h_expect(h, SEG_ACK, 101, nxt, 0);
	h_silence(h);
	ck_assert_uint_eq(tcp_unacked_bytes(&h->c), 0);
	ck_assert_uint_eq(h_rcv_nxt(h), nxt);
	rst_exact(h);
	h_state(h, CL);
	h_free(h);
}
END_TEST

START_TEST(repeated_fin_restarts_2msl)
{
	struct harness *h = h_new(H_ALL);
	h_enter(h, TW);
	int64_t msl2 = h->stack.config.time_wait_us;
	h_advance(h, msl2 - USEC_PER_SEC);
	fin_again(h);
	h_expect(h, SEG_ACK, 2, 2, 0);
	h_advance(h, msl2 - 1);
	h_state(h, TW); /* MUST-13 */
	h_advance(h, 1);
	h_state(h, CL);
	h_free(h);
}
END_TEST

/* ---- SYN-RECEIVED ---- */

/* The peer did not get our SYN-ACK and repeats its SYN. */
START_TEST(syn_received_repeated_syn)
{
	struct harness *h = h_new(_i ? H_ALL : 0);
	h_enter(h, SR);
	h->peer_nxt = 0;
	struct tcp_segment syn = h_syn(h, SEG_SYN);
	h_input(h, &syn);
	h->peer_nxt = 1;
	h_expect(h, SEG_SYN | SEG_ACK, 0, 1, 0);
	h_silence(h);
	h_peer_ack(h, 1);
	h_state(h, ES);
	h_free(h);
}
END_TEST

START_TEST(syn_received_retransmits)
{
	struct harness *h = h_new(H_ALL);
	h_enter(h, SR);
	for (int64_t wait = USEC_PER_SEC; wait <= 16 * USEC_PER_SEC; wait *= 2) {
		ck_assert_int_eq(h_next(h), wait);
		h_expect(h, SEG_SYN | SEG_ACK, 0, 1, 0);
		h_silence(h);
	}
	h_next(h); /* synack_retries are used up: gone, and nobody is told */
	h_silence(h);
	h_state(h, CL);
	h_free(h);
}
END_TEST

/* MUST-10, MUST-11: from a simultaneous open SYN-RECEIVED is the active opener's: it does not go back to LISTEN. */
static struct harness *simultaneous_open(unsigned features)
{
	struct harness *h = h_new(features | H_ACTIVE);
	h_enter(h, TCPS_SYN_SENT);
	struct tcp_segment syn = h_syn(h, SEG_SYN);
	h_input(h, &syn);
	h->peer_nxt = 1;
	h_expect(h, SEG_SYN | SEG_ACK, 0, 1, 0);
	h_silence(h);
	h_state(h, SR);
	return h;
}

START_TEST(MUST_10_simultaneous_open)
{
	struct harness *h = simultaneous_open(_i & 1 ? H_ALL : 0);
	if (_i & 2) { /* the peer's SYN-ACK: its SYN again, and our SYN acknowledged */
		h->peer_nxt = 0;
		struct tcp_segment s = h_syn(h, SEG_SYN | SEG_ACK);
		h_input(h, &s);
		h->peer_nxt = 1;
		for (struct h_out *o; (o = h_take(h));)
			check_ack(h, o, "the peer's SYN-ACK");
	} else {
		h_peer_ack(h, 1);
	}
	h_state(h, ES);
	ck_assert(h_events(h) & TCP_EV_CONNECTED);
	h_peer(h, SEG_ACK, 1, 10);
	ck_assert_int_eq(h_recv(h, 100, 0), 10);
	h_advance(h, USEC_PER_SEC);
	h_drain(h);
	h_free(h);
}
END_TEST

START_TEST(MUST_11_syn_received_remembers)
{
	struct harness *h = simultaneous_open(0);
	if (_i) {
		rst_exact(h); /* the active opener is told */
		h_state(h, CL);
		ck_assert_int_eq(tcp_error(&h->c), ECONNREFUSED);
	} else {
		syn_in_window(h); /* not back to LISTEN: a challenge */
		h_expect(h, SEG_ACK, 1, 1, 0);
		h_state(h, SR);
	}
	h_free(h);
}
END_TEST

/* ---- SYN-SENT, §3.10.7.3 ---- */

struct syn_sent_row {
	const char *name;
	uint8_t flags;
	uint32_t ack; /* relative to our ISS */
	uint32_t len;
	enum reply reply;
	enum tcp_state next;
	int error;
};
static const struct syn_sent_row syn_sent_rows[] = {
	{"ACK of nothing", SEG_ACK, 0, 0, RST, SAME, 0},
	{"ACK of what was not sent", SEG_ACK, 2, 0, RST, SAME, 0},
	{"SYN|ACK of nothing", SEG_SYN | SEG_ACK, 0, 0, RST, SAME, 0},
	{"SYN|ACK of what was not sent", SEG_SYN | SEG_ACK, 2, 0, RST, SAME, 0},
	{"SYN|ACK from long ago", SEG_SYN | SEG_ACK, 0x80000000u, 0, RST, SAME, 0},
	{"RST|ACK of nothing", SEG_RST | SEG_ACK, 0, 0, NONE, SAME, 0},
	{"RST|ACK of what was not sent", SEG_RST | SEG_ACK, 2, 0, NONE, SAME, 0},
	{"RST|ACK of our SYN", SEG_RST | SEG_ACK, 1, 0, NONE, CL, ECONNREFUSED},
	{"RST alone", SEG_RST, 0, 0, NONE, SAME, 0},
	{"RST|SYN without ACK", SEG_RST | SEG_SYN, 0, 0, NONE, SAME, 0},
	{"ACK of our SYN, no SYN", SEG_ACK, 1, 0, NONE, SAME, 0},
	{"text with a good ACK, no SYN", SEG_ACK, 1, 10, NONE, SAME, 0},
	{"FIN with a good ACK, no SYN", SEG_ACK | SEG_FIN, 1, 0, NONE, SAME, 0},
	{"text alone", 0, 0, 10, NONE, SAME, 0},
	{"FIN alone", SEG_FIN, 0, 0, NONE, SAME, 0},
	{"SYN|ACK", SEG_SYN | SEG_ACK, 1, 0, ACK, ES, 0},
	/* As Linux: without Fast Open both are left to their repetition. */
	{"SYN|ACK with text", SEG_SYN | SEG_ACK, 1, 10, ACK, ES, 0},
	{"SYN|ACK|FIN", SEG_SYN | SEG_ACK | SEG_FIN, 1, 0, ACK, ES, 0},
	{"SYN alone", SEG_SYN, 0, 0, SYNACK, SR, 0},
};
#define SYN_SENT_ROWS (int)(sizeof syn_sent_rows / sizeof *syn_sent_rows)

START_TEST(syn_sent)
{
	const struct syn_sent_row *row = &syn_sent_rows[_i / 2];
	struct harness *h = h_new((_i & 1 ? H_ALL : 0) | H_ACTIVE);
	h_enter(h, TCPS_SYN_SENT);
	struct tcp_segment s = row->flags & SEG_SYN ? h_syn(h, row->flags) : h_seg(h, row->flags, 0, 0, 0);
	if (row->flags & SEG_ACK)
		s.ack = H_ISS + row->ack;
	if (row->len) {
		h->peer_nxt += !!(row->flags & SEG_SYN); /* the pattern begins after the SYN */
		struct tcp_segment t = h_seg(h, 0, 0, 0, row->len);
		s.payload[0] = t.payload[0];
		s.payload_len = row->len;
	}
	h_input(h, &s);
	h_state(h, row->next == SAME ? TCPS_SYN_SENT : row->next);
	switch (row->reply) {
	case RST: /* <SEQ=SEG.ACK><CTL=RST> */
		h_expect(h, SEG_RST, row->ack, 0, 0);
		break;
	case ACK:
		h_expect(h, SEG_ACK, 1, 1, 0);
		break;
	case SYNACK:
		h_expect(h, SEG_SYN | SEG_ACK, 0, 1, 0);
		break;
	default:
		break;
	}
	h_silence(h);
	ck_assert_int_eq(tcp_error(&h->c), row->error);
	if (row->next == ES)
		ck_assert_int_eq(h_recv(h, 100, 0), -EAGAIN);
	h_free(h);
}
END_TEST

START_TEST(syn_sent_retransmits)
{
	struct harness *h = h_new(H_ALL | H_ACTIVE);
	h_enter(h, TCPS_SYN_SENT);
	static const int waits[] = {1, 1, 1, 1, 1, 2, 4, 8, 16, 32}; /* MUST-22, RFC 6298 (2.1), (5.5), and Linux's tcp_syn_linear_timeouts */
	for (int i = 0; i < 10; i++) {
		ck_assert_int_eq(h_next(h), waits[i] * USEC_PER_SEC);
		h_expect(h, SEG_SYN, 0, 0, 0);
		h_silence(h);
	}
	h_next(h);
	h_silence(h);
	h_state(h, CL);
	ck_assert(h_events(h) & TCP_EV_ERROR);
	ck_assert_int_eq(tcp_error(&h->c), ETIMEDOUT);
	h_free(h);
}
END_TEST

/* Our RST ended the peer's old connection: the next SYN comes soon, once. */
START_TEST(syn_sent_again_after_old_ack)
{
	struct harness *h = h_new(H_ALL | H_ACTIVE);
	h_enter(h, TCPS_SYN_SENT);
	static const int64_t waits[] = {2 * USEC_PER_MSEC, USEC_PER_SEC};
	for (int i = 0; i < 2; i++) {
		struct tcp_segment s = h_seg(h, SEG_ACK, 0, 0, 0);
		s.ack = H_ISS + 7777;
		h_input(h, &s);
		h_expect(h, SEG_RST, 7777, 0, 0);
		ck_assert_int_eq(h_next(h), waits[i]);
		h_expect(h, SEG_SYN, 0, 0, 0);
		h_silence(h);
	}
	h_free(h);
}
END_TEST

/* ---- CLOSED and LISTEN, §3.10.7.1 and .2: no connection ---- */

START_TEST(no_connection)
{
	static uint8_t bytes[10];
	struct tcp_segment in = {.sport = 7, .dport = 8, .seq = 0xffffffff, .ack = 55, .payload = {{bytes, 10}}, .payload_len = 10};
	struct tcp_segment out;
	in.flags = SEG_RST;
	ck_assert(!tcp_reset_for(&in, &out));
	in.flags = SEG_RST | SEG_ACK;
	ck_assert(!tcp_reset_for(&in, &out));
	in.flags = SEG_ACK | SEG_PSH;
	ck_assert(tcp_reset_for(&in, &out)); /* <SEQ=SEG.ACK><CTL=RST> */
	ck_assert_uint_eq(out.flags, SEG_RST);
	ck_assert_uint_eq(out.seq, 55);
	ck_assert_uint_eq(out.sport, 8);
	ck_assert_uint_eq(out.dport, 7);
	ck_assert_uint_eq(out.payload_len, 0);
	ck_assert_uint_eq(out.has, 0);
	in.flags = SEG_SYN | SEG_FIN;
	ck_assert(tcp_reset_for(&in, &out)); /* <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>; SYN and FIN count */
	ck_assert_uint_eq(out.flags, SEG_RST | SEG_ACK);
	ck_assert_uint_eq(out.seq, 0);
	ck_assert_uint_eq(out.ack, 11);
}
END_TEST

static const uint8_t closed_flags[] = {SEG_ACK, SEG_SYN, SEG_RST, SEG_FIN | SEG_ACK};
START_TEST(closed_connection_is_silent)
{
	struct harness *h = h_new(0);
	h_enter(h, CL);
	arrive(h, closed_flags[_i], 0, 1, 0);
	h_silence(h);
	h_state(h, CL);
	ck_assert_int_eq(tcp_next_deadline(&h->c), TIME_NEVER);
	h_free(h);
}
END_TEST

START_TEST(open_needs_a_syn)
{
	static const uint8_t flags[] = {SEG_ACK, SEG_SYN | SEG_ACK, SEG_SYN | SEG_RST, 0};
	struct harness *h = h_new(0);
	struct tcp_segment s = h_syn(h, flags[_i]);
	ck_assert_int_eq(tcp_open_passive(&h->c, &h->stack, h->now, &h->open, &s), -EINVAL);
	h_free(h);
}
END_TEST

/* ---- the FIN is retransmitted, and the states end ---- */

START_TEST(fin_is_retransmitted)
{
	static const enum tcp_state states[] = {F1, CG, LA};
	struct harness *h = h_new(0);
	h_enter(h, states[_i]);
	uint32_t ack = h_rcv_nxt(h);
	for (int i = 0; i < 4; i++) {
		h_next(h);
		h_expect(h, SEG_FIN | SEG_ACK, 1, ack, 0);
		h_silence(h);
	}
	ack_all(h);
	h_state(h, states[_i] == F1 ? F2 : states[_i] == CG ? TW : CL);
	h_free(h);
}
END_TEST

START_TEST(fin_wait_2_waits_for_ever_unless_orphaned)
{
	struct harness *h = h_new(0);
	h_enter(h, F2);
	ck_assert_int_eq(tcp_next_deadline(&h->c), TIME_NEVER);
	h_close(h); /* now it is an orphan */
	ck_assert_int_ne(tcp_next_deadline(&h->c), TIME_NEVER);
	h_advance(h, h->stack.config.fin_timeout_us + 1);
	h_silence(h);
	h_state(h, CL);
	h_free(h);
}
END_TEST

START_TEST(MUST_13_time_wait)
{
	struct harness *h = h_new(0);
	h_enter(h, TW);
	h_advance(h, h->stack.config.time_wait_us - 1);
	h_state(h, TW);
	h_advance(h, 1);
	h_state(h, CL);
	h_silence(h);
	ck_assert(h_events(h) & TCP_EV_CLOSED);
	h_free(h);
}
END_TEST

START_TEST(time_wait_becomes_compact)
{
	struct harness *h = h_new(_i ? H_ALL : 0);
	struct tcp_tw tw;
	h_establish(h);
	h_shutdown(h);
	h_expect(h, SEG_FIN | SEG_ACK, 1, 1, 0);
	h_peer(h, SEG_FIN, 2, 0);
	h_expect(h, SEG_ACK, 2, 2, 0);
	ck_assert(h_events(h) & TCP_EV_TIME_WAIT);
	h_advance(h, 5 * USEC_PER_SEC);
	tcp_tw_enter(&tw, &h->c, h->now);
	ck_assert_uint_eq(tw.snd_nxt, H_ISS + 2);
	ck_assert_uint_eq(tw.rcv_nxt, H_PEER_ISS + 2);
	ck_assert_uint_eq(tw.rcv_wnd, h_status(h).rcv_wnd);
	ck_assert_uint_eq(tw.rcv_wscale, h_status(h).rcv_wscale);
	ck_assert_int_eq(tw.timestamps, _i);
	if (_i) {
		ck_assert_uint_eq(tw.ts_recent, (uint32_t)(H_PEER_TS + H_RTT / 1000));
		ck_assert_uint_eq(tw.ts_offset, h->open.ts_offset);
		ck_assert_int_eq(tw.ts_recent_age_us, H_START + H_RTT);
	}
	/* 2 MSL count from the peer's FIN, not from when the entry was made */
	ck_assert_int_eq(tw.expires_us, H_START + H_RTT + h->stack.config.time_wait_us);
	ck_assert_uint_eq(h->stack.counters[TCPC_TWEntered], 1);
	h_free(h);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("states");
	TCase *tc = tcase_create("segment arrives");
	tcase_add_loop_test(tc, segment_arrives, 0, ROWS * COLUMNS * 2);
	tcase_add_loop_test(tc, MUST_12_reset_is_reported, 0, 4);
	tcase_add_loop_test(tc, MUST_66_zero_window, 0, 2);
	tcase_add_test(tc, repeated_fin_restarts_2msl);
	tcase_add_loop_test(tc, syn_received_repeated_syn, 0, 2);
	tcase_add_test(tc, syn_received_retransmits);
	tcase_add_loop_test(tc, MUST_10_simultaneous_open, 0, 4);
	tcase_add_loop_test(tc, MUST_11_syn_received_remembers, 0, 2);
	tcase_add_loop_test(tc, syn_sent, 0, SYN_SENT_ROWS * 2);
	tcase_add_test(tc, syn_sent_retransmits);
	tcase_add_test(tc, syn_sent_again_after_old_ack);
	tcase_add_test(tc, no_connection);
	tcase_add_loop_test(tc, closed_connection_is_silent, 0, 4);
	tcase_add_loop_test(tc, open_needs_a_syn, 0, 4);
	suite_add_tcase(s, tc);
	tc = tcase_create("timeouts");
	tcase_add_loop_test(tc, fin_is_retransmitted, 0, 3);
	tcase_add_test(tc, fin_wait_2_waits_for_ever_unless_orphaned);
	tcase_add_test(tc, MUST_13_time_wait);
	tcase_add_loop_test(tc, time_wait_becomes_compact, 0, 2);
	suite_add_tcase(s, tc);
	return h_main(s);
}
