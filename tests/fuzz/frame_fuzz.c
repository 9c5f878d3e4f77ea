/*
 * Fuzz target for the way of a frame: bytes → struct link_rx → ip_input_parse → the TCP core, on a connection in
 * a state that the input chooses.
 *
 * The input is a little program: two bytes of set-up, then steps (enum step), each with its arguments; what is missing
 * at its end reads as 0. Some steps give the parser raw bytes, others make a well-formed segment whose numbers are near
 * the connection's own, so that the fuzzer does not need to guess 32-bit numbers. Time is virtual.
 *
 * Beyond what the sanitizers and the core's own asserts see, it asserts that
 *  - a due deadline makes progress, and every segment sent can be built and parsed,
 *  - bytes sent are those that the application wrote, and bytes read are those that the peer sent (each byte is a
 *    function
 *    of its place in the stream), however segments overlap,
 *  - all memory is back at the end.
 */
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "fuzz.h"
#include "ip/ip.h"
#include "tcp/snapshot.h"
#include "tcp/syn_cookie.h"
#include "tcp/tcp.h"
#include "wire/checksum.h"
#include "wire/eth.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"

#define STEPS_MAX  200   /* keeps one input under some ms with sanitizers */
#define TURNS_MAX  100   /* ticks at one instant before we call it no progress */
#define FRAME_MAX  66000
#define START_US   INT64_C(1000000000)

#define check(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			fuzz_fail(__FILE__, __LINE__, #cond);                                      \
	} while (0)

enum step { STEP_RAW, STEP_SEGMENT, STEP_SEND, STEP_RECV, STEP_WAIT, STEP_DEADLINE, STEP_CLOSING, STEP_OTHER, STEP_COUNT };

/* First byte of the set-up: state and family; second: the connection's kind. */
#define SETUP_V6       0x10
#define SETUP_PASSIVE  0x20
#define SETUP_NO_TS    0x40
#define SETUP_PLAIN    0x80 /* neither SACK nor window scale */
/*
 * As states, of Fast Open (RFC 7413): SYN-RECEIVED, passive by a SYN with text that was taken, active after one of
 * ours; SYN-SENT with text in the SYN.
 */
#define SETUP_FASTOPEN 14
#define SETUP_FASTOPEN_SENT 13
#define SETUP_SMALL    0x01 /* buffers of 4 KiB */
#define SETUP_GSO      0x02
#define SETUP_NODELAY  0x04
#define SETUP_WRAP     0x08 /* sequence numbers about to wrap */
#define SETUP_ETH      0x10
#define SETUP_HOLD     0x20 /* a close policy that holds */
#define SETUP_KEEP     0x40
#define SETUP_TIMEOUT  0x80

struct world {
	struct tcp_emit emit; /* first: the callback finds us by it */
	struct tcp_memory memory;
	size_t in_use;
	unsigned fail_allocs; /* the next ones fail */

	struct tcp_stack stack;
	struct tcp_conn conn;
	struct tcp_tw tw;
	struct close_policy policy;
	bool in_tw;
	int64_t now;
	uint8_t setup_a, setup_b;

	struct flow_key key;
	uint32_t iss, irs;      /* ours, the peer's */
	uint32_t peer_ts, our_ts;
	uint64_t written, read; /* bytes of the application */
	bool peer_lies;         /* payload from raw frames or urgent data: what is read proves nothing */

	const uint8_t *in;
	size_t left;
};

/* ---- the input as a stream ---- */

static uint8_t take8(struct world *w)
{
	if (!w->left)
		return 0;
	w->left--;
	return *w->in++;
}

static uint16_t take16(struct world *w)
{
	uint16_t high = take8(w);
	return high << 8 | take8(w);
}

static uint32_t take32(struct world *w)
{
	uint32_t high = take16(w);
	return high << 16 | take16(w);
}

/* ---- what the connection is given ---- */

static void *world_alloc(struct tcp_memory *m, size_t size)
{
	struct world *w = container_of(m, struct world, memory);
	check(size && (size & (size - 1)) == 0);
	if (w->fail_allocs) {
		w->fail_allocs--;
		return NULL;
	}
	w->in_use += size;
	return malloc(size);
}

