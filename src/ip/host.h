/*
 * A host without a kernel: what an address of our own (own-address mode) needs beside TCP.
 *
 *  - Claims (host_claim.c): before an address is used nobody may have it, and it is told and defended afterwards. IPv4:
 *    RFC 5227 §2.1 (probes), §2.3
 *    (announcements), §2.4(b) (defend once in DEFEND_INTERVAL, else give up). IPv6: RFC 4862 §5.4 (duplicate address
 *    detection), RFC 4861 §7.2.6 (unsolicited advertisements).
 *  - Neighbours (host_neigh.c): the cache with the states of RFC 4861 §7.3.2 for both families; ARP (RFC 826) is to
 *    IPv4 what solicitations are to IPv6.
 *  - Groups (host_mld.c): the solicited-node groups are reported (RFC 3810, RFC 2710), so that bridges that snoop let
 *    solicitations through.
 *  - Answers (host.c, host_echo.c): ARP requests, solicitations (RFC 4861 §7.2.4), echo requests (RFC 792, RFC 1122
 *    §3.2.2.6, RFC 4443 §4.2).
 *  - Routes: the prefixes of the addresses are on the link, all else goes to the gateway of its family.
 *
 * Pure: no I/O, clock, memory or errno. It is told the time (monotonic microseconds), is given frames, and hands frames
 * to `out`. Everything has a fixed size. The caller serializes (the engine's lock).
 *
 * No packet waits here (RFC 4861 §7.2.2 wants at least one queued): the engine's connections wait instead, and build
 * their segments when the neighbour is known.
 */
#ifndef FINESSE_IP_HOST_H
#define FINESSE_IP_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/budget.h"
#include "base/time.h"

#define HOST_ADDRS_MAX 16

/* Neighbours: sets of a few ways, picked by a keyed hash, so that memory and search are bounded. */
#define HOST_NEIGH_WAYS 4u
#define HOST_NEIGH_SETS 128u

enum host_counter {
#define HOST_COUNTER(name, text) HOST_##name,
#include "ip/host_counter.def"
#undef HOST_COUNTER
	HOST_COUNTERS
};
const char *host_counter_name(enum host_counter c);

/* Constants of the protocols that differ between careful and quick starts. Microseconds. */
struct host_times {
	int64_t probe_wait, probe_min, probe_max, announce_wait; /* RFC 5227 §1.1 */
	int64_t dad_wait;                                        /* RFC 4861 §10: RETRANS_TIMER, after the one probe of RFC 4862 §5.1 */
};
extern const struct host_times host_times_rfc;
/*
 * RFC 5227 was made for networks that begin to forward seconds after a link comes up; on a link that is up, who has the
 * address answers within milliseconds. A fifth of its times: an address can be used after about a second, as with IPv6.
 */
extern const struct host_times host_times_quick;

enum host_addr_state {
	HOST_ADDR_PROBING, /* may not be used: RFC 5227 "probing", RFC 4862 "tentative" */
	HOST_ADDR_OURS,    /* used, answered for, and announced as often as is due */
	HOST_ADDR_LOST,    /* somebody else has it: never used again */
};

struct host_addr {
	struct ip_addr addr;
	uint8_t prefix_len; /* of the address's own family */
	enum host_addr_state state;
	unsigned sent;        /* probes, then announcements */
	int64_t at_us;        /* when the next step is due; TIME_NEVER: none */
	int64_t defended_us;  /* when it was last defended; -1: never */
	uint8_t rival[6];     /* whoever used it last, if `contested` */
	bool contested;
};

enum neigh_state { NEIGH_NONE, NEIGH_INCOMPLETE, NEIGH_REACHABLE, NEIGH_STALE, NEIGH_DELAY, NEIGH_PROBE, NEIGH_FAILED };
const char *neigh_state_name(enum neigh_state s);

struct neigh {
	struct ip_addr addr, src; /* src: which address of ours asks */
	uint8_t mac[6];
	enum neigh_state state;
	bool wanted;      /* we asked for it; otherwise the neighbour told us of itself, and it makes room for those that we ask for */
	unsigned sent;    /* requests since the state began */
	int64_t at_us;    /* end of the state */
	int64_t used_us;
};

