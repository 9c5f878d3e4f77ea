/*
 * What the parts of the reader of nftables share: firewall_nft.c asks and reads chains, firewall_nft_sets.c reads sets
 * and their elements, firewall_nft_rules.c rules. A name or value that is missing is an empty one.
 */
#ifndef FINESSE_KERNEL_FIREWALL_NFT_INTERNAL_H
#define FINESSE_KERNEL_FIREWALL_NFT_INTERNAL_H

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>

#include "kernel/firewall_internal.h"

#define NFT_REQUEST_BYTES 1024

struct reader {
	struct ruleset *rs;
	int fd;
	int set; /* whose elements are being read … */
	uint64_t told; /* … and which were, in whatever order */
};

/* A request about nftables, in a buffer of NFT_REQUEST_BYTES. */
static inline struct nlmsghdr *nft_request(void *buf, int msg, uint8_t family, uint16_t flags)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *g = mnl_nlmsg_put_extra_header(h, sizeof *g);
	h->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | msg;
	h->nlmsg_flags = NLM_F_REQUEST | flags;
	g->nfgen_family = family;
	g->version = NFNETLINK_V0;
	return h;
}

static inline const char *attr_text(const struct nlattr *a)
{
	return mnl_attr_validate(a, MNL_TYPE_NUL_STRING) < 0 ? "" : mnl_attr_get_str(a);
}

static inline uint32_t attr_be32(const struct nlattr *a)
{
	return mnl_attr_validate(a, MNL_TYPE_U32) < 0 ? 0 : ntohl(mnl_attr_get_u32(a));
}

static inline const struct nlattr *nested(const struct nlattr *parent, uint16_t type)
{
	const struct nlattr *a;

	if (parent)
		mnl_attr_for_each_nested(a, parent) if (mnl_attr_get_type(a) == type) return a;
	return NULL;
}

static inline uint32_t nested_be32(const struct nlattr *parent, uint16_t type, uint32_t missing)
{
	const struct nlattr *a = nested(parent, type);
	return a ? attr_be32(a) : missing;
}

static inline const char *nested_text(const struct nlattr *parent, uint16_t type)
{
	const struct nlattr *a = nested(parent, type);
	return a ? attr_text(a) : "";
}

/* The bytes of a constant, at most `max`; 0: there is none, or it is longer. */
static inline unsigned nested_value(const struct nlattr *parent, uint16_t type, uint8_t *out, unsigned max)
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
static inline unsigned reg_at(uint32_t reg)
{
	unsigned at = reg < NFT_REG32_00 ? reg * NFT_REG_SIZE : (reg + NFT_REG_SIZE / NFT_REG32_SIZE - NFT_REG32_00) * NFT_REG32_SIZE;
	return at <= RULES_REG_BYTES - RULES_VALUE_MAX ? at : RULES_REG_BYTES - RULES_VALUE_MAX;
}

/* Places in the rule set; -1: there is none of the name. */
int nft_find_chain(const struct ruleset *rs, uint8_t family, const char *table, const char *name);
int nft_find_set(const struct ruleset *rs, uint8_t family, const char *table, const char *name);
void nft_read_verdict(struct reader *r, uint8_t family, const char *table, const struct nlattr *data, uint8_t *verdict, int32_t *target);

/* Is an expression, or any of a list, `ct count`? */
bool nft_counts_connections(const struct nlattr *expr);
bool nft_any_counts_connections(const struct nlattr *list);

/* For netlink_talk, with a struct reader. */
int nft_on_set(const struct nlmsghdr *h, void *ctx);
int nft_on_rule(const struct nlmsghdr *h, void *ctx);
/* The elements of r->set. */
int nft_read_elements(struct reader *r);

#endif
