/*
 * Path MTUs that routers told us of (RFC 1191, RFC 8201), by remote address.
 *
 * Linux keeps them as exceptions of a route, for ten minutes. The kernel learns nothing of our connections' ICMP
 * messages, since it has no socket that they concern; so the engine keeps its own, for the connections that are open
 * and for those to come.
 *
 * Owns one table of fixed size (PMTU_SETS * PMTU_WAYS entries, 40 KiB), made when the first is learned. Only an error
 * whose quote is in flight on a connection of ours gets in; when a set is full, the entry that expires first goes. An
 * entry is never longer than PMTU_EXPIRES_US old: then the path is tried anew with what interface and route allow.
 */
#include "socket/engine.h"

#include "base/siphash.h"

#define PMTU_SETS       256 /* a power of two */
#define PMTU_WAYS       4
#define PMTU_EXPIRES_US (600 * USEC_PER_SEC) /* Linux's mtu_expires; RFC 1191 §6.3 and RFC 8201 §4 recommend ten minutes */

struct pmtu {
	struct ip_addr raddr;
	int64_t until_us;
	uint32_t mtu; /* 0: empty */
	bool locked;
};

static struct pmtu *set_of(struct engine *e, const struct ip_addr *raddr)
{
	return &e->pmtus[(siphash13(raddr, sizeof *raddr, e->hash_secret) & (PMTU_SETS - 1)) * PMTU_WAYS];
}

static struct pmtu *find(struct engine *e, const struct ip_addr *raddr)
{
	struct pmtu *set = set_of(e, raddr);
	for (unsigned i = 0; i < PMTU_WAYS; i++)
		if (set[i].mtu && ip_addr_equal(&set[i].raddr, raddr))
			return &set[i];
	return NULL;
}

static struct pmtu *victim(struct engine *e, const struct ip_addr *raddr)
{
	struct pmtu *set = set_of(e, raddr), *v = set;
	for (unsigned i = 1; i < PMTU_WAYS; i++)
		if (set[i].until_us < v->until_us)
			v = &set[i];
	return v;
}

void pmtu_learn(struct engine *e, const struct ip_addr *raddr, uint32_t mtu)
{
	bool locked = ip_addr_is_v4(raddr) && mtu < PMTU_MIN_V4;
	if (locked)
		mtu = PMTU_MIN_V4;
	if (!e->pmtus)
		e->pmtus = engine_alloc(e, PMTU_SETS * PMTU_WAYS * sizeof *e->pmtus);
	if (!e->pmtus)
		return; /* the connection itself knows */
	struct pmtu *p = find(e, raddr);
	if (p && p->until_us > e->now && p->mtu < mtu)
		return; /* an older packet met another router */
	if (!p)
		p = victim(e, raddr);
	*p = (struct pmtu){.raddr = *raddr, .until_us = e->now + PMTU_EXPIRES_US, .mtu = mtu, .locked = locked};
	e->net_generation++; /* every destination looks again */
}

uint32_t pmtu_get(struct engine *e, const struct ip_addr *raddr, int64_t *until_us, bool *locked)
{
	struct pmtu *p = e->pmtus ? find(e, raddr) : NULL;
	if (!p || p->until_us <= e->now)
		return 0;
	*until_us = p->until_us;
	*locked = p->locked;
	return p->mtu;
}
