/* kernel/netstate: neighbours, against a real kernel. */
#include "tests/net/netstate_lab.h"
#include "tests/suite.h"
#include "tests/untested.h"

#include <net/if.h>
#include <poll.h>

#include "base/time.h"
#include "kernel/neigh_asker.h"
#include "kernel/netstate_internal.h"
#include "tests/net/rtnl_hold.h"

/* ---- neighbours over a veth pair ---- */

static struct netns_peer peer;

static void setup_pair(void)
{
	netstate_setup();
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
	netstate_teardown();
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
	Suite *suite = suite_create("netstate_neighbours");
	TCase *alone = tcase_create("alone"), *pair = tcase_create("pair");
	tcase_add_checked_fixture(alone, netstate_setup, netstate_teardown);
	tcase_add_test(alone, interface_without_neighbours);
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
	tcase_add_test(pair, other_interfaces_are_filtered);
	tcase_add_test(pair, link_down_forgets_neighbours);
	tcase_add_test(pair, lost_notifications);
	tcase_set_timeout(alone, 30);
	tcase_set_timeout(pair, 30);
	suite_add_tcase(suite, alone);
	suite_add_tcase(suite, pair);
	return suite_main(suite);
}
