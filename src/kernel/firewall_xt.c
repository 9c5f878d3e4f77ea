/*
 * iptables' own matches and targets in the evaluator's form (firewall_rules.h): as the legacy tables have them, and as
 * nftables carries them for iptables-nft. A match that is not known is "perhaps"; a target that is not known acts. A
 * match of a header that our packets do not have (ufw: -m rt) never holds, inverted or not: without the header Linux's
 * answer is no.
 */
#include "kernel/firewall_internal.h"

#include <errno.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/xt_addrtype.h>
#include <linux/netfilter/xt_conntrack.h>
#include <linux/netfilter/xt_tcpudp.h>
#include <string.h>

#define REG NFT_REG_SIZE /* the first after the verdict's */

/* struct xt_state_info of the kernel's own header: bits as in xt_conntrack. */
struct state_info {
	unsigned int mask;
};

static int add_match(struct ruleset *rs, enum rules_op_kind kind)
{
	struct rules_op *op = rules_add_op(rs);
	if (!op)
		return -ENOMEM;
	op->kind = kind;
	return 0;
}

static int maybe(struct ruleset *rs)
{
	return add_match(rs, OP_MAYBE);
}

static int load(struct ruleset *rs, enum rules_field field, unsigned off, unsigned len)
{
	struct rules_op *op = rules_add_op(rs);
	if (!op)
		return -ENOMEM;
	*op = (struct rules_op){.kind = OP_LOAD, .field = field, .off = off, .len = len, .to = REG};
	return 0;
}

/* The rule goes on if the field has one of the bits (or, inverted, none). */
static int any_bit(struct ruleset *rs, enum rules_field field, uint32_t bits, bool inverted)
{
	static const uint32_t none = 0;
	struct rules_op *op;
	int err = load(rs, field, 0, sizeof bits);
	if (err || !(op = rules_add_op(rs)))
		return -ENOMEM;
	*op = (struct rules_op){.kind = OP_MASK, .from = REG, .to = REG, .len = sizeof bits};
	memcpy(op->a, &bits, sizeof bits);
	if (!(op = rules_add_op(rs)))
		return -ENOMEM;
	*op = (struct rules_op){.kind = OP_COMPARE, .cmp = inverted ? NFT_CMP_EQ : NFT_CMP_NEQ, .from = REG, .len = sizeof bits};
	memcpy(op->a, &none, sizeof none);
	return 0;
}

/* The kernel's ESTABLISHED, NEW … have the same bits in xt_conntrack and in nftables. */
static int read_conntrack(struct ruleset *rs, const void *info)
{
	struct xt_conntrack_mtinfo2 m;
	memcpy(&m, info, sizeof m);
	if (m.match_flags & XT_CONNTRACK_STATE) {
		int err = any_bit(rs, FIELD_CT_STATE, m.state_mask, m.invert_flags & XT_CONNTRACK_STATE);
		if (err)
			return err;
	}
	return m.match_flags & ~XT_CONNTRACK_STATE ? maybe(rs) : 0;
}

/* A type is a number, the match a set of them: one type at a time. */
static int one_type(struct ruleset *rs, enum rules_field field, unsigned types, bool inverted)
{
	struct rules_op *op;
	uint32_t type = types ? __builtin_ctz(types) : 0;
	if (!types)
		return 0;
	if (types & (types - 1))
		return maybe(rs);
	int err = load(rs, field, 0, sizeof type);
	if (err || !(op = rules_add_op(rs)))
		return -ENOMEM;
	*op = (struct rules_op){.kind = OP_COMPARE, .cmp = inverted ? NFT_CMP_NEQ : NFT_CMP_EQ, .from = REG, .len = sizeof type};
	memcpy(op->a, &type, sizeof type);
	return 0;
}

static int read_addrtype(struct ruleset *rs, const void *info)
{
	struct xt_addrtype_info_v1 m;
	memcpy(&m, info, sizeof m);
	if (m.flags & (XT_ADDRTYPE_LIMIT_IFACE_IN | XT_ADDRTYPE_LIMIT_IFACE_OUT))
		return maybe(rs);
	int err = one_type(rs, FIELD_SADDR_TYPE, m.source, m.flags & XT_ADDRTYPE_INVERT_SOURCE);
	return err ? err : one_type(rs, FIELD_DADDR_TYPE, m.dest, m.flags & XT_ADDRTYPE_INVERT_DEST);
}

static int read_ports(struct ruleset *rs, unsigned off, const uint16_t range[2], bool inverted)
{
	struct rules_op *op;
	if (range[0] == 0 && range[1] == 0xffff && !inverted)
		return 0;
	int err = load(rs, FIELD_TRANSPORT, off, 2);
	if (err || !(op = rules_add_op(rs)))
		return -ENOMEM;
	*op = (struct rules_op){.kind = OP_RANGE, .from = REG, .len = 2, .inverted = inverted};
	for (int i = 0; i < 2; i++) {
		uint8_t *to = i ? op->b : op->a;
		to[0] = range[i] >> 8;
		to[1] = range[i] & 0xff;
	}
	return 0;
}

