/*
 * The values of `address` and `gateway` (own-address mode): lists of addresses, and what they say together. Whether the
 * link or the kernel has one of them is the engine's to find out (socket/own.h).
 */
#include "base/settings.h"

#include <errno.h>
#include <stdio.h>
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

/* Why no host can have the address; NULL: one can. */
static const char *no_host_has(const struct ip_addr *a, unsigned prefix_len)
{
	bool v4 = ip_addr_is_v4(a);
	int end = v4 ? ip_addr_network_end(a, prefix_len) : 0;
	if (v4 ? (a->b[12] & 0xf0) == 224 : a->b[0] == 0xff)
		return "it is a multicast group's";
	if (ip_addr_is_any(a) || ip_addr_is_loopback(a))
		return "it is the unspecified or a loopback address";
	if (v4 && a->b[12] == 255)
		return "it is a broadcast address";
	if (!ip_addr_is_unicast(a))
		return "it is of a reserved network";
	return end < 0 ? "it is its network's own" : end > 0 ? "it is its network's broadcast address" : NULL;
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
	if (!len || len > (ip_addr_is_v4(&out->addr) ? 32 : 128))
		return -EINVAL;
	out->prefix_len = (uint8_t)len;
	return 0;
}

int settings_parse_addresses(struct settings *s, const char *value, char *why, size_t why_len)
{
	struct own_address own[OWN_ADDRESSES_MAX] = {0};
	unsigned n = 0;
	char text[IP_ADDR_STRLEN + 4];
	bool bad;
	for (const char *list = value; list;) {
		list = next_of(list, text, sizeof text, &bad);
		if (bad || n == OWN_ADDRESSES_MAX || parse_one(text, &own[n]) < 0)
			return -EINVAL;
		const char *obstacle = no_host_has(&own[n].addr, own[n].prefix_len);
		for (unsigned i = 0; i < n; i++)
			if (ip_addr_equal(&own[i].addr, &own[n].addr))
				obstacle = "it is there twice";
		if (obstacle) {
			snprintf(why, why_len, "a host's address is needed, not '%s': %s", ip_addr_format(&own[n].addr, text), obstacle);
			return -EINVAL;
		}
		n++;
	}
	memcpy(s->own, own, n * sizeof *own);
	s->n_own = n;
	return 0;
}

int settings_parse_gateways(struct settings *s, const char *value, char *why, size_t why_len)
{
	struct ip_addr gateway[2] = {0}, a;
	char text[IP_ADDR_STRLEN];
	bool bad;
	for (const char *list = value; list;) {
		list = next_of(list, text, sizeof text, &bad);
		if (bad || ip_addr_parse(text, &a) < 0 || !ip_addr_is_any(&gateway[!ip_addr_is_v4(&a)]))
			return -EINVAL;
		const char *obstacle = no_host_has(&a, 32);
		if (obstacle) {
			snprintf(why, why_len, "a router's address is needed, not '%s': %s", text, obstacle);
			return -EINVAL;
		}
		gateway[!ip_addr_is_v4(&a)] = a;
	}
	memcpy(s->gateway, gateway, sizeof gateway);
	return 0;
}

/* What keeps it from being the router of our addresses; NULL: nothing. */
static const char *not_a_router(const struct settings *s, const struct ip_addr *gateway)
{
	bool v4 = ip_addr_is_v4(gateway), family = false, on_link = ip_addr_is_link_local(gateway);
	for (unsigned i = 0; i < s->n_own; i++) {
		const struct own_address *own = &s->own[i];
		if (ip_addr_equal(&own->addr, gateway))
			return "it is one of the own addresses";
		if (ip_addr_is_v4(&own->addr) != v4)
			continue;
		family = true;
		on_link |= ip_addr_same_prefix(&own->addr, gateway, own->prefix_len + (v4 ? 96 : 0));
	}
	if (!family)
		return "no own address is of its family";
	return on_link ? NULL : "no prefix of an own address has it";
}

int settings_check_gateways(const struct settings *s, char *why, size_t why_len)
{
	char text[IP_ADDR_STRLEN];
	for (unsigned i = 0; i < 2; i++) {
		if (ip_addr_is_any(&s->gateway[i]))
			continue;
		const char *obstacle = s->n_own ? not_a_router(s, &s->gateway[i]) : "there is no address (it is the router of own addresses: set 'address', too)";
		if (obstacle) {
			snprintf(why, why_len, "gateway %s: %s", ip_addr_format(&s->gateway[i], text), obstacle);
			return -EINVAL;
		}
	}
	return 0;
}
