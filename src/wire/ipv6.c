#include "wire/ipv6.h"

#include <string.h>

#include "wire/bytes.h"

/* Next-header values (RFC 8200 §4, IANA). */
#define NEXT_HOP_BY_HOP  0
#define NEXT_ROUTING     43
#define NEXT_FRAGMENT    44
#define NEXT_DESTINATION 60

#define EXT_UNIT     8 /* bytes: the unit of "Hdr Ext Len", not counting the first */
#define EXT_MAX      8 /* headers; RFC 8200 §4.1 lists six at most, and Linux's own limit is as low */
#define OPT_PAD1     0
#define OPT_PADN     1
#define OPT_JUMBO    0xc2 /* RFC 2675 */
#define OPT_ACTION   0xc0 /* two high bits: 00 skip, else discard */
#define FRAG_OFFSET  0xfff8
#define FRAG_MORE    0x0001

enum ipv6_result ipv6_parse(const uint8_t *bytes, size_t len, struct ipv6_header *out)
{
	uint32_t first;

	if (len < IPV6_HDR_BYTES)
		return IPV6_SHORT;
	first = load_be32(bytes);
	if (first >> 28 != 6)
		return IPV6_BAD_VERSION;
	out->traffic_class = first >> 20;
	out->flow_label = first & 0xfffff;
	out->payload_len = load_be16(bytes + 4);
	out->next_header = bytes[6];
	out->hop_limit = bytes[7];
	out->src = bytes + 8;
	out->dst = bytes + 24;
	return IPV6_OK;
}

/* The TLV options of a hop-by-hop or destination header of `len` bytes (RFC 8200 §4.2). */
static enum ipv6_result walk_options(const uint8_t *bytes, size_t len, bool hop_by_hop,
				     uint32_t *jumbo_len)
{
	size_t at = 2;

	while (at < len) {
		uint8_t type = bytes[at];
		if (type == OPT_PAD1) {
			at++;
			continue;
		}
		if (at + 2 > len || bytes[at + 1] > len - at - 2)
			return IPV6_BAD_OPTIONS;
		if (type == OPT_JUMBO && hop_by_hop) {
			if (bytes[at + 1] != 4)
				return IPV6_BAD_OPTIONS;
			*jumbo_len = load_be32(bytes + at + 2);
			if (*jumbo_len <= IPV6_PAYLOAD_MAX)
				return IPV6_BAD_OPTIONS; /* RFC 2675 §3: must be larger */
		} else if (type != OPT_PADN && type & OPT_ACTION) {
			return IPV6_OPTION;
		}
		at += 2 + bytes[at + 1];
	}
	return IPV6_OK;
}

/* One extension header of type `next` at `bytes`; sets the next one's type and this one's length. */
static enum ipv6_result walk_one(const uint8_t *bytes, size_t len, uint8_t next, bool first,
				 struct ipv6_upper *out, size_t *ext_len)
{
	if (len < EXT_UNIT)
		return IPV6_SHORT;
	out->protocol = bytes[0];
	*ext_len = EXT_UNIT;
	if (next == NEXT_FRAGMENT) {
		uint16_t frag = load_be16(bytes + 2);
		out->frag_offset = frag & FRAG_OFFSET;
		return frag & (FRAG_OFFSET | FRAG_MORE) ? IPV6_FRAGMENT : IPV6_OK;
	}
	*ext_len = EXT_UNIT + (size_t)bytes[1] * EXT_UNIT;
	if (*ext_len > len)
		return IPV6_SHORT;
	if (next == NEXT_ROUTING) /* RFC 8200 §4.4: segments left 0: ignore the header (RFC 5095 for type 0) */
		return bytes[3] ? IPV6_ROUTED : IPV6_OK;
	if (next == NEXT_HOP_BY_HOP && !first)
		return IPV6_BAD_OPTIONS; /* RFC 8200 §4.1: only right behind the IPv6 header */
	return walk_options(bytes, *ext_len, next == NEXT_HOP_BY_HOP, &out->jumbo_len);
}

enum ipv6_result ipv6_walk(const uint8_t *bytes, size_t len, uint8_t next_header,
			   struct ipv6_upper *out)
{
	size_t at = 0;

	*out = (struct ipv6_upper){.protocol = next_header};
	for (int n = 0; ipv6_is_extension(out->protocol); n++) {
		size_t ext_len = 0;
		enum ipv6_result result;
		if (n == EXT_MAX)
			return IPV6_TOO_MANY;
		result = walk_one(bytes + at, len - at, out->protocol, n == 0, out, &ext_len);
		if (result != IPV6_OK && result != IPV6_FRAGMENT)
			return result;
		at += ext_len;
		out->offset = at;
		if (result == IPV6_FRAGMENT)
			return result;
	}
	return IPV6_OK;
}

void ipv6_build(const struct ipv6_header *h, uint8_t out[IPV6_HDR_BYTES])
{
	store_be32(out, (uint32_t)6 << 28 | (uint32_t)h->traffic_class << 20 |
				(h->flow_label & 0xfffff));
	store_be16(out + 4, h->payload_len);
	out[6] = h->next_header;
	out[7] = h->hop_limit;
	memcpy(out + 8, h->src, 16);
	memcpy(out + 24, h->dst, 16);
}
