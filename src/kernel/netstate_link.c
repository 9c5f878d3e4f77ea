/*
 * Links and addresses: two sorted tables. What they have follows the notifications. What was notified before it was
 * asked for, and is read after it, does no harm: the last notification of an object says how it is.
 *
 * A dump of the links waits for the kernel's lock of the network, which whoever attaches a classifier holds for a grace
 * period of RCU, some 10 ms. So each link is asked for by its index, by ioctl, which needs no lock, when it is needed
 * for the first time; and interfaces are found by the addresses. Only what an ioctl does not tell is dumped: a link's
 * kind, and links without addresses.
 *
 * What is known is forgotten when notifications were lost. A link is forgotten, too, when its notification says less
 * than the table needs.
 */
#include "kernel/netstate_internal.h"

#include <errno.h>
#include <limits.h>
#include <linux/if_addr.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "base/log.h"
#include "base/sys.h"
#include "kernel/netlink.h"

#define TABLE_GROW 16

/* Room for one more element; NULL when memory is short. */
static void *grow(void **table, size_t n, size_t *max, size_t size)
{
	if (n == *max) {
		void *bigger = realloc(*table, (*max + *max / 2 + TABLE_GROW) * size);
		if (!bigger)
			return NULL;
		*table = bigger;
		*max += *max / 2 + TABLE_GROW;
	}
	return (char *)*table + n * size;
}

static int link_compare(const void *a, const void *b)
{
	const struct net_link *x = a, *y = b;
	return (x->ifindex > y->ifindex) - (x->ifindex < y->ifindex);
}

static bool names_kind(const struct nlattr *attr, const char *kind)
{
	size_t len = strlen(kind);
	return mnl_attr_get_payload_len(attr) >= len && memcmp(mnl_attr_get_payload(attr), kind, len) == 0 &&
	       (mnl_attr_get_payload_len(attr) == len || ((const char *)mnl_attr_get_payload(attr))[len] == 0);
}

/* What it is, and what its master is (IFLA_INFO_SLAVE_KIND). */
static void parse_info(const struct nlattr *info, struct net_link *out)
{
	const struct nlattr *attr;
	mnl_attr_for_each_nested(attr, info)
	{
		unsigned type = mnl_attr_get_type(attr);
		if (type == IFLA_INFO_KIND && names_kind(attr, "veth"))
			out->kind = KIND_VETH;
		if ((type == IFLA_INFO_KIND || type == IFLA_INFO_SLAVE_KIND) && names_kind(attr, "vrf"))
			out->of_vrf = true;
	}
}

/* False: it says nothing of a link (a bridge's view of its ports, for one). */
static bool parse_link(const struct nlmsghdr *h, struct net_link *out, bool *has_mtu)
{
	const struct ifinfomsg *m = mnl_nlmsg_get_payload(h);
	const struct nlattr *attr;
	if (mnl_nlmsg_get_payload_len(h) < sizeof *m || m->ifi_family != AF_UNSPEC)
		return false;
	*out = (struct net_link){.ifindex = m->ifi_index, .flags = m->ifi_flags, .type = m->ifi_type, .kind = KIND_OTHER};
	*has_mtu = false;
	mnl_attr_for_each(attr, h, sizeof *m)
	{
		if (mnl_attr_get_type(attr) == IFLA_LINKINFO)
			parse_info(attr, out);
		if (mnl_attr_get_type(attr) != IFLA_MTU || mnl_attr_get_payload_len(attr) < 4)
			continue;
		out->mtu = mnl_attr_get_u32(attr);
		*has_mtu = true;
	}
	return true;
}

static int on_link(const struct nlmsghdr *h, void *ctx)
{
	struct netstate *n = ctx;
	struct net_link link;
	bool has_mtu;
	if (h->nlmsg_type != RTM_NEWLINK || !parse_link(h, &link, &has_mtu))
		return 0;
	struct net_link *l = grow((void **)&n->links, n->n_links, &n->max_links, sizeof *l);
	if (!l)
		return -ENOMEM;
	*l = link;
	n->n_links++;
	return 0;
}

