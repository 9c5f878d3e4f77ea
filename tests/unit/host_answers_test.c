/* The host part of own-address mode: multicast groups, answers, frames that lie. */
#include "host_world.h"

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
	Suite *s = suite_create("host answers");
	TCase *t = tcase_create("groups");
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
	return suite_main(s);
}
