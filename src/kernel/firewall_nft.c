/*
 * nftables, by netlink: base chains on the hooks that the engine's packets miss, and their rules.
 *
 * A chain concerns us by policy drop, or by any rule that is not provably about something else.
 * What is proved, because it is common and simple, is a comparison with a constant, before the rule
 * does anything: another layer 4 protocol, another ethertype, another interface.
 */
#include "kernel/firewall_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/fd.h"
#include "kernel/netlink.h"
#include "kernel/procfile.h"

#define CHAINS_MAX      64 /* base chains with rules; a host with more filters enough */
#define INTERRUPTS_MAX  5  /* the ruleset changes while we read: ask again */
#define REQUEST_BYTES   1024
#define NAME_BYTES      256 /* NFT_NAME_MAXLEN */
#define NFT_HOOK_EGRESS 1   /* NF_NETDEV_EGRESS */

struct chain {
	uint8_t family;
	char table[NAME_BYTES], name[NAME_BYTES];
};

struct chains {
	const struct firewall_question *q;
	struct chain list[CHAINS_MAX];
	int n;
	bool concerned;
};

static const char *family_name(uint8_t family)
{
	switch (family) {
	case NFPROTO_INET:
		return "inet";
	case NFPROTO_IPV4:
		return "ip";
	case NFPROTO_IPV6:
		return "ip6";
	default:
		return "netdev";
	}
}

static void say(const struct firewall_question *q, const struct chain *c, const char *what)
{
	snprintf(q->why, q->why_len, "firewall: nftables chain %s %s %s %s", family_name(c->family),
		 c->table, c->name, what);
}

/* ---- chains ---- */

static const char *attr_text(const struct nlattr *a)
{
	return mnl_attr_validate(a, MNL_TYPE_NUL_STRING) < 0 ? "" : mnl_attr_get_str(a);
}

static uint32_t attr_be32(const struct nlattr *a)
{
	return mnl_attr_validate(a, MNL_TYPE_U32) < 0 ? 0 : ntohl(mnl_attr_get_u32(a));
}

static bool is_hook_missed(uint8_t family, uint32_t hook)
{
	switch (family) {
	case NFPROTO_INET:
	case NFPROTO_IPV4:
	case NFPROTO_IPV6:
		return hook != NF_INET_FORWARD;
	case NFPROTO_NETDEV:
		return hook <= NFT_HOOK_EGRESS;
	default: /* arp is no TCP; a bridge's hooks lie below the interface that we read from */
		return false;
	}
}

/* Does the hook name devices, and is ours none of them? */
static bool is_on_other_devices(const struct nlattr *hook, const char *ifname)
{
	const struct nlattr *a, *dev;
	bool named = false;

	mnl_attr_for_each_nested(a, hook)
	{
		if (mnl_attr_get_type(a) == NFTA_HOOK_DEV) {
			named = true;
			if (strcmp(attr_text(a), ifname) == 0)
				return false;
		} else if (mnl_attr_get_type(a) == NFTA_HOOK_DEVS) {
			mnl_attr_for_each_nested(dev, a)
			{
				named = true;
				if (mnl_attr_get_type(dev) != NFTA_DEVICE_NAME)
					return false; /* newer: a prefix */
				if (strcmp(attr_text(dev), ifname) == 0)
					return false;
			}
		}
	}
	return named;
}

static bool is_chain_relevant(const struct firewall_question *q, uint8_t family,
			      const struct nlattr *hook)
{
	uint32_t num = UINT32_MAX;
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, hook) if (mnl_attr_get_type(a) == NFTA_HOOK_HOOKNUM) num =
	    attr_be32(a);
	return is_hook_missed(family, num) && !is_on_other_devices(hook, q->ifname);
}

/* The classifier of an engine (classifier_nft.c): it takes from the kernel what is that engine's, and filters nothing. */
static bool is_classifier(const struct chain *c)
{
	return c->family == NFPROTO_NETDEV && strncmp(c->table, "finesse-", 8) == 0;
}

