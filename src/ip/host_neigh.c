/*
 * The neighbour cache: RFC 4861 §7.3.2's states, for ARP as well (RFC 1122 §2.3.2.1 wants entries that time out, by
 * unicast polls among other ways).
 *
 * INCOMPLETE: asked of all, up to MAX_MULTICAST_SOLICIT times; nobody answers: FAILED, which answers for everybody for
 * a second. REACHABLE: an answer to a question of ours, for the random time of RFC 4861 §6.3.4 about 30 s; the state's
 * end is looked at when the entry is used. STALE: known, not lately confirmed. Its use begins DELAY: five seconds in
 * which a protocol above might confirm it; then PROBE asks it alone.
 *
 * A neighbour that nobody here asked for has an entry only if it talked to us, and gives way to those that we ask for:
 * strangers cannot push ours out.
 */
#include "ip/host_internal.h"

#include <errno.h>
#include <string.h>

#include "base/siphash.h"
#include "wire/arp.h"

#define MAX_MULTICAST_SOLICIT   3 /* RFC 4861 §10 */
#define MAX_UNICAST_SOLICIT     3
#define RETRANS_TIMER           USEC_PER_SEC
#define REACHABLE_TIME          (30 * USEC_PER_SEC)
#define DELAY_FIRST_PROBE_TIME  (5 * USEC_PER_SEC)
#define FAILED_HOLD             USEC_PER_SEC /* as Linux holds dead_neigh packets back: a new question after that */

const char *neigh_state_name(enum neigh_state s)
{
	static const char *const names[] = {"NONE", "INCOMPLETE", "REACHABLE", "STALE", "DELAY", "PROBE", "FAILED"};
	return names[s];
}

static struct neigh *set_of(struct host *h, const struct ip_addr *a)
{
	return &h->neighs[siphash24(a, sizeof *a, h->secret) % HOST_NEIGH_SETS * HOST_NEIGH_WAYS];
}

static struct neigh *find(struct host *h, const struct ip_addr *a)
{
	struct neigh *n = set_of(h, a);
	for (unsigned i = 0; i < HOST_NEIGH_WAYS; i++)
		if (n[i].state != NEIGH_NONE && ip_addr_equal(&n[i].addr, a))
			return &n[i];
	return NULL;
}

/* Who goes: nobody, a stranger, or (for one that we ask for) the least lately used. NULL: none may. */
static struct neigh *make_room(struct host *h, const struct ip_addr *a, bool wanted)
{
	struct neigh *set = set_of(h, a), *oldest = NULL;
	for (unsigned i = 0; i < HOST_NEIGH_WAYS; i++) {
		struct neigh *n = &set[i];
		if (n->state == NEIGH_NONE)
			return n;
		if (n->wanted && !wanted)
			continue;
		if (!oldest || (oldest->wanted && !n->wanted) || (oldest->wanted == n->wanted && n->used_us < oldest->used_us))
			oldest = n;
	}
	h->counters[HOST_TableFull]++;
	return oldest;
}

static struct neigh *add(struct host *h, int64_t now, const struct ip_addr *a, bool wanted)
{
	struct neigh *n = make_room(h, a, wanted);
	if (n)
		*n = (struct neigh){.addr = *a, .wanted = wanted, .used_us = now};
	return n;
}

static void enter(struct host *h, struct neigh *n, enum neigh_state state, int64_t end)
{
	n->state = state;
	n->sent = 0;
	n->at_us = end;
	if (state == NEIGH_INCOMPLETE || state == NEIGH_DELAY || state == NEIGH_PROBE)
		host_due(h, end);
}

/* RFC 4861 §6.3.4: between half and one and a half times. */
static void becomes_reachable(struct host *h, struct neigh *n, int64_t now)
{
	enter(h, n, NEIGH_REACHABLE, now + host_random(h, REACHABLE_TIME / 2, REACHABLE_TIME * 3 / 2));
}

static void ask(struct host *h, struct neigh *n, int64_t now, bool alone)
{
	static const uint8_t nobody[6];
	if (ip_addr_is_v4(&n->addr))
		host_send_arp(h, ARP_REQUEST, alone ? n->mac : host_broadcast_mac, &n->src, &n->addr, nobody);
	else
		host_send_solicitation(h, &n->src, &n->addr, alone ? n->mac : NULL);
	h->counters[HOST_Solicited]++;
	n->sent++;
	n->at_us = now + RETRANS_TIMER;
	host_due(h, n->at_us);
}

