#include "frames.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const uint8_t OUR_MAC[6] = {2, 0, 0, 0, 0, 1}, PEER_MAC[6] = {2, 0, 0, 0, 0, 2};

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = v >> 8;
	p[1] = v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

static uint16_t get16(const uint8_t *p)
{
	return p[0] << 8 | p[1];
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static uint32_t sum(const uint8_t *p, int n, uint32_t s)
{
	for (int i = 0; i + 1 < n; i += 2)
		s += get16(p + i);
	return n & 1 ? s + (p[n - 1] << 8) : s;
}

static uint16_t fold(uint32_t s)
{
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return ~s;
}

/* Fills the transport checksum at `at` of n bytes at p, with the pseudo-header of the addresses. */
static void set_checksum(uint8_t *p, int n, int at, uint8_t proto, const uint8_t *addrs, int addrs_len)
{
	uint16_t c = fold(sum(p, n, sum(addrs, addrs_len, proto + n)));
	put16(p + at, c);
}

static int build_transport(uint8_t *p, const struct spec *s, uint8_t proto)
{
	int n = s->payload ? (int)strlen(s->payload) : 0;
	int hdr = proto == IPPROTO_TCP ? 20 : 8;

	put16(p, s->sport);
	put16(p + 2, s->dport);
	if (proto == IPPROTO_TCP) {
		put32(p + 4, s->seq);
		put32(p + 8, s->ack);
		p[12] = 5 << 4;
		p[13] = s->flags;
		put16(p + 14, 65535);
	} else {
		put16(p + 4, hdr + n);
	}
	memcpy(p + hdr, s->payload ? s->payload : "", n);
	return hdr + n;
}

static int build_eth(uint8_t *p, const struct spec *s, uint16_t type)
{
	int n = 12;
	memcpy(p, OUR_MAC, 6);
	if (s->other_mac)
		p[5] = 99;
	memcpy(p + 6, PEER_MAC, 6);
	if (s->vlan) {
		put16(p + n, ETHERTYPE_VLAN);
		put16(p + n + 2, s->vlan);
		n += 4;
	}
	put16(p + n, type);
	return n + 2;
}

static int build_v4(uint8_t *p, const struct spec *s, uint8_t proto)
{
	int hdr = 20 + s->ip_options;
	int n = build_transport(p + hdr, s, proto);

	p[0] = (s->version ? s->version : 4) << 4 | (s->ihl ? s->ihl : hdr / 4);
	put16(p + 2, hdr + n);
	put16(p + 6, s->frag);
	p[8] = 64;
	p[9] = proto;
	inet_pton(AF_INET, s->src ? s->src : PEER_V4, p + 12);
	inet_pton(AF_INET, s->dst ? s->dst : OUR_V4, p + 16);
	memset(p + 20, 1, s->ip_options); /* no-operation */
	put16(p + 10, fold(sum(p, hdr, 0)));
	if (proto == IPPROTO_TCP)
		set_checksum(p + hdr, n, 16, proto, p + 12, 8);
	return hdr + n;
}

static int build_v6(uint8_t *p, const struct spec *s, uint8_t proto)
{
	uint8_t *next = p + 6;
	int hdr = 40;

	p[0] = (s->version ? s->version : 6) << 4;
	p[7] = 64;
	inet_pton(AF_INET6, s->src, p + 8);
	inet_pton(AF_INET6, s->dst, p + 24);
	for (int i = 0; i < s->n_ext; i++) {
		uint8_t kind = s->ext[i];
		*next = kind;
		next = p + hdr;
		if (kind == IPPROTO_FRAGMENT)
			put16(p + hdr + 2, s->frag);
		else if (kind != IPPROTO_ROUTING)
			memcpy(p + hdr + 2, (uint8_t[]){1, 4, 0, 0, 0, 0}, 6); /* PadN */
		hdr += 8;
	}
	*next = proto;
	int n = build_transport(p + hdr, s, proto);
	put16(p + 4, hdr - 40 + n);
	if (proto == IPPROTO_TCP)
		set_checksum(p + hdr, n, 16, proto, p + 8, 32);
	return hdr + n;
}

static bool is_v6(const struct spec *s)
{
	return s->dst && strchr(s->dst, ':');
}

void frame_build(struct frame *f, const struct spec *s)
{
	uint8_t proto = s->proto ? s->proto : IPPROTO_TCP;
	int n = 0;

	memset(f, 0, sizeof *f);
	if (!s->no_eth)
		n = build_eth(f->b, s, is_v6(s) ? ETHERTYPE_IPV6 : ETHERTYPE_IP);
	n += is_v6(s) ? build_v6(f->b + n, s, proto) : build_v4(f->b + n, s, proto);
	f->len = n - s->cut;
}

void frame_build_icmp(struct frame *f, uint8_t type, uint8_t code, const struct spec *outer,
		      const struct spec *quoted)
{
	struct spec o = *outer, q = *quoted;
	struct frame inner;
	bool v6 = is_v6(outer);
	uint8_t *ip = f->b + 14, *icmp = ip + (v6 ? 40 : 20);

	q.no_eth = true;
	frame_build(&inner, &q);
	o.proto = v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
	o.payload = NULL;
	frame_build(f, &o); /* its 8 bytes of transport become the ICMP header */
	memset(icmp, 0, 8);
	icmp[0] = type;
	icmp[1] = code;
	memcpy(icmp + 8, inner.b, inner.len);
	int n = 8 + inner.len;
	f->len = icmp + n - f->b;
	if (v6) {
		put16(ip + 4, n);
		set_checksum(icmp, n, 2, IPPROTO_ICMPV6, ip + 8, 32);
	} else {
		put16(ip + 2, 20 + n);
		put16(ip + 10, 0);
		put16(ip + 10, fold(sum(ip, 20, 0)));
		put16(icmp + 2, fold(sum(icmp, n, 0)));
	}
}

bool frame_parse_tcp(const uint8_t *b, int len, bool has_eth, struct tcp_seen *out)
{
	const uint8_t *ip = has_eth ? b + 14 : b, *tcp;

	if (len < (has_eth ? 14 : 0) + 40)
		return false;
	if (ip[0] >> 4 == 4 && ip[9] == IPPROTO_TCP)
		tcp = ip + (ip[0] & 15) * 4;
	else if (ip[0] >> 4 == 6 && ip[6] == IPPROTO_TCP)
		tcp = ip + 40;
	else
		return false;
	if (tcp + 20 > b + len)
		return false;
	*out = (struct tcp_seen){.v6 = ip[0] >> 4 == 6,
				 .sport = get16(tcp),
				 .dport = get16(tcp + 2),
				 .seq = get32(tcp + 4),
				 .ack = get32(tcp + 8),
				 .flags = tcp[13]};
	return true;
}

void net_run(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(cmd, sizeof cmd, fmt, ap);
	va_end(ap);
	if (system(cmd) != 0) {
		fprintf(stderr, "failed: %s\n", cmd);
		abort();
	}
}

/* Frames that are sent one after the other are then received so, too: each CPU has a backlog of its own. */
static void stay_on_this_cpu(void)
{
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof one, &one);
}

