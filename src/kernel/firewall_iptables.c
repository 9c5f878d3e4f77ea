/*
 * Legacy iptables and ip6tables, by getsockopt on a raw socket, into the evaluator's form (firewall_rules.h). Only
 * tables that exist in this namespace are asked for (/proc/net/ip_tables_names): asking for another would load and
 * create it.
 *
 * A table is one array of entries. A built-in chain begins at its hook's offset and ends with its policy; a user's
 * chain begins behind an entry whose target is ERROR, and ends with a RETURN. Verdicts below zero are final, others are
 * the offset to jump to. Both families have the same shape with other structs, so offsets carry the difference.
 */
#include "kernel/firewall_internal.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <stdbool.h>
#include <linux/netfilter/nf_tables.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/sys.h"
#include "kernel/procfile.h"

#define TABLE_BYTES_MAX (8 * 1024 * 1024) /* a larger table filters, whatever it says */
/*
 * Who is not the superuser may not read the names, nor may the owner of a network namespace that was made together with
 * its user namespace (unshare -rn). Then all are asked for, which makes empty ones of those that are not there.
 */
#define ALL_TABLES      "filter\nmangle\nraw\nnat\nsecurity"
#define ACCEPT_VERDICT  (-NF_ACCEPT - 1)  /* how x_tables writes a final verdict */

struct family {
	const char *command, *names;
	int af, level, get_info, get_entries;
};

static const struct family families[] = {
    {"iptables", "/proc/net/ip_tables_names", AF_INET, IPPROTO_IP, IPT_SO_GET_INFO,
     IPT_SO_GET_ENTRIES},
    {"ip6tables", "/proc/net/ip6_tables_names", AF_INET6, IPPROTO_IPV6, IP6T_SO_GET_INFO,
     IP6T_SO_GET_ENTRIES},
};

/* The two families' structs for these are the same. */
_Static_assert(sizeof(struct ipt_getinfo) == sizeof(struct ip6t_getinfo), "getinfo");
_Static_assert(offsetof(struct ipt_get_entries, entrytable) ==
		   offsetof(struct ip6t_get_entries, entrytable),
	       "get_entries");

/* One entry, as both families have it. */
struct entry {
	uint32_t target_offset, next_offset, matches_offset;
	uint8_t saddr[16], smask[16], daddr[16], dmask[16];
	unsigned addr_len, saddr_off;
	bool not_src, not_dst, not_in, not_out, not_proto, fragment;
	char in[16], out[16];
	uint8_t in_mask[16], out_mask[16];
	unsigned proto;
};

static void entry_v4(const struct ipt_entry *e, struct entry *out)
{
	*out = (struct entry){.target_offset = e->target_offset, .next_offset = e->next_offset, .matches_offset = sizeof *e, .addr_len = 4, .saddr_off = 12,
			      .proto = e->ip.proto, .not_src = e->ip.invflags & IPT_INV_SRCIP, .not_dst = e->ip.invflags & IPT_INV_DSTIP,
			      .not_in = e->ip.invflags & IPT_INV_VIA_IN, .not_out = e->ip.invflags & IPT_INV_VIA_OUT,
			      .not_proto = e->ip.invflags & XT_INV_PROTO, .fragment = e->ip.flags & IPT_F_FRAG};
	memcpy(out->saddr, &e->ip.src, 4);
	memcpy(out->smask, &e->ip.smsk, 4);
	memcpy(out->daddr, &e->ip.dst, 4);
	memcpy(out->dmask, &e->ip.dmsk, 4);
	memcpy(out->in, e->ip.iniface, 16);
	memcpy(out->out, e->ip.outiface, 16);
	memcpy(out->in_mask, e->ip.iniface_mask, 16);
	memcpy(out->out_mask, e->ip.outiface_mask, 16);
}

