/*
 * The classifier against the kernel it runs on: real frames over a veth, seen at the packet socket (the engine's
 * side) and as the kernel's answers at the other end.
 *
 * Silence is asserted without waiting: after the frames under test a fence goes the same way (one frame that must reach
 * the tap, one that the kernel must answer by RST), and what was to come has come before it.
 */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <linux/if_tun.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frames.h"
#include "kernel/bpf_asm.h"
#include "kernel/bpf_sys.h"
#include "kernel/classifier_ebpf_internal.h"
#include "kernel/judge.h"
#include "tests/untested.h"

#define WAIT_MS    2000 /* for what must come; on failure only */
#define OURS       80   /* port of ours */
#define CLOSED     81   /* nobody's */
#define FENCE      7    /* of ours, for the fence */
#define FENCE_FROM 60007
#define SEEN_MAX   32

struct seen {
	struct frame frames[SEEN_MAX];
	int n;
};

struct engine {
	int tap;
	struct classifier *c;
	struct seen seen;
};

/* Which backend: everything is said of both. The nftables one lets the tap see TCP that is the kernel's, too. */
static enum classifier_choice choice;

static int peer; /* packet socket on the peer's end */
static bool with_eth = true;
static struct tcp_seen answers[SEEN_MAX]; /* the kernel's TCP to the peer */
static int n_answers;
static uint8_t fence_flags = TCPF_SYN; /* the tap gets it by these */

static struct ip_addr addr(const char *text)
{
	struct ip_addr a;
	ck_assert_int_eq(ip_addr_parse(text, &a), 0);
	return a;
}

static struct flow_key key(const char *l, uint16_t lport, const char *r, uint16_t rport)
{
	return (struct flow_key){
		.laddr = addr(l), .raddr = addr(r), .lport = lport, .rport = rport};
}

static void engine_start(struct engine *e, const char *ifname)
{
	char why[256] = "";
	struct ip_addr ours[] = {addr(OUR_V4), addr(OUR_V4_B), addr(OUR_V6)}, any = addr("::");

	e->tap = packet_open(ifname);
	e->seen.n = 0;
	int ret = classifier_open(&e->c, choice, if_nametoindex(ifname), e->tap, with_eth, why, sizeof why);
	ck_assert_msg(ret == 0, "%d: %s", ret, why);
	ck_assert_str_eq(classifier_backend(e->c), choice == CLASSIFIER_EBPF ? "ebpf-tcx" : "nftables");
	ck_assert_int_eq(classifier_is_exact(e->c), choice == CLASSIFIER_EBPF);
	ck_assert_int_eq(classifier_set_addresses(e->c, ours, 3), 0);
	ck_assert_int_eq(classifier_add_listener(e->c, &any, FENCE), 0);
}

static void engine_stop(struct engine *e)
{
	classifier_close(e->c);
	close(e->tap);
}

static void send_frame(const struct frame *f)
{
	ck_assert_int_eq(write(peer, f->b, f->len), f->len);
}

static void send_spec(const struct spec *s)
{
	struct frame f;
	struct spec copy = *s;
	copy.no_eth |= !with_eth;
	frame_build(&f, &copy);
	send_frame(&f);
}

/* Reads the tap up to the fence. */
static void drain_tap(struct engine *e)
{
	classifier_looked(e->c);
	for (;;) {
		struct frame *f = &e->seen.frames[e->seen.n];
		struct tcp_seen t;
		ck_assert_msg(readable_within(e->tap, WAIT_MS), "the fence did not reach the tap");
		f->len = recv(e->tap, f->b, sizeof f->b, 0);
		ck_assert_int_gt(f->len, 0);
		bool tcp = frame_parse_tcp(f->b, f->len, with_eth, &t);
		if (tcp && t.dport == FENCE && t.sport == FENCE_FROM)
			return;
		if (tcp && t.dport == CLOSED && choice == CLASSIFIER_NFTABLES)
			continue; /* the kernel's fence */
		ck_assert_int_lt(++e->seen.n, SEEN_MAX);
	}
}

/* Reads the kernel's answers up to the one to the fence. */
static void drain_answers(void)
{
	for (;;) {
		uint8_t b[2048];
		struct tcp_seen t;
		ck_assert_msg(readable_within(peer, WAIT_MS), "the kernel did not answer the fence");
		int n = read(peer, b, sizeof b);
		if (!frame_parse_tcp(b, n, with_eth, &t))
			continue; /* neighbour discovery and the like */
		if (t.dport == FENCE_FROM)
			return;
		answers[n_answers] = t;
		ck_assert_int_lt(++n_answers, SEEN_MAX);
	}
}

/* What the kernel answered was not taken from it: an engine with an inexact tap ignores that. */
static void forget_the_kernels(struct engine *e)
{
	int kept = 0;
	for (int i = 0; i < e->seen.n; i++) {
		struct tcp_seen t;
		bool kernels = false;
		if (frame_parse_tcp(e->seen.frames[i].b, e->seen.frames[i].len, with_eth, &t))
			for (int k = 0; k < n_answers && !kernels; k++)
				kernels = answers[k].v6 == t.v6 && answers[k].dport == t.sport && answers[k].sport == t.dport;
		if (!kernels)
			e->seen.frames[kept++] = e->seen.frames[i];
	}
	e->seen.n = kept;
}

/* Everything that was sent has had its effect. `e` may be NULL: the kernel's side only. */
static void settle(struct engine *e)
{
	struct spec tap_fence = {.sport = FENCE_FROM, .dport = FENCE, .flags = fence_flags};
	struct spec kernel_fence = {.sport = FENCE_FROM, .dport = CLOSED, .flags = TCPF_SYN};
	n_answers = 0;
	if (e) {
		e->seen.n = 0;
		send_spec(&tap_fence);
	}
	send_spec(&kernel_fence);
	if (e)
		drain_tap(e);
	drain_answers();
	if (e && choice == CLASSIFIER_NFTABLES)
		forget_the_kernels(e);
}

static void setup(void)
{
	ck_assert_int_eq(net_enter(), 0);
	peer = packet_open("b");
}

/* ---- the table of frames ---- */

struct row {
	const char *name;
	struct spec s;
	int tap;       /* the engine sees it; or EBPF_NO */
	uint8_t reply; /* flags of the kernel's answer, 0: none */
};

#define V6 .src = PEER_V6, .dst = OUR_V6
#define SYN_TO(port) .sport = 40000, .dport = (port), .flags = TCPF_SYN
#define RST (TCPF_RST | TCPF_ACK)

#define EBPF_NO (-1) /* eBPF: not seen; the nftables backend differs */

