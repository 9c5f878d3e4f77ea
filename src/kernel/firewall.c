/*
 * Promise 6: no hole in the host.
 *
 * Frames that the engine takes pass no netfilter hook and no cgroup program on their way in, and TCP that it sends
 * passes none on its way out. So it asks what the host's rules could do to them. A listener's SYNs are judged by the
 * host itself (judge.h); what is asked here is the rest: the later segments of a connection, its answers, and the
 * connections that we open. The answer is one-sided: what cannot be shown to leave a packet alone touches it. Nothing
 * is changed, and no kernel module is loaded by asking (a module that is not loaded filters nothing).
 *
 * What others have at the interface's ingress (tc, tcx) would never see a frame of ours: the interface is the kernel's.
 * XDP and tc egress are not asked about: the packet socket sees frames after XDP, and sends through tc egress.
 */
#include "kernel/firewall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/quiet.h"
#include "base/sys.h"
#include "kernel/classifier.h"
#include "kernel/firewall_internal.h"
#include "kernel/named.h"
#include "kernel/procfile.h"

static int name_of(int ifindex, char name[16])
{
	struct ifreq ifr = {.ifr_ifindex = ifindex};
	int fd = fd_move_high(sys_socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	int ret = fd < 0 ? fd : sys_ioctl(fd, SIOCGIFNAME, &ifr);

	fd_close(fd);
	if (ret >= 0)
		snprintf(name, 16, "%s", ifr.ifr_name);
	return ret;
}

/* The answers are in /proc: without it, absence of a file would prove nothing. */
static int check_proc(void)
{
	int fd = fd_move_high(sys_openat(AT_FDCWD, "/proc/net/dev", O_RDONLY | O_CLOEXEC, 0));
	fd_close(fd);
	return fd < 0 ? fd : 0;
}

bool firewall_in_user_namespace(void)
{
	char *map;
	unsigned long inside, outside, count;
	if (procfile_read("/proc/self/uid_map", &map) < 0)
		return false;
	bool whole = sscanf(map, "%lu %lu %lu", &inside, &outside, &count) == 3 && inside == 0 && outside == 0 && count == 4294967295ul;
	free(map);
	return !whole;
}

/*
 * Does no rule touch what follows a SYN to this port, whoever the peer is that no rule names? Asked once, not of each
 * connection.
 */
struct proof {
	int ifindex; /* 0: not asked yet */
	char ifname[16]; /* a rule may name it, and it may be renamed */
	uint16_t port;
	bool v6, holds;
};
#define PROOFS 16 /* by port: two that meet there take turns */

struct firewall {
	struct ruleset rules;
	struct firewall_tc tc[FIREWALL_INTERFACES]; /* of those that were asked about */
	unsigned n_tc;
	struct firewall_cgroup cgroup;
	struct firewall_unheard unheard;
	struct firewall_xfrm xfrm;
	struct proof proofs[PROOFS];
	struct named_sources named[2]; /* by IPv6: by all that was proved */
};

/* One part of the reading; what it cannot tell is told. */
static int failed(int err, const char *what, char *why, size_t why_len)
{
	if (err < 0)
		snprintf(why, why_len, "firewall: could not ask about %s: %s%s", what, strerrordesc_np(-err),
			 err == -EPERM ? " (CAP_NET_ADMIN is missing)" : "");
	return err;
}

static int read_untold(struct firewall_cgroup *cgroup, struct firewall_unheard *unheard, struct firewall_look *look)
{
	int err = firewall_read_cgroup(cgroup, look);
	return err < 0 ? err : firewall_read_unheard(unheard, look);
}

static int read_untold_of(int pid, struct firewall_cgroup *cgroup, struct firewall_unheard *unheard)
{
	struct firewall_look look = FIREWALL_LOOK_NONE;
	look.pid = pid;
	int err = read_untold(cgroup, unheard, &look);
	firewall_look_close(&look);
	return err;
}

int firewall_read(struct firewall **out, char *why, size_t why_len)
{
	return firewall_read_of(0, out, why, why_len);
}

int firewall_read_of(int pid, struct firewall **out, char *why, size_t why_len)
{
	struct firewall *f = calloc(1, sizeof *f);
	int err = f ? failed(check_proc(), "anything: /proc is not there", why, why_len) : -ENOMEM;
	if (!err)
		err = failed(firewall_read_nftables(&f->rules), "nftables", why, why_len);
	if (!err) /* first: a table that comes meanwhile is one that is not known yet */
		err = failed(read_untold_of(pid, &f->cgroup, &f->unheard), "BPF programs", why, why_len);
	if (!err)
		err = failed(firewall_read_iptables(&f->rules), "iptables", why, why_len);
	if (!err)
		err = failed(firewall_read_xfrm(&f->xfrm), "IPsec policies", why, why_len);
	if (err)
		firewall_free(f);
	else
		*out = f;
	return err;
}

#define TABLES_BIT   5
#define HOOKS_BIT    17 /* the tables are less than 1 << 12 */
#define IPVS_BIT     18
#define IPVS_DIGESTS 4093 /* a prime below 1 << 12: the number stays positive */

static int bits_of(const struct firewall_cgroup *c, const struct firewall_unheard *u)
{
	return c->ingress | c->egress << 1 | c->connect << 2 | c->sockets << 3 | u->sk_lookup << 4 | (int)u->tables << TABLES_BIT |
	       u->hooks.program << HOOKS_BIT | (int)(u->hooks.ipvs.digest % IPVS_DIGESTS) << IPVS_BIT;
}

int firewall_untold_now(struct firewall_look *look)
{
	struct firewall_cgroup cgroup;
	struct firewall_unheard unheard;
	int err = read_untold(&cgroup, &unheard, look);
	return err < 0 ? err : bits_of(&cgroup, &unheard);
}

int firewall_untold_of(int pid)
{
	struct firewall_cgroup cgroup;
	struct firewall_unheard unheard;
	int err = read_untold_of(pid, &cgroup, &unheard);
	return err < 0 ? err : bits_of(&cgroup, &unheard);
}

void firewall_free(struct firewall *f)
{
	if (f)
		rules_clear(&f->rules);
	free(f);
}

int firewall_save(const struct firewall *f)
{
	int fd = fd_move_high(sys_call(SYS_memfd_create, "finesse-rules", 1 /* MFD_CLOEXEC */, 0, 0, 0, 0));
	if (fd < 0)
		return fd;
	bool written = write_quietly(fd, &f->cgroup, sizeof f->cgroup) == sizeof f->cgroup && write_quietly(fd, &f->unheard, sizeof f->unheard) == sizeof f->unheard &&
		       write_quietly(fd, &f->xfrm, sizeof f->xfrm) == sizeof f->xfrm;
	int err = written ? rules_save(&f->rules, fd) : -EIO;
	if (!err && sys_call(SYS_lseek, fd, 0, SEEK_SET, 0, 0, 0) < 0)
		err = -EIO;
	if (!err)
		return fd;
	fd_close(fd);
	return err;
}

int firewall_load(struct firewall **out, int fd)
{
	struct firewall *f = calloc(1, sizeof *f);
	if (!f)
		return -ENOMEM;
	bool read = sys_read(fd, &f->cgroup, sizeof f->cgroup) == sizeof f->cgroup && sys_read(fd, &f->unheard, sizeof f->unheard) == sizeof f->unheard &&
		    sys_read(fd, &f->xfrm, sizeof f->xfrm) == sizeof f->xfrm;
	int err = read ? rules_load(&f->rules, fd) : -EIO;
	if (err)
		firewall_free(f);
	else
		*out = f;
	return err;
}

#define LARGE 256  /* rules and elements of sets, read in some ms */
#define SLOW  8192 /* … in some 10 ms, or 100 */
/*
 * A proof walks all rules and sets some ten times, with the engine's lock held: it shall take no more than some 10 ms.
 */
#define PROVED_RULES    8192
#define PROVED_ELEMENTS 65536

bool firewall_is_large(const struct firewall *f)
{
	return f && f->rules.n_rules + f->rules.n_elements > LARGE;
}

bool firewall_is_slow(const struct firewall *f)
{
	return f && f->rules.n_rules + f->rules.n_elements > SLOW;
}

bool firewall_has_legacy(const struct firewall *f)
{
	for (uint32_t i = 0; f && i < f->rules.n_chains; i++)
		if (f->rules.chains[i].is_legacy)
			return true;
	return false;
}

/* ---- packets ---- */

static void put(struct rules_bits *b, unsigned at, const void *value, unsigned len, bool known)
{
	memcpy(b->value + at, value, len);
	memset((known ? b->known : b->peers) + at, 0xff, len);
}

static void put_address(struct rules_bits *b, bool v6, unsigned at, const struct ip_addr *a)
{
	put(b, at, v6 ? a->b : a->b + 12, v6 ? 16 : 4, !ip_addr_is_any(a));
}

static void put_port(struct rules_bits *b, unsigned at, uint16_t port)
{
	const uint8_t be[2] = {port >> 8, port & 0xff};
	put(b, at, be, sizeof be, port != 0);
}

#define V4_SADDR   12
#define V6_SADDR   8
#define TCP_FLAGS  13
#define FLAG_SYN   0x02
#define FLAG_ACK   0x10
#define FLAGS_SEEN 0x3f

/* In: the peer's packet. `syn`: it opens the connection. */
static void packet_of(const struct firewall_flow *f, bool in, bool syn, struct rules_packet *p)
{
	static const uint8_t tcp = IPPROTO_TCP, v4_version = 0x45, v6_version = 0x60, no_fragment[2];
	const struct ip_addr *src = in ? &f->key.raddr : &f->key.laddr, *dst = in ? &f->key.laddr : &f->key.raddr;
	struct rules_bits *n = &p->network, *t = &p->transport;
	unsigned at = f->v6 ? V6_SADDR : V4_SADDR;

	*p = (struct rules_packet){.v6 = f->v6, .is_new = syn, .ifname = f->ifname, .ifindex = f->ifindex, .strangers = f->strangers};
	put_address(n, f->v6, at, src);
	put_address(n, f->v6, at + (f->v6 ? 16 : 4), dst);
	if (f->v6) { /* an extension header may come before TCP */
		n->value[0] = v6_version;
		n->known[0] = 0xf0;
	} else {
		put(n, 0, &v4_version, 1, true);
		n->known[0] = 0xf0; /* options may follow */
		put(n, 9, &tcp, 1, true);
		put(n, 6, no_fragment, 2, true);
		n->known[6] = 0xbf; /* all but DF */
	}
	put_port(t, 0, in ? f->key.rport : f->key.lport);
	put_port(t, 2, in ? f->key.lport : f->key.rport);
	t->value[TCP_FLAGS] = syn ? FLAG_SYN : FLAG_ACK;
	t->known[TCP_FLAGS] = syn ? FLAGS_SEEN : FLAG_ACK;
}

static bool is_open(const struct firewall_flow *f)
{
	return !f->key.rport || !f->key.lport || ip_addr_is_any(&f->key.raddr) || ip_addr_is_any(&f->key.laddr);
}

/* Of a packet at each hook of its way. `reply`: it goes against the connection's first one. */
static int ask(const struct firewall *f, const struct firewall_flow *flow, bool in, bool syn, bool reply, bool for_some, char *why, size_t why_len)
{
	if (!f->rules.n_chains) /* most hosts' answer to a client, which each of its connections asks for three times */
		return 0;
	struct rules_packet p;
	enum rules_hook from = in ? RULES_INGRESS : RULES_OUTPUT, to = in ? RULES_INPUT : RULES_EGRESS;

	packet_of(flow, in, syn, &p);
	p.is_reply = reply;
	for (p.hook = from; p.hook <= to; p.hook++)
		if (rules_ask(&f->rules, &p, for_some, why, why_len) != RULES_PASS)
			return 1;
	return 0;
}

/* Does a rule count the connections of which this would be one? */
static int counted(const struct firewall *f, const struct firewall_flow *flow, bool for_some, char *why, size_t why_len)
{
	struct rules_packet p;
	packet_of(flow, true, true, &p);
	for (p.hook = RULES_INGRESS; p.hook <= RULES_INPUT; p.hook++)
		if (rules_ask_count(&f->rules, &p, for_some, why, why_len) != RULES_PASS)
			return 1;
	return 0;
}

static int cgroup_has(bool has, const char *name, char *why, size_t why_len)
{
	if (has)
		snprintf(why, why_len, "firewall: a BPF program (%s) is attached to this process's cgroup", name);
	return has;
}

/* Beyond the interfaces that can be served the last place is used again. */
static int tc_has(struct firewall *f, int ifindex, const char *ifname, char *why, size_t why_len)
{
	unsigned i = 0;
	while (i < f->n_tc && f->tc[i].ifindex != ifindex)
		i++;
	if (i == f->n_tc) {
		i = i == FIREWALL_INTERFACES ? i - 1 : i;
		firewall_read_tc(ifindex, &f->tc[i], NULL);
		f->n_tc = i + 1;
	}
	const struct firewall_tc *tc = &f->tc[i];
	if (tc->filters || tc->programs)
		snprintf(why, why_len, "firewall: %s at the ingress of %s would not see our packets", tc->filters ? "tc's filters" : "a BPF program (tcx)", ifname);
	return tc->filters || tc->programs;
}

_Static_assert(CLASSIFIER_INTERFACES_MAX <= FIREWALL_INTERFACES, "all that are served have room");

void firewall_sight_of(const struct firewall *f, struct firewall_sight *s)
{
	s->n = f->n_tc;
	memcpy(s->at, f->tc, f->n_tc * sizeof f->tc[0]);
}

void firewall_see(struct firewall_sight *s, struct firewall_look *look)
{
	s->untold = firewall_untold_now(look);
	for (unsigned i = 0; i < s->n; i++)
		firewall_read_tc(s->at[i].ifindex, &s->at[i], look);
}

static bool ingress_differs(const struct firewall *f, const struct firewall_sight *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		struct firewall_tc then = {.filters = false};
		for (unsigned k = 0; f && k < f->n_tc; k++)
			if (f->tc[k].ifindex == s->at[i].ifindex)
				then = f->tc[k];
		if (s->at[i].filters != then.filters || s->at[i].programs != then.programs)
			return true;
	}
	return false;
}