static void entry_v6(const struct ip6t_entry *e, struct entry *out)
{
	*out = (struct entry){.target_offset = e->target_offset, .next_offset = e->next_offset, .matches_offset = sizeof *e, .addr_len = 16, .saddr_off = 8,
			      .proto = e->ipv6.flags & IP6T_F_PROTO ? e->ipv6.proto : 0, .not_src = e->ipv6.invflags & IP6T_INV_SRCIP,
			      .not_dst = e->ipv6.invflags & IP6T_INV_DSTIP, .not_in = e->ipv6.invflags & IP6T_INV_VIA_IN,
			      .not_out = e->ipv6.invflags & IP6T_INV_VIA_OUT, .not_proto = e->ipv6.invflags & XT_INV_PROTO};
	memcpy(out->saddr, &e->ipv6.src, 16);
	memcpy(out->smask, &e->ipv6.smsk, 16);
	memcpy(out->daddr, &e->ipv6.dst, 16);
	memcpy(out->dmask, &e->ipv6.dmsk, 16);
	memcpy(out->in, e->ipv6.iniface, 16);
	memcpy(out->out, e->ipv6.outiface, 16);
	memcpy(out->in_mask, e->ipv6.iniface_mask, 16);
	memcpy(out->out_mask, e->ipv6.outiface_mask, 16);
}

/* A table that is being read. */
struct table {
	struct ruleset *rs;
	const struct family *f;
	const struct ipt_getinfo *info;
	const uint8_t *entries;
	uint32_t first_chain; /* of the ruleset */
	uint32_t *starts;     /* offset of each of its chains */
	uint32_t n_chains;
};

/* The entry at `at`; false when it does not fit (never, from a sane kernel). */
static bool read_entry(const struct table *t, uint32_t at, struct entry *out)
{
	struct ipt_entry e4;
	struct ip6t_entry e6;
	uint32_t size = t->info->size;

	if (at > size || size - at < (t->f->af == AF_INET ? sizeof e4 : sizeof e6))
		return false;
	if (t->f->af == AF_INET) {
		memcpy(&e4, t->entries + at, sizeof e4);
		entry_v4(&e4, out);
	} else {
		memcpy(&e6, t->entries + at, sizeof e6);
		entry_v6(&e6, out);
	}
	return out->next_offset > 0 && out->next_offset <= size - at && out->target_offset + sizeof(struct xt_entry_target) <= out->next_offset &&
	       out->target_offset >= out->matches_offset;
}

static void target_of(const struct table *t, uint32_t at, const struct entry *e, char name[XT_EXTENSION_MAXNAMELEN], int *verdict)
{
	struct xt_standard_target s = {.verdict = 0};
	uint32_t room = e->next_offset - e->target_offset;
	memcpy(&s, t->entries + at + e->target_offset, room < sizeof s ? room : sizeof s);
	snprintf(name, XT_EXTENSION_MAXNAMELEN, "%.*s", XT_EXTENSION_MAXNAMELEN - 1, s.target.u.user.name);
	*verdict = s.verdict;
}

/* The bytes of a field under a mask are a value's, or are not. */
static int match_bytes(struct ruleset *rs, enum rules_field field, unsigned off, unsigned len, const void *value, const uint8_t *mask, bool inverted)
{
	static const uint8_t zero[16];
	struct rules_op *op;
	if (memcmp(mask, zero, len) == 0)
		return 0;
	if (!(op = rules_add_op(rs)))
		return -ENOMEM;
	*op = (struct rules_op){.kind = OP_LOAD, .field = field, .off = off, .len = len, .to = NFT_REG_SIZE};
	if (!(op = rules_add_op(rs)))
		return -ENOMEM;
	*op = (struct rules_op){.kind = OP_MASK, .from = NFT_REG_SIZE, .to = NFT_REG_SIZE, .len = len};
	memcpy(op->a, mask, len);
	if (!(op = rules_add_op(rs)))
		return -ENOMEM;
	*op = (struct rules_op){.kind = OP_COMPARE, .cmp = inverted ? NFT_CMP_NEQ : NFT_CMP_EQ, .from = NFT_REG_SIZE, .len = len};
	for (unsigned i = 0; i < len; i++)
		op->a[i] = ((const uint8_t *)value)[i] & mask[i];
	return 0;
}

