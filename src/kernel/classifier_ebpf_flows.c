/*
 * Exact flows and exceptions of the eBPF backend: the slots that are entered by a store (classifier_slots.c), and of each set a small map and a large one.
 *
 * The large map is made when the small one is full, or when the host begins to judge: then each connection of a listener needs an entry, and the process may drop its privilege
 * before the small map is full. Once there is a large map, all that comes goes into it, so that the small one empties, and one place has to be looked at when entries go.
 *
 * A flow in TIME-WAIT leaves its slot for the set, with others by one system call, where the slots are wanted (ebpf_flows_stay).
 *
 * Where the host judges, the judge's filter enters the flows of the listening ports into the same maps, at any time (judge_prog.c). So the engine puts no flow of such a port
 * into a slot: what is in a slot is there alone, and goes by a store.
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

static int set_add(struct ebpf *c, enum classifier_set set, const struct flow_key *key)
{
	struct classifier_flow f = classifier_flow(key);
	if (c->more[set] < 0) {
		int ret = bpf_map_update(c->maps.sets[set], &f, &ebpf_present);
		c->n_first[set] += ret == 0;
		if (ret != -E2BIG)
			return ret;
		ret = grow(c, set);
		if (ret < 0)
			return ret;
	}
	return bpf_map_update(c->more[set], &f, &ebpf_present);
}

/* It may be in both: added to the first, and again when there was a second. */
static int set_del(struct ebpf *c, enum classifier_set set, const struct flow_key *key)
{
	struct classifier_flow f = classifier_flow(key);
	int second = c->more[set] >= 0 ? bpf_map_delete(c->more[set], &f) : -ENOENT;
	int first = c->n_first[set] ? bpf_map_delete(c->maps.sets[set], &f) : -ENOENT;

	c->n_first[set] -= first == 0;
	return second == -ENOENT ? first : second;
}

void ebpf_flows_are_judged(struct ebpf *c)
{
	c->was_judged = true;
	__atomic_store_n(&c->ports->flows_entered, 1, __ATOMIC_RELEASE);
	if (c->more[SET_FLOWS] < 0 && grow(c, SET_FLOWS) < 0)
		c->n_first[SET_FLOWS] = UINT32_MAX / 2; /* the judge's filter enters flows there, and nobody counts them */
}

/*
 * How many flows of this local port, modulo CLASSIFIER_SLOTS, or how many exceptions, the engine put into the set, or fewer are there. The programs look into the set if there is one:
 * it is counted before it comes, and after it has gone.
 */
static uint32_t *in_set(struct ebpf *c, enum classifier_set set, const struct flow_key *key)
{
	return set == SET_FLOWS ? &c->ports->in_set[key->lport % CLASSIFIER_SLOTS] : &c->ports->n_exceptions;
}

static void comes_into_set(struct ebpf *c, enum classifier_set set, const struct flow_key *key)
{
	uint32_t *n = in_set(c, set, key);
	__atomic_store_n(n, *n + 1, __ATOMIC_RELEASE);
}

/* What the judge's filter entered was never counted. */
static void left_set(struct ebpf *c, enum classifier_set set, const struct flow_key *key)
{
	uint32_t *n = in_set(c, set, key);
	if (*n && !(set == SET_FLOWS && c->was_judged))
		__atomic_store_n(n, *n - 1, __ATOMIC_RELEASE);
}

static bool may_have_slot(const struct ebpf *c, const struct flow_key *key)
{
	return !c->was_judged || !__atomic_load_n(&c->ports->bits[key->lport], __ATOMIC_RELAXED);
}

int ebpf_add_flow(struct classifier *base, enum classifier_set set, const struct flow_key *key)
{
	struct ebpf *c = ebpf_of(base);
	if (set == SET_FLOWS && may_have_slot(c, key) && classifier_slot_add(c->ports, key))
		return 0;
	comes_into_set(c, set, key);
	return set_add(c, set, key);
}

/* *had_slot: it was in its slot. True: it may be in the set, too. Who ends a flow twice (socket/parting.c, where a 4-tuple was soon used again) costs no system call. */
static bool leave_slot(struct ebpf *c, const struct flow_key *key, bool *had_slot)
{
	*had_slot = classifier_slot_clear(c->ports, key);
	return *in_set(c, SET_FLOWS, key) || (c->was_judged && !*had_slot);
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

/* In the set as well, by one system call for all. *n says how many; the large map is made when the small one is full. */
static int set_add_many(struct ebpf *c, const struct classifier_flow *flows, uint32_t *n)
{
	static const uint8_t present[CLASSIFIER_STAY_AT_ONCE] = {[0 ... CLASSIFIER_STAY_AT_ONCE - 1] = 1};
	uint32_t all = *n;
	if (c->more[SET_FLOWS] < 0) {
		int ret = bpf_map_update_batch(c->maps.sets[SET_FLOWS], flows, present, n);
		c->n_first[SET_FLOWS] += *n;
		if (ret != -E2BIG || grow(c, SET_FLOWS) < 0)
			return ret;
		*n = all; /* some are in both */
	}
	return bpf_map_update_batch(c->more[SET_FLOWS], flows, present, n);
}

/*
 * From the slots into the set, which they enter before they leave: the programs look at the slots first. Only while there are many in the slots, for those who come to find a free
 * one. If the set refuses, they stay, and count as being in both.
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
	bool grown = c->more[SET_FLOWS] >= 0;
	int map = grown ? c->more[SET_FLOWS] : c->maps.sets[SET_FLOWS];
	for (size_t i = 0; i < n;) {
		uint32_t count = n - i;
		for (uint32_t k = 0; k < count; k++)
			flows[k] = classifier_flow(keys[i + k]);
		int err = grown && c->n_first[SET_FLOWS] ? -EINVAL : bpf_map_delete_batch(map, flows, &count);
		if (err == 0 || err == -ENOENT) {
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
