/* A dead member's slot and entries: see classifier_remains.h. */
#include "kernel/classifier_remains.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/sys.h"
#include "kernel/bpf_sys.h"
#include "kernel/classifier_group_internal.h"
#include "kernel/classifier_prog.h"

bool classifier_remains_are(const struct classifier_remains *r)
{
	return r->slot < CLASSIFIER_GROUP_SLOTS && (r->generation & 1) &&
	       bpf_map_is(r->members_fd, BPF_MAP_TYPE_ARRAY, sizeof(uint32_t), sizeof(struct group_members)) &&
	       bpf_map_is(r->flows_fd, BPF_MAP_TYPE_HASH, sizeof(struct classifier_flow), sizeof(uint64_t));
}

static struct group_members *map_members(const struct classifier_remains *r)
{
	void *p = sys_mmap(NULL, sizeof(struct group_members), PROT_READ | PROT_WRITE, MAP_SHARED, r->members_fd, 0);
	return sys_is_error(p) ? NULL : p;
}

static bool has_slot(const struct group_members *m, const struct classifier_remains *r)
{
	return __atomic_load_n(&m->slots[r->slot].generation, __ATOMIC_ACQUIRE) == r->generation;
}

bool classifier_remains_has_slot(const struct classifier_remains *r)
{
	struct group_members *m = map_members(r);
	bool has = m && has_slot(m, r);
	if (m)
		sys_munmap(m, sizeof *m);
	return has;
}

void classifier_remains_end(const struct classifier_remains *r)
{
	struct group_members *m = map_members(r);
	if (!m)
		return;
	if (has_slot(m, r))
		group_end_generation(m, r->slot);
	sys_munmap(m, sizeof *m);
}

/* A SYN may have made it another member's since. */
static bool take(const struct classifier_remains *r, const struct classifier_flow *f, uint64_t dead)
{
	uint64_t owner;
	if (bpf_map_take(r->flows_fd, f, &owner) < 0)
		return false;
	if (owner != dead)
		bpf_map_insert(r->flows_fd, f, &owner);
	return owner == dead;
}

int classifier_remains_step(struct classifier_remains *r, struct flow_key keys[CLASSIFIER_REMAINS_STEP], unsigned *n)
{
	struct classifier_flow flows[CLASSIFIER_REMAINS_STEP];
	uint64_t owners[CLASSIFIER_REMAINS_STEP], dead = group_owner(r->slot, r->generation);
	uint32_t seen = CLASSIFIER_REMAINS_STEP, next = 0;
	int err = bpf_map_lookup_batch(r->flows_fd, r->goes_on ? &r->at : NULL, &next, flows, owners, &seen);

	*n = 0;
	if (err < 0 && err != -ENOENT) /* -ENOENT: these are the last */
		return 0;
	for (uint32_t i = 0; i < seen; i++)
		if (owners[i] == dead && take(r, &flows[i], dead))
			keys[(*n)++] = classifier_flow_key(&flows[i]);
	r->goes_on = err == 0;
	r->at = next;
	return r->goes_on;
}
