/* The parts of the firewall's question; what each returns is 0 or -errno. */
#ifndef FINESSE_KERNEL_FIREWALL_INTERNAL_H
#define FINESSE_KERNEL_FIREWALL_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/firewall.h"
#include "kernel/firewall_rules.h"

/* Not the initial user namespace: what is ours here is ours alone, and what is the host's cannot be asked about. */
bool firewall_in_user_namespace(void);

/* Add what the host has to `rs`. firewall_read_nftables comes first: it begins anew. */
int firewall_read_nftables(struct ruleset *rs);
int firewall_read_iptables(struct ruleset *rs); /* legacy, both families */

/* BPF programs on the cgroup of the look's process. */
struct firewall_cgroup {
	bool ingress; /* sees what comes */
	bool egress;  /* … what goes */
	bool connect; /* … where connect goes */
	bool sockets; /* … each socket that is made, bound or freed */
};
int firewall_read_cgroup(struct firewall_cgroup *out, struct firewall_look *look);

/* firewall_hooks.c: programs at netfilter's hooks, and the services of IPVS. */
#define FIREWALL_IPVS_MAX 64 /* with more, all is concerned */
struct firewall_ipvs_service {
	struct ip_addr addr;
	uint16_t port; /* 0: all */
};
struct firewall_ipvs {
	bool all;
	unsigned n;
	uint32_t digest; /* another one when they have changed; 0: there are none */
	struct firewall_ipvs_service services[FIREWALL_IPVS_MAX];
};
struct firewall_hooks {
	bool program;
	struct firewall_ipvs ipvs;
};
void firewall_read_hooks(struct firewall_hooks *out, struct firewall_look *look);
void firewall_hooks_close(struct firewall_look *look);
void firewall_parse_ipvs(const char *text, struct firewall_ipvs *out); /* what /proc/net/ip_vs says */
int firewall_hooks_have(const struct firewall_hooks *h, const struct firewall_flow *f, bool some, char *why, size_t why_len);

/* What nobody tells of besides. */
struct firewall_unheard {
	struct firewall_hooks hooks;
	uint32_t tables; /* legacy iptables' and ip6tables', a bit each: less than 1 << 12 */
	bool sk_lookup;
};
int firewall_read_unheard(struct firewall_unheard *out, struct firewall_look *look);
void firewall_unheard_close(struct firewall_look *look);

bool firewall_is_others_program(const char *name);
bool firewall_look_at_programs(struct firewall_look *look); /* those that came since. False: more of them are to be looked at */
void firewall_read_tc(int ifindex, struct firewall_tc *out, struct firewall_look *look);
int firewall_open_route(struct firewall_look *look); /* its route_fd */

/* IPsec policies that could concern TCP. */
#define FIREWALL_XFRM_MAX 64
struct firewall_xfrm_policy {
	struct ip_addr src, dst;
	uint16_t sport, sport_mask, dport, dport_mask;
	uint8_t src_bits, dst_bits;
	bool v6, out;
	int ifindex; /* 0: any */
};
struct firewall_xfrm {
	bool all; /* everything is concerned */
	unsigned n;
	struct firewall_xfrm_policy policies[FIREWALL_XFRM_MAX];
};
int firewall_read_xfrm(struct firewall_xfrm *out);
uint32_t firewall_xfrm_digest(void); /* another one when they have changed; 0: there are none, or they cannot be read */
bool firewall_nft_is_absent(void);
uint32_t firewall_nft_generation(void); /* another one with each change of nftables' rules; 0: there are none, or it cannot be told */
int firewall_xfrm_has(const struct firewall_xfrm *x, const struct firewall_flow *f, bool some, char *why, size_t why_len);

/* One of iptables' matches and targets: adds what it means to the rule that is being written. -ENOMEM. */
int firewall_xt_match(struct ruleset *rs, const char *name, unsigned revision, const void *info, size_t len);
/*
 * Is this IPv6 extension header (a protocol's number) one that no packet of ours has? The classifier leaves what has it
 * to the kernel, or to nobody.
 */
bool firewall_is_foreign_header(unsigned protocol);
int firewall_xt_target(struct ruleset *rs, const char *name);

#endif
