#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tcp/ts_clock.h"
#include "tests/suite.h"

uint8_t h_byte(uint32_t pos)
{
	return (uint8_t)((pos * UINT32_C(2654435761)) >> 24 ^ pos);
}

static uint32_t ours(uint32_t relative)
{
	return H_ISS + relative;
}

static uint32_t theirs(uint32_t relative)
{
	return H_PEER_ISS + relative;
}

struct harness *h_new(unsigned features)
{
	static const uint8_t secret[32] = {1, 2, 3};
	struct harness *h = calloc(1, sizeof *h);
	struct tcp_config config;
	h->features = features;
	h->passive = !(features & H_ACTIVE);
	h->now = H_START;
	h->peer_window = 65535;
	h->peer_mss = 1460;
	tcp_config_default(&config);
	config.timestamps = features & H_TS;
	config.sack = features & H_SACK;
	config.window_scaling = features & H_WSCALE;
	config.close_request = features & H_CR;
	test_memory_init(&h->memory);
	tcp_stack_init(&h->stack, &config, &h->memory.memory, secret);
	h->stack.random = 12345;
	uint8_t local[4] = {10, 0, 0, 1}, remote[4] = {10, 0, 0, 2};
	h->open = (struct tcp_open){
		.key = {ip_addr_from_v4(local), ip_addr_from_v4(remote), H_PORT, H_PEER},
		.mss_advertised = H_MSS + (features & H_TS ? 12 : 0),
		.mss_path = H_MSS + (features & H_TS ? 12 : 0),
		.cc = &tcp_cc_newreno,
		.iss = H_ISS,
		.ts_offset = UINT32_C(0xfffffff0) - tcp_ts_now(H_START, 0),
	};
	tcp_options_default(&h->open.options);
	return h;
}

void h_drain(struct harness *h)
{
	for (int i = 0; i < h->n_out; i++)
		free(h->out[i].bytes);
	h->n_out = h->next_out = 0;
}

void h_free(struct harness *h)
{
	h_silence(h);
	h_drain(h);
	if (h->live)
		tcp_fini(&h->c);
	h_require(h->memory.live_blocks == 0, "%llu bytes leaked", (unsigned long long)h->memory.live_bytes);
	free(h);
}

/* ---- our side ---- */

struct h_emit {
	struct tcp_emit emit;
	struct harness *h;
};

static void keep(struct tcp_emit *emit, struct tcp_conn *conn, const struct tcp_segment *seg, uint16_t gso_size)
{
	struct harness *h = ((struct h_emit *)emit)->h;
	h_require(conn == &h->c, "emit for another connection");
	h_require(seg->sport == H_PORT && seg->dport == H_PEER, "ports %u, %u", seg->sport, seg->dport);
	h_require(seg->payload[0].iov_len + seg->payload[1].iov_len == seg->payload_len, "payload_len %u",
		  seg->payload_len);
	h_require(h->n_out < H_OUT_MAX, "a flood of segments");
	struct h_out *o = &h->out[h->n_out++];
	*o = (struct h_out){.seg = *seg, .gso_size = gso_size, .at = h->now, .bytes = malloc(seg->payload_len + 1)};
	if (seg->payload[0].iov_len)
		memcpy(o->bytes, seg->payload[0].iov_base, seg->payload[0].iov_len);
	if (seg->payload[1].iov_len)
		memcpy(o->bytes + seg->payload[0].iov_len, seg->payload[1].iov_base, seg->payload[1].iov_len);
	o->seg.payload[0] = (struct iovec){o->bytes, seg->payload_len};
	o->seg.payload[1] = (struct iovec){NULL, 0};
	/* whatever is sent is the pattern at its place: window probes and retransmissions too */
	uint32_t first = seg->seq + !!(seg->flags & SEG_SYN) - ours(1);
	for (uint32_t i = 0; i < seg->payload_len; i++)
		h_require(o->bytes[i] == h_byte(first + i), "byte %u is wrong", first + i);
}

void h_output(struct harness *h)
{
	struct h_emit e = {{.segment = keep}, h};
	tcp_output(&h->c, h->now, &e.emit);
	h->events |= tcp_take_events(&h->c);
	if (tcp_next_deadline(&h->c) <= h->now) { /* one more turn may be due, not an endless row of them */
		tcp_tick(&h->c, h->now);
		tcp_output(&h->c, h->now, &e.emit);
		h->events |= tcp_take_events(&h->c);
	}
	h_require(tcp_next_deadline(&h->c) > h->now, "a deadline is due after the turn, in %s",
		      tcp_state_name(tcp_state(&h->c)));
}

