/* The host part of own-address mode: claims and their conflicts, the neighbour cache, answers, frames that lie. Time is the test's. */
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
static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 1}, peer_mac[6] = {2, 0, 0, 0, 0, 2}, third_mac[6] = {2, 0, 0, 0, 0, 3}, zero_mac[6];

static struct ip_addr addr(const char *text)
{
	struct ip_addr a;
	ck_assert_int_eq(ip_addr_parse(text, &a), 0);
	return a;
}

static void keep(struct host_out *o, const uint8_t *hdr, size_t hdr_len, const uint8_t *payload, size_t payload_len)
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

static void world_init(struct world *x, const uint8_t mac[6], uint8_t secret)
{
	uint8_t key[16];
	memset(x, 0, sizeof *x);
	memset(key, secret, sizeof key);
	x->out.frame = keep;
	host_init(&x->host, &x->out, &host_times_rfc, mac, true, key);
}

static void setup(void)
{
	now = START_US;
	world_init(&w, our_mac, 1);
	world_init(&other, third_mac, 2);
}

static void add(struct world *x, const char *text, unsigned prefix)
{
	struct ip_addr a = addr(text);
	ck_assert_int_eq(host_add_address(&x->host, &a, prefix), 0);
}

/* Time goes on from deadline to deadline. */
static void run(struct world *x, int64_t until)
{
	for (int steps = 0; host_deadline(&x->host) <= until; steps++) {
		ck_assert_int_lt(steps, 200); /* a due deadline makes progress */
		now = max_time(now, host_deadline(&x->host));
		host_tick(&x->host, now);
	}
	now = until;
}

static bool input(struct world *x, const uint8_t *frame, size_t len)
{
	bool taken;
	WITH_EXACT_COPY(p, frame, len, { taken = host_input(&x->host, now, p, len); });
	return taken;
}

/* 10.0.0.1 and fd00::1 are ours; what was sent for them is forgotten. */
static void ready(void)
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

static void arp_from(struct world *x, uint16_t op, const uint8_t mac[6], const char *sender, const char *target, const uint8_t dst[6], const uint8_t target_mac[6])
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

static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static void arp_request(const char *sender, const char *target)
{
	arp_from(&w, ARP_REQUEST, peer_mac, sender, target, everybody, zero_mac);
}

static void arp_reply(const uint8_t mac[6], const char *sender)
{
	arp_from(&w, ARP_REPLY, mac, sender, "10.0.0.1", our_mac, our_mac);
}

static struct arp_packet sent_arp(unsigned i, const uint8_t dst[6])
{
	struct arp_packet p;
	ck_assert_uint_lt(i, w.n);
	ck_assert_uint_eq(w.sent[i].len, ARP_FRAME_BYTES);
	ck_assert_mem_eq(w.sent[i].bytes, dst, 6);
	ck_assert_mem_eq(w.sent[i].bytes + 6, our_mac, 6);
	ck_assert_int_eq(arp_parse(w.sent[i].bytes + 14, w.sent[i].len - 14, &p), 0);
	return p;
}

static size_t nd_frame(uint8_t out[NDISC_FRAME_BYTES], uint8_t type, uint8_t flags, const uint8_t mac[6], const char *src, const char *dst, const char *target,
		       bool tells)
{
	struct ip_addr s = addr(src), d = addr(dst), t = addr(target);
	uint8_t group[16], group_mac[6];
	ndisc_solicited_group(t.b, group, group_mac);
	struct ndisc_frame f = {.type = type, .flags = flags, .dst_mac = d.b[0] == 0xff ? group_mac : our_mac, .src_mac = mac,
				.src = s.b, .dst = d.b, .target = t.b, .tells_mac = tells};
	return ndisc_build(&f, out);
}

static void nd_from(struct world *x, uint8_t type, uint8_t flags, const uint8_t mac[6], const char *src, const char *dst, const char *target, bool tells)
{
	uint8_t frame[NDISC_FRAME_BYTES];
	size_t n = nd_frame(frame, type, flags, mac, src, dst, target, tells);
	ck_assert(input(x, frame, n));
}

static struct ndisc_message sent_nd(unsigned i, struct ip_addr *src, struct ip_addr *dst)
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

static int look_up(const char *nexthop, uint8_t mac[6])
{
	struct ip_addr n = addr(nexthop), s = addr(ip_addr_is_v4(&n) ? "10.0.0.1" : "fd00::1");
	return host_neighbour(&w.host, now, &n, &s, mac);
}

/* ---- claims ---- */

START_TEST(probes_then_announces)
{
	add(&w, "10.0.0.1", 24);
	host_lead(&w.host, now);
	run(&w, START_US + 20 * USEC_PER_SEC);
	ck_assert_uint_eq(w.n, 5); /* RFC 5227 §1.1: PROBE_NUM 3, ANNOUNCE_NUM 2 */
	for (unsigned i = 0; i < 5; i++) {
		struct arp_packet p = sent_arp(i, everybody);
		struct ip_addr sender = ip_addr_from_v4(p.sender), target = ip_addr_from_v4(p.target), ours = addr("10.0.0.1");
		ck_assert_int_eq(p.op, ARP_REQUEST);
		ck_assert(i < 3 ? ip_addr_is_any(&sender) : ip_addr_equal(&sender, &ours));
		ck_assert(ip_addr_equal(&target, &ours));
	}
}
END_TEST

/* The address may not be used before the last wait is over: at least 2·PROBE_MIN + ANNOUNCE_WAIT, at most PROBE_WAIT + 2·PROBE_MAX + ANNOUNCE_WAIT. */
START_TEST(probing_takes_its_time)
{
	uint8_t mac[6];
	add(&w, "10.0.0.1", 24);
	host_lead(&w.host, now);
	run(&w, START_US + 4 * USEC_PER_SEC - 1);
	ck_assert_int_eq(look_up("10.0.0.2", mac), -EAGAIN);
	ck_assert_uint_eq(host_take_events(&w.host), 0);
	run(&w, START_US + 7 * USEC_PER_SEC);
	ck_assert_uint_eq(host_take_events(&w.host), HOST_EVENT_ADDRESSES);
	ck_assert_int_eq(w.host.addrs[0].state, HOST_ADDR_OURS);
}
END_TEST

