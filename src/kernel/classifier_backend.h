/*
 * Internal to the classifier: what its backends give (classifier_ebpf.c, classifier_nft.c, classifier_socket.c), and
 * what classifier.c keeps for all.
 */
#ifndef FINESSE_KERNEL_CLASSIFIER_BACKEND_H
#define FINESSE_KERNEL_CLASSIFIER_BACKEND_H

#include "kernel/classifier.h"

enum classifier_set { SET_FLOWS, SET_EXCEPTIONS, CLASSIFIER_SETS };

struct listener {
	struct ip_addr addr; /* a wildcard: 0.0.0.0, ::, classifier_any_v6only */
	uint16_t port;
	uint32_t refs;
	struct classifier_group *group; /* decides its frames; or NULL: all are ours */
};

struct classifier {
	const struct classifier_ops *ops;
	struct ip_addr *addrs;
	size_t n_addrs;
	struct listener *listeners;
	size_t n_listeners, cap_listeners;
	struct classifier_group *groups;
	const struct judge *judge; /* NULL: nobody judges */
};

/* Each returns 0 or -errno and leaves things as they were when it fails. */
struct classifier_ops {
	const char *name;
	bool is_exact; /* the packet socket gets what is ours and nothing else */
	int (*attach)(struct classifier *c, int ifindex, int packet_fd, bool has_eth, char *why, size_t why_len);
	void (*detach)(struct classifier *c, int ifindex);
	int (*take_attachment)(struct classifier *c, int ifindex); /* NULL: there are none to take */
	void (*close)(struct classifier *c); /* frees it */
	void (*forget)(struct classifier *c); /* in a fork child: frees it, and nothing of the parent's ends by it. NULL: close is such */
	/* c->addrs is still the old set. */
	int (*set_addresses)(struct classifier *c, const struct ip_addr *addrs, size_t n);
	/* c->listeners has it already, or not any more. Adding again publishes what has changed (group, slot). */
	int (*add_listener)(struct classifier *c, const struct ip_addr *addr, uint16_t port);
	int (*del_listener)(struct classifier *c, const struct ip_addr *addr, uint16_t port);
	int (*add_flow)(struct classifier *c, enum classifier_set set, const struct flow_key *key);
	int (*del_flow)(struct classifier *c, enum classifier_set set, const struct flow_key *key);
	/* Of SET_FLOWS. NULL: one by one. */
	void (*del_flows)(struct classifier *c, const struct flow_key *keys, size_t n);
	/* Flows that were added, and have not much traffic to come. NULL: nothing to do. */
	void (*flows_stay)(struct classifier *c, const struct flow_key *keys, size_t n);
	/*
	 * The program finds a group's maps by its index; -1: none any more. -EINVAL: not such maps. NULL: no groups
	 * here.
	 */
	int (*set_group)(struct classifier *c, unsigned index, int members_fd, int flows_fd, int asked_fd);
	bool groups_in_memory; /* … but in memory that the members share: each engine gets every frame and decides by itself */
	/* Its map of what was asked; -1: nobody judges. NULL: nobody can. */
	int (*set_judge)(struct classifier *c, int asked_fd);
	void (*open_ports)(struct classifier *c, bool v6, uint16_t first, unsigned n, const uint8_t *bits); /* as set_judge: all or none */
	bool (*is_open)(const struct classifier *c, bool v6, uint16_t port);
	struct named_sources *(*named)(const struct classifier *c, bool v6);
	void (*note_cookies)(struct classifier *c, int64_t until_us);
	/* As classifier_looked … ; NULL: no SYN is ever given to the kernel. */
	void (*looked)(struct classifier *c);
	bool (*has_given)(struct classifier *c);
	void (*visit_given)(struct classifier *c, struct classifier_given *v);
	void (*count_conn)(struct classifier *c, const struct flow_key *key, int by);
	/* Of the backend that keeps the kernel silent at its own sockets; NULL elsewhere: nothing is to do. */
	int (*silence)(struct classifier *c, int listening_fd, const struct ip_addr *addr, uint16_t port, enum silence_begin how);
	void (*end_silence)(struct classifier *c, int listening_fd, enum silence_end how);
	int (*hold_port)(struct classifier *c, const struct ip_addr *addr, uint16_t port);
	void (*let_go)(struct classifier *c); /* NULL: what it has can be taken back by any process */
	bool (*is_silent)(const struct classifier *c, const struct flow_key *key);
};

#define VERDICT_TCX_NEXT (-1) /* TCX_NEXT of Linux 6.6's enum tcx_action_base: to who comes next, in the end to the kernel */

extern const struct classifier_ops classifier_ebpf_ops, classifier_nft_ops, classifier_socket_ops;
int classifier_ebpf_open(struct classifier **out, int ifindex, int packet_fd, bool has_eth, char *why, size_t why_len);
int classifier_ebpf_fds(const struct classifier *c, int fds[CLASSIFIER_FDS]);
int classifier_ebpf_adopt(struct classifier **out, const int fds[CLASSIFIER_FDS], int ifindex, bool has_eth);
int classifier_ebpf_put(struct classifier *c, int ifindex, int place, int packet_fd, bool has_eth);
int classifier_nft_open(struct classifier **out, int ifindex, int packet_fd, bool has_eth, char *why, size_t why_len);
int classifier_own_open(struct classifier **out, const struct classifier_own *own, int ifindex, int packet_fd, bool has_eth, char *why, size_t why_len);
int classifier_socket_open(struct classifier **out, int ifindex, int packet_fd, bool has_eth, char *why, size_t why_len);
/* One without descriptors: its packet socket has its filter already. */
int classifier_socket_adopt(struct classifier **out, int ifindex);

/* Does a listener on `of` claim this address? */
bool classifier_claims(const struct ip_addr *of, const struct ip_addr *addr);

bool classifier_has_address(const struct ip_addr *set, size_t n, const struct ip_addr *a);
bool classifier_is_wildcard(const struct ip_addr *addr);
struct listener *classifier_find_listener(struct classifier *c, const struct ip_addr *addr, uint16_t port);
/* -EEXIST: there is one with another group (or none). */
int classifier_add_listener_of(struct classifier *c, struct classifier_group *g, const struct ip_addr *addr, uint16_t port);

/* New maps as a group has them: an internal fd, or -errno. */
int classifier_group_members_map(void);
int classifier_group_flows_map(uint32_t max_entries);

#endif
