/* firewall_check against nftables' rules, made by nft in a network namespace of each test's own. */
#include "firewall_lab.h"

#include <string.h>
#include <sys/socket.h>

#include "kernel/firewall_internal.h"
#include "kernel/named.h"
#include "tests/suite.h"

struct nft_row {
	const char *rules;
	int expected;
	const char *named; /* what `why` must name */
};

static const struct nft_row nft_rows[] = {
	{"add table inet t", 0, ""},
	{"add table inet t; add chain inet t c { type filter hook input priority 0; }", 0, ""},
	{"add table inet t; add chain inet t c { type filter hook forward priority 0; policy drop; }", 0, ""},
	{"add table inet t; add chain inet t c { type filter hook input priority 0; policy drop; }", 1,
	 "inet t c has policy drop"},
	{"add table ip t; add chain ip t c { type filter hook output priority 0; policy drop; }", 1, "ip t c"},
	{"add table inet t; add chain inet t u; add rule inet t u tcp dport 80 drop", 0, ""}, /* nobody goes there */
	/* each hook */
	{"add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c tcp dport 80 drop", 1,
	 "inet t c drops"},
	{"add table inet t; add chain inet t c { type filter hook output priority 0; }; add rule inet t c drop", 1, "inet t c"},
	{"add table inet t; add chain inet t c { type filter hook prerouting priority 0; }; add rule inet t c accept", 0, ""},
	{"add table ip6 t; add chain ip6 t c { type filter hook postrouting priority 0; }; add rule ip6 t c counter", 0, ""},
	{"add table inet t; add chain inet t c { type filter hook forward priority 0; }; add rule inet t c drop", 0, ""},
	{"add table inet t; add chain inet t c { type filter hook ingress device a priority 0; }; add rule inet t c drop", 1, "inet t c"},
	{"add table inet t; add chain inet t c { type filter hook ingress device b priority 0; }; add rule inet t c drop", 0, ""},
	{"add table netdev t; add chain netdev t c { type filter hook ingress device a priority 0; }; add rule netdev t c drop", 1,
	 "netdev t c"},
	{"add table netdev t; add chain netdev t c { type filter hook ingress devices = { a, b } priority 0; }; add rule netdev t c drop",
	 1, "netdev t c"},
	{"add table netdev t; add chain netdev t c { type filter hook ingress device b priority 0; }; add rule netdev t c drop", 0, ""},
	{"add table netdev t; add chain netdev t c { type filter hook egress device a priority 0; }; add rule netdev t c drop", 1,
	 "netdev t c"},
	{"add table ip t; add chain ip t c { type nat hook prerouting priority -100; }; add rule ip t c tcp dport 80 redirect to :81", 1,
	 "ip t c"},
	{"add table ip t; add chain ip t c { type nat hook postrouting priority 100; }; add rule ip t c masquerade", 1, "ip t c"},
	{"add table arp t; add chain arp t c { type filter hook input priority 0; policy drop; }", 0, ""},
	{"add table bridge t; add chain bridge t c { type filter hook input priority 0; policy drop; }", 0, ""},
	/* rules that cannot concern TCP here, and their neighbours that can */
#define IN "add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c "
	{IN "udp dport 53 drop", 0, ""},
	{IN "meta l4proto icmp accept", 0, ""},
	{IN "ip protocol icmp accept", 0, ""},
	{IN "meta l4proto != icmp drop", 1, ""},
	{IN "meta l4proto tcp accept", 0, ""},
	{IN "meta l4proto { tcp, udp } accept", 0, ""},
	{IN "meta l4proto { tcp, udp } drop", 1, "inet t c drops"},
	{IN "meta l4proto { icmp, udp } drop", 0, ""},
	{IN "iif lo accept", 0, ""},
	{IN "iifname \"lo\" accept", 0, ""},
	{IN "iifname \"b\" drop", 0, ""},
	{IN "iifname \"b*\" drop", 0, ""},
	{IN "iifname \"a\" drop", 1, ""},
	{IN "iifname \"a*\" drop", 1, ""},
	{IN "iif a drop", 1, ""},
	{IN "iif != lo drop", 1, ""},
	{IN "ip saddr 192.0.2.1 udp dport 53 drop", 0, ""},
	{IN "ip saddr 192.0.2.1 drop", 1, ""},
	{IN "counter udp dport 53 drop", 0, ""},
	{IN "ct state established accept", 0, ""},
	{IN "ct state invalid drop", 0, ""},
	{IN "ct state new drop", 1, "inet t c drops"},
	{IN "tcp flags & (fin|syn) == (fin|syn) drop", 1, ""}, /* a segment of a connection could have both */
	{IN "ip saddr { 192.0.2.0/24, 198.51.100.7 } drop", 1, ""},
	{IN "tcp dport { 22, 80-90 } drop", 1, ""},
	{IN "ip protocol vmap { udp : drop, icmp : drop }", 0, ""},
	{IN "ip protocol vmap { udp : drop, tcp : drop }", 1, ""},
	{IN "ct state vmap { invalid : drop, established : accept }", 0, ""},
	{IN "tcp dport 80 limit rate 1/second accept", 0, ""}, /* policy accept */
	{IN "iifname \"a\" meta l4proto . iifname { udp . \"a\" } drop", 0, ""},
	{IN "meta l4proto . iifname { 0-16 . \"b\" } drop", 1, ""}, /* ranges of a concatenation: not looked into */
	/* elements that may go meanwhile */
	{"add table inet t; add set inet t s { type inet_proto; flags timeout; elements = { tcp timeout 1h }; }; add chain inet t c { type filter hook input priority 0; policy drop; }; add rule inet t c meta l4proto @s accept", 1, "policy drop"},
	{IN "udp dport 1; add set inet t s { type inet_proto; flags timeout; elements = { tcp timeout 1h }; }; add rule inet t c meta l4proto @s drop", 1, "inet t c drops"},
	{IN "udp dport 1; add set inet t s { type inet_proto; flags timeout; elements = { udp timeout 1h }; }; add rule inet t c meta l4proto @s drop", 0, ""},
	{IN "udp dport 1; add set inet t s { type inet_proto; flags timeout; size 9; elements = { udp timeout 1h }; }; add rule inet t c udp dport 1 add @s { meta l4proto }; add rule inet t c meta l4proto @s drop", 1, "inet t c drops"},
	/* a limit in a set */
	{"add table inet t; add set inet t s { type inet_proto; limit rate 1/minute; elements = { tcp }; }; add chain inet t c { type filter hook input priority 0; policy drop; }; add rule inet t c meta l4proto @s accept", 1, ""},
	{"add table inet t; add set inet t s { type inet_proto; counter; elements = { tcp counter }; }; add chain inet t c { type filter hook input priority 0; policy drop; }; add rule inet t c meta l4proto @s accept", 0, ""},
	{"add table inet t; add set inet t s { type inet_proto; elements = { tcp }; }; add chain inet t c { type filter hook input priority 0; policy drop; }; add rule inet t c meta l4proto @s accept", 0, ""},
	/* who may have returned does not meet the accept that follows */
	{"add table inet t; add chain inet t c { type filter hook input priority 0; policy drop; }; add rule inet t c tcp dport 80 return; add rule inet t c accept", 1, "policy drop"},
	{"add table inet t; add chain inet t c { type filter hook input priority 0; policy drop; }; add chain inet t d; add rule inet t c tcp dport 80 goto d; add rule inet t c accept", 1, "policy drop"},
	{"add table inet t; add chain inet t c { type filter hook input priority 0; policy drop; }; add rule inet t c udp dport 80 return; add rule inet t c accept", 0, ""},
	{IN "meta mark set 1", 1, "mark"},
	{IN "tcp dport 80 reject", 1, "rejects"},
	{IN "tcp option maxseg size set 1000", 1, ""},
	{IN "fib saddr . iif oif missing drop", 0, ""}, /* a way back that is another interface's is no connection of ours */
	{"add table inet t; add chain inet t c { type filter hook input priority 0; policy drop; }; add rule inet t c meta l4proto tcp accept", 0, ""},
	{"add table inet t; add chain inet t c { type filter hook input priority 0; }; add chain inet t d; add rule inet t d drop; add rule inet t c jump d", 1, "inet t d drops"},
	{"add table inet t; add chain inet t c { type filter hook input priority 0; }; add chain inet t d; add rule inet t d drop; add rule inet t c udp dport 1 jump d", 0, ""},
	{IN "udp dport 53 drop; add rule inet t c udp dport 54 drop; add rule inet t c tcp dport 22 accept", 0, ""},
	{IN "udp dport 53 drop; add rule inet t c udp dport 54 drop; add rule inet t c tcp dport 22 drop", 1, ""},
	{"add table ip t; add chain ip t c { type filter hook input priority 0; }; add rule ip t c ip protocol icmp drop", 0, ""},
	{"add table ip t; add chain ip t c { type filter hook input priority 0; }; add rule ip t c ip protocol tcp drop", 1, ""},
	{"add table ip6 t; add chain ip6 t c { type filter hook input priority 0; }; add rule ip6 t c ip6 nexthdr icmpv6 drop", 1, ""},
	{IN "rt type 0 drop", 0, ""}, /* TCP behind a routing header is never ours */
	{IN "rt type != 0 drop", 0, ""},
	{IN "ah spi 1 drop; add rule inet t c mh type 1 drop", 0, ""},
	{IN "exthdr rt missing drop", 1, "drops"}, /* … but without one it is */
	{IN "rt type 0 accept; add rule inet t c tcp dport 80 drop", 1, "drops"}, /* a rule does not end its chain */
	{IN "hbh hdrlength 0 drop", 1, ""}, /* those may stand before our TCP */
	{IN "frag more-fragments 0 drop", 1, ""},
	{"add table netdev t; add chain netdev t c { type filter hook ingress device a priority 0; }; add rule netdev t c meta protocol arp drop",
	 0, ""},
};

