/*
 * Promise 6: what this host's rules could do to TCP where our packets would bypass them. nftables on input, output, prerouting,
 * postrouting, ingress, egress; legacy iptables and ip6tables; cgroup BPF programs on our cgroup; tc's filters and others' programs at the interface's ingress. Our own classifier's table does not count.
 *
 * A snapshot is read once and asked often; asking costs no system call, but the first time about an interface. Functions return 0/positive or -errno; under the engine's lock.
 */
#ifndef FINESSE_KERNEL_FIREWALL_H
#define FINESSE_KERNEL_FIREWALL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/addr.h"

struct firewall;

/* -EPERM: CAP_NET_ADMIN is missing; other -errno: could not tell. `why` says so in one line. */
int firewall_read(struct firewall **out, char *why, size_t why_len);
void firewall_free(struct firewall *f); /* NULL: nothing */
/* For a process that may not read the rules: a file of them, an internal fd, or -errno; and back, from its beginning. */
int firewall_save(const struct firewall *f);
int firewall_load(struct firewall **out, int fd);
/* The kinds of BPF programs on a cgroup, a bit each: of the snapshot, and of the calling process's cgroup now. -EPERM: CAP_NET_ADMIN is missing; other -errno: could not tell. */
int firewall_cgroup(const struct firewall *f);
int firewall_cgroup_now(void);
/* Do others have a program or a filter at this interface's ingress now? Asks the kernel. */
bool firewall_ingress_filters(int ifindex);
/* Did they put one at the ingress of an interface that was asked about, or take one away? Asks the kernel. */
bool firewall_ingress_changed(const struct firewall *f);
/* Are there rules of legacy iptables, whose changes nobody tells? NULL: no. */
bool firewall_has_legacy(const struct firewall *f);

/*
 * Whose packets: a flow's, over this interface. Ports of 0 and addresses that are "any" are not known yet; then it is enough that the answer holds for some peer.
 * 0: no rule could drop, change or answer them. 1: one could, and `why` names it in one line.
 */
struct firewall_flow {
	int ifindex;
	const char *ifname;
	bool v6;
	struct flow_key key; /* our end is local */
};
/* A SYN that comes for it: the host has to be asked, or its peer decides whether a rule could touch what follows. */
int firewall_judges(const struct firewall *f, const struct firewall_flow *flow, char *why, size_t why_len);
/* What follows a SYN that the host accepted: its answers and its later segments pass no rule. */
int firewall_filters_server(struct firewall *f, const struct firewall_flow *flow, char *why, size_t why_len);
/* A connection that we open, its SYN included. */
int firewall_filters_client(struct firewall *f, const struct firewall_flow *flow, char *why, size_t why_len);

/* Does a cgroup program see each socket that this process makes, binds or frees? Also where that cannot be asked. */
bool firewall_watches_sockets(void);

/* Of any TCP over this interface: all of the above. */
int firewall_check(int ifindex, char *why, size_t why_len);

#endif