int64_t h_next(struct harness *h)
{
	int64_t at = tcp_next_deadline(&h->c), before = h->now;
	h_require(at != TIME_NEVER, "no deadline");
	h->now = at;
	tcp_tick(&h->c, h->now);
	h_output(h);
	return at - before;
}

void h_timeout(struct harness *h)
{
	uint32_t before = h_status(h).rto_events;
	while (h_status(h).rto_events == before)
		h_next(h);
}

void h_advance(struct harness *h, int64_t us)
{
	int64_t until = h->now + us;
	while (tcp_next_deadline(&h->c) <= until)
		h_next(h);
	h->now = until;
}

ssize_t h_send(struct harness *h, uint32_t len)
{
	uint8_t *bytes = malloc(len + 1);
	for (uint32_t i = 0; i < len; i++)
		bytes[i] = h_byte(h->sent + i);
	struct iovec iov = {bytes, len};
	ssize_t n = tcp_send(&h->c, h->now, &iov, 1, false, false);
	free(bytes);
	if (n > 0)
		h->sent += (uint32_t)n;
	h_output(h);
	return n;
}

ssize_t h_recv(struct harness *h, uint32_t len, uint32_t pos)
{
	uint8_t *bytes = malloc(len + 1);
	struct iovec iov = {bytes, len};
	ssize_t n = tcp_recv(&h->c, h->now, &iov, 1, false, false);
	for (ssize_t i = 0; i < n; i++)
		h_require(bytes[i] == h_byte(pos + (uint32_t)i), "byte %u of the stream is wrong",
			      pos + (uint32_t)i);
	free(bytes);
	h_output(h);
	return n;
}

void h_shutdown(struct harness *h)
{
	ck_assert_int_eq(tcp_shutdown(&h->c, h->now), 0);
	h_output(h);
}

void h_close(struct harness *h)
{
	tcp_close(&h->c, h->now, false, false);
	h_output(h);
}

uint32_t h_events(struct harness *h)
{
	uint32_t e = h->events;
	h->events = 0;
	return e;
}

struct tcp_status h_status(struct harness *h)
{
	struct tcp_status st;
	tcp_get_status(&h->c, &st);
	return st;
}

uint32_t h_snd_nxt(struct harness *h)
{
	return h_status(h).snd_nxt - H_ISS;
}

uint32_t h_rcv_nxt(struct harness *h)
{
	return h_status(h).rcv_nxt - H_PEER_ISS;
}

/* ---- the peer ---- */

static uint32_t peer_ts(const struct harness *h)
{
	return H_PEER_TS + (uint32_t)((h->now - H_START) / USEC_PER_MSEC);
}

struct tcp_segment h_seg(struct harness *h, uint8_t flags, int32_t seq_off, uint32_t ack, uint32_t len)
{
	static uint8_t bytes[70000];
	uint32_t window = h->peer_window >> (h->features & H_WSCALE ? H_PEER_WSCALE : 0);
	struct tcp_segment s = {
		.sport = H_PEER,
		.dport = H_PORT,
		.seq = theirs(h->peer_nxt + (uint32_t)seq_off),
		.ack = flags & SEG_ACK ? ours(ack) : 0,
		.flags = flags,
		.window = window > UINT16_MAX ? UINT16_MAX : (uint16_t)window,
	};
	h_require(len <= sizeof bytes, "len %u", len);
	for (uint32_t i = 0; i < len; i++)
		bytes[i] = h_byte(h->peer_nxt + (uint32_t)seq_off - 1 + i);
	s.payload[0] = (struct iovec){bytes, len};
	s.payload_len = len;
	if (h->features & H_TS) {
		s.has = SEG_HAS_TIMESTAMPS;
		s.ts_val = peer_ts(h);
		/* echo: our clock as of now, less the round trip of H_RTT when there has been time for one */
		int64_t echo_at = h->now - H_RTT > H_START ? h->now - H_RTT : H_START;
		s.ts_ecr = tcp_ts_now(echo_at, h->open.ts_offset);
	}
	return s;
}

void h_input(struct harness *h, const struct tcp_segment *seg)
{
	tcp_input(&h->c, h->now, seg);
	h_output(h);
}