static const struct row rows[] = {
	{"our port", {SYN_TO(OURS)}, 1, 0},
	{"our port, second address", {.dst = OUR_V4_B, SYN_TO(OURS)}, 1, 0},
	{"closed port", {SYN_TO(CLOSED)}, 0, RST},
	{"other host's MAC", {SYN_TO(OURS), .other_mac = true}, 0, 0},
	{"VLAN", {SYN_TO(OURS), .vlan = 5}, 0, 0},
	{"priority tag", {SYN_TO(OURS), .vlan = 0x8000}, 0, RST},
	{"address of nobody", {.dst = "10.77.0.99", SYN_TO(OURS)}, EBPF_NO /* nftables: seen, and ignored by the engine */, 0},
	{"address not in the set", {.dst = "10.77.0.5", SYN_TO(OURS)}, 0, RST},
	{"IPv4 options", {SYN_TO(OURS), .ip_options = 8}, 1, 0},
	{"most IPv4 options", {SYN_TO(OURS), .ip_options = 40}, 1, 0},
	{"UDP", {SYN_TO(OURS), .proto = IPPROTO_UDP}, 0, 0},
	{"first fragment", {SYN_TO(OURS), .frag = 0x2000, .payload = "12345678"}, 1, 0},
	{"later fragment", {SYN_TO(OURS), .frag = 0x0003}, 1, 0},
	{"later fragment to another address", {.dst = "10.77.0.5", SYN_TO(OURS), .frag = 3}, 0, 0},
	{"later fragment of UDP", {SYN_TO(OURS), .frag = 3, .proto = IPPROTO_UDP}, 0, 0},
	{"don't fragment", {SYN_TO(OURS), .frag = 0x4000}, 1, 0},
	{"version 5", {SYN_TO(OURS), .version = 5}, 0, 0},
	{"header length 16", {SYN_TO(OURS), .ihl = 4}, 0, 0},
	{"header length beyond the frame", {SYN_TO(OURS), .ihl = 15}, 0, 0},
	{"TCP cut after two bytes", {SYN_TO(OURS), .cut = 18}, 0, 0},
	{"TCP cut after the ports", {SYN_TO(OURS), .cut = 16}, 1, 0},
	{"IPv4 header cut", {SYN_TO(OURS), .cut = 21}, 0, 0},
	{"v6 our port", {V6, SYN_TO(OURS)}, 1, 0},
	{"v6 closed port", {V6, SYN_TO(CLOSED)}, 0, RST},
	{"v6 other MAC", {V6, SYN_TO(OURS), .other_mac = true}, 0, 0},
	{"v6 VLAN", {V6, SYN_TO(OURS), .vlan = 5}, 0, 0},
	{"v6 UDP", {V6, SYN_TO(OURS), .proto = IPPROTO_UDP}, 0, 0},
	{"v6 version 4", {V6, SYN_TO(OURS), .version = 4}, 0, 0},
	{"v6 header cut", {V6, SYN_TO(OURS), .cut = 21}, 0, 0},
	{"v6 hop-by-hop", {V6, SYN_TO(OURS), .ext = {IPPROTO_HOPOPTS}, .n_ext = 1}, 1, 0},
	{"v6 destination options", {V6, SYN_TO(OURS), .ext = {IPPROTO_DSTOPTS}, .n_ext = 1}, 1, 0},
	{"v6 four extension headers",
	 {V6, SYN_TO(OURS), .ext = {IPPROTO_HOPOPTS, 60, 60, 60}, .n_ext = 4}, 1, 0},
	{"v6 extension headers to a closed port",
	 {V6, SYN_TO(CLOSED), .ext = {IPPROTO_HOPOPTS, 60, 60, 60, 60}, .n_ext = 5}, 0, RST},
	{"v6 five extension headers stay the kernel's",
	 {V6, SYN_TO(OURS), .ext = {IPPROTO_HOPOPTS, 60, 60, 60, 60}, .n_ext = 5}, EBPF_NO, RST},
	{"v6 routing header stays the kernel's",
	 {V6, SYN_TO(OURS), .ext = {IPPROTO_ROUTING}, .n_ext = 1}, EBPF_NO, RST},
	{"v6 first fragment",
	 {V6, SYN_TO(OURS), .ext = {IPPROTO_FRAGMENT}, .n_ext = 1, .frag = 1, .payload = "1234"}, 1, 0},
	{"v6 atomic fragment", {V6, SYN_TO(OURS), .ext = {IPPROTO_FRAGMENT}, .n_ext = 1}, 1, 0},
	{"v6 later fragment",
	 {V6, SYN_TO(OURS), .ext = {IPPROTO_FRAGMENT}, .n_ext = 1, .frag = 0x18}, 1, 0},
};

START_TEST(each_frame_goes_where_it_belongs)
{
	const struct row *r = &rows[_i];
	struct engine e;
	struct ip_addr any = addr("::");
	struct frame sent;

	int tap = r->tap == EBPF_NO ? 0 : r->tap;
	if (r->tap == EBPF_NO && choice == CLASSIFIER_NFTABLES)
		return;
	net_run("ip addr add 10.77.0.5/24 dev a"); /* the kernel's, not in the classifier's set */
	engine_start(&e, "a");
	ck_assert_int_eq(classifier_add_listener(e.c, &any, OURS), 0);
	frame_build(&sent, &r->s);
	send_frame(&sent);
	settle(&e);
	if (choice == CLASSIFIER_EBPF || tap)
		ck_assert_msg(e.seen.n == tap, "%s: the tap saw %d", r->name, e.seen.n);
	if (tap) {
		ck_assert_int_eq(e.seen.frames[0].len, sent.len);
		ck_assert_mem_eq(e.seen.frames[0].b, sent.b, sent.len);
	}
	ck_assert_msg(n_answers == (r->reply != 0), "%s: the kernel answered %d", r->name, n_answers);
	if (r->reply)
		ck_assert_int_eq(answers[0].flags & (TCPF_RST | TCPF_SYN | TCPF_ACK), r->reply);
	engine_stop(&e);
}
END_TEST

/* ---- ICMP ---- */

struct icmp_row {
	const char *name;
	uint8_t type, code;
	struct spec outer, quoted;
	int tap;
};

#define QUOTED(port) {.src = OUR_V4, .dst = PEER_V4, .sport = (port), .dport = 40000, .flags = TCPF_ACK}
#define QUOTED6(port) {.src = OUR_V6, .dst = PEER_V6, .sport = (port), .dport = 40000, .flags = TCPF_ACK}

