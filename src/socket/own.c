/*
 * Own-address mode: theory of operation.
 *
 * Owns the host part (ip/host.h) and the claim among processes (own_share.c). One interface; its link's filter lets in
 * what is for the addresses (classifier_own.c).
 *
 * The MAC. Frames of ours carry one that the interface does not have: then the kernel takes what comes for it as
 * another host's, and neither answers, nor forwards, nor learns. It is made from the interface's MAC and the first
 * address, so that it is the same for all processes of a tree and at the next start, and another one for another
 * address on the same interface or the same address elsewhere. An interface without a link header (TUN) has no MACs,
 * and some take frames for one MAC only (macvlan, Wi-Fi): there the kernel sees what comes, drops it as long as the
 * host does not forward, and the mode is declined where it does.
 *
 * Events. Frames go to the host part first (own_input); what neighbours and addresses became makes destinations look
 * again, and those that stall go on. Time: own_tick, in the turn's beginning.
 *
 * What cannot be: a connection is never the kernel's (it has no such address), so who needs that, a process that
 * inherited one by fork for example, gets its end.
 */
#include "socket/own.h"
#include "socket/listener.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/siphash.h"
#include "base/sys.h"
#include "ip/host.h"
#include "kernel/diag.h"
#include "kernel/procfile.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOLD_US (10 * USEC_PER_SEC) /* a contest is not told more often */

struct own {
	struct host_out out;
	struct host host;
	struct own_share share;
	struct iface *iface;
	int64_t told_us;
	char conflict[160]; /* why nothing can be had any more; "": nothing is wrong */
};

static struct own *own_of(struct host_out *o)
{
	return container_of(o, struct own, out);
}

/* ---- the setting ---- */

bool own_names(const struct engine *e, const struct ip_addr *a)
{
	for (unsigned i = 0; i < e->settings.n_own; i++)
		if (ip_addr_equal(&e->settings.own[i].addr, a))
			return true;
	return false;
}

int own_interface(struct engine *e, char *why, size_t why_len)
{
	char name[SETTINGS_INTERFACE_LEN];
	if (!settings_interface(&e->settings, 0, name))
		return netstate_default_interface(e->net, why, why_len);
	int ifindex = if_nametoindex(name);
	if (!ifindex)
		snprintf(why, why_len, "interface %s does not exist", name);
	return ifindex ? ifindex : -ENODEV;
}

static const char *says_of_address(int err)
{
	return err == -EEXIST ? "it is given twice" : err == -E2BIG ? "there are too many" : "no host can have it (a network's, a broadcast or a group's address)";
}

/* What the setting says, checked as a whole. */
static int add_addresses(struct engine *e, struct host *h, char *why, size_t why_len)
{
	char text[IP_ADDR_STRLEN];
	const struct settings *s = &e->settings;
	for (unsigned i = 0; i < s->n_own; i++) {
		const struct ip_addr *a = &s->own[i].addr;
		int err = host_add_address(h, a, s->own[i].prefix_len);
		if (err) {
			snprintf(why, why_len, "address %s: %s", ip_addr_format(a, text), says_of_address(err));
			return err;
		}
		if (netstate_is_local(e->net, a)) {
			snprintf(why, why_len, "address %s: this host's kernel has it", ip_addr_format(a, text));
			return -EADDRINUSE;
		}
	}
	for (unsigned i = 0; i < 2; i++) {
		int err = ip_addr_is_any(&s->gateway[i]) ? 0 : host_set_gateway(h, &s->gateway[i]);
		if (err) {
			snprintf(why, why_len, "gateway %s: %s", ip_addr_format(&s->gateway[i], text), err == -ENETUNREACH ? "no prefix of an address has it" : "it is no router's address");
			return err;
		}
	}
	return 0;
}

/* ---- the link ---- */

/* Locally administered, and no group's. */
static void make_mac(const struct engine *e, const struct link_info *info, uint8_t mac[6])
{
	static const uint8_t key[16] = "finesse address";
	struct {
		uint8_t mac[8];
		struct ip_addr addr;
	} of = {.addr = e->settings.own[0].addr};
	memcpy(of.mac, info->mac, 6);
	uint64_t h = siphash24(&of, sizeof of, key);
	memcpy(mac, &h, 6);
	mac[0] = (mac[0] & 0xfc) | 2;
}

static bool forwards(const char *file)
{
	char *text;
	if (procfile_read(file, &text))
		return false;
	bool on = atoi(text) != 0;
	free(text);
	return on;
}

