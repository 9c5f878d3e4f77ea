/*
 * A host under test (ip/host.h) and the frames that it is given and sends: shared by host_test.c and
 * host_answers_test.c. Time is the test's.
 */
#ifndef FINESSE_TESTS_HOST_WORLD_H
#define FINESSE_TESTS_HOST_WORLD_H

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/list.h"
#include "ip/host.h"
#include "unit.h"
#include "wire/arp.h"
#include "wire/checksum.h"
#include "wire/eth.h"
#include "wire/icmp.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"
#include "wire/mld.h"
#include "wire/ndisc.h"

#define FRAMES_MAX 64
#define START_US   (1000 * USEC_PER_SEC)

struct sent {
	uint8_t bytes[2048];
	size_t len;
};

/* A host under test, and all that it sent since the last look. */
struct world {
	struct host_out out; /* first */
	struct host host;
	struct sent sent[FRAMES_MAX];
	unsigned n;
	struct sent report; /* the last multicast listener report; they are counted apart */
	unsigned reports;
};

static struct world w, other; /* of one link, with different secrets */
static int64_t now;
static const uint8_t __attribute__((unused)) our_mac[6] = {2, 0, 0, 0, 0, 1}, peer_mac[6] = {2, 0, 0, 0, 0, 2}, third_mac[6] = {2, 0, 0, 0, 0, 3}, zero_mac[6];

static __attribute__((unused)) struct ip_addr addr(const char *text)
{
	struct ip_addr a;
	ck_assert_int_eq(ip_addr_parse(text, &a), 0);
	return a;
}

static __attribute__((unused)) void keep(struct host_out *o, const uint8_t *hdr, size_t hdr_len, const uint8_t *payload, size_t payload_len)
{
	struct world *x = container_of(o, struct world, out);
	ck_assert_uint_le(hdr_len, HOST_OUT_HDR_MAX);
	ck_assert_uint_le(hdr_len + payload_len, sizeof x->sent[0].bytes);
	ck_assert_uint_lt(x->n, FRAMES_MAX);
	bool report = hdr_len == MLD_HDR_BYTES && load_be16(hdr + 12) == ETHERTYPE_IPV6 && hdr[14 + 6] == 0;
	struct sent *s = report ? &x->report : &x->sent[x->n++];
	x->reports += report;
	memcpy(s->bytes, hdr, hdr_len);
	if (payload_len)
		memcpy(s->bytes + hdr_len, payload, payload_len);
	s->len = hdr_len + payload_len;
}

static __attribute__((unused)) void world_init(struct world *x, const uint8_t mac[6], uint8_t secret)
{
	uint8_t key[16];
	memset(x, 0, sizeof *x);
	memset(key, secret, sizeof key);
	x->out.frame = keep;
	host_init(&x->host, &x->out, &host_times_rfc, mac, true, key);
}

static __attribute__((unused)) void setup(void)
{
	now = START_US;
	world_init(&w, our_mac, 1);
	world_init(&other, third_mac, 2);
}

static __attribute__((unused)) void add(struct world *x, const char *text, unsigned prefix)
{
	struct ip_addr a = addr(text);
	ck_assert_int_eq(host_add_address(&x->host, &a, prefix), 0);
}

/* Time goes on from deadline to deadline. */
static __attribute__((unused)) void run(struct world *x, int64_t until)
{
	for (int steps = 0; host_deadline(&x->host) <= until; steps++) {
		ck_assert_int_lt(steps, 200); /* a due deadline makes progress */
		now = max_time(now, host_deadline(&x->host));
		host_tick(&x->host, now);
	}
	now = until;
}

static __attribute__((unused)) bool input(struct world *x, const uint8_t *frame, size_t len)
{
	bool taken;
	WITH_EXACT_COPY(p, frame, len, { taken = host_input(&x->host, now, p, len); });
	return taken;
}

