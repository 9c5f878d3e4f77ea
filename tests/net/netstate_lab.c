/* See netstate_lab.h. */
#include "tests/net/netstate_lab.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/time.h"
#include "kernel/netstate_internal.h"
#include "tests/net/rtnl_hold.h"

struct netstate *n;

struct ip_addr addr(const char *text)
{
	struct ip_addr a;
	ck_assert_int_eq(ip_addr_parse(text, &a), 0);
	return a;
}

void netstate_setup(void)
{
	ck_assert(netns_enter());
	ck_assert_int_eq(netstate_open(&n), 0);
}

void netstate_teardown(void)
{
	netstate_close(n);
}

bool holds_the_network(struct rtnl_hold *h)
{
	if (rtnl_hold(h))
		return true;
	ck_assert_msg(errno == EPERM || errno == ENOSYS, "the lock of the network: %s", strerror(errno));
	return false;
}

unsigned wait_for(unsigned bits)
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

int neighbour(const char *ifname, const char *to, uint8_t mac[6])
{
	struct ip_addr a = addr(to);
	return netstate_neighbour(n, if_nametoindex(ifname), &a, false, mac);
}

int route_from(const char *to, const char *from, int oif, uint32_t mark, struct route *out)
{
	struct ip_addr dst = addr(to), src = addr(from);
	return netstate_route(n, &dst, &src, oif, mark, out);
}

int route(const char *to, struct route *out)
{
	return route_from(to, strchr(to, ':') ? "::" : "0.0.0.0", 0, 0, out);
}

void add_sink(const char *name)
{
	sh("ip link add %s type dummy 2>/dev/null || ip link add %s type ifb", name, name);
}

void add_dummy(const char *name, const char *address)
{
	add_sink(name);
	sh("ip addr add %s dev %s && ip link set %s up", address, name, name);
}

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

void refuser_start(struct refuser *r, int err)
{
	int ends[2];
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
	*r = (struct refuser){.theirs = ends[1], .kernel = dup(n->talk_fd), .err = err};
	ck_assert_int_ge(dup2(ends[0], n->talk_fd), 0);
	close(ends[0]);
	ck_assert_int_eq(pthread_create(&r->thread, NULL, refuser_main, r), 0);
}

void refuser_end(struct refuser *r)
{
	ck_assert_int_ge(dup2(r->kernel, n->talk_fd), 0);
	ck_assert_int_eq(pthread_join(r->thread, NULL), 0);
	close(r->kernel);
	close(r->theirs);
}
