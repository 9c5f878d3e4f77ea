/*
 * Claiming an address. The order of RFC 5227 §2.1.1 for IPv4 and of RFC 4862 §5.4 for IPv6: wait a little, ask whether
 * somebody has it (three times, once), wait for who answers late, announce.
 *
 * Who loses an address does not try again: it was chosen by a person, who is told.
 */
#include "ip/host_internal.h"

#include <string.h>

#include "wire/arp.h"
#include "wire/ndisc.h"

#define PROBE_NUM           3 /* RFC 5227 §1.1 */
#define DAD_TRANSMITS       1 /* RFC 4862 §5.1: DupAddrDetectTransmits */
#define ANNOUNCE_NUM        2 /* RFC 5227 §1.1; of RFC 4861 §7.2.6 at most 3 */
#define ANNOUNCE_INTERVAL   (2 * USEC_PER_SEC)
#define DEFEND_INTERVAL     (10 * USEC_PER_SEC)

const struct host_times host_times_rfc = {
	.probe_wait = USEC_PER_SEC,
	.probe_min = USEC_PER_SEC,
	.probe_max = 2 * USEC_PER_SEC,
	.announce_wait = 2 * USEC_PER_SEC,
	.dad_wait = USEC_PER_SEC,
};
const struct host_times host_times_quick = {
	.probe_wait = USEC_PER_SEC / 10,
	.probe_min = USEC_PER_SEC / 5,
	.probe_max = 2 * USEC_PER_SEC / 5,
	.announce_wait = 2 * USEC_PER_SEC / 5,
	.dad_wait = USEC_PER_SEC,
};

static void step(struct host *h, struct host_addr *a, int64_t at)
{
	a->at_us = at;
	host_due(h, at);
}

void host_lead(struct host *h, int64_t now)
{
	h->silent = false;
	host_mld_join(h, now);
	for (unsigned i = 0; i < h->n_addrs; i++) {
		struct host_addr *a = &h->addrs[i];
		if (a->state == HOST_ADDR_LOST)
			continue;
		if (!h->has_eth) { /* nobody to ask, nobody to tell */
			h->events |= a->state == HOST_ADDR_PROBING ? HOST_EVENT_ADDRESSES : 0;
			a->state = HOST_ADDR_OURS;
			continue;
		}
		a->sent = 0;
		step(h, a, now + (a->state == HOST_ADDR_PROBING ? host_random(h, 0, h->times->probe_wait) : 0));
	}
}

void host_follow(struct host *h, unsigned i, enum host_addr_state state)
{
	if (i >= h->n_addrs || !h->silent || h->addrs[i].state == state)
		return;
	h->addrs[i].state = state;
	h->events |= HOST_EVENT_ADDRESSES;
}

static void probe(struct host *h, const struct host_addr *a)
{
	static const uint8_t nobody[6];
	if (ip_addr_is_v4(&a->addr))
		host_send_arp(h, ARP_REQUEST, host_broadcast_mac, NULL, &a->addr, nobody);
	else
		host_send_solicitation(h, NULL, &a->addr, NULL);
}

static void announce(struct host *h, const struct host_addr *a)
{
	static const uint8_t nobody[6];
	if (ip_addr_is_v4(&a->addr))
		host_send_arp(h, ARP_REQUEST, host_broadcast_mac, &a->addr, &a->addr, nobody); /* RFC 5227 §3: a request, not a reply */
	else
		host_send_advertisement(h, &a->addr, NULL, NULL, NDISC_OVERRIDE);
}

static void tick_probing(struct host *h, struct host_addr *a, int64_t now)
{
	bool v4 = ip_addr_is_v4(&a->addr);
	unsigned n = v4 ? PROBE_NUM : DAD_TRANSMITS;
	if (a->sent < n) {
		probe(h, a);
		a->sent++;
		if (a->sent < n)
			step(h, a, now + host_random(h, h->times->probe_min, h->times->probe_max));
		else
			step(h, a, now + (v4 ? h->times->announce_wait : h->times->dad_wait));
		return;
	}
	a->state = HOST_ADDR_OURS;
	a->sent = 0;
	h->events |= HOST_EVENT_ADDRESSES;
}

void host_claim_tick(struct host *h, struct host_addr *a, int64_t now)
{
	if (a->at_us > now)
		return;
	if (a->state == HOST_ADDR_PROBING) {
		tick_probing(h, a, now);
		if (a->state == HOST_ADDR_PROBING)
			return;
	}
	announce(h, a);
	a->sent++;
	step(h, a, a->sent < ANNOUNCE_NUM ? now + ANNOUNCE_INTERVAL : TIME_NEVER);
}

static void lose(struct host *h, struct host_addr *a)
{
	a->state = HOST_ADDR_LOST;
	a->at_us = TIME_NEVER;
	h->events |= HOST_EVENT_ADDRESSES;
}

void host_give_up(struct host *h, unsigned i)
{
	if (h->addrs[i].state != HOST_ADDR_LOST)
		lose(h, &h->addrs[i]);
}

void host_claim_conflict(struct host *h, struct host_addr *a, int64_t now, const uint8_t mac[6])
{
	if (a->state == HOST_ADDR_LOST)
		return;
	h->counters[HOST_Conflicts]++;
	memcpy(a->rival, mac, sizeof a->rival);
	a->contested = true;
	if (a->state == HOST_ADDR_PROBING) {
		if (!h->silent) /* otherwise it is for who probes to say */
			lose(h, a);
		return;
	}
	bool defended = a->defended_us >= 0 && now - a->defended_us < DEFEND_INTERVAL;
	if (defended && ip_addr_is_v4(&a->addr)) { /* RFC 5227 §2.4(b); IPv6 knows no such end once the address is valid */
		lose(h, a);
		return;
	}
	h->events |= HOST_EVENT_CONTESTED;
	if (defended)
		return;
	a->defended_us = now;
	h->counters[HOST_Defended]++;
	if (!h->silent)
		announce(h, a);
}