/* The MAC of ours; the interface's where it takes no other. */
static int choose_mac(const struct engine *e, const struct link_info *info, uint8_t mac[6], char *why, size_t why_len)
{
	enum own_mac kind = info->has_eth ? classifier_own_mac(info->ifname) : OWN_MAC_IS_LOST;
	if (kind == OWN_MAC_IS_NOTHING) {
		snprintf(why, why_len, "own-address mode: %s (ipvlan) gets frames for its kernel's addresses only", info->ifname);
		return -EOPNOTSUPP;
	}
	if (kind == OWN_MAC_WORKS) {
		make_mac(e, info, mac);
		return 0;
	}
	memcpy(mac, info->mac, 6);
	if (!forwards("/proc/sys/net/ipv4/ip_forward") && !forwards("/proc/sys/net/ipv6/conf/all/forwarding"))
		return 0;
	snprintf(why, why_len, "own-address mode: %s %s, and this host forwards: its kernel would forward what comes for us", info->ifname,
		 info->has_eth ? "takes frames for its own MAC only" : "has no MACs");
	return -EOPNOTSUPP;
}

static void send_frame(struct host_out *o, const uint8_t *hdr, size_t hdr_len, const uint8_t *payload, size_t payload_len)
{
	struct own *own = own_of(o);
	struct iovec iov = {(void *)payload, payload_len};
	struct link_tx tx = {.hdr = hdr, .hdr_len = hdr_len, .payload = &iov, .n_payload = payload_len != 0};
	if (!own->iface->link)
		return;
	if (link_send(own->iface->link, &tx) < 0)
		own->iface->engine->counters[SOCKC_EmitFailed]++;
	if (payload_len) /* it is the received frame's, whose slot goes back */
		link_flush(own->iface->link);
}

/* ---- what the host part says ---- */

static void tell_states(const struct own *own)
{
	char text[IP_ADDR_STRLEN];
	for (unsigned i = 0; i < own->host.n_addrs; i++) {
		const struct host_addr *a = &own->host.addrs[i];
		const uint8_t *m = a->rival;
		if (a->state == HOST_ADDR_LOST && !own->host.silent && a->contested)
			log_warn("address", "%s is used by %02x:%02x:%02x:%02x:%02x:%02x on %s: it is not used here", ip_addr_format(&a->addr, text), m[0], m[1], m[2],
				 m[3], m[4], m[5], iface_info(own->iface)->ifname);
		else if (a->state == HOST_ADDR_OURS && !own->host.silent)
			log_info("address", "%s is ours on %s", ip_addr_format(&a->addr, text), iface_info(own->iface)->ifname);
	}
}

static void tell_contest(struct engine *e, struct own *own)
{
	char text[IP_ADDR_STRLEN];
	if (own->host.silent || (own->told_us && e->now - own->told_us < TOLD_US))
		return;
	own->told_us = e->now;
	for (unsigned i = 0; i < own->host.n_addrs; i++) {
		const struct host_addr *a = &own->host.addrs[i];
		const uint8_t *m = a->rival;
		if (a->contested && a->state == HOST_ADDR_OURS)
			log_warn("address", "%02x:%02x:%02x:%02x:%02x:%02x uses %s, too", m[0], m[1], m[2], m[3], m[4], m[5], ip_addr_format(&a->addr, text));
	}
}

static bool is_lost(const struct own *own, const struct ip_addr *a)
{
	for (unsigned i = 0; i < own->host.n_addrs; i++)
		if (ip_addr_equal(&own->host.addrs[i].addr, a))
			return own->host.addrs[i].state == HOST_ADDR_LOST;
	return true;
}

/* RFC 5227 §2.4: who gives an address up resets the connections that used it. */
static void abort_lost(struct engine *e, const struct own *own)
{
	list_for_each (pos, tmp, &e->socks) {
		struct sock *s = container_of(pos, struct sock, node);
		if (s->kind != SOCK_KIND_CONN || !s->live || !is_lost(own, &s->flow.key.laddr))
			continue;
		tcp_destroy(&s->tcp, e->now, ECONNABORTED);
		tcp_output(&s->tcp, e->now, &e->emit); /* at once: at the turn's end there is no way from this address any more */
		sock_mark_dirty(e, s);
		sock_process_events(e, s);
	}
}

static void take_events(struct engine *e)
{
	struct own *own = e->own;
	unsigned events = host_take_events(&own->host);
	if (!events)
		return;
	if (events & HOST_EVENT_ADDRESSES) {
		tell_states(own);
		own_share_tell(e, &own->share);
		abort_lost(e, own);
		if (e->addrs)
			ifaces_load_addresses(e);
	}
	if (events & HOST_EVENT_CONTESTED)
		tell_contest(e, own);
	turn_ways_changed(e);
}