/* RFC 5227 §2.1.1: any ARP packet whose sender is the address, and another host's probe for it. */
START_TEST(conflict_while_probing)
{
	for (int probe = 0; probe < 2; probe++) {
		setup();
		add(&w, "10.0.0.1", 24);
		host_lead(&w.host, now);
		run(&w, now + USEC_PER_SEC);
		if (probe)
			arp_request("0.0.0.0", "10.0.0.1");
		else
			arp_from(&w, ARP_REPLY, peer_mac, "10.0.0.1", "0.0.0.0", our_mac, our_mac);
		ck_assert_int_eq(w.host.addrs[0].state, HOST_ADDR_LOST);
		ck_assert_mem_eq(w.host.addrs[0].rival, peer_mac, 6);
		ck_assert_uint_eq(host_take_events(&w.host), HOST_EVENT_ADDRESSES);
		w.n = 0;
		run(&w, now + 60 * USEC_PER_SEC);
		arp_request("10.0.0.2", "10.0.0.1");
		ck_assert_uint_eq(w.n, 0); /* never used, never answered for */
		uint8_t mac[6];
		ck_assert_int_eq(look_up("10.0.0.2", mac), -EADDRNOTAVAIL);
	}
}
END_TEST

START_TEST(defends_once_then_gives_up)
{
	ready();
	arp_from(&w, ARP_REQUEST, peer_mac, "10.0.0.1", "10.0.0.1", everybody, zero_mac);
	ck_assert_uint_eq(host_take_events(&w.host), HOST_EVENT_CONTESTED);
	ck_assert_uint_eq(w.n, 1);
	struct arp_packet p = sent_arp(0, everybody);
	ck_assert_mem_eq(p.sender, p.target, 4);
	now += 11 * USEC_PER_SEC; /* beyond DEFEND_INTERVAL: defended again */
	arp_from(&w, ARP_REQUEST, peer_mac, "10.0.0.1", "10.0.0.1", everybody, zero_mac);
	ck_assert_uint_eq(w.n, 2);
	ck_assert_int_eq(w.host.addrs[0].state, HOST_ADDR_OURS);
	now += 9 * USEC_PER_SEC;
	arp_from(&w, ARP_REQUEST, peer_mac, "10.0.0.1", "10.0.0.1", everybody, zero_mac);
	ck_assert_uint_eq(w.n, 2);
	ck_assert_int_eq(w.host.addrs[0].state, HOST_ADDR_LOST);
	ck_assert_uint_eq(w.host.counters[HOST_Conflicts], 3);
	ck_assert_uint_eq(w.host.counters[HOST_Defended], 2);
}
END_TEST

START_TEST(dad_probes_and_announces)
{
	struct ip_addr src, dst, group = addr("ff02::1:ff00:1"), ours = addr("fd00::1");
	add(&w, "fd00::1", 64);
	host_lead(&w.host, now);
	run(&w, START_US + 20 * USEC_PER_SEC);
	ck_assert_uint_eq(w.n, 3);
	struct ndisc_message m = sent_nd(0, &src, &dst);
	ck_assert_int_eq(m.type, NDISC_SOLICITATION);
	ck_assert_ptr_null(m.mac); /* RFC 4861 §4.3: no option with the unspecified source */
	ck_assert(ip_addr_is_any(&src) && ip_addr_equal(&dst, &group));
	for (unsigned i = 1; i < 3; i++) {
		m = sent_nd(i, &src, &dst);
		ck_assert_int_eq(m.type, NDISC_ADVERTISEMENT);
		ck_assert_int_eq(m.flags, NDISC_OVERRIDE);
		ck_assert(ip_addr_equal(&src, &ours));
	}
}
END_TEST

/* RFC 4862 §5.4.3, §5.4.4. */
START_TEST(dad_finds_a_duplicate)
{
	for (int probe = 0; probe < 2; probe++) {
		setup();
		add(&w, "fd00::1", 64);
		host_lead(&w.host, now);
		run(&w, now + USEC_PER_SEC);
		nd_from(&w, NDISC_SOLICITATION, 0, peer_mac, "fd00::2", "ff02::1:ff00:1", "fd00::1", true);
		ck_assert_int_eq(w.host.addrs[0].state, HOST_ADDR_PROBING); /* one that asks for it does not have it */
		if (probe)
			nd_from(&w, NDISC_SOLICITATION, 0, peer_mac, "::", "ff02::1:ff00:1", "fd00::1", false);
		else
			nd_from(&w, NDISC_ADVERTISEMENT, NDISC_OVERRIDE, peer_mac, "fd00::1", "ff02::1", "fd00::1", true);
		ck_assert_int_eq(w.host.addrs[0].state, HOST_ADDR_LOST);
	}
}
END_TEST

START_TEST(valid_v6_address_is_kept_and_told)
{
	ready();
	for (int i = 0; i < 5; i++)
		nd_from(&w, NDISC_ADVERTISEMENT, NDISC_OVERRIDE, peer_mac, "fd00::1", "ff02::1", "fd00::1", true);
	ck_assert_int_eq(w.host.addrs[1].state, HOST_ADDR_OURS);
	ck_assert_uint_eq(host_take_events(&w.host), HOST_EVENT_CONTESTED);
	ck_assert_uint_eq(w.n, 1); /* once in DEFEND_INTERVAL */
	nd_from(&w, NDISC_SOLICITATION, 0, peer_mac, "::", "ff02::1:ff00:1", "fd00::1", false);
	struct ip_addr src, dst, all = addr("ff02::1");
	struct ndisc_message m = sent_nd(1, &src, &dst); /* RFC 4861 §7.2.4: to all nodes, not solicited */
	ck_assert_int_eq(m.flags, NDISC_OVERRIDE);
	ck_assert(ip_addr_equal(&dst, &all));
}
END_TEST

