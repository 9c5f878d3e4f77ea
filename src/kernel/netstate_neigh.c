/*
 * Neighbours: asked for one by one (RTM_GETNEIGH), then kept current by notifications. The kernel resolves and probes
 * (its ARP, its ND, its timers); we only say that we use an entry (RTM_NEWNEIGH with NTF_USE, which needs
 * CAP_NET_ADMIN): a missing one is then resolved, a stale one confirmed by the kernel's unicast probe. A thread of its
 * own says so (neigh_asker.h), because the kernel may let it wait. Who has CAP_NET_RAW alone lets the kernel send
 * something to it instead: an ICMP echo reply that nobody asked for, which every host ignores.
 */
#include "kernel/netstate_internal.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/neighbour.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "base/time.h"
#include "kernel/neigh_asker.h"
#include "kernel/netlink.h"
#include "kernel/privileged.h"

#define NEIGH_ASK_INTERVAL_US USEC_PER_SEC
/* Linux gives up after three requests a second apart (mcast_solicit, retrans_time_ms) and says
   FAILED; a second more, then we look. */
#define NEIGH_RESOLVE_TIMEOUT_US (4 * USEC_PER_SEC)
/*
 * How long a failure answers for everybody before a new question starts a new resolution; who begins to connect need
 * not wait (netstate_neighbour_anew).
 */
#define NEIGH_FAILED_HOLD_US USEC_PER_SEC
/* The kernel had no room to ask. Linux tries with each packet; this often a second we do. */
#define NEIGH_NO_ROOM_HOLD_US (10 * USEC_PER_MSEC)

#define NEIGH_WARN_INTERVAL_US (60 * USEC_PER_SEC)

#define NUD_USABLE           (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY)

static struct neigh_entry *find_set(struct netstate *n, int ifindex, const struct ip_addr *a)
{
	return &n->neighs[netstate_hash(n, a, ifindex, 0) % NEIGH_SETS * CACHE_WAYS];
}

static struct neigh_entry *find(struct netstate *n, int ifindex, const struct ip_addr *a)
{
	struct neigh_entry *ways = find_set(n, ifindex, a);
	for (unsigned i = 0; i < CACHE_WAYS; i++)
		if (ways[i].generation && ways[i].ifindex == ifindex &&
		    ip_addr_equal(&ways[i].addr, a))
			return &ways[i];
	return NULL;
}

/* The times lie far enough back that nothing is held against the next question. */
static void start_afresh(struct neigh_entry *e)
{
	e->resolving = false;
	e->asked_us = -NEIGH_ASK_INTERVAL_US;
	e->failed_us = -NEIGH_FAILED_HOLD_US;
	e->no_room_us = -NEIGH_NO_ROOM_HOLD_US;
}

static struct neigh_entry *add(struct netstate *n, int ifindex, const struct ip_addr *a)
{
	struct neigh_entry *ways = find_set(n, ifindex, a), *e = NULL;
	for (unsigned i = 0; i < CACHE_WAYS && !e; i++)
		if (!ways[i].generation)
			e = &ways[i];
	if (!e)
		e = &ways[n->next_way++ % CACHE_WAYS];
	*e = (struct neigh_entry){.ifindex = ifindex, .addr = *a};
	start_afresh(e);
	return e;
}

struct neigh_msg {
	int ifindex;
	struct ip_addr addr;
	uint16_t state;
	uint8_t mac[6];
	bool has_mac;
};

static bool parse(const struct nlmsghdr *h, struct neigh_msg *out)
{
	const struct ndmsg *m = mnl_nlmsg_get_payload(h);
	const struct nlattr *attr;
	bool has_addr = false;
	if (mnl_nlmsg_get_payload_len(h) < sizeof *m || (m->ndm_flags & NTF_PROXY))
		return false;
	*out = (struct neigh_msg){.ifindex = m->ndm_ifindex};
	if (h->nlmsg_type == RTM_NEWNEIGH)
		out->state = m->ndm_state;
	mnl_attr_for_each(attr, h, sizeof *m)
	{
		if (mnl_attr_get_type(attr) == NDA_DST)
			has_addr = netstate_attr_addr(attr, m->ndm_family, &out->addr);
		else if (mnl_attr_get_type(attr) == NDA_LLADDR &&
			 mnl_attr_get_payload_len(attr) == sizeof out->mac) {
			memcpy(out->mac, mnl_attr_get_payload(attr), sizeof out->mac);
			out->has_mac = true;
		}
	}
	return has_addr; /* a bridge's forwarding entries have none */
}

static void update(struct neigh_entry *e, const struct neigh_msg *m)
{
	e->state = m->state;
	if (m->has_mac)
		memcpy(e->mac, m->mac, sizeof e->mac);
	else
		e->state &= ~NUD_USABLE;
	if (e->state & (NUD_USABLE | NUD_FAILED))
		e->resolving = false;
}