bool own_input(struct engine *e, struct link_rx *rx)
{
	struct own *own = e->own;
	bool taken = host_input(&own->host, e->now, rx->data, rx->len);
	rx->pkttype = PACKET_HOST; /* to the kernel our MAC is somebody else's */
	take_events(e);
	return taken;
}

void own_kernel_changed(struct engine *e)
{
	struct own *own = e->own;
	char text[IP_ADDR_STRLEN];
	for (unsigned i = 0; i < own->host.n_addrs; i++) {
		const struct host_addr *a = &own->host.addrs[i];
		if (a->state == HOST_ADDR_LOST || !netstate_is_local(e->net, &a->addr))
			continue;
		snprintf(own->conflict, sizeof own->conflict, "this host's kernel has %s now", ip_addr_format(&a->addr, text));
		log_warn("address", "%s: it is not used here any more", own->conflict);
		host_give_up(&own->host, i);
	}
	take_events(e);
}

void own_tick(struct engine *e)
{
	host_tick(&e->own->host, e->now);
	take_events(e);
}

int64_t own_deadline(const struct engine *e)
{
	return host_deadline(&e->own->host);
}

/* ---- the claim ---- */

/*
 * One process has a port here, since a frame must be one's: others of the tree that listen on it wait until it is gone.
 */
static void claim_again(struct engine *e)
{
	list_for_each (pos, tmp, &e->socks) {
		struct sock *l = container_of(pos, struct sock, node);
		if (l->kind == SOCK_KIND_LISTENER && !l->lst->claimed && !l->lst->asleep && !l->lst->kernels && l->lst->policy && listener_claim(e, l) == 0)
			log_info("address", "pid %d serves port %u now", sys_getpid(), l->lst->port);
	}
}

static void leads(struct engine *e)
{
	host_lead(&e->own->host, e->now);
	claim_again(e); /* the one who led may have had a port */
	log_info("address", "pid %d claims the address and answers for it", sys_getpid());
}

static void told(struct engine *e, const uint8_t *states, unsigned n)
{
	if (n == 1 && *states == OWN_MEMBER_DIED) {
		claim_again(e);
		return;
	}
	for (unsigned i = 0; i < n; i++)
		if (states[i] <= HOST_ADDR_LOST)
			host_follow(&e->own->host, i, states[i]);
	take_events(e);
}

static void lost(struct engine *e, const char *why)
{
	struct own *own = e->own;
	log_warn("address", "%s", why);
	snprintf(own->conflict, sizeof own->conflict, "%s", why);
	for (unsigned i = 0; i < own->host.n_addrs; i++)
		host_follow(&own->host, i, HOST_ADDR_LOST);
	take_events(e);
}

/* Nothing while one is probed for. */
static unsigned states(struct engine *e, uint8_t *out)
{
	const struct host *h = &e->own->host;
	for (unsigned i = 0; i < h->n_addrs; i++) {
		if (h->addrs[i].state == HOST_ADDR_PROBING)
			return 0;
		out[i] = h->addrs[i].state;
	}
	return h->n_addrs;
}

/* ---- life ---- */

static void share_init(struct engine *e, struct own_share *s, int ifindex)
{
	*s = (struct own_share){.e = e, .ifindex = ifindex, .door_fd = -1, .up_fd = -1, .leads = leads, .told = told, .lost = lost, .states = states};
	list_init(&s->members);
	for (unsigned i = 0; i < OWN_ADDRESSES_MAX; i++)
		s->names[i] = -1;
}

static int open_host(struct engine *e, struct own *own, struct iface *i, char *why, size_t why_len)
{
	const struct link_info *info = iface_info(i);
	struct ip_addr addrs[OWN_ADDRESSES_MAX];
	struct classifier_own co = {.addrs = addrs, .n = e->settings.n_own};
	uint8_t secret[16];
	int err = choose_mac(e, info, co.mac, why, why_len);
	if (err)
		return err;
	sys_call(SYS_getrandom, secret, sizeof secret, 0, 0, 0, 0);
	memcpy(co.if_mac, info->mac, 6);
	own->out.frame = send_frame;
	own->iface = i;
	host_init(&own->host, &own->out, &host_times_quick, co.mac, info->has_eth, secret);
	err = add_addresses(e, &own->host, why, why_len);
	for (unsigned k = 0; k < co.n; k++)
		addrs[k] = e->settings.own[k].addr;
	return err ? err : classifier_open_own(&e->classifier, &co, info->ifindex, link_rx_fd(i->link), info->has_eth, why, why_len);
}

