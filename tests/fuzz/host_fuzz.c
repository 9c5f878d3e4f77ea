/*
 * Fuzz target for the host part of own-address mode (ip/host.h): frames, time, questions for neighbours, in any order.
 *
 * The input is a little program: a byte of set-up, then steps, each with its arguments; what is missing at its end
 * reads as 0. A frame is raw, or has its MACs, lengths and checksums made right, so that the fuzzer need not guess
 * them. Asserts, beside what the sanitizers see:
 *  - what is sent is well-formed, comes from our MAC, and is at most two frames for one that came in,
 *  - an address that is lost stays lost, and nothing is sent for one that is not ours but probes,
 *  - a silent host sends nothing but questions for neighbours,
 *  - a due deadline makes progress.
 */
#include <errno.h>
#include <string.h>

#include "base/list.h"
#include "fuzz.h"
#include "ip/host.h"
#include "wire/arp.h"
#include "wire/checksum.h"
#include "wire/eth.h"
#include "wire/icmp.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"
#include "wire/mld.h"
#include "wire/ndisc.h"

#define STEPS_MAX 300
#define TICKS_MAX 64 /* at one instant before we call it no progress */
#define FRAME_MAX 2048

#define check(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			fuzz_fail(__FILE__, __LINE__, #cond);                                      \
	} while (0)

enum step { STEP_RAW, STEP_ARP, STEP_ND, STEP_ICMP, STEP_LOOK_UP, STEP_WAIT, STEP_LEAD, STEP_FOLLOW, STEP_QUERY, STEP_COUNT };

#define SETUP_NO_ETH 0x01
#define SETUP_LEAD   0x02
#define SETUP_RFC    0x04

static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 1};
static const char *const texts[] = {"10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2", "10.0.0.77", "fd00::77", "fe80::9", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "192.0.2.1"};
#define N_TEXTS (sizeof texts / sizeof *texts)
#define N_OURS  4 /* the first ones are ours */

struct world {
	struct host_out out; /* first */
	struct host host;
	int64_t now;
	unsigned sent, questions, reports;
	const uint8_t *in;
	size_t left;
};

static uint8_t take8(struct world *w)
{
	if (!w->left)
		return 0;
	w->left--;
	return *w->in++;
}

static struct ip_addr take_addr(struct world *w)
{
	struct ip_addr a;
	check(ip_addr_parse(texts[take8(w) % N_TEXTS], &a) == 0);
	return a;
}

/* ---- what is sent ---- */

static void check_sent_v6(struct world *w, const uint8_t *ip, size_t len, const uint8_t *payload, size_t payload_len)
{
	uint8_t whole[FRAME_MAX];
	struct ipv6_header h;
	struct ndisc_message m;
	struct icmp_message icmp;
	check(len + payload_len <= sizeof whole);
	memcpy(whole, ip, len);
	if (payload_len)
		memcpy(whole + len, payload, payload_len);
	len += payload_len;
	check(ipv6_parse(whole, len, &h) == IPV6_OK && h.payload_len == len - IPV6_HDR_BYTES);
	struct ipv6_upper upper;
	check(ipv6_walk(whole + IPV6_HDR_BYTES, h.payload_len, h.next_header, &upper) == IPV6_OK && upper.protocol == IP_PROTO_ICMPV6);
	if (upper.offset) { /* a report */
		const uint8_t *report = whole + IPV6_HDR_BYTES + upper.offset;
		check(icmp_parse(report, h.payload_len - upper.offset, true, h.src, h.dst, &icmp) == ICMP_OK);
		check(icmp.type == MLD_REPORT_V1 || icmp.type == MLD_REPORT_V2);
		w->reports++;
		return;
	}
	int r = ndisc_parse(whole + IPV6_HDR_BYTES, h.payload_len, h.src, h.dst, h.hop_limit, &m);
	check(r == 0 || r == -ENOMSG);
	if (r)
		check(icmp_parse(whole + IPV6_HDR_BYTES, h.payload_len, true, h.src, h.dst, &icmp) == ICMP_OK && icmp.type == 129);
	w->questions += r == 0 && m.type == NDISC_SOLICITATION && m.mac;
	struct ip_addr src = ip_addr_from_v6(h.src);
	if (!ip_addr_is_any(&src))
		check(host_address(&w->host, &src) && host_address(&w->host, &src)->state == HOST_ADDR_OURS);
}

