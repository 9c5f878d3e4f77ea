/*
 * Routes: asked per destination (RTM_GETROUTE resolves rules, VRF, multipath and learned path MTUs
 * as connect would), cached by (destination, source, interface, mark), flushed as a whole by any
 * notification that may concern them.
 */
#include "kernel/netstate_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "base/sys.h"
#include "base/time.h"
#include "kernel/netlink.h"

/* What the kernel counts in for programs (jiffies_to_clock_t), on all architectures that it is built for here. */
#define USER_HZ 100

struct answer {
	bool seen;
	uint8_t type;     /* RTN_* */
	uint8_t protocol; /* RTPROT_* */
	struct route route;
};

static void take_metric(const struct nlattr *attr, struct route *out)
{
	struct route_metrics *m = &out->metrics;
	if (mnl_attr_get_type(attr) == RTAX_CC_ALGO) {
		size_t len = mnl_attr_get_payload_len(attr);
		if (len < sizeof m->congestion)
			memcpy(m->congestion, mnl_attr_get_payload(attr), len);
		return;
	}
	if (mnl_attr_get_payload_len(attr) < 4)
		return;
	uint32_t v = mnl_attr_get_u32(attr);
	switch (mnl_attr_get_type(attr)) {
	case RTAX_MTU:
		out->mtu = v;
		break;
	case RTAX_ADVMSS:
		m->advmss = v;
		break;
	case RTAX_WINDOW:
		m->window = v;
		break;
	case RTAX_INITCWND:
		m->initcwnd = v;
		break;
	case RTAX_INITRWND:
		m->initrwnd = v;
		break;
	case RTAX_RTO_MIN:
		m->rto_min_ms = v;
		break;
	case RTAX_QUICKACK:
		m->quickack = v;
		break;
	case RTAX_HOPLIMIT:
		m->hoplimit = v;
		break;
	case RTAX_FASTOPEN_NO_COOKIE:
		m->fastopen_no_cookie = v;
		break;
	case RTAX_FEATURES:
		m->features = v;
		break;
	}
}

/* RTA_METRICS. */
static void take_metrics(const struct nlattr *metrics, struct route *out)
{
	const struct nlattr *attr;
	mnl_attr_for_each_nested(attr, metrics)
	{
		take_metric(attr, out);
	}
}

/* RTA_VIA: a gateway of another family (RFC 5549's IPv4 over an IPv6 next hop). */
static void via_addr(const struct nlattr *attr, struct ip_addr *out)
{
	const struct rtvia *via = mnl_attr_get_payload(attr);
	size_t len = mnl_attr_get_payload_len(attr);
	if (len >= sizeof *via + 16 && via->rtvia_family == AF_INET6)
		*out = ip_addr_from_v6(via->rtvia_addr);
	else if (len >= sizeof *via + 4 && via->rtvia_family == AF_INET)
		*out = ip_addr_from_v4(via->rtvia_addr);
}

static int on_route(const struct nlmsghdr *h, void *ctx)
{
	struct answer *a = ctx;
	const struct rtmsg *m = mnl_nlmsg_get_payload(h);
	const struct nlattr *attr;
	if (h->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(h) < sizeof *m)
		return 0;
	a->seen = true;
	a->type = m->rtm_type;
	a->protocol = m->rtm_protocol;
	mnl_attr_for_each(attr, h, sizeof *m)
	{
		switch (mnl_attr_get_type(attr)) {
		case RTA_OIF:
			if (mnl_attr_get_payload_len(attr) >= 4)
				a->route.ifindex = mnl_attr_get_u32(attr);
			break;
		case RTA_PREFSRC:
			netstate_attr_addr(attr, m->rtm_family, &a->route.src);
			break;
		case RTA_GATEWAY:
			netstate_attr_addr(attr, m->rtm_family, &a->route.nexthop);
			break;
		case RTA_VIA:
			via_addr(attr, &a->route.nexthop);
			break;
		case RTA_METRICS:
			take_metrics(attr, &a->route);
			break;
		case RTA_ENCAP_TYPE:
			a->route.kernels = "its route encapsulates (ip route … encap)";
			break;
		}
	}
	return 1; /* one answer */
}

static int judge(struct netstate *n, struct answer *a)
{
	if (!a->seen)
		return -ENETUNREACH;
	switch (a->type) {
	case RTN_LOCAL:
	case RTN_ANYCAST:
		a->route.local = true;
		break;
	case RTN_BROADCAST: /* tcp_v4_connect and tcp_v6_connect refuse both so */
	case RTN_MULTICAST:
		return -ENETUNREACH;
	case RTN_UNREACHABLE:
		return -EHOSTUNREACH;
	case RTN_PROHIBIT:
		return -EACCES;
	case RTN_BLACKHOLE:
		return -EINVAL;
	}
	const struct net_link *l = netstate_link(n, a->route.ifindex);
	if (!l)
		return -ENETUNREACH; /* vanished since */
	if (!a->route.mtu || a->route.mtu > l->mtu)
		a->route.mtu = l->mtu;
	return 0;
}

static struct nlmsghdr *put_question(char *buf, const struct route_entry *key, const struct ip_addr *dst, unsigned flags)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	uint8_t bits = ip_addr_is_v4(dst) ? 32 : 128;
	h->nlmsg_type = RTM_GETROUTE;
	h->nlmsg_flags = NLM_F_REQUEST;
	struct rtmsg *m = mnl_nlmsg_put_extra_header(h, sizeof *m);
	m->rtm_family = netstate_family(dst);
	m->rtm_dst_len = bits;
	m->rtm_flags = flags;
	netstate_put_addr(h, RTA_DST, dst);
	if (!ip_addr_is_any(&key->src)) {
		m->rtm_src_len = bits;
		netstate_put_addr(h, RTA_SRC, &key->src);
	}
	if (key->oif)
		mnl_attr_put_u32(h, RTA_OIF, key->oif);
	if (key->mark)
		mnl_attr_put_u32(h, RTA_MARK, key->mark);
	mnl_attr_put_u8(h, RTA_IP_PROTO, IPPROTO_TCP);
	return h;
}

