/* kernel/netstate: addresses and interfaces, against a real kernel. */
#include "tests/net/netstate_lab.h"
#include "tests/suite.h"
#include "tests/untested.h"

#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/utsname.h>

#include "kernel/netstate_internal.h"
#include "tests/net/rtnl_hold.h"

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

int main(void)
{
	skip_without_netns();
	Suite *suite = suite_create("netstate");
	TCase *tc = tcase_create("interfaces");
	tcase_add_checked_fixture(tc, netstate_setup, netstate_teardown);
	tcase_add_test(tc, addresses_follow_the_kernel);
	tcase_add_test(tc, loopback_is_local_and_not_served);
	tcase_add_test(tc, point_to_point_peer_is_not_local);
	tcase_add_test(tc, address_that_an_interface_has_more_than_once);
	tcase_add_test(tc, address_whose_peer_changes);
	tcase_add_test(tc, port_that_leaves_its_bridge_stays);
	tcase_add_test(tc, notified_while_others_hold_the_network);
	tcase_add_test(tc, a_pair_is_known_as_one);
	tcase_add_test(tc, addresses_while_others_hold_the_network);
	tcase_add_test(tc, links_while_others_hold_the_network);
	tcase_add_test(tc, default_interface);
	tcase_add_test(tc, interfaces_of_a_vrf_are_the_kernels);
	tcase_set_timeout(tc, 30);
	suite_add_tcase(suite, tc);
	return suite_main(suite);
}