static int read_flags(struct ruleset *rs, const struct xt_tcp *m)
{
	struct rules_op *op;
	int err = load(rs, FIELD_TRANSPORT, 13, 1);
	if (err || !(op = rules_add_op(rs)))
		return -ENOMEM;
	*op = (struct rules_op){.kind = OP_MASK, .from = REG, .to = REG, .len = 1, .a = {m->flg_mask}};
	if (!(op = rules_add_op(rs)))
		return -ENOMEM;
	*op = (struct rules_op){.kind = OP_COMPARE, .cmp = m->invflags & XT_TCP_INV_FLAGS ? NFT_CMP_NEQ : NFT_CMP_EQ, .from = REG, .len = 1,
				.a = {m->flg_cmp}};
	return 0;
}

static int read_tcp(struct ruleset *rs, const void *info)
{
	struct xt_tcp m;
	memcpy(&m, info, sizeof m);
	int err = read_ports(rs, 0, m.spts, m.invflags & XT_TCP_INV_SRCPT);
	if (!err)
		err = read_ports(rs, 2, m.dpts, m.invflags & XT_TCP_INV_DSTPT);
	if (!err && m.flg_mask)
		err = read_flags(rs, &m);
	return !err && m.option ? maybe(rs) : err;
}

bool firewall_is_foreign_header(unsigned protocol)
{
	return protocol == IPPROTO_ROUTING || protocol == IPPROTO_AH || protocol == IPPROTO_ESP || protocol == IPPROTO_MH;
}

static bool is_of_foreign_header(const char *name)
{
	static const char *const names[] = {"rt", "ah", "esp", "mh"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* Other matches remember what came (recent, limit, hashlimit, quota, statistic, nfacct, set with counters). */
static bool only_looks(const char *name)
{
	static const char *const names[] = {
		"bpf", "cgroup", "connmark", "cpu", "devgroup", "dscp", "ecn", "frag", "helper", "hl", "icmp", "icmp6", "iprange",
		"length", "mac", "mark", "multiport", "owner", "physdev", "pkttype", "policy", "realm", "rpfilter", "socket", "string",
		"tcpmss", "time", "tos", "ttl", "u32", "udp",
	};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

int firewall_xt_match(struct ruleset *rs, const char *name, unsigned revision, const void *info, size_t len)
{
	if (strcmp(name, "comment") == 0)
		return 0;
	if (strcmp(name, "conntrack") == 0 && revision >= 2 && len >= sizeof(struct xt_conntrack_mtinfo2))
		return read_conntrack(rs, info);
	if (strcmp(name, "state") == 0 && len >= sizeof(struct state_info))
		return any_bit(rs, FIELD_CT_STATE, ((const struct state_info *)info)->mask, false);
	if (strcmp(name, "addrtype") == 0 && revision == 1 && len >= sizeof(struct xt_addrtype_info_v1))
		return read_addrtype(rs, info);
	if (strcmp(name, "tcp") == 0 && len >= sizeof(struct xt_tcp))
		return read_tcp(rs, info);
	if (is_of_foreign_header(name))
		return add_match(rs, OP_NEVER);
	if (strcmp(name, "connlimit") == 0)
		return add_match(rs, OP_COUNT);
	int err = only_looks(name) ? 0 : add_match(rs, OP_NOTES);
	return err ? err : maybe(rs);
}

int firewall_xt_target(struct ruleset *rs, const char *name)
{
	static const char *const noting[] = {"LOG", "NFLOG", "ULOG", "AUDIT", "RATEEST", "CONNMARK", "CONNSECMARK", "SET"};
	static const struct {
		const char *name;
		uint8_t act;
	} known[] = {{"REJECT", ACT_REJECT},
		     {"DNAT", ACT_NAT},
		     {"SNAT", ACT_NAT},
		     {"MASQUERADE", ACT_NAT},
		     {"REDIRECT", ACT_NAT}};
	uint8_t act = ACT_TARGET;

	if (strcmp(name, "TRACE") == 0)
		return 0;
	for (size_t i = 0; i < sizeof noting / sizeof *noting; i++)
		if (strcmp(name, noting[i]) == 0)
			return add_match(rs, OP_NOTES);
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strcmp(name, known[i].name) == 0)
			act = known[i].act;
	struct rules_op *op = rules_add_op(rs);
	if (!op)
		return -ENOMEM;
	*op = (struct rules_op){.kind = OP_ACTS, .act = act};
	return 0;
}
