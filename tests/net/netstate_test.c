/* kernel/netstate against a real kernel, in network namespaces of its own. */
#include <check.h>

#include "tests/net/netns_test.h"
#include "tests/suite.h"
#include "tests/untested.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/utsname.h>

#include "base/time.h"
#include "kernel/neigh_asker.h"
#include "kernel/netstate.h"
#include "kernel/netstate_internal.h"
#include "tests/net/rtnl_hold.h"

#define WAIT_MS 5000

static struct netstate *n;

static struct ip_addr addr(const char *text)
{
	struct ip_addr a;
	ck_assert_int_eq(ip_addr_parse(text, &a), 0);
	return a;
}

static void setup(void)
{
	ck_assert(netns_enter());
	ck_assert_int_eq(netstate_open(&n), 0);
}

static void teardown(void)
{
	netstate_close(n);
}

/* False: who runs this may not, and nothing can be shown. */
static bool holds_the_network(struct rtnl_hold *h)
{
	if (rtnl_hold(h))
		return true;
	ck_assert_msg(errno == EPERM || errno == ENOSYS, "the lock of the network: %s", strerror(errno));
	return false;
}

/* Until one of `bits` is reported. */
static unsigned wait_for(unsigned bits)
{
	int64_t end_us = clock_now_us() + WAIT_MS * USEC_PER_MSEC;
	unsigned seen = 0;
	while (!(seen & bits)) {
		struct pollfd pfd = {.fd = netstate_fd(n), .events = POLLIN};
		int64_t left_ms = (end_us - clock_now_us()) / USEC_PER_MSEC;
		ck_assert_msg(left_ms > 0, "no notification of kind %#x", bits);
		ck_assert_int_ge(poll(&pfd, 1, left_ms), 0);
		seen |= netstate_on_readable(n);
	}
	return seen;
}

static int neighbour(const char *ifname, const char *to, uint8_t mac[6])
{
	struct ip_addr a = addr(to);
	return netstate_neighbour(n, if_nametoindex(ifname), &a, false, mac);
}

static int route_from(const char *to, const char *from, int oif, uint32_t mark, struct route *out)
{
	struct ip_addr dst = addr(to), src = addr(from);
	return netstate_route(n, &dst, &src, oif, mark, out);
}

static int route(const char *to, struct route *out)
{
	return route_from(to, strchr(to, ':') ? "::" : "0.0.0.0", 0, 0, out);
}

#define ck_assert_addr(a, text)                                                                    \
	do {                                                                                       \
		char str_[IP_ADDR_STRLEN];                                                         \
		struct ip_addr a_ = (a);                                                           \
		ck_assert_str_eq(ip_addr_format(&a_, str_), text);                                 \
	} while (0)

/* An interface that leads nowhere and has a carrier (ifb: some kernels have no dummy). */
static void add_sink(const char *name)
{
	sh("ip link add %s type dummy 2>/dev/null || ip link add %s type ifb", name, name);
}

static void add_dummy(const char *name, const char *address)
{
	add_sink(name);
	sh("ip addr add %s dev %s && ip link set %s up", address, name, name);
}

START_TEST(addresses_follow_the_kernel)
{
	struct ip_addr got[8], a1 = addr("10.1.0.1"), a2 = addr("10.1.0.2"), a6 = addr("fd01::1");
	add_dummy("d0", "10.1.0.1/24");
	netstate_on_readable(n);
	int d0 = if_nametoindex("d0");
	ck_assert(netstate_is_local(n, &a1));
	ck_assert(!netstate_is_local(n, &a2));
	ck_assert(!netstate_is_local(n, &a6));
	sh("ip addr add 10.1.0.2/24 dev d0 && ip -6 addr add fd01::1/64 dev d0 nodad");
	ck_assert_uint_ne(wait_for(NETSTATE_ADDRS) & NETSTATE_ADDRS, 0);
	ck_assert(netstate_is_local(n, &a2));
	/* two of IPv4, one global and one link-local of IPv6: these the kernel tells when they are usable */
	while (netstate_addresses(n, d0, got, 8) != 4)
		wait_for(NETSTATE_ADDRS);
	ck_assert(netstate_is_local(n, &a6));
	got[1] = a6;
	ck_assert_int_eq(netstate_addresses(n, d0, got, 1), 4);
	ck_assert_addr(got[0], "10.1.0.1");
	ck_assert_addr(got[1], "fd01::1"); /* not written beyond max */
	sh("ip addr del 10.1.0.1/24 dev d0");
	wait_for(NETSTATE_ADDRS);
	ck_assert(!netstate_is_local(n, &a1));
	ck_assert_int_eq(netstate_addresses(n, 999, got, 8), 0);
}
END_TEST

START_TEST(loopback_is_local_and_not_served)
{
	struct ip_addr got[4], a = addr("127.3.2.1"), b = addr("::1");
	ck_assert(netstate_is_local(n, &a));
	ck_assert(netstate_is_local(n, &b));
	ck_assert_int_eq(netstate_addresses(n, if_nametoindex("lo"), got, 4), 0);
}
END_TEST

START_TEST(point_to_point_peer_is_not_local)
{
	struct ip_addr own = addr("10.9.0.1"), peer = addr("10.9.0.2");
	add_sink("d0");
	sh("ip addr add 10.9.0.1 peer 10.9.0.2 dev d0");
	netstate_on_readable(n);
	ck_assert(netstate_is_local(n, &own));
	ck_assert(!netstate_is_local(n, &peer));
}
END_TEST

