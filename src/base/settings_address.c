/* The values of `address` and `gateway` (own-address mode): lists of addresses. What they mean together is the engine's to judge (ip/host.h). */
#include "base/settings.h"

#include <errno.h>
#include <stdlib.h>

/* The next of a list with commas, into `out`. The rest, or NULL after the last; *bad: it is empty or too long. */
static const char *next_of(const char *list, char *out, size_t size, bool *bad)
{
	size_t n = strcspn(list, ",");
	*bad = n == 0 || n >= size;
	if (!*bad) {
		memcpy(out, list, n);
		out[n] = 0;
	}
	return list[n] ? list + n + 1 : NULL;
}

static int parse_one(char *text, struct own_address *out)
{
	char *slash = strchr(text, '/');
	if (!slash)
		return -EINVAL;
	*slash++ = 0;
	size_t digits = strspn(slash, "0123456789");
	if (!digits || digits > 3 || slash[digits] || ip_addr_parse(text, &out->addr) < 0)
		return -EINVAL;
	unsigned long len = strtoul(slash, NULL, 10);
	if (!len || len > (ip_addr_is_v4(&out->addr) ? 32 : 128) || ip_addr_is_any(&out->addr) || ip_addr_is_loopback(&out->addr))
		return -EINVAL;
	out->prefix_len = (uint8_t)len;
	return 0;
}

int settings_parse_addresses(struct settings *s, const char *value)
{
	struct own_address own[OWN_ADDRESSES_MAX] = {0};
	unsigned n = 0;
	char text[IP_ADDR_STRLEN + 4];
	bool bad;
	for (const char *list = value; list;) {
		list = next_of(list, text, sizeof text, &bad);
		if (bad || n == OWN_ADDRESSES_MAX || parse_one(text, &own[n]) < 0)
			return -EINVAL;
		for (unsigned i = 0; i < n; i++)
			if (ip_addr_equal(&own[i].addr, &own[n].addr))
				return -EINVAL;
		n++;
	}
	memcpy(s->own, own, n * sizeof *own);
	s->n_own = n;
	return 0;
}

int settings_parse_gateways(struct settings *s, const char *value)
{
	struct ip_addr gateway[2] = {0}, a;
	char text[IP_ADDR_STRLEN];
	bool bad;
	for (const char *list = value; list;) {
		list = next_of(list, text, sizeof text, &bad);
		if (bad || ip_addr_parse(text, &a) < 0 || ip_addr_is_any(&a) || !ip_addr_is_any(&gateway[!ip_addr_is_v4(&a)]))
			return -EINVAL;
		gateway[!ip_addr_is_v4(&a)] = a;
	}
	memcpy(s->gateway, gateway, sizeof gateway);
	return 0;
}
