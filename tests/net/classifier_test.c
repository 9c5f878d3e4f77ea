/* Which frames are the engine's: the table of frames, ICMP errors, and an interface without a link header. */
#include "tests/net/classifier_lab.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tests/untested.h"

struct row {
	const char *name;
	struct spec s;
	int tap;       /* the engine sees it; or EBPF_NO */
	uint8_t reply; /* flags of the kernel's answer, 0: none */
};

#define V6 .src = PEER_V6, .dst = OUR_V6

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

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, each_frame_goes_where_it_belongs, 0, sizeof rows / sizeof rows[0]);
	tcase_add_loop_test(tc, icmp_errors_about_us_are_copied, 0, sizeof icmp_rows / sizeof icmp_rows[0]);
	tcase_add_test(tc, the_kernel_keeps_icmp_too);
	tcase_add_test(tc, an_interface_without_link_header);
}

int main(void)
{
	return classifier_main("classifier", add);
}