static void world_free(struct tcp_memory *m, void *p, size_t size)
{
	struct world *w = container_of(m, struct world, memory);
	check(w->in_use >= size);
	w->in_use -= size;
	free(p);
}

static void hold(struct close_policy *policy, int64_t now, const struct close_facts *facts,
		 struct close_verdict *verdict)
{
	*verdict = (struct close_verdict){CLOSE_HOLD, CLOSE_REASON_HELD, 50 * USEC_PER_MSEC};
}

static const struct close_policy_ops hold_ops = {.name = "fuzz", .decide = hold};

/* The loops over payload would be most of the time, instrumented. */
#ifdef __clang__
#define UNINSTRUMENTED __attribute__((no_sanitize("address", "undefined", "coverage")))
#else
#define UNINSTRUMENTED
#endif

/* The byte at a place of either stream. */
static inline UNINSTRUMENTED uint8_t stream_byte(uint64_t at, bool ours)
{
	return at * 7 + (at >> 8) * 31 + (ours ? 0x55 : 0);
}

static UNINSTRUMENTED void fill(uint8_t *p, size_t n, uint64_t at, bool ours)
{
	for (size_t i = 0; i < n; i++)
		p[i] = stream_byte(at + i, ours);
}

static UNINSTRUMENTED bool holds_stream(const uint8_t *p, size_t n, uint64_t at, bool ours)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != stream_byte(at + i, ours))
			return false;
	return true;
}

static void check_payload(struct world *w, const struct tcp_segment *seg)
{
	/* In 32 bits, like the sequence numbers; no input writes 4 GiB. */
	uint32_t at = seg->seq - w->iss - 1;
	if (seg->flags & SEG_SYN)
		at = 0;
	for (int i = 0; i < 2; i++) {
		size_t n = seg->payload[i].iov_len;
		check(at + n <= w->written);
		check(holds_stream(seg->payload[i].iov_base, n, at, true));
		at += n;
	}
}

static void on_segment(struct tcp_emit *emit, struct tcp_conn *conn, const struct tcp_segment *seg,
		       uint16_t gso_size)
{
	struct world *w = (struct world *)emit;
	struct tcp_segment back;
	uint8_t hdr[TCP_HDR_MAX];
	size_t len = tcp_build(seg, hdr);

	check(conn == &w->conn);
	check(tcp_parse(hdr, len, &back) == 0 && back.seq == seg->seq && back.flags == seg->flags);
	if (seg->payload_len == 0)
		return;
	check(seg->payload_len == seg->payload[0].iov_len + seg->payload[1].iov_len);
	check(gso_size ? seg->payload_len > gso_size : seg->payload_len + len <= 1500 - 40);
	check_payload(w, seg);
	if (seg->has & SEG_HAS_TIMESTAMPS)
		w->our_ts = seg->ts_val;
}

/* Output and what is due, until nothing is. */
static void turn(struct world *w)
{
	uint32_t events;
	for (int i = 0;; i++) {
		tcp_output(&w->conn, w->now, &w->emit);
		if (tcp_next_deadline(&w->conn) > w->now)
			break;
		check(i < TURNS_MAX);
		tcp_tick(&w->conn, w->now);
	}
	events = tcp_take_events(&w->conn);
	if (events & TCP_EV_TIME_WAIT) {
		tcp_tw_enter(&w->tw, &w->conn, w->now);
		w->in_tw = true;
	}
}

static void to_tw(struct world *w, const struct tcp_segment *seg)
{
	struct tcp_segment reply;
	uint8_t hdr[TCP_HDR_MAX];
	uint32_t iss_min;
	enum tw_verdict verdict =
		tcp_tw_input(&w->tw, &w->stack, w->now, seg, &reply, &iss_min);
	if (verdict == TW_REPLY)
		tcp_build(&reply, hdr);
	if (verdict == TW_GONE || verdict == TW_REUSE)
		w->in_tw = false;
	tcp_tw_may_reuse(&w->tw, w->now, TCP_TW_REUSE_US, &iss_min);
}

/*
 * The segment as a SYN whose answer is a cookie, then its bytes as what acknowledges the cookie: it opens a connection,
 * whatever else it says.
 */