bool firewall_differs(const struct firewall *f, const struct firewall_sight *s)
{
	int untold = f ? bits_of(&f->cgroup, &f->unheard) : 0;
	return (s->untold >= 0 && s->untold != untold) || ingress_differs(f, s);
}

uint32_t firewall_generation(void)
{
	return firewall_nft_generation() ^ firewall_xfrm_digest();
}

bool firewall_watches_sockets(void)
{
	struct firewall_cgroup cgroup;
	struct firewall_unheard unheard;
	return read_untold_of(0, &cgroup, &unheard) < 0 || cgroup.sockets;
}

/* It may give the SYN to another socket. */
static int lookup_has(const struct firewall *f, char *why, size_t why_len)
{
	if (f->unheard.sk_lookup)
		snprintf(why, why_len, "firewall: a BPF program (sk_lookup) chooses the socket");
	return f->unheard.sk_lookup;
}

int firewall_judges(const struct firewall *f, const struct firewall_flow *flow, char *why, size_t why_len)
{
	return lookup_has(f, why, why_len) || ask(f, flow, true, true, false, false, why, why_len) || ask(f, flow, false, false, true, false, why, why_len) ||
	       ask(f, flow, true, false, false, false, why, why_len) || firewall_xfrm_has(&f->xfrm, flow, false, why, why_len);
}