/* The same address with two prefixes and with two peers: it is local until the last one is gone. */
START_TEST(address_that_an_interface_has_more_than_once)
{
	struct ip_addr got[8], a = addr("10.9.0.1");
	add_dummy("d0", "10.1.0.1/24");
	netstate_on_readable(n);
	int d0 = if_nametoindex("d0");
	sh("echo 1 > /proc/sys/net/ipv6/conf/d0/disable_ipv6");
	ck_assert(!netstate_is_local(n, &a)); /* from here on notifications alone tell */
	sh("ip addr add 10.9.0.1/24 dev d0 && ip addr add 10.9.0.1/16 dev d0 && ip addr add 10.9.0.1 peer 10.9.0.2 dev d0 && ip addr add 10.9.0.1 peer 10.9.0.3 dev d0");
	netstate_on_readable(n);
	ck_assert_int_eq(netstate_addresses(n, d0, got, 8), 5);
	sh("ip addr del 10.9.0.1/24 dev d0 && ip addr del 10.9.0.1 peer 10.9.0.2 dev d0 && ip addr del 10.9.0.1/16 dev d0");
	netstate_on_readable(n);
	ck_assert_int_eq(netstate_addresses(n, d0, got, 8), 2);
	ck_assert_int_eq(netstate_interface_of(n, &a), d0);
	sh("ip addr change 10.9.0.1 peer 10.9.0.3 dev d0 noprefixroute");
	netstate_on_readable(n);
	ck_assert_int_eq(netstate_addresses(n, d0, got, 8), 2);
	sh("ip addr del 10.9.0.1 peer 10.9.0.3 dev d0");
	netstate_on_readable(n);
	ck_assert(!netstate_is_local(n, &a));
	sh("ip link del d0");
	netstate_on_readable(n);
	ck_assert_int_eq(netstate_addresses(n, d0, got, 8), 0);
	ck_assert(!netstate_may_serve(n, d0));
}
END_TEST

/* An IPv6 address has one peer at a time: no other is left behind when it changes. */
START_TEST(address_whose_peer_changes)
{
	struct ip_addr a = addr("fd01::1");
	add_sink("d0");
	netstate_on_readable(n);
	ck_assert(!netstate_is_local(n, &a)); /* from here on notifications alone tell */
	sh("ip addr add fd01::1 peer fd01::2 dev d0 nodad");
	while (!netstate_is_local(n, &a))
		wait_for(NETSTATE_ADDRS); /* the kernel tells when a worker of its own has come to it */
	sh("ip addr change fd01::1 peer fd01::3 dev d0 nodad");
	netstate_on_readable(n);
	ck_assert(netstate_is_local(n, &a));
	sh("ip addr del fd01::1 peer fd01::3 dev d0");
	netstate_on_readable(n);
	ck_assert(!netstate_is_local(n, &a));
}
END_TEST

/* A port that leaves its bridge is told as deleted, to who looks at bridges. */
START_TEST(port_that_leaves_its_bridge_stays)
{
	add_dummy("d0", "10.1.0.1/24");
	netstate_on_readable(n);
	int d0 = if_nametoindex("d0");
	ck_assert(netstate_may_serve(n, d0));
	sh("ip link add br0 type bridge && ip link set d0 master br0 && ip link set d0 nomaster && ip link del br0");
	netstate_on_readable(n);
	ck_assert(netstate_may_serve(n, d0));
	sh("ip link set d0 down");
	netstate_on_readable(n);
	ck_assert(!netstate_may_serve(n, d0));
}
END_TEST

/* By a dump, and by a notification. */
START_TEST(a_pair_is_known_as_one)
{
	sh("ip link add v8 type veth peer name v9");
	ck_assert(netstate_is_veth(n, if_nametoindex("v8")));
	add_dummy("d0", "10.1.0.1/24");
	sh("ip link add v6 type veth peer name v7 && ip link set v9 mtu 1400");
	netstate_on_readable(n);
	ck_assert(netstate_is_veth(n, if_nametoindex("v6")));
	ck_assert(netstate_is_veth(n, if_nametoindex("v9")));
	ck_assert(!netstate_is_veth(n, if_nametoindex("d0")));
	ck_assert(!netstate_is_veth(n, if_nametoindex("lo")));
}
END_TEST

/*
 * Elsewhere somebody makes interfaces, and holds the kernel's lock of the network: what was notified is known all the
 * same.
 */
START_TEST(notified_while_others_hold_the_network)
{
	struct ip_addr a = addr("10.1.0.1"), got[8];
	struct rtnl_hold hold;
	ck_assert(!netstate_is_local(n, &a));
	ck_assert_int_eq(netstate_interfaces(n, NULL, 0), 0);
	add_dummy("d0", "10.1.0.1/24");
	add_dummy("d1", "10.2.0.1/24");
	sh("ip link del d1");
	int d0 = if_nametoindex("d0");
	if (!holds_the_network(&hold))
		return untested("userfaultfd of the kernel's reads");
	netstate_on_readable(n);
	bool serves = netstate_may_serve(n, d0);
	int n_links = netstate_interfaces(n, NULL, 0), addresses = netstate_addresses(n, d0, got, 8);
	ck_assert_msg(rtnl_release(&hold), "it waited for the lock");
	ck_assert(serves);
	ck_assert_int_eq(n_links, 1);
	ck_assert_int_ge(addresses, 1);
}
END_TEST

/* A dump of one family's addresses takes that lock on kernels before 6.9. */
static bool dumps_without_the_lock(void)
{
	struct utsname u;
	unsigned major, minor;
	return uname(&u) == 0 && sscanf(u.release, "%u.%u", &major, &minor) == 2 && (major > 6 || (major == 6 && minor >= 9));
}

/* … and who comes up hears which addresses there are. */
START_TEST(addresses_while_others_hold_the_network)
{
	struct ip_addr got[8], v4 = addr("10.1.0.1"), v6 = addr("fd01::1");
	struct rtnl_hold hold;
	add_dummy("d0", "10.1.0.1/24");
	sh("ip -6 addr add fd01::1/64 dev d0 nodad");
	int d0 = if_nametoindex("d0");
	if (!dumps_without_the_lock() || !holds_the_network(&hold))
		return untested("a kernel that dumps addresses without the lock, and userfaultfd of the kernel's reads");
	int addresses = netstate_addresses(n, d0, got, 8);
	bool local = netstate_is_local(n, &v4) && netstate_is_local(n, &v6);
	ck_assert_msg(rtnl_release(&hold), "it waited for the lock");
	ck_assert_int_ge(addresses, 2);
	ck_assert(local);
}
END_TEST

