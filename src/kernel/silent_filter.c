#include "kernel/silent_filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/sys.h"

#define PASS          0xffffffffu
#define SWALLOW       0u
#define TCP_PORTS     0 /* offset in the TCP header, where a TCP socket's filter begins: source, then destination */
#define TCP_FLAGS     13
#define FLAG_SYN      0x02
#define FLAG_RST      0x04
#define FLAG_ACK      0x10
#define IP_HEADER(at) (SKF_NET_OFF + (at))
#define V4_SRC        12
#define V4_DST        16
#define V6_SRC        8
#define V6_DST        24
#define JUMPS_MAX     (SILENT_ADDRESSES_MAX + 16)

/* A filter in the making. Too long ones are told at the end. */
struct code {
	struct sock_filter at[BPF_MAXINSNS];
	unsigned n;
	bool overflow;
	unsigned jumps[JUMPS_MAX], n_jumps; /* not bound yet */
};

static void put(struct code *c, uint16_t op, uint8_t jt, uint8_t jf, uint32_t k)
{
	if (c->n == BPF_MAXINSNS)
		c->overflow = true;
	else
		c->at[c->n++] = (struct sock_filter){op, jt, jf, k};
}

static void load(struct code *c, uint32_t offset)
{
	put(c, BPF_LD | BPF_W | BPF_ABS, 0, 0, offset);
}

static void end(struct code *c, uint32_t verdict)
{
	put(c, BPF_RET | BPF_K, 0, 0, verdict);
}

/* Goes on behind the next `skip` instructions unless A is k. */
static void unless_equal_skip(struct code *c, uint32_t k, unsigned skip)
{
	put(c, BPF_JMP | BPF_JEQ | BPF_K, 0, skip, k);
}

/* Goes to where `bind` is called. */
static void jump(struct code *c)
{
	if (c->n_jumps == JUMPS_MAX)
		c->overflow = true;
	else
		c->jumps[c->n_jumps++] = c->n;
	put(c, BPF_JMP | BPF_JA, 0, 0, 0);
}

static void bind_jumps(struct code *c)
{
	while (c->n_jumps && !c->overflow) {
		unsigned from = c->jumps[--c->n_jumps];
		c->at[from].k = c->n - from - 1;
	}
}

static uint32_t word(const struct ip_addr *a, unsigned i)
{
	const uint8_t *b = a->b + 4 * i;
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static unsigned first_word(bool v6)
{
	return v6 ? 0 : 3; /* an IPv4 address is the mapped one's last */
}

/* Skips `behind` more instructions unless the packet has this address at `offset`. */
static void match_address(struct code *c, const struct ip_addr *a, bool v6, uint32_t offset, unsigned behind)
{
	for (unsigned i = first_word(v6); i < 4; i++) {
		load(c, IP_HEADER(offset + 4 * (i - first_word(v6))));
		unless_equal_skip(c, word(a, i), 2 * (3 - i) + behind);
	}
}

static void pass_other_addresses(struct code *c, const struct silent_rules *r, bool v6)
{
	for (size_t i = 0; i < r->n_addrs; i++) {
		if (ip_addr_is_v4(&r->addrs[i]) == v6)
			continue;
		match_address(c, &r->addrs[i], v6, v6 ? V6_DST : V4_DST, 1);
		jump(c);
	}
	end(c, PASS);
	bind_jumps(c);
}

static void match_flows(struct code *c, const struct silent_rules *r, bool v6, uint32_t verdict)
{
	unsigned address = v6 ? 8 : 2;
	for (size_t i = 0; i < r->n_flows; i++) {
		const struct flow_key *f = &r->flows[i];
		if (ip_addr_is_v4(&f->raddr) == v6)
			continue;
		load(c, TCP_PORTS);
		unless_equal_skip(c, (uint32_t)f->rport << 16 | f->lport, 2 * address + 1);
		match_address(c, &f->raddr, v6, v6 ? V6_SRC : V4_SRC, address + 1);
		match_address(c, &f->laddr, v6, v6 ? V6_DST : V4_DST, 1);
		end(c, verdict);
	}
}

static void family(struct code *c, const struct silent_rules *r, bool v6)
{
	if (!r->only_flows)
		pass_other_addresses(c, r, v6);
	match_flows(c, r, v6, r->only_flows ? SWALLOW : PASS);
	end(c, r->only_flows ? PASS : SWALLOW);
}

static void pass_other_interfaces(struct code *c, const struct silent_rules *r)
{
	load(c, SKF_AD_OFF + SKF_AD_IFINDEX);
	for (size_t i = 0; i < r->n_ifindexes; i++) {
		if (!r->ifindexes[i])
			continue;
		unless_equal_skip(c, r->ifindexes[i], 1);
		jump(c);
	}
	end(c, PASS);
	bind_jumps(c);
}

static void pass_all_but_syns(struct code *c)
{
	put(c, BPF_LD | BPF_B | BPF_ABS, 0, 0, TCP_FLAGS);
	put(c, BPF_ALU | BPF_AND | BPF_K, 0, 0, FLAG_SYN | FLAG_RST | FLAG_ACK);
	put(c, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, FLAG_SYN);
	end(c, PASS);
}

static int attach(int fd, struct code *c)
{
	struct sock_fprog prog = {.len = c->n, .filter = c->at};
	return c->overflow ? -E2BIG : sys_setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog);
}

int silent_filter_attach(int fd, const struct silent_rules *r)
{
	struct code *c = r->n_addrs > SILENT_ADDRESSES_MAX ? NULL : calloc(1, sizeof *c);
	if (!c)
		return r->n_addrs > SILENT_ADDRESSES_MAX ? -E2BIG : -ENOMEM;
	if (r->only_syns)
		pass_all_but_syns(c);
	pass_other_interfaces(c, r);
	load(c, SKF_AD_OFF + SKF_AD_PROTOCOL);
	unless_equal_skip(c, ETH_P_IPV6, 1);
	jump(c);
	unsigned to_v6 = c->jumps[--c->n_jumps];
	family(c, r, false);
	c->at[to_v6].k = c->n - to_v6 - 1;
	family(c, r, true);
	int err = attach(fd, c);
	free(c);
	return err;
}

int silent_filter_attach_all(int fd)
{
	struct sock_filter swallow = {BPF_RET | BPF_K, 0, 0, SWALLOW};
	struct sock_fprog prog = {.len = 1, .filter = &swallow};
	return sys_setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog);
}

bool silent_filter_is_there(int fd)
{
	socklen_t n = 0; /* asks how long it is */
	return sys_getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &n) || n;
}

int silent_filter_remove(int fd)
{
	int unused = 0;
	int err = sys_setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused);
	return err == -ENOENT ? 0 : err;
}

int silent_filter_probe(void)
{
	int fd = sys_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	int err = fd < 0 ? fd : silent_filter_attach_all(fd);
	if (fd >= 0)
		sys_close(fd);
	return err;
}