static int on_chain(const struct nlmsghdr *h, void *ctx)
{
	struct chains *cs = ctx;
	const struct nfgenmsg *g = mnl_nlmsg_get_payload(h);
	const struct nlattr *a, *hook = NULL;
	struct chain c = {0};
	uint32_t policy = NF_ACCEPT, use = 1;

	if (h->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN) ||
	    mnl_nlmsg_get_payload_len(h) < sizeof *g)
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
			policy = attr_be32(a);
			break;
		case NFTA_CHAIN_USE:
			use = attr_be32(a);
			break;
		}
	}
	if (!hook || is_classifier(&c) || !is_chain_relevant(cs->q, c.family, hook))
		return 0;
	if (policy != NF_ACCEPT || (use > 0 && cs->n == CHAINS_MAX)) {
		cs->concerned = true;
		say(cs->q, &c,
		    policy != NF_ACCEPT ? "has policy drop" : "and many others have rules");
		return 1;
	}
	if (use > 0)
		cs->list[cs->n++] = c;
	return 0;
}

/* ---- rules ---- */

enum loaded {
	LOADED_OTHER,
	LOADED_NFPROTO,
	LOADED_L4PROTO,
	LOADED_ETHERTYPE,
	LOADED_IFINDEX,
	LOADED_IFNAME
};

struct rule_reader {
	const struct firewall_question *q;
	const struct chain *chain;
	uint32_t reg; /* what the last load put where */
	enum loaded loaded;
	bool is_v4; /* the rule has asked for IPv4, or the family is */
	bool concerned;
};

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

static void on_meta(struct rule_reader *r, const struct nlattr *data)
{
	r->reg = nested_be32(data, NFTA_META_DREG, 0);
	switch (nested_be32(data, NFTA_META_KEY, UINT32_MAX)) {
	case NFT_META_NFPROTO:
		r->loaded = LOADED_NFPROTO;
		break;
	case NFT_META_L4PROTO:
		r->loaded = LOADED_L4PROTO;
		break;
	case NFT_META_PROTOCOL:
		r->loaded = LOADED_ETHERTYPE;
		break;
	case NFT_META_IIF:
	case NFT_META_OIF:
		r->loaded = LOADED_IFINDEX;
		break;
	case NFT_META_IIFNAME:
	case NFT_META_OIFNAME:
		r->loaded = LOADED_IFNAME;
		break;
	default:
		r->loaded = LOADED_OTHER;
	}
}

/* `ip protocol`: one byte at offset 9 of an IPv4 header. (IPv6's next header proves nothing: TCP
 * may follow it.) */
static void on_payload(struct rule_reader *r, const struct nlattr *data)
{
	bool protocol =
	    r->is_v4 &&
	    nested_be32(data, NFTA_PAYLOAD_BASE, UINT32_MAX) == NFT_PAYLOAD_NETWORK_HEADER &&
	    nested_be32(data, NFTA_PAYLOAD_OFFSET, 0) == 9 &&
	    nested_be32(data, NFTA_PAYLOAD_LEN, 0) == 1;

	r->reg = nested_be32(data, NFTA_PAYLOAD_DREG, 0);
	r->loaded = protocol ? LOADED_L4PROTO : LOADED_OTHER;
}

static bool differs(enum loaded loaded, const struct firewall_question *q, const uint8_t *value,
		    size_t len)
{
	uint32_t index;

	switch (loaded) {
	case LOADED_L4PROTO:
		return len == 1 && value[0] != IPPROTO_TCP;
	case LOADED_ETHERTYPE:
		return len == 2 && (value[0] << 8 | value[1]) == ETH_P_ARP;
	case LOADED_IFINDEX:
		memcpy(&index, value, len == sizeof index ? sizeof index : 0);
		return len == sizeof index && index != (uint32_t)q->ifindex;
	case LOADED_IFNAME: /* shorter than the register's 16 bytes: a prefix ("eth*") */
		return len <= sizeof q->ifname && memcmp(value, q->ifname, len) != 0;
	default:
		return false;
	}
}

/* Does this comparison keep every TCP packet on our interface out of the rule? */
static bool is_exclusion(struct rule_reader *r, const struct nlattr *data)
{
	const struct nlattr *value = nested(nested(data, NFTA_CMP_DATA), NFTA_DATA_VALUE);

	if (!value || nested_be32(data, NFTA_CMP_OP, UINT32_MAX) != NFT_CMP_EQ ||
	    nested_be32(data, NFTA_CMP_SREG, UINT32_MAX) != r->reg)
		return false;
	const uint8_t *bytes = mnl_attr_get_payload(value);
	size_t len = mnl_attr_get_payload_len(value);
	if (r->loaded == LOADED_NFPROTO && len == 1 && bytes[0] == NFPROTO_IPV4)
		r->is_v4 = true;
	return differs(r->loaded, r->q, bytes, len);
}

