/*
 * nftables, by netlink, into the evaluator's form (firewall_rules.h).
 *
 * Three dumps (chains, sets, rules) and one for the elements of each set. An expression that is not known here is
 * "perhaps" when it can only end a rule, and an act when it could do anything to a packet. iptables' own matches and
 * targets, where nftables carries them, are translated by firewall_xt.c.
 */
#include "kernel/firewall_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/siphash.h"
#include "kernel/netlink.h"

#define INTERRUPTS_MAX   5  /* the ruleset changes while we read: ask again */
#define AGING_MAX        6  /* … or elements of a set go */
#define REQUEST_BYTES    1024
#define NFT_HOOK_EGRESS  1  /* NF_NETDEV_EGRESS */
#define NFT_HOOK_INGRESS 5  /* NF_INET_INGRESS */

struct reader {
	struct ruleset *rs;
	int fd;
	int set; /* whose elements are being read … */
	uint64_t told; /* … and which were, in whatever order */
};

/* ---- attributes ---- */

static const char *attr_text(const struct nlattr *a)
{
	return mnl_attr_validate(a, MNL_TYPE_NUL_STRING) < 0 ? "" : mnl_attr_get_str(a);
}

static uint32_t attr_be32(const struct nlattr *a)
{
	return mnl_attr_validate(a, MNL_TYPE_U32) < 0 ? 0 : ntohl(mnl_attr_get_u32(a));
}

static const struct nlattr *nested(const struct nlattr *parent, uint16_t type)
{
	const struct nlattr *a;

	if (parent)
		mnl_attr_for_each_nested(a, parent) if (mnl_attr_get_type(a) == type) return a;
	return NULL;
}

static uint32_t nested_be32(const struct nlattr *parent, uint16_t type, uint32_t missing)
{
	const struct nlattr *a = nested(parent, type);
	return a ? attr_be32(a) : missing;
}

static const char *nested_text(const struct nlattr *parent, uint16_t type)
{
	const struct nlattr *a = nested(parent, type);
	return a ? attr_text(a) : "";
}

/* The bytes of a constant, at most `max`; 0: there is none, or it is longer. */
static unsigned nested_value(const struct nlattr *parent, uint16_t type, uint8_t *out, unsigned max)
{
	const struct nlattr *value = nested(nested(parent, type), NFTA_DATA_VALUE);
	unsigned len = value ? mnl_attr_get_payload_len(value) : 0;
	if (len > max)
		return 0;
	if (len)
		memcpy(out, mnl_attr_get_payload(value), len);
	return len;
}

/* A register's place in bytes, as nft_parse_register has it: NFT_REG_1 to 4 of 16 bytes, and the same as words. */
static unsigned reg_at(uint32_t reg)
{
	unsigned at = reg < NFT_REG32_00 ? reg * NFT_REG_SIZE : (reg + NFT_REG_SIZE / NFT_REG32_SIZE - NFT_REG32_00) * NFT_REG32_SIZE;
	return at <= RULES_REG_BYTES - RULES_VALUE_MAX ? at : RULES_REG_BYTES - RULES_VALUE_MAX;
}

/* ---- chains ---- */

static bool hook_of(uint8_t family, uint32_t num, enum rules_hook *out)
{
	static const enum rules_hook inet[] = {[NF_INET_PRE_ROUTING] = RULES_PREROUTING,
					       [NF_INET_LOCAL_IN] = RULES_INPUT,
					       [NF_INET_LOCAL_OUT] = RULES_OUTPUT,
					       [NF_INET_POST_ROUTING] = RULES_POSTROUTING,
					       [NFT_HOOK_INGRESS] = RULES_INGRESS};
	if (family == NFPROTO_NETDEV) {
		*out = num == NFT_HOOK_EGRESS ? RULES_EGRESS : RULES_INGRESS;
		return num <= NFT_HOOK_EGRESS;
	}
	if (num > NFT_HOOK_INGRESS || num == NF_INET_FORWARD)
		return false;
	*out = inet[num];
	return true;
}