/* Two of us begin at once: not both may win. */
START_TEST(two_at_once)
{
	add(&w, "10.0.0.1", 24);
	add(&other, "10.0.0.1", 24);
	host_lead(&w.host, now);
	host_lead(&other.host, now);
	for (int i = 0; i < 100 && now < START_US + 20 * USEC_PER_SEC; i++) {
		struct world *x = host_deadline(&w.host) <= host_deadline(&other.host) ? &w : &other, *y = x == &w ? &other : &w;
		if (host_deadline(&x->host) == TIME_NEVER)
			break;
		now = host_deadline(&x->host);
		host_tick(&x->host, now);
		for (unsigned k = 0; k < x->n; k++)
			input(y, x->sent[k].bytes, x->sent[k].len);
		x->n = 0;
		for (unsigned k = 0; k < y->n; k++)
			input(x, y->sent[k].bytes, y->sent[k].len);
		y->n = 0;
	}
	ck_assert(!(w.host.addrs[0].state == HOST_ADDR_OURS && other.host.addrs[0].state == HOST_ADDR_OURS));
}
END_TEST

/* A process beside the one that claims: it sends nothing, and uses the address when it is told. */
START_TEST(follower_is_silent)
{
	uint8_t mac[6];
	add(&w, "10.0.0.1", 24);
	ck_assert_int_eq(host_deadline(&w.host), TIME_NEVER);
	ck_assert_int_eq(look_up("10.0.0.2", mac), -EAGAIN);
	arp_request("0.0.0.0", "10.0.0.1"); /* the one who claims judges it */
	ck_assert_int_eq(w.host.addrs[0].state, HOST_ADDR_PROBING);
	host_follow(&w.host, 0, HOST_ADDR_OURS);
	ck_assert_uint_eq(host_take_events(&w.host), HOST_EVENT_ADDRESSES);
	arp_request("10.0.0.2", "10.0.0.1");
	ck_assert_uint_eq(w.n, 0);
	ck_assert_int_eq(look_up("10.0.0.2", mac), 0); /* but it has learned */
	host_lead(&w.host, now); /* the other one is gone: the address goes on, announced, not probed */
	run(&w, now + 10 * USEC_PER_SEC);
	ck_assert_uint_ge(w.n, 2);
	struct arp_packet p = sent_arp(0, everybody);
	ck_assert_mem_eq(p.sender, p.target, 4);
	w.n = 0;
	arp_request("10.0.0.2", "10.0.0.1");
	ck_assert_uint_eq(w.n, 1);
}
END_TEST

/* A link without MACs: nothing is asked, announced or resolved (found by fuzzing: who took over announced). */
START_TEST(without_macs)
{
	uint8_t key[16] = {3}, mac[6];
	host_init(&w.host, &w.out, &host_times_rfc, our_mac, false, key);
	add(&w, "10.0.0.1", 24);
	host_follow(&w.host, 0, HOST_ADDR_OURS);
	host_lead(&w.host, now);
	run(&w, now + 10 * USEC_PER_SEC);
	ck_assert_int_eq(look_up("10.0.0.2", mac), 0);
	ck_assert_mem_eq(mac, zero_mac, 6);
	ck_assert_uint_eq(w.n, 0);
}
END_TEST

/* ---- addresses and routes ---- */

START_TEST(addresses_that_no_host_has)
{
	static const struct {
		const char *text;
		unsigned prefix;
	} bad[] = {{"0.0.0.0", 24}, {"127.0.0.1", 8}, {"224.0.0.1", 24}, {"255.255.255.255", 32}, {"10.0.0.0", 24}, {"10.0.0.255", 24}, {"10.0.0.1", 0}, {"10.0.0.1", 33},
		   {"::", 64}, {"::1", 128}, {"ff02::1", 64}, {"fd00::1", 129}};
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct ip_addr a = addr(bad[i].text);
		ck_assert_int_eq(host_add_address(&w.host, &a, bad[i].prefix), -EINVAL);
	}
	add(&w, "10.0.0.0", 31);
	add(&w, "10.0.1.1", 32);
	struct ip_addr twice = addr("10.0.1.1");
	ck_assert_int_eq(host_add_address(&w.host, &twice, 24), -EEXIST);
	for (unsigned i = 2; i < HOST_ADDRS_MAX; i++) {
		char text[24];
		snprintf(text, sizeof text, "fd00::%x", i + 1);
		add(&w, text, 64);
	}
	struct ip_addr more = addr("fd00::99");
	ck_assert_int_eq(host_add_address(&w.host, &more, 64), -E2BIG);
}
END_TEST

static void ck_route(const char *dst, const char *local, int result, const char *src, const char *nexthop)
{
	struct ip_addr d = addr(dst), l, s, n;
	if (local)
		l = addr(local);
	ck_assert_int_eq(host_route(&w.host, &d, local ? &l : NULL, &s, &n), result);
	if (result)
		return;
	struct ip_addr want_s = addr(src), want_n = addr(nexthop);
	ck_assert(ip_addr_equal(&s, &want_s));
	ck_assert(ip_addr_equal(&n, &want_n));
}

START_TEST(routes)
{
	struct ip_addr gw = addr("10.0.0.254"), gw6 = addr("fe80::1"), far = addr("10.1.0.1"), self = addr("10.0.0.1");
	add(&w, "10.0.0.1", 24);
	add(&w, "10.0.0.129", 28);
	add(&w, "fe80::9", 64);
	add(&w, "fd00::1", 63);
	ck_route("10.0.0.2", NULL, 0, "10.0.0.1", "10.0.0.2");
	ck_route("10.0.0.130", NULL, 0, "10.0.0.129", "10.0.0.130"); /* the longest prefix */
	ck_route("10.0.0.130", "10.0.0.1", 0, "10.0.0.1", "10.0.0.130");
	ck_route("10.0.0.130", "10.0.0.3", -EADDRNOTAVAIL, NULL, NULL);
	ck_route("10.0.0.130", "fd00::1", -EADDRNOTAVAIL, NULL, NULL);
	ck_route("192.0.2.1", NULL, -ENETUNREACH, NULL, NULL);
	ck_route("10.0.0.129", NULL, -EINVAL, NULL, NULL);
	ck_route("fd00:0:0:1::5", NULL, 0, "fd00::1", "fd00:0:0:1::5");
	ck_route("fd00:0:0:2::5", NULL, -ENETUNREACH, NULL, NULL);
	ck_assert_int_eq(host_set_gateway(&w.host, &far), -ENETUNREACH);
	ck_assert_int_eq(host_set_gateway(&w.host, &self), -EINVAL);
	ck_assert_int_eq(host_set_gateway(&w.host, &gw), 0);
	ck_assert_int_eq(host_set_gateway(&w.host, &gw6), 0);
	ck_route("192.0.2.1", NULL, 0, "10.0.0.1", "10.0.0.254");
	ck_route("2001:db8::1", NULL, 0, "fd00::1", "fe80::1"); /* not the link-local one */
	ck_route("fe80::5", NULL, 0, "fe80::9", "fe80::5");
}
END_TEST

