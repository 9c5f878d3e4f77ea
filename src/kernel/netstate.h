/*
 * What the kernel knows of the network, as the engine needs it: interfaces and their addresses, routes per
 * destination (RTM_GETROUTE, cached, flushed by notifications), neighbours (dump + notifications; NTF_USE to resolve).
 * netlink through libmnl. Called under the engine's lock; never blocks beyond a netlink round trip.
 */
#ifndef FINESSE_KERNEL_NETSTATE_H
#define FINESSE_KERNEL_NETSTATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

struct netstate;

int netstate_open(struct netstate **out);
void netstate_close(struct netstate *n);
void netstate_forget(struct netstate *n); /* in a fork child */
void netstate_pause(struct netstate *n);  /* the process has no thread of it afterwards, until neighbours are asked for again. NULL: nothing */

int netstate_fd(const struct netstate *n); /* POLLIN: call netstate_on_readable */
/* What changed, as bits. */
#define NETSTATE_LINKS  0x1
#define NETSTATE_ADDRS  0x2
#define NETSTATE_ROUTES 0x4
#define NETSTATE_NEIGHS 0x8
unsigned netstate_on_readable(struct netstate *n);

/*
 * Interface of the default route, else the only non-loopback one that is up; -ENODEV and a reason when neither exists.
 */
int netstate_default_interface(struct netstate *n, char *why, size_t why_len);
/*
 * Addresses of an interface: fills up to `max`, returns how many there are. Loopback-scope excluded, link-local
 * included.
 */
int netstate_addresses(struct netstate *n, int ifindex, struct ip_addr *out, size_t max);
/* The interface that has this usable address; the first of several. 0: none. */
int netstate_interface_of(struct netstate *n, const struct ip_addr *a);
/* Is it up, not loopback, and has it an address? */
bool netstate_may_serve(struct netstate *n, int ifindex);
/* Is it one of a pair whose other end is on this host? */
bool netstate_is_veth(struct netstate *n, int ifindex);
/*
 * A VRF's device, or one that a VRF is the master of: what comes there is for sockets that are bound to the VRF (or to
 * all, where tcp_l3mdev_accept is set), and goes by its table. None of their addresses is served: netstate_addresses,
 * _interface_of and _interfaces leave them out.
 */
bool netstate_is_of_vrf(struct netstate *n, int ifindex);
/* Those that may serve: fills up to `max`, by index, and returns how many there are, or -errno. */
int netstate_interfaces(struct netstate *n, int *out, size_t max);
/* Is `a` an address of any interface of this host (so that traffic to it is local)? */
bool netstate_is_local(struct netstate *n, const struct ip_addr *a);

/* What an administrator says of a route (ip route … initcwnd 20). 0: nothing. */
struct route_metrics {
	uint32_t advmss, window;      /* bytes */
	uint32_t initcwnd, initrwnd;  /* segments */
	uint32_t rto_min_ms;
	uint32_t quickack, hoplimit;
	uint32_t fastopen_no_cookie;
	uint32_t features;            /* RTAX_FEATURE_… */
	char congestion[16];
};

struct route {
	int ifindex;
	struct ip_addr src;     /* preferred source */
	struct ip_addr nexthop; /* gateway, or the destination when on-link */
	uint32_t mtu;           /* route or interface MTU */
	struct route_metrics metrics;
	bool local;             /* delivered on this host */
	int64_t expires_us;     /* then it is to be asked for again: a router advertised it for so long. 0: never by itself */
	const char *kernels;    /* why only the kernel can go this way, or NULL */
};
/*
 * 0; -ENETUNREACH, -EHOSTUNREACH, -EACCES as connect() would say; others tell that the question failed. `src` any: let
 * the kernel choose. `oif`/`mark` 0: none.
 */
int netstate_route(struct netstate *n, const struct ip_addr *dst, const struct ip_addr *src,
		   int oif, uint32_t mark, struct route *out);

/* Why nobody but the kernel can tell a way of this family (rules that choose by port …), or NULL. */
const char *netstate_rules_why(struct netstate *n, bool v6);

/* As Linux for a new packet: a failure of a moment ago is no answer to the next question. */
void netstate_neighbour_anew(struct netstate *n, int ifindex, const struct ip_addr *nexthop);
/*
 * 0 and the MAC; -EAGAIN: being resolved (asked the kernel, once per second at most; NETSTATE_NEIGHS tells);
 * -EHOSTUNREACH: failed; -ENOBUFS: the kernel had no room to ask, and what is sent now is lost, as Linux's own packets
 * are. `at_once`: the kernel is asked by the caller's thread, which may wait for the kernel's lock, and has the entry
 * when this returns. Otherwise a thread of our own asks.
 */
int netstate_neighbour(struct netstate *n, int ifindex, const struct ip_addr *nexthop, bool at_once, uint8_t mac[6]);
/*
 * The kernel resolves or confirms this neighbour. 0, -EPERM without CAP_NET_ADMIN, other -errno. For who has no
 * netstate.
 */
int netstate_use_neighbour(int ifindex, const struct ip_addr *a);

#endif
