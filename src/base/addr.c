#include "base/addr.h"

#include <arpa/inet.h>
#include <errno.h>

_Static_assert(IP_ADDR_STRLEN >= INET6_ADDRSTRLEN, "room for the longest address");

const char *ip_addr_format(const struct ip_addr *a, char *out)
{
	if (ip_addr_is_v4(a))
		inet_ntop(AF_INET, a->b + 12, out, IP_ADDR_STRLEN);
	else
		inet_ntop(AF_INET6, a->b, out, IP_ADDR_STRLEN);
	return out;
}

int ip_addr_parse(const char *text, struct ip_addr *out)
{
	uint8_t v4[4], v6[16];
	if (inet_pton(AF_INET, text, v4) == 1) {
		*out = ip_addr_from_v4(v4);
		return 0;
	}
	if (inet_pton(AF_INET6, text, v6) == 1) {
		*out = ip_addr_from_v6(v6);
		return 0;
	}
	return -EINVAL;
}

bool ip_addr_is_unicast(const struct ip_addr *a)
{
	static const uint8_t zero[10];
	if (ip_addr_is_v4(a))
		return a->b[12] != 0 && a->b[12] != 127 && a->b[12] < 224; /* RFC 1122 §3.2.1.3 */
	return a->b[0] != 0xff && memcmp(a->b, zero, sizeof zero) != 0; /* ::/80: unspecified, loopback, mapped */
}

bool ip_addr_is_link_local(const struct ip_addr *a)
{
	return a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80;
}

bool ip_addr_same_prefix(const struct ip_addr *a, const struct ip_addr *b, unsigned bits)
{
	unsigned bytes = bits / 8, rest = bits % 8;
	if (memcmp(a->b, b->b, bytes) != 0)
		return false;
	return !rest || ((a->b[bytes] ^ b->b[bytes]) >> (8 - rest)) == 0;
}

int ip_addr_network_end(const struct ip_addr *a, unsigned prefix_len)
{
	uint32_t v4, mask;
	if (prefix_len >= 31) /* RFC 3021: a /31 has neither */
		return 0;
	memcpy(&v4, a->b + 12, sizeof v4);
	mask = UINT32_MAX >> prefix_len;
	uint32_t host = ntohl(v4) & mask;
	return host == 0 ? -1 : host == mask;
}
