/*
 * The interfaces that the engine serves: theory of operation.
 *
 * Each has a link of its own (packet socket, ring, transmit queue). The classifier, the tables of connections and
 * listeners, and the set of addresses are the engine's, for all of them: what is ours is ours whichever way it comes,
 * as with a kernel socket.
 *
 * An interface is attached when the first connection or listener concerns it: attaching lets the process wait for RCU
 * grace periods of the kernel, and costs a ring's memory. Which may be served the setting `interface` says: the named
 * ones, or each that is up, has an address and is not loopback. One that could not be attached is not tried again for a
 * while, and its sockets are the kernel's, with the reason.
 *
 * An interface that is gone gives its place back; destinations that were reached by it ask for their route anew. Places
 * do not move, since links' handlers point to them. Lock held in all of these.
 */
#include "socket/own.h"
#include "socket/unseen.h"

#include "base/log.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

/* More addresses than this stay the kernel's, and a line says so. */
#define ADDRESSES_MAX 4096
/* An attempt that failed is not repeated for every socket of a busy program. */
#define DECLINED_US USEC_PER_SEC
/* Interfaces that are looked at, of a host with more. */
#define CANDIDATES_MAX 256

static void on_rx(struct link_rx_handler *h, const struct link_rx *rx)
{
	struct iface *i = container_of(h, struct iface, rx_handler);
	if (!i->engine->own) {
		input_frame(i->engine, i, rx);
		return;
	}
	struct link_rx own = *rx;
	if (!own_input(i->engine, &own))
		input_frame(i->engine, i, &own);
}

static bool on_begun(struct link_rx_handler *h, const struct link_rx *rx)
{
	return unseen_take(container_of(h, struct iface, rx_handler), rx);
}

static void on_behind(struct link_rx_handler *h)
{
	unseen_settle_iface(container_of(h, struct iface, rx_handler));
}

struct iface *iface_find(struct engine *e, int ifindex)
{
	struct iface *i;
	ifaces_for_each(e, i)
		if (iface_info(i)->ifindex == ifindex && !i->gone)
			return i;
	return NULL;
}

struct iface *iface_first(const struct engine *e)
{
	struct iface *i;
	ifaces_for_each(e, i)
		return i;
	return NULL;
}

int iface_scope(const struct engine *e, const struct ip_addr *laddr)
{
	for (unsigned k = 0; k < e->n_addrs; k++)
		if (e->addr_ifaces[k]->link && ip_addr_equal(&e->addrs[k], laddr))
			return iface_info(e->addr_ifaces[k])->ifindex;
	struct iface *first = iface_first(e);
	return first ? iface_info(first)->ifindex : 0;
}

bool engine_owns_address(const struct engine *e, const struct ip_addr *a)
{
	for (unsigned i = 0; i < e->n_addrs; i++)
		if (ip_addr_equal(&e->addrs[i], a))
			return true;
	return false;
}

/* ---- addresses ---- */

static int addresses_of(struct engine *e, struct iface *i)
{
	unsigned room = ADDRESSES_MAX - e->n_addrs;
	int n = netstate_addresses(e->net, iface_info(i)->ifindex, e->addrs + e->n_addrs, room);
	if (n < 0)
		return n;
	if ((unsigned)n > room) {
		log_warn("engine", "%s has %d addresses: only %d of the served interfaces are served", iface_info(i)->ifname, n, ADDRESSES_MAX);
		n = room;
	}
	for (int k = 0; k < n; k++)
		e->addr_ifaces[e->n_addrs++] = i;
	return 0;
}

static void load_own_addresses(struct engine *e)
{
	e->n_addrs = own_addresses(e, e->addrs, ADDRESSES_MAX);
	for (unsigned k = 0; k < e->n_addrs; k++)
		e->addr_ifaces[k] = iface_first(e);
}

static bool is_used(const struct engine *e, const struct ip_addr *a)
{
	list_for_each (pos, tmp, &e->socks) {
		const struct sock *s = container_of(pos, struct sock, node);
		if (s->kind == SOCK_KIND_CONN && s->live && ip_addr_equal(&s->flow.key.laddr, a))
			return true;
	}
	return false;
}