static const struct icmp_row icmp_rows[] = {
	{"port unreachable", 3, 3, {.dst = OUR_V4}, QUOTED(OURS), 1},
	{"fragmentation needed", 3, 4, {.dst = OUR_V4}, QUOTED(OURS), 1},
	{"from a router", 3, 1, {.src = "10.99.0.1", .dst = OUR_V4}, QUOTED(OURS), 1},
	{"time exceeded", 11, 0, {.dst = OUR_V4}, QUOTED(OURS), 1},
	{"parameter problem", 12, 0, {.dst = OUR_V4}, QUOTED(OURS), 1},
	{"exact flow", 3, 4, {.dst = OUR_V4}, QUOTED(61000), 1},
	{"exact flow of another peer", 3, 4, {.dst = OUR_V4},
	 {.src = OUR_V4, .dst = "10.77.0.3", .sport = 61000, .dport = 40000}, 0},
	{"source quench", 4, 0, {.dst = OUR_V4}, QUOTED(OURS), 0},
	{"echo request", 8, 0, {.dst = OUR_V4}, QUOTED(OURS), 0},
	{"about another port", 3, 3, {.dst = OUR_V4}, QUOTED(CLOSED), 0},
	{"about an exception", 3, 3, {.dst = OUR_V4},
	 {.src = OUR_V4, .dst = PEER_V4, .sport = OURS, .dport = 40001}, 0},
	{"about UDP", 3, 3, {.dst = OUR_V4},
	 {.src = OUR_V4, .dst = PEER_V4, .sport = OURS, .dport = 40000, .proto = IPPROTO_UDP}, 0},
	{"quotes somebody else's address", 3, 3, {.dst = OUR_V4},
	 {.src = "10.77.0.9", .dst = PEER_V4, .sport = OURS, .dport = 40000}, 0},
	{"quoted options", 3, 4, {.dst = OUR_V4},
	 {.src = OUR_V4, .dst = PEER_V4, .sport = OURS, .dport = 40000, .ip_options = 12}, 1},
	{"quotes eight bytes of TCP", 3, 4, {.dst = OUR_V4, .cut = 12}, QUOTED(OURS), 1},
	{"quotes no ports", 3, 4, {.dst = OUR_V4, .cut = 18}, QUOTED(OURS), 0},
	{"v6 unreachable", 1, 0, {V6}, QUOTED6(OURS), 1},
	{"v6 packet too big", 2, 0, {V6}, QUOTED6(OURS), 1},
	{"v6 time exceeded", 3, 0, {V6}, QUOTED6(OURS), 1},
	{"v6 parameter problem", 4, 0, {V6}, QUOTED6(OURS), 1},
	{"v6 about another port", 2, 0, {V6}, QUOTED6(CLOSED), 0},
	{"v6 echo request", 128, 0, {V6}, QUOTED6(OURS), 0},
};

START_TEST(icmp_errors_about_us_are_copied)
{
	const struct icmp_row *r = &icmp_rows[_i];
	struct flow_key flow = key(OUR_V4, 61000, PEER_V4, 40000);
	struct flow_key exception = key(OUR_V4, OURS, PEER_V4, 40001);
	struct engine e;
	struct ip_addr any = addr("::");
	struct frame f;

	engine_start(&e, "a");
	ck_assert_int_eq(classifier_add_listener(e.c, &any, OURS), 0);
	ck_assert_int_eq(classifier_add_flow(e.c, &flow), 0);
	ck_assert_int_eq(classifier_add_exception(e.c, &exception), 0);
	frame_build_icmp(&f, r->type, r->code, &r->outer, &r->quoted);
	f.len -= r->outer.cut;
	send_frame(&f);
	settle(&e);
	if (choice == CLASSIFIER_EBPF || r->tap)
		ck_assert_msg(e.seen.n == r->tap, "%s: the tap saw %d", r->name, e.seen.n);
	engine_stop(&e);
}
END_TEST

/* The kernel keeps the ICMP error that the engine gets a copy of: its own counter moves. */
START_TEST(the_kernel_keeps_icmp_too)
{
	struct engine e;
	struct ip_addr any = addr("::");
	struct spec outer = {.dst = OUR_V4}, quoted = QUOTED(OURS);
	struct frame f;

	engine_start(&e, "a");
	ck_assert_int_eq(classifier_add_listener(e.c, &any, OURS), 0);
	frame_build_icmp(&f, 3, 1, &outer, &quoted);
	send_frame(&f);
	settle(&e);
	ck_assert_int_eq(e.seen.n, 1);
	net_run("awk '/^Icmp:/ && !h {h=$0; next} /^Icmp:/ {split(h,n); split($0,v); for (i in n) "
		"if (n[i]==\"InDestUnreachs\" && v[i]==1) ok=1} END {exit !ok}' /proc/net/snmp");
	engine_stop(&e);
}
END_TEST

/* ---- listeners, flows, exceptions ---- */

/* A SYN to dst:port from a fresh source port: 1 if the engine got it, 0 if the kernel answered. Both or neither fails. */
static int who_gets(struct engine *e, const char *dst, uint16_t port)
{
	static uint16_t sport = 41000;
	struct spec s = {.dst = dst, .sport = ++sport, .dport = port, .flags = TCPF_SYN};
	if (strchr(dst, ':'))
		s.src = PEER_V6;
	send_spec(&s);
	settle(e);
	ck_assert_int_eq(e->seen.n + n_answers, 1);
	return e->seen.n;
}

START_TEST(listeners_are_counted_per_address)
{
	struct engine e;
	struct ip_addr one = addr(OUR_V4), two = addr(OUR_V4_B), any4 = addr("0.0.0.0"), any6 = addr("::");

	engine_start(&e, "a");
	ck_assert_int_eq(classifier_add_listener(e.c, &one, 90), 0);
	ck_assert_int_eq(classifier_add_listener(e.c, &one, 90), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4, 90), 1);
	ck_assert_int_eq(who_gets(&e, OUR_V4_B, 90), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V6, 90), 0);
	ck_assert_int_eq(classifier_add_listener(e.c, &two, 90), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4_B, 90), 1);
	ck_assert_int_eq(classifier_del_listener(e.c, &one, 90), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4, 90), 1);
	ck_assert_int_eq(classifier_del_listener(e.c, &one, 90), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4, 90), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4_B, 90), 1);
	ck_assert_int_eq(classifier_del_listener(e.c, &one, 90), -ENOENT);

	ck_assert_int_eq(classifier_add_listener(e.c, &any4, 90), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4, 90), 1);
	ck_assert_int_eq(who_gets(&e, OUR_V6, 90), 0); /* an IPv4 wildcard cannot accept it */
	ck_assert_int_eq(classifier_add_listener(e.c, &any6, 90), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V6, 90), 1);
	ck_assert_int_eq(classifier_del_listener(e.c, &any4, 90), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4, 90), 1); /* :: serves both */
	ck_assert_int_eq(classifier_del_listener(e.c, &any6, 90), 0);
	ck_assert_int_eq(classifier_del_listener(e.c, &two, 90), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4_B, 90), 0);

	ck_assert_int_eq(classifier_add_listener(e.c, &classifier_any_v6only, 91), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V6, 91), 1);
	ck_assert_int_eq(who_gets(&e, OUR_V4, 91), 0);
	ck_assert_int_eq(classifier_add_listener(e.c, &any4, 91), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4, 91), 1);
	ck_assert_int_eq(classifier_del_listener(e.c, &classifier_any_v6only, 91), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V6, 91), 0);
	ck_assert_int_eq(classifier_del_listener(e.c, &any4, 91), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4, 91), 0);

	ck_assert_int_eq(classifier_add_listener(e.c, &any6, 65535), 0); /* the array's edges */
	ck_assert_int_eq(who_gets(&e, OUR_V4, 65535), 1);
	ck_assert_int_eq(who_gets(&e, OUR_V4, 65534), 0);
	engine_stop(&e);
}
END_TEST