static bool is_our_family(uint8_t family) /* arp is no TCP; a bridge's hooks lie below the interface that we read from */
{
	return family == NFPROTO_INET || family == NFPROTO_IPV4 || family == NFPROTO_IPV6 || family == NFPROTO_NETDEV;
}

/* False: they are too many to remember. */
static bool add_device(struct rules_chain *c, const char *name)
{
	if (c->n_devices == sizeof c->devices / sizeof *c->devices)
		return false;
	snprintf(c->devices[c->n_devices++], sizeof *c->devices, "%s", name);
	return true;
}

static void read_hook(struct rules_chain *c, const struct nlattr *hook)
{
	const struct nlattr *a, *dev;
	bool all = false;

	c->is_base = hook_of(c->family, nested_be32(hook, NFTA_HOOK_HOOKNUM, UINT32_MAX), &c->hook);
	mnl_attr_for_each_nested(a, hook)
	{
		if (mnl_attr_get_type(a) == NFTA_HOOK_DEV && !nested(hook, NFTA_HOOK_DEVS))
			all |= !add_device(c, attr_text(a));
		if (mnl_attr_get_type(a) != NFTA_HOOK_DEVS)
			continue;
		mnl_attr_for_each_nested(dev, a)
		{
			all |= mnl_attr_get_type(dev) != NFTA_DEVICE_NAME || !add_device(c, attr_text(dev)); /* newer: a prefix */
		}
	}
	if (all)
		c->n_devices = 0;
}

/*
 * The classifier of an engine (classifier_nft.c): it takes from the kernel what is that engine's, and filters nothing.
 */
static bool is_classifier(const struct rules_chain *c)
{
	return c->family == NFPROTO_NETDEV && strncmp(c->table, "finesse-", 8) == 0;
}

static int on_chain(const struct nlmsghdr *h, void *ctx)
{
	struct reader *r = ctx;
	const struct nfgenmsg *g = mnl_nlmsg_get_payload(h);
	const struct nlattr *a, *hook = NULL;
	struct rules_chain c = {.first_rule = -1, .last_rule = -1}, *added;

	if (h->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN) || mnl_nlmsg_get_payload_len(h) < sizeof *g ||
	    !is_our_family(g->nfgen_family))
		return 0;
	c.family = g->nfgen_family;
	mnl_attr_for_each(a, h, sizeof *g)
	{
		switch (mnl_attr_get_type(a)) {
		case NFTA_CHAIN_TABLE:
			snprintf(c.table, sizeof c.table, "%s", attr_text(a));
			break;
		case NFTA_CHAIN_NAME:
			snprintf(c.name, sizeof c.name, "%s", attr_text(a));
			break;
		case NFTA_CHAIN_HOOK:
			hook = a;
			break;
		case NFTA_CHAIN_POLICY:
			c.drops = attr_be32(a) != NF_ACCEPT;
			break;
		case NFTA_CHAIN_TYPE:
			c.is_nat = strcmp(attr_text(a), "nat") == 0;
			break;
		}
	}
	if (is_classifier(&c))
		return 0;
	if (hook)
		read_hook(&c, hook);
	if (!(added = rules_add_chain(r->rs)))
		return -ENOMEM;
	*added = c;
	return 0;
}

static int find_chain(const struct ruleset *rs, uint8_t family, const char *table, const char *name)
{
	for (uint32_t i = 0; i < rs->n_chains; i++) {
		const struct rules_chain *c = &rs->chains[i];
		if (c->family == family && strcmp(c->name, name) == 0 && strcmp(c->table, table) == 0)
			return i;
	}
	return -1;
}

/* ---- sets ---- */

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
static bool counts_connections(const struct nlattr *expr)
{
	return strcmp(nested_text(expr, NFTA_EXPR_NAME), "connlimit") == 0;
}

static bool any_counts_connections(const struct nlattr *list)
{
	const struct nlattr *a;
	mnl_attr_for_each_nested(a, list)
		if (counts_connections(a))
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

static int on_set(const struct nlmsghdr *h, void *ctx)
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
			s->counts |= counts_connections(a);
			s->notes = true;
			break;
		case NFTA_SET_EXPRESSIONS:
			s->is_open |= !all_only_count(a);
			s->counts |= any_counts_connections(a);
			s->notes = true;
			break;
		}
	}
	s->is_open |= s->key_len == 0;
	return 0;
}

