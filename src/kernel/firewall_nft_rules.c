/*
 * nftables' rules, expression by expression. One that is not known here is "perhaps" when it can only end a rule, and
 * an act when it could do anything to a packet.
 */
#include "kernel/firewall_nft_internal.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <netinet/in.h>
#include <stdlib.h>

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
	int set = nft_find_set(rr->r->rs, rr->family, rr->table, nested_text(d, NFTA_LOOKUP_SET));
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
		nft_read_verdict(rr->r, rr->family, rr->table, nested(d, NFTA_IMMEDIATE_DATA), &op->verdict, &op->target);
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
	int set = nft_find_set(rr->r->rs, rr->family, rr->table, nested_text(d, NFTA_DYNSET_SET_NAME));
	const struct nlattr *expr = nested(d, NFTA_DYNSET_EXPR), *list = nested(d, NFTA_DYNSET_EXPRESSIONS);
	bool counts = (expr && nft_counts_connections(expr)) || (list && nft_any_counts_connections(list));
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

int nft_on_rule(const struct nlmsghdr *h, void *ctx)
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
	int at = nft_find_chain(r->rs, rr.family, rr.table, chain), err = 0;
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