/* ---- the neighbour cache ---- */

START_TEST(resolves_v4)
{
	uint8_t mac[6];
	ready();
	ck_assert_int_eq(look_up("10.0.0.2", mac), -EAGAIN);
	ck_assert_int_eq(look_up("10.0.0.2", mac), -EAGAIN);
	ck_assert_uint_eq(w.n, 1);
	struct arp_packet p = sent_arp(0, everybody);
	ck_assert_mem_eq(p.sender, addr("10.0.0.1").b + 12, 4);
	ck_assert_mem_eq(p.target, addr("10.0.0.2").b + 12, 4);
	arp_reply(peer_mac, "10.0.0.2");
	ck_assert_uint_eq(host_take_events(&w.host), HOST_EVENT_NEIGHBOURS);
	ck_assert_int_eq(look_up("10.0.0.2", mac), 0);
	ck_assert_mem_eq(mac, peer_mac, 6);
	run(&w, now + 10 * USEC_PER_SEC);
	ck_assert_uint_eq(w.n, 1); /* nobody is asked who was heard lately */
}
END_TEST

START_TEST(resolves_v6)
{
	uint8_t mac[6];
	struct ip_addr src, dst, ours = addr("fd00::1"), group = addr("ff02::1:ff00:2");
	ready();
	ck_assert_int_eq(look_up("fd00::2", mac), -EAGAIN);
	struct ndisc_message m = sent_nd(0, &src, &dst);
	ck_assert_int_eq(m.type, NDISC_SOLICITATION);
	ck_assert_mem_eq(m.mac, our_mac, 6);
	ck_assert(ip_addr_equal(&src, &ours) && ip_addr_equal(&dst, &group));
	nd_from(&w, NDISC_ADVERTISEMENT, NDISC_SOLICITED, peer_mac, "fd00::2", "fd00::1", "fd00::2", false);
	ck_assert_int_eq(look_up("fd00::2", mac), -EAGAIN); /* RFC 4861 §7.2.5: it does not say where it is */
	nd_from(&w, NDISC_ADVERTISEMENT, NDISC_SOLICITED | NDISC_OVERRIDE, peer_mac, "fd00::2", "fd00::1", "fd00::2", true);
	ck_assert_int_eq(look_up("fd00::2", mac), 0);
	ck_assert_mem_eq(mac, peer_mac, 6);
}
END_TEST

/* Three questions a second apart, then EHOSTUNREACH for a second, then anew. */
START_TEST(nobody_answers)
{
	uint8_t mac[6];
	ready();
	int64_t t0 = now;
	ck_assert_int_eq(look_up("10.0.0.2", mac), -EAGAIN);
	run(&w, t0 + 3 * USEC_PER_SEC - 1);
	ck_assert_uint_eq(w.n, 3);
	ck_assert_int_eq(look_up("10.0.0.2", mac), -EAGAIN);
	run(&w, t0 + 3 * USEC_PER_SEC);
	ck_assert_uint_eq(host_take_events(&w.host), HOST_EVENT_NEIGHBOURS);
	ck_assert_int_eq(look_up("10.0.0.2", mac), -EHOSTUNREACH);
	ck_assert_uint_eq(w.n, 3);
	run(&w, t0 + 4 * USEC_PER_SEC);
	ck_assert_int_eq(look_up("10.0.0.2", mac), -EAGAIN);
	ck_assert_uint_eq(w.n, 4);
	arp_reply(peer_mac, "10.0.0.2"); /* late is not never */
	ck_assert_int_eq(look_up("10.0.0.2", mac), 0);
}
END_TEST

static struct neigh *entry(const char *text)
{
	struct ip_addr a = addr(text);
	for (unsigned i = 0; i < HOST_NEIGH_SETS * HOST_NEIGH_WAYS; i++)
		if (w.host.neighs[i].state != NEIGH_NONE && ip_addr_equal(&w.host.neighs[i].addr, &a))
			return &w.host.neighs[i];
	return NULL;
}

static enum neigh_state state_of(const char *text)
{
	struct neigh *n = entry(text);
	return n ? n->state : NEIGH_NONE;
}

/* RFC 4861 §7.3.2: REACHABLE, STALE, DELAY, PROBE, gone; and back by an answer. */
START_TEST(ages_and_is_asked_alone)
{
	uint8_t mac[6];
	ready();
	look_up("10.0.0.2", mac);
	arp_reply(peer_mac, "10.0.0.2");
	ck_assert_int_eq(state_of("10.0.0.2"), NEIGH_REACHABLE);
	now += 45 * USEC_PER_SEC + 1; /* the most that it can be */
	w.n = 0;
	ck_assert_int_eq(look_up("10.0.0.2", mac), 0);
	ck_assert_int_eq(state_of("10.0.0.2"), NEIGH_DELAY);
	run(&w, now + 5 * USEC_PER_SEC);
	ck_assert_int_eq(state_of("10.0.0.2"), NEIGH_PROBE);
	ck_assert_uint_eq(w.n, 1);
	sent_arp(0, peer_mac);
	ck_assert_int_eq(look_up("10.0.0.2", mac), 0); /* used meanwhile */
	arp_reply(peer_mac, "10.0.0.2");
	ck_assert_int_eq(state_of("10.0.0.2"), NEIGH_REACHABLE);
	now += 45 * USEC_PER_SEC + 1;
	look_up("10.0.0.2", mac);
	host_take_events(&w.host);
	run(&w, now + 8 * USEC_PER_SEC);
	ck_assert_uint_eq(w.n, 4);
	ck_assert_int_eq(state_of("10.0.0.2"), NEIGH_FAILED);
	ck_assert_uint_eq(host_take_events(&w.host), HOST_EVENT_NEIGHBOURS);
	ck_assert_int_eq(look_up("10.0.0.2", mac), -EAGAIN); /* all are asked, at once */
	sent_arp(4, everybody);
}
END_TEST

