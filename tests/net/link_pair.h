/*
 * Two links at the two ends of a veth pair, va and vb, each in the tests' own network namespace; what was seen there;
 * and sequence numbers in frames. For the tests of src/link.
 */
#ifndef TESTS_NET_LINK_PAIR_H
#define TESTS_NET_LINK_PAIR_H

#include <check.h>
#include <linux/if_ether.h>
#include <stdbool.h>
#include <stdint.h>

#include "link/link.h"

#define WAIT_MS    5000
#define TEST_PROTO 0x88b5 /* IEEE 802 local experimental */
#define FRAME_MAX  70000

struct seen {
	struct link_rx_handler handler;
	unsigned n;
	struct link_rx last;
	uint8_t bytes[FRAME_MAX];
	void (*on_frame)(struct seen *s, const struct link_rx *rx);
	uint32_t next_seq, gaps, truncated;
};

void seen_frame(struct link_rx_handler *h, const struct link_rx *rx); /* the handler of a struct seen */
extern struct seen seen_a, seen_b;
extern struct link *link_a, *link_b;

void sh(const char *cmd); /* it succeeds */
/* A fixture: the test runs in a namespace of its own. */
void own_namespace(void);
/* Runs the suite that `make` returns, where network namespaces can be made. An exit status; 77: they cannot. */
int run_suite(Suite *(*make)(void));

/* Accepts one ethertype only: no frame of the host's own (MLD, router solicitations) disturbs. */
void accept_only(struct link *l, uint16_t ethertype);
struct link *open_link(const char *ifname, bool no_io_uring);
/*
 * Whoever came up first of a pair drops what is sent until a work queue of the kernel's has seen that the other one is
 * there: waits for that.
 */
void make_pair(void);
/* make_pair, link_a and link_b on it. */
void open_pair(bool no_io_uring);
void close_pair(void);
/* Drains `l` until `want` frames in all were seen there. */
void wait_frames(struct link *l, struct seen *s, unsigned want);

uint8_t pattern(uint32_t i); /* a frame's byte there */
uint32_t eth_header(uint8_t *h, uint16_t proto); /* to everybody; its length */
void send_seq(uint32_t seq); /* from a, with this number in it */
void check_seq(struct seen *s, const struct link_rx *rx); /* on_frame: counts what is missing before it */

#endif