int own_attach(struct engine *e, struct iface *i, char *why, size_t why_len)
{
	struct own *own = engine_alloc(e, sizeof *own);
	if (!own) {
		snprintf(why, why_len, "own-address mode: no memory");
		return -ENOMEM;
	}
	i->engine = e;
	share_init(e, &own->share, iface_info(i)->ifindex);
	e->own = own;
	int err = open_host(e, own, i, why, why_len);
	if (!err)
		err = own_share_open(e, &own->share, why, why_len);
	if (!err)
		take_events(e); /* without MACs there is nothing to wait for */
	if (err)
		own_close(e);
	return err;
}

static void close_own(struct engine *e, bool forked)
{
	if (!e->own)
		return;
	own_share_close(e, &e->own->share, forked);
	engine_free(e, e->own, sizeof *e->own);
	e->own = NULL;
}

void own_close(struct engine *e)
{
	close_own(e, false);
}

void own_forget(struct engine *e)
{
	close_own(e, true);
}

unsigned own_addresses(const struct engine *e, struct ip_addr *out, unsigned max)
{
	const struct host *h = &e->own->host;
	unsigned n = 0;
	for (unsigned i = 0; i < h->n_addrs && n < max; i++)
		if (h->addrs[i].state != HOST_ADDR_LOST)
			out[n++] = h->addrs[i].addr;
	return n;
}

const uint8_t *own_mac(const struct engine *e)
{
	return e->own->host.mac;
}

/* ---- ways ---- */

int own_route(struct engine *e, const struct ip_addr *dst, const struct ip_addr *src, int oif, struct route *out)
{
	const struct link_info *info = iface_info(e->own->iface);
	*out = (struct route){.ifindex = info->ifindex, .mtu = info->mtu};
	if (oif && oif != info->ifindex)
		return -ENETUNREACH;
	if (e->own->iface->gone)
		return -ENETUNREACH;
	return host_route(&e->own->host, dst, src, &out->src, &out->nexthop);
}

int own_neighbour(struct engine *e, const struct ip_addr *nexthop, const struct ip_addr *src, uint8_t mac[6])
{
	int err = host_neighbour(&e->own->host, e->now, nexthop, src, mac);
	return err == -EADDRNOTAVAIL ? -EHOSTUNREACH : err;
}

/* Those of the family of `dst` are all somebody else's. */
static bool all_lost(const struct own *own, const struct ip_addr *dst)
{
	bool any = false;
	for (unsigned i = 0; i < own->host.n_addrs; i++) {
		const struct host_addr *a = &own->host.addrs[i];
		if (ip_addr_is_v4(&a->addr) != ip_addr_is_v4(dst))
			continue;
		if (a->state != HOST_ADDR_LOST)
			return false;
		any = true;
	}
	return any;
}

int own_plan(struct engine *e, const struct ip_addr *dst, const struct ip_addr *local, struct ip_addr *laddr, char *why, size_t why_len)
{
	struct ip_addr src, nexthop;
	bool bound = !ip_addr_is_any(local);
	if ((bound && !own_names(e, local)) || netstate_is_local(e->net, dst))
		return SOCK_KERNEL;
	if (engine_up(e, 0, why, why_len))
		return SOCK_KERNEL;
	int err = host_route(&e->own->host, dst, bound ? local : NULL, &src, &nexthop);
	if (!err) {
		*laddr = src;
		return 0;
	}
	if (bound) /* the kernel must not send as us */
		return err == -EINVAL ? -ECONNREFUSED : err;
	if (all_lost(e->own, dst))
		snprintf(why, why_len, "the own address is used by somebody else%s%s", *e->own->conflict ? ": " : "", e->own->conflict);
	return SOCK_KERNEL;
}

bool own_may_reset(struct engine *e, const struct ip_input *in)
{
	const struct own *own = e->own;
	if (own->host.silent)
		return false;
	if (!own->share.n_members)
		return true;
	if ((in->seg.flags & (SEG_SYN | SEG_ACK)) != SEG_SYN) /* a follower's connection, perhaps */
		return false;
	int fd = diag_open();
	int r = fd < 0 ? fd : diag_has_listener(fd, &in->key, iface_info(own->iface)->ifindex);
	fd_close(fd);
	return r == 0;
}

void own_report(const struct engine *e, struct own_report *out)
{
	*out = (struct own_report){.host = &e->own->host, .leads = !e->own->host.silent, .followers = e->own->share.n_members};
}
