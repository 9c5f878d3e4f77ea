/*
 * The Internet checksum (RFC 1071), its pseudo-headers and its incremental form (RFC 1624). Pure.
 *
 * A sum is a uint64_t that has not been folded; start from 0 and add pieces. Sums and 16-bit results
 * are in memory order on every machine (RFC 1071 §2(B)): store results with memcpy or checksum_store.
 */
#ifndef FINESSE_WIRE_CHECKSUM_H
#define FINESSE_WIRE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "wire/bytes.h"

/* Adds `len` bytes that start at an even offset of what is summed; an odd tail counts as padded by 0. */
uint64_t checksum_add(uint64_t sum, const void *data, size_t len);

/* checksum_add of an IPv4 header without options, which each frame has. */
static inline uint64_t checksum_ipv4_header(const void *header)
{
	uint32_t w[5];
	memcpy(w, header, sizeof w);
	return (uint64_t)w[0] + w[1] + w[2] + w[3] + w[4];
}

/* The 16-bit ones' complement sum, not complemented. */
static inline uint16_t checksum_fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* What goes into a checksum field. 0 is left 0: only UDP minds. */
static inline uint16_t checksum_finish(uint64_t sum)
{
	return ~checksum_fold(sum);
}

/* A message summed with its checksum field in place is right if this holds. */
static inline int checksum_is_valid(uint64_t sum)
{
	return checksum_fold(sum) == 0xffff;
}

static inline void checksum_store(void *field, uint16_t value)
{
	memcpy(field, &value, sizeof value);
}

/* Pseudo-header of RFC 9293 §3.1; src and dst point at 4 bytes. `len`: header and data of the upper layer. */
static inline uint64_t checksum_pseudo_v4(const void *src, const void *dst, uint8_t protocol,
					  uint32_t len)
{
	uint32_t s, d;
	memcpy(&s, src, sizeof s);
	memcpy(&d, dst, sizeof d);
	return (uint64_t)s + d + be32_swap(len) + be32_swap((uint32_t)protocol);
}

/* Pseudo-header of RFC 8200 §8.1; src and dst point at 16 bytes. */
static inline uint64_t checksum_pseudo_v6(const void *src, const void *dst, uint8_t protocol,
					  uint32_t len)
{
	uint32_t s[4], d[4];
	memcpy(s, src, sizeof s);
	memcpy(d, dst, sizeof d);
	return (uint64_t)s[0] + s[1] + s[2] + s[3] + d[0] + d[1] + d[2] + d[3] + be32_swap(len) +
	       be32_swap((uint32_t)protocol);
}

/* The checksum field after a 16-bit word of the message went from `from` to `to` (RFC 1624 eqn. 3);
   all in memory order. */
static inline uint16_t checksum_update16(uint16_t field, uint16_t from, uint16_t to)
{
	return checksum_finish((uint64_t)(uint16_t)~field + (uint16_t)~from + to);
}

#endif
