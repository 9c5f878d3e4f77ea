/* The host part of own-address mode: claims and their conflicts, routes, the neighbour cache. */
#include "host_world.h"

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

/*
 * The address may not be used before the last wait is over: at least 2·PROBE_MIN + ANNOUNCE_WAIT, at most PROBE_WAIT +
 * 2·PROBE_MAX + ANNOUNCE_WAIT.
 */
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

/*
 * A router of two takes over: its gratuitous ARP moves the entry; it makes none. RFC 4861: without the override flag a
 * known one is not moved.
 */
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
	return suite_main(s);
}