/* … and how each interface is, and the default route's; of a pair only the kind waits. */
START_TEST(links_while_others_hold_the_network)
{
	char why[128] = "";
	struct route r = {.mtu = 0};
	struct rtnl_hold hold;
	add_dummy("d0", "10.1.0.1/24");
	add_dummy("d1", "10.2.0.1/24");
	sh("ip link set dev d0 mtu 1400 && ip route add default via 10.1.0.9 && ip link set dev d1 down");
	int d0 = if_nametoindex("d0"), d1 = if_nametoindex("d1"), all[4];
	if (!dumps_without_the_lock() || !holds_the_network(&hold))
		return untested("a kernel that dumps addresses without the lock, and userfaultfd of the kernel's reads");
	bool serves = netstate_may_serve(n, d0), serves_down = netstate_may_serve(n, d1), serves_none = netstate_may_serve(n, 77);
	int routed = route("10.1.0.2", &r), n_all = netstate_interfaces(n, all, 4), first = netstate_default_interface(n, why, sizeof why);
	ck_assert_msg(rtnl_release(&hold), "it waited for the lock");
	ck_assert(serves && !serves_down && !serves_none);
	ck_assert_int_eq(routed, 0);
	ck_assert_int_eq(r.mtu, 1400);
	ck_assert_int_eq(n_all, 1);
	ck_assert_int_eq(all[0], d0);
	ck_assert_int_eq(first, d0);
}
END_TEST

START_TEST(default_interface)
{
	char why[128] = "";
	ck_assert_int_eq(netstate_default_interface(n, why, sizeof why), -ENODEV);
	ck_assert_str_ne(why, "");
	add_dummy("d0", "10.1.0.1/24");
	wait_for(NETSTATE_LINKS);
	ck_assert_int_eq(netstate_default_interface(n, why, sizeof why), if_nametoindex("d0"));
	add_dummy("d1", "10.2.0.1/24");
	wait_for(NETSTATE_LINKS);
	netstate_on_readable(n);
	why[0] = 0;
	ck_assert_int_eq(netstate_default_interface(n, why, sizeof why), -ENODEV);
	ck_assert_ptr_nonnull(strstr(why, "2 interfaces"));
	sh("ip -6 route add default dev d0");
	ck_assert_int_eq(netstate_default_interface(n, why, sizeof why), if_nametoindex("d0"));
	sh("ip route add default via 10.1.0.9 metric 100 && ip route add default via 10.2.0.9 "
	   "metric 50");
	ck_assert_int_eq(netstate_default_interface(n, why, sizeof why), if_nametoindex("d1"));
	sh("ip link set d1 down");
	netstate_on_readable(n);
	ck_assert_int_eq(netstate_default_interface(n, why, sizeof why), if_nametoindex("d0"));
}
END_TEST

START_TEST(routes_as_the_kernel_resolves_them)
{
	struct route r;
	add_dummy("d0", "10.1.0.1/24");
	add_dummy("d1", "10.2.0.1/24");
	sh("ip addr add 10.1.0.5/24 dev d0");
	sh("ip route add 10.7.0.0/16 via 10.1.0.254 src 10.1.0.5 mtu 1400");
	sh("ip route add 10.8.0.0/16 dev d1 table 77 && ip rule add fwmark 5 table 77");
	sh("ip -6 addr add fd01::1/64 dev d0 nodad && ip -6 route add fd07::/16 via fd01::9");
	sh("ip route add 10.6.0.0/16 via inet6 fd01::9 dev d0");
	netstate_on_readable(n);
	int d0 = if_nametoindex("d0"), d1 = if_nametoindex("d1");

	ck_assert_int_eq(route("10.1.0.77", &r), 0);
	ck_assert_int_eq(r.ifindex, d0);
	ck_assert_addr(r.src, "10.1.0.1");
	ck_assert_addr(r.nexthop, "10.1.0.77");
	ck_assert_uint_eq(r.mtu, 1500);
	ck_assert(!r.local);

	ck_assert_int_eq(route("10.7.3.3", &r), 0);
	ck_assert_addr(r.src, "10.1.0.5");
	ck_assert_addr(r.nexthop, "10.1.0.254");
	ck_assert_uint_eq(r.mtu, 1400);

	ck_assert_int_eq(route_from("10.7.3.3", "10.1.0.1", 0, 0, &r), 0);
	ck_assert_addr(r.src, "10.1.0.1");

	ck_assert_int_eq(route("10.8.0.1", &r), -ENETUNREACH);
	ck_assert_int_eq(route_from("10.8.0.1", "0.0.0.0", 0, 5, &r), 0);
	ck_assert_int_eq(r.ifindex, d1);
	ck_assert_int_eq(route_from("10.9.0.1", "0.0.0.0", d1, 0, &r),
			 0); /* SO_BINDTODEVICE: on-link */
	ck_assert_int_eq(r.ifindex, d1);

	ck_assert_int_eq(route("10.2.0.1", &r), 0);
	ck_assert(r.local);
	ck_assert_int_eq(route("0.0.0.0", &r), 0);
	ck_assert(r.local);
	ck_assert_int_eq(route("::", &r), 0);
	ck_assert(r.local);

	ck_assert_int_eq(route("fd07::5", &r), 0);
	ck_assert_addr(r.nexthop, "fd01::9");
	ck_assert_addr(r.src, "fd01::1");
	ck_assert_int_eq(route("10.6.0.1", &r), 0); /* RFC 5549 */
	ck_assert_addr(r.nexthop, "fd01::9");
	ck_assert_addr(r.src, "10.1.0.1");
}
END_TEST

/* What connect() itself answers, at once (the interface leads nowhere). */
static int connect_errno(const char *to)
{
	struct ip_addr a = addr(to);
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(9)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
	bool v4 = ip_addr_is_v4(&a);
	memcpy(&in.sin_addr, a.b + 12, 4);
	memcpy(&in6.sin6_addr, a.b, 16);
	int fd = socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int ret = connect(fd, v4 ? (void *)&in : (void *)&in6, v4 ? sizeof in : sizeof in6);
	int err = ret < 0 ? errno : 0;
	close(fd);
	return err == EINPROGRESS ? 0 : -err;
}