static void nft_add(const char *rules)
{
	FILE *nft = popen("nft -f -", "w");
	for (const char *p = rules; *p; p++) { /* one command per line */
		if (p[0] == ';' && strncmp(p, "; add", 5) == 0)
			fputc('\n', nft);
		else
			fputc(*p, nft);
	}
	fputc('\n', nft);
	ck_assert_msg(pclose(nft) == 0, "nft refuses: %s", rules);
}

START_TEST(nftables)
{
	const struct nft_row *r = &nft_rows[_i];

	ck_assert_int_eq(check("a"), 0);
	nft_add(r->rules);
	int ret = check("a");
	ck_assert_msg(ret == r->expected, "%s: %d (%s)", r->rules, ret, why);
	if (ret)
		ck_assert_msg(strstr(why, "nftables") && strstr(why, r->named), "%s", why);
}
END_TEST

/*
 * The parts of a concatenation begin at words of their own, and end with zeros, whatever was in the registers before:
 * here a name that fills them.
 */
START_TEST(concatenations)
{
	static const char *const rules[] = {"tcp dport . ip saddr { 80 . 192.0.2.1 }", "ip saddr . tcp dport { 192.0.2.1 . 80 }", "meta l4proto . th dport { tcp . 80 }"};
	char text[300];
	ck_assert_int_eq(system("ip link set dev a down && ip link set dev a name enp0s31f6 && ip link set dev enp0s31f6 up"), 0);
	snprintf(text, sizeof text, IN "iifname \"enp0s31f6\" %s accept", rules[_i]);
	nft_add(text);
	ck_assert_int_eq(check("enp0s31f6"), 0);
	snprintf(text, sizeof text, "add rule inet t c iifname \"enp0s31f6\" %s drop", rules[_i]);
	nft_add(text);
	ck_assert_int_eq(check("enp0s31f6"), 1);
	ck_assert_ptr_nonnull(strstr(why, "inet t c drops"));
}
END_TEST