START_TEST(addresses_are_replaced)
{
	struct engine e;
	struct ip_addr any = addr("::"), first[] = {addr(OUR_V4), addr(OUR_V6)},
		       second[] = {addr(OUR_V4), addr(OUR_V4_B)};

	engine_start(&e, "a");
	ck_assert_int_eq(classifier_add_listener(e.c, &any, OURS), 0);
	ck_assert_int_eq(classifier_set_addresses(e.c, first, 2), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4, OURS), 1);
	ck_assert_int_eq(who_gets(&e, OUR_V4_B, OURS), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V6, OURS), 1);
	ck_assert_int_eq(classifier_set_addresses(e.c, second, 2), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4_B, OURS), 1);
	ck_assert_int_eq(who_gets(&e, OUR_V6, OURS), 0);
	engine_stop(&e);
}
END_TEST

START_TEST(flows_are_exact)
{
	struct engine e;
	struct flow_key k = key(OUR_V4, 61000, PEER_V4, 443), k6 = key(OUR_V6, 61000, PEER_V6, 443);
	struct spec s = {.sport = 443, .dport = 61000, .flags = TCPF_ACK}, other = s, s6 = s;

	other.sport = 444;
	s6.src = PEER_V6;
	s6.dst = OUR_V6;
	engine_start(&e, "a");
	ck_assert_int_eq(classifier_add_flow(e.c, &k), 0);
	ck_assert_int_eq(classifier_add_flow(e.c, &k), 0); /* twice is once */
	send_spec(&s);
	send_spec(&other);
	send_spec(&s6);
	settle(&e);
	ck_assert_int_eq(e.seen.n, 1);
	ck_assert_int_eq(n_answers, 2); /* RST for what is not ours */
	ck_assert_int_eq(classifier_add_flow(e.c, &k6), 0);
	ck_assert_int_eq(classifier_del_flow(e.c, &k), 0);
	send_spec(&s);
	send_spec(&s6);
	settle(&e);
	ck_assert_int_eq(e.seen.n, 1);
	ck_assert_int_eq(n_answers, 1);
	ck_assert_int_eq(answers[0].sport, 61000);
	ck_assert_int_eq(classifier_del_flow(e.c, &k), -ENOENT);
	engine_stop(&e);
}
END_TEST

/* Flows whose local ports share their slots: two are there, the others are in the set, and each comes and goes alone, whichever was first. */
START_TEST(flows_share_slots)
{
	enum { APART = 2048, N = 4 }; /* CLASSIFIER_SLOTS */
	struct engine e;
	struct flow_key k[N];
	struct spec s[N];

	engine_start(&e, "a");
	for (int i = 0; i < N; i++) {
		k[i] = key(OUR_V4, 61000 - i * APART, PEER_V4, 443);
		s[i] = (struct spec){.sport = 443, .dport = k[i].lport, .flags = TCPF_ACK};
		ck_assert_int_eq(classifier_add_flow(e.c, &k[i]), 0);
	}
	for (int gone = -1; gone < N; gone++) {
		if (gone >= 0)
			ck_assert_int_eq(classifier_del_flow(e.c, &k[gone]), 0);
		for (int i = 0; i < N; i++)
			send_spec(&s[i]);
		settle(&e);
		ck_assert_int_eq(e.seen.n, N - 1 - gone);
		ck_assert_int_eq(n_answers, gone + 1);
	}
	/* One that is in the set, and enters a slot when that is free: it goes from both. */
	for (int together = 0; together < 2; together++) {
		for (int i = 0; i < 3; i++)
			ck_assert_int_eq(classifier_add_flow(e.c, &k[i]), 0);
		ck_assert_int_eq(classifier_del_flow(e.c, &k[together]), 0);
		ck_assert_int_eq(classifier_add_flow(e.c, &k[2]), 0);
		if (together)
			classifier_del_flows(e.c, &k[2], 1);
		else
			ck_assert_int_eq(classifier_del_flow(e.c, &k[2]), 0);
		ck_assert_int_eq(classifier_del_flow(e.c, &k[2]), -ENOENT);
		ck_assert_int_eq(classifier_del_flow(e.c, &k[!together]), 0);
		for (int i = 0; i < N; i++)
			send_spec(&s[i]);
		settle(&e);
		ck_assert_int_eq(e.seen.n, 0);
		ck_assert_int_eq(n_answers, N);
	}
	engine_stop(&e);
}
END_TEST

/* Many at once: those that are there go, whatever is missing among them. */
START_TEST(flows_go_together)
{
	enum { MANY = 150 };
	struct engine e;
	struct flow_key keys[MANY], kept = key(OUR_V4, 61000, PEER_V4, 1000);
	struct spec s = {.dport = 61000, .flags = TCPF_ACK};

	engine_start(&e, "a");
	ck_assert_int_eq(classifier_add_flow(e.c, &kept), 0);
	for (int i = 0; i < MANY; i++) {
		keys[i] = key(OUR_V4, 61000, PEER_V4, 1001 + i);
		if (i != 0 && i != 70 && i != MANY - 1)
			ck_assert_int_eq(classifier_add_flow(e.c, &keys[i]), 0);
	}
	classifier_del_flows(e.c, keys, MANY);
	for (int i = 0; i < MANY; i++)
		ck_assert_int_eq(classifier_del_flow(e.c, &keys[i]), -ENOENT);
	s.sport = 1001 + 71;
	send_spec(&s);
	s.sport = 1000;
	send_spec(&s);
	settle(&e);
	ck_assert_int_eq(e.seen.n, 1); /* the one that was kept */
	ck_assert_int_eq(n_answers, 1);
	engine_stop(&e);
}
END_TEST

static void slots_are(const struct engine *e, uint32_t n)
{
	if (choice == CLASSIFIER_EBPF)
		ck_assert_uint_eq(ebpf_of(e->c)->ports->n_slots, n);
}

/* What stays long leaves its slot for who comes, where slots are wanted; it is as good in the set, and goes as well. */
START_TEST(flows_that_stay)
{
	enum { MANY = 300, FEW = 100, STAY = CLASSIFIER_STAY_AT_ONCE, APART = 2048 }; /* CLASSIFIER_SLOTS */
	struct engine e;
	struct flow_key keys[MANY], next[STAY];
	struct spec s = {.sport = 443, .flags = TCPF_ACK};

	engine_start(&e, "a");
	for (int i = 0; i < MANY; i++) {
		keys[i] = key(OUR_V4, 60000 + i, PEER_V4, 443);
		ck_assert_int_eq(classifier_add_flow(e.c, &keys[i]), 0);
		if (i == FEW) { /* there are places enough */
			classifier_flows_stay(e.c, keys, STAY);
			slots_are(&e, FEW + 1);
		}
	}
	ck_assert_int_eq(classifier_del_flow(e.c, &keys[1]), 0);
	classifier_flows_stay(e.c, keys, STAY);
	slots_are(&e, MANY - STAY);
	for (int i = 0; i < STAY; i++) {
		next[i] = key(OUR_V4, 60000 + i - APART, PEER_V4, 443);
		ck_assert_int_eq(classifier_add_flow(e.c, &next[i]), 0);
	}
	slots_are(&e, MANY);
	const uint16_t ours[] = {60000, 60000 + STAY - 1, 60000 + STAY, 60000 + MANY - 1, 60000 - APART, 60000 - APART + STAY - 1};
	for (int gone = 0; gone < 2; gone++) {
		s.dport = 60001; /* went before */
		send_spec(&s);
		for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
			s.dport = ours[i];
			send_spec(&s);
		}
		settle(&e);
		ck_assert_int_eq(e.seen.n, gone ? 0 : 6);
		ck_assert_int_eq(n_answers, gone ? 7 : 1);
		classifier_del_flows(e.c, keys, MANY);
		classifier_del_flows(e.c, next, STAY);
		slots_are(&e, 0);
	}
	engine_stop(&e);
}
END_TEST