static void check_sent_v4(struct world *w, const uint8_t *ip, size_t len, const uint8_t *payload, size_t payload_len)
{
	struct ipv4_header h;
	check(ipv4_parse(ip, len, &h) == IPV4_OK && h.protocol == IP_PROTO_ICMP && h.total_len == len + payload_len);
	const uint8_t *icmp = ip + h.header_len;
	check(icmp[0] == 0);
	check(checksum_is_valid(checksum_add(checksum_add(0, icmp, len - h.header_len), payload, payload_len)));
	struct ip_addr src = ip_addr_from_v4(h.src);
	check(host_address(&w->host, &src) && host_address(&w->host, &src)->state == HOST_ADDR_OURS);
}

static void check_sent_arp(struct world *w, const uint8_t *bytes, size_t len)
{
	struct arp_packet p;
	check(arp_parse(bytes, len, &p) == 0 && memcmp(p.sender_mac, our_mac, 6) == 0);
	struct ip_addr sender = ip_addr_from_v4(p.sender);
	if (!ip_addr_is_any(&sender))
		check(host_address(&w->host, &sender) && host_address(&w->host, &sender)->state == HOST_ADDR_OURS);
	w->questions += p.op == ARP_REQUEST && !ip_addr_is_any(&sender) && memcmp(p.sender, p.target, 4) != 0;
}

static void on_frame(struct host_out *o, const uint8_t *hdr, size_t hdr_len, const uint8_t *payload, size_t payload_len)
{
	struct world *w = container_of(o, struct world, out);
	struct eth_header eth;
	w->sent++;
	check(hdr_len <= HOST_OUT_HDR_MAX);
	if (!w->host.has_eth) {
		if (hdr[0] >> 4 == 6)
			check_sent_v6(w, hdr, hdr_len, payload, payload_len);
		else
			check_sent_v4(w, hdr, hdr_len, payload, payload_len);
		return;
	}
	check(eth_parse(hdr, hdr_len, &eth) == 0 && memcmp(eth.src, our_mac, 6) == 0);
	if (eth.ethertype == ETHERTYPE_ARP)
		check_sent_arp(w, hdr + ETH_HDR_BYTES, hdr_len - ETH_HDR_BYTES);
	else if (eth.ethertype == ETHERTYPE_IPV6)
		check_sent_v6(w, hdr + ETH_HDR_BYTES, hdr_len - ETH_HDR_BYTES, payload, payload_len);
	else
		check_sent_v4(w, hdr + ETH_HDR_BYTES, hdr_len - ETH_HDR_BYTES, payload, payload_len);
}

/* ---- what comes in ---- */

/* Its own allocation, so that a read past it is seen. */
static void give(struct world *w, const uint8_t *frame, size_t len)
{
	uint8_t *exact = malloc(len ? len : 1);
	check(exact);
	memcpy(exact, frame, len);
	unsigned before = w->sent;
	host_input(&w->host, w->now, exact, len);
	check(w->sent - before <= 2);
	check(!w->host.silent || w->sent == before);
	free(exact);
}

/* As many bytes as the input's next byte says, over what is there. */
static void take_bytes(struct world *w, uint8_t *to, size_t size)
{
	size_t n = take8(w);
	for (size_t i = 0; i < n && i < size && w->left; i++)
		to[i] = take8(w);
}

static void give_raw(struct world *w)
{
	uint8_t frame[256];
	size_t n = take8(w), i = 0;
	while (i < n && w->left)
		frame[i++] = take8(w);
	give(w, frame, i);
}