/* A router of two takes over: its gratuitous ARP moves the entry; it makes none. RFC 4861: without the override flag a known one is not moved. */
START_TEST(moves)
{
	uint8_t mac[6];
	ready();
	arp_from(&w, ARP_REQUEST, peer_mac, "10.0.0.9", "10.0.0.9", everybody, zero_mac);
	ck_assert_ptr_null(entry("10.0.0.9"));
	look_up("10.0.0.2", mac);
	arp_reply(peer_mac, "10.0.0.2");
	host_take_events(&w.host);
	arp_from(&w, ARP_REQUEST, third_mac, "10.0.0.2", "10.0.0.2", everybody, zero_mac);
	ck_assert_uint_eq(host_take_events(&w.host), HOST_EVENT_NEIGHBOURS);
	ck_assert_int_eq(look_up("10.0.0.2", mac), 0);
	ck_assert_mem_eq(mac, third_mac, 6);
	look_up("fd00::2", mac);
	nd_from(&w, NDISC_ADVERTISEMENT, NDISC_SOLICITED | NDISC_OVERRIDE, peer_mac, "fd00::2", "fd00::1", "fd00::2", true);
	nd_from(&w, NDISC_ADVERTISEMENT, 0, third_mac, "fd00::2", "ff02::1", "fd00::2", true);
	ck_assert_int_eq(state_of("fd00::2"), NEIGH_STALE);
	ck_assert_int_eq(look_up("fd00::2", mac), 0);
	ck_assert_mem_eq(mac, peer_mac, 6);
	nd_from(&w, NDISC_ADVERTISEMENT, NDISC_OVERRIDE, third_mac, "fd00::2", "ff02::1", "fd00::2", true);
	ck_assert_int_eq(look_up("fd00::2", mac), 0);
	ck_assert_mem_eq(mac, third_mac, 6);
}
END_TEST

/* However many talk to us, those that we ask for stay. */
START_TEST(strangers_push_nobody_out)
{
	uint8_t mac[6];
	char text[24];
	add(&w, "10.0.0.1", 8);
	host_lead(&w.host, now);
	run(&w, now + 20 * USEC_PER_SEC);
	w.n = 0;
	look_up("10.0.0.2", mac);
	arp_reply(peer_mac, "10.0.0.2");
	for (unsigned i = 0; i < 20000; i++) {
		w.n = 0;
		snprintf(text, sizeof text, "10.1.%u.%u", i / 250, i % 250 + 1);
		arp_request(text, "10.0.0.1");
	}
	ck_assert_uint_gt(w.host.counters[HOST_TableFull], 10000);
	ck_assert_int_eq(look_up("10.0.0.2", mac), 0);
	/* … and there is room for a new one that we ask for. */
	w.n = 0;
	ck_assert_int_eq(look_up("10.0.0.3", mac), -EAGAIN);
	arp_reply(peer_mac, "10.0.0.3");
	ck_assert_int_eq(look_up("10.0.0.3", mac), 0);
}
END_TEST

/* Found by fuzzing: who was asked for from an address went on being asked when it was lost. */
START_TEST(nobody_asks_from_a_lost_address)
{
	uint8_t mac[6];
	ready();
	look_up("10.0.0.2", mac);
	ck_assert_uint_eq(w.n, 1);
	for (int i = 0; i < 2; i++)
		arp_from(&w, ARP_REQUEST, third_mac, "10.0.0.1", "10.0.0.1", everybody, zero_mac);
	ck_assert_int_eq(w.host.addrs[0].state, HOST_ADDR_LOST);
	w.n = 0;
	run(&w, now + 10 * USEC_PER_SEC);
	ck_assert_uint_eq(w.n, 0);
}
END_TEST

/* A program that connects to everybody: the table is bounded, and the timers of those that had to go with it. */
START_TEST(scan_is_bounded)
{
	uint8_t mac[6];
	char text[24];
	add(&w, "10.0.0.1", 8);
	host_lead(&w.host, now);
	run(&w, now + 20 * USEC_PER_SEC);
	for (unsigned i = 0; i < 5000; i++) {
		w.n = 0;
		now += 10;
		snprintf(text, sizeof text, "10.2.%u.%u", i / 250, i % 250 + 1);
		ck_assert_int_eq(look_up(text, mac), -EAGAIN);
	}
	unsigned used = 0, waiting = 0;
	for (unsigned i = 0; i < HOST_NEIGH_SETS * HOST_NEIGH_WAYS; i++) {
		used += w.host.neighs[i].state != NEIGH_NONE;
		waiting += w.host.neighs[i].state == NEIGH_INCOMPLETE;
	}
	ck_assert_uint_eq(used, HOST_NEIGH_SETS * HOST_NEIGH_WAYS);
	ck_assert_uint_eq(waiting, used);
}
END_TEST

/* ---- multicast groups ---- */

/* The report that was sent last: checked as a router would, its records compared with `groups`. */
static void ck_report(uint8_t type, uint8_t record, const char *src, unsigned n, const char *const *groups)
{
	struct ipv6_header h;
	struct ipv6_upper upper;
	struct icmp_message m;
	const uint8_t *ip = w.report.bytes + 14;
	ck_assert_int_eq(ipv6_parse(ip, w.report.len - 14, &h), IPV6_OK);
	ck_assert_uint_eq(h.payload_len, w.report.len - 54);
	ck_assert_int_eq(ipv6_walk(ip + 40, h.payload_len, h.next_header, &upper), IPV6_OK);
	ck_assert_int_eq(upper.protocol, IP_PROTO_ICMPV6);
	ck_assert_mem_eq(ip + 42, "\5\2\0\0", 4); /* RFC 2711: or no router looks */
	ck_assert_int_eq(h.hop_limit, 1);
	ck_assert_mem_eq(h.src, addr(src).b, 16);
	const uint8_t *icmp = ip + 40 + upper.offset;
	ck_assert_int_eq(icmp_parse(icmp, h.payload_len - upper.offset, true, h.src, h.dst, &m), ICMP_OK);
	ck_assert_int_eq(m.type, type);
	ck_assert_mem_eq(w.report.bytes + 2, h.dst + 12, 4);
	if (type == MLD_REPORT_V1) {
		ck_assert_mem_eq(icmp + 8, h.dst, 16);
		return;
	}
	ck_assert_uint_eq(m.word & 0xffff, n);
	for (unsigned i = 0; i < n; i++) {
		ck_assert_int_eq(icmp[8 + 20 * i], record);
		ck_assert_mem_eq(icmp + 12 + 20 * i, addr(groups[i]).b, 16);
	}
}

