/*
 * nftables transactions over netlink: one batch of changes that the kernel takes as a whole or refuses as a whole.
 * Attributes are written with libmnl's pure helpers; libnftables is not used because it keeps its socket to itself: the
 * table lives as long as that socket, so it must be moved among our fds and must not survive in a fork child.
 *
 * A batch is filled between nft_batch_begin and nft_batch_commit. It never overflows: when a message does not fit, the
 * batch is marked, and the commit says
 * -E2BIG. Not thread-safe.
 */
#ifndef FINESSE_KERNEL_NFT_BATCH_H
#define FINESSE_KERNEL_NFT_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/netlink.h>

#define NFT_BATCH_BYTES 16384
#define NFT_ROOM_BYTES  1536 /* what one message of ours may take */

struct nft_batch {
	const char *table; /* of the netdev family */
	size_t used;
	bool overflow;
	struct nlattr *expressions; /* of the rule that is begun */
	char bytes[NFT_BATCH_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));
};

void nft_batch_begin(struct nft_batch *b, const char *table);
/* 0, or the kernel's answer as -errno: nothing of it was done then. */
int nft_batch_commit(struct nft_batch *b, int fd);
bool nft_batch_has_room(const struct nft_batch *b); /* for one more message */

void nft_add_table(struct nft_batch *b);
/*
 * A set of keys of key_bytes; `id` names it within this batch. `key_type`: of what, in nft's own numbers; the kernel
 * does not look at it.
 */
void nft_add_set(struct nft_batch *b, const char *set, uint32_t id, uint32_t key_type, uint32_t key_bytes);
void nft_add_element(struct nft_batch *b, const char *set, const void *key, size_t key_bytes);
void nft_del_element(struct nft_batch *b, const char *set, const void *key, size_t key_bytes);
/* A base chain at the device's ingress; policy accept. */
void nft_add_ingress_chain(struct nft_batch *b, const char *chain, const char *device, int32_t priority);
void nft_del_chain(struct nft_batch *b, const char *chain); /* with its rules */

/* A rule is begun, filled with expressions, and ended. Registers are NFT_REG32_00 + n. */
struct nlmsghdr *nft_rule_begin(struct nft_batch *b, const char *chain);
void nft_rule_end(struct nft_batch *b, struct nlmsghdr *rule);
void nft_expr_meta(struct nlmsghdr *rule, uint32_t key, uint32_t reg);
void nft_expr_payload(struct nlmsghdr *rule, uint32_t base, uint32_t offset, uint32_t len, uint32_t reg);
void nft_expr_cmp(struct nlmsghdr *rule, uint32_t reg, uint32_t op, const void *value, size_t len);
void nft_expr_lookup(struct nlmsghdr *rule, const char *set, uint32_t set_id, uint32_t reg);
void nft_expr_verdict(struct nlmsghdr *rule, int32_t verdict);

#endif
