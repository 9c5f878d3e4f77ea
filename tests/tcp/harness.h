/*
 * One connection against a peer that a test plays by hand: segments in, segments out, virtual time.
 *
 * A connection is put *in* a state by driving real segments (h_enter). Every segment that the core emits is kept
 * until a test has expected it; h_silence asserts that nothing is left, and h_free too. Sequence numbers in tests are
 * relative: ours to our ISS, the peer's to its ISS (the SYN is 0, the first byte of data 1). Both ISSs lie just below
 * 2^32, so that data straddle it.
 */
#ifndef FINESSE_TESTS_TCP_HARNESS_H
#define FINESSE_TESTS_TCP_HARNESS_H

#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "tcp/tcp.h"
#include "test_memory.h"

#define H_ISS      UINT32_C(0xfffffff0)
#define H_PEER_ISS UINT32_C(0xfffffffa)
#define H_PORT     80    /* ours */
#define H_PEER     40000 /* the peer's */
#define H_MSS      1000  /* payload of a full segment of ours, and of the peer's */
#define H_START    (1000 * USEC_PER_SEC)
#define H_RTT      (10 * USEC_PER_MSEC) /* of the handshake */
#define H_PEER_TS  UINT32_C(0xfffffff8) /* the peer's timestamp clock at H_START, ms */

/* What the peer and we agree on. */
#define H_TS     1
#define H_SACK   2
#define H_WSCALE 4
#define H_ALL    (H_TS | H_SACK | H_WSCALE)
#define H_ACTIVE 8 /* we open */
#define H_CR     16 /* close request */

#define H_PEER_WSCALE 3
#define H_OUT_MAX     512

/* ck_assert* tells check of every success; in loops over bytes and segments that is too slow. */
#define h_require(cond, ...)                                                                       \
	do {                                                                                       \
		if (!(cond))                                                                       \
			ck_abort_msg(__VA_ARGS__);                                                 \
	} while (0)

struct h_out {
	struct tcp_segment seg; /* payload points into bytes */
	uint16_t gso_size;
	int64_t at;
	uint8_t *bytes;
};

struct harness {
	struct tcp_stack stack;
	struct test_memory memory;
	struct tcp_conn c;
	struct tcp_open open; /* as h_new made it: change before opening */
	int64_t now;
	unsigned features;
	bool live, passive;
	struct h_out out[H_OUT_MAX];
	int n_out, next_out;
	uint32_t events;      /* all that were raised since h_events */
	uint32_t peer_nxt;    /* the peer's SND.NXT, relative */
	uint32_t peer_window; /* bytes, what h_seg announces */
	uint16_t peer_mss;    /* what the peer's SYN announces; 0: no option */
	uint32_t sent;        /* bytes of the pattern given to tcp_send */
	struct close_policy *policy;
};

struct harness *h_new(unsigned features);
void h_free(struct harness *h);

/* ---- the peer speaks ---- */

/* A segment of the peer at its SND.NXT + seq_off that acknowledges `ack` (relative to our ISS). */
struct tcp_segment h_seg(struct harness *h, uint8_t flags, int32_t seq_off, uint32_t ack, uint32_t len);
/* It arrives now; then tcp_output. */
void h_input(struct harness *h, const struct tcp_segment *seg);
/* h_seg at SND.NXT, arriving, and the peer's SND.NXT moves on. ACK is implied. */
void h_peer(struct harness *h, uint8_t flags, uint32_t ack, uint32_t len);
void h_peer_ack(struct harness *h, uint32_t ack);
/* A bare ACK with SACK blocks, left and right relative to our ISS, as pairs. */
void h_peer_sack(struct harness *h, uint32_t ack, int n, const uint32_t *edges);
struct tcp_segment h_syn(struct harness *h, uint8_t flags);

/* ---- opening; each leaves nothing unexpected behind ---- */
void h_open_passive(struct harness *h);  /* SYN-RECEIVED, SYN-ACK expected */
void h_open_active(struct harness *h);   /* SYN-SENT, SYN expected */
void h_establish(struct harness *h);     /* by h->features & H_ACTIVE, after H_RTT */
/*
 * A new harness in ESTABLISHED. The peer's window is of `window` bytes, and its own send buffer of 1 MiB never binds.
 */
struct harness *h_established(unsigned features, uint32_t window);
void h_set_options(struct harness *h, void (*change)(struct tcp_options *opt)); /* as setsockopt: what that makes due is sent */
/* In `state` by real segments. FIN-WAIT-1 and later by tcp_shutdown: the application still reads. */
void h_enter(struct harness *h, enum tcp_state state);

/* ---- our side ---- */
void h_output(struct harness *h);
/* Time passes; ticks and output as deadlines come due. */
void h_advance(struct harness *h, int64_t us);
/* To the next deadline, which must exist; tick, output. How long it took. */
int64_t h_next(struct harness *h);
/* Until the next retransmission timeout, whatever else is sent before it (a tail loss probe). */
void h_timeout(struct harness *h);
/* tcp_send of `len` bytes of the pattern, then output. What tcp_send said. */
ssize_t h_send(struct harness *h, uint32_t len);
/* tcp_recv of up to `len` bytes, checked against the peer's pattern from `pos`, then output. */
ssize_t h_recv(struct harness *h, uint32_t len, uint32_t pos);
void h_shutdown(struct harness *h);
void h_close(struct harness *h);
uint32_t h_events(struct harness *h); /* and clears */
struct tcp_status h_status(struct harness *h);
uint32_t h_snd_nxt(struct harness *h); /* relative */
uint32_t h_rcv_nxt(struct harness *h); /* relative */
uint8_t h_byte(uint32_t pos);          /* the pattern, both ways */
/* Full acknowledgements of full windows, so that cwnd is `segs` segments; nothing in flight after. */
void h_grow_cwnd(struct harness *h, uint32_t segs);

/* ---- expectations ---- */
#define h_expect(h, flags, seq, ack, len) h_expect_at(h, __FILE__, __LINE__, flags, seq, ack, len)
#define h_silence(h)                      h_silence_at(h, __FILE__, __LINE__)
#define h_state(h, state)                 h_state_at(h, __FILE__, __LINE__, state)
/* The next segment out, with exactly these flags (PSH apart); ack is not looked at without SEG_ACK. */
struct h_out *h_expect_at(struct harness *h, const char *file, int line, uint8_t flags, uint32_t seq, uint32_t ack,
			  uint32_t len);
/* The next segment, whatever it is; NULL: none. */
struct h_out *h_take(struct harness *h);
void h_silence_at(struct harness *h, const char *file, int line);
void h_state_at(struct harness *h, const char *file, int line, enum tcp_state state);
void h_drain(struct harness *h); /* forget what was sent */

int h_main(Suite *suite);

#endif