/* More 4-tuples than the first map of a set holds: the last is as good as the first, and goes as well. */
START_TEST(sets_grow)
{
	enum { MANY = 20000 };
	struct engine e;
	struct ip_addr any = addr("0.0.0.0");
	struct flow_key k = key(OUR_V4, 61000, PEER_V4, 0), x = key(OUR_V4, OURS, PEER_V4, 0);
	struct spec s = {.sport = MANY, .dport = 61000, .flags = TCPF_ACK};
	struct spec excepted = {.sport = MANY, .dport = OURS, .flags = TCPF_ACK};

	engine_start(&e, "a");
	ck_assert_int_eq(classifier_add_listener(e.c, &any, OURS), 0);
	for (k.rport = x.rport = 1; k.rport <= MANY; k.rport++, x.rport++) {
		ck_assert_int_eq(classifier_add_flow(e.c, &k), 0);
		ck_assert_int_eq(classifier_add_exception(e.c, &x), 0);
	}
	k.rport = x.rport = MANY;
	send_spec(&s);
	send_spec(&excepted);
	settle(&e);
	ck_assert_int_eq(e.seen.n, 1); /* the flow */
	ck_assert_int_eq(n_answers, 1); /* the exception */
	ck_assert_int_eq(answers[0].sport, OURS);
	ck_assert_int_eq(classifier_del_flow(e.c, &k), 0);
	ck_assert_int_eq(classifier_del_flow(e.c, &k), -ENOENT);
	ck_assert_int_eq(classifier_del_exception(e.c, &x), 0);
	send_spec(&s);
	send_spec(&excepted);
	settle(&e);
	ck_assert_int_eq(e.seen.n, 1); /* now the other way round */
	ck_assert_int_eq(n_answers, 1);
	ck_assert_int_eq(answers[0].sport, 61000);
	engine_stop(&e);
}
END_TEST

/* A kernel connection by hand from the peer. Returns the accepted fd; *s is the peer's next segment. */
static int kernel_connection(int listener, uint16_t port, struct spec *s)
{
	struct spec syn = {.sport = 40000, .dport = port, .flags = TCPF_SYN, .seq = 1000};

	send_spec(&syn);
	settle(NULL);
	ck_assert_int_eq(n_answers, 1);
	ck_assert_int_eq(answers[0].flags, TCPF_SYN | TCPF_ACK);
	*s = (struct spec){.sport = 40000,
			   .dport = port,
			   .flags = TCPF_ACK,
			   .seq = 1001,
			   .ack = answers[0].seq + 1};
	send_spec(s);
	ck_assert(readable_within(listener, WAIT_MS));
	int fd = accept(listener, NULL, NULL);
	ck_assert_int_ge(fd, 0);
	return fd;
}

static int kernel_listener(uint16_t port)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sin, sizeof sin), 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	return fd;
}

/* Does this segment of PEER_V4's come to the engine? Otherwise the kernel answers it by RST. */
static bool engine_gets(struct engine *e, uint16_t sport, uint8_t flags)
{
	struct spec s = {.sport = sport, .dport = OURS, .flags = flags, .seq = 2000, .ack = 3000};

	send_spec(&s);
	settle(e);
	ck_assert_int_eq(e->seen.n + n_answers, 1);
	return e->seen.n;
}

/*
 * The host judges: SYNs climb to the judge. What follows is the engine's where it counts the connection, without any entry; an ACK also while cookies are out. What is
 * excepted is the kernel's in any case.
 */
START_TEST(where_the_host_judges_a_count_tells)
{
	enum { CONN = 40000, OTHER };
	struct engine e;
	struct judge *j;
	struct judged_segment seg;
	char why[256];
	struct ip_addr any = addr("0.0.0.0");
	struct flow_key k = key(OUR_V4, OURS, PEER_V4, CONN), fence = key(OUR_V4, FENCE, PEER_V4, FENCE_FROM);
	struct spec syn = {.sport = CONN, .dport = OURS, .flags = TCPF_SYN, .seq = 1000};

	if (choice != CLASSIFIER_EBPF)
		return;
	engine_start(&e, "a");
	int fd = kernel_listener(OURS);
	ck_assert_int_eq(classifier_add_listener(e.c, &any, OURS), 0);
	ck_assert_int_eq(judge_open(&j, why, sizeof why), 0);
	ck_assert_int_eq(classifier_set_judge(e.c, j), 0);
	ck_assert_int_eq(judge_attach(j, fd), 0);
	fence_flags = TCPF_ACK;
	classifier_count_conn(e.c, &fence, 1);

	send_spec(&syn);
	ck_assert(readable_within(judge_poll_fd(j), WAIT_MS));
	ck_assert(judge_next(j, &seg) && flow_key_equal(&seg.key, &k));
	judge_done(j);
	ck_assert(!engine_gets(&e, CONN, TCPF_ACK));
	classifier_count_conn(e.c, &k, 1);
	ck_assert(engine_gets(&e, CONN, TCPF_ACK) && engine_gets(&e, CONN, TCPF_FIN | TCPF_ACK) && engine_gets(&e, CONN, TCPF_RST | TCPF_ACK));
	ck_assert(!engine_gets(&e, OTHER, TCPF_ACK));
	ck_assert_int_eq(classifier_add_exception(e.c, &k), 0);
	ck_assert(!engine_gets(&e, CONN, TCPF_ACK));
	ck_assert_int_eq(classifier_del_exception(e.c, &k), 0);
	classifier_count_conn(e.c, &k, -1);
	ck_assert(!engine_gets(&e, CONN, TCPF_ACK));

	classifier_note_cookies(e.c, INT64_MAX / 1000);
	ck_assert(engine_gets(&e, OTHER, TCPF_ACK));
	classifier_note_cookies(e.c, 1);
	ck_assert(!engine_gets(&e, OTHER, TCPF_ACK));
	close(fd);
	engine_stop(&e);
	judge_close(j);
}
END_TEST

