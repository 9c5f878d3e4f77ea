#include "wire/icmp.h"

#include "wire/bytes.h"
#include "wire/checksum.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"

enum icmp_result icmp_parse(const uint8_t *bytes, size_t len, bool v6, const uint8_t *src,
			    const uint8_t *dst, struct icmp_message *out)
{
	uint64_t sum;

	if (len < ICMP_HDR_BYTES)
		return ICMP_SHORT;
	sum = v6 ? checksum_pseudo_v6(src, dst, IP_PROTO_ICMPV6, len) : 0;
	if (!checksum_is_valid(checksum_add(sum, bytes, len)))
		return ICMP_BAD_CHECKSUM;
	*out = (struct icmp_message){
		.type = bytes[0], .code = bytes[1], .word = load_be32(bytes + 4)};
	return ICMP_OK;
}

bool icmp_is_error(const struct icmp_message *m, bool v6)
{
	if (v6)
		return m->type < 128; /* RFC 4443 §2.1 */
	return m->type == ICMP4_UNREACHABLE || m->type == ICMP4_SOURCE_QUENCH ||
	       m->type == ICMP4_REDIRECT || m->type == ICMP4_TIME_EXCEEDED ||
	       m->type == ICMP4_PARAMETER;
}

/* RFC 792: the quoted header and 8 bytes. Its checksum and TTL are of no interest: routers change and
   some recompute them wrongly, and the length may exceed what is quoted. */
static enum icmp_result quote_v4(const uint8_t *bytes, size_t len, struct icmp_message *out)
{
	size_t header_len;

	if (len < IPV4_HDR_MIN)
		return ICMP_SHORT;
	header_len = (bytes[0] & 0xf) * 4;
	if (bytes[0] >> 4 != 4 || header_len < IPV4_HDR_MIN)
		return ICMP_BAD_QUOTE;
	if (load_be16(bytes + 6) & 0x1fff)
		return ICMP_LATER_FRAGMENT;
	if (len < header_len + ICMP_QUOTE_TCP)
		return ICMP_SHORT;
	out->protocol = bytes[9];
	out->src = bytes + 12;
	out->dst = bytes + 16;
	out->upper = bytes + header_len;
	return ICMP_OK;
}

/* RFC 4443 §3: as much of the packet as fits, extension headers included. */
static enum icmp_result quote_v6(const uint8_t *bytes, size_t len, struct icmp_message *out)
{
	struct ipv6_header h;
	struct ipv6_upper upper;
	enum ipv6_result result = ipv6_parse(bytes, len, &h);

	if (result == IPV6_OK)
		result = ipv6_walk(bytes + IPV6_HDR_BYTES, len - IPV6_HDR_BYTES, h.next_header, &upper);
	if (result == IPV6_FRAGMENT && upper.frag_offset)
		return ICMP_LATER_FRAGMENT;
	if (result == IPV6_FRAGMENT && ipv6_is_extension(upper.protocol))
		return ICMP_BAD_QUOTE; /* we send neither fragments nor extension headers */
	if (result == IPV6_SHORT)
		return ICMP_SHORT;
	if (result != IPV6_OK && result != IPV6_FRAGMENT)
		return ICMP_BAD_QUOTE;
	if (len < IPV6_HDR_BYTES + (size_t)upper.offset + ICMP_QUOTE_TCP)
		return ICMP_SHORT;
	out->protocol = upper.protocol;
	out->src = h.src;
	out->dst = h.dst;
	out->upper = bytes + IPV6_HDR_BYTES + upper.offset;
	return ICMP_OK;
}

enum icmp_result icmp_parse_quote(const uint8_t *bytes, size_t len, bool v6,
				  struct icmp_message *out)
{
	if (len < ICMP_HDR_BYTES)
		return ICMP_SHORT;
	return v6 ? quote_v6(bytes + ICMP_HDR_BYTES, len - ICMP_HDR_BYTES, out) :
		    quote_v4(bytes + ICMP_HDR_BYTES, len - ICMP_HDR_BYTES, out);
}