START_TEST(errors_as_connect_gives_them)
{
	static const char *const to[] = {
	    "10.1.0.7",  "10.1.0.255", "255.255.255.255", "224.0.0.9", "10.20.0.1",
	    "10.21.0.1", "10.22.0.1",  "10.23.0.1",       "fd01::7",   "ff02::1",
	    "fd20::1",   "fd21::1",    "fd22::1",         "fd23::1",
	};
	struct route r;
	add_dummy("d0", "10.1.0.1/24");
	sh("ip -6 addr add fd01::1/64 dev d0 nodad");
	for (int v6 = 0; v6 < 2; v6++) {
		const char *p = v6 ? "fd" : "10.", *len = v6 ? "::/16" : ".0.0/16";
		sh("ip route add unreachable %s20%s && ip route add prohibit %s21%s && "
		   "ip route add blackhole %s22%s",
		   p, len, p, len, p, len);
	}
	netstate_on_readable(n);
	unsigned failed = 0;
	for (unsigned i = 0; i < sizeof to / sizeof to[0]; i++) {
		int want = connect_errno(to[i]);
		failed += want != 0;
		ck_assert_msg(route(to[i], &r) == want, "%s: route %d, connect %d", to[i],
			      route(to[i], &r), want);
	}
	ck_assert_uint_ge(failed, 9);
}
END_TEST

START_TEST(routes_are_flushed)
{
	struct route r;
	add_dummy("d0", "10.1.0.1/24");
	add_dummy("d1", "10.2.0.1/24");
	netstate_on_readable(n);
	ck_assert_int_eq(route("10.5.0.1", &r), -ENETUNREACH);
	sh("ip route add 10.5.0.0/16 via 10.1.0.9");
	ck_assert_uint_ne(wait_for(NETSTATE_ROUTES) & NETSTATE_ROUTES, 0);
	ck_assert_int_eq(route("10.5.0.1", &r), 0);
	ck_assert_int_eq(r.ifindex, if_nametoindex("d0"));
	sh("ip route change 10.5.0.0/16 via 10.2.0.9");
	ck_assert_int_eq(route("10.5.0.1", &r), 0);
	ck_assert_int_eq(r.ifindex, if_nametoindex("d0")); /* from memory, until the notification is read */
	wait_for(NETSTATE_ROUTES);
	ck_assert_int_eq(route("10.5.0.1", &r), 0);
	ck_assert_int_eq(r.ifindex, if_nametoindex("d1"));
	sh("ip link set d1 mtu 1300");
	wait_for(NETSTATE_LINKS);
	ck_assert_int_eq(route("10.5.0.1", &r), 0);
	ck_assert_uint_eq(r.mtu, 1300);
	sh("ip link set d1 down"); /* takes the route with it, without a route notification */
	wait_for(NETSTATE_LINKS);
	ck_assert_int_eq(route("10.5.0.1", &r), -ENETUNREACH);
	sh("ip rule add to 10.1.0.0/24 prohibit");
	wait_for(NETSTATE_ROUTES);
	ck_assert_int_eq(route("10.1.0.4", &r), -EACCES);
}
END_TEST

struct kernels_row {
	const char *setup, *undo;
	bool v6;
	const char *named; /* NULL: ours */
};

static const struct kernels_row kernels_rows[] = {
	{"ip rule add to 10.5.0.0/16 table main", "ip rule del pref 32765", false, NULL},
	{"ip rule add ipproto tcp fwmark 7 table main", "ip rule del pref 32765", false, NULL},
	{"ip rule add ipproto tcp dport 443 table main", "ip rule del pref 32765", false, "ip rule"},
	{"ip rule add sport 1-100 table main", "ip rule del pref 32765", false, "ip rule"},
	{"ip rule add ipproto udp dport 53 table main", "ip rule del pref 32765", false, NULL},
	{"ip rule add tos 0x10 table main", "ip rule del pref 32765", false, "ip rule"},
	{"ip -6 rule add dport 443 table main", "ip -6 rule del pref 32765", false, NULL},
	{"ip -6 rule add dport 443 table main", "ip -6 rule del pref 32765", true, "ip rule"},
};

/* A route that a router advertised for a while: nobody tells when it is over. */
START_TEST(route_that_expires)
{
	struct route r;
	add_dummy("d0", "10.1.0.1/24");
	sh("ip -6 addr add fd01::1/64 dev d0 nodad && ip -6 route add fd99::/64 via fd01::2 dev d0");
	ck_assert_int_eq(route("fd99::1", &r), 0);
	ck_assert_int_eq(r.expires_us, 0);
	do { /* a busy machine may take longer than that to come here */
		sh("ip -6 route replace fd98::/64 via fd01::2 dev d0 proto ra expires 2");
		netstate_on_readable(n);
	} while (route("fd98::1", &r));
	ck_assert_int_gt(r.expires_us, 0);
	sh("while ip -6 route get fd98::1 >/dev/null 2>&1; do sleep 0.1; done"); /* it is over for the kernel */
	int64_t end_us = clock_now_us() + 4 * WAIT_MS * USEC_PER_MSEC;
	int ret;
	while ((ret = route("fd98::1", &r)) == 0 && clock_now_us() < end_us)
		usleep(10000);
	ck_assert_int_eq(ret, -ENETUNREACH);
	ck_assert_int_eq(route("fd99::1", &r), 0);
	/*
	 * Advertised again before it was collected: not even that is told. (Changed in place here; some kernels tell of
	 * this way to say it.)
	 */
	sh("ip -6 route change fd98::/64 via fd01::2 dev d0 proto ra expires 300 2>/dev/null || ip -6 route replace fd98::/64 via fd01::2 dev d0 proto ra expires 300");
	end_us = clock_now_us() + 4 * WAIT_MS * USEC_PER_MSEC;
	while ((ret = route("fd98::1", &r)) != 0 && clock_now_us() < end_us) /* nobody reads what is told */
		usleep(10000);
	ck_assert_int_eq(ret, 0);
}
END_TEST

