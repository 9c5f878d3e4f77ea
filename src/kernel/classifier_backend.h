/* Internal to the classifier: what its backends give (classifier_ebpf.c, classifier_nft.c), and what classifier.c keeps for all. */
#ifndef FINESSE_KERNEL_CLASSIFIER_BACKEND_H
#define FINESSE_KERNEL_CLASSIFIER_BACKEND_H

#include "kernel/classifier.h"

enum classifier_set { SET_FLOWS, SET_EXCEPTIONS, CLASSIFIER_SETS };

struct listener {
	struct ip_addr addr; /* a wildcard: 0.0.0.0, ::, classifier_any_v6only */
	uint16_t port;
	uint32_t refs;
};

struct classifier {
	const struct classifier_ops *ops;
	struct ip_addr *addrs;
	size_t n_addrs;
	struct listener *listeners;
	size_t n_listeners, cap_listeners;
};

/* Each returns 0 or -errno and leaves things as they were when it fails. */
struct classifier_ops {
	const char *name;
	bool is_exact; /* the packet socket gets what is ours and nothing else */
	void (*close)(struct classifier *c); /* frees it; in a fork child, too: nothing of the parent's ends by it */
	/* c->addrs is still the old set. */
	int (*set_addresses)(struct classifier *c, const struct ip_addr *addrs, size_t n);
	/* c->listeners has it already, or not any more. */
	int (*add_listener)(struct classifier *c, const struct ip_addr *addr, uint16_t port);
	int (*del_listener)(struct classifier *c, const struct ip_addr *addr, uint16_t port);
	int (*add_flow)(struct classifier *c, enum classifier_set set, const struct flow_key *key);
	int (*del_flow)(struct classifier *c, enum classifier_set set, const struct flow_key *key);
};

extern const struct classifier_ops classifier_ebpf_ops, classifier_nft_ops;
int classifier_ebpf_open(struct classifier **out, int ifindex, int packet_fd, bool has_eth, char *why, size_t why_len);
int classifier_nft_open(struct classifier **out, int ifindex, int packet_fd, bool has_eth, char *why, size_t why_len);

bool classifier_has_address(const struct ip_addr *set, size_t n, const struct ip_addr *a);
bool classifier_is_wildcard(const struct ip_addr *addr);

#endif