/* ---- ports that are open to everybody ---- */

enum { OPEN_V4 = 1, OPEN_V6 = 2, OPEN = OPEN_V4 | OPEN_V6 };
static const struct {
	const char *rules;
	int opens; /* port 80, over `a` */
} open_rows[] = {
#define DROPS "add table inet t; add set inet t s { type ipv4_addr; size 9; flags dynamic; }; add chain inet t c { type filter hook input priority 0; policy drop; }; " \
	      "add chain inet t o { type filter hook output priority 0; }; add chain inet t n { type nat hook prerouting priority -100; }; " \
	      "add rule inet t c ct state established,related accept; add rule inet t c ct state invalid drop; add rule inet t c "
	{DROPS "tcp dport 80 accept", OPEN},
	{DROPS "tcp dport { 22, 80 } ct state new accept", OPEN},
	{DROPS "tcp dport 81 accept", 0},
	{"add table inet t; add set inet t i { type inet_service; flags interval; elements = { 0-65535 } }; add chain inet t c { type filter hook input priority 0; policy drop; }; add rule inet t c ct state established accept; add rule inet t c tcp dport @i accept", OPEN},
	{DROPS "accept; add set inet t i { type inet_service; flags interval; elements = { 0-65535 } }; insert rule inet t c tcp dport @i drop", 0}, /* a range without an end */
	{DROPS "tcp dport vmap { 0-69 : accept, 70-65535 : drop }; add rule inet t c accept", 0},
	{DROPS "meta nfproto ipv4 tcp dport 80 accept", OPEN_V4},
	{DROPS "meta nfproto ipv6 tcp dport 80 accept", OPEN_V6},
	{DROPS "iifname \"a\" tcp dport 80 accept", OPEN},
	{DROPS "iifname \"b\" tcp dport 80 accept", 0},
	/* to all but who is named (named_rows), or nobody can say */
	{DROPS "ip saddr 192.0.2.1 drop; add rule inet t c tcp dport 80 accept", OPEN},
	{DROPS "ip6 saddr 2001:db8::1 drop; add rule inet t c tcp dport 80 accept", OPEN},
	{DROPS "ip saddr @s drop; add rule inet t c tcp dport 80 accept", OPEN_V6},
	{DROPS "ip saddr != 192.0.2.1 tcp dport 80 accept", OPEN_V4},
	{DROPS "ip saddr 10.0.0.0/8 tcp dport 80 accept", 0},
	{DROPS "tcp sport 1024-65535 tcp dport 80 accept", 0},
	{DROPS "tcp sport >= 1024 tcp dport 80 accept", 0},
	/* a comparison that all values pass, or none */
	{DROPS "tcp sport >= 0 tcp dport 80 accept", OPEN},
	{DROPS "tcp sport < 0 drop" "; add rule inet t c tcp dport 80 accept", OPEN},
	{DROPS "tcp sport 0-65535 tcp dport 80 accept", OPEN},
	{DROPS "tcp sport != 0-65535 drop" "; add rule inet t c tcp dport 80 accept", OPEN},
	{DROPS "ip dscp > 62 drop" "; add rule inet t c tcp dport 80 accept", OPEN_V6},
	{DROPS "tcp dport > 79 tcp dport < 81 accept", OPEN},
	{DROPS "tcp dport > 80 accept", 0},
	{DROPS "tcp dport <= 79 drop" "; add rule inet t c accept", OPEN},
	{DROPS "tcp dport 80 limit rate 10/second accept", 0},
	{DROPS "tcp dport 80 limit rate over 10/second drop; add rule inet t c tcp dport 80 accept", 0},
	{DROPS "tcp dport 80 ct count over 3 drop; add rule inet t c tcp dport 80 accept", 0},
	{DROPS "tcp dport 80 meta length 1-1000 accept", 0},
	{DROPS "ip ttl > 3 tcp dport 80 accept", 0},
	{DROPS "tcp option maxseg size > 500 tcp dport 80 accept", 0},
	{DROPS "meta random & 3 == 0 drop; add rule inet t c tcp dport 80 accept", 0},
	{DROPS "tcp dport 80 tcp flags & (fin|syn|rst|ack) == syn accept", 0},
	{DROPS "tcp dport 80 tcp flags & (fin|syn|rst|ack) == ack accept", 0},
	/* what of the header is not the proof's, other packets that open a connection, and where they come from */
	{DROPS "ip hdrlength > 5 drop; add rule inet t c tcp dport 80 accept", OPEN_V6},
	{DROPS "tcp flags == syn tcp dport 80 accept", 0},
	{DROPS "tcp flags & (fin|syn|rst|psh|ack|urg) == syn tcp dport 80 accept", 0},
	{DROPS "tcp flags & (fin|syn|rst|ack) != syn ct state new drop; add rule inet t c tcp dport 80 accept", 0},
	{"add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c tcp dport 80 ct state established tcp flags syn drop", 0},
	{DROPS "fib saddr type local drop; add rule inet t c tcp dport 80 accept", 0},
	{DROPS "meta nfproto ipv6 fib saddr . iif oif missing drop; add rule inet t c tcp dport 80 accept", OPEN_V4},
	{DROPS "fib daddr type local tcp dport 80 accept", OPEN},
	{DROPS "ct state untracked drop; add rule inet t c tcp dport 80 accept", OPEN},
	{DROPS "meta skuid 0 tcp dport 80 accept", 0},
	{DROPS "socket transparent 1 drop; add rule inet t c tcp dport 80 accept", 0},
	{DROPS "osf name \"Linux\" drop; add rule inet t c tcp dport 80 accept", 0},
	{DROPS "tcp dport vmap { 80 : accept, 81 : drop }", OPEN},
	/* where the next range begins at once, nothing says where the first ends */
	{DROPS "tcp dport vmap { 1-79 : accept, 80-90 : drop }", 0},
	{DROPS "tcp dport vmap { 1-70 : accept, 71-79 : accept }", 0},
	{DROPS "tcp dport vmap { 1-79 : drop, 80-90 : accept }", OPEN},
	/* two sets, and two chains, whose names differ late */
#define LATE "a_name_of_more_than_sixty_three_letters_whose_last_one_is_what_tells_it_from_"
	{DROPS "accept; add set inet t " LATE "a { type inet_service; elements = { 81 }; }; add set inet t " LATE "b { type inet_service; elements = { 80 }; }; "
	 "insert rule inet t c tcp dport @" LATE "a drop; insert rule inet t c tcp dport @" LATE "b drop", 0},
	{DROPS "accept; add chain inet t " LATE "a; add chain inet t " LATE "b; add rule inet t " LATE "b drop; insert rule inet t c jump " LATE "a", OPEN},
	{DROPS "accept; add chain inet t " LATE "a; add chain inet t " LATE "b; add rule inet t " LATE "b drop; insert rule inet t c jump " LATE "b", 0},
	/* the last of the registers */
	{DROPS "iifname . ip6 saddr . ip6 daddr . meta l4proto . th dport { \"a\" . 2001:db8::1 . 2001:db8::2 . tcp . 80 } drop; add rule inet t c tcp dport 80 accept", OPEN_V4},
	{DROPS "tcp dport 80 ip saddr vmap { 192.0.2.1 : drop }; add rule inet t c tcp dport 80 accept", OPEN},
	{DROPS "tcp dport 80 quota over 1 mbytes drop; add rule inet t c tcp dport 80 accept", 0},
	{DROPS "tcp dport 80 meta hour \"08:00\"-\"17:00\" accept", 0},
	{DROPS "tcp dport 80 accept; add chain inet t r { type filter hook prerouting priority -300; }; add rule inet t r tcp dport 80 notrack", 0},
	{DROPS "tcp dport 80 accept; add chain inet t r { type filter hook prerouting priority -150; }; add rule inet t r tcp dport 80 tproxy to :81 accept", 0},
	{DROPS "tcp dport 80 synproxy mss 1460 wscale 7", 0},
	/* somebody wants to know who comes */
	{DROPS "log; add rule inet t c tcp dport 80 accept", 0},
	{DROPS "tcp dport 80 log prefix \"web\" accept", 0},
	{DROPS "tcp dport 81 log; add rule inet t c tcp dport 80 accept; add rule inet t c log", OPEN},
	{DROPS "limit rate 3/minute log; add rule inet t c tcp dport 80 accept", 0},
	{DROPS "tcp dport 80 counter accept", 0},
	{DROPS "tcp dport 81 counter accept; add rule inet t c tcp dport 80 accept; add rule inet t c counter", OPEN},
	{DROPS "accept; add counter inet t x; add rule inet t n tcp dport 80 counter name x", 0},
	{"add table inet t; add chain inet t c { type filter hook input priority 0; policy drop; }; add rule inet t c ct state established,related counter accept; "
	 "add rule inet t c tcp dport 80 accept", OPEN},
	{"add table ip filter; add chain ip filter INPUT { type filter hook input priority 0; policy drop; }; add rule ip filter INPUT tcp dport 80 counter accept; "
	 "add rule ip filter INPUT ip saddr 192.0.2.1 counter", OPEN},
	{DROPS "tcp dport 80 limit rate 10/second; add rule inet t c tcp dport 80 accept", 0},
	{DROPS "tcp dport 80 quota until 1 mbytes; add rule inet t c tcp dport 80 accept", 0},
	{DROPS "tcp dport 80 accept; add set inet t n { type inet_service; counter; }; add element inet t n { 80 }; add rule inet t n tcp dport @n", 0},
	{DROPS "tcp dport 80 add @s { ip saddr } accept", 0},
	{DROPS "tcp dport 80 ct mark set 1 accept", 0},
	/* other hooks, and what follows the SYN */
	{DROPS "tcp dport 80 accept; add rule inet t n tcp dport 80 redirect to :81", 0},
	{DROPS "tcp dport 80 accept; add rule inet t n tcp dport 82 redirect to :80", OPEN},
	{DROPS "tcp dport 80 accept; add rule inet t o meta mark set 1", 0},
	{DROPS "tcp dport 80 accept; add rule inet t o ip daddr 192.0.2.1 drop", OPEN},
};

