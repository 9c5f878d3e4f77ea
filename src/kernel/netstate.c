/*
 * What the kernel knows of the network: the object, its notifications, the helpers its parts share.
 *
 * Owns two netlink sockets (one to ask, one that notifies), a table of links, a table of addresses,
 * and two bounded caches: routes (netstate_route.c) and neighbours (netstate_neigh.c). Nothing is
 * mirrored that nobody asked for.
 *
 * Invariants. A notification of a route or a rule carries no state: it marks what is known as stale, and the next
 * question asks again. Stale is a generation number: flushing a cache is one increment. Links, addresses, and the
 * neighbours that somebody asked for, follow their notifications in
 * place: to ask for links anew waits for the kernel's lock of the network, which is held for long where containers come
 * and go. The kernel sends a notification for each change, in order, and says when it lost some: then all of it is
 * asked for again.
 *
 * Events. netstate_on_readable drains the monitor socket. An answer is as fresh as the last drain: a caller that must
 * see what happened a moment ago (a connect right after `ip route add`) drains first, which costs one recv
 * (socket/engine.c says when that may be spared). ENOBUFS means that notifications were lost: everything is stale.
 *
 * Limits. Neighbour notifications, which a router or a busy L2 segment produces all the time, are
 * filtered in the kernel to the interfaces whose neighbours were asked for (a classic BPF program
 * on the netlink socket). Caches are of fixed size: eviction costs a netlink round trip (about 5
 * µs), never a wrong answer. No timers: the clock is read only where an entry is not simply valid.
 */
#include "kernel/netstate_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <net/if.h>
#include <stdlib.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "base/time.h"
#include "base/zeroed.h"
#include "kernel/neigh_asker.h"
#include "kernel/netlink.h"

#define DUMP_TRIES 4 /* a dump that a change interrupted is asked again */

uint32_t netstate_hash(const struct netstate *n, const struct ip_addr *a, uint32_t x, uint32_t y)
{
	/* Multiply and fold (the finalizer of MurmurHash3 between words); a collision costs an
	 * eviction, nothing more. */
	uint64_t w[3], h = n->hash_seed;
	memcpy(w, a->b, 16);
	w[2] = (uint64_t)x << 32 | y;
	for (int i = 0; i < 3; i++) {
		h = (h ^ w[i]) * UINT64_C(0xff51afd7ed558ccd);
		h ^= h >> 33;
	}
	return h ^ h >> 32;
}

bool netstate_attr_addr(const struct nlattr *attr, int family, struct ip_addr *out)
{
	size_t len = mnl_attr_get_payload_len(attr);
	const void *bytes = mnl_attr_get_payload(attr);
	if (family == AF_INET && len == 4)
		*out = ip_addr_from_v4(bytes);
	else if (family == AF_INET6 && len == 16)
		*out = ip_addr_from_v6(bytes);
	else
		return false;
	return true;
}

int netstate_family(const struct ip_addr *a)
{
	return ip_addr_is_v4(a) ? AF_INET : AF_INET6;
}

void netstate_put_addr(struct nlmsghdr *h, uint16_t type, const struct ip_addr *a)
{
	if (ip_addr_is_v4(a))
		mnl_attr_put(h, type, 4, a->b + 12);
	else
		mnl_attr_put(h, type, 16, a->b);
}

int netstate_dump(struct netstate *n, struct nlmsghdr *req,
		  int (*on_msg)(const struct nlmsghdr *, void *), void *ctx,
		  void (*reset)(struct netstate *n))
{
	int ret = -EINTR;
	for (int i = 0; i < DUMP_TRIES && ret == -EINTR; i++) {
		if (reset)
			reset(n);
		ret = netlink_talk(n->talk_fd, req, on_msg, ctx);
	}
	return ret;
}

/*
 * Neighbour notifications of watched interfaces, and everything else. Netlink headers are in host
 * byte order, BPF loads convert from network order: constants are swapped.
 */