START_TEST(groups_are_reported_before_the_probes)
{
	static const char *const groups[] = {"ff02::1:ff00:1", "ff02::1:ff00:2"};
	add(&w, "fd00::1", 64);
	add(&w, "10.0.0.1", 24);
	add(&w, "fd00::2", 64);
	host_lead(&w.host, now);
	now = host_deadline(&w.host);
	host_tick(&w.host, now);
	ck_assert_uint_eq(w.reports, 1);
	ck_report(MLD_REPORT_V2, MLD_TO_EXCLUDE, "::", 2, groups);
	run(&w, START_US + 20 * USEC_PER_SEC);
	ck_assert_uint_eq(w.reports, 2);
}
END_TEST

/* A query of `len` bytes of ICMPv6. */
static size_t query(uint8_t *f, const char *src, const char *group, uint16_t delay, size_t len)
{
	struct ip_addr s = addr(src), d = addr("ff02::1"), g = addr(group);
	uint8_t *icmp = f + 14 + 40 + 8;
	memset(f, 0, 14 + 40 + 8 + len);
	eth_build((const uint8_t[]){0x33, 0x33, 0, 0, 0, 1}, peer_mac, ETHERTYPE_IPV6, f);
	ipv6_build(&(struct ipv6_header){.src = s.b, .dst = d.b, .hop_limit = 1, .next_header = 0, .payload_len = 8 + len}, f + 14);
	memcpy(f + 54, "\x3a\0\5\2\0\0\1", 8);
	icmp[0] = MLD_QUERY;
	store_be16(icmp + 4, delay);
	memcpy(icmp + 8, g.b, 16);
	checksum_store(icmp + 2, checksum_finish(checksum_add(checksum_pseudo_v6(s.b, d.b, IP_PROTO_ICMPV6, len), icmp, len)));
	return 14 + 40 + 8 + len;
}

START_TEST(queries_are_answered)
{
	static const char *const groups[] = {"ff02::1:ff00:1"};
	uint8_t f[128];
	ready();
	ck_assert(input(&w, f, query(f, "fe80::1", "::", 1000, 28)));
	ck_assert_uint_eq(w.reports, 0);
	int64_t due = host_deadline(&w.host);
	ck_assert_int_le(due, now + USEC_PER_SEC);
	ck_assert(input(&w, f, query(f, "fe80::1", "::", 1, 28))); /* while one waits: it answers both */
	ck_assert_int_eq(host_deadline(&w.host), due);
	run(&w, now + 5 * USEC_PER_SEC);
	ck_assert_uint_eq(w.reports, 1);
	ck_report(MLD_REPORT_V2, MLD_IS_EXCLUDE, "::", 1, groups);
	ck_assert(input(&w, f, query(f, "fe80::1", "ff02::1:ff00:1", 0, 24)));
	run(&w, now + 5 * USEC_PER_SEC);
	ck_assert_uint_eq(w.reports, 2);
	ck_report(MLD_REPORT_V1, 0, "::", 1, groups);
	ck_assert(input(&w, f, query(f, "fe80::1", "ff02::1:ff00:9", 0, 28))); /* of a group that is not ours */
	ck_assert_int_eq(host_deadline(&w.host), TIME_NEVER);
	/* A flood of questions that want an answer at once: ten a second. */
	unsigned before = w.reports;
	for (int i = 0; i < 1000; i++) {
		input(&w, f, query(f, "fe80::1", "::", 0, 28));
		run(&w, now + USEC_PER_MSEC);
	}
	ck_assert_uint_le(w.reports - before, 11);
}
END_TEST

START_TEST(false_queries)
{
	uint8_t f[128];
	ready();
	ck_assert(input(&w, f, query(f, "fd00::2", "::", 0, 28))); /* RFC 3810 §5.1.14: link-local sources only */
	ck_assert(input(&w, f, query(f, "fe80::1", "::", 0, 26)));
	ck_assert(input(&w, f, query(f, "fe80::1", "::", 0, 20)));
	size_t n = query(f, "fe80::1", "::", 0, 28);
	f[14 + 7] = 2; /* it was forwarded */
	ck_assert(input(&w, f, n));
	n = query(f, "fe80::1", "::", 0, 28);
	f[n - 1] ^= 1;
	ck_assert(input(&w, f, n));
	n = query(f, "fe80::1", "::", 0, 28);
	memcpy(f + 56, "\1\4\0\0\0\0", 6); /* no router alert */
	ck_assert(input(&w, f, n));
	ck_assert_uint_eq(w.host.counters[HOST_NdMalformed], 6);
	n = query(f, "fe80::1", "::", 0, 28);
	for (size_t len = 0; len < n; len++)
		input(&w, f, len);
	ck_assert_int_eq(host_deadline(&w.host), TIME_NEVER);
	ck_assert(input(&w, f, n));
	ck_assert_int_ne(host_deadline(&w.host), TIME_NEVER);
}
END_TEST

/* ---- answers ---- */

START_TEST(answers_for_ours_alone)
{
	ready();
	arp_request("10.0.0.2", "10.0.0.1");
	ck_assert_uint_eq(w.n, 1);
	struct arp_packet p = sent_arp(0, peer_mac);
	ck_assert_int_eq(p.op, ARP_REPLY);
	ck_assert_mem_eq(p.sender, addr("10.0.0.1").b + 12, 4);
	ck_assert_mem_eq(p.target, addr("10.0.0.2").b + 12, 4);
	ck_assert_mem_eq(p.target_mac, peer_mac, 6);
	arp_request("10.0.0.2", "10.0.0.3");
	arp_request("224.0.0.1", "10.0.0.1");
	arp_request("127.0.0.1", "10.0.0.1");
	ck_assert_uint_eq(w.n, 1);
	arp_request("0.0.0.0", "10.0.0.1"); /* somebody probes: RFC 5227 §2.1.1 lets us say so */
	ck_assert_uint_eq(w.n, 2);
	nd_from(&w, NDISC_SOLICITATION, 0, peer_mac, "fd00::2", "ff02::1:ff00:1", "fd00::1", true);
	struct ip_addr src, dst, theirs = addr("fd00::2");
	struct ndisc_message m = sent_nd(2, &src, &dst);
	ck_assert_int_eq(m.flags, NDISC_SOLICITED | NDISC_OVERRIDE);
	ck_assert(ip_addr_equal(&dst, &theirs));
	ck_assert_mem_eq(w.sent[2].bytes, peer_mac, 6);
	nd_from(&w, NDISC_SOLICITATION, 0, peer_mac, "fd00::2", "ff02::1:ff00:3", "fd00::3", true);
	ck_assert_uint_eq(w.n, 3);
}
END_TEST