/* Who says how far it is sleeps until the next one comes. Who does not goes on by looking, further than the ring is large. */
START_TEST(the_judge_wakes_who_sleeps)
{
	enum { FIRST = 1, MANY = 3000, SETTLED = 1000 }; /* the ring holds 2,048 */
	struct engine e;
	struct judge *j;
	struct judged_segment seg;
	char why[256];
	struct ip_addr any = addr("0.0.0.0");

	if (choice != CLASSIFIER_EBPF)
		return;
	engine_start(&e, "a");
	int fd = kernel_listener(OURS);
	ck_assert_int_eq(classifier_add_listener(e.c, &any, OURS), 0);
	ck_assert_int_eq(judge_open(&j, why, sizeof why), 0);
	ck_assert_int_eq(classifier_set_judge(e.c, j), 0);
	ck_assert_int_eq(judge_attach(j, fd), 0);
	for (uint16_t sport = FIRST; sport <= MANY; sport++) {
		struct spec syn = {.sport = sport, .dport = OURS, .flags = TCPF_SYN, .seq = 1000};
		send_spec(&syn);
		if (sport % SETTLED == FIRST)
			ck_assert(readable_within(judge_poll_fd(j), WAIT_MS));
		while (!judge_next(j, &seg))
			usleep(1000);
		ck_assert_int_eq(seg.key.rport, sport);
		judge_done(j);
		ck_assert(!judge_pending(j));
		if (sport % SETTLED == 0) {
			judge_settle(j);
			ck_assert_int_eq(readable_within(judge_poll_fd(j), 0), 0);
		}
	}
	close(fd);
	engine_stop(&e);
	judge_close(j);
}
END_TEST

START_TEST(a_kernel_connection_goes_on)
{
	struct engine e;
	struct ip_addr any = addr("0.0.0.0");
	struct flow_key k = key(OUR_V4, 100, PEER_V4, 40000);
	struct spec s;
	char buf[16];
	int listener = kernel_listener(100), conn = kernel_connection(listener, 100, &s);

	engine_start(&e, "a");
	ck_assert_int_eq(classifier_add_exception(e.c, &k), 0);
	ck_assert_int_eq(classifier_add_listener(e.c, &any, 100), 0);
	s.payload = "hello";
	s.flags = TCPF_ACK | TCPF_PSH;
	send_spec(&s);
	ck_assert(readable_within(conn, WAIT_MS));
	ck_assert_int_eq(read(conn, buf, sizeof buf), 5);
	settle(&e);
	ck_assert_int_eq(e.seen.n, 0);
	/* A new connection is ours, although the kernel's socket listens too. */
	ck_assert_int_eq(who_gets(&e, OUR_V4, 100), 1);
	/* And once it is no exception any more, the old one is too. */
	ck_assert_int_eq(classifier_del_exception(e.c, &k), 0);
	s.seq += 5;
	send_spec(&s);
	settle(&e);
	ck_assert_int_eq(e.seen.n, 1);
	ck_assert_int_eq(readable_within(conn, 0), 0);
	engine_stop(&e);
}
END_TEST

/* ---- life and death ---- */

/* What keeps frames from the kernel: tcx programs, or tables of ours. */
static int programs_on(const char *ifname)
{
	uint32_t ids[BPF_QUERY_MAX];
	if (choice == CLASSIFIER_NFTABLES) {
		int n = 0;
		FILE *f = popen("nft list tables netdev | grep -c finesse-", "r");
		ck_assert(f && fscanf(f, "%d", &n) == 1);
		pclose(f);
		return n;
	}
	return bpf_prog_query(if_nametoindex(ifname), BPF_ATTACH_TCX_INGRESS, 0, ids);
}

/* What `nft list ruleset` prints of us can be loaded again, and says what it is about: people save their rules so. */
START_TEST(rules_can_be_printed_and_loaded)
{
	struct engine e;
	struct ip_addr any = addr("::"), v4 = addr(OUR_V4);
	struct flow_key k4 = {.laddr = v4, .lport = 40000, .raddr = addr(PEER_V4), .rport = 80}, k6 = {.laddr = addr(OUR_V6), .lport = 40000, .raddr = addr(PEER_V6), .rport = 81};
	char command[512];
	if (choice != CLASSIFIER_NFTABLES)
		return;
	engine_start(&e, "a");
	ck_assert_int_eq(classifier_add_listener(e.c, &any, OURS), 0);
	ck_assert_int_eq(classifier_add_flow(e.c, &k4), 0);
	ck_assert_int_eq(classifier_add_flow(e.c, &k6), 0);
	/* In a namespace of its own: the kernel keeps others from a table that has an owner. */
	snprintf(command, sizeof command,
		 "f=$(mktemp); nft list ruleset >$f && grep -q 'type ipv4_addr . inet_service . ipv4_addr . inet_service' $f && grep -q '%s . 80 . %s . 40000' $f && "
		 "unshare -n sh -c 'ip link add name a type veth peer name b && nft -c -f '$f; r=$?; rm -f $f; exit $r",
		 PEER_V4, OUR_V4);
	ck_assert_int_eq(system(command), 0);
	engine_stop(&e);
}
END_TEST

START_TEST(kill_returns_the_ports_to_the_kernel)
{
	int up[2];
	char c;
	struct spec s = {SYN_TO(OURS)};

	ck_assert_int_eq(pipe(up), 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct engine e;
		struct ip_addr any = addr("::");
		engine_start(&e, "a");
		classifier_add_listener(e.c, &any, OURS);
		if (write(up[1], "x", 1) == 1)
			for (;;)
				pause();
		_exit(1);
	}
	ck_assert_int_eq(read(up[0], &c, 1), 1);
	ck_assert_int_eq(programs_on("a"), 1);
	send_spec(&s);
	settle(NULL);
	ck_assert_int_eq(n_answers, 0);

	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert_int_eq(programs_on("a"), 0);
	send_spec(&s);
	settle(NULL);
	ck_assert_int_eq(n_answers, 1);
	ck_assert_int_eq(answers[0].flags, RST);
}
END_TEST

