/*
 * Exact flows and exceptions of the eBPF backend: the slots that are entered by a store (classifier_slots.c), and of
 * each set a small map and a large one.
 *
 * The large map is made when the small one is full. An entry goes into the small map, whose buckets stay in the
 * processor's cache. While the large map has entries, all that comes goes there, so that the small one empties, and one
 * place has to be looked at when entries go. The programs do not look into a large map that has none.
 *
 * A flow in TIME-WAIT leaves its slot for the set, with others by one system call, where the slots are wanted
 * (ebpf_flows_stay).
 */
#include "kernel/classifier_ebpf_internal.h"

#include <errno.h>

#include "base/fd.h"
#include "kernel/bpf_sys.h"

/* 4-tuples of a set at first, and in the map that is added when they are full. Creating a map costs
   its buckets (16 B each, some 0.1 ms for a thousand), which a program with one connection should
   not pay for a program with many. */
#define CLASSIFIER_SET_FIRST 16384
#define CLASSIFIER_SET_MORE  262144

const uint8_t ebpf_present = 1;

/* So many used slots leave one free for nearly every port: both places of a port are taken for one in 64. */
#define SLOTS_MANY (CLASSIFIER_SLOTS / 8)

static const char *const set_names[CLASSIFIER_SETS] = {
    [SET_FLOWS] = "fin_flows", [SET_EXCEPTIONS] = "fin_exceptions"};

int ebpf_hash_of_keys(const char *name, uint32_t key_size, uint32_t max_entries)
{
	return fd_move_high(bpf_map_create(name, BPF_MAP_TYPE_HASH, key_size, sizeof ebpf_present,
					   max_entries, BPF_F_NO_PREALLOC));
}

static int create_set(enum classifier_set set, uint32_t max_entries)
{
	return ebpf_hash_of_keys(set_names[set], sizeof(struct classifier_flow), max_entries);
}

int ebpf_flows_open(struct ebpf *c)
{
	struct classifier_maps *m = &c->maps;
	for (int i = 0; i < CLASSIFIER_SETS; i++) {
		m->sets[i] = create_set(i, CLASSIFIER_SET_FIRST);
		if (m->sets[i] < 0)
			return m->sets[i];
	}
	m->more = fd_move_high(bpf_map_create_array_of_maps("fin_more", CLASSIFIER_SETS, m->sets[0]));
	return m->more < 0 ? m->more : 0;
}

/* The set's large map. After a program has dropped its privilege that is refused: the set is full. */
static int grow(struct ebpf *c, enum classifier_set set)
{
	uint32_t slot = set;
	int fd, ret;

	fd = create_set(set, CLASSIFIER_SET_MORE);
	if (fd < 0)
		return -E2BIG;
	ret = bpf_map_update(c->maps.more, &slot, &fd);
	if (ret < 0) {
		fd_close(fd);
		return ret;
	}
	c->more[set] = fd;
	return 0;
}

static bool has_some(const uint32_t *n)
{
	return __atomic_load_n(n, __ATOMIC_ACQUIRE);
}

/* The programs look where entries are counted: an entry is counted before it comes, and after it has gone. */
static int map_insert(int map, uint32_t *n, const struct classifier_flow *f)
{
	__atomic_fetch_add(n, 1, __ATOMIC_ACQ_REL);
	int ret = bpf_map_insert(map, f, &ebpf_present);
	if (ret < 0)
		__atomic_fetch_sub(n, 1, __ATOMIC_ACQ_REL);
	return ret == -EEXIST ? 0 : ret;
}

static int map_remove(int map, uint32_t *n, const struct classifier_flow *f)
{
	int ret = has_some(n) ? bpf_map_delete(map, f) : -ENOENT;
	if (ret == 0)
		__atomic_fetch_sub(n, 1, __ATOMIC_ACQ_REL);
	return ret;
}