static void to_cookie_listener(struct world *w, const struct ip_input *in)
{
	struct syn_cookies cookies;
	struct tcp_open open = {.key = in->key, .mss_advertised = 1460, .mss_path = 1460, .cc = &tcp_cc_cubic,
				.ts_offset = tcp_ts_offset(&w->stack, &in->key)};
	struct tcp_segment syn = in->seg, ack = in->seg, synack, again;
	struct tcp_conn c;
	uint8_t hdr[TCP_HDR_MAX];
	uint32_t iss;
	syn_cookies_init(&cookies, w->stack.ts_secret);
	syn_cookie_check(&cookies, &w->stack, w->now, &in->key, &in->seg, &again, &iss);
	tcp_options_default(&open.options);
	syn.flags = SEG_SYN;
	check(syn_cookie_answer(&cookies, &w->stack, w->now, &open, &syn, &synack) == 0);
	tcp_build(&synack, hdr);
	ack.flags = (ack.flags & ~(SEG_SYN | SEG_RST)) | SEG_ACK;
	ack.seq = syn.seq + 1;
	ack.ack = synack.seq + 1;
	check(syn_cookie_check(&cookies, &w->stack, w->now, &in->key, &ack, &again, &iss));
	check(iss == synack.seq && again.seq == syn.seq && again.mss >= 536);
	open.iss = iss;
	check(tcp_open_cookie(&c, &w->stack, w->now, &open, &again) == 0);
	tcp_input(&c, w->now, &ack);
	check(tcp_state(&c) >= TCPS_ESTABLISHED);
	tcp_fini(&c);
}

static void receive(struct world *w, struct link_rx *rx, bool has_eth)
{
	struct ip_input in;
	struct tcp_segment rst;
	uint8_t *copy = malloc(rx->len ? rx->len : 1), hdr[TCP_HDR_MAX]; /* exact: ASan sees reads past it */

	memcpy(copy, rx->data, rx->len);
	rx->data = copy;
	ip_input_parse(rx, has_eth, &in);
	check((unsigned)in.fate < IP_FATE_COUNT);
	if (in.kind == IP_INPUT_TCP) {
		const uint8_t *p = in.seg.payload[0].iov_base;
		check(in.seg.payload_len == in.seg.payload[0].iov_len);
		check(!in.seg.payload_len ||
		      (p >= copy && p + in.seg.payload_len <= copy + rx->len));
		if (in.seg.flags & SEG_URG)
			w->peer_lies = true;
		tcp_input(&w->conn, w->now, &in.seg);
		if (w->in_tw)
			to_tw(w, &in.seg);
		if (tcp_reset_for(&in.seg, &rst))
			tcp_build(&rst, hdr);
		to_cookie_listener(w, &in);
	} else if (in.kind == IP_INPUT_ICMP) {
		if (in.icmp.frag_needed)
			tcp_on_frag_needed(&w->conn, w->now, in.icmp.mtu > 1500 ? 1460 : in.icmp.mtu, in.icmp.seq);
		else
			tcp_on_unreachable(&w->conn, w->now, in.icmp.err, in.icmp.hard, in.icmp.seq);
	}
	free(copy);
	turn(w);
}

/* ---- steps ---- */

/* Makes the checksums of IPv4's header and of ICMP right: a fuzzer does not guess them. */
static void mend_checksums(uint8_t *ip, size_t len)
{
	size_t header = IPV6_HDR_BYTES;
	uint64_t sum = 0;
	bool icmp;

	if (len >= IPV4_HDR_MIN && ip[0] >> 4 == 4) {
		header = (ip[0] & 0xf) * 4;
		if (header < IPV4_HDR_MIN || header > len)
			return;
		store_be16(ip + 10, 0);
		checksum_store(ip + 10, checksum_finish(checksum_add(0, ip, header)));
		icmp = ip[9] == IP_PROTO_ICMP;
		len = load_be16(ip + 2) < len ? load_be16(ip + 2) : len;
	} else {
		icmp = len >= IPV6_HDR_BYTES && ip[6] == IP_PROTO_ICMPV6;
		if (icmp) {
			size_t upper = load_be16(ip + 4);
			len = upper < len - header ? header + upper : len;
			sum = checksum_pseudo_v6(ip + 8, ip + 24, IP_PROTO_ICMPV6, len - header);
		}
	}
	if (!icmp || len < header + 4)
		return;
	store_be16(ip + header + 2, 0);
	checksum_store(ip + header + 2, checksum_finish(checksum_add(sum, ip + header, len - header)));
}

