/*
 * What the tests of the classifier share: real frames over a veth, seen at the packet socket (the engine's side) and as
 * the kernel's answers at the other end.
 *
 * Silence is asserted without waiting: after the frames under test a fence goes the same way (one frame that must reach
 * the tap, one that the kernel must answer by RST), and what was to come has come before it.
 *
 * Each test runs in a process and a network namespace of its own (net_enter), once for each backend.
 */
#ifndef TESTS_CLASSIFIER_LAB_H
#define TESTS_CLASSIFIER_LAB_H

#include <check.h>

#include "kernel/classifier.h"
#include "tests/net/frames.h"

#define WAIT_MS    2000 /* for what must come; on failure only */
#define OURS       80   /* port of ours */
#define CLOSED     81   /* nobody's */
#define FENCE      7    /* of ours, for the fence */
#define FENCE_FROM 60007
#define SEEN_MAX   32

#define SYN_TO(port) .sport = 40000, .dport = (port), .flags = TCPF_SYN
#define RST          (TCPF_RST | TCPF_ACK)

/* What an engine would be: its packet socket, its classifier, and what came to the socket before the last fence. */
struct engine {
	int tap;
	struct classifier *c;
	struct {
		struct frame frames[SEEN_MAX];
		int n;
	} seen;
};

/* The backend under test. The nftables one lets the tap see TCP that is the kernel's, too. */
extern enum classifier_choice choice;

extern int peer;      /* packet socket on the peer's end */
extern bool with_eth; /* the interface has a link header */
extern uint8_t fence_flags; /* of the fence to the tap, which must get it */

/* What the kernel's TCP answered to the peer before the last fence. */
extern struct tcp_seen answers[SEEN_MAX];
extern int n_answers;

struct ip_addr addr(const char *text);
struct flow_key key(const char *l, uint16_t lport, const char *r, uint16_t rport);

/* An engine on the interface, with the three addresses of ours and the fence's port. Failure ends the test. */
void engine_start(struct engine *e, const char *ifname);
void engine_stop(struct engine *e);

/*
 * The peer sends a frame as it is; one that is made by its specification, without a link header where the interface has
 * none.
 */
void send_frame(const struct frame *f);
void send_spec(const struct spec *s);

/* Reads the tap up to the fence. */
void drain_tap(struct engine *e);

/*
 * Returns when all that was sent has had its effect: in e->seen and in answers[]. `e` may be NULL: the kernel's side
 * only.
 */
void settle(struct engine *e);

/*
 * A SYN to dst:port from a fresh source port: 1 if the engine got it, 0 if the kernel answered. Both or neither fails.
 */
int who_gets(struct engine *e, const char *dst, uint16_t port);

/* The kernel's listening socket on the port of each address. */
int kernel_listener(uint16_t port);

/*
 * Runs the tests that `add` puts into the case, once for each backend. Returns main's exit status: 77 where it cannot.
 */
int classifier_main(const char *name, void (*add)(TCase *tc));

#endif