static int attach_filter(struct netstate *n)
{
	struct sock_filter code[6 + NETSTATE_WATCH_MAX];
	const unsigned type_at = offsetof(struct nlmsghdr, nlmsg_type);
	const unsigned ifindex_at = NLMSG_HDRLEN + offsetof(struct ndmsg, ndm_ifindex);
	unsigned w = n->n_watched, i = 0;
	code[i++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_H | BPF_ABS, type_at);
	code[i++] =
	    (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_NEWNEIGH), 1, 0);
	code[i++] =
	    (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELNEIGH), 0, w + 2);
	code[i++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ifindex_at);
	for (unsigned k = 0; k < w; k++)
		code[i++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
							 htonl(n->watched[k]), w - k, 0);
	code[i++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	code[i++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
	struct sock_fprog prog = {.len = i, .filter = code};
	return sys_setsockopt(n->monitor_fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog);
}

/* With the first interface that is watched: before, nobody wants to hear of any. */
static int hear_of_neighbours(const struct netstate *n)
{
	const int group = RTNLGRP_NEIGH;
	return sys_setsockopt(n->monitor_fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group);
}

int netstate_watch(struct netstate *n, int ifindex)
{
	if (n->n_watched > NETSTATE_WATCH_MAX)
		return 0;
	for (unsigned i = 0; i < n->n_watched; i++)
		if (n->watched[i] == ifindex)
			return 0;
	if (n->n_watched == NETSTATE_WATCH_MAX) {
		int none = 0;
		n->n_watched++;
		return sys_setsockopt(n->monitor_fd, SOL_SOCKET, SO_DETACH_FILTER, &none,
				      sizeof none);
	}
	n->watched[n->n_watched++] = ifindex;
	int err = attach_filter(n);
	if (!err && n->n_watched == 1)
		err = hear_of_neighbours(n);
	if (err)
		n->n_watched--; /* who asks again tries again */
	return err;
}

static int open_monitor(void)
{
	static const int groups[] = {
	    RTNLGRP_LINK,       RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE,
	    RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE,   RTNLGRP_IPV6_RULE,   RTNLGRP_NEXTHOP,
	};
	return netlink_open_groups(NETLINK_ROUTE, groups, sizeof groups / sizeof groups[0]);
}

int netstate_open(struct netstate **out)
{
	struct netstate *n = calloc(1, sizeof *n);
	int ret = -ENOMEM;
	if (!n)
		return ret;
	n->talk_fd = n->monitor_fd = -1;
	n->links_dirty = n->addrs_dirty = n->rules_dirty = true;
	n->route_generation = n->neigh_generation = 1;
	n->routes = zeroed_new(ROUTES_BYTES);
	n->neighs = zeroed_new(NEIGHS_BYTES);
	if (!n->routes || !n->neighs)
		goto fail;
	sys_call(SYS_getrandom, &n->hash_seed, sizeof n->hash_seed, 0, 0, 0, 0);
	ret = n->monitor_fd = fd_move_high(open_monitor());
	if (ret < 0)
		goto fail;
	ret = n->talk_fd = fd_move_high(netlink_open(NETLINK_ROUTE));
	if (ret < 0)
		goto fail;
	*out = n;
	return 0;
fail:
	netstate_close(n);
	return ret;
}

static void release(struct netstate *n)
{
	fd_close(n->talk_fd);
	fd_close(n->monitor_fd);
	free(n->links);
	free(n->addrs);
	zeroed_free(n->routes, ROUTES_BYTES);
	zeroed_free(n->neighs, NEIGHS_BYTES);
	free(n);
}

void netstate_close(struct netstate *n)
{
	if (!n)
		return;
	neigh_asker_free(n->asker);
	release(n);
}

/* Netlink sockets hold nothing for the parent: a child's copies are simply closed. */
void netstate_forget(struct netstate *n)
{
	if (!n)
		return;
	neigh_asker_forget(n->asker);
	release(n);
}

void netstate_pause(struct netstate *n)
{
	if (n)
		neigh_asker_join(n->asker);
}

int netstate_fd(const struct netstate *n)
{
	return n->monitor_fd;
}

struct drain {
	struct netstate *n;
	unsigned changed;
};

static unsigned changed_by(struct netstate *n, const struct nlmsghdr *h)
{
	switch (h->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		netstate_on_link(n, h);
		/* A link that goes down takes IPv4 routes with it without a route notification. */
		return NETSTATE_LINKS | NETSTATE_ROUTES;
	case RTM_NEWADDR:
	case RTM_DELADDR:
		netstate_on_addr(n, h);
		return NETSTATE_ADDRS | NETSTATE_ROUTES; /* preferred sources */
	case RTM_NEWRULE:
	case RTM_DELRULE:
		n->rules_dirty = true;
		return NETSTATE_ROUTES;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
	case RTM_NEWNEXTHOP:
	case RTM_DELNEXTHOP:
		return NETSTATE_ROUTES;
	case RTM_NEWNEIGH:
	case RTM_DELNEIGH:
		return netstate_on_neigh(n, h) ? NETSTATE_NEIGHS : 0;
	}
	return 0;
}

static int on_notification(const struct nlmsghdr *h, void *ctx)
{
	struct drain *d = ctx;
	d->changed |= changed_by(d->n, h);
	return 0;
}

unsigned netstate_on_readable(struct netstate *n)
{
	struct drain d = {.n = n};
	int ret = netlink_drain(n->monitor_fd, on_notification, &d);
	if (ret < 0) {
		/* Some were lost; what still waits is read too, so that the fd does not stay
		 * readable. */
		log_info("netstate", "notifications lost (%s): asking the kernel again",
			 strerrordesc_np(-ret));
		netlink_drain(n->monitor_fd, on_notification, &d);
		d.changed = NETSTATE_LINKS | NETSTATE_ADDRS | NETSTATE_ROUTES | NETSTATE_NEIGHS;
		netstate_bump(&n->neigh_generation);
		n->links_dirty = n->links_lost = n->addrs_dirty = n->rules_dirty = true;
	}
	if (d.changed & NETSTATE_ROUTES)
		netstate_bump(&n->route_generation);
	return d.changed;
}
