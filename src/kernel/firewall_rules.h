/*
 * The host's packet rules as a program that can be asked "what would become of this packet?" (theory:
 * firewall_rules.c). Internal to firewall*.c: the readers of nftables and of legacy iptables write it, firewall.c asks.
 */
#ifndef FINESSE_KERNEL_FIREWALL_RULES_H
#define FINESSE_KERNEL_FIREWALL_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

#define RULES_NAME_BYTES 256  /* NFT_NAME_MAXLEN */
#define RULES_VALUE_MAX  16   /* bytes of a constant in an expression */
#define RULES_REG_BYTES  (80 + RULES_VALUE_MAX) /* nftables: the verdict's register, then 16 words; and what begins in the last one */
#define RULES_KEY_MAX    64   /* … of a set's key */
#define RULES_MAX        65536   /* rules of one host; with more, all of it is beyond us */
#define RULES_ELEMENTS_MAX 262144 /* elements of all its sets, likewise */

/* Where a packet meets rules. */
enum rules_hook { RULES_INGRESS, RULES_PREROUTING, RULES_INPUT, RULES_OUTPUT, RULES_POSTROUTING, RULES_EGRESS, RULES_HOOKS };

/* What an expression can load of a packet. */
enum rules_field {
	FIELD_UNKNOWN,
	FIELD_NETWORK,   /* bytes of the IP header */
	FIELD_TRANSPORT, /* … of the TCP header */
	FIELD_NFPROTO,
	FIELD_L4PROTO,
	FIELD_ETHERTYPE,
	FIELD_IIF,
	FIELD_OIF,
	FIELD_IIFNAME,
	FIELD_OIFNAME,
	FIELD_CT_STATE,
	FIELD_CT_DIRECTION,
	FIELD_SADDR_TYPE, /* RTN_…, as a word */
	FIELD_DADDR_TYPE,
	FIELD_SADDR_FOUND, /* is there a way back by the interface it came from: 1 */
	FIELD_SADDR_OIF,   /* … that interface */
};

enum rules_op_kind {
	OP_LOAD,    /* field, off, len: to `to` */
	OP_MASK,    /* to = (from & a) ^ b, len bytes */
	OP_CLOBBER, /* every register is unknown */
	OP_COMPARE, /* len bytes of `from` with a; cmp: NFT_CMP_… */
	OP_RANGE,   /* … are in a to b; inverted: are not */
	OP_LOOKUP,  /* `from` is in the set `target`; inverted. is_map: the element's verdict follows; has_data: `to` becomes unknown */
	OP_MAYBE,   /* goes on or not: nobody can foresee it */
	OP_NEVER,   /* does not go on: of what it asks our packets have nothing */
	OP_COUNT,   /* … by the number of connections that conntrack has */
	OP_NOTES,   /* goes on; what comes is logged, counted, or noted where another rule may look */
	OP_VERDICT, /* verdict, target: a chain */
	OP_ACTS,    /* changes, answers, queues or drops the packet; `what` says how */
};

/* What a rule does that no connection of ours may meet. */
enum rules_act { ACT_UNKNOWN, ACT_TARGET, ACT_REJECT, ACT_NAT, ACT_MARK, ACT_CHANGE, ACT_ZONE, ACTS };

enum rules_verdict { VERDICT_ACCEPT, VERDICT_DROP, VERDICT_CONTINUE, VERDICT_RETURN, VERDICT_JUMP, VERDICT_GOTO };

struct rules_op {
	uint8_t kind, field, from, to, off, len, cmp, verdict;
	bool inverted, is_map, has_data;
	int32_t target;
	uint8_t act; /* OP_ACTS: enum rules_act */
	uint8_t a[RULES_VALUE_MAX], b[RULES_VALUE_MAX];
};

struct rules_rule {
	uint32_t first_op, n_ops;
	int32_t next; /* of the same chain; -1: the last */
};