/*
 * A connection outlives its address on an interface, and goes on when the address is back (Linux's do). The kernel has
 * the address again before we hear of it, and would answer what comes for the connection with a reset. So the
 * classifier keeps an address that went as long as connections have it: nobody else here gets its packets. `before`:
 * the addresses that the classifier has.
 */
static void keep_used(struct engine *e, const struct ip_addr *before, unsigned n_before)
{
	e->n_gone_addrs = 0;
	for (unsigned k = 0; k < n_before && e->n_addrs + e->n_gone_addrs < ADDRESSES_MAX; k++) {
		bool stays = (k < e->n_addrs && ip_addr_equal(&e->addrs[k], &before[k])) || engine_owns_address(e, &before[k]);
		if (!stays && is_used(e, &before[k]))
			e->addrs[e->n_addrs + e->n_gone_addrs++] = before[k];
	}
}

int ifaces_load_addresses(struct engine *e)
{
	struct iface *i;
	if (!e->addrs)
		/* the upper half: what was there before. Nothing is cleared, most is never touched */
		e->addrs = pool_alloc(&e->pool, 2 * ADDRESSES_MAX * sizeof *e->addrs);
	if (!e->addr_ifaces)
		e->addr_ifaces = pool_alloc(&e->pool, ADDRESSES_MAX * sizeof(*e->addr_ifaces));
	if (!e->addrs || !e->addr_ifaces)
		return -ENOMEM;
	if (e->own) {
		load_own_addresses(e);
		return 0;
	}
	unsigned n_before = e->n_addrs + e->n_gone_addrs;
	memcpy(e->addrs + ADDRESSES_MAX, e->addrs, n_before * sizeof *e->addrs);
	e->n_addrs = 0;
	int err = 0;
	ifaces_for_each(e, i)
		err = err ? err : addresses_of(e, i);
	keep_used(e, e->addrs + ADDRESSES_MAX, n_before);
	return err ? err : classifier_set_addresses(e->classifier, e->addrs, e->n_addrs + e->n_gone_addrs);
}

/* ---- attaching ---- */

static int classify(struct engine *e, struct iface *i, char *why, size_t why_len)
{
	const struct link_info *info = link_info(i->link);
	int fd = link_rx_fd(i->link);
	return e->classifier ? classifier_attach(e->classifier, info->ifindex, fd, info->has_eth, why, why_len)
			     : classifier_open(&e->classifier, e->settings.classifier, info->ifindex, fd, info->has_eth, why, why_len);
}

/* By our own right. *unprivileged: that is what is missing. */
static int open_link(struct engine *e, struct iface *i, int ifindex, bool *unprivileged, char *why, size_t why_len)
{
	struct link_config lc = {.ifindex = ifindex, .veth = netstate_is_veth(e->net, ifindex), .later = true};
	int err = link_open_packet(&i->link, &lc);
	*unprivileged = err == -EPERM;
	if (err) {
		char name[IF_NAMESIZE] = "?";
		if_indextoname((unsigned)ifindex, name);
		snprintf(why, why_len, "packet socket on %s: %s%s", name, strerror(-err),
			 err == -EPERM ? " (CAP_NET_RAW is missing)" : "");
		return err;
	}
	if (!own_mode(e)) { /* of which the host's rules say nothing */
		err = firewall_admits(e, ifindex, why, why_len); /* after the packet socket: without privilege that is what is missing */
		*unprivileged = err == -EPERM;
	}
	if (err)
		return err;
	err = own_mode(e) ? own_attach(e, i, why, why_len) : classify(e, i, why, why_len);
	*unprivileged = err == -EPERM;
	if (err)
		return err;
	err = link_complete(i->link);
	if (err)
		snprintf(why, why_len, "packet ring on interface %d: %s", ifindex, strerror(-err));
	return err;
}