static void step_raw(struct world *w)
{
	static uint8_t bytes[UINT16_MAX];
	uint8_t kind = take8(w);
	size_t n = take16(w);
	struct link_rx rx = {.data = bytes, .csum_ok = kind & 1, .vlan = (kind & 0xe0) == 0xe0};
	uint8_t more = kind & 2 ? take8(w) : 0;
	size_t at = kind & 8 ? 0 : ETH_HDR_BYTES;

	rx.len = n < w->left ? n : w->left;
	rx.wire_len = rx.len + more;
	rx.gso_size = kind & 4 ? 1448 : 0;
	memcpy(bytes, w->in, rx.len);
	if (kind & 0x10 && rx.len > at)
		mend_checksums(bytes + at, rx.len - at);
	w->in += rx.len;
	w->left -= rx.len;
	w->peer_lies = true;
	receive(w, &rx, !(kind & 8));
}

/* Ethernet, IP and TCP around a segment from the peer, through the parser. */
static void deliver(struct world *w, struct tcp_segment *seg)
{
	static uint8_t frame[FRAME_MAX];
	bool v6 = w->setup_a & SETUP_V6, eth = w->setup_b & SETUP_ETH;
	uint8_t *ip = frame + (eth ? ETH_HDR_BYTES : 0);
	uint8_t *tcp = ip + (v6 ? IPV6_HDR_BYTES : IPV4_HDR_MIN);
	uint32_t tcp_len;

	seg->sport = w->key.rport;
	seg->dport = w->key.lport;
	tcp_len = tcp_build(seg, tcp);
	if (seg->flags & SEG_SYN && tcp_state(&w->conn) == TCPS_SYN_SENT)
		w->irs = seg->seq; /* whatever the input chose begins the peer's stream */
	if (seg->payload_len) /* the first byte behind a SYN is at 0, too */
		fill(tcp + tcp_len, seg->payload_len,
		     (uint32_t)(seg->seq - w->irs - !(seg->flags & SEG_SYN)), false);
	tcp_len += seg->payload_len;
	if (eth)
		eth_build((const uint8_t *)"\2\0\0\0\0\1", (const uint8_t *)"\2\0\0\0\0\2",
			  v6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4, frame);
	if (v6) {
		struct ipv6_header h = {.src = w->key.raddr.b, .dst = w->key.laddr.b, .hop_limit = 64,
					.next_header = IP_PROTO_TCP, .payload_len = tcp_len};
		ipv6_build(&h, ip);
	} else {
		struct ipv4_header h = {.src = w->key.raddr.b + 12, .dst = w->key.laddr.b + 12, .ttl = 64,
					.protocol = IP_PROTO_TCP, .total_len = IPV4_HDR_MIN + tcp_len};
		ipv4_build(&h, ip);
	}
	struct link_rx rx = {.data = frame, .len = tcp + tcp_len - frame, .csum_ok = true,
			     .gso_size = seg->payload_len > 1448 ? 1448 : 0};
	rx.wire_len = rx.len;
	receive(w, &rx, eth);
}

static uint32_t near(struct world *w, uint8_t which, uint32_t a, uint32_t b, uint32_t c)
{
	int8_t delta = take8(w);
	switch (which & 3) {
	case 0:
		return a + delta;
	case 1:
		return b + delta;
	case 2:
		return c + delta;
	default:
		return a + delta * 1448;
	}
}

