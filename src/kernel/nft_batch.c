#include "kernel/nft_batch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>

#include "kernel/netlink.h"

#ifndef NFT_TABLE_F_OWNER
#define NFT_TABLE_F_OWNER 0x2 /* Linux 5.12 */
#endif

bool nft_batch_has_room(const struct nft_batch *b)
{
	return NFT_BATCH_BYTES - b->used >= 2 * NFT_ROOM_BYTES; /* and the batch's end */
}

/* The next message; where none fits, one that is overwritten by the next and counts as an overflow. */
static struct nlmsghdr *message(struct nft_batch *b, uint16_t type, uint16_t flags, uint16_t res_id)
{
	if (NFT_BATCH_BYTES - b->used < NFT_ROOM_BYTES) {
		b->overflow = true;
		b->used = 0;
	}
	struct nlmsghdr *h = mnl_nlmsg_put_header(b->bytes + b->used);
	h->nlmsg_type = type;
	h->nlmsg_flags = NLM_F_REQUEST | flags;
	struct nfgenmsg *g = mnl_nlmsg_put_extra_header(h, sizeof *g);
	g->nfgen_family = res_id ? AF_UNSPEC : NFPROTO_NETDEV;
	g->version = NFNETLINK_V0;
	g->res_id = htons(res_id);
	return h;
}

static struct nlmsghdr *change(struct nft_batch *b, uint16_t type, uint16_t flags)
{
	return message(b, NFNL_SUBSYS_NFTABLES << 8 | type, flags, 0);
}

static void done(struct nft_batch *b, const struct nlmsghdr *h)
{
	b->used += NLMSG_ALIGN(h->nlmsg_len);
}

void nft_batch_begin(struct nft_batch *b, const char *table)
{
	b->table = table;
	b->used = 0;
	b->overflow = false;
	done(b, message(b, NFNL_MSG_BATCH_BEGIN, 0, NFNL_SUBSYS_NFTABLES));
}

int nft_batch_commit(struct nft_batch *b, int fd)
{
	done(b, message(b, NFNL_MSG_BATCH_END, 0, NFNL_SUBSYS_NFTABLES));
	return b->overflow ? -E2BIG : netlink_talk_batch(fd, b->bytes, b->used);
}

void nft_add_table(struct nft_batch *b)
{
	struct nlmsghdr *h = change(b, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL);
	mnl_attr_put_strz(h, NFTA_TABLE_NAME, b->table);
	mnl_attr_put_u32(h, NFTA_TABLE_FLAGS, htonl(NFT_TABLE_F_OWNER));
	done(b, h);
}

void nft_add_set(struct nft_batch *b, const char *set, uint32_t id, uint32_t key_type, uint32_t key_bytes)
{
	struct nlmsghdr *h = change(b, NFT_MSG_NEWSET, NLM_F_CREATE | NLM_F_EXCL);
	mnl_attr_put_strz(h, NFTA_SET_TABLE, b->table);
	mnl_attr_put_strz(h, NFTA_SET_NAME, set);
	mnl_attr_put_u32(h, NFTA_SET_FLAGS, 0);
	mnl_attr_put_u32(h, NFTA_SET_KEY_TYPE, htonl(key_type));
	mnl_attr_put_u32(h, NFTA_SET_KEY_LEN, htonl(key_bytes));
	mnl_attr_put_u32(h, NFTA_SET_ID, htonl(id));
	done(b, h);
}

static void element(struct nft_batch *b, uint16_t type, uint16_t flags, const char *set, const void *key, size_t key_bytes)
{
	struct nlmsghdr *h = change(b, type, flags);
	mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_TABLE, b->table);
	mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_SET, set);
	struct nlattr *list = mnl_attr_nest_start(h, NFTA_SET_ELEM_LIST_ELEMENTS);
	struct nlattr *one = mnl_attr_nest_start(h, NFTA_LIST_ELEM);
	struct nlattr *k = mnl_attr_nest_start(h, NFTA_SET_ELEM_KEY);
	mnl_attr_put(h, NFTA_DATA_VALUE, key_bytes, key);
	mnl_attr_nest_end(h, k);
	mnl_attr_nest_end(h, one);
	mnl_attr_nest_end(h, list);
	done(b, h);
}

void nft_add_element(struct nft_batch *b, const char *set, const void *key, size_t key_bytes)
{
	element(b, NFT_MSG_NEWSETELEM, NLM_F_CREATE, set, key, key_bytes);
}

void nft_del_element(struct nft_batch *b, const char *set, const void *key, size_t key_bytes)
{
	element(b, NFT_MSG_DELSETELEM, 0, set, key, key_bytes);
}