void h_peer(struct harness *h, uint8_t flags, uint32_t ack, uint32_t len)
{
	struct tcp_segment s = h_seg(h, flags | SEG_ACK, 0, ack, len);
	h->peer_nxt += len + !!(flags & SEG_FIN);
	h_input(h, &s);
}

void h_peer_ack(struct harness *h, uint32_t ack)
{
	h_peer(h, SEG_ACK, ack, 0);
}

void h_peer_sack(struct harness *h, uint32_t ack, int n, const uint32_t *edges)
{
	struct tcp_segment s = h_seg(h, SEG_ACK, 0, ack, 0);
	s.n_sack = (uint8_t)n;
	for (int i = 0; i < n; i++)
		s.sack[i] = (struct sack_block){ours(edges[2 * i]), ours(edges[2 * i + 1])};
	h_input(h, &s);
}

struct tcp_segment h_syn(struct harness *h, uint8_t flags)
{
	struct tcp_segment s = h_seg(h, flags, 0, 1, 0);
	s.window = h->peer_window > UINT16_MAX ? UINT16_MAX : (uint16_t)h->peer_window; /* never scaled */
	if (h->peer_mss) {
		s.has |= SEG_HAS_MSS;
		s.mss = h->peer_mss;
	}
	if (h->features & H_WSCALE) {
		s.has |= SEG_HAS_WSCALE;
		s.wscale = H_PEER_WSCALE;
	}
	if (h->features & H_SACK)
		s.has |= SEG_HAS_SACK_PERMITTED;
	if (h->features & H_CR)
		s.has |= SEG_HAS_CLOSE_CAPABLE;
	if (!(flags & SEG_ACK))
		s.ts_ecr = 0;
	return s;
}

/* ---- opening ---- */

void h_open_passive(struct harness *h)
{
	struct tcp_segment syn = h_syn(h, SEG_SYN);
	h->open.policy = h->policy;
	ck_assert_int_eq(tcp_open_passive(&h->c, &h->stack, h->now, &h->open, &syn), 0);
	h->live = true;
	h->peer_nxt = 1;
	h_output(h);
	h_expect(h, SEG_SYN | SEG_ACK, 0, 1, 0);
	h_silence(h);
	h_state(h, TCPS_SYN_RECEIVED);
}

void h_open_active(struct harness *h)
{
	ck_assert_int_eq(tcp_open_active(&h->c, &h->stack, h->now, &h->open), 0);
	h->live = true;
	h_output(h);
	h_expect(h, SEG_SYN, 0, 0, 0);
	h_silence(h);
	h_state(h, TCPS_SYN_SENT);
}

void h_establish(struct harness *h)
{
	if (h->passive) {
		h_open_passive(h);
		h_advance(h, H_RTT);
		h_peer_ack(h, 1);
	} else {
		h_open_active(h);
		h_advance(h, H_RTT);
		struct tcp_segment syn_ack = h_syn(h, SEG_SYN | SEG_ACK);
		h->peer_nxt = 1;
		h_input(h, &syn_ack);
		h_expect(h, SEG_ACK, 1, 1, 0);
	}
	h_silence(h);
	h_state(h, TCPS_ESTABLISHED);
	ck_assert(h_events(h) & TCP_EV_CONNECTED);
}

struct harness *h_established(unsigned features, uint32_t window)
{
	struct harness *h = h_new(features);
	h->peer_window = window;
	h->open.options.user_sndbuf = true;
	h->open.options.sndbuf_bytes = 1 << 20;
	h_establish(h);
	return h;
}

void h_set_options(struct harness *h, void (*change)(struct tcp_options *opt))
{
	struct tcp_options opt = *tcp_get_options(&h->c);
	change(&opt);
	tcp_set_options(&h->c, h->now, &opt);
	h_output(h);
}