static int opens(struct firewall *f, const char *ifname, uint16_t port)
{
	struct firewall_flow v4 = {.ifindex = if_nametoindex(ifname), .ifname = ifname, .key.lport = port}, v6 = v4;
	v6.v6 = true;
	return (firewall_opens(f, &v4) ? OPEN_V4 : 0) | (firewall_opens(f, &v6) ? OPEN_V6 : 0);
}

START_TEST(open_ports)
{
	struct firewall *f;
	nft_add(open_rows[_i].rules);
	ck_assert_int_eq(firewall_read(&f, why, sizeof why), 0);
	int got = opens(f, "a", 80);
	ck_assert_msg(got == open_rows[_i].opens, "%s: %d", open_rows[_i].rules, got);
	firewall_free(f);
}
END_TEST

/*
 * Ports that are open to all but the sources that the rules name. `named`, `others`: of the family of `named`,
 * separated by blanks. "": the port is not open to any of them.
 */
static const struct {
	const char *rules, *named, *others;
} named_rows[] = {
#define ACCEPTS "; add rule inet t c tcp dport 80 accept"
	{DROPS "accept", "", "192.0.2.1"},
	{DROPS "ip saddr 192.0.2.1 drop" ACCEPTS, "192.0.2.1", "192.0.2.2 192.0.3.1 10.0.0.1 127.0.0.1 255.255.255.255"},
	{DROPS "ip saddr { 192.0.2.1, 192.0.2.7 } tcp dport 80 reject" ACCEPTS, "192.0.2.1 192.0.2.7", "192.0.2.2 10.0.0.1"},
	{DROPS "ip saddr { 192.0.2.1, 198.51.100.0-198.51.100.99, 203.0.112.0/20 } drop" ACCEPTS,
	 "192.0.2.1 198.51.100.0 198.51.100.50 198.51.100.99 203.0.112.0 203.0.127.255 203.0.120.1", "192.0.2.2 198.51.100.100 198.51.99.50 202.255.255.255 203.1.0.0"},
	{DROPS "ip saddr 192.0.2.0/24 drop" ACCEPTS, "192.0.2.0 192.0.2.99 192.0.2.255", "192.0.1.255 192.0.3.0"}, /* it loads three bytes */
	{DROPS "ip saddr 192.0.2.64/26 drop" ACCEPTS, "192.0.2.64 192.0.2.127", "192.0.2.63 192.0.2.128"},
	{DROPS "ip saddr 10.64.0.0/10 drop" ACCEPTS, "10.64.0.0 10.100.1.1 10.127.255.255", "10.63.255.255 10.128.0.0"},
	{DROPS "ip saddr & 255.0.0.255 == 10.0.0.1 drop" ACCEPTS, NULL, NULL},
	{DROPS "(ip saddr & 0.0.0.255) ^ 0.0.0.255 == 0.0.0.1 drop" ACCEPTS, NULL, NULL},
	{DROPS "ip saddr 192.0.2.1-192.0.2.9 drop" ACCEPTS, "192.0.2.1 192.0.2.5 192.0.2.9", "192.0.2.0 192.0.2.10"}, /* by two comparisons */
	{DROPS "ip saddr 10.64.0.0-10.127.0.9 drop" ACCEPTS, "10.64.0.0 10.100.1.1 10.127.0.9", "10.63.255.255 10.128.0.0"},
	{DROPS "ip6 saddr 2001:db8::1-2001:db8::9 drop" ACCEPTS, "2001:db8::1 2001:db8::9", "2001:db8::a ::1"},
	/* one side of an address: the smaller part of all addresses is who is named */
	{DROPS "ip saddr >= 192.0.2.1 ip daddr <= 192.0.2.9 drop" ACCEPTS, "192.0.2.1 255.255.255.255", "191.255.255.255 10.0.0.1"},
	{DROPS "ip saddr >= 192.0.2.1 drop" ACCEPTS, "192.0.2.1 203.0.113.1 255.255.255.255", "191.255.255.255 0.0.0.0"},
	{DROPS "ip saddr > 255.255.255.250 drop" ACCEPTS, "255.255.255.251 255.255.255.255", "255.255.255.250 192.0.2.1"},
	{DROPS "ip saddr < 10.0.0.0 drop" ACCEPTS, "0.0.0.0 9.255.255.255", "10.0.0.0 192.0.2.1"},
	{DROPS "ip saddr <= 10.0.0.0 drop" ACCEPTS, "0.0.0.0 10.0.0.0", "10.1.0.0 192.0.2.1"},
	{DROPS "ip saddr >= 10.0.0.0 tcp dport 80 accept", "0.0.0.0 9.255.255.255", "10.0.0.0 192.0.2.1"},
	{DROPS "ip saddr > 0.0.0.9 tcp dport 80 accept", "0.0.0.0 0.0.0.9", "0.0.0.10 192.0.2.1"},
	{DROPS "ip saddr <= 223.255.255.255 tcp dport 80 accept", "224.0.0.0 255.255.255.255", "223.255.255.255 10.0.0.1"},
	{DROPS "ip saddr >= 10.0.0.0 drop" ACCEPTS, NULL, NULL},
	{DROPS "ip saddr < 10.0.0.0 tcp dport 80 accept", NULL, NULL},
	{DROPS "ip saddr & 255.255.0.0 < 10.0.0.0 drop" ACCEPTS, NULL, NULL},
	{DROPS "ip6 saddr < 2000:: drop" ACCEPTS, "::1 1fff:ffff::1", "2000:: 2001:db8::1 fe80::1"},
	{DROPS "ip6 saddr >= ff00:: drop" ACCEPTS, "ff00:: ffff::1", "feff::1 2001:db8::1"},
	/* sets whose elements go after a time, and none comes but by the administrator; another is filled by packets */
#define AGING "accept; add set inet t aging { type ipv4_addr; flags timeout; elements = { 192.0.2.1 timeout 1h, 192.0.2.7 } }; "
	{DROPS AGING "insert rule inet t c ip saddr @aging drop", "192.0.2.1 192.0.2.7", "192.0.2.2"},
	{DROPS AGING "insert rule inet t c tcp dport 80 ip saddr @aging drop; add rule inet t o ip daddr @aging drop", "192.0.2.1 192.0.2.7", "192.0.2.2"},
	{DROPS AGING "insert rule inet t c ip saddr != @aging drop", NULL, NULL},
	{DROPS AGING "insert rule inet t c ip saddr @aging drop; add rule inet t c udp dport 53 add @aging { ip saddr }", NULL, NULL},
	{DROPS "accept; add set inet t wide { type ipv4_addr; flags interval,timeout; timeout 1d; elements = { 192.0.2.64/26, 198.51.100.0-198.51.100.9 } }; insert rule inet t c ip saddr @wide drop",
	 "192.0.2.64 192.0.2.127 198.51.100.0 198.51.100.9", "192.0.2.63 192.0.2.128 198.51.100.10"},
	{DROPS "accept; add set inet t aging6 { type ipv6_addr; flags timeout; timeout 1d; elements = { 2001:db8::1 } }; insert rule inet t c ip6 saddr @aging6 drop", "2001:db8::1", "2001:db8::2"},
	{DROPS "accept; add map inet t aging { type ipv4_addr : verdict; flags timeout; elements = { 192.0.2.1 timeout 1h : drop } }; insert rule inet t c ip saddr vmap @aging", "192.0.2.1", "192.0.2.2"},
	{DROPS "ip saddr < 192.0.2.1 drop" ACCEPTS, NULL, NULL}, /* most are kept out */
	{DROPS "ip saddr . tcp dport { 192.0.2.1 . 80, 192.0.2.2 . 81 } drop" ACCEPTS, "192.0.2.1", "192.0.2.2 192.0.2.3"},
	{DROPS "ip saddr . tcp sport { 192.0.2.1 . 80 } drop" ACCEPTS, NULL, NULL},
	{DROPS "ip saddr . ip daddr { 192.0.2.1 . 192.0.2.9 } drop" ACCEPTS, NULL, NULL},
	{DROPS "ip saddr 192.0.2.1 tcp sport 99 drop" ACCEPTS, "192.0.2.1", "192.0.2.2"},
	{DROPS "tcp sport 99 ip saddr 192.0.2.1 drop" ACCEPTS, "192.0.2.1", "192.0.2.2"},
	{DROPS "tcp dport 81 ip saddr 192.0.2.1 drop" ACCEPTS, "", "192.0.2.1"},
	{DROPS "ip saddr != 192.0.2.1 tcp dport 80 accept", "192.0.2.1", "192.0.2.2"},
	{DROPS "ip saddr != { 192.0.2.1, 192.0.2.3 } tcp dport 80 accept", "192.0.2.1 192.0.2.3", "192.0.2.2"},
	{DROPS "ip saddr 192.0.2.1 tcp dport 80 accept", NULL, NULL},
	{DROPS "ip saddr vmap { 192.0.2.1 : drop, 192.0.2.2 : accept }" ACCEPTS, "192.0.2.1 192.0.2.2", "192.0.2.3"},
	{DROPS "ip saddr vmap { 192.0.2.1-192.0.2.5 : drop, 192.0.2.6-192.0.2.9 : accept }" ACCEPTS, "192.0.2.1 192.0.2.5 192.0.2.6 192.0.2.9", "192.0.2.0 192.0.2.10 192.0.3.1"},
	/* a range that reaches the last address has no end, nor has one where the next begins at once */
	{DROPS "ip saddr { 192.0.0.0-255.255.255.255 } drop" ACCEPTS, "192.0.0.0 255.255.255.255 203.0.113.1", "191.255.255.255 10.0.0.1"},
	{DROPS "accept; add set inet t i { type ipv6_addr; flags interval; elements = { ::/0 } }; insert rule inet t c ip6 saddr @i drop", "::1 2001:db8::1 ff00::1", ""},
	{DROPS "accept; add set inet t i { type ipv4_addr; flags interval; elements = { 0.0.0.0/0 } }; insert rule inet t c ip saddr @i drop", "0.0.0.0 192.0.2.1 255.255.255.255", ""},
	{DROPS "ip saddr vmap { 0.0.0.0/1 : accept, 128.0.0.0/1 : drop }" ACCEPTS, "0.0.0.0 127.0.0.1 128.0.0.0 192.0.2.1", ""},
	{DROPS "ip saddr 192.0.2.1 log" ACCEPTS, "192.0.2.1", "192.0.2.2"},
	{DROPS "ip daddr 192.0.2.1 drop" ACCEPTS, NULL, NULL},
	{DROPS "accept; add rule inet t o ip daddr 192.0.2.1 drop", "192.0.2.1", "192.0.2.2"},
	{DROPS "accept; add rule inet t o ip saddr 192.0.2.1 drop", NULL, NULL},
	{DROPS "accept; add rule inet t n ip saddr 192.0.2.1 tcp dport 80 redirect to :81", "192.0.2.1", "192.0.2.2"},
	{DROPS "ip6 saddr 2001:db8::1 drop" ACCEPTS, "2001:db8::1", "2001:db8::2 2001:db9::1 fe80::1 ::1"},
	{DROPS "ip6 saddr 2001:db8:1::/64 drop" ACCEPTS, "2001:db8:1::1 2001:db8:1::ff:1", "2002:db8:1::1 fd00::1"},
	{DROPS "ip6 saddr { fe80::/10, 2001:db8::f0-2001:db8::f9 } drop" ACCEPTS, "fe80::1 febf::1 2001:db8::f0 2001:db8::f9", "fec0::1 fe7f::1 2001:db8::ef 2001:db8::fa"},
	{"add table ip filter; add chain ip filter INPUT { type filter hook input priority 0; }; add rule ip filter INPUT ip saddr 192.0.2.1 counter reject", "192.0.2.1", "192.0.2.2"},
};