void nft_add_ingress_chain(struct nft_batch *b, const char *chain, const char *device, int32_t priority)
{
	struct nlmsghdr *h = change(b, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL);
	mnl_attr_put_strz(h, NFTA_CHAIN_TABLE, b->table);
	mnl_attr_put_strz(h, NFTA_CHAIN_NAME, chain);
	struct nlattr *hook = mnl_attr_nest_start(h, NFTA_CHAIN_HOOK);
	mnl_attr_put_u32(h, NFTA_HOOK_HOOKNUM, htonl(NF_NETDEV_INGRESS));
	mnl_attr_put_u32(h, NFTA_HOOK_PRIORITY, htonl((uint32_t)priority));
	mnl_attr_put_strz(h, NFTA_HOOK_DEV, device);
	mnl_attr_nest_end(h, hook);
	mnl_attr_put_u32(h, NFTA_CHAIN_POLICY, htonl(NF_ACCEPT));
	mnl_attr_put_strz(h, NFTA_CHAIN_TYPE, "filter");
	done(b, h);
}

void nft_del_chain(struct nft_batch *b, const char *chain)
{
	struct nlmsghdr *h = change(b, NFT_MSG_DELCHAIN, 0);
	mnl_attr_put_strz(h, NFTA_CHAIN_TABLE, b->table);
	mnl_attr_put_strz(h, NFTA_CHAIN_NAME, chain);
	done(b, h);
}

/* ---- rules ---- */

struct nlmsghdr *nft_rule_begin(struct nft_batch *b, const char *chain)
{
	struct nlmsghdr *h = change(b, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
	mnl_attr_put_strz(h, NFTA_RULE_TABLE, b->table);
	mnl_attr_put_strz(h, NFTA_RULE_CHAIN, chain);
	b->expressions = mnl_attr_nest_start(h, NFTA_RULE_EXPRESSIONS);
	return h;
}

void nft_rule_end(struct nft_batch *b, struct nlmsghdr *rule)
{
	mnl_attr_nest_end(rule, b->expressions);
	done(b, rule);
}

/* One expression: NFTA_LIST_ELEM { NAME, DATA { … } }. */
struct expr {
	struct nlattr *elem, *data;
};

static struct expr expr_begin(struct nlmsghdr *rule, const char *name)
{
	struct expr e;
	e.elem = mnl_attr_nest_start(rule, NFTA_LIST_ELEM);
	mnl_attr_put_strz(rule, NFTA_EXPR_NAME, name);
	e.data = mnl_attr_nest_start(rule, NFTA_EXPR_DATA);
	return e;
}

static void expr_end(struct nlmsghdr *rule, struct expr e)
{
	mnl_attr_nest_end(rule, e.data);
	mnl_attr_nest_end(rule, e.elem);
}

void nft_expr_meta(struct nlmsghdr *rule, uint32_t key, uint32_t reg)
{
	struct expr e = expr_begin(rule, "meta");
	mnl_attr_put_u32(rule, NFTA_META_KEY, htonl(key));
	mnl_attr_put_u32(rule, NFTA_META_DREG, htonl(reg));
	expr_end(rule, e);
}

void nft_expr_payload(struct nlmsghdr *rule, uint32_t base, uint32_t offset, uint32_t len, uint32_t reg)
{
	struct expr e = expr_begin(rule, "payload");
	mnl_attr_put_u32(rule, NFTA_PAYLOAD_DREG, htonl(reg));
	mnl_attr_put_u32(rule, NFTA_PAYLOAD_BASE, htonl(base));
	mnl_attr_put_u32(rule, NFTA_PAYLOAD_OFFSET, htonl(offset));
	mnl_attr_put_u32(rule, NFTA_PAYLOAD_LEN, htonl(len));
	expr_end(rule, e);
}

void nft_expr_cmp(struct nlmsghdr *rule, uint32_t reg, uint32_t op, const void *value, size_t len)
{
	struct expr e = expr_begin(rule, "cmp");
	mnl_attr_put_u32(rule, NFTA_CMP_SREG, htonl(reg));
	mnl_attr_put_u32(rule, NFTA_CMP_OP, htonl(op));
	struct nlattr *data = mnl_attr_nest_start(rule, NFTA_CMP_DATA);
	mnl_attr_put(rule, NFTA_DATA_VALUE, len, value);
	mnl_attr_nest_end(rule, data);
	expr_end(rule, e);
}

void nft_expr_lookup(struct nlmsghdr *rule, const char *set, uint32_t set_id, uint32_t reg)
{
	struct expr e = expr_begin(rule, "lookup");
	mnl_attr_put_strz(rule, NFTA_LOOKUP_SET, set);
	mnl_attr_put_u32(rule, NFTA_LOOKUP_SET_ID, htonl(set_id));
	mnl_attr_put_u32(rule, NFTA_LOOKUP_SREG, htonl(reg));
	expr_end(rule, e);
}

void nft_expr_verdict(struct nlmsghdr *rule, int32_t verdict)
{
	struct expr e = expr_begin(rule, "immediate");
	mnl_attr_put_u32(rule, NFTA_IMMEDIATE_DREG, htonl(NFT_REG_VERDICT));
	struct nlattr *data = mnl_attr_nest_start(rule, NFTA_IMMEDIATE_DATA);
	struct nlattr *v = mnl_attr_nest_start(rule, NFTA_DATA_VERDICT);
	mnl_attr_put_u32(rule, NFTA_VERDICT_CODE, htonl((uint32_t)verdict));
	mnl_attr_nest_end(rule, v);
	mnl_attr_nest_end(rule, data);
	expr_end(rule, e);
}