/* Ways that only the kernel can go: they are told while they last. */
START_TEST(ways_of_the_kernel)
{
	const struct kernels_row *row = &kernels_rows[_i];
	const char *to = row->v6 ? "fd01::9" : "10.1.0.9";
	struct route r;
	add_dummy("d0", "10.1.0.1/24");
	sh("ip addr add fd01::1/64 dev d0 nodad");
	while (netstate_on_readable(n), route(to, &r) != 0)
		;
	ck_assert_ptr_null(r.kernels);
	sh("%s", row->setup);
	wait_for(NETSTATE_ROUTES);
	ck_assert_int_eq(route(to, &r), 0);
	ck_assert_msg(!r.kernels == !row->named, "%s: %s", row->setup, r.kernels);
	if (row->named)
		ck_assert_msg(strstr(r.kernels, row->named), "%s", r.kernels);
	ck_assert_ptr_eq(netstate_rules_why(n, row->v6), r.kernels);
	sh("%s", row->undo);
	wait_for(NETSTATE_ROUTES);
	ck_assert_int_eq(route(to, &r), 0);
	ck_assert_ptr_null(r.kernels);
}
END_TEST

/* As the kernel notifies it: an interface, and the kind of its master. */
static void notify_link(const char *ifname, const char *slave_kind)
{
	_Alignas(struct nlmsghdr) char buf[256];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	h->nlmsg_type = RTM_NEWLINK;
	struct ifinfomsg *m = mnl_nlmsg_put_extra_header(h, sizeof *m);
	m->ifi_index = if_nametoindex(ifname);
	m->ifi_flags = IFF_UP | IFF_RUNNING;
	m->ifi_type = ARPHRD_ETHER;
	mnl_attr_put_u32(h, IFLA_MTU, 1500);
	if (slave_kind) {
		struct nlattr *info = mnl_attr_nest_start(h, IFLA_LINKINFO);
		mnl_attr_put(h, IFLA_INFO_SLAVE_KIND, strlen(slave_kind), slave_kind); /* without a zero at its end */
		mnl_attr_nest_end(h, info);
	}
	netstate_on_link(n, h);
}

static bool is_served(const char *ifname, const char *address)
{
	struct ip_addr got[4], a = addr(address);
	int ifindex = if_nametoindex(ifname), all[8], found = netstate_interfaces(n, all, 8), listed = 0;
	for (int i = 0; i < found; i++)
		listed += all[i] == ifindex;
	bool served = netstate_may_serve(n, ifindex);
	ck_assert_int_eq(listed, served);
	ck_assert_int_eq(netstate_interface_of(n, &a), served ? ifindex : 0);
	ck_assert_int_eq(netstate_addresses(n, ifindex, got, 4) > 0, served);
	ck_assert_int_eq(netstate_is_of_vrf(n, ifindex), !served);
	ck_assert(netstate_is_local(n, &a));
	return served;
}

/*
 * Of the kernel that runs this test no VRF is wanted: the rule that the first one brings, and what is notified of its
 * slaves.
 */
START_TEST(interfaces_of_a_vrf_are_the_kernels)
{
	add_dummy("d0", "10.1.0.1/24");
	add_dummy("d1", "10.2.0.1/24");
	netstate_on_readable(n);
	ck_assert(is_served("d0", "10.1.0.1"));
	notify_link("d0", "vrf"); /* nobody asks without the rule */
	ck_assert(is_served("d0", "10.1.0.1"));
	sh("ip rule add l3mdev pref 1000");
	wait_for(NETSTATE_ROUTES);
	ck_assert(!is_served("d0", "10.1.0.1"));
	ck_assert(is_served("d1", "10.2.0.1"));
	notify_link("d0", "bridge");
	ck_assert(is_served("d0", "10.1.0.1"));
	notify_link("d0", "vrf");
	ck_assert(!is_served("d0", "10.1.0.1"));
	notify_link("d0", NULL);
	ck_assert(is_served("d0", "10.1.0.1"));
	notify_link("d1", "vrf");
	sh("ip rule del pref 1000 && ip -6 rule add l3mdev pref 1000");
	wait_for(NETSTATE_ROUTES);
	ck_assert(!is_served("d1", "10.2.0.1"));
	sh("ip -6 rule del pref 1000");
	wait_for(NETSTATE_ROUTES);
	while (netstate_is_of_vrf(n, if_nametoindex("d1")))
		wait_for(NETSTATE_ROUTES);
	ck_assert(is_served("d1", "10.2.0.1"));
}
END_TEST

START_TEST(more_routes_than_the_cache_holds)
{
	struct route r;
	char to[32];
	add_dummy("d0", "10.1.0.1/8");
	netstate_on_readable(n);
	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned i = 0; i < 6000; i++) {
			snprintf(to, sizeof to, "10.%u.%u.9", 2 + i / 250, i % 250);
			ck_assert_int_eq(route(to, &r), 0);
			ck_assert_addr(r.nexthop, to);
		}
}
END_TEST

/* ---- neighbours over a veth pair ---- */

static struct netns_peer peer;

static void setup_pair(void)
{
	setup();
	peer = netns_peer_start();
	sh("ip link add v0 type veth peer name v1 netns %d", peer.pid);
	sh("ip addr add 10.3.0.1/24 dev v0 && ip -6 addr add fd03::1/64 dev v0 nodad && ip link "
	   "set v0 up");
	sh("nsenter -n -t %d sh -c 'ip link set v1 address 02:00:00:00:00:02 && ip addr add "
	   "10.3.0.2/24 dev v1"
	   " && ip -6 addr add fd03::2/64 dev v1 nodad && ip link set v1 up'",
	   peer.pid);
	/* failing takes three times this */
	sh("echo 50 > /proc/sys/net/ipv4/neigh/v0/retrans_time_ms");
	netstate_on_readable(n);
}

static void teardown_pair(void)
{
	netns_peer_stop(&peer);
	teardown();
}

static int wait_resolved(const char *to, uint8_t mac[6])
{
	int ret;
	while ((ret = neighbour("v0", to, mac)) == -EAGAIN)
		wait_for(NETSTATE_NEIGHS);
	return ret;
}

