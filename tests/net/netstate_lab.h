/* What the tests of kernel/netstate share. Each test has a real kernel's network namespace to itself. */
#ifndef FINESSE_TESTS_NETSTATE_LAB_H
#define FINESSE_TESTS_NETSTATE_LAB_H

#include <check.h>

#include <pthread.h>
#include <stdbool.h>

#include "kernel/netstate.h"
#include "tests/net/netns_test.h"

#define WAIT_MS 5000 /* for what must come; on failure only */

struct rtnl_hold;

extern struct netstate *n; /* under test; the fixture below opens and closes it */

void netstate_setup(void);
void netstate_teardown(void);

struct ip_addr addr(const char *text);

/* False: who runs this may not, and nothing can be shown. */
bool holds_the_network(struct rtnl_hold *h);

/* Until one of `bits` is reported. */
unsigned wait_for(unsigned bits);

/* As netstate_neighbour and netstate_route: 0 or -errno. */
int neighbour(const char *ifname, const char *to, uint8_t mac[6]);
int route_from(const char *to, const char *from, int oif, uint32_t mark, struct route *out);
int route(const char *to, struct route *out);

/* An interface that leads nowhere and has a carrier (ifb: some kernels have no dummy). */
void add_sink(const char *name);

/* … that is up and has this address. */
void add_dummy(const char *name, const char *address);

#define ck_assert_addr(a, text)                                                                    \
	do {                                                                                       \
		char str_[IP_ADDR_STRLEN];                                                         \
		struct ip_addr a_ = (a);                                                           \
		ck_assert_str_eq(ip_addr_format(&a_, str_), text);                                 \
	} while (0)

/* In place of the kernel behind the socket that asks: each request is answered by this error. */
struct refuser {
	pthread_t thread;
	int theirs, kernel; /* the other end; the socket to the real kernel */
	int err;
};

void refuser_start(struct refuser *r, int err);

/* The kernel answers again. */
void refuser_end(struct refuser *r);

#endif
