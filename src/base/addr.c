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