/*
 * A cgroup's ingress program sees every segment, not the SYN alone, and what it says of the next one cannot be proved.
 */
static int programs_filter(struct firewall *f, const struct firewall_flow *flow, bool some, char *why, size_t why_len)
{
	return firewall_xfrm_has(&f->xfrm, flow, some, why, why_len) || firewall_hooks_have(&f->unheard.hooks, flow, some, why, why_len) || tc_has(f, flow->ifindex, flow->ifname, why, why_len) || cgroup_has(f->cgroup.egress, "egress", why, why_len) ||
	       cgroup_has(f->cgroup.ingress, "ingress", why, why_len);
}

static int filters_server(struct firewall *f, const struct firewall_flow *flow, bool some, char *why, size_t why_len)
{
	return programs_filter(f, flow, some, why, why_len) ||
	       ask(f, flow, false, false, true, some, why, why_len) || ask(f, flow, true, false, false, some, why, why_len) ||
	       counted(f, flow, some, why, why_len);
}

/* A peer of whom nothing is known but that the rules do not name it. */
static struct firewall_flow from_stranger(struct firewall *f, const struct firewall_flow *flow)
{
	return (struct firewall_flow){.ifindex = flow->ifindex, .ifname = flow->ifname, .v6 = flow->v6, .key.lport = flow->key.lport, .strangers = &f->named[flow->v6]};
}