/* One rule: its expressions in order, until one excludes us (false) or one acts or the end is
 * reached (true). */
static bool rule_concerns(struct rule_reader *r, const struct nlattr *expressions)
{
	const struct nlattr *e;

	r->reg = 0;
	r->loaded = LOADED_OTHER;
	r->is_v4 = r->chain->family == NFPROTO_IPV4;
	mnl_attr_for_each_nested(e, expressions)
	{
		const struct nlattr *name = nested(e, NFTA_EXPR_NAME),
				    *data = nested(e, NFTA_EXPR_DATA);
		const char *text = name ? attr_text(name) : "";

		if (strcmp(text, "cmp") == 0) {
			if (is_exclusion(r, data))
				return false;
		} else if (strcmp(text, "meta") == 0 && nested(data, NFTA_META_DREG)) {
			on_meta(r, data);
		} else if (strcmp(text, "payload") == 0 && nested(data, NFTA_PAYLOAD_DREG)) {
			on_payload(r, data);
		} else {
			return true; /* acts, or is beyond this reader */
		}
	}
	return true;
}

static int on_rule(const struct nlmsghdr *h, void *ctx)
{
	struct rule_reader *r = ctx;
	const struct nlattr *a;

	if (h->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE))
		return 0;
	mnl_attr_for_each(a, h, sizeof(struct nfgenmsg)) if (mnl_attr_get_type(a) ==
							     NFTA_RULE_EXPRESSIONS) r->concerned =
	    rule_concerns(r, a);
	return r->concerned ? NETLINK_ABANDON : 0; /* a long ruleset is not read to its end */
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

static int check_rules(int fd, const struct firewall_question *q, const struct chain *c)
{
	struct rule_reader r = {.q = q, .chain = c};
	_Alignas(struct nlmsghdr) char buf[REQUEST_BYTES];
	struct nlmsghdr *h = put_dump(buf, NFT_MSG_GETRULE, c->family);

	mnl_attr_put_strz(h, NFTA_RULE_TABLE, c->table);
	mnl_attr_put_strz(h, NFTA_RULE_CHAIN, c->name);
	int ret = netlink_talk(fd, h, on_rule, &r);
	if (r.concerned) {
		say(q, c, "has rules that may concern TCP");
		return 1;
	}
	return ret == -ENOENT ? -EINTR : ret; /* the chain went meanwhile */
}

static int check_once(int fd, const struct firewall_question *q, struct chains *cs)
{
	_Alignas(struct nlmsghdr) char buf[REQUEST_BYTES];
	int ret;

	cs->q = q;
	cs->n = 0;
	cs->concerned = false;
	ret = netlink_talk(fd, put_dump(buf, NFT_MSG_GETCHAIN, NFPROTO_UNSPEC), on_chain, cs);
	if (cs->concerned)
		return 1;
	if (ret == -EINVAL || ret == -EOPNOTSUPP)
		return 0; /* no nf_tables in this kernel */
	for (int i = 0; i < cs->n && ret == 0; i++)
		ret = check_rules(fd, q, &cs->list[i]);
	return ret;
}

/* Asking would load the module. It is absent for sure when it is neither among the loaded nor among
 * the built-in ones. */
static bool is_module_absent(void)
{
	char *loaded = NULL, *builtin = NULL, path[128];
	struct utsname u;
	bool absent = false;

	if (uname(&u) < 0)
		return false;
	snprintf(path, sizeof path, "/lib/modules/%s/modules.builtin", u.release);
	if (procfile_read("/proc/modules", &loaded) == 0 && procfile_read(path, &builtin) == 0)
		absent = !strstr(loaded, "nf_tables ") && !strstr(builtin, "/nf_tables.ko");
	free(loaded);
	free(builtin);
	return absent;
}

int firewall_check_nftables(const struct firewall_question *q)
{
	struct chains *cs;
	int fd, ret;

	if (is_module_absent())
		return 0;
	fd = fd_move_high(netlink_open(NETLINK_NETFILTER));
	if (fd == -EPROTONOSUPPORT)
		return 0;
	if (fd < 0)
		return fd;
	cs = malloc(sizeof *cs);
	ret = cs ? -EINTR : -ENOMEM;
	for (int i = 0; i < INTERRUPTS_MAX && ret == -EINTR; i++)
		ret = check_once(fd, q, cs);
	free(cs);
	fd_close(fd);
	return ret;
}