/* Each address of the list: is it as `named` says? */
static void check_named(const struct firewall *f, const char *list, bool named, const char *rules)
{
	char copy[256], *save = NULL;
	snprintf(copy, sizeof copy, "%s", list);
	for (char *t = strtok_r(copy, " ", &save); t; t = strtok_r(NULL, " ", &save)) {
		struct ip_addr a;
		ck_assert_int_eq(ip_addr_parse(t, &a), 0);
		const struct named_sources *n = firewall_named(f, !ip_addr_is_v4(&a));
		ck_assert_msg((n && named_has(n, &a)) == named, "%s: %s is %snamed", rules, t, named ? "not " : "");
	}
}

START_TEST(named_sources)
{
	struct firewall *f;
	const char *rules = named_rows[_i].rules, *named = named_rows[_i].named;
	bool v6 = named && strchr(named, ':');
	nft_add(rules);
	ck_assert_int_eq(firewall_read(&f, why, sizeof why), 0);
	ck_assert_ptr_null(firewall_named(f, v6));
	ck_assert_msg(!!(opens(f, "a", 80) & (v6 ? OPEN_V6 : OPEN_V4)) == !!named, "%s", rules);
	if (named) {
		check_named(f, named, true, rules);
		check_named(f, named_rows[_i].others, false, rules);
	}
	firewall_free(f);
}
END_TEST

