/*
 * SYNs that wait for an engine which looks at nothing: its process is stopped (SIGSTOP, a debugger, the freezer).
 *
 * Natively the kernel opens connections up to the backlog then. So a tap notes since when a SYN waits for its engine,
 * and the engine clears that after each look: a store to mapped memory. While the oldest has waited for
 * CLASSIFIER_SILENT_NS, the tap gives the SYNs that come to the kernel, whose listening socket has the same queue
 * (classifier_prog.c, gen_given; of a group's member classifier_prog_group.c, gen_choose). The first of them lie in the
 * engine's ring; each client repeats its own, and that one is the kernel's, too.
 *
 * What was given stays the kernel's: by an exception, or by the entry in the group's flows. An engine that goes on
 * takes note of these before it looks at its ring, and so does not answer the SYNs there whose connections the kernel
 * has. A SYN never ends a connection (RFC 5961 §4): the engine counts what it has, by a hash, and a SYN that may be of
 * such a one waits.
 *
 * A group's member that is silent also loses its bits, so that others are chosen; it publishes them again.
 */
#include "kernel/classifier_ebpf_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "kernel/bpf_sys.h"
#include "kernel/classifier_group_internal.h"

#define VISITED_AT_ONCE 256

static void clear(uint64_t *since)
{
	if (__atomic_load_n(since, __ATOMIC_RELAXED))
		__atomic_store_n(since, 0, __ATOMIC_RELAXED);
}

void ebpf_looked(struct classifier *base)
{
	clear(&ebpf_of(base)->ports->syn_since_ns);
	for (struct classifier_group *g = base->groups; g; g = g->next)
		if (g->slot >= 0)
			clear(&g->members->slots[g->slot].syn_since_ns);
}

static bool has_grown(const uint32_t *at, uint32_t *seen)
{
	uint32_t now = __atomic_load_n(at, __ATOMIC_ACQUIRE);
	bool grown = now != *seen;
	*seen = now;
	return grown;
}

bool ebpf_has_given(struct classifier *base)
{
	struct ebpf *c = ebpf_of(base);
	bool given = has_grown(&c->ports->given, &c->given);
	for (struct classifier_group *g = base->groups; g; g = g->next) {
		if (g->slot < 0 || !has_grown(&g->members->slots[g->slot].given, &g->given))
			continue;
		classifier_group_publish(g);
		given = true;
	}
	return given;
}

union values {
	uint8_t present[VISITED_AT_ONCE];
	uint64_t owners[VISITED_AT_ONCE];
};

/* `kernels`: of the group's, those that hold this. Without memory for it, the SYNs in the ring are answered in vain. */
static void visit_map(int map, const uint64_t *kernels, struct classifier_given *v)
{
	struct classifier_flow *keys = malloc(VISITED_AT_ONCE * sizeof *keys);
	union values *values = malloc(sizeof *values);
	uint32_t at = 0;
	int err = keys && values ? 0 : -ENOMEM;
	for (bool first = true; !err; first = false) {
		uint32_t n = VISITED_AT_ONCE, next = 0;
		err = bpf_map_lookup_batch(map, first ? NULL : &at, &next, keys, values, &n);
		for (uint32_t i = 0; (!err || err == -ENOENT) && i < n; i++) {
			struct flow_key key = classifier_flow_key(&keys[i]);
			if (!kernels || values->owners[i] == *kernels)
				v->each(v, &key, kernels);
		}
		at = next;
	}
	free(keys);
	free(values);
}

void ebpf_visit_given(struct classifier *base, struct classifier_given *v)
{
	struct ebpf *c = ebpf_of(base);
	if (c->ports->n_exceptions)
		visit_map(c->maps.sets[SET_EXCEPTIONS], NULL, v);
	for (struct classifier_group *g = base->groups; g; g = g->next) {
		uint64_t kernels = group_own(g) | GROUP_SLOT_KERNEL;
		if (g->slot >= 0 && g->given)
			visit_map(g->flows_fd, &kernels, v);
	}
}

void ebpf_count_conn(struct classifier *base, const struct flow_key *key, int by)
{
	struct classifier_flow f = classifier_flow(key);
	uint8_t *n = &ebpf_of(base)->ports->conns[classifier_conns_place(&f)];
	if (*n < UINT8_MAX && (by > 0 || *n)) /* a full one stays so */
		__atomic_store_n(n, *n + by, __ATOMIC_RELEASE);
}