static void macs(struct world *w, uint8_t dst[6], uint8_t src[6])
{
	static const uint8_t kinds[][6] = {{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {0x33, 0x33, 0xff, 0, 0, 1}, {2, 0, 0, 0, 0, 3}};
	uint8_t pick = take8(w);
	memcpy(dst, kinds[pick % 5], 6);
	memcpy(src, kinds[pick / 5 % 5], 6);
}

static void give_arp(struct world *w)
{
	uint8_t frame[ARP_FRAME_BYTES + 18] = {0}, dst[6], src[6];
	struct arp_packet p = {.op = take8(w) & 1 ? ARP_REPLY : ARP_REQUEST};
	macs(w, dst, src);
	struct ip_addr sender = take_addr(w), target = take_addr(w);
	memcpy(p.sender_mac, src, 6);
	memcpy(p.sender, sender.b + 12, 4);
	memcpy(p.target, target.b + 12, 4);
	memcpy(p.target_mac, our_mac, 6);
	arp_build(dst, &p, frame);
	take_bytes(w, frame + ETH_HDR_BYTES, ARP_BYTES);
	give(w, frame, ARP_FRAME_BYTES + (take8(w) & 15));
}

static size_t put_link(struct world *w, uint8_t *frame, bool v6)
{
	uint8_t dst[6], src[6];
	macs(w, dst, src);
	if (!w->host.has_eth)
		return 0;
	eth_build(dst, src, v6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4, frame);
	return ETH_HDR_BYTES;
}

static void give_icmp(struct world *w, bool nd)
{
	uint8_t frame[ETH_HDR_BYTES + IPV6_HDR_BYTES + 300] = {0}, set = take8(w);
	bool v6 = nd || (set & 1);
	size_t l2 = put_link(w, frame, v6), l3 = v6 ? IPV6_HDR_BYTES : IPV4_HDR_MIN, n = 8 + (nd ? 24 : take8(w) % 100);
	struct ip_addr src = take_addr(w), dst = take_addr(w), target = take_addr(w);
	uint8_t *icmp = frame + l2 + l3;
	icmp[0] = nd ? (set & 2 ? NDISC_SOLICITATION : NDISC_ADVERTISEMENT) : v6 ? 128 : 8;
	if (nd) {
		icmp[4] = set & 0xe0;
		memcpy(icmp + 8, target.b, 16);
		icmp[24] = set & 2 ? 1 : 2;
		icmp[25] = 1;
		memcpy(icmp + 26, frame + 6, 6);
		n -= set & 4 ? 8 : 0;
	}
	take_bytes(w, icmp, n);
	uint64_t sum = v6 ? checksum_pseudo_v6(src.b, dst.b, IP_PROTO_ICMPV6, n) : 0;
	if (!(set & 8)) {
		checksum_store(icmp + 2, 0);
		checksum_store(icmp + 2, checksum_finish(checksum_add(sum, icmp, n)));
	}
	if (v6)
		ipv6_build(&(struct ipv6_header){.src = src.b, .dst = dst.b, .hop_limit = set & 16 ? 64 : 255, .next_header = IP_PROTO_ICMPV6, .payload_len = n}, frame + l2);
	else
		ipv4_build(&(struct ipv4_header){.src = src.b + 12, .dst = dst.b + 12, .ttl = 64, .protocol = IP_PROTO_ICMP, .total_len = l3 + n}, frame + l2);
	give(w, frame, l2 + l3 + n - (set & 16 ? take8(w) % (n + 1) : 0));
}

static void give_query(struct world *w)
{
	uint8_t frame[ETH_HDR_BYTES + IPV6_HDR_BYTES + 8 + 60] = {0}, set = take8(w);
	size_t l2 = put_link(w, frame, true), n = set & 1 ? 24 : 28 + (set >> 4);
	struct ip_addr src = take_addr(w), dst = take_addr(w), group = take_addr(w);
	uint8_t *hop = frame + l2 + IPV6_HDR_BYTES, *icmp = hop + 8;
	memcpy(hop, "\x3a\0\5\2\0\0\1", 8);
	icmp[0] = MLD_QUERY;
	memcpy(icmp + 8, group.b, 16);
	take_bytes(w, hop, 8 + n);
	checksum_store(icmp + 2, 0);
	checksum_store(icmp + 2, checksum_finish(checksum_add(checksum_pseudo_v6(src.b, dst.b, IP_PROTO_ICMPV6, n), icmp, n)));
	ipv6_build(&(struct ipv6_header){.src = src.b, .dst = dst.b, .hop_limit = set & 2 ? 64 : 1, .next_header = 0, .payload_len = 8 + n}, frame + l2);
	give(w, frame, l2 + IPV6_HDR_BYTES + 8 + n);
}

/* ---- time ---- */

static void run_until(struct world *w, int64_t until)
{
	unsigned ticks = 0;
	while (host_deadline(&w->host) <= until) {
		int64_t before = w->now;
		w->now = max_time(w->now, host_deadline(&w->host));
		ticks = w->now == before ? ticks + 1 : 0;
		check(ticks < TICKS_MAX);
		host_tick(&w->host, w->now);
	}
	w->now = until;
}

static void look_up(struct world *w)
{
	struct ip_addr dst = take_addr(w), src, nexthop;
	uint8_t mac[6];
	if (host_route(&w->host, &dst, NULL, &src, &nexthop))
		return;
	int r = host_neighbour(&w->host, w->now, &nexthop, &src, mac);
	check(r == 0 || r == -EAGAIN || r == -EHOSTUNREACH || r == -EADDRNOTAVAIL);
	check(r != 0 || host_address(&w->host, &src)->state == HOST_ADDR_OURS);
}

static void step(struct world *w)
{
	switch (take8(w) % STEP_COUNT) {
	case STEP_RAW:
		give_raw(w);
		break;
	case STEP_ARP:
		give_arp(w);
		break;
	case STEP_ND:
		give_icmp(w, true);
		break;
	case STEP_ICMP:
		give_icmp(w, false);
		break;
	case STEP_LOOK_UP:
		look_up(w);
		break;
	case STEP_WAIT:
		run_until(w, w->now + ((int64_t)1 << (take8(w) % 27)));
		break;
	case STEP_LEAD:
		host_lead(&w->host, w->now);
		break;
	case STEP_QUERY:
		give_query(w);
		break;
	case STEP_FOLLOW:
		host_follow(&w->host, take8(w) % (N_OURS + 1), take8(w) % 3);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world w; /* large */
	static const uint8_t secret[16] = {1};
	struct ip_addr a, gateway;
	w = (struct world){.out.frame = on_frame, .now = 1000 * USEC_PER_SEC, .in = data, .left = size};
	uint8_t setup = take8(&w);
	host_init(&w.host, &w.out, setup & SETUP_RFC ? &host_times_rfc : &host_times_quick, our_mac, !(setup & SETUP_NO_ETH), secret);
	for (unsigned i = 0; i < N_OURS; i++) {
		check(ip_addr_parse(texts[i], &a) == 0);
		check(host_add_address(&w.host, &a, ip_addr_is_v4(&a) ? 24 : 64) == 0);
	}
	check(ip_addr_parse("10.0.0.254", &gateway) == 0 && host_set_gateway(&w.host, &gateway) == 0);
	if (setup & SETUP_LEAD) {
		host_lead(&w.host, w.now);
		run_until(&w, w.now + 30 * USEC_PER_SEC);
	}
	for (unsigned i = 0; i < STEPS_MAX && w.left; i++) {
		bool lost[N_OURS];
		for (unsigned k = 0; k < N_OURS; k++)
			lost[k] = !w.host.silent && w.host.addrs[k].state == HOST_ADDR_LOST;
		step(&w);
		for (unsigned k = 0; k < N_OURS; k++)
			check(!lost[k] || w.host.addrs[k].state == HOST_ADDR_LOST);
		host_take_events(&w.host);
	}
	run_until(&w, w.now + 100 * USEC_PER_SEC);
	check(host_deadline(&w.host) == TIME_NEVER); /* nothing goes on for ever by itself */
	return 0;
}