/* Through the broker. What it gives is the engine's first, with the classifier. */
static int adopt_link(struct engine *e, struct iface *i, int ifindex, bool only_spare, char *why, size_t why_len)
{
	struct link_config lc = {.ifindex = ifindex};
	struct privileged_link given;
	if (e->classifier)
		return -EPERM;
	int err = privileged_open_link(ifindex, only_spare, &given, why, why_len);
	if (err)
		return err;
	memcpy(e->host_secret, given.secret, sizeof e->host_secret);
	sysctls_told(&e->sysctls, &given.sysctls);
	lc.veth = given.veth;
	int second = link_adopt_packet(&i->link, &lc, given.rx_fd, given.tx_fd);
	err = classifier_adopt(&e->classifier, given.classifier, ifindex, second ? true : link_info(i->link)->has_eth);
	err = err ? err : second;
	if (err)
		snprintf(why, why_len, "the broker's link on interface %d: %s", ifindex, strerror(-err));
	return err;
}

static void detach(struct engine *e, struct iface *i, bool with_classifier)
{
	if (with_classifier) {
		own_close(e);
		classifier_close(e->classifier);
		e->classifier = NULL;
	}
	unseen_settle_iface(i);
	link_close(i->link);
	i->link = NULL;
}

static int attach(struct engine *e, struct iface *i, int ifindex, char *why, size_t why_len)
{
	bool first = !e->classifier, unprivileged = false;
	bool given = e->settings.classifier == CLASSIFIER_AUTO || e->settings.classifier == CLASSIFIER_EBPF; /* what a broker gives */
	int err = own_mode(e) || !given ? -EAGAIN : adopt_link(e, i, ifindex, true, why, why_len);
	if (err) {
		detach(e, i, first);
		err = open_link(e, i, ifindex, &unprivileged, why, why_len);
	}
	if (err && unprivileged && !own_mode(e)) {
		detach(e, i, first);
		err = adopt_link(e, i, ifindex, false, why, why_len);
	}
	if (err) {
		detach(e, i, first);
		return err;
	}
	i->engine = e;
	i->gone = i->is_watched = false;
	i->rx_handler = (struct link_rx_handler){.frame = on_rx, .begun = on_begun, .behind = on_behind};
	i->unseen.n = 0;
	return 0;
}

static struct iface *free_place(struct engine *e)
{
	for (unsigned k = 0; k < IFACES_MAX; k++)
		if (!e->ifaces[k].link)
			return &e->ifaces[k];
	return NULL;
}

/* One that came back under the same index has another place, and the same attachment. */
static void leave(struct engine *e, struct iface *i)
{
	struct iface *again = iface_find(e, iface_info(i)->ifindex);
	if (!again || again == i)
		classifier_detach(e->classifier, iface_info(i)->ifindex);
	detach(e, i, false);
}

/* Places of interfaces that do not exist any more, once there is another one. */
static void leave_gone(struct engine *e)
{
	struct iface *i;
	bool any = false;
	ifaces_for_each(e, i)
		any = any || !i->gone;
	ifaces_for_each(e, i)
		if (any && i->gone)
			leave(e, i);
}

/* 0, or -errno with the reason in `why`. */
static int attach_next(struct engine *e, int ifindex, char *why, size_t why_len)
{
	struct iface *i = free_place(e);
	bool first = !e->classifier;
	if (!i) {
		snprintf(why, why_len, "at most %d interfaces are served", IFACES_MAX);
		return -E2BIG;
	}
	if (!own_mode(e) && netstate_is_of_vrf(e->net, ifindex)) {
		char name[IF_NAMESIZE] = "?";
		if_indextoname((unsigned)ifindex, name);
		snprintf(why, why_len, "%s is a VRF's: the kernel serves what is bound to it", name);
		return -ENETUNREACH;
	}
	int err = attach(e, i, ifindex, why, why_len);
	if (err) {
		if (!first) /* it may be back, with our program on it: then the kernel answers from now on */
			classifier_detach(e->classifier, ifindex);
		return err;
	}
	if (i >= e->ifaces + e->n_ifaces)
		e->n_ifaces = i - e->ifaces + 1;
	leave_gone(e);
	err = ifaces_load_addresses(e);
	if (err)
		snprintf(why, why_len, "addresses of %s: %s", iface_info(i)->ifname, strerror(-err));
	if (!err)
		err = judged_start(e, why, why_len);
	if (err && first)
		detach(e, i, true);
	else if (err)
		leave(e, i);
	else if (!list_empty(&e->listeners))
		ifaces_watch_rings(e);
	return err;
}