struct rules_chain {
	bool is_legacy;     /* iptables' and ip6tables' own, not nftables' */
	uint8_t family;     /* NFPROTO_… */
	char table[RULES_NAME_BYTES], name[RULES_NAME_BYTES];
	bool is_base, is_nat, drops /* its policy */;
	enum rules_hook hook;
	char devices[4][16]; /* a base chain of some interfaces only; n_devices 0: of all */
	uint8_t n_devices;
	int32_t first_rule, last_rule;
};

struct rules_element {
	uint8_t key[RULES_KEY_MAX], end[RULES_KEY_MAX]; /* end: of a range, inclusive */
	uint8_t verdict;
	int32_t target;
};

struct rules_set {
	uint8_t family;
	char table[RULES_NAME_BYTES], name[RULES_NAME_BYTES];
	uint8_t key_len;
	bool is_open;  /* packets change it without notice, or it cannot be read here */
	bool is_aging; /* an element may go without notice; none comes so */
	bool counts;   /* whether an element matches may depend on the number of connections */
	bool notes;   /* it counts who is found in it, say */
	bool has_ranges; /* its elements are their beginnings and ends, but for those of concatenations */
	bool is_sorted; /* its elements, by their keys; no two overlap */
	uint32_t first, n;
};

struct ruleset {
	struct rules_op *ops;
	struct rules_rule *rules;
	struct rules_chain *chains;
	struct rules_set *sets;
	struct rules_element *elements;
	uint32_t n_ops, n_rules, n_chains, n_sets, n_elements;
	uint32_t cap_ops, cap_rules, cap_chains, cap_sets, cap_elements;
};

/* Each returns the new one, zeroed, or NULL: no memory, or too many. Pointers to older ones may move. */
struct rules_op *rules_add_op(struct ruleset *rs);
struct rules_rule *rules_add_rule(struct ruleset *rs, int chain);
struct rules_chain *rules_add_chain(struct ruleset *rs);
struct rules_set *rules_add_set(struct ruleset *rs);
struct rules_element *rules_add_element(struct ruleset *rs);
void rules_clear(struct ruleset *rs);
/* To a file, for another process of this very program; from its offset on. 0 or -errno. Nothing in it is a pointer. */
int rules_save(const struct ruleset *rs, int fd);
int rules_load(struct ruleset *rs, int fd);

/* A packet, as far as it is known. Bits that are neither known nor the peer's are anything. */
struct rules_bits {
	uint8_t value[40], known[40], peers[40];
};
/*
 * Of a stranger, a comparison of the address with a constant, a prefix, a range or a set's elements has an answer: it
 * is none of those. What is compared in another way, its port, say, is as unknown as ever.
 */
struct named_sources;
struct rules_packet {
	enum rules_hook hook;
	bool v6, is_reply, is_new;
	bool is_anybodys; /* whether there is a way back to its source is not known */
	struct named_sources *strangers; /* not NULL: the peer's address is none that a rule on the way names, and those are entered here */
	const char *ifname;
	int ifindex;
	struct rules_bits network, transport;
};

enum rules_outcome {
	RULES_PASS,  /* no rule of this hook could drop, change or answer it */
	RULES_TOUCH, /* one could; `why` names the chain */
};
/* Would a rule count connections on the packet's way? conntrack has the engine's by their SYN alone, and too long. */
enum rules_outcome rules_ask_count(const struct ruleset *rs, const struct rules_packet *p, bool for_some, char *why, size_t why_len);
/* Would a rule drop, change or answer it, or log or count it, or note that it came? */
enum rules_outcome rules_ask_notes(const struct ruleset *rs, const struct rules_packet *p, char *why, size_t why_len);
/* `for_some`: it is enough that it passes for some peer. */
enum rules_outcome rules_ask(const struct ruleset *rs, const struct rules_packet *p, bool for_some, char *why, size_t why_len);

#endif
