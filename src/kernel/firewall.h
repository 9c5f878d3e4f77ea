/*
 * Promise 6: what this host's rules could do to TCP where our packets would bypass them. nftables on input, output,
 * prerouting, postrouting, ingress, egress; legacy iptables and ip6tables; cgroup BPF programs on our cgroup; BPF
 * programs that choose the socket (sk_lookup); tc's filters and others' programs at the interface's ingress; IPsec
 * policies. Our own classifier's table does not count.
 *
 * A snapshot is read once and asked often; asking costs no system call, but the first time about an interface.
 * Functions return 0/positive or -errno. The engine's lock is held, but for firewall_read: it makes a new snapshot and
 * looks at nothing else, so any thread may call it. -EINTR: the rules changed while they were read.
 */
#ifndef FINESSE_KERNEL_FIREWALL_H
#define FINESSE_KERNEL_FIREWALL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/addr.h"

struct firewall;
struct named_sources; /* kernel/named.h */

/* -EPERM: CAP_NET_ADMIN is missing; other -errno: could not tell. `why` says so in one line. */
int firewall_read(struct firewall **out, char *why, size_t why_len);
/* The same, but with the programs on the cgroup of process `pid` (0: the calling one). */
int firewall_read_of(int pid, struct firewall **out, char *why, size_t why_len);
void firewall_free(struct firewall *f); /* NULL: nothing */
/*
 * For a process that may not read the rules: a file of them, an internal fd, or -errno; and back, from its beginning.
 */
int firewall_save(const struct firewall *f);
int firewall_load(struct firewall **out, int fd);
#define FIREWALL_LOOK_SETS 16
#define FIREWALL_FAMILIES  2
#define FIREWALL_INTERFACES 16 /* that are asked about: all that are served */
/*
 * Who asks the kernel again and again keeps what that takes open: a descriptor that is made takes the lowest free
 * number for a moment, which is the program's. Of one process; a fork's child closes its copies. NULL, where one is
 * asked for: nothing is kept.
 */
struct firewall_look {
	int pid; /* whose cgroup, as /proc numbers it; 0: the calling process's */
	/*
	 * where no cgroup2 is mounted, -EPERM: somebody else is asked. To mount one takes some 10 ms, and as long at
	 * the process's end
	 */
	bool mounts_nothing;
	int groups_fd; /* /proc/PID/cgroup, and what it said … */
	char *groups;
	/*
	 * … when this directory was found by it; -ENOENT: there is no cgroup v2. -EPERM, -EACCES: in a user namespace.
	 * -EREMOTE: mounts_nothing
	 */
	int cgroup_fd;
	int route_fd;  /* netlink */
	int names_fd[FIREWALL_FAMILIES]; /* of legacy tables */
	int netns_fd;
	int ipvs_fd;
	/*
	 * BPF programs: up to where they were looked at, one for netfilter's hooks and one of others' for tcx; 0: none
	 */
	uint32_t programs_seen, for_hooks, for_tcx;
	uint32_t links_seen, link_found; /* BPF links: up to where they were looked at, and one of a program at a hook of netfilter; 0: none */
	struct { /* of programs at tcx: is one of them another's? 0: none */
		uint64_t sum;
		bool others;
	} sets[FIREWALL_LOOK_SETS];
	unsigned next_set;
	int in_user_namespace; /* that of a process with threads does not change. -1: not asked yet */
};
#define FIREWALL_LOOK_NONE ((struct firewall_look){.groups_fd = -1, .cgroup_fd = -1, .route_fd = -1, .names_fd = {-1, -1}, .netns_fd = -1, .ipvs_fd = -1, .in_user_namespace = -1})
void firewall_look_open(struct firewall_look *look); /* now, and not at the first question */
void firewall_look_close(struct firewall_look *look);
void firewall_look_alone(struct firewall_look *look); /* there is nobody else to ask any more: the next look mounts what it needs */

/*
 * What is there of which nobody tells, a bit each: the kinds of BPF programs on the calling process's cgroup, or on
 * that of process `pid`; tables of legacy iptables; programs that choose the socket of a SYN (sk_lookup); programs at
 * netfilter's hooks, and IPVS' services. -EPERM: CAP_NET_ADMIN is missing; other -errno: could not tell.
 */
int firewall_untold_now(struct firewall_look *look);
int firewall_untold_of(int pid);
/* Another one with each change of nftables' rules or IPsec policies; 0: there are none, or it cannot be told. */
uint32_t firewall_generation(void);
/*
 * What may change without anybody telling: the untold, and filters and others' programs at the ingress of interfaces.
 * The kernel is asked by firewall_see. It may let the caller wait for its lock of the network (rtnl), 100s of ms where
 * namespaces come and go. So it is called without the engine's lock; `look` is the caller's meanwhile.
 */
struct firewall_tc { /* what others have at an interface's ingress */
	int ifindex;
	bool filters;  /* tc's */
	bool programs; /* at tcx */
};
struct firewall_sight {
	int untold; /* as firewall_untold_now */
	unsigned n;
	struct firewall_tc at[FIREWALL_INTERFACES];
};
/* Which interfaces the snapshot was asked about. */
void firewall_sight_of(const struct firewall *f, struct firewall_sight *s);
void firewall_see(struct firewall_sight *s, struct firewall_look *look);
/* Is it otherwise now than in the snapshot? NULL: than with nothing there. */
bool firewall_differs(const struct firewall *f, const struct firewall_sight *s);
/* Are there rules of legacy iptables, whose changes nobody tells? NULL: no. */
bool firewall_has_legacy(const struct firewall *f);

/* Does it take long to read them? NULL: no. */
bool firewall_is_large(const struct firewall *f);
/* … so long that no port is to stand open meanwhile? */
bool firewall_is_slow(const struct firewall *f);

/*
 * Whose packets: a flow's, over this interface. Ports of 0 and addresses that are "any" are not known yet; then it is
 * enough that the answer holds for some peer. 0: no rule could drop, change or answer them. 1: one could, and `why`
 * names it in one line.
 */
struct firewall_flow {
	int ifindex;
	const char *ifname;
	bool v6;
	struct flow_key key; /* our end is local */
	struct named_sources *strangers; /* internal to firewall.c; NULL */
};
/* A SYN that comes for it: the host has to be asked, or its peer decides whether a rule could touch what follows. */
int firewall_judges(const struct firewall *f, const struct firewall_flow *flow, char *why, size_t why_len);
/*
 * Is it proved that nothing touches a SYN to this port of ours, nor what follows, whoever the peer is, and that no rule
 * notes who comes (logs, sets that packets fill)? Then nobody has to judge it. It may be said but for the sources that
 * the rules name: of those nothing is proved. Never said where news of other rules would be late: where legacy iptables
 * has tables, or the rules are large.
 */
bool firewall_opens(struct firewall *f, const struct firewall_flow *flow);
/* The sources that the rules name: of all that was asked up to now. NULL: none are. */
const struct named_sources *firewall_named(const struct firewall *f, bool v6);
/* What follows a SYN that the host accepted: its answers and its later segments pass no rule. */
int firewall_filters_server(struct firewall *f, const struct firewall_flow *flow, char *why, size_t why_len);
/* A connection that we open, its SYN included. */
int firewall_filters_client(struct firewall *f, const struct firewall_flow *flow, char *why, size_t why_len);

/* Does a cgroup program see each socket that this process makes, binds or frees? Also where that cannot be asked. */
bool firewall_watches_sockets(void);

/* Of any TCP of process `pid` (0: the calling one) over this interface: all of the above. */
int firewall_check(int pid, int ifindex, char *why, size_t why_len);

#endif