/* The kernel rounds what is left down, to a tick. */
static int on_expiry(const struct nlmsghdr *h, void *ctx)
{
	int64_t *expires_us = ctx;
	const struct nlattr *attr;
	if (h->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(h) < sizeof(struct rtmsg))
		return 0;
	mnl_attr_for_each(attr, h, sizeof(struct rtmsg))
	{
		const struct rta_cacheinfo *info = mnl_attr_get_payload(attr);
		if (mnl_attr_get_type(attr) == RTA_CACHEINFO && mnl_attr_get_payload_len(attr) >= sizeof *info && info->rta_expires > 0)
			*expires_us = clock_now_us() + (info->rta_expires + INT64_C(1)) * (USEC_PER_SEC / USER_HZ);
	}
	return 1;
}

/*
 * A router advertised the route for a while. The kernel goes another way as soon as that is over, and tells up to 30 s
 * later. Only the table's own entry says when it is, not the way that was found by it.
 */
static void ask_expiry(struct netstate *n, const struct route_entry *key, const struct ip_addr *dst, struct route *out)
{
	char buf[256] = {0};
	netlink_talk(n->talk_fd, put_question(buf, key, dst, RTM_F_FIB_MATCH), on_expiry, &out->expires_us);
}

static int ask(struct netstate *n, const struct route_entry *key, struct route *out)
{
	static const struct ip_addr loopback6 = {{[15] = 1}};
	static const uint8_t loopback4[4] = {127, 0, 0, 1};
	struct answer a = {0};
	struct ip_addr dst = key->dst;
	char buf[256] = {0}; /* libmnl leaves what it pads as it was */
	if (ip_addr_is_any(&dst)) /* connect to the wildcard means this host */
		dst = ip_addr_is_v4(&dst) ? ip_addr_from_v4(loopback4) : loopback6;
	if (!ip_addr_is_any(&key->src) && ip_addr_is_v4(&key->src) != ip_addr_is_v4(&dst))
		return -ENETUNREACH; /* as an AF_INET6 socket bound to the other family */
	a.route.src = key->src;
	a.route.nexthop = dst;
	int ret = netlink_talk(n->talk_fd, put_question(buf, key, &dst, 0), on_route, &a);
	if (ret == 0)
		ret = judge(n, &a);
	if (ret == 0) {
		const char *rules = netstate_rules_why(n, !ip_addr_is_v4(&dst));
		a.route.kernels = rules ? rules : a.route.kernels;
		if (a.protocol == RTPROT_RA)
			ask_expiry(n, key, &dst, &a.route);
		*out = a.route;
	}
	return ret;
}

/* Verdicts of the routing tables; others (-ENOBUFS, -ETIMEDOUT) are about the question and are
 * asked again. */
static bool is_verdict(int ret)
{
	return ret == 0 || ret == -ENETUNREACH || ret == -EHOSTUNREACH || ret == -EACCES ||
	       ret == -EINVAL;
}

static bool is_old(const struct route_entry *e, int64_t now_us)
{
	int64_t age_us = e->result ? ROUTE_NO_WAY_AGE_US : ROUTE_MAX_AGE_US;
	return now_us - e->asked_us >= age_us || (e->route.expires_us && now_us >= e->route.expires_us);
}

static bool is_same(const struct route_entry *a, const struct route_entry *b)
{
	return ip_addr_equal(&a->dst, &b->dst) && ip_addr_equal(&a->src, &b->src) &&
	       a->oif == b->oif && a->mark == b->mark;
}

int netstate_route(struct netstate *n, const struct ip_addr *dst, const struct ip_addr *src,
		   int oif, uint32_t mark, struct route *out)
{
	struct route_entry key = {.dst = *dst, .oif = oif, .mark = mark};
	if (src && !ip_addr_is_any(src))
		key.src = *src;
	else if (ip_addr_is_v4(dst))
		key.src = ip_addr_from_v4("\0\0\0\0");
	uint32_t src_bits;
	memcpy(&src_bits, key.src.b + 12, sizeof src_bits);
	uint32_t set = netstate_hash(n, dst, src_bits, mark ^ (uint32_t)oif << 16) % ROUTE_SETS;
	struct route_entry *ways = &n->routes[set * CACHE_WAYS], *e = NULL;
	int64_t now_us = clock_now_us();
	for (unsigned i = 0; i < CACHE_WAYS; i++) {
		if (ways[i].generation != n->route_generation) {
			e = &ways[i];
			continue;
		}
		if (!is_same(&ways[i], &key))
			continue;
		if (!is_old(&ways[i], now_us)) {
			if (ways[i].result == 0)
				*out = ways[i].route;
			return ways[i].result;
		}
		e = &ways[i];
		break;
	}
	key.result = ask(n, &key, &key.route);
	if (key.result == 0)
		*out = key.route;
	if (!is_verdict(key.result))
		return key.result;
	if (!e)
		e = &ways[n->next_way++ % CACHE_WAYS];
	key.generation = n->route_generation;
	key.asked_us = now_us;
	*e = key;
	return key.result;
}