bool netstate_on_neigh(struct netstate *n, const struct nlmsghdr *h)
{
	struct neigh_msg m;
	if (!parse(h, &m))
		return false;
	struct neigh_entry *e = find(n, m.ifindex, &m.addr);
	if (!e)
		return false;
	update(e, &m);
	if (m.state & NUD_FAILED)
		e->failed_us = clock_now_us();
	else if (m.state == 0) /* deleted: nobody resolves it now, whatever was asked */
		start_afresh(e);
	return true;
}

static int on_answer(const struct nlmsghdr *h, void *ctx)
{
	struct neigh_entry *e = ctx;
	struct neigh_msg m;
	if (h->nlmsg_type == RTM_NEWNEIGH && parse(h, &m) && ip_addr_equal(&m.addr, &e->addr))
		update(e, &m);
	return 0;
}

static struct nlmsghdr *put_request(char *buf, uint16_t type, int ifindex, const struct ip_addr *a)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	h->nlmsg_type = type;
	h->nlmsg_flags = NLM_F_REQUEST;
	struct ndmsg *m = mnl_nlmsg_put_extra_header(h, sizeof *m);
	m->ndm_family = netstate_family(a);
	m->ndm_ifindex = ifindex;
	netstate_put_addr(h, NDA_DST, a);
	return h;
}

/* What the kernel has. Watches first, so that whatever changes after the answer is notified. */
static void look_up(struct netstate *n, struct neigh_entry *e)
{
	char buf[128];
	int ret = netstate_watch(n, e->ifindex);
	if (ret == 0) {
		e->state = 0;
		ret = netlink_talk(n->talk_fd, put_request(buf, RTM_GETNEIGH, e->ifindex, &e->addr), on_answer, e);
	}
	if (ret == 0 || ret == -ENOENT)
		e->generation = n->neigh_generation;
	else
		log_info("netstate", "neighbour: %s", strerrordesc_np(-ret));
	if (!e->generation) /* could not be asked, but exists: the next use tries again */
		e->generation = n->neigh_generation == 1 ? UINT32_MAX : n->neigh_generation - 1;
}

int netstate_ask_to_use(int fd, int ifindex, const struct ip_addr *a)
{
	char buf[128];
	struct nlmsghdr *h = put_request(buf, RTM_NEWNEIGH, ifindex, a);
	struct ndmsg *m = mnl_nlmsg_get_payload(h);
	h->nlmsg_flags |= NLM_F_CREATE;
	m->ndm_state = NUD_NONE;
	m->ndm_flags = NTF_USE;
	return netlink_tell(fd, h);
}

struct echo_reply {
	uint8_t type, code;
	uint16_t checksum, id, sequence;
};

/*
 * The kernel sends to it, and resolves it for that. It tells that it has no room only to who wants to hear of errors.
 */
static int send_to(int ifindex, const struct ip_addr *a)
{
	const bool v4 = ip_addr_is_v4(a);
	/* the kernel sums ICMPv6 itself */
	const struct echo_reply v4_reply = {.type = ICMP_ECHOREPLY, .checksum = UINT16_MAX}, v6_reply = {.type = ICMP6_ECHO_REPLY};
	struct sockaddr_in to4 = {.sin_family = AF_INET};
	struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_scope_id = ifindex};
	char device[IF_NAMESIZE];
	memcpy(&to4.sin_addr, a->b + 12, sizeof to4.sin_addr);
	memcpy(&to6.sin6_addr, a->b, sizeof to6.sin6_addr);
	int fd = sys_socket(v4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	if (fd < 0)
		return fd;
	const int on = 1;
	sys_setsockopt(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_RECVERR : IPV6_RECVERR, &on, sizeof on);
	int err = if_indextoname(ifindex, device) ? sys_setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, strlen(device)) : -ENODEV;
	if (!err)
		err = v4 ? sys_sendto(fd, &v4_reply, sizeof v4_reply, MSG_DONTWAIT, &to4, sizeof to4)
			 : sys_sendto(fd, &v6_reply, sizeof v6_reply, MSG_DONTWAIT, &to6, sizeof to6);
	sys_close(fd);
	return err < 0 ? err : 0;
}

static int use_somehow(int fd, int ifindex, const struct ip_addr *a)
{
	int err = netstate_ask_to_use(fd, ifindex, a);
	return err == -EPERM ? send_to(ifindex, a) : err;
}

int netstate_use_neighbour(int ifindex, const struct ip_addr *a)
{
	int fd = fd_move_high(netlink_open(NETLINK_ROUTE));
	int ret = fd < 0 ? fd : use_somehow(fd, ifindex, a);
	fd_close(fd);
	return ret;
}

/* Who has the right to may have to wait; others hear at once that they have not. */
static bool use_aside(struct netstate *n, const struct neigh_entry *e)
{
	if (n->may_not_use || !privileged_has(1u << CAP_NET_ADMIN))
		return false;
	if (!n->asker)
		n->asker = neigh_asker_new();
	return n->asker && neigh_asker_tell(n->asker, e->ifindex, &e->addr);
}