/* An echo request with n bytes; returns the frame's length. */
static size_t echo(uint8_t *f, bool v6, const char *src_text, const char *dst_text, size_t n)
{
	struct ip_addr src = addr(src_text), dst = addr(dst_text);
	size_t l3 = v6 ? IPV6_HDR_BYTES : IPV4_HDR_MIN, len = ICMP_HDR_BYTES + n;
	uint8_t *icmp = f + 14 + l3;
	eth_build(our_mac, peer_mac, v6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4, f);
	if (v6)
		ipv6_build(&(struct ipv6_header){.src = src.b, .dst = dst.b, .hop_limit = 3, .next_header = IP_PROTO_ICMPV6, .payload_len = len}, f + 14);
	else
		ipv4_build(&(struct ipv4_header){.src = src.b + 12, .dst = dst.b + 12, .tos = 0x10, .ttl = 3, .protocol = IP_PROTO_ICMP, .total_len = l3 + len}, f + 14);
	memset(icmp, 0, ICMP_HDR_BYTES);
	icmp[0] = v6 ? 128 : 8;
	memcpy(icmp + 4, "\x12\x34\x00\x07", 4);
	for (size_t i = 0; i < n; i++)
		icmp[8 + i] = i * 7;
	uint64_t sum = v6 ? checksum_pseudo_v6(src.b, dst.b, IP_PROTO_ICMPV6, len) : 0;
	checksum_store(icmp + 2, checksum_finish(checksum_add(sum, icmp, len)));
	return 14 + l3 + len;
}

START_TEST(echoes)
{
	uint8_t f[2048];
	ready();
	for (int v6 = 0; v6 < 2; v6++) {
		size_t l3 = v6 ? 40 : 20, n = echo(f, v6, v6 ? "fd00::2" : "192.0.2.7", v6 ? "fd00::1" : "10.0.0.1", 1001);
		w.n = 0;
		ck_assert(input(&w, f, n));
		ck_assert_uint_eq(w.n, 1);
		const struct sent *s = &w.sent[0];
		struct icmp_message m;
		ck_assert_uint_eq(s->len, n);
		ck_assert_mem_eq(s->bytes, peer_mac, 6);
		const uint8_t *icmp = s->bytes + 14 + l3, *src = s->bytes + 14 + (v6 ? 8 : 12), *dst = src + (v6 ? 16 : 4);
		ck_assert_int_eq(icmp_parse(icmp, s->len - 14 - l3, v6, src, dst, &m), ICMP_OK);
		ck_assert_int_eq(m.type, v6 ? 129 : 0);
		ck_assert_uint_eq(m.word, 0x12340007);
		ck_assert_mem_eq(icmp + 8, f + 14 + l3 + 8, 1001);
		ck_assert_mem_eq(dst, f + 14 + (v6 ? 8 : 12), v6 ? 16 : 4);
		f[n - 1] ^= 1;
		ck_assert(input(&w, f, n));
		ck_assert_uint_eq(w.n, 1);
	}
	ck_assert_uint_eq(w.host.counters[HOST_EchoMalformed], 2);
	size_t n = echo(f, false, "255.255.255.255", "10.0.0.1", 8); /* smurf */
	ck_assert(input(&w, f, n));
	ck_assert_uint_eq(w.n, 1);
}
END_TEST

START_TEST(echoes_are_limited)
{
	uint8_t f[256];
	ready();
	size_t n = echo(f, false, "192.0.2.7", "10.0.0.1", 8);
	unsigned answered = 0;
	for (int i = 0; i < 1000; i++) {
		w.n = 0;
		ck_assert(input(&w, f, n));
		answered += w.n;
	}
	ck_assert_uint_ge(answered, BUDGET_NETWORK_MIN);
	ck_assert_uint_le(answered, 3 * BUDGET_NETWORK_MIN);
	ck_assert_uint_eq(w.host.counters[HOST_EchoLimited], 1000 - answered);
	now += BUDGET_WINDOW_US + 1;
	w.n = 0;
	ck_assert(input(&w, f, n));
	ck_assert_uint_eq(w.n, 1);
}
END_TEST

/* TCP and ICMP errors to ours are the engine's; what is for others, to a group, or of our own is nobody's. */
START_TEST(what_is_the_engines)
{
	uint8_t f[256];
	ready();
	size_t n = echo(f, false, "10.0.0.2", "10.0.0.1", 8);
	f[14 + 9] = 6; /* the header's checksum is none of the host's business here */
	ck_assert(!input(&w, f, n));
	memcpy(f, everybody, 6);
	ck_assert(input(&w, f, n));
	memcpy(f, third_mac, 6);
	ck_assert(input(&w, f, n));
	memcpy(f, our_mac, 6);
	f[14 + 19] = 2;
	ck_assert(input(&w, f, n));
	f[14 + 19] = 1;
	ck_assert(!input(&w, f, n));
	memcpy(f + 6, our_mac, 6);
	ck_assert(input(&w, f, n));
	w.host.addrs[0].state = HOST_ADDR_LOST;
	memcpy(f + 6, peer_mac, 6);
	ck_assert(input(&w, f, n));
}
END_TEST

/* ---- frames that lie ---- */

static void ck_nothing(uint8_t *f, size_t n, uint8_t keep_byte, size_t at)
{
	uint64_t before = w.host.counters[HOST_NdMalformed];
	w.n = 0;
	ck_assert(input(&w, f, n));
	ck_assert_uint_eq(w.n, 0);
	ck_assert_uint_eq(w.host.counters[HOST_NdMalformed], before + 1);
	f[at] = keep_byte;
}