START_TEST(a_forgetful_child_keeps_nothing_alive)
{
	struct engine e;
	struct ip_addr any = addr("::");
	struct spec s = {SYN_TO(OURS)};
	int up[2], down[2];
	char c;

	engine_start(&e, "a");
	classifier_add_listener(e.c, &any, OURS);
	ck_assert_int_eq(pipe(up) | pipe(down), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(down[1]);
		classifier_forget(e.c);
		if (write(up[1], "x", 1) != 1)
			_exit(1);
		_exit(read(down[0], &c, 1) != 0); /* holds the packet socket until told */
	}
	ck_assert_int_eq(read(up[0], &c, 1), 1);
	/* The parent's still works … */
	send_spec(&s);
	settle(&e);
	ck_assert_int_eq(e.seen.n, 1);
	ck_assert_int_eq(n_answers, 0);
	/* … and goes when the parent lets go, though the child lives. */
	engine_stop(&e);
	ck_assert_int_eq(programs_on("a"), 0);
	send_spec(&s);
	settle(NULL);
	ck_assert_int_eq(n_answers, 1);
	close(down[1]);
	int status;
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(two_engines_share_an_interface)
{
	struct engine one, two;
	struct ip_addr any = addr("::");
	struct spec to_one = {SYN_TO(OURS)}, to_two = {SYN_TO(82)}, fence = {
		.sport = FENCE_FROM, .dport = FENCE, .flags = TCPF_SYN};

	engine_start(&one, "a");
	engine_start(&two, "a");
	ck_assert_int_eq(programs_on("a"), 2);
	ck_assert_int_eq(classifier_add_listener(one.c, &any, OURS), 0);
	ck_assert_int_eq(classifier_add_listener(two.c, &any, 82), 0);
	send_spec(&to_one);
	send_spec(&to_two);
	settle(&one); /* the fence reaches both taps */
	two.seen.n = 0;
	drain_tap(&two);
	ck_assert_int_eq(n_answers, 0);
	if (choice == CLASSIFIER_NFTABLES) { /* each tap sees both */
		engine_stop(&one);
		engine_stop(&two);
		return;
	}
	ck_assert_int_eq(one.seen.n, 1);
	ck_assert_int_eq(two.seen.n, 1);
	struct tcp_seen t;
	ck_assert(frame_parse_tcp(one.seen.frames[0].b, one.seen.frames[0].len, true, &t));
	ck_assert_int_eq(t.dport, OURS);
	ck_assert(frame_parse_tcp(two.seen.frames[0].b, two.seen.frames[0].len, true, &t));
	ck_assert_int_eq(t.dport, 82);

	engine_stop(&one);
	ck_assert_int_eq(programs_on("a"), 1);
	send_spec(&to_one);
	send_spec(&to_two);
	send_spec(&fence);
	settle(&two);
	ck_assert_int_eq(two.seen.n, 1);
	ck_assert_int_eq(n_answers, 1);
	ck_assert_int_eq(answers[0].sport, OURS);
	engine_stop(&two);
}
END_TEST

/* A program that ends the chain for every frame, as the classic tc programs do. */
static int attach_chain_end(void)
{
	struct bpf_asm a;
	bpf_asm_init(&a);
	bpf_asm_mov_imm(&a, R0, 0 /* TC_ACT_OK */);
	bpf_asm_exit(&a);
	int prog = bpf_prog_load("chain_end", BPF_PROG_TYPE_SCHED_CLS, a.insns, bpf_asm_finish(&a), NULL, 0);
	ck_assert_int_ge(prog, 0);
	int link = bpf_link_tcx_ingress(prog, if_nametoindex("a"));
	ck_assert_int_ge(link, 0);
	close(prog);
	return link;
}

START_TEST(a_foreign_program_does_not_hide_frames)
{
	struct engine e;
	struct ip_addr any = addr("::");
	if (choice == CLASSIFIER_NFTABLES)
		return; /* about the order of tcx programs; a tcx program that ends its chain does not end netfilter's */
	int link = attach_chain_end();

	engine_start(&e, "a");
	ck_assert_int_eq(classifier_add_listener(e.c, &any, OURS), 0);
	ck_assert_int_eq(programs_on("a"), 2);
	ck_assert_int_eq(who_gets(&e, OUR_V4, OURS), 1);
	ck_assert_int_eq(who_gets(&e, OUR_V4, CLOSED), 0);
	engine_stop(&e);
	ck_assert_int_eq(programs_on("a"), 1);
	close(link);
}
END_TEST

/* An engine whose classifier is put in a place; its fence is its own. */
static void engine_start_in(struct engine *e, int place)
{
	struct ip_addr ours[] = {addr(OUR_V4)}, any = addr("::");
	e->tap = packet_open("a");
	e->seen.n = 0;
	ck_assert_int_eq(classifier_prepare(&e->c, with_eth), 0);
	ck_assert_int_eq(classifier_put(e->c, if_nametoindex("a"), place, e->tap, with_eth), 0);
	ck_assert_int_eq(classifier_set_addresses(e->c, ours, 1), 0);
	ck_assert_int_eq(classifier_add_listener(e->c, &any, FENCE), 0);
	ck_assert_int_eq(classifier_add_listener(e->c, &any, OURS), 0);
}

static void kernel_gets_ours(void)
{
	struct spec s = {SYN_TO(OURS)};
	send_spec(&s);
	settle(NULL);
	ck_assert_int_eq(n_answers, 1);
	ck_assert_int_eq(answers[0].flags, RST);
}

/* As another process has it. */
static struct classifier *adopt_copy(const struct classifier *c)
{
	struct classifier *copy;
	int fds[CLASSIFIER_FDS];
	ck_assert_int_eq(classifier_fds(c, fds), CLASSIFIER_FDS);
	for (int i = 0; i < CLASSIFIER_FDS; i++)
		fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
	ck_assert_int_eq(classifier_adopt(&copy, fds, if_nametoindex("a"), with_eth), 0);
	return copy;
}

START_TEST(a_place_outlives_who_was_there)
{
	struct engine e;
	if (choice == CLASSIFIER_NFTABLES)
		return; /* it has none */
	int place = classifier_place_end(classifier_place_begin(if_nametoindex("a")));
	ck_assert_int_ge(place, 0);
	ck_assert_int_eq(programs_on("a"), 1);
	kernel_gets_ours();
	for (int i = 0; i < 2; i++) { /* one after the other, and nothing of the first is left */
		engine_start_in(&e, place);
		ck_assert_int_eq(programs_on("a"), 1);
		ck_assert_int_eq(who_gets(&e, OUR_V4, OURS), 1);
		ck_assert_int_eq(classifier_place_clear(place), 0);
		kernel_gets_ours();
		engine_stop(&e);
		ck_assert_int_eq(programs_on("a"), 1);
	}
	/* Who has it from another process ends it with its classifier, but not in a fork child. */
	engine_start_in(&e, place);
	classifier_forget(adopt_copy(e.c));
	ck_assert_int_eq(who_gets(&e, OUR_V4, OURS), 1);
	classifier_close(adopt_copy(e.c));
	ck_assert_int_eq(programs_on("a"), 0);
	kernel_gets_ours();
	ck_assert_int_lt(classifier_place_clear(place), 0);
	engine_stop(&e);
	close(place);
}
END_TEST

START_TEST(an_interface_without_link_header)
{
	struct engine e;
	struct ip_addr any = addr("::");
	struct ifreq ifr = {.ifr_name = "t0", .ifr_flags = IFF_TUN | IFF_NO_PI};

	close(peer);
	peer = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (peer < 0 || ioctl(peer, TUNSETIFF, &ifr) < 0)
		return untested("TUN in this kernel");
	net_run("ip addr flush dev a && ip link set t0 up && ip addr add " OUR_V4
		"/24 dev t0 && ip addr add " OUR_V4_B "/24 dev t0 && ip addr add " OUR_V6 "/64 dev t0 nodad");
	net_wait_addresses("t0");
	with_eth = false;
	engine_start(&e, "t0");
	ck_assert_int_eq(classifier_add_listener(e.c, &any, OURS), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4, OURS), 1);
	ck_assert_int_eq(who_gets(&e, OUR_V6, OURS), 1);
	ck_assert_int_eq(who_gets(&e, OUR_V4, CLOSED), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V6, CLOSED), 0);
	engine_stop(&e);
}
END_TEST