/* "I use this entry": the kernel resolves or confirms it. */
static int use(struct netstate *n, struct neigh_entry *e, int64_t now_us, bool at_once)
{
	if (now_us - e->asked_us < NEIGH_ASK_INTERVAL_US)
		return 0;
	e->asked_us = now_us;
	if (!at_once && use_aside(n, e))
		return 0;
	int ret = use_somehow(n->talk_fd, e->ifindex, &e->addr);
	return ret == -EPERM ? privileged_use_neighbour(e->ifindex, &e->addr) : ret;
}

/*
 * Nobody was asked: the kernel's table of neighbours is full, say (Linux has one for all namespaces), or it had no
 * memory or no time. That is no news of the neighbour.
 */
static bool was_not_asked(int err)
{
	switch (err) {
	case -ENOBUFS:
	case -ENOMEM:
	case -EMFILE:
	case -ENFILE:
	case -EBUSY:
	case -EAGAIN:
	case -EINTR:
	case -ETIMEDOUT:
		return true;
	}
	return false;
}

/* What the caller is to hear. */
static int fail(struct netstate *n, struct neigh_entry *e, int64_t now_us, int err)
{
	if (now_us - n->neigh_warned_us >= NEIGH_WARN_INTERVAL_US) { /* a full table says so for each */
		n->neigh_warned_us = now_us;
		log_warn("netstate", "cannot have a neighbour resolved: %s", strerrordesc_np(-err));
	}
	e->resolving = false;
	if (!was_not_asked(err)) {
		e->failed_us = now_us;
		return -EHOSTUNREACH;
	}
	start_afresh(e);
	e->no_room_us = now_us;
	return -ENOBUFS;
}

/*
 * What the thread could not have resolved. -EPERM: CAP_NET_ADMIN is not that of the namespace's owner; from now on
 * nobody needs a thread for that answer.
 */
static void take_failures(struct netstate *n, int64_t now_us)
{
	struct neigh_ask ask;
	while (n->asker && neigh_asker_failure(n->asker, &ask)) {
		struct neigh_entry *e = find(n, ask.ifindex, &ask.addr);
		n->may_not_use |= ask.err == -EPERM;
		if (!e)
			continue;
		if (ask.err == -EPERM)
			e->asked_us = -NEIGH_ASK_INTERVAL_US;
		else if (e->resolving)
			fail(n, e, now_us, ask.err);
	}
}

/*
 * Nothing was heard for longer than the kernel needs by default. Where it has no entry, whoever asked on our behalf
 * (the broker, say) found no room.
 */
static int overdue(struct netstate *n, struct neigh_entry *e, int64_t now_us)
{
	look_up(n, e);
	e->resolving_since_us = now_us;
	if (e->state & (NUD_INCOMPLETE | NUD_USABLE)) /* it was set to ask more often, or in longer intervals; or its news was lost */
		return -EAGAIN;
	if (!e->state)
		return fail(n, e, now_us, -ENOBUFS);
	e->resolving = false;
	e->failed_us = now_us;
	return -EHOSTUNREACH;
}

static int unresolved(struct netstate *n, struct neigh_entry *e, bool at_once)
{
	int64_t now_us = clock_now_us();
	take_failures(n, now_us);
	if (now_us - e->failed_us < NEIGH_FAILED_HOLD_US)
		return -EHOSTUNREACH;
	if (now_us - e->no_room_us < NEIGH_NO_ROOM_HOLD_US)
		return -ENOBUFS;
	if (!e->resolving) {
		e->resolving = true;
		e->resolving_since_us = now_us;
	} else if (now_us - e->resolving_since_us >= NEIGH_RESOLVE_TIMEOUT_US) {
		return overdue(n, e, now_us);
	}
	int ret = use(n, e, now_us, at_once);
	return ret < 0 ? fail(n, e, now_us, ret) : -EAGAIN;
}

void netstate_neighbour_anew(struct netstate *n, int ifindex, const struct ip_addr *nexthop)
{
	struct neigh_entry *e = find(n, ifindex, nexthop);
	if (e && !(e->state & NUD_USABLE) && !e->resolving)
		start_afresh(e);
}

static bool has_neighbours(const struct net_link *l)
{
	return !(l->flags & (IFF_NOARP | IFF_LOOPBACK)) && l->type == ARPHRD_ETHER;
}

int netstate_neighbour(struct netstate *n, int ifindex, const struct ip_addr *nexthop, bool at_once, uint8_t mac[6])
{
	const struct net_link *l = netstate_link(n, ifindex);
	if (!l)
		return -EHOSTUNREACH; /* the interface is gone */
	if (!has_neighbours(l)) {
		memset(mac, 0, 6);
		return 0;
	}
	struct neigh_entry *e = find(n, ifindex, nexthop);
	if (!e)
		e = add(n, ifindex, nexthop);
	if (e->generation != n->neigh_generation)
		look_up(n, e);
	if (!(e->state & NUD_USABLE))
		return unresolved(n, e, at_once);
	memcpy(mac, e->mac, sizeof e->mac);
	if (e->state & NUD_STALE)
		use(n, e, clock_now_us(), at_once); /* a failure leaves a MAC that was right a while ago */
	return 0;
}