/*
 * conntrack has the engine's connections by their SYN alone, and too long: where a rule's verdict depends on their
 * number, a server is the kernel's.
 */
static const struct {
	const char *rules;
	int counts;
} counting_rows[] = {
	{DROPS "tcp dport 80 accept", 0},
	{DROPS "tcp dport 80 ct count over 3 drop" ACCEPTS, 1},
	{DROPS "tcp dport 80 add @s { ip saddr ct count over 3 } drop" ACCEPTS, 1}, /* … of each client */
	{DROPS "tcp dport 80 update @s { ip saddr ct count over 3 counter } drop" ACCEPTS, 1},
	{DROPS "tcp dport 81 add @s { ip saddr ct count over 3 } drop" ACCEPTS, 0},
	{DROPS "tcp dport 80 add @s { ip saddr limit rate over 3/minute } drop" ACCEPTS, 0},
	{DROPS "tcp dport 80 add @s { ip saddr counter } accept", 0},
	{DROPS "tcp dport 80 ip saddr @s drop" ACCEPTS "; add rule inet t c tcp dport 81 add @s { ip saddr ct count over 3 }", 1},
	{DROPS "udp dport 1; add set inet t l { type ipv4_addr; ct count over 3; elements = { 192.0.2.1 } }; add rule inet t c tcp dport 80 ip saddr @l drop" ACCEPTS, 1},
	{DROPS "udp dport 1; add set inet t l { type inet_service; ct count over 3; elements = { 81 } }; add rule inet t c tcp dport @l drop" ACCEPTS, 1}, /* which elements is not looked at */
};