static void fail(struct host *h, struct neigh *n, int64_t until)
{
	enter(h, n, NEIGH_FAILED, until);
	h->counters[HOST_Unreachable]++;
	h->events |= HOST_EVENT_NEIGHBOURS;
}

void host_neigh_tick(struct host *h, struct neigh *n, int64_t now)
{
	bool waits = n->state == NEIGH_INCOMPLETE || n->state == NEIGH_DELAY || n->state == NEIGH_PROBE;
	if (!waits)
		return;
	if (n->at_us > now) {
		host_due(h, n->at_us);
		return;
	}
	const struct host_addr *own = host_address(h, &n->src);
	if (!own || own->state != HOST_ADDR_OURS) { /* nobody may ask from there any more; whoever needs it asks anew */
		fail(h, n, now);
		return;
	}
	if (n->state == NEIGH_DELAY)
		enter(h, n, NEIGH_PROBE, now);
	if (n->state == NEIGH_INCOMPLETE && n->sent >= MAX_MULTICAST_SOLICIT)
		fail(h, n, now + FAILED_HOLD);
	else if (n->state == NEIGH_PROBE && n->sent >= MAX_UNICAST_SOLICIT)
		fail(h, n, now); /* RFC 4861 §7.3.3: as if there were no entry; whoever needs it asks all again */
	else
		ask(h, n, now, n->state == NEIGH_PROBE);
}

int host_neighbour(struct host *h, int64_t now, const struct ip_addr *nexthop, const struct ip_addr *src, uint8_t mac[6])
{
	const struct host_addr *own = host_address(h, src);
	if (!own || own->state == HOST_ADDR_LOST)
		return -EADDRNOTAVAIL;
	if (own->state == HOST_ADDR_PROBING)
		return -EAGAIN;
	if (!h->has_eth) {
		memset(mac, 0, 6);
		return 0;
	}
	struct neigh *n = find(h, nexthop);
	if (!n)
		n = add(h, now, nexthop, true);
	n->wanted = true;
	n->used_us = now;
	n->src = *src;
	if (n->state == NEIGH_FAILED && now < n->at_us)
		return -EHOSTUNREACH;
	if (n->state == NEIGH_NONE || n->state == NEIGH_FAILED) {
		enter(h, n, NEIGH_INCOMPLETE, now);
		ask(h, n, now, false);
	}
	if (n->state == NEIGH_INCOMPLETE)
		return -EAGAIN;
	if (n->state == NEIGH_REACHABLE && now >= n->at_us)
		enter(h, n, NEIGH_STALE, TIME_NEVER);
	if (n->state == NEIGH_STALE)
		enter(h, n, NEIGH_DELAY, now + DELAY_FIRST_PROBE_TIME);
	memcpy(mac, n->mac, 6);
	return 0;
}

static void moved(struct host *h, struct neigh *n, const uint8_t mac[6])
{
	memcpy(n->mac, mac, 6);
	h->events |= HOST_EVENT_NEIGHBOURS;
}

void host_neigh_heard(struct host *h, int64_t now, const struct ip_addr *addr, const uint8_t *mac, enum neigh_news news, bool override, bool create)
{
	struct neigh *n = find(h, addr);
	if (!n && create)
		n = add(h, now, addr, false);
	if (!n)
		return;
	bool unknown = n->state == NEIGH_NONE || n->state == NEIGH_INCOMPLETE || n->state == NEIGH_FAILED;
	if (!mac && unknown)
		return;
	bool same = !unknown && (!mac || memcmp(n->mac, mac, 6) == 0);
	if (!unknown && !same && !override) { /* RFC 4861 §7.2.5 I */
		if (n->state == NEIGH_REACHABLE)
			enter(h, n, NEIGH_STALE, TIME_NEVER);
		return;
	}
	if (!same)
		moved(h, n, mac);
	if (news == NEIGH_ANSWERS)
		becomes_reachable(h, n, now);
	else if (!same)
		enter(h, n, NEIGH_STALE, TIME_NEVER);
}