static bool is_proved(struct firewall *f, const struct firewall_flow *flow)
{
	char why[160];
	struct proof *p = &f->proofs[flow->key.lport % PROOFS];
	if (p->ifindex == flow->ifindex && p->port == flow->key.lport && p->v6 == flow->v6 && !strcmp(p->ifname, flow->ifname))
		return p->holds;
	const struct firewall_flow all = from_stranger(f, flow);
	*p = (struct proof){.ifindex = flow->ifindex, .port = flow->key.lport, .v6 = flow->v6, .holds = !filters_server(f, &all, false, why, sizeof why)};
	snprintf(p->ifname, sizeof p->ifname, "%s", flow->ifname);
	return p->holds;
}

/*
 * Is it proved that this packet of a client's passes, wherever it comes from, and (the first one) that no rule notes
 * it?
 */
static bool passes_unseen(const struct firewall *f, const struct firewall_flow *flow, bool syn, bool is_new)
{
	bool is_first = syn && is_new;
	char why[160];
	struct rules_packet p;
	packet_of(flow, true, syn, &p);
	p.is_new = is_new;
	p.is_anybodys = true;
	for (p.hook = RULES_INGRESS; p.hook <= RULES_INPUT; p.hook++)
		if ((is_first ? rules_ask_notes(&f->rules, &p, why, sizeof why) : rules_ask(&f->rules, &p, false, why, sizeof why)) != RULES_PASS)
			return false;
	return true;
}

