/* Frames built by hand and a veth to send them over: what the kernel-side tests share. */
#ifndef FINESSE_TESTS_NET_FRAMES_H
#define FINESSE_TESTS_NET_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Our end `a` and the peer's end `b` of the veth, both in the test's own namespace; `b` has no addresses, so that only
 * we speak there.
 */
#define OUR_V4    "10.77.0.1"
#define OUR_V4_B  "10.77.0.4" /* a second address */
#define PEER_V4   "10.77.0.2"
#define OUR_V6    "fd77::1"
#define PEER_V6   "fd77::2"
#define FRAME_MAX 512

enum { TCPF_FIN = 0x01, TCPF_SYN = 0x02, TCPF_RST = 0x04, TCPF_PSH = 0x08, TCPF_ACK = 0x10 };

struct frame {
	uint8_t b[FRAME_MAX];
	int len;
};

/* A TCP (or other) packet; what is zero is left out. */
struct spec {
	const char *src, *dst;  /* NULL: PEER_V4, OUR_V4 */
	uint16_t sport, dport;
	uint8_t flags;
	uint32_t seq, ack;
	const char *payload;
	uint8_t proto;          /* 0: TCP */
	uint8_t ip_options;     /* bytes of IPv4 options, multiple of 4 */
	uint16_t frag;          /* IPv4: flags and offset as on the wire; IPv6: offset and M of a fragment header */
	uint8_t ext[6];         /* IPv6 extension headers, in order */
	int n_ext;
	bool other_mac, no_eth;
	uint16_t vlan;          /* tag, or 0 */
	int version;            /* 0: the right one */
	int ihl;                /* 0: the right one */
	int cut;                /* bytes cut off the end */
};

void frame_build(struct frame *f, const struct spec *s);
/* An ICMP or ICMPv6 message from the peer that quotes the packet of `quoted` (built without Ethernet). */
void frame_build_icmp(struct frame *f, uint8_t type, uint8_t code, const struct spec *outer,
		      const struct spec *quoted);

/* A received TCP segment's essentials; false when the frame is none. */
struct tcp_seen {
	bool v6;
	uint16_t sport, dport;
	uint8_t flags;
	uint32_t seq, ack;
};
bool frame_parse_tcp(const uint8_t *b, int len, bool has_eth, struct tcp_seen *out);

/* The process goes into a network namespace of its own with the veth up. 0, or 77 with a reason printed. */
int net_enter(void);
void net_run(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* a shell command that must succeed */
void net_wait_addresses(const char *ifname); /* until they are usable */
int packet_open(const char *ifname); /* bound, ETH_P_ALL, outgoing ignored */
int readable_within(int fd, int ms); /* 1 or 0 */

#endif