START_TEST(failure_says_why)
{
	struct classifier *c = NULL;
	char why[256] = "";
	int tap = packet_open("a");

	ck_assert_int_lt(classifier_open(&c, choice, 4711, tap, true, why, sizeof why), 0);
	ck_assert_ptr_null(c);
	ck_assert_msg(strstr(why, choice == CLASSIFIER_EBPF ? "tcx" : "error") != NULL, "%s", why);
	pid_t pid = fork();
	if (pid == 0) { /* without privilege */
		int bad = setresuid(65534, 65534, 65534) ||
			  classifier_open(&c, choice, if_nametoindex("a"), tap, true, why, sizeof why) != -EPERM ||
			  !strstr(why, choice == CLASSIFIER_EBPF ? "CAP_BPF" : "CAP_NET_ADMIN");
		_exit(bad);
	}
	int status;
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	close(tap);
}
END_TEST

struct given {
	struct classifier_given visit;
	struct flow_key keys[8];
	int n;
};

static void note_given(struct classifier_given *v, const struct flow_key *key, bool in_group)
{
	struct given *g = container_of(v, struct given, visit);
	ck_assert(!in_group && g->n < 8);
	g->keys[g->n++] = *key;
}

/* A SYN has waited for long when this comes; the engine looks afterwards. True: it came to the engine. */
static bool comes_while_silent(struct engine *e, uint16_t sport, uint8_t flags)
{
	struct spec s = {.sport = sport, .dport = OURS, .flags = flags};
	ebpf_of(e->c)->ports->syn_since_ns = 1;
	send_spec(&s);
	classifier_looked(e->c);
	ck_assert_int_eq(ebpf_of(e->c)->ports->syn_since_ns, 0);
	settle(e);
	return e->seen.n;
}

static bool comes(struct engine *e, uint16_t sport, uint8_t flags)
{
	struct spec s = {.sport = sport, .dport = OURS, .flags = flags};
	send_spec(&s);
	settle(e);
	return e->seen.n;
}

/* What an engine that is stopped would not look at is the kernel's, and stays so; not a SYN that may be of a connection that the engine has. */
START_TEST(a_silent_engine_gets_no_syns)
{
	struct engine e;
	struct ip_addr any = addr("::");
	struct given given = {.visit.each = note_given};
	struct flow_key first = {.laddr = addr(OUR_V4), .raddr = addr(PEER_V4), .lport = OURS, .rport = 4000}, had = first;

	if (choice != CLASSIFIER_EBPF)
		return;
	had.rport = 4002;
	engine_start(&e, "a");
	ck_assert_int_eq(classifier_add_listener(e.c, &any, OURS), 0);
	ck_assert(comes(&e, 4001, TCPF_SYN));
	ck_assert(!classifier_has_given(e.c));
	ck_assert(!comes_while_silent(&e, 4000, TCPF_SYN));
	ck_assert_int_eq(n_answers, 1);
	ck_assert(classifier_has_given(e.c) && !classifier_has_given(e.c));
	classifier_visit_given(e.c, &given.visit);
	ck_assert(given.n == 1 && flow_key_equal(&given.keys[0], &first));
	ck_assert(!comes(&e, 4000, TCPF_ACK) && !comes(&e, 4000, TCPF_SYN) && !comes_while_silent(&e, 4000, TCPF_SYN));
	ck_assert(!classifier_has_given(e.c));

	/* Only SYNs: what the engine has waits for it. */
	ck_assert(comes_while_silent(&e, 4001, TCPF_ACK) && comes_while_silent(&e, 4001, TCPF_SYN | TCPF_ACK) && comes_while_silent(&e, 4001, TCPF_RST));
	classifier_count_conn(e.c, &had, 1);
	ck_assert(comes_while_silent(&e, 4002, TCPF_SYN));
	classifier_count_conn(e.c, &had, -1);
	ck_assert(!comes_while_silent(&e, 4002, TCPF_SYN));
	ck_assert(classifier_has_given(e.c));

	ck_assert_int_eq(classifier_del_exception(e.c, &first), 0);
	ck_assert_int_eq(classifier_del_exception(e.c, &had), 0);
	ck_assert_int_eq(ebpf_of(e.c)->ports->n_exceptions, 0);
	ck_assert(comes(&e, 4000, TCPF_SYN) && comes(&e, 4002, TCPF_ACK));
	engine_stop(&e);
}
END_TEST

static bool have_tcx(void)
{
	uint32_t ids[BPF_QUERY_MAX];
	return bpf_prog_query(1 /* lo */, BPF_ATTACH_TCX_INGRESS, 0, ids) >= 0;
}

static bool have_nft(void)
{
	return system("command -v nft >/dev/null") == 0;
}

static int run(enum classifier_choice which, const char *name)
{
	choice = which;
	Suite *s = suite_create(name);
	TCase *tc = tcase_create(name);
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_set_timeout(tc, 30);
	tcase_add_loop_test(tc, each_frame_goes_where_it_belongs, 0, sizeof rows / sizeof rows[0]);
	tcase_add_loop_test(tc, icmp_errors_about_us_are_copied, 0,
			    sizeof icmp_rows / sizeof icmp_rows[0]);
	tcase_add_test(tc, the_kernel_keeps_icmp_too);
	tcase_add_test(tc, listeners_are_counted_per_address);
	tcase_add_test(tc, a_silent_engine_gets_no_syns);
	tcase_add_test(tc, addresses_are_replaced);
	tcase_add_test(tc, flows_are_exact);
	tcase_add_test(tc, flows_share_slots);
	tcase_add_test(tc, flows_that_stay);
	tcase_add_test(tc, flows_go_together);
	tcase_add_test(tc, sets_grow);
	tcase_add_test(tc, where_the_host_judges_a_count_tells);
	tcase_add_test(tc, the_judge_wakes_who_sleeps);
	tcase_add_test(tc, a_kernel_connection_goes_on);
	tcase_add_test(tc, rules_can_be_printed_and_loaded);
	tcase_add_test(tc, kill_returns_the_ports_to_the_kernel);
	tcase_add_test(tc, a_forgetful_child_keeps_nothing_alive);
	tcase_add_test(tc, two_engines_share_an_interface);
	tcase_add_test(tc, a_foreign_program_does_not_hide_frames);
	tcase_add_test(tc, a_place_outlives_who_was_there);
	tcase_add_test(tc, an_interface_without_link_header);
	tcase_add_test(tc, failure_says_why);
	suite_add_tcase(s, tc);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed;
}

int main(void)
{
	if (geteuid() != 0 || !have_tcx()) {
		printf("needs root, eBPF and tcx\n");
		return 77;
	}
	pid_t pid = fork(); /* is a namespace to be had at all? */
	if (pid == 0)
		_exit(net_enter());
	int status;
	if (waitpid(pid, &status, 0) != pid || status != 0)
		return WIFEXITED(status) ? WEXITSTATUS(status) : 1;

	int failed = run(CLASSIFIER_EBPF, "classifier, eBPF");
	if (have_nft())
		failed += run(CLASSIFIER_NFTABLES, "classifier, nftables");
	else
		untested("nft: that backend");
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