static void step_segment(struct world *w)
{
	struct tcp_status st;
	uint8_t flags = take8(w), which = take8(w), opts = take8(w);
	struct tcp_segment seg = {.flags = flags};

	tcp_get_status(&w->conn, &st);
	seg.seq = near(w, which, st.rcv_nxt, st.rcv_nxt + st.rcv_wnd, w->irs);
	seg.ack = near(w, which >> 2, st.snd_nxt, st.snd_una, w->iss);
	seg.window = which & 0x10 ? take16(w) : 0xffff;
	seg.payload_len = which & 0x20 ? take16(w) % 60000 : opts & 0x80 ? take8(w) : 0;
	if (which & 0x40)
		seg.seq = take32(w);
	if (which & 0x80)
		seg.ack = take32(w);
	if (!(opts & 1) && !(w->setup_a & SETUP_NO_TS)) {
		seg.has |= SEG_HAS_TIMESTAMPS;
		w->peer_ts += opts & 2 ? (int8_t)take8(w) : 1;
		seg.ts_val = w->peer_ts;
		seg.ts_ecr = w->our_ts - (opts & 4 ? take8(w) : 0);
	}
	if (opts & 8) {
		seg.has |= SEG_HAS_MSS | SEG_HAS_WSCALE | SEG_HAS_SACK_PERMITTED;
		seg.mss = take16(w);
		seg.wscale = take8(w);
	}
	for (seg.n_sack = opts >> 4 & 3; opts & 0x30 && seg.n_sack; seg.n_sack--) {
		struct sack_block *b = &seg.sack[seg.n_sack - 1];
		b->left = near(w, opts, st.snd_una, st.snd_nxt, w->iss);
		b->right = b->left + take16(w);
	}
	seg.n_sack = opts >> 4 & 3;
	if (opts & 0x40)
		seg.urgent = take16(w);
	deliver(w, &seg);
}

static void step_send(struct world *w)
{
	static uint8_t buf[65536];
	uint8_t kind = take8(w);
	size_t n = kind & 1 ? take16(w) : take8(w);
	struct iovec iov[2] = {{buf, n / 3}, {buf + n / 3, n - n / 3}};
	fill(buf, n, w->written, true);
	ssize_t r = tcp_send(&w->conn, w->now, iov, 2, kind & 2, kind & 4);
	check(r <= (ssize_t)n);
	if (r > 0)
		w->written += r;
	turn(w);
}

static void step_recv(struct world *w)
{
	static uint8_t buf[65536];
	uint8_t kind = take8(w);
	size_t n = kind & 1 ? take16(w) : take8(w);
	bool peek = kind & 2, discard = kind & 4;
	struct iovec iov[2] = {{buf, n / 2}, {buf + n / 2, n - n / 2}};
	uint32_t readable = tcp_readable_bytes(&w->conn);
	ssize_t r = tcp_recv(&w->conn, w->now, iov, 2, peek, discard);

	check(r <= (ssize_t)n && (r <= 0 || (uint32_t)r <= readable));
	if (r > 0 && !w->peer_lies && !discard)
		check(holds_stream(buf, r, w->read, false));
	if (r > 0 && !peek)
		w->read += r;
	turn(w);
}

static void step_wait(struct world *w)
{
	w->now += (int64_t)1 << take8(w) % 28; /* 1 µs to 134 s */
	turn(w);
}

static void step_deadline(struct world *w)
{
	int64_t at = tcp_next_deadline(&w->conn);
	if (at != TIME_NEVER && at > w->now)
		w->now = at;
	turn(w);
}

static void step_closing(struct world *w)
{
	uint8_t kind = take8(w);
	switch (kind & 3) {
	case 0:
	case 1:
		tcp_shutdown(&w->conn, w->now);
		break;
	case 2:
		tcp_close(&w->conn, w->now, kind & 4, kind & 8);
		break;
	case 3:
		tcp_abort(&w->conn, w->now);
		break;
	}
	turn(w);
}

static void set_options(struct world *w)
{
	struct tcp_options opt = *tcp_get_options(&w->conn);
	uint8_t bits = take8(w);
	opt.nodelay = bits & 1;
	opt.cork = bits & 2;
	opt.quickack = bits & 4;
	opt.keepalive = bits & 8;
	opt.user_rcvbuf = bits & 16;
	opt.rcvbuf_bytes = opt.user_rcvbuf ? (uint32_t)take16(w) << 2 : opt.rcvbuf_bytes;
	opt.user_sndbuf = bits & 32;
	opt.sndbuf_bytes = opt.user_sndbuf ? (uint32_t)take16(w) << 2 : opt.sndbuf_bytes;
	opt.window_clamp = bits & 64 ? take16(w) : 0;
	opt.user_timeout_us = bits & 128 ? take16(w) * USEC_PER_MSEC : 0;
	tcp_set_options(&w->conn, w->now, &opt);
}

