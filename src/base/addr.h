/*
 * Addresses and 4-tuples, family-neutral: every layer above wire/ speaks these.
 *
 * An IPv4 address is held as its IPv4-mapped IPv6 address, ::ffff:a.b.c.d (RFC 4291 §2.5.5.2), so
 * that one comparison and one hash serve both families. Ports are in host byte order. Pure
 * values: no ownership, no failure, safe in any thread.
 */
#ifndef FINESSE_BASE_ADDR_H
#define FINESSE_BASE_ADDR_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct ip_addr {
	uint8_t b[16]; /* network byte order */
};

/* One connection as this host sees it: local end first. */
struct flow_key {
	struct ip_addr laddr, raddr;
	uint16_t lport, rport;
};

#define IP_ADDR_STRLEN 46 /* INET6_ADDRSTRLEN, without the header */

static inline bool ip_addr_is_v4(const struct ip_addr *a)
{
	static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	return memcmp(a->b, prefix, sizeof prefix) == 0;
}

static inline bool ip_addr_equal(const struct ip_addr *a, const struct ip_addr *b)
{
	return memcmp(a->b, b->b, sizeof a->b) == 0;
}

/* `v4` points at 4 bytes, network byte order. */
static inline struct ip_addr ip_addr_from_v4(const void *v4)
{
	struct ip_addr a = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}};
	memcpy(a.b + 12, v4, 4);
	return a;
}

/* `v6` points at 16 bytes, network byte order. */
static inline struct ip_addr ip_addr_from_v6(const void *v6)
{
	struct ip_addr a;
	memcpy(a.b, v6, 16);
	return a;
}

/* 0.0.0.0 (mapped) or :: — the wildcard of either family. */
static inline bool ip_addr_is_any(const struct ip_addr *a)
{
	static const uint8_t zero[16];
	return memcmp(a->b, zero, 16) == 0 || (ip_addr_is_v4(a) && memcmp(a->b + 12, zero, 4) == 0);
}

/* 127.0.0.0/8 (mapped too) or ::1. */
static inline bool ip_addr_is_loopback(const struct ip_addr *a)
{
	static const uint8_t one[16] = {[15] = 1};
	return (ip_addr_is_v4(a) && a->b[12] == 127) || memcmp(a->b, one, 16) == 0;
}

static inline bool flow_key_equal(const struct flow_key *a, const struct flow_key *b)
{
	return a->lport == b->lport && a->rport == b->rport && ip_addr_equal(&a->laddr, &b->laddr) &&
	       ip_addr_equal(&a->raddr, &b->raddr);
}

/* Both ends are IPv4. */
static inline bool flow_key_is_v4(const struct flow_key *key)
{
	return ip_addr_is_v4(&key->raddr) && ip_addr_is_v4(&key->laddr);
}

/* May a host have it? Not: unspecified, loopback, a group, broadcast, reserved. */
bool ip_addr_is_unicast(const struct ip_addr *a);
/* fe80::/10 */
bool ip_addr_is_link_local(const struct ip_addr *a);
/* The first `bits` bits of the 128-bit mapped form are the same. */
bool ip_addr_same_prefix(const struct ip_addr *a, const struct ip_addr *b, unsigned bits);
/*
 * Of IPv4: is it its network's own address (−1), its broadcast address (1), or a host's (0)? `prefix_len` is 1 to 32.
 */
int ip_addr_network_end(const struct ip_addr *a, unsigned prefix_len);

#define FLOW_KEY_V4_BYTES 12
/*
 * The bytes to hash for a key: of IPv4 `v4`, which takes those that are not the same in every key: half the rounds.
 * Lengths differ, so the families never mix.
 */
static inline const void *flow_key_bytes(const struct flow_key *key, uint8_t v4[FLOW_KEY_V4_BYTES], size_t *len)
{
	if (!flow_key_is_v4(key)) {
		*len = sizeof *key;
		return key;
	}
	memcpy(v4, key->laddr.b + 12, 4);
	memcpy(v4 + 4, key->raddr.b + 12, 4);
	memcpy(v4 + 8, &key->lport, 2);
	memcpy(v4 + 10, &key->rport, 2);
	*len = FLOW_KEY_V4_BYTES;
	return v4;
}

/* Text form, "10.0.0.1" or "fe80::1"; `out` holds IP_ADDR_STRLEN bytes. Returns out. */
const char *ip_addr_format(const struct ip_addr *a, char *out);
/* "a.b.c.d" or IPv6 text. 0, or -EINVAL. */
int ip_addr_parse(const char *text, struct ip_addr *out);

#endif