static int find_set(const struct ruleset *rs, uint8_t family, const char *table, const char *name)
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

static void read_verdict(struct reader *r, uint8_t family, const char *table, const struct nlattr *data, uint8_t *verdict, int32_t *target)
{
	const struct nlattr *v = nested(data, NFTA_DATA_VERDICT);
	*verdict = verdict_of((int32_t)nested_be32(v, NFTA_VERDICT_CODE, NF_DROP));
	*target = nested(v, NFTA_VERDICT_CHAIN) ? find_chain(r->rs, family, table, nested_text(v, NFTA_VERDICT_CHAIN)) : -1;
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
	s->counts |= (expr && counts_connections(expr)) || (list && any_counts_connections(list));
	s->notes |= expr || list;
	el->target = -1;
	r->told += siphash13(el->key, sizeof el->key, (const uint8_t[16]){flags & NFT_SET_ELEM_INTERVAL_END});
	if (flags & NFT_SET_ELEM_INTERVAL_END)
		el->verdict = IS_END;
	else if (nested(element, NFTA_SET_ELEM_DATA))
		read_verdict(r, s->family, s->table, nested(element, NFTA_SET_ELEM_DATA), &el->verdict, &el->target);
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

/* ---- expressions ---- */

struct rule_reader {
	struct reader *r;
	uint8_t family;
	const char *table;
	uint32_t first_op;
};

static struct rules_op *add(struct rule_reader *rr, enum rules_op_kind kind)
{
	struct rules_op *op = rules_add_op(rr->r->rs);
	if (op)
		op->kind = kind;
	return op;
}

static int done(const struct rules_op *op)
{
	return op ? 0 : -ENOMEM;
}

static int acts(struct rule_reader *rr, enum rules_act act)
{
	struct rules_op *op = add(rr, OP_ACTS);
	if (op)
		op->act = act;
	return done(op);
}

static int read_load(struct rule_reader *rr, enum rules_field field, unsigned len, uint32_t dreg)
{
	struct rules_op *op = add(rr, OP_LOAD);
	if (!op)
		return -ENOMEM;
	op->field = field;
	op->len = len > RULES_VALUE_MAX ? RULES_VALUE_MAX : len;
	op->to = reg_at(dreg);
	return 0;
}

static int read_meta(struct rule_reader *rr, const struct nlattr *d)
{
	static const struct {
		uint8_t field, len;
	} fields[] = {
	    [NFT_META_NFPROTO] = {FIELD_NFPROTO, 1}, [NFT_META_L4PROTO] = {FIELD_L4PROTO, 1}, [NFT_META_PROTOCOL] = {FIELD_ETHERTYPE, 2},
	    [NFT_META_IIF] = {FIELD_IIF, 4},         [NFT_META_OIF] = {FIELD_OIF, 4},         [NFT_META_IIFNAME] = {FIELD_IIFNAME, 16},
	    [NFT_META_OIFNAME] = {FIELD_OIFNAME, 16},
	};
	uint32_t key = nested_be32(d, NFTA_META_KEY, UINT32_MAX);

	if (!nested(d, NFTA_META_DREG)) /* it sets */
		return key == NFT_META_NFTRACE ? 0 : acts(rr, ACT_MARK);
	bool known = key < sizeof fields / sizeof *fields && fields[key].len;
	return read_load(rr, known ? fields[key].field : FIELD_UNKNOWN, known ? fields[key].len : RULES_VALUE_MAX,
			 nested_be32(d, NFTA_META_DREG, 0));
}

static int read_ct(struct rule_reader *rr, const struct nlattr *d)
{
	uint32_t key = nested_be32(d, NFTA_CT_KEY, UINT32_MAX);
	if (!nested(d, NFTA_CT_DREG)) /* it sets, in the connection's own entry; a zone makes another entry */
		return key == NFT_CT_ZONE ? acts(rr, ACT_ZONE) : done(add(rr, OP_NOTES));
	enum rules_field field = key == NFT_CT_STATE ? FIELD_CT_STATE : key == NFT_CT_DIRECTION ? FIELD_CT_DIRECTION : FIELD_UNKNOWN;
	return read_load(rr, field, key == NFT_CT_DIRECTION ? 1 : key == NFT_CT_STATE ? 4 : RULES_VALUE_MAX, nested_be32(d, NFTA_CT_DREG, 0));
}

static int read_payload(struct rule_reader *rr, const struct nlattr *d)
{
	uint32_t base = nested_be32(d, NFTA_PAYLOAD_BASE, UINT32_MAX), off = nested_be32(d, NFTA_PAYLOAD_OFFSET, UINT32_MAX),
		 len = nested_be32(d, NFTA_PAYLOAD_LEN, 0);
	if (!nested(d, NFTA_PAYLOAD_DREG))
		return acts(rr, ACT_CHANGE);
	bool known = off < 64 && (base == NFT_PAYLOAD_NETWORK_HEADER || base == NFT_PAYLOAD_TRANSPORT_HEADER);
	int err = read_load(rr, !known ? FIELD_UNKNOWN : base == NFT_PAYLOAD_NETWORK_HEADER ? FIELD_NETWORK : FIELD_TRANSPORT, len,
			    nested_be32(d, NFTA_PAYLOAD_DREG, 0));
	if (!err)
		rr->r->rs->ops[rr->r->rs->n_ops - 1].off = known ? off : 0;
	return err;
}

static int read_fib(struct rule_reader *rr, const struct nlattr *d)
{
	uint32_t flags = nested_be32(d, NFTA_FIB_FLAGS, 0), result = nested_be32(d, NFTA_FIB_RESULT, 0);
	bool saddr = flags & NFTA_FIB_F_SADDR;
	enum rules_field field = FIELD_UNKNOWN;
	if (result == NFT_FIB_RESULT_ADDRTYPE)
		field = saddr ? FIELD_SADDR_TYPE : FIELD_DADDR_TYPE;
	else if (result == NFT_FIB_RESULT_OIF && saddr)
		field = flags & NFTA_FIB_F_PRESENT ? FIELD_SADDR_FOUND : FIELD_SADDR_OIF;
	return read_load(rr, field, field == FIELD_SADDR_FOUND ? 1 : 4, nested_be32(d, NFTA_FIB_DREG, 0));
}

static int read_bitwise(struct rule_reader *rr, const struct nlattr *d)
{
	struct rules_op *op = add(rr, OP_CLOBBER);
	if (!op || nested_be32(d, NFTA_BITWISE_OP, NFT_BITWISE_BOOL) != NFT_BITWISE_BOOL)
		return done(op);
	op->from = reg_at(nested_be32(d, NFTA_BITWISE_SREG, 0));
	op->to = reg_at(nested_be32(d, NFTA_BITWISE_DREG, 0));
	op->len = nested_value(d, NFTA_BITWISE_MASK, op->a, sizeof op->a);
	if (op->len && op->len == nested_value(d, NFTA_BITWISE_XOR, op->b, sizeof op->b))
		op->kind = OP_MASK;
	return 0;
}

/* nft writes a range as two comparisons of the same register. */
static void join_comparisons(struct ruleset *rs, uint32_t first_op)
{
	struct rules_op *high = &rs->ops[rs->n_ops - 1], *low = high - 1;
	if (rs->n_ops - first_op < 2 || low->kind != OP_COMPARE || low->cmp != NFT_CMP_GTE || high->cmp != NFT_CMP_LTE || low->from != high->from ||
	    low->len != high->len)
		return;
	low->kind = OP_RANGE;
	memcpy(low->b, high->a, sizeof low->b);
	rs->n_ops--;
}

static int read_cmp(struct rule_reader *rr, const struct nlattr *d)
{
	struct rules_op *op = add(rr, OP_COMPARE);
	if (!op)
		return -ENOMEM;
	op->from = reg_at(nested_be32(d, NFTA_CMP_SREG, 0));
	op->cmp = nested_be32(d, NFTA_CMP_OP, NFT_CMP_EQ);
	op->len = nested_value(d, NFTA_CMP_DATA, op->a, sizeof op->a);
	if (!op->len)
		op->kind = OP_MAYBE;
	else
		join_comparisons(rr->r->rs, rr->first_op);
	return 0;
}

static int read_range(struct rule_reader *rr, const struct nlattr *d)
{
	struct rules_op *op = add(rr, OP_RANGE);
	if (!op)
		return -ENOMEM;
	op->from = reg_at(nested_be32(d, NFTA_RANGE_SREG, 0));
	op->inverted = nested_be32(d, NFTA_RANGE_OP, NFT_RANGE_EQ) == NFT_RANGE_NEQ;
	op->len = nested_value(d, NFTA_RANGE_FROM_DATA, op->a, sizeof op->a);
	if (!op->len || op->len != nested_value(d, NFTA_RANGE_TO_DATA, op->b, sizeof op->b))
		op->kind = OP_MAYBE;
	return 0;
}

static int read_lookup(struct rule_reader *rr, const struct nlattr *d)
{
	int set = find_set(rr->r->rs, rr->family, rr->table, nested_text(d, NFTA_LOOKUP_SET));
	if (set >= 0 && rr->r->rs->sets[set].notes && !add(rr, OP_NOTES))
		return -ENOMEM;
	struct rules_op *op = add(rr, OP_LOOKUP);
	if (!op)
		return -ENOMEM;
	op->from = reg_at(nested_be32(d, NFTA_LOOKUP_SREG, 0));
	op->inverted = nested_be32(d, NFTA_LOOKUP_FLAGS, 0) & NFT_LOOKUP_F_INV;
	op->target = set;
	if (nested(d, NFTA_LOOKUP_DREG)) {
		uint32_t dreg = nested_be32(d, NFTA_LOOKUP_DREG, 0);
		op->is_map = dreg == NFT_REG_VERDICT;
		op->has_data = !op->is_map;
		op->to = reg_at(dreg);
	}
	return 0;
}

static int read_immediate(struct rule_reader *rr, const struct nlattr *d)
{
	if (nested_be32(d, NFTA_IMMEDIATE_DREG, 0) != NFT_REG_VERDICT)
		return done(add(rr, OP_CLOBBER)); /* for a statement that follows */
	struct rules_op *op = add(rr, OP_VERDICT);
	if (op)
		read_verdict(rr->r, rr->family, rr->table, nested(d, NFTA_IMMEDIATE_DATA), &op->verdict, &op->target);
	return done(op);
}

static int read_count(struct rule_reader *rr, const struct nlattr *d)
{
	(void)d;
	return done(add(rr, OP_COUNT));
}


static int read_notes(struct rule_reader *rr, const struct nlattr *d)
{
	(void)d;
	return done(add(rr, OP_NOTES));
}

/* Each rule of iptables has counters, whether anybody reads them or not. Who writes one with nft means it. */
static bool is_of_iptables(const struct rule_reader *rr)
{
	const char *t = rr->table;
	return (rr->family == NFPROTO_IPV4 || rr->family == NFPROTO_IPV6) &&
	       (!strcmp(t, "filter") || !strcmp(t, "nat") || !strcmp(t, "mangle") || !strcmp(t, "raw") || !strcmp(t, "security"));
}

static int read_counter(struct rule_reader *rr, const struct nlattr *d)
{
	return is_of_iptables(rr) ? 0 : read_notes(rr, d);
}

/* Limits and quotas remember what came; a full set stops the rule. */
static int read_memory(struct rule_reader *rr, const struct nlattr *d)
{
	int err = read_notes(rr, d);
	return err ? err : done(add(rr, OP_MAYBE));
}

/* A packet adds to a set. That needs no flag of the set's where it has time-outs. */
static int read_dynset(struct rule_reader *rr, const struct nlattr *d)
{
	int set = find_set(rr->r->rs, rr->family, rr->table, nested_text(d, NFTA_DYNSET_SET_NAME));
	const struct nlattr *expr = nested(d, NFTA_DYNSET_EXPR), *list = nested(d, NFTA_DYNSET_EXPRESSIONS);
	bool counts = (expr && counts_connections(expr)) || (list && any_counts_connections(list));
	if (set >= 0) {
		rr->r->rs->sets[set].is_open = true;
		rr->r->rs->sets[set].counts |= counts;
	}
	int err = read_memory(rr, d);
	return err || !counts ? err : read_count(rr, d);
}

static int read_objref(struct rule_reader *rr, const struct nlattr *d)
{
	uint32_t type = nested_be32(d, NFTA_OBJREF_IMM_TYPE, 0);
	if (type == NFT_OBJECT_COUNTER)
		return read_notes(rr, d);
	if (type == NFT_OBJECT_CONNLIMIT)
		return read_count(rr, d);
	return type == NFT_OBJECT_LIMIT || type == NFT_OBJECT_QUOTA ? read_memory(rr, d) : acts(rr, ACT_UNKNOWN);
}

static int read_clobber(struct rule_reader *rr, const struct nlattr *d)
{
	(void)d;
	return done(add(rr, OP_CLOBBER));
}

/* Where the header is not there the rule ends, unless it asks whether it is. */
static bool needs_foreign_header(const struct nlattr *d)
{
	const struct nlattr *type = nested(d, NFTA_EXTHDR_TYPE);
	return nested_be32(d, NFTA_EXTHDR_OP, NFT_EXTHDR_OP_IPV6) == NFT_EXTHDR_OP_IPV6 && !(nested_be32(d, NFTA_EXTHDR_FLAGS, 0) & NFT_EXTHDR_F_PRESENT) && type &&
	       firewall_is_foreign_header(mnl_attr_get_u8(type));
}

static int read_exthdr(struct rule_reader *rr, const struct nlattr *d)
{
	if (nested(d, NFTA_EXTHDR_DREG) && needs_foreign_header(d))
		return done(add(rr, OP_NEVER));
	return nested(d, NFTA_EXTHDR_DREG) ? done(add(rr, OP_CLOBBER)) : acts(rr, ACT_CHANGE);
}

static int read_match(struct rule_reader *rr, const struct nlattr *d)
{
	const struct nlattr *info = nested(d, NFTA_MATCH_INFO);
	return firewall_xt_match(rr->r->rs, nested_text(d, NFTA_MATCH_NAME), nested_be32(d, NFTA_MATCH_REV, 0),
				 info ? mnl_attr_get_payload(info) : "", info ? mnl_attr_get_payload_len(info) : 0);
}

static int read_target(struct rule_reader *rr, const struct nlattr *d)
{
	return firewall_xt_target(rr->r->rs, nested_text(d, NFTA_TARGET_NAME));
}

static int read_nat(struct rule_reader *rr, const struct nlattr *d)
{
	(void)d;
	return acts(rr, ACT_NAT);
}

static int read_reject(struct rule_reader *rr, const struct nlattr *d)
{
	(void)d;
	return acts(rr, ACT_REJECT);
}

static int read_expression(struct rule_reader *rr, const char *name, const struct nlattr *data)
{
	static const struct {
		const char *name;
		int (*read)(struct rule_reader *rr, const struct nlattr *d);
	} known[] = {
	    {"cmp", read_cmp},         {"meta", read_meta},         {"payload", read_payload}, {"immediate", read_immediate},
	    {"counter", read_counter}, {"ct", read_ct},             {"bitwise", read_bitwise}, {"lookup", read_lookup},
	    {"match", read_match},     {"target", read_target},     {"range", read_range},     {"log", read_notes},
	    {"limit", read_memory},    {"quota", read_memory},      {"connlimit", read_count}, {"last", read_notes},
	    {"dynset", read_dynset},   {"fib", read_fib},           {"objref", read_objref},   {"byteorder", read_clobber},
	    {"exthdr", read_exthdr},   {"hash", read_clobber},      {"numgen", read_clobber},  {"rt", read_clobber},
	    {"socket", read_clobber},  {"osf", read_clobber},       {"xfrm", read_clobber},    {"inner", read_clobber},
	    {"tunnel", read_clobber},  {"nat", read_nat},           {"masq", read_nat},        {"redir", read_nat},
	    {"reject", read_reject},
	};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strcmp(name, known[i].name) == 0)
			return known[i].read(rr, data);
	return acts(rr, ACT_UNKNOWN);
}

