#include "wire/ipv4.h"

#include <string.h>

#include "wire/bytes.h"
#include "wire/checksum.h"

/* RFC 791 §3.1: flags and 13 bits of offset in units of 8 bytes. */
#define FLAG_DF     0x4000
#define FLAG_MF     0x2000
#define OFFSET_MASK 0x1fff

/* Options: the copied flag, class and number in one byte. */
#define OPT_END  0
#define OPT_NOP  1
#define OPT_LSRR 131
#define OPT_SSRR 137

enum ipv4_result ipv4_parse(const uint8_t *bytes, size_t len, struct ipv4_header *out)
{
	uint16_t frag;

	if (len < IPV4_HDR_MIN)
		return IPV4_SHORT;
	if (bytes[0] >> 4 != 4)
		return IPV4_BAD_VERSION;
	out->header_len = (bytes[0] & 0xf) * 4;
	if (out->header_len < IPV4_HDR_MIN)
		return IPV4_BAD_IHL;
	if (out->header_len > len)
		return IPV4_SHORT;
	out->total_len = load_be16(bytes + 2);
	if (out->total_len && out->total_len < out->header_len)
		return IPV4_BAD_LENGTH;
	bool plain = out->header_len == IPV4_HDR_MIN;
	if (!checksum_is_valid(plain ? checksum_ipv4_header(bytes) : checksum_add(0, bytes, out->header_len)))
		return IPV4_BAD_CHECKSUM; /* RFC 1122 §3.2.1.2: MUST verify, silently discard */
	frag = load_be16(bytes + 6);
	out->tos = bytes[1];
	out->id = load_be16(bytes + 4);
	out->frag_offset = (frag & OFFSET_MASK) * 8;
	out->dont_fragment = frag & FLAG_DF;
	out->more_fragments = frag & FLAG_MF;
	out->ttl = bytes[8];
	out->protocol = bytes[9];
	out->src = bytes + 12;
	out->dst = bytes + 16;
	return IPV4_OK;
}

bool ipv4_has_source_route(const uint8_t *bytes, const struct ipv4_header *h)
{
	size_t at = IPV4_HDR_MIN, end = h->header_len;

	while (at < end && bytes[at] != OPT_END) {
		if (bytes[at] == OPT_NOP) {
			at++;
			continue;
		}
		if (bytes[at] == OPT_LSRR || bytes[at] == OPT_SSRR)
			return true;
		if (at + 1 == end || bytes[at + 1] < 2 || bytes[at + 1] > end - at)
			return true;
		at += bytes[at + 1];
	}
	return false;
}

void ipv4_build(const struct ipv4_header *h, uint8_t out[IPV4_HDR_MIN])
{
	out[0] = 4 << 4 | IPV4_HDR_MIN / 4;
	out[1] = h->tos;
	store_be16(out + 2, h->total_len);
	store_be16(out + 4, h->id);
	store_be16(out + 6, (h->dont_fragment ? FLAG_DF : 0) | (h->more_fragments ? FLAG_MF : 0) |
				    h->frag_offset / 8);
	out[8] = h->ttl;
	out[9] = h->protocol;
	store_be16(out + 10, 0);
	memcpy(out + 12, h->src, 4);
	memcpy(out + 16, h->dst, 4);
	checksum_store(out + 10, checksum_finish(checksum_ipv4_header(out)));
}