static void fix_nd(uint8_t *f, size_t n)
{
	uint8_t *icmp = f + 54;
	checksum_store(icmp + 2, 0);
	checksum_store(icmp + 2, checksum_finish(checksum_add(checksum_pseudo_v6(f + 22, f + 38, 58, n - 54), icmp, n - 54)));
}

START_TEST(malformed_nd)
{
	uint8_t f[NDISC_FRAME_BYTES];
	ready();
	size_t n = nd_frame(f, NDISC_SOLICITATION, 0, peer_mac, "fd00::2", "ff02::1:ff00:1", "fd00::1", true);
	f[14 + 7] = 254; /* hop limit */
	ck_nothing(f, n, 255, 14 + 7);
	uint8_t sum = f[56];
	f[56] ^= 1;
	ck_nothing(f, n, sum, 56);
	f[55] = 1; /* code */
	fix_nd(f, n);
	ck_nothing(f, n, 0, 55);
	f[79] = 0; /* an option of no length: it would be walked for ever */
	fix_nd(f, n);
	ck_nothing(f, n, 1, 79);
	f[79] = 2; /* longer than the message */
	fix_nd(f, n);
	ck_nothing(f, n, 1, 79);
	f[62] = 0xff; /* a group as the target */
	fix_nd(f, n);
	ck_nothing(f, n, 0xfd, 62);
	fix_nd(f, n);
	w.n = 0;
	ck_assert(input(&w, f, n));
	ck_assert_uint_eq(w.n, 1); /* as it was */
	n = nd_frame(f, NDISC_SOLICITATION, 0, peer_mac, "::", "ff02::1:ff00:1", "fd00::1", true); /* a probe may not tell a MAC */
	ck_nothing(f, n, f[0], 0);
	n = nd_frame(f, NDISC_SOLICITATION, 0, peer_mac, "::", "fd00::1", "fd00::1", false); /* nor go to one host */
	ck_nothing(f, n, f[0], 0);
	n = nd_frame(f, NDISC_ADVERTISEMENT, NDISC_SOLICITED, peer_mac, "fd00::2", "ff02::1", "fd00::2", true); /* nobody asked as everybody */
	ck_nothing(f, n, f[0], 0);
}
END_TEST

START_TEST(malformed_arp)
{
	static const uint8_t at[] = {14, 15, 16, 17, 18, 19, 20, 21, 22};
	uint8_t f[ARP_FRAME_BYTES];
	struct arp_packet p = {.op = ARP_REQUEST};
	ready();
	memcpy(p.sender_mac, peer_mac, 6);
	memcpy(p.sender, addr("10.0.0.2").b + 12, 4);
	memcpy(p.target, addr("10.0.0.1").b + 12, 4);
	arp_build(everybody, &p, f);
	for (unsigned i = 0; i < sizeof at; i++) {
		f[at[i]] ^= 0x41;
		ck_assert(input(&w, f, sizeof f));
		ck_assert_uint_eq(w.host.counters[HOST_ArpMalformed], i + 1);
		f[at[i]] ^= 0x41;
	}
	ck_assert_uint_eq(w.n, 0);
	ck_assert(input(&w, f, sizeof f));
	ck_assert_uint_eq(w.n, 1);
}
END_TEST

/* Every beginning of every frame. Reads beyond it are the sanitizers' to see; no answer may come to a part. */
START_TEST(truncated)
{
	uint8_t f[4][256];
	size_t n[4];
	struct arp_packet p = {.op = ARP_REQUEST};
	ready();
	memcpy(p.sender_mac, peer_mac, 6);
	memcpy(p.sender, addr("10.0.0.2").b + 12, 4);
	memcpy(p.target, addr("10.0.0.1").b + 12, 4);
	arp_build(everybody, &p, f[0]);
	n[0] = ARP_FRAME_BYTES;
	n[1] = nd_frame(f[1], NDISC_SOLICITATION, 0, peer_mac, "fd00::2", "ff02::1:ff00:1", "fd00::1", true);
	n[2] = echo(f[2], false, "10.0.0.2", "10.0.0.1", 20);
	n[3] = echo(f[3], true, "fd00::2", "fd00::1", 20);
	for (unsigned i = 0; i < 4; i++) {
		w.n = 0;
		for (size_t len = 0; len < n[i]; len++)
			input(&w, f[i], len);
		ck_assert_uint_eq(w.n, 0);
		input(&w, f[i], n[i]);
		ck_assert_uint_eq(w.n, 1);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("host");
	TCase *t = tcase_create("claims");
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, probes_then_announces);
	tcase_add_test(t, probing_takes_its_time);
	tcase_add_test(t, conflict_while_probing);
	tcase_add_test(t, defends_once_then_gives_up);
	tcase_add_test(t, dad_probes_and_announces);
	tcase_add_test(t, dad_finds_a_duplicate);
	tcase_add_test(t, valid_v6_address_is_kept_and_told);
	tcase_add_test(t, two_at_once);
	tcase_add_test(t, follower_is_silent);
	tcase_add_test(t, without_macs);
	suite_add_tcase(s, t);
	t = tcase_create("routes");
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, addresses_that_no_host_has);
	tcase_add_test(t, routes);
	suite_add_tcase(s, t);
	t = tcase_create("neighbours");
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, resolves_v4);
	tcase_add_test(t, resolves_v6);
	tcase_add_test(t, nobody_answers);
	tcase_add_test(t, ages_and_is_asked_alone);
	tcase_add_test(t, moves);
	tcase_add_test(t, strangers_push_nobody_out);
	tcase_add_test(t, nobody_asks_from_a_lost_address);
	tcase_add_test(t, scan_is_bounded);
	suite_add_tcase(s, t);
	t = tcase_create("groups");
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, groups_are_reported_before_the_probes);
	tcase_add_test(t, queries_are_answered);
	tcase_add_test(t, false_queries);
	suite_add_tcase(s, t);
	t = tcase_create("answers");
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, answers_for_ours_alone);
	tcase_add_test(t, echoes);
	tcase_add_test(t, echoes_are_limited);
	tcase_add_test(t, what_is_the_engines);
	suite_add_tcase(s, t);
	t = tcase_create("lies");
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, malformed_nd);
	tcase_add_test(t, malformed_arp);
	tcase_add_test(t, truncated);
	suite_add_tcase(s, t);
	return unit_run(s);
}