START_TEST(counted_connections)
{
	struct firewall *f;
	struct firewall_flow any = {.ifindex = if_nametoindex("a"), .ifname = "a", .key.lport = 80};
	nft_add(counting_rows[_i].rules);
	ck_assert_int_eq(firewall_read(&f, why, sizeof why), 0);
	why[0] = '\0';
	firewall_filters_server(f, &any, why, sizeof why);
	ck_assert_msg(!!strstr(why, "counts connections") == counting_rows[_i].counts, "%s: %s", counting_rows[_i].rules, why);
	firewall_free(f);
}
END_TEST

/* More interfaces than are remembered of a chain: it is of all. */
START_TEST(a_chain_of_many_interfaces)
{
	for (int i = 0; i < 4; i++) {
		char add[64];
		snprintf(add, sizeof add, "ip link add m%d type veth peer name p%d", i, i);
		net_run(add);
	}
	nft_add("add table netdev t; add chain netdev t c { type filter hook ingress devices = { a, b, m0, m1, m2, m3 } priority 0; }; add rule netdev t c drop");
	ck_assert_int_eq(check("a"), 1);
	ck_assert_int_eq(check("m3"), 1);
}
END_TEST

#define LASTING 8000 /* elements, in more datagrams than one */
#define PASSING 2000

