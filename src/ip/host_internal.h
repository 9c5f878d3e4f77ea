/* Shared by host*.c only. */
#ifndef FINESSE_IP_HOST_INTERNAL_H
#define FINESSE_IP_HOST_INTERNAL_H

#include "ip/host.h"

extern const uint8_t host_broadcast_mac[6];

/* An even spread over [least, most]; nobody without the secret guesses it. */
int64_t host_random(struct host *h, int64_t least, int64_t most);
static inline void host_due(struct host *h, int64_t at)
{
	h->next_us = min_time(h->next_us, at);
}
/* Frames that are whole. `sender`/`src` NULL: a probe's, 0.0.0.0 or ::. */
void host_send_arp(struct host *h, uint16_t op, const uint8_t dst_mac[6], const struct ip_addr *sender, const struct ip_addr *target, const uint8_t target_mac[6]);
/* To `mac`, or with NULL to the target's group. */
void host_send_solicitation(struct host *h, const struct ip_addr *src, const struct ip_addr *target, const uint8_t *mac);
/* To `dst` at `mac`; NULL, NULL: to all nodes. */
void host_send_advertisement(struct host *h, const struct ip_addr *target, const struct ip_addr *dst, const uint8_t *mac, uint8_t flags);

/* host_claim.c */
void host_claim_tick(struct host *h, struct host_addr *a, int64_t now);
/* Somebody else, `mac`, uses or probes for `a`. */
void host_claim_conflict(struct host *h, struct host_addr *a, int64_t now, const uint8_t mac[6]);

/* host_neigh.c */
enum neigh_news { NEIGH_CLAIMS /* it says so, unasked */, NEIGH_ANSWERS /* solicited */ };
/*
 * `override`: what it says now counts more than what it said (ARP: always). `create`: it talks to us, so we shall need
 * it. `mac` NULL: it did not say.
 */
void host_neigh_heard(struct host *h, int64_t now, const struct ip_addr *addr, const uint8_t *mac, enum neigh_news news, bool override, bool create);
void host_neigh_tick(struct host *h, struct neigh *n, int64_t now);

/* host_mld.c */
void host_mld_join(struct host *h, int64_t now);
void host_mld_tick(struct host *h, int64_t now);
/* An IPv6 packet; true: it was a query, or one that is none. */
bool host_mld_input(struct host *h, int64_t now, const uint8_t *ip, size_t len);

/* host_echo.c: an ICMP or ICMPv6 echo request to one of ours is answered. False: it is none. */
bool host_echo_v4(struct host *h, int64_t now, const uint8_t *frame, size_t len);
bool host_echo_v6(struct host *h, int64_t now, const uint8_t *frame, size_t len);

#endif
