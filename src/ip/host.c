/*
 * The host part of own-address mode: theory of operation.
 *
 * Owns: the addresses with their claims, the neighbours, the gateways, the counters. Frames go in by host_input and out
 * by host_out; time goes in by each call that needs it. host_tick does all that is due and finds out what is due next:
 * its walk over the table costs some microseconds and is made a few times in a second at most, because nothing in here
 * is due more often for one neighbour.
 *
 * Who may use what of a frame: an address that is claimed (HOST_ADDR_OURS) is answered for; one that is probed for is
 * not there yet; one that is lost never was. Frames of our own come back where the link shows what it sends to all
 * listeners: they are told by their source.
 */
#include "ip/host_internal.h"

#include <errno.h>
#include <string.h>

#include "base/siphash.h"
#include "wire/arp.h"
#include "wire/eth.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"
#include "wire/ndisc.h"

const uint8_t host_broadcast_mac[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const struct ip_addr none; /* of IPv6; a probe's source */
static const struct ip_addr all_nodes = {{0xff, 0x02, [15] = 1}};

const char *host_counter_name(enum host_counter c)
{
	static const char *const names[] = {
#define HOST_COUNTER(name, text) #name,
#include "ip/host_counter.def"
#undef HOST_COUNTER
	};
	return names[c];
}

int64_t host_random(struct host *h, int64_t least, int64_t most)
{
	uint64_t r = siphash24(&h->drawn, sizeof h->drawn, h->secret);
	h->drawn++;
	return least + (int64_t)(r % (uint64_t)(most - least + 1));
}

void host_init(struct host *h, struct host_out *out, const struct host_times *times, const uint8_t mac[6], bool has_eth, const uint8_t secret[16])
{
	memset(h, 0, sizeof *h);
	h->out = out;
	h->times = times;
	memcpy(h->mac, mac, sizeof h->mac);
	h->has_eth = has_eth;
	h->silent = true;
	memcpy(h->secret, secret, sizeof h->secret);
	h->next_us = h->report_us = TIME_NEVER;
	h->reported_us = -USEC_PER_SEC;
	h->ident = (uint16_t)host_random(h, 0, UINT16_MAX);
	budget_init(&h->echoes, secret);
}

/* ---- addresses and routes ---- */

static unsigned bits_of(const struct host_addr *a)
{
	return a->prefix_len + (ip_addr_is_v4(&a->addr) ? 96 : 0);
}

int host_add_address(struct host *h, const struct ip_addr *addr, unsigned prefix_len)
{
	bool v4 = ip_addr_is_v4(addr);
	if (!ip_addr_is_unicast(addr) || !prefix_len || prefix_len > (v4 ? 32 : 128) || (v4 && ip_addr_network_end(addr, prefix_len)))
		return -EINVAL;
	if (host_address(h, addr))
		return -EEXIST;
	if (h->n_addrs == HOST_ADDRS_MAX)
		return -E2BIG;
	h->addrs[h->n_addrs++] = (struct host_addr){.addr = *addr, .prefix_len = (uint8_t)prefix_len, .at_us = TIME_NEVER, .defended_us = -1};
	return 0;
}

struct host_addr *host_address(struct host *h, const struct ip_addr *a)
{
	for (unsigned i = 0; i < h->n_addrs; i++)
		if (ip_addr_equal(&h->addrs[i].addr, a))
			return &h->addrs[i];
	return NULL;
}

/* The address whose prefix has `dst`, the longest; NULL: it is not on the link. */
static const struct host_addr *on_link(const struct host *h, const struct ip_addr *dst)
{
	const struct host_addr *best = NULL;
	for (unsigned i = 0; i < h->n_addrs; i++) {
		const struct host_addr *a = &h->addrs[i];
		bool has = a->state != HOST_ADDR_LOST && ip_addr_same_prefix(&a->addr, dst, bits_of(a));
		if (has && (!best || bits_of(a) > bits_of(best)))
			best = a;
	}
	return best;
}

/* For a destination beyond the gateway: one of its family and scope (RFC 6724 §5, rules 2 and 8 in short). */
static const struct host_addr *source_for(const struct host *h, const struct ip_addr *dst)
{
	for (unsigned i = 0; i < h->n_addrs; i++) {
		const struct host_addr *a = &h->addrs[i];
		if (a->state != HOST_ADDR_LOST && ip_addr_is_v4(&a->addr) == ip_addr_is_v4(dst) && ip_addr_is_link_local(&a->addr) == ip_addr_is_link_local(dst))
			return a;
	}
	return NULL;
}

int host_set_gateway(struct host *h, const struct ip_addr *gateway)
{
	if (!ip_addr_is_unicast(gateway) || host_address(h, gateway))
		return -EINVAL;
	if (!on_link(h, gateway) && !ip_addr_is_link_local(gateway))
		return -ENETUNREACH;
	h->gateway[!ip_addr_is_v4(gateway)] = *gateway;
	return 0;
}

int host_route(struct host *h, const struct ip_addr *dst, const struct ip_addr *local, struct ip_addr *src, struct ip_addr *nexthop)
{
	const struct ip_addr *gateway = &h->gateway[!ip_addr_is_v4(dst)];
	if (host_address(h, dst))
		return -EINVAL;
	const struct host_addr *from = on_link(h, dst);
	bool direct = from != NULL;
	if (!direct && ip_addr_is_any(gateway))
		return -ENETUNREACH;
	if (!direct)
		from = source_for(h, dst);
	if (local)
		from = host_address(h, local);
	if (!from)
		return local ? -EADDRNOTAVAIL : -ENETUNREACH;
	if (local && (from->state == HOST_ADDR_LOST || ip_addr_is_v4(local) != ip_addr_is_v4(dst)))
		return -EADDRNOTAVAIL;
	*src = from->addr;
	*nexthop = direct ? *dst : *gateway;
	return 0;
}

/* ---- frames out ---- */

void host_send_arp(struct host *h, uint16_t op, const uint8_t dst_mac[6], const struct ip_addr *sender, const struct ip_addr *target, const uint8_t target_mac[6])
{
	uint8_t frame[ARP_FRAME_BYTES];
	struct arp_packet p = {.op = op};
	memcpy(p.sender_mac, h->mac, 6);
	memcpy(p.target_mac, target_mac, 6);
	if (sender)
		memcpy(p.sender, sender->b + 12, 4);
	memcpy(p.target, target->b + 12, 4);
	arp_build(dst_mac, &p, frame);
	h->out->frame(h->out, frame, sizeof frame, NULL, 0);
}

void host_send_solicitation(struct host *h, const struct ip_addr *src, const struct ip_addr *target, const uint8_t *mac)
{
	uint8_t frame[NDISC_FRAME_BYTES], group[16], group_mac[6];
	ndisc_solicited_group(target->b, group, group_mac);
	struct ndisc_frame f = {.type = NDISC_SOLICITATION,
				.dst_mac = mac ? mac : group_mac,
				.src_mac = h->mac,
				.src = src ? src->b : none.b,
				.dst = mac ? target->b : group,
				.target = target->b,
				.tells_mac = src != NULL};
	h->out->frame(h->out, frame, ndisc_build(&f, frame), NULL, 0);
}

void host_send_advertisement(struct host *h, const struct ip_addr *target, const struct ip_addr *dst, const uint8_t *mac, uint8_t flags)
{
	static const uint8_t all_nodes_mac[6] = {0x33, 0x33, 0, 0, 0, 1};
	uint8_t frame[NDISC_FRAME_BYTES];
	struct ndisc_frame f = {.type = NDISC_ADVERTISEMENT,
				.flags = flags,
				.dst_mac = mac ? mac : all_nodes_mac,
				.src_mac = h->mac,
				.src = target->b,
				.dst = dst ? dst->b : all_nodes.b,
				.target = target->b,
				.tells_mac = true};
	h->out->frame(h->out, frame, ndisc_build(&f, frame), NULL, 0);
}

/* ---- frames in ---- */

static void answer_arp(struct host *h, const struct host_addr *own, const struct arp_packet *p)
{
	struct ip_addr asker = ip_addr_from_v4(p->sender);
	if (h->silent || own->state != HOST_ADDR_OURS)
		return;
	h->counters[HOST_ArpAnswered]++;
	host_send_arp(h, ARP_REPLY, p->sender_mac, &own->addr, &asker, p->sender_mac);
}

/* RFC 826's packet reception, with the conflicts of RFC 5227 §2.1.1 and §2.4 first. */
static void input_arp(struct host *h, int64_t now, const uint8_t *bytes, size_t len)
{
	struct arp_packet p;
	if (arp_parse(bytes, len, &p) < 0) {
		h->counters[HOST_ArpMalformed]++;
		return;
	}
	struct ip_addr sender = ip_addr_from_v4(p.sender), target = ip_addr_from_v4(p.target);
	struct host_addr *own = host_address(h, &target), *theirs = host_address(h, &sender);
	bool probes = ip_addr_is_any(&sender);
	if (memcmp(p.sender_mac, h->mac, 6) == 0) {
		h->counters[HOST_OwnFrame]++;
	} else if (theirs) {
		host_claim_conflict(h, theirs, now, p.sender_mac);
	} else if (probes && own && own->state == HOST_ADDR_PROBING) {
		host_claim_conflict(h, own, now, p.sender_mac);
	} else if (probes && own && p.op == ARP_REQUEST) {
		answer_arp(h, own, &p);
	} else if (!ip_addr_is_unicast(&sender)) {
		h->counters[HOST_ArpMalformed]++;
	} else if (own && p.op == ARP_REQUEST) {
		host_neigh_heard(h, now, &sender, p.sender_mac, NEIGH_CLAIMS, true, on_link(h, &sender) != NULL);
		answer_arp(h, own, &p);
	} else {
		bool answers = own && memcmp(p.target_mac, h->mac, 6) == 0;
		host_neigh_heard(h, now, &sender, p.sender_mac, answers ? NEIGH_ANSWERS : NEIGH_CLAIMS, true, false);
	}
}

static void input_solicitation(struct host *h, int64_t now, const struct ndisc_message *m, const struct ip_addr *src, const uint8_t *src_mac)
{
	struct ip_addr target = ip_addr_from_v6(m->target);
	struct host_addr *own = host_address(h, &target), *theirs = host_address(h, src);
	const uint8_t *mac = m->mac ? m->mac : src_mac;
	bool probes = ip_addr_is_any(src);
	if (theirs) { /* it asks as us */
		host_claim_conflict(h, theirs, now, mac);
		return;
	}
	if (!own)
		return;
	if (own->state == HOST_ADDR_PROBING) {
		if (probes) /* RFC 4862 §5.4.3: another node probes for it, too; one that asks for it is none of our business yet */
			host_claim_conflict(h, own, now, mac);
		return;
	}
	if (own->state != HOST_ADDR_OURS || (!probes && !ip_addr_is_unicast(src)))
		return;
	if (!probes && m->mac) /* RFC 4861 §7.2.3 */
		host_neigh_heard(h, now, src, m->mac, NEIGH_CLAIMS, true, true);
	if (h->silent)
		return;
	h->counters[HOST_NdAnswered]++;
	if (probes)
		host_send_advertisement(h, &target, NULL, NULL, NDISC_OVERRIDE);
	else
		host_send_advertisement(h, &target, src, mac, NDISC_SOLICITED | NDISC_OVERRIDE);
}

static void input_advertisement(struct host *h, int64_t now, const struct ndisc_message *m, const uint8_t *src_mac)
{
	struct ip_addr target = ip_addr_from_v6(m->target);
	struct host_addr *own = host_address(h, &target);
	if (own)
		host_claim_conflict(h, own, now, m->mac ? m->mac : src_mac);
	else
		host_neigh_heard(h, now, &target, m->mac, m->flags & NDISC_SOLICITED ? NEIGH_ANSWERS : NEIGH_CLAIMS, m->flags & NDISC_OVERRIDE, false);
}

/* True: it was one. `ip` is the IPv6 header. */
static bool input_nd(struct host *h, int64_t now, const uint8_t *ip, size_t len, const uint8_t *src_mac)
{
	struct ipv6_header in;
	struct ndisc_message m;
	if (ipv6_parse(ip, len, &in) != IPV6_OK || in.next_header != IP_PROTO_ICMPV6 || in.payload_len > len - IPV6_HDR_BYTES)
		return false;
	int err = ndisc_parse(ip + IPV6_HDR_BYTES, in.payload_len, in.src, in.dst, in.hop_limit, &m);
	if (err == -ENOMSG)
		return false;
	struct ip_addr src = ip_addr_from_v6(in.src), dst = ip_addr_from_v6(in.dst);
	if (err < 0)
		h->counters[HOST_NdMalformed]++;
	else if (m.mac && memcmp(m.mac, h->mac, 6) == 0)
		h->counters[HOST_OwnFrame]++;
	else if (dst.b[0] != 0xff && !host_address(h, &dst))
		h->counters[HOST_OtherFrame]++;
	else if (m.type == NDISC_SOLICITATION)
		input_solicitation(h, now, &m, &src, src_mac);
	else
		input_advertisement(h, now, &m, src_mac);
	return true;
}

/* An IP packet: is it the engine's? `whole`: the frame, `l2` bytes of it before the IP header. */
static bool input_ip(struct host *h, int64_t now, const uint8_t *whole, size_t len, size_t l2, bool v6, bool to_us)
{
	const uint8_t *ip = whole + l2;
	if (len - l2 < (v6 ? IPV6_HDR_BYTES : IPV4_HDR_MIN)) {
		h->counters[HOST_OtherFrame]++;
		return true;
	}
	if (v6 && l2 && (input_nd(h, now, ip, len - l2, whole + ETH_MAC_BYTES) || host_mld_input(h, now, ip, len - l2)))
		return true;
	struct ip_addr dst = v6 ? ip_addr_from_v6(ip + 24) : ip_addr_from_v4(ip + 16);
	const struct host_addr *own = to_us ? host_address(h, &dst) : NULL;
	if (!own || own->state != HOST_ADDR_OURS) {
		h->counters[HOST_OtherFrame]++;
		return true;
	}
	return v6 ? host_echo_v6(h, now, whole, len) : host_echo_v4(h, now, whole, len);
}

bool host_input(struct host *h, int64_t now, const uint8_t *frame, size_t len)
{
	struct eth_header eth;
	if (!h->has_eth) {
		bool v6 = len && frame[0] >> 4 == 6;
		return input_ip(h, now, frame, len, 0, v6, true);
	}
	if (eth_parse(frame, len, &eth) < 0) {
		h->counters[HOST_OtherFrame]++;
		return true;
	}
	if (memcmp(eth.src, h->mac, 6) == 0) {
		h->counters[HOST_OwnFrame]++;
		return true;
	}
	bool to_us = memcmp(eth.dst, h->mac, 6) == 0, to_group = eth.dst[0] & 1;
	if (!to_us && !to_group) {
		h->counters[HOST_OtherFrame]++;
		return true;
	}
	if (eth.ethertype == ETHERTYPE_IPV4 || eth.ethertype == ETHERTYPE_IPV6)
		return input_ip(h, now, frame, len, ETH_HDR_BYTES, eth.ethertype == ETHERTYPE_IPV6, to_us);
	if (eth.ethertype == ETHERTYPE_ARP)
		input_arp(h, now, frame + ETH_HDR_BYTES, len - ETH_HDR_BYTES);
	else
		h->counters[HOST_OtherFrame]++;
	return true;
}

/* ---- time ---- */

void host_tick(struct host *h, int64_t now)
{
	if (now < h->next_us)
		return;
	h->next_us = TIME_NEVER;
	host_mld_tick(h, now); /* before the probes: their answers must find us */
	for (unsigned i = 0; i < h->n_addrs; i++) {
		host_claim_tick(h, &h->addrs[i], now);
		host_due(h, h->addrs[i].at_us);
	}
	for (unsigned i = 0; i < HOST_NEIGH_SETS * HOST_NEIGH_WAYS; i++)
		host_neigh_tick(h, &h->neighs[i], now);
}

unsigned host_take_events(struct host *h)
{
	unsigned events = h->events;
	h->events = 0;
	return events;
}
