/*
 * nftables, by netlink, into the evaluator's form (firewall_rules.h).
 *
 * Three dumps (chains, sets, rules) and one for the elements of each set (firewall_nft_sets.c). An expression that is
 * not known is "perhaps" when it can only end a rule, and an act when it could do anything to a packet
 * (firewall_nft_rules.c). iptables' own matches and targets, where nftables carries them, are translated by
 * firewall_xt.c.
 */
#include "kernel/firewall_nft_internal.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fd.h"
#include "kernel/netlink.h"

#define INTERRUPTS_MAX   5  /* the ruleset changes while we read: ask again */
#define NFT_HOOK_EGRESS  1  /* NF_NETDEV_EGRESS */
#define NFT_HOOK_INGRESS 5  /* NF_INET_INGRESS */

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

int nft_find_chain(const struct ruleset *rs, uint8_t family, const char *table, const char *name)
{
	for (uint32_t i = 0; i < rs->n_chains; i++) {
		const struct rules_chain *c = &rs->chains[i];
		if (c->family == family && strcmp(c->name, name) == 0 && strcmp(c->table, table) == 0)
			return i;
	}
	return -1;
}

/* ---- asking ---- */

static int read_once(struct reader *r)
{
	_Alignas(struct nlmsghdr) char buf[NFT_REQUEST_BYTES];
	int ret = netlink_talk(r->fd, nft_request(buf, NFT_MSG_GETCHAIN, NFPROTO_UNSPEC, NLM_F_DUMP), on_chain, r);

	if (ret == -EINVAL || ret == -EOPNOTSUPP)
		return 0; /* no nf_tables in this kernel */
	if (ret == 0 && r->rs->n_chains)
		ret = netlink_talk(r->fd, nft_request(buf, NFT_MSG_GETSET, NFPROTO_UNSPEC, NLM_F_DUMP), nft_on_set, r);
	for (r->set = 0; ret == 0 && r->set < (int)r->rs->n_sets; r->set++)
		ret = nft_read_elements(r);
	if (ret == 0 && r->rs->n_chains)
		ret = netlink_talk(r->fd, nft_request(buf, NFT_MSG_GETRULE, NFPROTO_UNSPEC, NLM_F_DUMP), nft_on_rule, r);
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