/* 10.0.0.1 and fd00::1 are ours; what was sent for them is forgotten. */
static __attribute__((unused)) void ready(void)
{
	add(&w, "10.0.0.1", 24);
	add(&w, "fd00::1", 64);
	host_lead(&w.host, now);
	run(&w, now + 20 * USEC_PER_SEC);
	ck_assert_uint_eq(host_take_events(&w.host), HOST_EVENT_ADDRESSES);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(w.host.addrs[i].state, HOST_ADDR_OURS);
	w.n = w.reports = 0;
	ck_assert_int_eq(host_deadline(&w.host), TIME_NEVER);
}

static __attribute__((unused)) void arp_from(struct world *x, uint16_t op, const uint8_t mac[6], const char *sender, const char *target, const uint8_t dst[6], const uint8_t target_mac[6])
{
	uint8_t frame[ARP_FRAME_BYTES];
	struct arp_packet p = {.op = op};
	memcpy(p.sender_mac, mac, 6);
	memcpy(p.target_mac, target_mac, 6);
	memcpy(p.sender, addr(sender).b + 12, 4);
	memcpy(p.target, addr(target).b + 12, 4);
	arp_build(dst, &p, frame);
	ck_assert(input(x, frame, sizeof frame));
}

static const uint8_t __attribute__((unused)) everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static __attribute__((unused)) void arp_request(const char *sender, const char *target)
{
	arp_from(&w, ARP_REQUEST, peer_mac, sender, target, everybody, zero_mac);
}

static __attribute__((unused)) void arp_reply(const uint8_t mac[6], const char *sender)
{
	arp_from(&w, ARP_REPLY, mac, sender, "10.0.0.1", our_mac, our_mac);
}

static __attribute__((unused)) struct arp_packet sent_arp(unsigned i, const uint8_t dst[6])
{
	struct arp_packet p;
	ck_assert_uint_lt(i, w.n);
	ck_assert_uint_eq(w.sent[i].len, ARP_FRAME_BYTES);
	ck_assert_mem_eq(w.sent[i].bytes, dst, 6);
	ck_assert_mem_eq(w.sent[i].bytes + 6, our_mac, 6);
	ck_assert_int_eq(arp_parse(w.sent[i].bytes + 14, w.sent[i].len - 14, &p), 0);
	return p;
}

static __attribute__((unused)) size_t nd_frame(uint8_t out[NDISC_FRAME_BYTES], uint8_t type, uint8_t flags, const uint8_t mac[6], const char *src, const char *dst, const char *target,
		       bool tells)
{
	struct ip_addr s = addr(src), d = addr(dst), t = addr(target);
	uint8_t group[16], group_mac[6];
	ndisc_solicited_group(t.b, group, group_mac);
	struct ndisc_frame f = {.type = type, .flags = flags, .dst_mac = d.b[0] == 0xff ? group_mac : our_mac, .src_mac = mac,
				.src = s.b, .dst = d.b, .target = t.b, .tells_mac = tells};
	return ndisc_build(&f, out);
}

static __attribute__((unused)) void nd_from(struct world *x, uint8_t type, uint8_t flags, const uint8_t mac[6], const char *src, const char *dst, const char *target, bool tells)
{
	uint8_t frame[NDISC_FRAME_BYTES];
	size_t n = nd_frame(frame, type, flags, mac, src, dst, target, tells);
	ck_assert(input(x, frame, n));
}

static __attribute__((unused)) struct ndisc_message sent_nd(unsigned i, struct ip_addr *src, struct ip_addr *dst)
{
	struct ndisc_message m;
	struct ipv6_header h;
	ck_assert_uint_lt(i, w.n);
	const uint8_t *ip = w.sent[i].bytes + 14;
	ck_assert_int_eq(ipv6_parse(ip, w.sent[i].len - 14, &h), IPV6_OK);
	ck_assert_int_eq(ndisc_parse(ip + 40, w.sent[i].len - 54, h.src, h.dst, h.hop_limit, &m), 0);
	*src = ip_addr_from_v6(h.src);
	*dst = ip_addr_from_v6(h.dst);
	return m;
}

static __attribute__((unused)) int look_up(const char *nexthop, uint8_t mac[6])
{
	struct ip_addr n = addr(nexthop), s = addr(ip_addr_is_v4(&n) ? "10.0.0.1" : "fd00::1");
	return host_neighbour(&w.host, now, &n, &s, mac);
}

#endif
