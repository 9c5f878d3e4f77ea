/*
 * Destinations: route and neighbour of a remote address, shared by its connections, re-asked when the kernel's tables
 * change.
 */
#include "socket/own.h"

#include "base/siphash.h"
#include "wire/ndisc.h"

#include <errno.h>
#include <string.h>

/* A neighbour in use is asked for again this often, so that the kernel keeps it alive. */
#define DEST_RECHECK_US USEC_PER_SEC

static struct dest **dest_bucket(struct engine *e, const struct ip_addr *laddr, const struct ip_addr *raddr)
{
	const struct flow_key pair = {.laddr = *laddr, .raddr = *raddr};
	uint8_t v4[FLOW_KEY_V4_BYTES];
	size_t len;
	const void *bytes = flow_key_bytes(&pair, v4, &len);
	return &e->dests[siphash13_again(&e->last_pair, bytes, len, e->hash_secret) & (DEST_BUCKETS - 1)];
}

struct dest *dest_find(struct engine *e, const struct ip_addr *laddr, const struct ip_addr *raddr, int oif)
{
	struct dest *d = *dest_bucket(e, laddr, raddr);
	while (d && !(ip_addr_equal(&d->raddr, raddr) && ip_addr_equal(&d->laddr, laddr) && d->oif == oif))
		d = d->hash_next;
	return d;
}

int dest_oif(const struct engine *e, const struct sock *l, const struct ip_addr *raddr)
{
	if (l && l->ip.oif)
		return l->ip.oif;
	return name_is_link_local(raddr) ? iface_info(e->arrived)->ifindex : 0;
}

struct dest *dest_get(struct engine *e, const struct ip_addr *laddr, const struct ip_addr *raddr, int oif)
{
	struct dest *d = dest_find(e, laddr, raddr, oif);
	if (d) {
		d->refs++;
		return d;
	}
	d = engine_alloc(e, sizeof *d);
	if (!d)
		return NULL;
	struct dest **bucket = dest_bucket(e, laddr, raddr);
	d->ip_id = tcp_random(&e->tcp); /* packets that may be fragmented must not be guessed */
	d->raddr = *raddr;
	d->laddr = *laddr;
	d->oif = oif;
	d->refs = 1;
	d->generation = e->net_generation - 1;
	d->hash_next = *bucket;
	*bucket = d;
	return d;
}

void dest_put(struct engine *e, struct dest *d)
{
	if (--d->refs)
		return;
	struct dest **link = dest_bucket(e, &d->laddr, &d->raddr);
	while (*link != d)
		link = &(*link)->hash_next;
	*link = d->hash_next;
	engine_free(e, d, sizeof *d);
}

static void dest_path_mtu(struct engine *e, struct dest *d)
{
	bool locked = false;
	d->route_until_us = TIME_NEVER;
	uint32_t learned = pmtu_get(e, &d->raddr, &d->route_until_us, &locked);
	d->path.mtu = learned && learned < d->route_mtu ? learned : d->route_mtu;
	d->path.dont_fragment = !locked;
	if (d->route.expires_us)
		d->route_until_us = min_time(d->route_until_us, d->route.expires_us);
}

/* ---- who knows the ways: the kernel, or in own-address mode we ---- */

static int ask_route(struct engine *e, struct dest *d)
{
	return e->own ? own_route(e, &d->raddr, &d->laddr, d->oif, &d->route) : netstate_route(e->net, &d->raddr, &d->laddr, d->oif, 0, &d->route);
}

static int ask_neighbour(struct engine *e, struct dest *d, bool at_once)
{
	return e->own ? own_neighbour(e, &d->route.nexthop, &d->laddr, d->path.dst_mac)
		      : netstate_neighbour(e->net, d->route.ifindex, &d->route.nexthop, at_once, d->path.dst_mac);
}

const uint8_t *iface_mac(const struct engine *e, const struct iface *i)
{
	return e->own ? own_mac(e) : iface_info(i)->mac;
}

static int dest_route(struct engine *e, struct dest *d)
{
	char why[160];
	d->iface = NULL;
	int err = ask_route(e, d);
	if (err)
		return err;
	if (d->route.kernels && (!d->served || rejudge_routes(e)))
		return -EXDEV;
	if (!d->route.local) /* a route may move to another interface */
		d->iface = iface_serve(e, d->route.ifindex, why, sizeof why);
	if (!d->iface)
		return -EXDEV;
	d->served = true;
	const struct link_info *info = iface_info(d->iface);
	d->path.has_eth = info->has_eth;
	uint8_t ttl = e->default_ttl[!ip_addr_is_v4(&d->raddr)];
	if (d->route.metrics.hoplimit && d->route.metrics.hoplimit <= UINT8_MAX)
		ttl = d->route.metrics.hoplimit;
	d->path.ttl = ttl ? ttl : DEFAULT_TTL;
	d->path.dont_fragment = true;
	d->route_mtu = d->route.mtu && d->route.mtu < info->mtu ? d->route.mtu : info->mtu;
	memcpy(d->path.src_mac, iface_mac(e, d->iface), 6);
	dest_path_mtu(e, d);
	return 0;
}

static bool has_link_local(const struct engine *e, const struct iface *i)
{
	for (unsigned k = 0; k < e->n_addrs; k++)
		if (e->addr_ifaces[k] == i && name_is_link_local(&e->addrs[k]))
			return true;
	return false;
}

/*
 * The kernel resolves a neighbour for us without a packet of ours in its hands, and then asks from its link-local
 * address only: where that is missing or still tentative it asks nobody, and gives up after three seconds. (For its own
 * packets it asks from their source address.) So the engine asks, from the connection's address; the answer is the
 * kernel's, whose entry waits for it.
 */
static bool must_solicit(const struct engine *e, const struct dest *d)
{
	return !e->own && !ip_addr_is_v4(&d->route.nexthop) && !ip_addr_is_v4(&d->laddr) && d->path.has_eth && !has_link_local(e, d->iface);
}

static void solicit(struct engine *e, struct dest *d)
{
	uint8_t frame[NDISC_FRAME_BYTES];
	if (e->now - d->solicited_us < DEST_RECHECK_US)
		return;
	d->solicited_us = e->now;
	ndisc_build_solicitation(d->path.src_mac, d->laddr.b, d->route.nexthop.b, frame);
	struct link_tx tx = {.hdr = frame, .hdr_len = sizeof frame};
	if (link_send(d->iface->link, &tx) < 0)
		e->counters[SOCKC_EmitFailed]++;
}

void dest_resolve_anew(struct engine *e, struct dest *d)
{
	if (dest_resolve(e, d) != -EHOSTUNREACH || !d->iface || e->own)
		return;
	netstate_neighbour_anew(e->net, d->route.ifindex, &d->route.nexthop);
	dest_resolve(e, d);
}

int dest_resolve(struct engine *e, struct dest *d)
{
	bool fresh = d->resolved && d->generation == e->net_generation && e->now < d->route_until_us;
	if (fresh && e->now - d->checked_us < DEST_RECHECK_US)
		return 0;
	if (!fresh) {
		int err = dest_route(e, d);
		if (err) {
			d->resolved = false;
			return err;
		}
	}
	bool alone = must_solicit(e, d);
	int err = ask_neighbour(e, d, alone); /* the entry is to be there before the answer is */
	d->checked_us = e->now;
	d->generation = e->net_generation;
	d->resolved = err == 0;
	if (err == -EAGAIN && alone)
		solicit(e, d);
	return err;
}