void h_enter(struct harness *h, enum tcp_state state)
{
	switch (state) {
	case TCPS_SYN_SENT:
		h_open_active(h);
		return;
	case TCPS_SYN_RECEIVED:
		h_open_passive(h);
		return;
	default:
		h_establish(h);
		break;
	}
	switch (state) {
	case TCPS_CLOSED:
		tcp_abort(&h->c, h->now);
		h_output(h);
		h_expect(h, SEG_RST | SEG_ACK, 1, 1, 0); /* Linux sends the ACK too; RFC 9293 asks for the RST */
		break;
	case TCPS_FIN_WAIT_1:
	case TCPS_FIN_WAIT_2:
	case TCPS_CLOSING:
	case TCPS_TIME_WAIT:
		h_shutdown(h);
		h_expect(h, SEG_FIN | SEG_ACK, 1, 1, 0);
		h_advance(h, H_RTT);
		if (state == TCPS_FIN_WAIT_2 || state == TCPS_TIME_WAIT)
			h_peer_ack(h, 2);
		if (state == TCPS_CLOSING)
			h_peer(h, SEG_FIN, 1, 0);
		if (state == TCPS_TIME_WAIT)
			h_peer(h, SEG_FIN, 2, 0);
		if (state == TCPS_CLOSING || state == TCPS_TIME_WAIT)
			h_expect(h, SEG_ACK, 2, 2, 0);
		break;
	case TCPS_CLOSE_WAIT:
	case TCPS_LAST_ACK:
		h_peer(h, SEG_FIN, 1, 0);
		h_expect(h, SEG_ACK, 1, 2, 0);
		if (state == TCPS_LAST_ACK) {
			h_shutdown(h);
			h_expect(h, SEG_FIN | SEG_ACK, 1, 2, 0);
		}
		break;
	default:
		break;
	}
	h_silence(h);
	h_state(h, state);
	h_events(h);
}

void h_grow_cwnd(struct harness *h, uint32_t segs)
{
	while (h_status(h).cwnd_bytes < segs * H_MSS) {
		uint32_t burst = h_status(h).cwnd_bytes;
		ck_assert_int_eq(h_send(h, burst), (ssize_t)burst);
		h_advance(h, H_RTT);
		for (struct h_out *o; (o = h_take(h));)
			h_peer_ack(h, o->seg.seq - H_ISS + o->seg.payload_len);
	}
	ck_assert_uint_eq(h_status(h).in_flight_bytes, 0);
	h_drain(h);
}

/* ---- expectations ---- */

struct h_out *h_take(struct harness *h)
{
	return h->next_out < h->n_out ? &h->out[h->next_out++] : NULL;
}

static const char *describe(const struct harness *h, const struct h_out *o)
{
	static char text[2][160];
	static int turn;
	char *out = text[turn ^= 1];
	if (!o)
		return "nothing";
	if (!o->at)
		snprintf(out, sizeof text[0], "flags %02x seq %u ack %u len %u", o->seg.flags, o->seg.seq - H_ISS,
			 o->seg.ack - H_PEER_ISS, o->seg.payload_len);
	else
		snprintf(out, sizeof text[0], "flags %02x %s%s%s%s%s seq %u ack %u len %u win %u sack %u at +%lld us",
		 o->seg.flags, o->seg.flags & SEG_SYN ? "SYN " : "", o->seg.flags & SEG_FIN ? "FIN " : "",
		 o->seg.flags & SEG_RST ? "RST " : "", o->seg.flags & SEG_ACK ? "ACK " : "",
		 o->seg.flags & SEG_URG ? "URG " : "", o->seg.seq - H_ISS, o->seg.ack - H_PEER_ISS,
		 o->seg.payload_len, o->seg.window, o->seg.n_sack, (long long)(o->at - H_START));
	return out;
}

struct h_out *h_expect_at(struct harness *h, const char *file, int line, uint8_t flags, uint32_t seq, uint32_t ack,
			  uint32_t len)
{
	struct h_out *o = h_take(h);
	struct h_out want = {.seg = {.flags = flags, .seq = ours(seq), .ack = theirs(ack), .payload_len = len}};
	bool same = o && (o->seg.flags & ~SEG_PSH) == (flags & ~SEG_PSH) && o->seg.seq == ours(seq) &&
		    (!(flags & SEG_ACK) || o->seg.ack == theirs(ack)) && o->seg.payload_len == len;
	h_require(same, "%s:%d: expected %s; sent %s, in %s", file, line, describe(h, &want), describe(h, o),
		      tcp_state_name(tcp_state(&h->c)));
	return o;
}

void h_silence_at(struct harness *h, const char *file, int line)
{
	struct h_out *o = h_take(h);
	h_require(!o, "%s:%d: expected silence; sent %s, in %s", file, line, describe(h, o),
		      tcp_state_name(tcp_state(&h->c)));
}

void h_state_at(struct harness *h, const char *file, int line, enum tcp_state state)
{
	h_require(tcp_state(&h->c) == state, "%s:%d: expected %s; is in %s", file, line, tcp_state_name(state),
		      tcp_state_name(tcp_state(&h->c)));
}

int h_main(Suite *suite)
{
	return suite_main(suite);
}
