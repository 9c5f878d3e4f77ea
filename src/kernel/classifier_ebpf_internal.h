/*
 * Internal to the eBPF backend: what its two files share, classifier_ebpf.c (programs, interfaces, listeners) and
 * classifier_ebpf_flows.c (exact flows).
 */
#ifndef FINESSE_KERNEL_CLASSIFIER_EBPF_INTERNAL_H
#define FINESSE_KERNEL_CLASSIFIER_EBPF_INTERNAL_H

#include "base/list.h"
#include "kernel/classifier_group_internal.h"
#include "kernel/classifier_prog.h"

struct programs {
	int tap, ingress; /* -1: not loaded */
};

struct attachment {
	int ifindex; /* 0: free */
	int link_fd;
	bool shared; /* another process has it, too */
};

#define EBPF_LEFT_MAX 2 /* groups: each keeps a map, whose buckets take 4 MB if no other member is left */

struct ebpf {
	struct classifier base;
	struct classifier_maps maps;
	int more[CLASSIFIER_SETS]; /* a set's second map, or -1 */
	struct programs programs[2]; /* for interfaces without and with a link header */
	struct attachment at[CLASSIFIER_INTERFACES_MAX];
	struct classifier_ports *ports; /* shared with the programs */
	uint32_t given;                 /* ports->given, when it was looked at last */
	unsigned n_left;                /* groups that ended, and whose maps are still entered */
	bool left[CLASSIFIER_GROUPS_MAX];
};

static inline struct ebpf *ebpf_of(struct classifier *c)
{
	return container_of(c, struct ebpf, base);
}

extern const uint8_t ebpf_present; /* value of the maps that are sets */

/* A map whose keys alone matter: an internal fd, or -errno. */
int ebpf_hash_of_keys(const char *name, uint32_t key_size, uint32_t max_entries);
int ebpf_flows_open(struct ebpf *c); /* the maps of both sets; what was opened is the caller's to close, also when it fails */

/* As of struct classifier_ops. */
int ebpf_add_flow(struct classifier *base, enum classifier_set set, const struct flow_key *key);
int ebpf_del_flow(struct classifier *base, enum classifier_set set, const struct flow_key *key);
void ebpf_looked(struct classifier *base);
bool ebpf_has_given(struct classifier *base);
void ebpf_visit_given(struct classifier *base, struct classifier_given *v);
void ebpf_count_conn(struct classifier *base, const struct flow_key *key, int by);
void ebpf_del_flows(struct classifier *base, const struct flow_key *keys, size_t n);
void ebpf_flows_stay(struct classifier *base, const struct flow_key *keys, size_t n);

#endif