/*
 * Of a neighbour that is there. The kernel gives up after its three questions, which a busy machine may need longer to
 * answer: then it is asked again.
 */
static void until_resolved(const char *to, uint8_t mac[6])
{
	int ret;
	while ((ret = wait_resolved(to, mac)) == -EHOSTUNREACH)
		usleep(10000);
	ck_assert_int_eq(ret, 0);
}

START_TEST(neighbour_is_resolved)
{
	static const uint8_t want[6] = {2, 0, 0, 0, 0, 2}, moved[6] = {2, 0, 0, 0, 0, 3};
	uint8_t mac[6];
	ck_assert_int_eq(neighbour("v0", "10.3.0.2", mac), -EAGAIN);
	until_resolved("10.3.0.2", mac);
	ck_assert_mem_eq(mac, want, 6);
	until_resolved("fd03::2", mac);
	ck_assert_mem_eq(mac, want, 6);
	/* The peer's address moves: the kernel learns it, and we from the kernel. */
	sh("ip neigh replace 10.3.0.2 lladdr 02:00:00:00:00:03 dev v0 nud reachable");
	wait_for(NETSTATE_NEIGHS);
	ck_assert_int_eq(neighbour("v0", "10.3.0.2", mac), 0);
	ck_assert_mem_eq(mac, moved, 6);
	sh("ip neigh del 10.3.0.2 dev v0");
	wait_for(NETSTATE_NEIGHS);
	until_resolved("10.3.0.2", mac);
	ck_assert_mem_eq(mac, want, 6);
}
END_TEST

START_TEST(neighbour_that_the_kernel_knew_before)
{
	static const uint8_t want[6] = {2, 0, 0, 0, 0, 9};
	uint8_t mac[6];
	sh("ip neigh add 10.3.0.9 lladdr 02:00:00:00:00:09 dev v0 nud permanent");
	ck_assert_int_eq(neighbour("v0", "10.3.0.9", mac), 0);
	ck_assert_mem_eq(mac, want, 6);
}
END_TEST

START_TEST(neighbour_that_is_not_there)
{
	uint8_t mac[6];
	ck_assert_int_eq(neighbour("v0", "10.3.0.77", mac), -EAGAIN);
	ck_assert_int_eq(wait_resolved("10.3.0.77", mac), -EHOSTUNREACH);
	ck_assert_int_eq(neighbour("v0", "10.3.0.77", mac), -EHOSTUNREACH); /* held a while */
	ck_assert_int_eq(neighbour("no-such-interface", "10.3.0.77", mac), -EHOSTUNREACH);
}
END_TEST

/* Whoever uses a stale entry has the kernel confirm it: STALE → DELAY, told by a notification at
 * the end of PROBE. */
START_TEST(stale_neighbour_is_used_and_confirmed)
{
	static const uint8_t want[6] = {2, 0, 0, 0, 0, 2};
	uint8_t mac[6];
	sh("echo 1 > /proc/sys/net/ipv4/neigh/v0/delay_first_probe_time");
	sh("ip neigh replace 10.3.0.2 lladdr 02:00:00:00:00:02 dev v0 nud stale");
	ck_assert_int_eq(neighbour("v0", "10.3.0.2", mac), 0);
	ck_assert_mem_eq(mac, want, 6);
	netstate_pause(n); /* it is said */
	sh("ip neigh show 10.3.0.2 dev v0 | grep -Eq 'DELAY|PROBE|REACHABLE'");
	wait_for(NETSTATE_NEIGHS);
	ck_assert_int_eq(neighbour("v0", "10.3.0.2", mac), 0);
}
END_TEST

/*
 * Elsewhere somebody makes interfaces, and holds the kernel's lock of the network. Who has it resolved or confirmed
 * does not wait for that.
 */
START_TEST(neighbour_is_used_while_others_hold_the_network)
{
	static const uint8_t want[6] = {2, 0, 0, 0, 0, 2};
	struct rtnl_hold hold;
	uint8_t mac[6];
	sh("echo 1 > /proc/sys/net/ipv4/neigh/v0/delay_first_probe_time");
	sh("ip neigh replace 10.3.0.2 lladdr 02:00:00:00:00:02 dev v0 nud permanent");
	ck_assert_int_eq(neighbour("v0", "10.3.0.2", mac), 0); /* looks it up, which may wait with kernels before 6.17 */
	sh("ip neigh replace 10.3.0.2 lladdr 02:00:00:00:00:02 dev v0 nud stale");
	wait_for(NETSTATE_NEIGHS);
	if (!holds_the_network(&hold))
		return untested("userfaultfd of the kernel's reads");
	int used = neighbour("v0", "10.3.0.2", mac);
	ck_assert_msg(rtnl_release(&hold), "it waited for the lock");
	ck_assert_int_eq(used, 0);
	ck_assert_mem_eq(mac, want, 6);
	wait_for(NETSTATE_NEIGHS); /* said all the same: the kernel probes it */
}
END_TEST

/* A state that was closed while its thread waits in the kernel leaves nothing behind. */
START_TEST(closed_while_others_hold_the_network)
{
	struct rtnl_hold hold;
	uint8_t mac[6];
	sh("ip neigh replace 10.3.0.2 lladdr 02:00:00:00:00:02 dev v0 nud permanent");
	ck_assert_int_eq(neighbour("v0", "10.3.0.2", mac), 0);
	sh("ip neigh replace 10.3.0.2 lladdr 02:00:00:00:00:02 dev v0 nud stale");
	wait_for(NETSTATE_NEIGHS);
	if (!holds_the_network(&hold))
		return untested("userfaultfd of the kernel's reads");
	neighbour("v0", "10.3.0.2", mac);
	netstate_close(n);
	n = NULL;
	ck_assert_msg(rtnl_release(&hold), "it waited for the lock");
}
END_TEST