static int on_rule(const struct nlmsghdr *h, void *ctx)
{
	struct reader *r = ctx;
	const struct nfgenmsg *g = mnl_nlmsg_get_payload(h);
	const struct nlattr *a, *e, *expressions = NULL;
	struct rule_reader rr = {.r = r, .family = g->nfgen_family, .table = ""};
	const char *chain = "";

	if (h->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE))
		return 0;
	mnl_attr_for_each(a, h, sizeof *g)
	{
		if (mnl_attr_get_type(a) == NFTA_RULE_TABLE)
			rr.table = attr_text(a);
		else if (mnl_attr_get_type(a) == NFTA_RULE_CHAIN)
			chain = attr_text(a);
		else if (mnl_attr_get_type(a) == NFTA_RULE_EXPRESSIONS)
			expressions = a;
	}
	int at = find_chain(r->rs, rr.family, rr.table, chain), err = 0;
	if (at < 0 || !expressions)
		return 0; /* of a family or a chain that no packet of ours meets */
	struct rules_rule *rule = rules_add_rule(r->rs, at);
	if (!rule)
		return -ENOMEM;
	rr.first_op = r->rs->n_ops;
	mnl_attr_for_each_nested(e, expressions) if (!err) err =
	    read_expression(&rr, nested_text(e, NFTA_EXPR_NAME), nested(e, NFTA_EXPR_DATA));
	rule->n_ops = r->rs->n_ops - rr.first_op;
	return err;
}