static void step_other(struct world *w)
{
	struct tcp_snapshot snap;
	struct tcp_status st;
	uint8_t byte;
	tcp_get_status(&w->conn, &st);
	switch (take8(w) % 6) {
	case 0:
		set_options(w);
		break;
	case 1:
		tcp_on_frag_needed(&w->conn, w->now, take16(w), st.snd_una + take8(w));
		break;
	case 2:
		tcp_on_unreachable(&w->conn, w->now, 113, take8(w) & 1, st.snd_una + take8(w));
		break;
	case 3:
		if (tcp_snapshot(&w->conn, w->now, &snap) == 0)
			check(snap.snd_data_len == snap.snd_data.len);
		break;
	case 4:
		w->fail_allocs = take8(w) % 4;
		break;
	case 5:
		tcp_recv_urgent(&w->conn, &byte, false);
		tcp_at_mark(&w->conn);
		tcp_take_error(&w->conn);
		break;
	}
	turn(w);
}

/* ---- a connection in the chosen state, by the way that leads there ---- */

static struct tcp_segment from_peer(struct world *w, uint8_t flags, uint32_t seq, uint32_t ack)
{
	struct tcp_segment seg = {.flags = flags, .seq = seq, .ack = ack, .window = 0xffff};
	if (!(w->setup_a & SETUP_NO_TS)) {
		seg.has |= SEG_HAS_TIMESTAMPS;
		seg.ts_val = ++w->peer_ts;
		seg.ts_ecr = w->our_ts;
	}
	if (flags & SEG_SYN) {
		seg.has |= SEG_HAS_MSS;
		seg.mss = 1400;
		if (!(w->setup_a & SETUP_PLAIN)) {
			seg.has |= SEG_HAS_WSCALE | SEG_HAS_SACK_PERMITTED;
			seg.wscale = 7;
		}
	}
	return seg;
}

static void peer_says(struct world *w, uint8_t flags, uint32_t seq, uint32_t ack)
{
	struct tcp_segment seg = from_peer(w, flags, seq, ack);
	deliver(w, &seg);
}

static void open_connection(struct world *w)
{
	struct tcp_open open = {.key = w->key, .mss_advertised = 1400, .mss_path = 1400,
				.gso_max_bytes = w->setup_b & SETUP_GSO ? 64000 : 0,
				.cc = &tcp_cc_newreno, .iss = w->iss, .ts_offset = 12345};
	tcp_options_default(&open.options);
	open.options.nodelay = w->setup_b & SETUP_NODELAY;
	open.options.keepalive = w->setup_b & SETUP_KEEP;
	if (w->setup_b & SETUP_TIMEOUT)
		open.options.user_timeout_us = 3 * USEC_PER_SEC;
	if (w->setup_b & SETUP_SMALL) {
		open.options.user_rcvbuf = open.options.user_sndbuf = true;
		open.options.rcvbuf_bytes = open.options.sndbuf_bytes = 4096;
	}
	w->policy.ops = &hold_ops;
	if (w->setup_a & SETUP_PASSIVE) {
		static uint8_t text[300];
		struct tcp_segment syn = from_peer(w, SEG_SYN, w->irs, 0);
		open.fastopen = (w->setup_a & 15) == SETUP_FASTOPEN;
		if (open.fastopen) {
			fill(text, sizeof text, 0, false);
			syn.payload[0] = (struct iovec){text, sizeof text};
			syn.payload_len = sizeof text;
			open.cookie = (struct fastopen_cookie){.there = true, .len = 8};
		}
		open.policy = w->setup_b & SETUP_HOLD ? &w->policy : NULL;
		check(tcp_open_passive(&w->conn, &w->stack, w->now, &open, &syn) == 0);
	} else {
		static uint8_t text[900];
		struct iovec iov = {text, sizeof text};
		struct tcp_fastopen f = {.text = true, .cookie = {.there = true, .len = 8}, .mss_peer = w->setup_b & SETUP_SMALL ? 536 : 0};
		open.syn_waits = (w->setup_a & 15) == SETUP_FASTOPEN || (w->setup_a & 15) == SETUP_FASTOPEN_SENT;
		check(tcp_open_active(&w->conn, &w->stack, w->now, &open) == 0);
		fill(text, sizeof text, 0, true);
		if (open.syn_waits)
			w->written += tcp_fastopen_begin(&w->conn, &f, &iov, 1);
	}
	turn(w);
}

