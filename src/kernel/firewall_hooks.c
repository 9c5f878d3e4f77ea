/*
 * What else looks at packets at netfilter's hooks, besides rules: BPF programs (BPF_PROG_TYPE_NETFILTER) and IPVS, the
 * kernel's load balancer. Both are asked about by firewall_unheard.c, since nobody tells when they come.
 *
 * Programs. The kernel lists the links of all programs to CAP_SYS_ADMIN, and not the network namespace of one. But of
 * one priority it lets one program alone into a hook: so a program of ours that lets everything pass is put there for a
 * moment, and if the place is taken, somebody of this namespace has it (it may be a chain of nftables: then we are more
 * careful than we need to be). That is asked for links of such programs alone, which most hosts do not have; a link's
 * number and namespace are its own for life.
 *
 * IPVS takes SYNs for its services before a socket is looked for, also where a program on this host listens on the same
 * port. Its table is in /proc.
 */
#include "kernel/firewall_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/apart.h"
#include "base/fd.h"
#include "base/siphash.h"
#include "base/sys.h"
#include "kernel/bpf_asm.h"
#include "kernel/bpf_sys.h"
#include "kernel/procfile.h"

/* ---- programs ---- */

static int load_accepting(void)
{
	struct bpf_asm *a = malloc(sizeof *a);
	if (!a)
		return -ENOMEM;
	bpf_asm_init(a);
	bpf_asm_mov_imm(a, R0, NF_ACCEPT);
	bpf_asm_exit(a);
	int ret = bpf_asm_finish(a);
	if (ret > 0)
		ret = bpf_prog_load_netfilter("finesse_accepts", a->insns, ret);
	free(a);
	return ret;
}

/* Is that place taken in this namespace? Also where it cannot be told. */
static bool is_taken(const struct bpf_hook *at)
{
	int prog = load_accepting(), link = prog < 0 ? prog : bpf_link_netfilter(prog, at);
	if (prog >= 0)
		sys_close(prog);
	if (link >= 0)
		sys_close(link);
	return link < 0;
}

/* False: it could not be looked at, and will be. */
static bool look_at_link(struct firewall_look *l, uint32_t id)
{
	struct bpf_hook at;
	int err = bpf_link_hook(id, &at);
	if (!err && at.hooknum != NF_INET_FORWARD && is_taken(&at))
		l->link_found = id;
	return !err || err == -ENOENT; /* it went meanwhile, or is at no hook */
}

/* From the link behind `links_seen` on: the first that is of this namespace. */
static void look_at_links(void *arg)
{
	struct firewall_look *l = arg;
	for (int next; !l->link_found && (next = bpf_link_next(l->links_seen)) > 0 && look_at_link(l, next); l->links_seen = next)
		;
}

static uint32_t last_link(uint32_t seen)
{
	for (int next; (next = bpf_link_next(seen)) > 0;)
		seen = next;
	return seen;
}

static void look_for_new(struct firewall_look *look)
{
	struct firewall_look l = *look;
	uint32_t last = last_link(l.links_seen); /* before the programs */
	bool all = firewall_look_at_programs(&l);
	if (l.for_hooks)
		apart_call(look_at_links, &l);
	else if (all)
		l.links_seen = last;
	*look = l;
}

static bool has_program(struct firewall_look *look)
{
	if (look->link_found && bpf_link_next(look->link_found - 1) != (int)look->link_found) /* it went; another one may be there from before */
		look->link_found = look->links_seen = 0;
	if (!look->link_found && bpf_link_next(look->links_seen) > 0)
		look_for_new(look);
	return look->link_found;
}

/* ---- IPVS ---- */

static bool parse_address(const char *text, struct ip_addr *out)
{
	uint32_t v4_be;
	uint8_t v6[16];
	char copy[INET6_ADDRSTRLEN];
	unsigned v4;
	if (*text != '[') {
		if (sscanf(text, "%8x:", &v4) != 1)
			return false;
		v4_be = htonl(v4);
		*out = ip_addr_from_v4(&v4_be);
		return true;
	}
	if (sscanf(text, "[%45[0-9a-fA-F:]]", copy) != 1 || inet_pton(AF_INET6, copy, v6) != 1)
		return false;
	*out = ip_addr_from_v6(v6);
	return true;
}

/*
 * One line of a service: "TCP  0A4E0001:0050 rr" (in hexadecimal), or with an IPv6 address in brackets. Those of marks
 * concern packets that a rule has marked.
 */
static void parse_line(const char *line, struct firewall_ipvs *out)
{
	struct firewall_ipvs_service *s = &out->services[out->n];
	unsigned port;
	char address[64];
	if (strncmp(line, "TCP", 3) != 0)
		return;
	out->digest = (out->digest ^ siphash13(line, strcspn(line, "\n"), (const uint8_t[16]){0})) * 31;
	if (out->n == FIREWALL_IPVS_MAX || sscanf(line, "TCP %63s", address) != 1 || !strrchr(address, ':') || sscanf(strrchr(address, ':'), ":%4x", &port) != 1 ||
	    !parse_address(address, &s->addr)) {
		out->all = true;
		return;
	}
	s->port = port;
	out->n++;
}

void firewall_parse_ipvs(const char *text, struct firewall_ipvs *out)
{
	*out = (struct firewall_ipvs){.n = 0};
	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n')
		parse_line(line, out);
}

static void read_ipvs(struct firewall_look *look, struct firewall_ipvs *out)
{
	char *text;
	*out = (struct firewall_ipvs){.n = 0};
	if (look->ipvs_fd < 0)
		look->ipvs_fd = procfile_open_if_there("/proc/net/ip_vs");
	if (look->ipvs_fd < 0)
		return;
	if (procfile_read_open(look->ipvs_fd, &text) == 0) {
		firewall_parse_ipvs(text, out);
		free(text);
		return;
	}
	fd_close(look->ipvs_fd); /* the module went */
	look->ipvs_fd = -1;
}

void firewall_read_hooks(struct firewall_hooks *out, struct firewall_look *look)
{
	out->program = has_program(look);
	read_ipvs(look, &out->ipvs);
}

void firewall_hooks_close(struct firewall_look *look)
{
	fd_close(look->ipvs_fd);
	look->ipvs_fd = -1;
}

/* ---- could it concern a flow? ---- */

static bool is_service(const struct firewall_ipvs *v, const struct ip_addr *a, uint16_t port, bool some)
{
	for (unsigned i = 0; i < v->n; i++) {
		const struct firewall_ipvs_service *s = &v->services[i];
		bool addr = ip_addr_is_any(a) ? !some : ip_addr_equal(a, &s->addr);
		if (addr && (!s->port || (port ? port == s->port : !some)))
			return true;
	}
	return v->all;
}

int firewall_hooks_have(const struct firewall_hooks *h, const struct firewall_flow *f, bool some, char *why, size_t why_len)
{
	if (h->program)
		snprintf(why, why_len, "firewall: a BPF program is attached to a hook of netfilter");
	if (h->program)
		return 1;
	bool balanced = is_service(&h->ipvs, &f->key.laddr, f->key.lport, some) || is_service(&h->ipvs, &f->key.raddr, f->key.rport, some);
	if (balanced)
		snprintf(why, why_len, "firewall: IPVS has a service that its packets could be for");
	return balanced;
}