/* The place in a sorted table of the first entry that is not before `key`: where it is, or would be. */
static size_t place_of(const void *key, const void *table, size_t n, size_t size, int (*compare)(const void *, const void *))
{
	size_t low = 0;
	for (size_t high = n; low < high;) {
		size_t mid = low + (high - low) / 2;
		if (compare((const char *)table + mid * size, key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static size_t find_link(const struct netstate *n, int ifindex)
{
	return place_of(&(struct net_link){.ifindex = ifindex}, n->links, n->n_links, sizeof *n->links, link_compare);
}

static void *insert_at(void **table, size_t *n, size_t *max, size_t size, size_t at)
{
	if (!grow(table, *n, max, size))
		return NULL;
	char *place = (char *)*table + at * size;
	memmove(place + size, place, (*n - at) * size);
	++*n;
	return place;
}

static void remove_at(void *table, size_t *n, size_t size, size_t at)
{
	char *place = (char *)table + at * size;
	memmove(place, place + size, (--*n - at) * size);
}

void netstate_on_link(struct netstate *n, const struct nlmsghdr *h)
{
	struct net_link link;
	bool has_mtu;
	if (n->links_lost || !parse_link(h, &link, &has_mtu))
		return;
	size_t at = find_link(n, link.ifindex);
	bool known = at < n->n_links && n->links[at].ifindex == link.ifindex;
	if (h->nlmsg_type == RTM_DELLINK || !has_mtu) {
		if (known)
			remove_at(n->links, &n->n_links, sizeof link, at);
		n->links_dirty = n->links_dirty || h->nlmsg_type != RTM_DELLINK;
		return;
	}
	if (!known && n->links_dirty) /* nobody asked for it yet */
		return;
	if (!known && !insert_at((void **)&n->links, &n->n_links, &n->max_links, sizeof link, at)) {
		n->links_dirty = true;
		return;
	}
	n->links[at] = link;
}

static void reset_links(struct netstate *n)
{
	n->n_links = 0;
}

static int dump_links(struct netstate *n)
{
	char buf[128];
	if (!n->links_dirty)
		return 0;
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	h->nlmsg_type = RTM_GETLINK;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
	mnl_attr_put_u32(h, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	int ret = netstate_dump(n, h, on_link, n, reset_links);
	if (n->n_links)
		qsort(n->links, n->n_links, sizeof *n->links, link_compare);
	n->links_dirty = n->links_lost = ret < 0;
	if (ret < 0)
		log_info("netstate", "links: %s", strerrordesc_np(-ret));
	return ret;
}

static int link_ioctl(const struct netstate *n, unsigned long request, struct ifreq *r)
{
	return sys_call(SYS_ioctl, n->talk_fd, request, (long)r, 0, 0, 0);
}

/* The calls after the first go by name, which may have become another's: then it is asked for once more. */
#define NAME_TRIES 4

/* -ENODEV: there is none. */
static int ask_for_link(const struct netstate *n, int ifindex, struct net_link *out)
{
	int err = -ENODEV, ret = 0;
	for (int i = 0; i < NAME_TRIES; i++) {
		struct ifreq flags = {.ifr_ifindex = ifindex};
		if ((err = link_ioctl(n, SIOCGIFNAME, &flags)))
			return err;
		struct ifreq mtu = flags, mac = flags, index = flags;
		ret = link_ioctl(n, SIOCGIFFLAGS, &flags);
		ret = ret ? ret : link_ioctl(n, SIOCGIFMTU, &mtu);
		ret = ret ? ret : link_ioctl(n, SIOCGIFHWADDR, &mac);
		err = link_ioctl(n, SIOCGIFINDEX, &index);
		if (err || index.ifr_ifindex != ifindex)
			continue;
		*out = (struct net_link){.ifindex = ifindex, .flags = (unsigned short)flags.ifr_flags, .type = mac.ifr_hwaddr.sa_family, .mtu = mtu.ifr_mtu};
		return ret;
	}
	return err ? err : -ENODEV;
}

static struct net_link *known_link(const struct netstate *n, int ifindex)
{
	size_t at = find_link(n, ifindex);
	return at < n->n_links && n->links[at].ifindex == ifindex ? &n->links[at] : NULL;
}

/* NULL and *err 0: there is none. */
static struct net_link *link_without_lock(struct netstate *n, int ifindex, int *err)
{
	struct net_link link, *l;
	*err = 0;
	if (n->links_lost)
		reset_links(n);
	n->links_lost = false;
	if ((l = known_link(n, ifindex)) || !n->links_dirty)
		return l;
	*err = ask_for_link(n, ifindex, &link);
	if (!*err && !(l = insert_at((void **)&n->links, &n->n_links, &n->max_links, sizeof link, find_link(n, ifindex))))
		*err = -ENOMEM;
	if (*err == -ENODEV)
		*err = 0;
	else if (!*err)
		*l = link;
	return l;
}

const struct net_link *netstate_link(struct netstate *n, int ifindex)
{
	int err;
	struct net_link *l = link_without_lock(n, ifindex, &err);
	if (err && dump_links(n) == 0) /* who filters ioctls may let the question pass */
		l = known_link(n, ifindex);
	return l;
}

static int on_kind(const struct nlmsghdr *h, void *ctx)
{
	struct net_link link, *l = ctx;
	bool has_mtu;
	if (h->nlmsg_type == RTM_NEWLINK && parse_link(h, &link, &has_mtu) && has_mtu && link.ifindex == l->ifindex)
		*l = link;
	return 0;
}

/* An ioctl does not tell the kind: this waits for the kernel's lock of the network. */
static void ask_for_kind(struct netstate *n, struct net_link *l)
{
	char buf[128];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	h->nlmsg_type = RTM_GETLINK;
	h->nlmsg_flags = NLM_F_REQUEST;
	struct ifinfomsg *m = mnl_nlmsg_put_extra_header(h, sizeof *m);
	m->ifi_index = l->ifindex;
	mnl_attr_put_u32(h, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	netlink_talk(n->talk_fd, h, on_kind, l);
}

static const struct net_link *link_with_kind(struct netstate *n, int ifindex)
{
	if (!netstate_link(n, ifindex))
		return NULL;
	struct net_link *l = known_link(n, ifindex);
	if (l->kind == KIND_UNKNOWN)
		ask_for_kind(n, l);
	return l;
}

bool netstate_is_veth(struct netstate *n, int ifindex)
{
	const struct net_link *l = link_with_kind(n, ifindex);
	return l && l->kind == KIND_VETH;
}

/* Most hosts have no VRF, and the kernel is not asked for kinds. */
bool netstate_is_of_vrf(struct netstate *n, int ifindex)
{
	const struct net_link *l = netstate_has_vrfs(n) ? link_with_kind(n, ifindex) : NULL;
	return l && l->of_vrf;
}

static int addr_compare(const void *a, const void *b)
{
	const struct net_addr *x = a, *y = b;
	int order = memcmp(x->addr.b, y->addr.b, sizeof x->addr.b);
	return order ? order : (x->ifindex > y->ifindex) - (x->ifindex < y->ifindex);
}

/*
 * An interface may have an IPv4 address more than once: with another prefix, or another peer. An IPv6 address it has
 * once, and its peer may change.
 */
static bool is_same_addr(const struct net_addr *a, const struct net_addr *b)
{
	if (!ip_addr_is_v4(&a->addr))
		return addr_compare(a, b) == 0;
	return addr_compare(a, b) == 0 && a->prefix_len == b->prefix_len && ip_addr_equal(&a->peer, &b->peer);
}

static bool parse_addr(const struct nlmsghdr *h, struct net_addr *a)
{
	const struct ifaddrmsg *m = mnl_nlmsg_get_payload(h);
	const struct nlattr *attr;
	bool have = false, have_local = false;
	if (mnl_nlmsg_get_payload_len(h) < sizeof *m)
		return false;
	uint32_t flags = m->ifa_flags;
	*a = (struct net_addr){.ifindex = m->ifa_index, .scope = m->ifa_scope, .prefix_len = m->ifa_prefixlen};
	mnl_attr_for_each(attr, h, sizeof *m)
	{
		switch (mnl_attr_get_type(attr)) {
		case IFA_LOCAL: /* on a point-to-point link IFA_ADDRESS is the peer's */
			have_local = netstate_attr_addr(attr, m->ifa_family, &a->addr);
			break;
		case IFA_ADDRESS:
			have = netstate_attr_addr(attr, m->ifa_family, &a->peer);
			break;
		case IFA_FLAGS:
			if (mnl_attr_get_payload_len(attr) >= 4)
				flags = mnl_attr_get_u32(attr);
			break;
		}
	}
	if (!have_local)
		a->addr = a->peer;
	/* RFC 4862 §5.4: a tentative address is not assigned yet (RFC 4429's optimistic one is). */
	a->usable = !(flags & IFA_F_DADFAILED) &&
		    (!(flags & IFA_F_TENTATIVE) || (flags & IFA_F_OPTIMISTIC));
	return have || have_local;
}

struct addr_dump {
	struct netstate *n;
	int family;
};

/* A kernel without IPv6 answers a question for its addresses with all that it has. */
static int on_addr(const struct nlmsghdr *h, void *ctx)
{
	const struct addr_dump *d = ctx;
	struct netstate *n = d->n;
	struct net_addr a;
	if (h->nlmsg_type != RTM_NEWADDR || !parse_addr(h, &a) || ((const struct ifaddrmsg *)mnl_nlmsg_get_payload(h))->ifa_family != d->family)
		return 0;
	struct net_addr *slot = grow((void **)&n->addrs, n->n_addrs, &n->max_addrs, sizeof *slot);
	if (!slot)
		return -ENOMEM;
	*slot = a;
	n->n_addrs++;
	return 0;
}

static size_t addrs_from(const struct netstate *n, const struct net_addr *a)
{
	return place_of(a, n->addrs, n->n_addrs, sizeof *n->addrs, addr_compare);
}

void netstate_on_addr(struct netstate *n, const struct nlmsghdr *h)
{
	struct net_addr a;
	if (n->addrs_dirty || !parse_addr(h, &a))
		return;
	size_t at = addrs_from(n, &a);
	while (at < n->n_addrs && addr_compare(&n->addrs[at], &a) == 0 && !is_same_addr(&n->addrs[at], &a))
		at++;
	bool known = at < n->n_addrs && is_same_addr(&n->addrs[at], &a);
	if (h->nlmsg_type == RTM_DELADDR) {
		if (known)
			remove_at(n->addrs, &n->n_addrs, sizeof a, at);
		return;
	}
	if (!known && !insert_at((void **)&n->addrs, &n->n_addrs, &n->max_addrs, sizeof a, at)) {
		n->addrs_dirty = true;
		return;
	}
	n->addrs[at] = a;
}

static void reset_addrs(struct netstate *n)
{
	n->n_addrs = 0;
}

/* Of one family: a dump of all waits for the kernel's lock of the network, these do not (Linux 6.9). */
static int dump_addrs(struct netstate *n, int family, void (*reset)(struct netstate *n))
{
	char buf[128];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	h->nlmsg_type = RTM_GETADDR;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	struct ifaddrmsg *m = mnl_nlmsg_put_extra_header(h, sizeof *m);
	m->ifa_family = family;
	return netstate_dump(n, h, on_addr, &(struct addr_dump){n, family}, reset);
}

static void forget_v6(struct netstate *n)
{
	while (n->n_addrs && !ip_addr_is_v4(&n->addrs[n->n_addrs - 1].addr))
		n->n_addrs--;
}

static int refresh_addrs(struct netstate *n)
{
	if (!n->addrs_dirty)
		return 0;
	int ret = dump_addrs(n, AF_INET, reset_addrs);
	if (ret >= 0)
		ret = dump_addrs(n, AF_INET6, forget_v6);
	if (n->n_addrs)
		qsort(n->addrs, n->n_addrs, sizeof *n->addrs, addr_compare);
	n->addrs_dirty = ret < 0;
	if (ret < 0)
		log_info("netstate", "addresses: %s", strerrordesc_np(-ret));
	return ret;
}

int netstate_addresses(struct netstate *n, int ifindex, struct ip_addr *out, size_t max)
{
	size_t count = 0;
	int ret = refresh_addrs(n);
	if (ret < 0 || netstate_is_of_vrf(n, ifindex))
		return ret < 0 ? ret : 0;
	for (size_t i = 0; i < n->n_addrs; i++) {
		const struct net_addr *a = &n->addrs[i];
		if (a->ifindex != ifindex || a->scope == RT_SCOPE_HOST || !a->usable)
			continue;
		if (count < max)
			out[count] = a->addr;
		count++;
	}
	return count;
}

/* The first of an address's, or where it would be. */
static size_t find_addr(struct netstate *n, const struct ip_addr *a)
{
	refresh_addrs(n); /* a failed dump is logged, and leaves what there is */
	return addrs_from(n, &(struct net_addr){.addr = *a, .ifindex = INT_MIN});
}

bool netstate_is_local(struct netstate *n, const struct ip_addr *a)
{
	if (ip_addr_is_loopback(a))
		return true;
	size_t at = find_addr(n, a);
	return at < n->n_addrs && ip_addr_equal(&n->addrs[at].addr, a);
}

int netstate_interface_of(struct netstate *n, const struct ip_addr *a)
{
	for (size_t i = find_addr(n, a); i < n->n_addrs && ip_addr_equal(&n->addrs[i].addr, a); i++)
		if (n->addrs[i].usable && !netstate_is_of_vrf(n, n->addrs[i].ifindex))
			return n->addrs[i].ifindex;
	return 0;
}

/* ---- the interfaces to serve when the settings name none ---- */

static bool may_serve(const struct net_link *l)
{
	return l && (l->flags & IFF_UP) && !(l->flags & IFF_LOOPBACK);
}

static bool has_address(struct netstate *n, int ifindex)
{
	struct ip_addr one;
	return netstate_addresses(n, ifindex, &one, 1) > 0;
}

bool netstate_may_serve(struct netstate *n, int ifindex)
{
	return may_serve(netstate_link(n, ifindex)) && has_address(n, ifindex);
}

/* The next interface behind this one that has an address to serve. 0: none. */
static int next_with_address(const struct netstate *n, int after)
{
	int next = 0;
	for (size_t i = 0; i < n->n_addrs; i++) {
		const struct net_addr *a = &n->addrs[i];
		if (a->usable && a->scope != RT_SCOPE_HOST && a->ifindex > after && (!next || a->ifindex < next))
			next = a->ifindex;
	}
	return next;
}

int netstate_interfaces(struct netstate *n, int *out, size_t max)
{
	size_t count = 0;
	int ret = refresh_addrs(n);
	if (ret < 0)
		return ret;
	for (int i = 0; (i = next_with_address(n, i));) {
		if (!may_serve(netstate_link(n, i)) || netstate_is_of_vrf(n, i))
			continue;
		if (count < max)
			out[count] = i;
		count++;
	}
	return count;
}

struct default_route {
	struct netstate *n;
	int ifindex; /* 0: none yet */
	uint32_t metric;
};

static int multipath_first(const struct nlattr *attr)
{
	const struct rtnexthop *nh = mnl_attr_get_payload(attr);
	return mnl_attr_get_payload_len(attr) >= sizeof *nh ? nh->rtnh_ifindex : 0;
}

static int on_route(const struct nlmsghdr *h, void *ctx)
{
	struct default_route *d = ctx;
	const struct rtmsg *m = mnl_nlmsg_get_payload(h);
	const struct nlattr *attr;
	uint32_t metric = 0;
	int ifindex = 0, err;
	if (h->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(h) < sizeof *m)
		return 0;
	if (m->rtm_dst_len || m->rtm_src_len || m->rtm_type != RTN_UNICAST ||
	    (m->rtm_flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN)))
		return 0;
	mnl_attr_for_each(attr, h, sizeof *m)
	{
		uint16_t type = mnl_attr_get_type(attr);
		if (type == RTA_OIF && mnl_attr_get_payload_len(attr) >= 4)
			ifindex = mnl_attr_get_u32(attr);
		else if (type == RTA_PRIORITY && mnl_attr_get_payload_len(attr) >= 4)
			metric = mnl_attr_get_u32(attr);
		else if (type == RTA_MULTIPATH && !ifindex)
			ifindex = multipath_first(attr);
	}
	/* on this socket nothing else can be asked now */
	if ((!d->ifindex || metric < d->metric) && may_serve(link_without_lock(d->n, ifindex, &err))) {
		d->ifindex = ifindex;
		d->metric = metric;
	}
	return 0;
}

static int default_route_of(struct netstate *n, int family)
{
	struct default_route d = {.n = n};
	char buf[128];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	h->nlmsg_type = RTM_GETROUTE;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	struct rtmsg *m = mnl_nlmsg_put_extra_header(h, sizeof *m);
	m->rtm_family = family;
	mnl_attr_put_u32(h, RTA_TABLE, RT_TABLE_MAIN);
	int ret = netstate_dump(n, h, on_route, &d, NULL);
	if (ret < 0 && ret != -EINTR) /* no such table, no IPv6: no default route */
		return 0;
	return d.ifindex;
}

static int default_route(struct netstate *n)
{
	int ret = default_route_of(n, AF_INET);
	return ret ? ret : default_route_of(n, AF_INET6);
}

int netstate_default_interface(struct netstate *n, char *why, size_t why_len)
{
	int found = 0;
	unsigned up = 0;
	int ret = default_route(n);
	if (ret)
		return ret;
	if (n->links_dirty) {
		ret = dump_links(n);
		if (ret < 0) {
			snprintf(why, why_len, "cannot list interfaces: %s", strerrordesc_np(-ret));
			return ret;
		}
		if ((ret = default_route(n))) /* by a link that could not be asked for alone */
			return ret;
	}
	for (size_t i = 0; i < n->n_links; i++)
		if (may_serve(&n->links[i]) && !netstate_is_of_vrf(n, n->links[i].ifindex)) {
			found = n->links[i].ifindex;
			up++;
		}
	if (up == 1)
		return found;
	if (up)
		snprintf(why, why_len,
			 "no default route, and %u interfaces are up: name one (interface)", up);
	else
		snprintf(why, why_len, "no interface is up besides loopback");
	return -ENODEV;
}
