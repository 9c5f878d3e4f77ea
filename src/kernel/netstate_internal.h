/* Shared by netstate*.c only. The theory of operation stands in netstate.c. */
#ifndef FINESSE_KERNEL_NETSTATE_INTERNAL_H
#define FINESSE_KERNEL_NETSTATE_INTERNAL_H

#include "kernel/netstate.h"

#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>

/* Interfaces whose neighbours the monitor socket lets through; with more, it lets all through. */
#define NETSTATE_WATCH_MAX 16

/* Both caches: sets of a few ways, picked by a keyed hash, so that memory and search are bounded.
 */
#define CACHE_WAYS       4u
#define ROUTE_SETS       1024u /* 4096 routes: entries beyond cost a netlink round trip */
#define NEIGH_SETS       512u  /* 2048 neighbours: twice Linux's default gc_thresh3 */
#define ROUTE_MAX_AGE_US (60 * USEC_PER_SEC) /* learned path MTUs expire without a notification */
#define ROUTE_NO_WAY_AGE_US (50 * USEC_PER_MSEC) /* an expired route that is advertised again comes back without one, too */

enum link_kind {
	KIND_UNKNOWN,
	KIND_VETH,
	KIND_OTHER,
};

struct net_link {
	int ifindex;
	unsigned flags; /* IFF_* */
	uint16_t type;  /* ARPHRD_* */
	uint32_t mtu;
	enum link_kind kind;
	bool of_vrf; /* once the kind is known: it is a VRF's device, or one of a VRF */
};

struct net_addr {
	struct ip_addr addr, peer; /* peer: of a point-to-point link; else the same */
	int ifindex;
	uint8_t prefix_len;
	uint8_t scope; /* RT_SCOPE_* */
	bool usable;   /* duplicate address detection is over */
};

struct route_entry {
	uint32_t generation; /* 0: empty */
	struct ip_addr dst, src;
	int oif;
	uint32_t mark;
	int64_t asked_us;
	int result;
	struct route route;
};

struct neigh_entry {
	uint32_t generation; /* 0: empty; not n's: ask the kernel again */
	int ifindex;
	struct ip_addr addr;
	uint16_t state; /* NUD_*; 0: the kernel has no entry */
	uint8_t mac[6];
	bool resolving;
	int64_t resolving_since_us, asked_us, failed_us, no_room_us;
};

#define ROUTES_BYTES (ROUTE_SETS * CACHE_WAYS * sizeof(struct route_entry))
#define NEIGHS_BYTES (NEIGH_SETS * CACHE_WAYS * sizeof(struct neigh_entry))

struct netstate {
	int talk_fd, monitor_fd;
	uint64_t hash_seed;
	bool links_dirty; /* there may be links that are not in the table */
	bool links_lost;  /* what is in the table may be old */
	bool addrs_dirty;
	struct net_link *links; /* by ifindex */
	size_t n_links, max_links;
	bool rules_dirty, rules_unread; /* they may have changed; the last try to read them failed */
	bool has_vrfs; /* the kernel made a rule for them (l3mdev) with the first one */
	const char *rules_why[2]; /* by IPv6: why the rules (ip rule) are for the kernel alone, or NULL */
	struct net_addr *addrs; /* by address, then ifindex */
	size_t n_addrs, max_addrs;
	uint32_t route_generation, neigh_generation; /* never 0 */
	struct route_entry *routes;                  /* ROUTE_SETS * CACHE_WAYS */
	struct neigh_entry *neighs;                  /* NEIGH_SETS * CACHE_WAYS */
	unsigned next_way;                           /* round-robin victim */
	int64_t neigh_warned_us;
	struct neigh_asker *asker; /* NULL: nothing was to be told yet */
	bool may_not_use;          /* CAP_NET_ADMIN is not that of the namespace's owner */
	int watched[NETSTATE_WATCH_MAX];
	unsigned n_watched; /* beyond the array's size: no filter */
};

static inline void netstate_bump(uint32_t *generation)
{
	if (++*generation == 0)
		*generation = 1;
}

/* Keyed hash of an address and two numbers, for the caches. */
uint32_t netstate_hash(const struct netstate *n, const struct ip_addr *a, uint32_t x, uint32_t y);

/* An address from a netlink attribute of `family`'s size; false when the length lies. */
bool netstate_attr_addr(const struct nlattr *attr, int family, struct ip_addr *out);
/* Puts an address in its family's own form. */
void netstate_put_addr(struct nlmsghdr *h, uint16_t type, const struct ip_addr *a);
int netstate_family(const struct ip_addr *a);
/* netlink_talk, again when a dump was interrupted; `reset` NULL or called before each try. */
int netstate_dump(struct netstate *n, struct nlmsghdr *req,
		  int (*on_msg)(const struct nlmsghdr *, void *), void *ctx,
		  void (*reset)(struct netstate *n));

/* netstate_link.c. NULL: no such interface (or the kernel could not be asked). */
const struct net_link *netstate_link(struct netstate *n, int ifindex);
/* netstate_rule.c. */
bool netstate_has_vrfs(struct netstate *n);
/* netstate_link.c: notifications. */
void netstate_on_link(struct netstate *n, const struct nlmsghdr *h);
void netstate_on_addr(struct netstate *n, const struct nlmsghdr *h);
/*
 * netstate_neigh.c: says on this socket that a neighbour is used; waits as long as the kernel lets it. Any thread that
 * has the socket for itself.
 */
int netstate_ask_to_use(int fd, int ifindex, const struct ip_addr *a);
/* netstate_neigh.c: a notification. True: it concerned an entry that somebody asked for. */
bool netstate_on_neigh(struct netstate *n, const struct nlmsghdr *h);
/* netstate.c: let this interface's neighbour notifications through. */
int netstate_watch(struct netstate *n, int ifindex);

#endif