/* Does the setting allow it? */
static bool may_serve(const struct engine *e, int ifindex)
{
	char name[SETTINGS_INTERFACE_LEN], own[IF_NAMESIZE];
	if (own_mode(e)) /* the one that is served from the start */
		return false;
	if (!e->settings.interface[0])
		return netstate_may_serve(e->net, ifindex);
	if (!if_indextoname(ifindex, own))
		return false;
	for (unsigned k = 0; settings_interface(&e->settings, k, name); k++)
		if (!strcmp(name, own))
			return true;
	return false;
}

/* That a named interface does not exist is no policy: somebody mistyped it, or it comes later. */
static void note_missing(const struct engine *e, char *why, size_t why_len)
{
	char name[SETTINGS_INTERFACE_LEN];
	for (unsigned k = 0; settings_interface(&e->settings, k, name); k++)
		if (!if_nametoindex(name))
			snprintf(why, why_len, "interface %s does not exist", name);
}

struct iface *iface_serve(struct engine *e, int ifindex, char *why, size_t why_len)
{
	struct iface *i = iface_find(e, ifindex);
	if (i)
		return i;
	*why = 0;
	if (!may_serve(e, ifindex)) {
		note_missing(e, why, why_len);
		return NULL;
	}
	struct iface_declined *d = &e->declined[ifindex % IFACES_MAX];
	int64_t now = clock_now_us();
	if (d->ifindex != ifindex || now >= d->until_us) {
		*d = (struct iface_declined){.ifindex = ifindex};
		if (attach_next(e, ifindex, d->why, sizeof d->why) == 0) {
			d->ifindex = 0;
			return iface_find(e, ifindex);
		}
		d->until_us = clock_now_us() + DECLINED_US; /* the attempt may have taken seconds */
	}
	snprintf(why, why_len, "%s", d->why);
	return NULL;
}

/* All that may be served now; -errno. */
static int candidates(struct engine *e, int *out, char *why, size_t why_len)
{
	char name[SETTINGS_INTERFACE_LEN];
	int n = 0;
	if (!e->settings.interface[0]) {
		n = netstate_interfaces(e->net, out, CANDIDATES_MAX);
		if (n <= 0)
			snprintf(why, why_len, n ? "cannot list interfaces: %s" : "no interface is up and has an address besides loopback", strerror(-n));
		return !n ? -ENODEV : n < CANDIDATES_MAX ? n : CANDIDATES_MAX;
	}
	for (unsigned k = 0; n < CANDIDATES_MAX && settings_interface(&e->settings, k, name); k++) {
		out[n] = if_nametoindex(name);
		n += out[n] != 0;
	}
	if (!n)
		note_missing(e, why, why_len);
	return n ? n : -ENODEV;
}

/* The default route's, if it may be served; or the first. */
static int choose_first(struct engine *e, char *why, size_t why_len)
{
	char no_default[160];
	int all[CANDIDATES_MAX], first;
	if (own_mode(e))
		return own_interface(e, why, why_len);
	if (!e->settings.interface[0] && (first = netstate_default_interface(e->net, no_default, sizeof no_default)) > 0)
		return first;
	int n = candidates(e, all, why, why_len);
	return n < 0 ? n : all[0];
}

int ifaces_open(struct engine *e, int ifindex, char *why, size_t why_len)
{
	char other[160];
	int all[CANDIDATES_MAX];
	if (ifindex && !own_mode(e))
		return iface_serve(e, ifindex, why, why_len) ? 0 : -ENETUNREACH;
	int first = choose_first(e, why, why_len);
	if (first < 0)
		return first;
	int err = attach_next(e, first, why, why_len);
	int n = err && !own_mode(e) ? candidates(e, all, other, sizeof other) : 0;
	for (int k = 0; k < n && err; k++)
		if (all[k] != first && iface_serve(e, all[k], other, sizeof other))
			err = 0;
	return err;
}

/* Would the listeners that are for all interfaces be the kernel's if this one were served? */
static bool is_refused(struct engine *e, int ifindex, const char *name, uint16_t port, char *why, size_t why_len)
{
	if (port && judged_refuses_interface(e, ifindex, name, port, why, why_len))
		return true;
	list_for_each (pos, tmp, &e->listeners) {
		const struct listener *l = container_of(pos, struct listener, node);
		if (ip_addr_is_any(&l->addr) && judged_refuses_interface(e, ifindex, name, l->port, why, why_len))
			return true;
	}
	return false;
}