static int read_matches(const struct table *t, uint32_t at, const struct entry *e)
{
	static const uint8_t all = 0xff;
	struct ruleset *rs = t->rs;
	uint8_t proto = e->proto;
	int err = match_bytes(rs, FIELD_NETWORK, e->saddr_off, e->addr_len, e->saddr, e->smask, e->not_src);
	if (!err)
		err = match_bytes(rs, FIELD_NETWORK, e->saddr_off + e->addr_len, e->addr_len, e->daddr, e->dmask, e->not_dst);
	if (!err)
		err = match_bytes(rs, FIELD_IIFNAME, 0, 16, e->in, e->in_mask, e->not_in);
	if (!err)
		err = match_bytes(rs, FIELD_OIFNAME, 0, 16, e->out, e->out_mask, e->not_out);
	if (!err && e->proto)
		err = match_bytes(rs, FIELD_L4PROTO, 0, 1, &proto, &all, e->not_proto);
	if (!err && e->fragment)
		err = firewall_xt_match(rs, "fragment", 0, "", 0);
	for (uint32_t m = e->matches_offset; !err && m < e->target_offset;) {
		struct xt_entry_match match;
		memcpy(&match, t->entries + at + m, sizeof match);
		if (match.u.match_size < sizeof match || match.u.match_size > e->target_offset - m)
			return -EINVAL;
		match.u.user.name[XT_EXTENSION_MAXNAMELEN - 2] = 0;
		err = firewall_xt_match(rs, match.u.user.name, match.u.user.revision, t->entries + at + m + sizeof match,
					match.u.match_size - sizeof match);
		m += match.u.match_size;
	}
	return err;
}

static int chain_at(const struct table *t, uint32_t offset)
{
	for (uint32_t i = 0; i < t->n_chains; i++)
		if (t->starts[i] == offset)
			return t->first_chain + i;
	return -1;
}

static int add_verdict(struct ruleset *rs, enum rules_verdict verdict, int target)
{
	struct rules_op *op = rules_add_op(rs);
	if (!op)
		return -ENOMEM;
	*op = (struct rules_op){.kind = OP_VERDICT, .verdict = verdict, .target = target};
	return 0;
}

static int read_target(const struct table *t, uint32_t at, const struct entry *e)
{
	char name[XT_EXTENSION_MAXNAMELEN];
	int verdict;
	target_of(t, at, e, name, &verdict);
	if (name[0])
		return firewall_xt_target(t->rs, name);
	if (verdict == ACCEPT_VERDICT)
		return add_verdict(t->rs, VERDICT_ACCEPT, -1);
	if (verdict == XT_RETURN)
		return add_verdict(t->rs, VERDICT_RETURN, -1);
	if (verdict < 0)
		return add_verdict(t->rs, VERDICT_DROP, -1);
	if ((uint32_t)verdict == at + e->next_offset)
		return 0; /* a rule without a target */
	return add_verdict(t->rs, VERDICT_JUMP, chain_at(t, verdict));
}

static bool is_policy(const struct ipt_getinfo *info, uint32_t at)
{
	for (int hook = 0; hook < NF_INET_NUMHOOKS; hook++)
		if ((info->valid_hooks & 1U << hook) && info->underflow[hook] == at)
			return true;
	return false;
}

/* The hook whose chain begins here, or -1. */
static int hook_at(const struct ipt_getinfo *info, uint32_t at)
{
	for (int hook = 0; hook < NF_INET_NUMHOOKS; hook++)
		if ((info->valid_hooks & 1U << hook) && info->hook_entry[hook] == at)
			return hook;
	return -1;
}