/* ---- asking ---- */

static struct nlmsghdr *put_dump(void *buf, int msg, uint8_t family)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *g = mnl_nlmsg_put_extra_header(h, sizeof *g);

	h->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | msg;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	g->nfgen_family = family;
	g->version = NFNETLINK_V0;
	return h;
}

static int dump_elements(struct reader *r)
{
	_Alignas(struct nlmsghdr) char buf[REQUEST_BYTES];
	struct rules_set *s = &r->rs->sets[r->set];
	struct nlmsghdr *h = put_dump(buf, NFT_MSG_GETSETELEM, s->family);

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

static int read_elements(struct reader *r)
{
	struct rules_set *s = &r->rs->sets[r->set];
	s->first = r->rs->n_elements;
	if (s->is_open)
		return 0;
	int ret = s->is_aging ? dump_aging(r) : dump_elements(r);
	sort_elements(r->rs, s);
	return ret;
}

static int read_once(struct reader *r)
{
	_Alignas(struct nlmsghdr) char buf[REQUEST_BYTES];
	int ret = netlink_talk(r->fd, put_dump(buf, NFT_MSG_GETCHAIN, NFPROTO_UNSPEC), on_chain, r);

	if (ret == -EINVAL || ret == -EOPNOTSUPP)
		return 0; /* no nf_tables in this kernel */
	if (ret == 0 && r->rs->n_chains)
		ret = netlink_talk(r->fd, put_dump(buf, NFT_MSG_GETSET, NFPROTO_UNSPEC), on_set, r);
	for (r->set = 0; ret == 0 && r->set < (int)r->rs->n_sets; r->set++)
		ret = read_elements(r);
	if (ret == 0 && r->rs->n_chains)
		ret = netlink_talk(r->fd, put_dump(buf, NFT_MSG_GETRULE, NFPROTO_UNSPEC), on_rule, r);
	return ret;
}

int firewall_read_nftables(struct ruleset *rs)
{
	struct reader r = {.rs = rs};
	int ret = -EINTR;

	if (firewall_nft_is_absent())
		return 0;
	r.fd = fd_move_high(netlink_open(NETLINK_NETFILTER));
	if (r.fd == -EPROTONOSUPPORT)
		return 0;
	if (r.fd < 0)
		return r.fd;
	for (int i = 0; i < INTERRUPTS_MAX && ret == -EINTR; i++) {
		rules_clear(rs);
		ret = read_once(&r);
	}
	fd_close(r.fd);
	return ret;
}