static int set_add(struct ebpf *c, enum classifier_set set, const struct flow_key *key)
{
	struct classifier_flow f = classifier_flow(key);
	if (!has_some(&c->ports->in_large[set])) {
		int ret = map_insert(c->maps.sets[set], &c->ports->in_small[set], &f);
		if (ret != -E2BIG)
			return ret;
		if (c->more[set] < 0 && (ret = grow(c, set)) < 0)
			return ret;
	}
	return map_insert(c->more[set], &c->ports->in_large[set], &f);
}

/* It may be in both: added to the small one, and again while the large one was in use. */
static int set_del(struct ebpf *c, enum classifier_set set, const struct flow_key *key)
{
	struct classifier_flow f = classifier_flow(key);
	int large = map_remove(c->more[set], &c->ports->in_large[set], &f);
	int small = map_remove(c->maps.sets[set], &c->ports->in_small[set], &f);
	return large == -ENOENT ? small : large;
}

/*
 * How many flows of this local port, modulo CLASSIFIER_SLOTS, or how many exceptions, the engine put into the set, or
 * fewer are there. The programs look into the set if there is one: it is counted before it comes, and after it has
 * gone.
 */
static uint32_t *in_set(struct ebpf *c, enum classifier_set set, const struct flow_key *key)
{
	return set == SET_FLOWS ? &c->ports->in_set[key->lport % CLASSIFIER_SLOTS] : &c->ports->n_exceptions;
}

static void comes_into_set(struct ebpf *c, enum classifier_set set, const struct flow_key *key)
{
	uint32_t *n = in_set(c, set, key);
	if (set == SET_EXCEPTIONS) /* the taps count, too */
		__atomic_fetch_add(n, 1, __ATOMIC_ACQ_REL);
	else
		__atomic_store_n(n, *n + 1, __ATOMIC_RELEASE);
}

static void left_set(struct ebpf *c, enum classifier_set set, const struct flow_key *key)
{
	uint32_t *n = in_set(c, set, key);
	if (set == SET_EXCEPTIONS)
		__atomic_fetch_sub(n, 1, __ATOMIC_ACQ_REL);
	else if (*n)
		__atomic_store_n(n, *n - 1, __ATOMIC_RELEASE);
}

int ebpf_add_flow(struct classifier *base, enum classifier_set set, const struct flow_key *key)
{
	struct ebpf *c = ebpf_of(base);
	if (set == SET_FLOWS && classifier_slot_add(c->ports, key))
		return 0;
	comes_into_set(c, set, key);
	return set_add(c, set, key);
}

/*
 * *had_slot: it was in its slot. True: it may be in the set, too. Who ends a flow twice (socket/parting.c, where a
 * 4-tuple was soon used again) costs no system call.
 */
static bool leave_slot(struct ebpf *c, const struct flow_key *key, bool *had_slot)
{
	*had_slot = classifier_slot_clear(c->ports, key);
	return *in_set(c, SET_FLOWS, key);
}

int ebpf_del_flow(struct classifier *base, enum classifier_set set, const struct flow_key *key)
{
	struct ebpf *c = ebpf_of(base);
	bool had_slot = false;
	if (set == SET_FLOWS && !leave_slot(c, key, &had_slot))
		return had_slot ? 0 : -ENOENT;
	int ret = set_del(c, set, key);
	if (ret == 0)
		left_set(c, set, key);
	return had_slot && ret == -ENOENT ? 0 : ret;
}

/* *n of them come, and say afterwards how many did. One that is there already is counted again. */
static int map_insert_many(int map, uint32_t *counter, const struct classifier_flow *flows, uint32_t *n)
{
	static const uint8_t present[CLASSIFIER_STAY_AT_ONCE] = {[0 ... CLASSIFIER_STAY_AT_ONCE - 1] = 1};
	uint32_t all = *n;
	__atomic_fetch_add(counter, all, __ATOMIC_ACQ_REL);
	int ret = bpf_map_update_batch(map, flows, present, n);
	if (*n < all)
		__atomic_fetch_sub(counter, all - *n, __ATOMIC_ACQ_REL);
	return ret;
}