/* Where conntrack takes no connection that it sees in the middle, it drops a cookie's ACK whose SYN it has not seen. */
static bool conntrack_is_strict(void)
{
	char *text;
	if (procfile_read("/proc/sys/net/netfilter/nf_conntrack_tcp_loose", &text) < 0)
		return false;
	bool strict = text[0] == '0';
	free(text);
	return strict;
}

/* conntrack may know of an older connection of the same two ends; and a cookie's ACK is the first that it sees. */
bool firewall_opens(struct firewall *f, const struct firewall_flow *flow)
{
	char why[160];
	const struct firewall_flow all = from_stranger(f, flow);
	bool is_beyond_us = firewall_has_legacy(f) || f->rules.n_rules > PROVED_RULES || f->rules.n_elements > PROVED_ELEMENTS;
	return !is_beyond_us && passes_unseen(f, &all, true, true) && passes_unseen(f, &all, true, false) && passes_unseen(f, &all, false, true) &&
	       !firewall_judges(f, &all, why, sizeof why) && is_proved(f, &all) && !conntrack_is_strict();
}

const struct named_sources *firewall_named(const struct firewall *f, bool v6)
{
	static const struct named_sources none;
	return memcmp(&f->named[v6], &none, sizeof none) ? &f->named[v6] : NULL;
}

int firewall_filters_server(struct firewall *f, const struct firewall_flow *flow, char *why, size_t why_len)
{
	bool some = is_open(flow);
	return !some && is_proved(f, flow) && !named_has(&f->named[flow->v6], &flow->key.raddr) ? 0 : filters_server(f, flow, some, why, why_len);
}

int firewall_filters_client(struct firewall *f, const struct firewall_flow *flow, char *why, size_t why_len)
{
	bool some = is_open(flow);
	return programs_filter(f, flow, some, why, why_len) ||
	       cgroup_has(f->cgroup.connect, "connect4 or connect6", why, why_len) || ask(f, flow, false, true, false, some, why, why_len) ||
	       ask(f, flow, false, false, false, some, why, why_len) || ask(f, flow, true, false, true, some, why, why_len);
}

/* ---- all of it ---- */

static int check_family(struct firewall *f, struct firewall_flow *flow, bool v6, char *why, size_t why_len)
{
	flow->v6 = v6;
	return firewall_hooks_have(&f->unheard.hooks, flow, false, why, why_len) || tc_has(f, flow->ifindex, flow->ifname, why, why_len) ||
	       cgroup_has(f->cgroup.ingress, "ingress", why, why_len) || firewall_judges(f, flow, why, why_len) ||
	       ask(f, flow, false, true, false, false, why, why_len) || cgroup_has(f->cgroup.egress, "egress", why, why_len) ||
	       cgroup_has(f->cgroup.connect, "connect4 or connect6", why, why_len);
}

int firewall_check(int pid, int ifindex, char *why, size_t why_len)
{
	char name[16];
	struct firewall_flow flow = {.ifindex = ifindex, .ifname = name};
	struct firewall *f;
	int ret = name_of(ifindex, name);

	if (ret < 0) {
		snprintf(why, why_len, "firewall: no interface %d", ifindex);
		return ret;
	}
	ret = firewall_read_of(pid, &f, why, why_len);
	if (ret)
		return ret;
	ret = check_family(f, &flow, false, why, why_len) || check_family(f, &flow, true, why, why_len);
	firewall_free(f);
	return ret;
}
