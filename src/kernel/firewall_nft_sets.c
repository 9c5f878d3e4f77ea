/* nftables' sets and maps, and what is in them. */
#include "kernel/firewall_nft_internal.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <stdlib.h>

#include "base/siphash.h"
#include "kernel/netlink.h"

#define AGING_MAX 6 /* elements of a set go while we read: ask again */

/*
 * An expression of a set, or of an element: does it only count? Limits, quotas and connlimits decide whether an element
 * matches.
 */
static bool only_counts(const struct nlattr *expr)
{
	const struct nlattr *name = nested(expr, NFTA_EXPR_NAME);
	return name && (strcmp(attr_text(name), "counter") == 0 || strcmp(attr_text(name), "last") == 0);
}

/* … or does it decide by the number of connections that conntrack has? */
bool nft_counts_connections(const struct nlattr *expr)
{
	return strcmp(nested_text(expr, NFTA_EXPR_NAME), "connlimit") == 0;
}

bool nft_any_counts_connections(const struct nlattr *list)
{
	const struct nlattr *a;
	mnl_attr_for_each_nested(a, list)
		if (nft_counts_connections(a))
			return true;
	return false;
}

static bool all_only_count(const struct nlattr *list)
{
	const struct nlattr *a;
	mnl_attr_for_each_nested(a, list)
		if (!only_counts(a))
			return false;
	return true;
}

int nft_on_set(const struct nlmsghdr *h, void *ctx)
{
	struct reader *r = ctx;
	const struct nfgenmsg *g = mnl_nlmsg_get_payload(h);
	const struct nlattr *a;

	if (h->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSET))
		return 0;
	struct rules_set *s = rules_add_set(r->rs);
	if (!s)
		return -ENOMEM;
	s->family = g->nfgen_family;
	mnl_attr_for_each(a, h, sizeof *g)
	{
		switch (mnl_attr_get_type(a)) {
		case NFTA_SET_TABLE:
			snprintf(s->table, sizeof s->table, "%s", attr_text(a));
			break;
		case NFTA_SET_NAME:
			snprintf(s->name, sizeof s->name, "%s", attr_text(a));
			break;
		case NFTA_SET_KEY_LEN:
			s->key_len = attr_be32(a) <= RULES_KEY_MAX ? attr_be32(a) : 0;
			break;
		case NFTA_SET_FLAGS:
			s->is_open |= attr_be32(a) & NFT_SET_EVAL;
			s->is_aging |= attr_be32(a) & NFT_SET_TIMEOUT;
			s->has_ranges = (attr_be32(a) & (NFT_SET_INTERVAL | NFT_SET_CONCAT)) == NFT_SET_INTERVAL;
			break;
		case NFTA_SET_EXPR:
			s->is_open |= !only_counts(a);
			s->counts |= nft_counts_connections(a);
			s->notes = true;
			break;
		case NFTA_SET_EXPRESSIONS:
			s->is_open |= !all_only_count(a);
			s->counts |= nft_any_counts_connections(a);
			s->notes = true;
			break;
		}
	}
	s->is_open |= s->key_len == 0;
	return 0;
}

int nft_find_set(const struct ruleset *rs, uint8_t family, const char *table, const char *name)
{
	for (uint32_t i = 0; i < rs->n_sets; i++) {
		const struct rules_set *s = &rs->sets[i];
		if (s->family == family && strcmp(s->name, name) == 0 && strcmp(s->table, table) == 0)
			return i;
	}
	return -1;
}

static uint8_t verdict_of(int32_t code)
{
	switch (code) {
	case NF_ACCEPT:
		return VERDICT_ACCEPT;
	case NFT_CONTINUE:
		return VERDICT_CONTINUE;
	case NFT_RETURN:
		return VERDICT_RETURN;
	case NFT_JUMP:
		return VERDICT_JUMP;
	case NFT_GOTO:
		return VERDICT_GOTO;
	default: /* NF_DROP, NF_QUEUE … */
		return VERDICT_DROP;
	}
}

void nft_read_verdict(struct reader *r, uint8_t family, const char *table, const struct nlattr *data, uint8_t *verdict, int32_t *target)
{
	const struct nlattr *v = nested(data, NFTA_DATA_VERDICT);
	*verdict = verdict_of((int32_t)nested_be32(v, NFTA_VERDICT_CODE, NF_DROP));
	*target = nested(v, NFTA_VERDICT_CHAIN) ? nft_find_chain(r->rs, family, table, nested_text(v, NFTA_VERDICT_CHAIN)) : -1;
}

/* key - 1, as one number: a range's end is exclusive in a dump. */
static void decrement(uint8_t *key, unsigned len)
{
	while (len-- > 0 && key[len]-- == 0)
		;
}

#define IS_END 0xff /* an element's verdict while the set is read: it ends a range */