static void reach(struct world *w, enum tcp_state state)
{
	bool passive = w->setup_a & SETUP_PASSIVE;
	uint32_t snd = w->iss + 1, rcv = w->irs + 1;

	open_connection(w);
	if (state == TCPS_SYN_SENT || state == TCPS_LISTEN)
		return;
	if (state == TCPS_SYN_RECEIVED) {
		if (!passive) /* simultaneous open */
			peer_says(w, SEG_SYN, w->irs, 0);
		return;
	}
	peer_says(w, passive ? SEG_ACK : SEG_SYN | SEG_ACK, passive ? rcv : w->irs, snd);
	check(tcp_state(&w->conn) == TCPS_ESTABLISHED);
	if (state == TCPS_CLOSED)
		tcp_abort(&w->conn, w->now);
	if (state == TCPS_CLOSE_WAIT || state == TCPS_LAST_ACK)
		peer_says(w, SEG_FIN | SEG_ACK, rcv, snd);
	if (state != TCPS_CLOSED && state != TCPS_ESTABLISHED && state != TCPS_CLOSE_WAIT)
		tcp_shutdown(&w->conn, w->now);
	turn(w);
	if (state == TCPS_CLOSING)
		peer_says(w, SEG_FIN | SEG_ACK, rcv, snd);
	if (state == TCPS_FIN_WAIT_2 || state == TCPS_TIME_WAIT)
		peer_says(w, SEG_ACK, rcv, snd + 1);
	if (state == TCPS_TIME_WAIT)
		peer_says(w, SEG_FIN | SEG_ACK, rcv, snd + 1);
	if (!(passive && w->setup_b & SETUP_HOLD))
		check(tcp_state(&w->conn) == state);
}

static void world_init(struct world *w, const uint8_t *data, size_t size)
{
	static const uint8_t secret[32] = "the same secret at every run!!!";
	struct tcp_config config;

	memset(w, 0, sizeof *w);
	w->in = data;
	w->left = size;
	w->setup_a = take8(w);
	w->setup_b = take8(w);
	w->emit.segment = on_segment;
	w->memory = (struct tcp_memory){.alloc = world_alloc, .free = world_free};
	w->now = START_US;
	w->iss = w->setup_b & SETUP_WRAP ? 0xffffffe0 : 1000;
	w->irs = w->setup_b & SETUP_WRAP ? 0x7fffffe0 : 500000;
	w->peer_ts = w->setup_b & SETUP_WRAP ? 0xfffffff0 : 1;
	ip_addr_parse(w->setup_a & SETUP_V6 ? "fd09:1::1" : "10.9.1.1", &w->key.laddr);
	ip_addr_parse(w->setup_a & SETUP_V6 ? "fd09:2::2" : "10.9.2.2", &w->key.raddr);
	w->key.lport = 35092;
	w->key.rport = 80;
	tcp_config_default(&config);
	config.timestamps = !(w->setup_a & SETUP_NO_TS);
	config.sack = config.window_scaling = !(w->setup_a & SETUP_PLAIN);
	tcp_stack_init(&w->stack, &config, &w->memory, secret);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const steps[STEP_COUNT])(struct world *) = {
		[STEP_RAW] = step_raw,	       [STEP_SEGMENT] = step_segment,
		[STEP_SEND] = step_send,       [STEP_RECV] = step_recv,
		[STEP_WAIT] = step_wait,       [STEP_DEADLINE] = step_deadline,
		[STEP_CLOSING] = step_closing, [STEP_OTHER] = step_other,
	};
	static struct world w;

	world_init(&w, data, size);
	reach(&w, (w.setup_a & 15) % (TCPS_TIME_WAIT + 1));
	for (int i = 0; i < STEPS_MAX && w.left; i++)
		steps[take8(&w) % STEP_COUNT](&w);
	tcp_fini(&w.conn);
	check(w.in_use == 0);
	return 0;
}