/* What the kernel refuses, the thread says afterwards. */
START_TEST(neighbour_that_the_kernel_refuses)
{
	struct neigh_asker *asker = neigh_asker_new();
	struct ip_addr a = addr("fd03::2");
	struct neigh_ask failed;
	uint8_t mac[6];
	int ret;
	sh("echo 1 > /proc/sys/net/ipv6/conf/v0/disable_ipv6");
	netstate_on_readable(n);
	ck_assert(asker && neigh_asker_tell(asker, if_nametoindex("v0"), &a));
	neigh_asker_join(asker);
	ck_assert(neigh_asker_failure(asker, &failed));
	ck_assert_int_eq(failed.err, -EINVAL);
	ck_assert(ip_addr_equal(&failed.addr, &a));
	ck_assert(!neigh_asker_failure(asker, &failed));
	neigh_asker_free(asker);
	while ((ret = neighbour("v0", "fd03::2", mac)) == -EAGAIN)
		usleep(1000);
	ck_assert_int_eq(ret, -EHOSTUNREACH);
}
END_TEST

/* More than it keeps: who tells hears that it has no room. */
START_TEST(more_neighbours_than_wait)
{
	struct neigh_asker *asker = neigh_asker_new();
	struct ip_addr a = addr("10.3.0.2");
	struct rtnl_hold hold;
	unsigned told = 0;
	ck_assert(asker);
	if (!holds_the_network(&hold))
		return untested("userfaultfd of the kernel's reads");
	while (told < 1000 && neigh_asker_tell(asker, if_nametoindex("v0"), &a))
		told++;
	ck_assert_msg(rtnl_release(&hold), "it waited for the lock");
	neigh_asker_join(asker);
	ck_assert_uint_lt(told, 1000);
	ck_assert(neigh_asker_tell(asker, if_nametoindex("v0"), &a));
	neigh_asker_free(asker);
}
END_TEST

/* ---- a kernel that has no room ---- */

/* In place of the kernel behind the socket that asks: each request is answered by this error. */
struct refuser {
	pthread_t thread;
	int theirs, kernel; /* the other end; the socket to the real kernel */
	int err;
};

static void *refuser_main(void *arg)
{
	const struct refuser *r = arg;
	union {
		struct nlmsghdr h;
		char bytes[1024];
	} request;
	while (recv(r->theirs, &request, sizeof request, 0) > 0) {
		struct {
			struct nlmsghdr h;
			struct nlmsgerr e;
		} answer = {.h = {.nlmsg_len = sizeof answer, .nlmsg_type = NLMSG_ERROR, .nlmsg_seq = request.h.nlmsg_seq, .nlmsg_pid = request.h.nlmsg_pid},
			    .e = {.error = r->err, .msg = request.h}};
		send(r->theirs, &answer, sizeof answer, 0);
	}
	return NULL;
}

static void refuser_start(struct refuser *r, int err)
{
	int ends[2];
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
	*r = (struct refuser){.theirs = ends[1], .kernel = dup(n->talk_fd), .err = err};
	ck_assert_int_ge(dup2(ends[0], n->talk_fd), 0);
	close(ends[0]);
	ck_assert_int_eq(pthread_create(&r->thread, NULL, refuser_main, r), 0);
}

/* The kernel answers again. */
static void refuser_end(struct refuser *r)
{
	ck_assert_int_ge(dup2(r->kernel, n->talk_fd), 0);
	ck_assert_int_eq(pthread_join(r->thread, NULL), 0);
	close(r->kernel);
	close(r->theirs);
}

static const struct {
	int err, want;
} no_room_rows[] = {
	{-ENOBUFS, -ENOBUFS}, /* its table is full */
	{-ENOMEM, -ENOBUFS},
	{-EBUSY, -ENOBUFS},
	{-EINVAL, -EHOSTUNREACH}, /* it will never ask */
	{-ENODEV, -EHOSTUNREACH},
};

/* As soon as there is room again it is asked: nothing is held against a neighbour about which nobody was asked. */
START_TEST(neighbour_for_which_there_is_no_room)
{
	static const uint8_t want[6] = {2, 0, 0, 0, 0, 2};
	struct ip_addr a = addr("10.3.0.2");
	struct refuser r;
	uint8_t mac[6];
	int ifindex = if_nametoindex("v0"), ret;
	ck_assert_ptr_nonnull(netstate_link(n, ifindex));
	refuser_start(&r, no_room_rows[_i].err);
	ret = netstate_neighbour(n, ifindex, &a, true, mac);
	ck_assert_int_eq(ret, no_room_rows[_i].want);
	refuser_end(&r);
	if (ret == -EHOSTUNREACH)
		return;
	int64_t end_us = clock_now_us() + WAIT_MS * USEC_PER_MSEC;
	while ((ret = netstate_neighbour(n, ifindex, &a, true, mac)) == -ENOBUFS || ret == -EAGAIN) {
		netstate_on_readable(n);
		ck_assert_int_lt(clock_now_us(), end_us);
	}
	if (ret == -EHOSTUNREACH) /* a busy machine answered late */
		until_resolved("10.3.0.2", mac);
	ck_assert_mem_eq(mac, want, 6);
}
END_TEST

/*
 * Whoever asked for us told nobody that the kernel had no room: after a while it turns out that it has no entry. One
 * that it gave up says something else.
 */
START_TEST(neighbour_of_which_nothing_is_heard)
{
	struct ip_addr a = addr("10.3.0.77");
	struct refuser r;
	uint8_t mac[6];
	int ifindex = if_nametoindex("v0");
	ck_assert_ptr_nonnull(netstate_link(n, ifindex));
	refuser_start(&r, 0);
	ck_assert_int_eq(netstate_neighbour(n, ifindex, &a, true, mac), -EAGAIN);
	refuser_end(&r);
	for (size_t i = 0; i < NEIGHS_BYTES / sizeof *n->neighs; i++) /* the time has passed */
		n->neighs[i].resolving_since_us -= 60 * USEC_PER_SEC;
	ck_assert_int_eq(netstate_neighbour(n, ifindex, &a, true, mac), -ENOBUFS);
}
END_TEST