static int on_element(struct reader *r, struct rules_set *s, const struct nlattr *element)
{
	uint32_t flags = nested_be32(element, NFTA_SET_ELEM_FLAGS, 0);
	struct rules_element *el = rules_add_element(r->rs);
	if (!el)
		return -ENOMEM;
	s->n++;
	unsigned len = nested_value(element, NFTA_SET_ELEM_KEY, el->key, sizeof el->key);
	if (len != s->key_len)
		s->is_open = true; /* a catch-all: what is not in it matches, too */
	memcpy(el->end, el->key, sizeof el->end);
	/* Of a concatenation, each part has a range of its own. */
	if (nested_value(element, NFTA_SET_ELEM_KEY_END, el->end, sizeof el->end) && memcmp(el->end, el->key, sizeof el->end))
		s->is_open = true;
	const struct nlattr *expr = nested(element, NFTA_SET_ELEM_EXPR), *list = nested(element, NFTA_SET_ELEM_EXPRESSIONS);
	s->is_open |= (expr && !only_counts(expr)) || (list && !all_only_count(list));
	s->counts |= (expr && nft_counts_connections(expr)) || (list && nft_any_counts_connections(list));
	s->notes |= expr || list;
	el->target = -1;
	r->told += siphash13(el->key, sizeof el->key, (const uint8_t[16]){flags & NFT_SET_ELEM_INTERVAL_END});
	if (flags & NFT_SET_ELEM_INTERVAL_END)
		el->verdict = IS_END;
	else if (nested(element, NFTA_SET_ELEM_DATA))
		nft_read_verdict(r, s->family, s->table, nested(element, NFTA_SET_ELEM_DATA), &el->verdict, &el->target);
	return 0;
}

static int by_key(const void *a, const void *b)
{
	const struct rules_element *x = a, *y = b;
	int d = memcmp(x->key, y->key, sizeof x->key);
	return d ? d : (y->verdict == IS_END) - (x->verdict == IS_END); /* one range's end before the next one's beginning */
}

/*
 * Elements come in any order, and ranges as two of them; but where the next one begins at once, or the range reaches to
 * the last key, none ends it.
 */
static void sort_elements(struct ruleset *rs, struct rules_set *s)
{
	struct rules_element *el = rs->elements + s->first;
	uint32_t n = 0;
	if (s->n)
		qsort(el, s->n, sizeof *el, by_key);
	s->is_sorted = true;
	if (!s->has_ranges)
		return;
	for (uint32_t i = 0; i < s->n; i++) {
		if (el[i].verdict == IS_END)
			continue;
		struct rules_element from = el[i];
		memset(from.end, 0xff, s->key_len);
		if (i + 1 < s->n) {
			memcpy(from.end, el[i + 1].key, s->key_len);
			decrement(from.end, s->key_len);
		}
		el[n++] = from;
	}
	s->n = n;
}

static int on_elements(const struct nlmsghdr *h, void *ctx)
{
	struct reader *r = ctx;
	struct rules_set *s = &r->rs->sets[r->set];
	const struct nlattr *a, *element;

	if (h->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM))
		return 0;
	mnl_attr_for_each(a, h, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(a) != NFTA_SET_ELEM_LIST_ELEMENTS)
			continue;
		mnl_attr_for_each_nested(element, a)
		{
			int err = on_element(r, s, element);
			if (err)
				return err;
		}
	}
	return 0;
}

static int dump_elements(struct reader *r)
{
	_Alignas(struct nlmsghdr) char buf[NFT_REQUEST_BYTES];
	struct rules_set *s = &r->rs->sets[r->set];
	struct nlmsghdr *h = nft_request(buf, NFT_MSG_GETSETELEM, s->family, NLM_F_DUMP);

	r->rs->n_elements = s->first;
	s->n = 0;
	r->told = 0;
	mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_TABLE, s->table);
	mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_SET, s->name);
	int ret = netlink_talk(r->fd, h, on_elements, r);
	return ret == -ENOENT ? -EINTR : ret; /* the set went meanwhile */
}

/*
 * A dump goes on, datagram by datagram, behind as many elements as were told. So where the kernel removes some that are
 * over, which it does once a second and tells nobody, it leaves out as many others, or hundreds when its table shrinks
 * for that. What was told twice alike is all there is; a set that loses elements faster is as good as unknown.
 */
static int dump_aging(struct reader *r)
{
	struct rules_set *s = &r->rs->sets[r->set];
	int ret = dump_elements(r);
	for (unsigned i = 1; ret == 0 && i < AGING_MAX; i++) {
		uint64_t before = r->told;
		ret = dump_elements(r);
		if (ret == 0 && r->told == before)
			return 0;
	}
	s->is_open = true;
	return ret;
}

int nft_read_elements(struct reader *r)
{
	struct rules_set *s = &r->rs->sets[r->set];
	s->first = r->rs->n_elements;
	if (s->is_open)
		return 0;
	int ret = s->is_aging ? dump_aging(r) : dump_elements(r);
	sort_elements(r->rs, s);
	return ret;
}
