/*
 * The rules of `only` and `except`: parsing, and the question that they
 * answer. A rule's address is a prefix of the 128-bit mapped form, so that one comparison serves
 * both families.
 */
#include "base/settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define ADDR_BITS      128
#define V4_PREFIX_BITS 96 /* of ::ffff:0:0/96 */
#define RULE_TEXT_MAX  128

static bool is_wild(const char *text)
{
	return strcmp(text, "*") == 0 || strcmp(text, "any") == 0;
}

/* Decimal digits only, at most `max`. */
static int parse_small(const char *text, unsigned max, unsigned *out)
{
	size_t n = strlen(text);
	if (n == 0 || n > 5 || strspn(text, "0123456789") != n)
		return -EINVAL;
	*out = (unsigned)strtoul(text, NULL, 10);
	return *out <= max ? 0 : -EINVAL;
}

/* PORT[-PORT], * or any. */
static int parse_ports(char *text, struct traffic_rule *rule)
{
	unsigned first, last;
	char *dash = strchr(text, '-');
	if (is_wild(text)) {
		rule->port_first = 0;
		rule->port_last = UINT16_MAX;
		return 0;
	}
	if (dash)
		*dash = 0;
	if (parse_small(text, UINT16_MAX, &first) < 0 || first == 0)
		return -EINVAL;
	last = first;
	if (dash && (parse_small(dash + 1, UINT16_MAX, &last) < 0 || last < first))
		return -EINVAL;
	rule->port_first = (uint16_t)first;
	rule->port_last = (uint16_t)last;
	return 0;
}

/* ADDR[/LEN]; an IPv6 address came in brackets, and only it may. */
static int parse_prefix(char *text, bool bracketed, char *length, struct traffic_rule *rule)
{
	unsigned bits, len;
	if (!bracketed && is_wild(text)) {
		memset(&rule->addr, 0, sizeof rule->addr);
		rule->prefix_len = 0;
		return length ? -EINVAL : 0;
	}
	if ((strchr(text, ':') != NULL) != bracketed || ip_addr_parse(text, &rule->addr) < 0)
		return -EINVAL;
	bits = bracketed ? ADDR_BITS : ADDR_BITS - V4_PREFIX_BITS;
	len = ip_addr_is_any(&rule->addr)
		  ? 0
		  : bits; /* 0.0.0.0 and [::] mean what a listener means by them */
	if (length && parse_small(length, bits, &len) < 0)
		return -EINVAL;
	rule->prefix_len = (uint8_t)(ADDR_BITS - bits + len);
	return 0;
}

/* ADDR[/LEN]:PORT[-PORT] or [ADDR][/LEN]:PORT[-PORT]; the LEN may stand inside the brackets too. */
static int parse_where(char *text, struct traffic_rule *rule)
{
	char *colon = strrchr(text, ':'), *close, *length;
	bool bracketed = text[0] == '[';
	if (!colon)
		return -EINVAL;
	*colon = 0;
	length = strchr(text, '/');
	if (length)
		*length++ = 0;
	if (bracketed) {
		close = strchr(text, ']');
		if (!close && length && (close = strchr(length, ']')) && close[1] == 0)
			*close = 0; /* [ADDR/LEN] */
		else if (close && close[1] == 0)
			*close = 0; /* [ADDR] */
		else
			return -EINVAL;
		text++;
	}
	return parse_prefix(text, bracketed, length, rule) < 0 ? -EINVAL
							       : parse_ports(colon + 1, rule);
}

/* The next word of *text, cut off in place; NULL at the end. */
static char *next_word(char **text)
{
	char *word = *text + strspn(*text, " \t");
	size_t n = strcspn(word, " \t");
	if (n == 0)
		return NULL;
	*text = word + n + (word[n] != 0);
	word[n] = 0;
	return word;
}

/* [only|except] server|client WHERE */
static int parse_rule(char *text, bool except, struct traffic_rule *rule)
{
	char *word = next_word(&text);
	memset(rule, 0, sizeof *rule);
	rule->except = except;
	if (word && settings_is_rule(word)) {
		rule->except = strcmp(word, "except") == 0;
		word = next_word(&text);
	}
	if (!word)
		return -EINVAL;
	rule->server = strcmp(word, "server") == 0;
	rule->client = strcmp(word, "client") == 0;
	if (!rule->server && !rule->client)
		return -EINVAL;
	word = next_word(&text);
	if (!word || parse_where(word, rule) < 0)
		return -EINVAL;
	return next_word(&text) ? -EINVAL : 0;
}

int settings_add_rules(struct settings *s, bool except, const char *value, char *why,
		       size_t why_len)
{
	unsigned n = s->n_rules;
	for (const char *p = value;; p++) {
		char text[RULE_TEXT_MAX];
		size_t len = strcspn(p, ",");
		snprintf(text, sizeof text, "%.*s", (int)len, p);
		if (n == TRAFFIC_RULES_MAX) {
			snprintf(why, why_len, "more than %d rules", TRAFFIC_RULES_MAX);
			return -EINVAL;
		}
		if (len >= sizeof text || parse_rule(text, except, &s->rules[n]) < 0) {
			snprintf(why, why_len,
				 "a rule is server|client ADDR[/LEN]:PORT[-PORT], "
				 "any or * for ADDR and PORT, IPv6 as [ADDR], not '%.*s'",
				 (int)(len < 80 ? len : 80), p);
			return -EINVAL;
		}
		n++;
		p += len;
		if (*p == 0)
			break;
	}
	s->n_rules = n;
	return 0;
}

/* A listener on a wildcard address stands for every address of its family (:: for both). */
static bool rule_matches_wildcard(const struct traffic_rule *rule, const struct ip_addr *addr)
{
	bool v4_rule = ip_addr_is_v4(&rule->addr) && rule->prefix_len >= V4_PREFIX_BITS;
	bool v4_listener = ip_addr_is_v4(addr);
	if (rule->except) /* touches it */
		return rule->prefix_len == 0 || v4_rule || !v4_listener;
	return rule->prefix_len == 0 ||
	       (v4_listener && v4_rule && rule->prefix_len == V4_PREFIX_BITS);
}

bool settings_rules_allow(const struct settings *s, bool server, const struct ip_addr *addr,
			  uint16_t port)
{
	bool wildcard = server && ip_addr_is_any(addr), has_only = false;
	for (unsigned i = 0; i < s->n_rules; i++) {
		const struct traffic_rule *rule = &s->rules[i];
		has_only |= !rule->except;
		if (!(server ? rule->server : rule->client) || port < rule->port_first ||
		    port > rule->port_last)
			continue;
		if (wildcard ? rule_matches_wildcard(rule, addr)
			     : ip_addr_same_prefix(addr, &rule->addr, rule->prefix_len))
			return !rule->except;
	}
	return !has_only;
}