/* Frames of ours. `payload` (NULL: none) follows `hdr`; neither is valid after the call. */
struct host_out {
	void (*frame)(struct host_out *o, const uint8_t *hdr, size_t hdr_len, const uint8_t *payload, size_t payload_len);
};
#define HOST_OUT_HDR_MAX 86 /* bytes of hdr: the largest is a solicitation */

/* What happened; host_take_events. */
#define HOST_EVENT_NEIGHBOURS 0x1 /* one became known, moved or could not be reached */
#define HOST_EVENT_ADDRESSES  0x2 /* one may be used, or is lost */
#define HOST_EVENT_CONTESTED  0x4 /* somebody uses one of ours, and we keep it */

struct host {
	struct host_out *out;
	const struct host_times *times;
	uint8_t mac[6];
	bool has_eth; /* without link-layer addresses there is nobody to resolve or to conflict with */
	bool silent;  /* another process of ours claims, announces and answers */
	struct host_addr addrs[HOST_ADDRS_MAX];
	unsigned n_addrs;
	struct ip_addr gateway[2]; /* of IPv4 and IPv6; any: none */
	uint8_t secret[16];
	uint64_t drawn; /* random numbers */
	struct budget echoes;
	struct neigh neighs[HOST_NEIGH_SETS * HOST_NEIGH_WAYS];
	int64_t next_us; /* nothing is due before */
	int64_t report_us, reported_us; /* multicast listener reports (host_mld.c): the next, TIME_NEVER: none; the last */
	unsigned joins;  /* of these, those that nobody asked for */
	bool asked_v1;   /* … the others: by a querier of version 1 */
	unsigned events;
	uint16_t ident; /* of IPv4 packets of ours that are no TCP */
	uint64_t counters[HOST_COUNTERS];
};

/* `secret`: nobody else's. With `silent` no address is probed for: host_follow says what the one who does found. */
void host_init(struct host *h, struct host_out *out, const struct host_times *times, const uint8_t mac[6], bool has_eth, const uint8_t secret[16]);
/*
 * -E2BIG, -EEXIST, -EINVAL: no host's address (group, loopback, unspecified), a network's or a broadcast one (RFC 1122
 * §3.2.1.3), or a prefix that is too long.
 */
int host_add_address(struct host *h, const struct ip_addr *addr, unsigned prefix_len);
/* One per family. -EINVAL: no host's address; -ENETUNREACH: no prefix of ours has it. */
int host_set_gateway(struct host *h, const struct ip_addr *gateway);
/*
 * Begins to claim what is not claimed yet, and to answer. An address that is in use already (host_follow) is announced
 * again.
 */
void host_lead(struct host *h, int64_t now);
/* Somebody else claims for us: `addrs[i]` is in this state. */
void host_follow(struct host *h, unsigned i, enum host_addr_state state);

/* It is not ours any more, whatever the link says: somebody found out by another way. */
void host_give_up(struct host *h, unsigned i);

/* NULL: not one of ours. */
struct host_addr *host_address(struct host *h, const struct ip_addr *a);
/*
 * 0: `nexthop` is to be asked for, and `src` is the address of ours to use (`local`, if it is given). -ENETUNREACH:
 * neither on a prefix of ours nor is there a gateway.
 * -EADDRNOTAVAIL: `local` is not ours. One of ours as a destination: -EINVAL.
 */
int host_route(struct host *h, const struct ip_addr *dst, const struct ip_addr *local, struct ip_addr *src, struct ip_addr *nexthop);
/*
 * 0 and the MAC. -EAGAIN: it is being asked for, or `src` may not be used yet; events tell. -EHOSTUNREACH: nobody
 * answers. -EADDRNOTAVAIL: `src` is not ours (any more).
 */
int host_neighbour(struct host *h, int64_t now, const struct ip_addr *nexthop, const struct ip_addr *src, uint8_t mac[6]);

/*
 * A frame, link header first. True: it was the host's business, or nobody's. False: an IP packet for one of our
 * addresses, for the engine. Our own frames may come back: they are nobody's.
 */
bool host_input(struct host *h, int64_t now, const uint8_t *frame, size_t len);
void host_tick(struct host *h, int64_t now);
static inline int64_t host_deadline(const struct host *h)
{
	return h->next_us;
}
unsigned host_take_events(struct host *h);

#endif
