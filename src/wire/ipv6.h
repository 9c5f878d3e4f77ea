/*
 * IPv6 header ↔ struct, and the walk over extension headers to the upper layer (RFC 8200 §3, §4). Pure.
 */
#ifndef FINESSE_WIRE_IPV6_H
#define FINESSE_WIRE_IPV6_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IPV6_HDR_BYTES   40
#define IPV6_PAYLOAD_MAX 65535
#define IPV6_LABEL_MASK  0xfffff
#define IPV6_MTU_MIN     1280 /* RFC 8200 §5 */

struct ipv6_header {
	const uint8_t *src, *dst; /* 16 bytes each, into the packet */
	uint8_t traffic_class;    /* DSCP and ECN */
	uint8_t hop_limit;
	uint8_t next_header;
	uint16_t payload_len; /* as it says; 0: a jumbogram or super-segment over 64 KiB */
	uint32_t flow_label;
};

enum ipv6_result {
	IPV6_OK,
	IPV6_SHORT,       /* a header does not fit into what is there */
	IPV6_BAD_VERSION,
	IPV6_BAD_OPTIONS, /* option lengths that lie, hop-by-hop out of place, a false jumbo length */
	IPV6_OPTION,      /* an unknown option asks for discard (RFC 8200 §4.2) */
	IPV6_ROUTED,      /* a routing header with segments left: this host is not its end */
	IPV6_FRAGMENT,    /* a real fragment; an atomic one (RFC 6946) is walked over */
	IPV6_TOO_MANY,    /* more extension headers than anybody sends */
};

/* The fixed header alone: payload_len may exceed `len`, which is the caller's to judge. */
enum ipv6_result ipv6_parse(const uint8_t *bytes, size_t len, struct ipv6_header *out);

struct ipv6_upper {
	uint8_t protocol;    /* the first next-header value that is no extension header */
	uint32_t offset;     /* of its header, from `bytes` */
	uint32_t jumbo_len;  /* RFC 2675 payload length, or 0 */
	uint16_t frag_offset; /* bytes; of IPV6_FRAGMENT */
};

/*
 * From the first extension header at `bytes` (after the fixed header), whose type is `next_header`, to
 * the upper layer, within `len` bytes. `out` is set with IPV6_OK, and as far as the walk came with IPV6_FRAGMENT.
 */
enum ipv6_result ipv6_walk(const uint8_t *bytes, size_t len, uint8_t next_header,
			   struct ipv6_upper *out);

static inline bool ipv6_is_extension(uint8_t next_header)
{
	return next_header == 0 || next_header == 43 || next_header == 44 || next_header == 60;
}

void ipv6_build(const struct ipv6_header *h, uint8_t out[IPV6_HDR_BYTES]);

#endif