static int add_chain(struct table *t, uint32_t start, int hook, const char *name)
{
	static const char *const names[NF_INET_NUMHOOKS] = {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"};
	static const enum rules_hook hooks[NF_INET_NUMHOOKS] = {RULES_PREROUTING, RULES_INPUT, 0, RULES_OUTPUT, RULES_POSTROUTING};
	struct rules_chain *c = rules_add_chain(t->rs);
	uint32_t *bigger = realloc(t->starts, (t->n_chains + 1) * sizeof *bigger);
	if (bigger)
		t->starts = bigger;
	if (!c || !bigger)
		return -ENOMEM;
	t->starts[t->n_chains++] = start;
	c->is_legacy = true;
	c->family = t->f->af == AF_INET ? NFPROTO_IPV4 : NFPROTO_IPV6;
	snprintf(c->table, sizeof c->table, "%s", t->info->name);
	snprintf(c->name, sizeof c->name, "%s", hook >= 0 ? names[hook] : name);
	c->is_base = hook >= 0 && hook != NF_INET_FORWARD;
	c->is_nat = strcmp(t->info->name, "nat") == 0;
	if (c->is_base)
		c->hook = hooks[hook];
	return 0;
}

static int find_chains(struct table *t)
{
	struct entry e;
	int err = 0;
	for (uint32_t at = 0; at < t->info->size && !err; at += e.next_offset) {
		char name[XT_EXTENSION_MAXNAMELEN];
		int verdict, hook = hook_at(t->info, at);
		if (!read_entry(t, at, &e))
			return -EINVAL;
		target_of(t, at, &e, name, &verdict);
		if (hook >= 0)
			err = add_chain(t, at, hook, NULL);
		else if (strcmp(name, XT_ERROR_TARGET) == 0 && at + e.next_offset < t->info->size)
			err = add_chain(t, at + e.next_offset, -1, (const char *)t->entries + at + e.target_offset + sizeof(struct xt_entry_target));
	}
	return err;
}

static int read_rules(struct table *t)
{
	struct entry e;
	int err = 0, chain = -1;
	for (uint32_t at = 0; at < t->info->size && !err; at += e.next_offset) {
		char name[XT_EXTENSION_MAXNAMELEN];
		int verdict, begins = chain_at(t, at);
		if (!read_entry(t, at, &e))
			return -EINVAL;
		chain = begins >= 0 ? begins : chain;
		target_of(t, at, &e, name, &verdict);
		if (strcmp(name, XT_ERROR_TARGET) == 0 || chain < 0)
			continue;
		if (is_policy(t->info, at)) {
			t->rs->chains[chain].drops = verdict != ACCEPT_VERDICT;
			continue;
		}
		struct rules_rule *rule = rules_add_rule(t->rs, chain);
		uint32_t n = t->rs->n_rules - 1, first = t->rs->n_ops;
		err = rule ? read_matches(t, at, &e) : -ENOMEM;
		if (!err)
			err = read_target(t, at, &e);
		if (!err)
			t->rs->rules[n].n_ops = t->rs->n_ops - first;
	}
	return err;
}

static int read_table(struct ruleset *rs, const struct family *f, int fd, const char *name)
{
	struct ipt_getinfo info = {0};
	socklen_t len = sizeof info;
	int ret;

	snprintf(info.name, sizeof info.name, "%s", name);
	ret = sys_getsockopt(fd, f->level, f->get_info, &info, &len);
	if (ret < 0)
		return ret == -ENOENT ? 0 : ret; /* the table went meanwhile */
	if (info.size > TABLE_BYTES_MAX)
		return -E2BIG;
	struct ipt_get_entries *get = calloc(1, sizeof *get + info.size);
	if (!get)
		return -ENOMEM;
	snprintf(get->name, sizeof get->name, "%s", name);
	get->size = info.size;
	len = sizeof *get + info.size;
	ret = sys_getsockopt(fd, f->level, f->get_entries, get, &len);
	if (ret >= 0) {
		struct table t = {.rs = rs, .f = f, .info = &info, .entries = (const uint8_t *)get->entrytable, .first_chain = rs->n_chains};
		ret = find_chains(&t);
		if (!ret)
			ret = read_rules(&t);
		free(t.starts);
	}
	free(get);
	return ret; /* -EAGAIN: it changed in between; the caller asks again */
}

static int read_family(struct ruleset *rs, const struct family *f)
{
	char *names, *save = NULL;
	int ret = procfile_read(f->names, &names), fd;

	if (ret == -EACCES) {
		names = strdup(ALL_TABLES);
		ret = names ? 0 : -ENOMEM;
	}
	if (ret < 0)
		return ret == -ENOENT ? 0 : ret; /* no such kernel code */
	if (names[0] == '\0') {
		free(names);
		return 0;
	}
	fd = fd_move_high(sys_socket(f->af, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
	ret = fd < 0 ? fd : 0;
	for (char *t = strtok_r(names, "\n", &save); t && ret == 0; t = strtok_r(NULL, "\n", &save)) {
		ret = read_table(rs, f, fd, t);
		if (ret == -EAGAIN)
			ret = read_table(rs, f, fd, t);
	}
	fd_close(fd);
	free(names);
	return ret;
}

int firewall_read_iptables(struct ruleset *rs)
{
	int ret = read_family(rs, &families[0]);
	return ret ? ret : read_family(rs, &families[1]);
}