void ifaces_serve_all(struct engine *e, uint16_t port)
{
	char why[160], what[64], name[IF_NAMESIZE];
	if (own_mode(e))
		return;
	int all[CANDIDATES_MAX], n = candidates(e, all, why, sizeof why);
	e->serves_all = true;
	for (int k = 0; k < n; k++) {
		if (iface_find(e, all[k]) || !if_indextoname(all[k], name))
			continue;
		bool refused = is_refused(e, all[k], name, port, why, sizeof why);
		if (!refused && (iface_serve(e, all[k], why, sizeof why) || !*why))
			continue;
		snprintf(what, sizeof what, "clients that come by %s", name);
		engine_note_fallback(what, why);
	}
}

/* It takes smaller frames only: what was sent since was lost, and nobody says so. */
static void mtu_fell(struct engine *e, const struct iface *i)
{
	list_for_each (pos, tmp, &e->socks) {
		struct sock *s = container_of(pos, struct sock, node);
		if (s->kind == SOCK_KIND_CONN && s->live && s->dest->iface == i && tcp_unacked_bytes(&s->tcp))
			sock_mark_dirty(e, s);
	}
}

static void refresh(struct engine *e)
{
	struct iface *i;
	ifaces_for_each(e, i) {
		struct link_info before = *iface_info(i);
		int err = link_refresh_info(i->link);
		if (err == -ENODEV && !i->gone)
			log_notice("engine", "%s is gone", iface_info(i)->ifname);
		i->gone = i->gone || err == -ENODEV;
		if (!i->gone && iface_info(i)->mtu < before.mtu)
			mtu_fell(e, i);
		if (strncmp(iface_info(i)->ifname, before.ifname, sizeof before.ifname) != 0)
			rejudge_all(e);
	}
	leave_gone(e);
}

void ifaces_changed(struct engine *e, unsigned what)
{
	if (what & NETSTATE_LINKS)
		refresh(e);
	if (e->own && (what & NETSTATE_ADDRS))
		own_kernel_changed(e);
	/* of one that comes back first: until it is served again, the kernel must not answer for its connections */
	if (what & (NETSTATE_LINKS | NETSTATE_ADDRS))
		ifaces_load_addresses(e);
	if (e->serves_all && (what & (NETSTATE_LINKS | NETSTATE_ADDRS)))
		ifaces_serve_all(e, 0);
}

void ifaces_close(struct engine *e)
{
	struct iface *i;
	own_close(e);
	classifier_close(e->classifier); /* first: from here on the kernel has everything */
	e->classifier = NULL;
	ifaces_for_each(e, i) {
		unseen_settle_iface(i);
		link_close(i->link);
		i->link = NULL;
	}
	e->n_ifaces = 0;
}

/*
 * Without an address nothing is ours. What is still attached then may stay for as long as the kernel needs to take it
 * away.
 */
void ifaces_watch_rings(struct engine *e)
{
	struct iface *i;
	if (e->own || !privileged_ops) /* from an address of its own nobody else can speak */
		return;
	/* a client that is quick meets the kernel's socket while its next silence begins, and is refused */
	if (classifier_holds_ports(e->classifier))
		return;
	ifaces_for_each(e, i)
		if (!i->is_watched)
			i->is_watched = privileged_watch_ring(link_rx_fd(i->link)) == 0;
}

void ifaces_retire(struct engine *e)
{
	struct iface *i;
	classifier_set_addresses(e->classifier, NULL, 0);
	ifaces_for_each(e, i) {
		int fd = classifier_take_attachment(e->classifier, iface_info(i)->ifindex);
		if (fd >= 0)
			link_keep(i->link, fd);
	}
}

void ifaces_forget(struct engine *e)
{
	struct iface *i;
	own_forget(e);
	classifier_forget(e->classifier);
	e->classifier = NULL;
	ifaces_for_each(e, i) {
		link_forget(i->link);
		i->link = NULL;
	}
	e->n_ifaces = 0;
	e->serves_all = false;
	memset(e->declined, 0, sizeof e->declined);
}
