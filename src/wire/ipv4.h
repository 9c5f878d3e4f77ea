/*
 * IPv4 header ↔ struct (RFC 791). Pure. Protocol numbers of both families live here, too.
 */
#ifndef FINESSE_WIRE_IPV4_H
#define FINESSE_WIRE_IPV4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IPV4_HDR_MIN 20
#define IPV4_LEN_MAX 65535

#define IP_PROTO_ICMP   1
#define IP_PROTO_TCP    6
#define IP_PROTO_ICMPV6 58

struct ipv4_header {
	const uint8_t *src, *dst; /* 4 bytes each, into the packet */
	uint8_t header_len;       /* bytes, options included */
	uint8_t tos;              /* DSCP and ECN */
	uint8_t ttl;
	uint8_t protocol;
	uint16_t total_len;   /* as it says; 0: a super-segment over 64 KiB (the caller knows if that can be) */
	uint16_t id;
	uint16_t frag_offset; /* bytes */
	bool dont_fragment, more_fragments;
};

enum ipv4_result {
	IPV4_OK,
	IPV4_SHORT,        /* the header does not fit into `len` */
	IPV4_BAD_VERSION,
	IPV4_BAD_IHL,      /* below 20 bytes */
	IPV4_BAD_LENGTH,   /* total length below the header's, and not 0 */
	IPV4_BAD_CHECKSUM, /* of the header */
};

/* The header alone: total_len may exceed `len`, which is the caller's to judge. */
enum ipv4_result ipv4_parse(const uint8_t *bytes, size_t len, struct ipv4_header *out);

/*
 * Does a loose or strict source route stand among the options of a parsed header? A malformed list is one, too: nobody
 * needs it.
 */
bool ipv4_has_source_route(const uint8_t *bytes, const struct ipv4_header *h);

/* 20 bytes without options; header_len is ignored, the checksum is computed. */
void ipv4_build(const struct ipv4_header *h, uint8_t out[IPV4_HDR_MIN]);

#endif