static void add_aging(void)
{
	FILE *nft = popen("nft -f -", "w");
	fputs("add table inet t\nadd set inet t s { type ipv4_addr; flags timeout; gc-interval 100ms; }\nadd chain inet t c { type filter hook input priority 0; }\n"
	      "add rule inet t c ip saddr @s drop\nadd element inet t s {", nft);
	for (int i = 0; i < LASTING; i++)
		fprintf(nft, "%s10.9.%d.%d timeout 1h", i ? "," : "", i / 250, i % 250);
	for (int i = 0; i < PASSING; i++)
		fprintf(nft, ",10.10.%d.%d timeout %dms", i / 250, i % 250, 300 + i / 4);
	fputs("}\n", nft);
	ck_assert_int_eq(pclose(nft), 0);
}

/* Of the elements that last; -1: nothing is known of the set. `passing`: of the others. */
static int count_lasting(int *passing)
{
	struct ruleset rs = {0};
	int lasting = 0;
	ck_assert_int_eq(firewall_read_nftables(&rs), 0);
	ck_assert_uint_eq(rs.n_sets, 1);
	for (uint32_t i = 0; i < rs.n_elements; i++)
		lasting += rs.elements[i].key[1] == 9;
	*passing = rs.n_elements - lasting;
	if (rs.sets[0].is_open)
		lasting = *passing = -1;
	rules_clear(&rs);
	return lasting;
}

/* The kernel removes elements while it tells of a set. None that stays is left out, or nothing is known of the set. */
START_TEST(elements_go_while_they_are_read)
{
	int lasting, passing;
	add_aging();
	do {
		lasting = count_lasting(&passing);
		ck_assert_msg(lasting == LASTING || lasting < 0, "%d", lasting);
	} while (passing);
	ck_assert_int_eq(lasting, LASTING);
}
END_TEST

/* What a proof has to walk is bounded; sets are walked faster than rules. */
START_TEST(ports_of_many_rules)
{
	struct firewall *f;
	nft_add("add table inet t; add set inet t s { type ipv4_addr; }; add chain inet t c { type filter hook input priority 0; }; "
		"add rule inet t c udp dport 53 ip saddr @s drop; add rule inet t c tcp dport 81 drop");
	ck_assert_int_eq(firewall_read(&f, why, sizeof why), 0);
	ck_assert_int_eq(opens(f, "a", 80), OPEN);
	firewall_free(f);
	FILE *nft = popen("nft -f -", "w");
	fputs("add element inet t s {", nft);
	for (int i = 0; i < 9000; i++)
		fprintf(nft, "%s10.9.%d.%d", i ? "," : "", i / 250, i % 250);
	fputs("}\nadd rule inet t c tcp dport 80 ip saddr @s drop\n", nft);
	ck_assert_int_eq(pclose(nft), 0);
	ck_assert_int_eq(firewall_read(&f, why, sizeof why), 0);
	ck_assert(firewall_is_slow(f));
	ck_assert_int_eq(opens(f, "a", 80), OPEN);
	check_named(f, "10.9.0.0 10.9.35.249", true, "9,000 elements");
	check_named(f, "10.8.0.1", false, "9,000 elements");
	firewall_free(f);
	nft = popen("nft -f -", "w");
	for (int i = 0; i < 9000; i++)
		fprintf(nft, "add rule inet t c udp dport %d drop\n", i + 1);
	ck_assert_int_eq(pclose(nft), 0);
	ck_assert_int_eq(firewall_read(&f, why, sizeof why), 0);
	ck_assert_int_eq(opens(f, "a", 80), 0);
	firewall_free(f);
}
END_TEST

/* More rules than a datagram of the dump holds, none of them about TCP: looked at to the last. */
START_TEST(many_rules)
{
	FILE *nft = popen("nft -f -", "w");
	fputs("add table inet t\nadd chain inet t c { type filter hook input priority 0; }\n", nft);
	for (int i = 0; i < 2000; i++)
		fprintf(nft, "add rule inet t c udp dport %d drop\n", i + 1);
	ck_assert_int_eq(pclose(nft), 0);
	ck_assert_int_eq(check("a"), 0);
	net_run("nft add rule inet t c tcp dport 1 drop");
	ck_assert_int_eq(check("a"), 1);
}
END_TEST

int main(void)
{
	skip_without_firewall();
	Suite *s = suite_create("firewall");
	TCase *tc = tcase_create("nftables");
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, nftables, 0, sizeof nft_rows / sizeof nft_rows[0]);
	tcase_add_loop_test(tc, concatenations, 0, 3);
	tcase_add_test(tc, many_rules);
	tcase_add_loop_test(tc, open_ports, 0, sizeof open_rows / sizeof open_rows[0]);
	tcase_add_loop_test(tc, named_sources, 0, sizeof named_rows / sizeof named_rows[0]);
	tcase_add_loop_test(tc, counted_connections, 0, sizeof counting_rows / sizeof counting_rows[0]);
	tcase_add_test(tc, a_chain_of_many_interfaces);
	tcase_add_test(tc, elements_go_while_they_are_read);
	tcase_add_test(tc, ports_of_many_rules);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