/*
 * An IPv6 address is usable when the kernel has the local route to it; what comes before is dropped. A kernel thread
 * makes that route, some time after the address is there, and one that was added with `nodad` is never shown as
 * tentative meanwhile. So wait for both.
 */
void net_wait_addresses(const char *ifname)
{
	net_run("usable() { ip -6 addr show dev %s tentative | grep -q . && return 1; for a in $(ip -o -6 addr show dev %s | awk '{ sub(\"/.*\", \"\", $4); print $4 }'); do "
		"ip -6 route show table local type local dev %s | grep -q \"local $a \" || return 1; done; }; "
		"i=0; until usable; do i=$((i+1)); [ $i -lt 2000 ] || exit 1; done", ifname, ifname, ifname);
}

int net_enter(void)
{
	stay_on_this_cpu();
	if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0) {
		printf("needs root (a network namespace of its own)\n");
		return 77;
	}
	if (system("command -v ip >/dev/null") != 0) {
		printf("needs iproute2\n");
		return 77;
	}
	net_run("ip link set lo up && ip link add name a type veth peer name b && "
		"ip link set dev a address 02:00:00:00:00:01 && ip link set dev b address 02:00:00:00:00:02");
	/* The peer's end must keep quiet, and our addresses must be usable at once. */
	net_run("echo 1 >/proc/sys/net/ipv6/conf/b/disable_ipv6 && "
		"echo 0 >/proc/sys/net/ipv6/conf/a/accept_dad && "
		"echo 0 >/proc/sys/net/ipv6/conf/a/router_solicitations && "
		"ip link set dev a up && ip link set dev b up");
	/*
	 * Whoever came up first of a pair drops what is sent until a work queue of the kernel's has seen that the other
	 * one is there.
	 */
	net_run("while ip -o link show | grep '[ab]@[ab]:' | grep -q 'DOWN '; do sleep 0.01; done");
	net_run("ip addr add %s/24 dev a && ip addr add %s/24 dev a && ip addr add %s/64 dev a nodad",
		OUR_V4, OUR_V4_B, OUR_V6);
	net_wait_addresses("a");
	net_run("ip neigh add %s lladdr 02:00:00:00:00:02 dev a nud permanent && "
		"ip neigh add %s lladdr 02:00:00:00:00:02 dev a nud permanent",
		PEER_V4, PEER_V6);
	return 0;
}

int packet_open(const char *ifname)
{
	struct sockaddr_ll sll = {.sll_family = AF_PACKET,
				  .sll_protocol = htons(ETH_P_ALL),
				  .sll_ifindex = if_nametoindex(ifname)};
	int one = 1;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd < 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) < 0 ||
	    bind(fd, (struct sockaddr *)&sll, sizeof sll) < 0)
		abort();
	return fd;
}

int readable_within(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int ret;
	do
		ret = poll(&p, 1, ms);
	while (ret < 0 && errno == EINTR);
	return ret > 0;
}