/*
 * In the set as well, by one system call for all. *n says how many; the large map is made when the small one is full.
 */
static int set_add_many(struct ebpf *c, const struct classifier_flow *flows, uint32_t *n)
{
	uint32_t all = *n;
	if (!has_some(&c->ports->in_large[SET_FLOWS])) {
		int ret = map_insert_many(c->maps.sets[SET_FLOWS], &c->ports->in_small[SET_FLOWS], flows, n);
		if (ret != -E2BIG || (c->more[SET_FLOWS] < 0 && grow(c, SET_FLOWS) < 0))
			return ret;
		*n = all; /* some are in both */
	}
	return map_insert_many(c->more[SET_FLOWS], &c->ports->in_large[SET_FLOWS], flows, n);
}

/*
 * From the slots into the set, which they enter before they leave: the programs look at the slots first. Only while
 * there are many in the slots, for those who come to find a free one. If the set refuses, they stay, and count as being
 * in both.
 */
void ebpf_flows_stay(struct classifier *base, const struct flow_key *keys, size_t n)
{
	struct ebpf *c = ebpf_of(base);
	struct classifier_flow flows[CLASSIFIER_STAY_AT_ONCE];
	const struct flow_key *which[CLASSIFIER_STAY_AT_ONCE];
	uint32_t n_flows = 0;
	if (c->ports->n_slots < SLOTS_MANY)
		return;
	for (size_t i = 0; i < n && n_flows < CLASSIFIER_STAY_AT_ONCE; i++) {
		if (!classifier_slot_has(c->ports, &keys[i]))
			continue;
		comes_into_set(c, SET_FLOWS, &keys[i]);
		flows[n_flows] = classifier_flow(&keys[i]);
		which[n_flows++] = &keys[i];
	}
	if (n_flows && set_add_many(c, flows, &n_flows) == 0)
		for (uint32_t i = 0; i < n_flows; i++)
			classifier_slot_clear(c->ports, which[i]);
}

#define DELETED_AT_ONCE 64

/* One system call for many. While both maps have entries, or where the kernel has no such call, one by one. */
static void set_del_many(struct ebpf *c, const struct flow_key *const *keys, size_t n)
{
	struct classifier_flow flows[DELETED_AT_ONCE];
	uint32_t *large = &c->ports->in_large[SET_FLOWS], *small = &c->ports->in_small[SET_FLOWS], *n_in = has_some(large) ? large : small;
	int map = n_in == large ? c->more[SET_FLOWS] : c->maps.sets[SET_FLOWS];
	for (size_t i = 0; i < n;) {
		uint32_t count = n - i;
		for (uint32_t k = 0; k < count; k++)
			flows[k] = classifier_flow(keys[i + k]);
		int err = n_in == large && has_some(small) ? -EINVAL : bpf_map_delete_batch(map, flows, &count);
		if (err == 0 || err == -ENOENT) {
			__atomic_fetch_sub(n_in, count, __ATOMIC_ACQ_REL);
			for (uint32_t k = 0; k < count; k++)
				left_set(c, SET_FLOWS, keys[i + k]);
			i += count + (err != 0);
		} else if (set_del(c, SET_FLOWS, keys[i++]) == 0) {
			left_set(c, SET_FLOWS, keys[i - 1]);
		}
	}
}

void ebpf_del_flows(struct classifier *base, const struct flow_key *keys, size_t n)
{
	struct ebpf *c = ebpf_of(base);
	const struct flow_key *others[DELETED_AT_ONCE];
	size_t n_others = 0;
	bool had_slot;
	for (size_t i = 0; i < n; i++) {
		if (leave_slot(c, &keys[i], &had_slot))
			others[n_others++] = &keys[i];
		if (n_others == DELETED_AT_ONCE) {
			set_del_many(c, others, n_others);
			n_others = 0;
		}
	}
	set_del_many(c, others, n_others);
}