/* No rules were read: the ways are the kernel's until they are. */
START_TEST(rules_that_cannot_be_read)
{
	struct refuser r;
	struct route way = {0};
	add_dummy("d0", "10.1.0.1/24");
	refuser_start(&r, -ENOBUFS);
	ck_assert_ptr_nonnull(netstate_rules_why(n, false));
	refuser_end(&r);
	ck_assert_ptr_null(netstate_rules_why(n, false));
	ck_assert_int_eq(route("10.1.0.7", &way), 0);
	ck_assert_ptr_null(way.kernels);
}
END_TEST

START_TEST(interface_without_neighbours)
{
	uint8_t mac[6] = {1, 1, 1, 1, 1, 1};
	static const uint8_t zero[6];
	add_dummy("d0", "10.1.0.1/24");
	netstate_on_readable(n);
	ck_assert_int_eq(neighbour("d0", "10.1.0.7", mac), 0); /* NOARP */
	ck_assert_mem_eq(mac, zero, 6);
}
END_TEST

/* Neighbours of interfaces that nobody asked about do not wake us. (A carrier's news may come at any time.) */
START_TEST(other_interfaces_are_filtered)
{
	uint8_t mac[6];
	sh("ip link add v8 type veth peer name v9 && ip link set v8 up && ip link set v9 up");
	sh("ip neigh add 10.3.0.9 lladdr 02:00:00:00:00:09 dev v0 nud permanent");
	ck_assert_int_eq(neighbour("v0", "10.3.0.9", mac), 0);
	netstate_on_readable(n);
	sh("ip neigh add 10.8.0.9 lladdr 02:00:00:00:00:09 dev v8 nud permanent");
	ck_assert_uint_eq(netstate_on_readable(n) & NETSTATE_NEIGHS, 0);
	sh("ip neigh del 10.3.0.9 dev v0");
	ck_assert_uint_ne(netstate_on_readable(n) & NETSTATE_NEIGHS, 0);
}
END_TEST

START_TEST(link_down_forgets_neighbours)
{
	uint8_t mac[6];
	until_resolved("10.3.0.2", mac);
	sh("ip link set v0 down");
	netstate_on_readable(n);
	ck_assert_int_ne(neighbour("v0", "10.3.0.2", mac), 0);
}
END_TEST

/* More notifications than the socket holds: everything is asked again. */
START_TEST(lost_notifications)
{
	static const uint8_t moved[6] = {2, 0, 0, 0, 0, 3};
	struct ip_addr a = addr("10.4.0.1");
	uint8_t mac[6];
	until_resolved("10.3.0.2", mac);
	sh("for i in $(seq 4000); do echo neigh replace 10.3.0.99 lladdr 02:00:00:00:00:99 dev v0 "
	   "nud permanent;"
	   " echo neigh del 10.3.0.99 dev v0; done | ip -batch -");
	sh("ip addr add 10.4.0.1/24 dev v0 && "
	   "ip neigh replace 10.3.0.2 lladdr 02:00:00:00:00:03 dev v0 nud permanent");
	ck_assert_uint_eq(netstate_on_readable(n), 0xf);
	ck_assert(netstate_is_local(n, &a));
	ck_assert_int_eq(neighbour("v0", "10.3.0.2", mac), 0);
	ck_assert_mem_eq(mac, moved, 6);
	struct pollfd pfd = {.fd = netstate_fd(n), .events = POLLIN};
	ck_assert_int_eq(poll(&pfd, 1, 0), 0);
}
END_TEST

int main(void)
{
	skip_without_netns();
	Suite *suite = suite_create("netstate");
	TCase *alone = tcase_create("alone"), *pair = tcase_create("pair");
	tcase_add_checked_fixture(alone, setup, teardown);
	tcase_add_test(alone, addresses_follow_the_kernel);
	tcase_add_test(alone, loopback_is_local_and_not_served);
	tcase_add_test(alone, point_to_point_peer_is_not_local);
	tcase_add_test(alone, address_that_an_interface_has_more_than_once);
	tcase_add_test(alone, address_whose_peer_changes);
	tcase_add_test(alone, port_that_leaves_its_bridge_stays);
	tcase_add_test(alone, notified_while_others_hold_the_network);
	tcase_add_test(alone, a_pair_is_known_as_one);
	tcase_add_test(alone, addresses_while_others_hold_the_network);
	tcase_add_test(alone, links_while_others_hold_the_network);
	tcase_add_test(alone, default_interface);
	tcase_add_test(alone, routes_as_the_kernel_resolves_them);
	tcase_add_test(alone, errors_as_connect_gives_them);
	tcase_add_test(alone, routes_are_flushed);
	tcase_add_test(alone, route_that_expires);
	tcase_add_loop_test(alone, ways_of_the_kernel, 0, sizeof kernels_rows / sizeof kernels_rows[0]);
	tcase_add_test(alone, interfaces_of_a_vrf_are_the_kernels);
	tcase_add_test(alone, more_routes_than_the_cache_holds);
	tcase_add_checked_fixture(pair, setup_pair, teardown_pair);
	tcase_add_test(pair, neighbour_is_resolved);
	tcase_add_test(pair, neighbour_that_the_kernel_knew_before);
	tcase_add_test(pair, neighbour_that_is_not_there);
	tcase_add_test(pair, stale_neighbour_is_used_and_confirmed);
	tcase_add_test(pair, neighbour_is_used_while_others_hold_the_network);
	tcase_add_test(pair, closed_while_others_hold_the_network);
	tcase_add_test(pair, neighbour_that_the_kernel_refuses);
	tcase_add_test(pair, more_neighbours_than_wait);
	tcase_add_loop_test(pair, neighbour_for_which_there_is_no_room, 0, sizeof no_room_rows / sizeof no_room_rows[0]);
	tcase_add_test(pair, neighbour_of_which_nothing_is_heard);
	tcase_add_test(alone, rules_that_cannot_be_read);
	tcase_add_test(pair, interface_without_neighbours);
	tcase_add_test(pair, other_interfaces_are_filtered);
	tcase_add_test(pair, link_down_forgets_neighbours);
	tcase_add_test(pair, lost_notifications);
	tcase_set_timeout(alone, 30);
	tcase_set_timeout(pair, 30);
	suite_add_tcase(suite, alone);
	suite_add_tcase(suite, pair);
	return suite_main(suite);
}
