/*
 * Listener groups, the data plane: which member of a group a frame belongs to.
 *
 * Owns: per group, this process's descriptors of the two maps and a mapping of the first.
 *
 *   members  an array of one value, memory-mapped (struct group_members): who accepts, who waits, how long the queues are
 *   flows    a hash from the 4-tuple to its owner: a slot and the slot's generation
 *
 * (Where the classifier has no programs, both are memory, and classifier_group_cells.c decides.)
 *
 * The decision, the same in the packet filter of every member and in its tcx program (classifier_prog_group.c):
 *
 *   1. The flow has an entry of this member: the frame is ours. It has an entry of another living member, or one that
 *      says "the
 *      kernel's": none of ours.
 *   2. Otherwise the flow may be in this process's own exact flows (a client connection from this port).
 *   3. Otherwise, a SYN, seen by a packet filter: choose a member. Two different ones are drawn at random from those
 *      that wait (or
 *      accept, when none waits), and the shorter queue of the two wins. The choice goes into `flows` and is obeyed from
 *      there. An entry whose member is gone is replaced by compare-and-swap, so that two CPUs with the same flow agree,
 *      too. Nobody accepts, or the map is full: none of ours, that is, the kernel's queue.
 *   4. Otherwise none of ours. The kernel answers: it knows its own connections, and resets what nobody knows.
 *
 * While a member answers SYNs by cookies, no state may be made for them. Then a SYN or an ACK without entry goes to a
 * member by hash over those that accept, and 4 comes after that; a member's exceptions are the kernel's still.
 *
 * A member that is silent (classifier_given.c) is found out by whoever chooses it: it loses its bits, and the entry
 * says "the kernel's". So does the entry of a SYN that it was given before, when that one comes again.
 *
 * Why the tcx program never chooses: it runs when all taps have seen the frame. If none of them took the SYN, choosing
 * would drop it in front of the kernel and deliver it to nobody.
 *
 * Invariants: an entry whose generation is its slot's has one owner, and only the owner changes it. A dead member (its
 * slot is not reaped yet) still gets entries, but its filter and its tcx program are gone with it: those frames reach
 * the kernel, whose listening socket answers SYNs into the queue that all processes of the listener share. So nobody
 * has to notice a death for anything to be right; reaping makes it fast again. The bitmaps change by atomic operations;
 * each bit belongs to one slot.
 *
 * Limits: CLASSIFIER_GROUP_SLOTS members, GROUP_FLOWS_MAX connections per group, CLASSIFIER_GROUPS_MAX groups per
 * process. A map has a fixed number of buckets, 16 bytes each, paid when it is made; hence not more. Beyond: the
 * kernel's queue. No timers.
 *
 * Trust: a member can write both maps, and so can take part in everything that the group is about. It cannot become
 * another group's.
 */
#include "kernel/classifier_group_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "base/fd.h"
#include "base/sys.h"
#include "kernel/bpf_sys.h"
#include "kernel/classifier_prog.h"
#include "kernel/privileged.h"

#define SWEEP_ENTRIES   256 /* entries that one call of the sweep looks at */
#define DELETED_AT_ONCE 64

/* ---- the maps ---- */

int classifier_group_members_map(void)
{
	return fd_move_high(bpf_map_create("fin_members", BPF_MAP_TYPE_ARRAY, sizeof(uint32_t),
					   sizeof(struct group_members), 1, BPF_F_MMAPABLE));
}

int classifier_group_flows_map(uint32_t max_entries)
{
	return fd_move_high(bpf_map_create("fin_group_flows", BPF_MAP_TYPE_HASH, sizeof(struct classifier_flow),
					   sizeof(uint64_t), max_entries, BPF_F_NO_PREALLOC));
}

static void group_descriptors(int members_fd, int flows_fd, const struct judge_shared *judge, int fds[CLASSIFIER_GROUP_FDS])
{
	fds[0] = members_fd;
	fds[1] = flows_fd;
	fds[2] = judge->asked_fd;
	fds[3] = judge->rings_fd;
	fds[4] = judge->prog_fd;
}

static int map_members(struct classifier_group *g)
{
	void *p = sys_mmap(NULL, sizeof *g->members, PROT_READ | PROT_WRITE, MAP_SHARED, g->members_fd, 0);
	if (sys_is_error(p))
		return (int)(intptr_t)p;
	g->members = p;
	return 0;
}

static int free_index(const struct classifier *c)
{
	uint8_t used[CLASSIFIER_GROUPS_MAX] = {0};
	for (const struct classifier_group *g = c->groups; g; g = g->next)
		used[g->index] = 1;
	for (int i = 0; i < CLASSIFIER_GROUPS_MAX; i++)
		if (!used[i])
			return i;
	return -ENOSPC;
}

/* Takes over the descriptors, also when it fails. */
static int open_group(struct classifier *c, int members_fd, int flows_fd, const struct judge_shared *judge, struct classifier_group **out)
{
	struct classifier_group *g = calloc(1, sizeof *g);
	int err = members_fd < 0 ? members_fd : flows_fd < 0 ? flows_fd : -ENOMEM, index = -1;

	if (g && members_fd >= 0 && flows_fd >= 0) {
		*g = (struct classifier_group){.c = c, .members_fd = members_fd, .flows_fd = flows_fd, .judge = *judge, .slot = -1};
		err = index = free_index(c);
	}
	if (err >= 0) {
		g->index = index;
		err = c->ops->set_group(c, g->index, members_fd, flows_fd, judge->asked_fd); /* refuses maps of another shape */
	}
	if (err == 0 && (err = map_members(g)) < 0)
		c->ops->set_group(c, g->index, -1, -1, -1);
	if (err < 0) {
		struct judge_shared gone = *judge;
		judge_shared_close(&gone);
		fd_close(members_fd);
		fd_close(flows_fd);
		free(g);
		return err;
	}
	g->next = c->groups;
	c->groups = g;
	*out = g;
	return 0;
}

int classifier_group_make(int fds[CLASSIFIER_GROUP_FDS])
{
	struct judge_shared judge;
	int err = judge_shared_open(&judge);
	if (err < 0)
		return err;
	int members_fd = classifier_group_members_map(), flows_fd = classifier_group_flows_map(GROUP_FLOWS_MAX);
	if (members_fd >= 0 && flows_fd >= 0) {
		group_descriptors(members_fd, flows_fd, &judge, fds);
		return 0;
	}
	err = members_fd < 0 ? members_fd : flows_fd;
	fd_close(members_fd);
	fd_close(flows_fd);
	judge_shared_close(&judge);
	return err;
}

static int make_as(const struct classifier *c, int fds[CLASSIFIER_GROUP_FDS])
{
	if (c->ops->groups_in_memory)
		return fds[0] = group_cells_make();
	int err = classifier_group_make(fds);
	return err == -EPERM || err == -EACCES ? privileged_make_group(fds) : err;
}

int classifier_group_new(struct classifier *c, struct classifier_group **out)
{
	int fds[CLASSIFIER_GROUP_FDS];
	if (!c->ops->set_group && !c->ops->groups_in_memory)
		return -EOPNOTSUPP;
	int err = make_as(c, fds);
	if (err >= 0)
		err = classifier_group_open(c, fds, c->ops->groups_in_memory ? 1 : CLASSIFIER_GROUP_FDS, out);
	if (err < 0)
		return err;
	struct group_members *m = (*out)->members;
	if (sys_call(SYS_getrandom, &m->seed, sizeof m->seed, GRND_NONBLOCK, 0, 0, 0) != sizeof m->seed)
		m->seed = (uintptr_t)m; /* the map is only as good as its hash's spread then */
	return 0;
}

/* Takes over the descriptor, also when it fails. */
static int open_memory(struct classifier *c, int fd, struct classifier_group **out)
{
	struct classifier_group *g = fd < 0 ? NULL : calloc(1, sizeof *g);
	int err = fd < 0 ? fd : -ENOMEM;
	if (g) {
		*g = (struct classifier_group){.c = c, .members_fd = fd, .flows_fd = -1, .judge = {-1, -1, -1}, .slot = -1};
		err = group_cells_map(g, fd);
	}
	if (err) {
		fd_close(fd);
		free(g);
		return err;
	}
	g->next = c->groups;
	c->groups = g;
	*out = g;
	return 0;
}

int classifier_group_open(struct classifier *c, const int *fds, unsigned n_fds, struct classifier_group **out)
{
	int high[CLASSIFIER_GROUP_FDS] = {-1, -1, -1, -1, -1};
	for (unsigned i = 0; i < n_fds && i < CLASSIFIER_GROUP_FDS; i++)
		high[i] = fd_move_high(fds[i]);

	struct judge_shared judge = {.asked_fd = high[2], .rings_fd = high[3], .prog_fd = high[4]};

	if (c->ops->set_group && n_fds == CLASSIFIER_GROUP_FDS)
		return open_group(c, high[0], high[1], &judge, out);
	if (c->ops->groups_in_memory && n_fds == 1)
		return open_memory(c, high[0], out);
	judge_shared_close(&judge);
	fd_close(high[0]);
	fd_close(high[1]);
	return -EOPNOTSUPP;
}

unsigned classifier_group_fds(const struct classifier_group *g, int fds[CLASSIFIER_GROUP_FDS])
{
	group_descriptors(g->members_fd, g->flows_fd, &g->judge, fds);
	return g->in_memory ? 1 : CLASSIFIER_GROUP_FDS;
}

void classifier_group_forget(struct classifier_group *g)
{
	struct classifier_group **at = &g->c->groups;
	while (*at != g)
		at = &(*at)->next;
	*at = g->next;
	if (g->in_memory)
		group_cells_unmap(g);
	else
		sys_munmap(g->members, sizeof *g->members);
	fd_close(g->members_fd);
	fd_close(g->flows_fd);
	judge_shared_close(&g->judge);
	free(g);
}

void classifier_group_free(struct classifier_group *g)
{
	if (!g)
		return;
	classifier_group_leave_slot(g);
	if (!g->in_memory)
		g->c->ops->set_group(g->c, g->index, -1, -1, -1);
	classifier_group_forget(g);
}

/* ---- slots ---- */

static void set_bit(uint64_t *bitmap, unsigned slot, bool on)
{
	uint64_t bit = 1ull << slot;

	if (!!(__atomic_load_n(bitmap, __ATOMIC_RELAXED) & bit) == on)
		return;
	if (on)
		__atomic_fetch_or(bitmap, bit, __ATOMIC_RELEASE);
	else
		__atomic_fetch_and(bitmap, ~bit, __ATOMIC_RELEASE);
}

static void clear_slot(struct group_members *m, unsigned slot)
{
	set_bit(&m->waiting, slot, false);
	set_bit(&m->accepting, slot, false);
	set_bit(&m->serving, slot, false);
	set_bit(&m->lately, slot, false);
	__atomic_store_n(&m->slots[slot].queue, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&m->slots[slot].syn_since_ns, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&m->slots[slot].given, 0, __ATOMIC_RELAXED);
}

/* Our program knows its own slot by the listeners that lead to the group. */
static int publish_own(struct classifier_group *g)
{
	struct classifier *c = g->c;
	int err = 0;
	for (size_t i = 0; i < c->n_listeners && err == 0; i++)
		if (c->listeners[i].group == g)
			err = c->ops->add_listener(c, &c->listeners[i].addr, c->listeners[i].port);
	return err;
}

int classifier_group_take_slot(struct classifier_group *g, unsigned slot)
{
	if (slot >= CLASSIFIER_GROUP_SLOTS)
		return -EINVAL;
	if (g->slot >= 0)
		return -EBUSY;
	struct group_slot *s = &g->members->slots[slot];
	uint32_t old = __atomic_load_n(&s->generation, __ATOMIC_RELAXED);
	clear_slot(g->members, slot);
	__atomic_store_n(&s->pid, (uint32_t)sys_getpid(), __ATOMIC_RELAXED);
	g->given = 0;
	g->generation = (old + 1) | 1; /* the next odd number: an owner that died left one behind */
	g->slot = slot;
	__atomic_store_n(&s->generation, g->generation, __ATOMIC_RELEASE);
	int err = classifier_group_join_judge(g);
	if (!err)
		err = publish_own(g);
	if (err < 0)
		classifier_group_leave_slot(g);
	return err;
}

void group_end_generation(struct group_members *m, unsigned slot)
{
	struct group_slot *s = &m->slots[slot];
	uint32_t generation = __atomic_load_n(&s->generation, __ATOMIC_RELAXED);
	clear_slot(m, slot);
	if (generation & 1)
		__atomic_store_n(&s->generation, generation + 1, __ATOMIC_RELEASE);
}

void classifier_group_leave_slot(struct classifier_group *g)
{
	if (g->slot < 0)
		return;
	group_end_generation(g->members, g->slot);
	g->slot = -1;
	g->accepting = g->waiting = g->serving = g->lately = false;
	publish_own(g);
}

void classifier_group_reap_slot(struct classifier_group *g, unsigned slot)
{
	if (slot < CLASSIFIER_GROUP_SLOTS && (int)slot != g->slot)
		group_end_generation(g->members, slot);
}

int classifier_group_slot(const struct classifier_group *g)
{
	return g->slot;
}

uint32_t classifier_group_generation(const struct classifier_group *g)
{
	return g->generation;
}

/* ---- judged by the host ---- */

int classifier_group_join_judge(struct classifier_group *g)
{
	if (!g->c->judge || g->slot < 0)
		return 0;
	return g->judge.rings_fd < 0 ? -EOPNOTSUPP : judge_shared_join(&g->judge, g->c->judge, g->slot);
}

int classifier_group_attach_judge(const struct classifier_group *g, int listening_fd)
{
	return g->judge.prog_fd < 0 || !g->c->judge ? -EOPNOTSUPP : judge_shared_attach(&g->judge, listening_fd);
}

/* ---- what the other members see ---- */

void classifier_group_publish(struct classifier_group *g)
{
	if (g->slot < 0)
		return;
	set_bit(&g->members->accepting, g->slot, g->accepting);
	set_bit(&g->members->waiting, g->slot, g->accepting && g->waiting);
	set_bit(&g->members->lately, g->slot, g->lately);
}

void classifier_group_set_accepting(struct classifier_group *g, bool on)
{
	g->accepting = on;
	if (!on)
		g->waiting = false;
	classifier_group_publish(g);
}

void classifier_group_set_waiting(struct classifier_group *g, bool on)
{
	g->waiting = on;
	classifier_group_publish(g);
}

void classifier_group_set_lately(struct classifier_group *g, bool on)
{
	g->lately = on;
	if (g->slot >= 0)
		set_bit(&g->members->lately, g->slot, on);
}

void classifier_group_set_serving(struct classifier_group *g, bool on)
{
	g->serving = on;
	if (g->slot >= 0)
		set_bit(&g->members->serving, g->slot, on);
}

void classifier_group_set_queue(struct classifier_group *g, uint32_t n)
{
	if (g->slot >= 0)
		__atomic_store_n(&g->members->slots[g->slot].queue, n, __ATOMIC_RELAXED);
}

bool classifier_group_slot_is_taken(const struct classifier_group *g, unsigned slot)
{
	return slot < CLASSIFIER_GROUP_SLOTS && (__atomic_load_n(&g->members->slots[slot].generation, __ATOMIC_ACQUIRE) & 1);
}

bool classifier_group_member(const struct classifier_group *g, unsigned slot, struct classifier_member *out)
{
	const struct group_members *m = g->members;
	uint64_t bit = 1ull << slot;

	if (!classifier_group_slot_is_taken(g, slot))
		return false;
	out->pid = __atomic_load_n(&m->slots[slot].pid, __ATOMIC_RELAXED);
	out->queue = __atomic_load_n(&m->slots[slot].queue, __ATOMIC_RELAXED);
	out->accepting = __atomic_load_n(&m->accepting, __ATOMIC_RELAXED) & bit;
	out->waiting = __atomic_load_n(&m->waiting, __ATOMIC_RELAXED) & bit;
	return true;
}

static bool others_in(const struct classifier_group *g, const uint64_t *members)
{
	uint64_t own = g->slot < 0 ? 0 : 1ull << g->slot;
	return __atomic_load_n(members, __ATOMIC_ACQUIRE) & ~own;
}

bool classifier_group_others_waiting(const struct classifier_group *g)
{
	return others_in(g, &g->members->waiting);
}

bool classifier_group_has_others(const struct classifier_group *g)
{
	for (int slot = 0; slot < CLASSIFIER_GROUP_SLOTS; slot++)
		if (slot != g->slot && classifier_group_slot_is_taken(g, slot))
			return true;
	return false;
}

void classifier_group_note_cookies(struct classifier_group *g, int64_t until_us)
{
	uint64_t *at = &g->members->cookies_until_ns, until = (uint64_t)until_us * 1000, old;
	old = __atomic_load_n(at, __ATOMIC_RELAXED);
	while (old < until && !__atomic_compare_exchange_n(at, &old, until, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
}

/* ---- listeners ---- */

int classifier_group_add_listener(struct classifier_group *g, const struct ip_addr *addr, uint16_t port)
{
	return classifier_add_listener_of(g->c, g, addr, port);
}

int classifier_group_del_listener(struct classifier_group *g, const struct ip_addr *addr, uint16_t port)
{
	return classifier_del_listener(g->c, addr, port);
}

int classifier_group_convert_listener(struct classifier_group *g, const struct ip_addr *addr, uint16_t port)
{
	struct listener *l = classifier_find_listener(g->c, addr, port);
	if (!l)
		return -ENOENT;
	struct classifier_group *before = l->group;
	l->group = g;
	int err = g->c->ops->add_listener(g->c, addr, port);
	if (err < 0)
		l->group = before;
	return err;
}

/* ---- flows ---- */

static bool is_alive(const struct classifier_group *g, uint64_t owner)
{
	uint32_t slot = (uint32_t)owner % CLASSIFIER_GROUP_SLOTS, generation = owner >> 32;
	return __atomic_load_n(&g->members->slots[slot].generation, __ATOMIC_ACQUIRE) == generation;
}

static bool is_own(const struct classifier_group *g, uint64_t owner)
{
	return g->slot >= 0 && (owner & ~(uint64_t)GROUP_SLOT_KERNEL) == group_own(g);
}

/* Writes an entry of ours unless another living member has one. */
static int set_flow(struct classifier_group *g, const struct flow_key *key, uint64_t owner)
{
	struct classifier_flow f = classifier_flow(key);
	uint64_t old;

	if (g->slot < 0)
		return -EINVAL;
	int err = bpf_map_insert(g->flows_fd, &f, &owner);
	if (err != -EEXIST)
		return err;
	err = bpf_map_lookup(g->flows_fd, &f, &old);
	if (err == 0 && old == owner)
		return 0;
	if (err == 0 && !is_own(g, old) && is_alive(g, old))
		return -EEXIST;
	return bpf_map_update(g->flows_fd, &f, &owner);
}

bool classifier_group_decides_here(const struct classifier_group *g)
{
	return g->in_memory;
}

bool classifier_group_is_others(struct classifier_group *g, const struct flow_key *key, bool syn, int64_t now_us)
{
	return group_cells_is_others(g, key, syn, now_us);
}

int classifier_group_add_flow(struct classifier_group *g, const struct flow_key *key)
{
	if (g->in_memory)
		return g->slot < 0 ? -EINVAL : group_cells_add(g, key);
	return set_flow(g, key, group_own(g));
}

int classifier_group_give_flow(struct classifier_group *g, const struct flow_key *key)
{
	if (g->in_memory) /* the kernel has no connection there: none can be handed to it */
		return -EOPNOTSUPP;
	return set_flow(g, key, group_own(g) | GROUP_SLOT_KERNEL);
}

/* Another's entry is put back: only then was it not ours to delete. */
int classifier_group_del_flow(struct classifier_group *g, const struct flow_key *key)
{
	struct classifier_flow f = classifier_flow(key);
	uint64_t owner;
	if (g->in_memory)
		return group_cells_del(g, key);
	int err = bpf_map_take(g->flows_fd, &f, &owner);

	if (err < 0 || is_own(g, owner))
		return err;
	if (is_alive(g, owner))
		bpf_map_insert(g->flows_fd, &f, &owner);
	return -ENOENT;
}

/* True: the first *n are gone, and with -ENOENT one more was not there. */
static bool delete_batch(struct classifier_group *g, const struct flow_key *keys, uint32_t *n)
{
	struct classifier_flow flows[DELETED_AT_ONCE];
	for (uint32_t i = 0; i < *n; i++)
		flows[i] = classifier_flow(&keys[i]);
	int err = bpf_map_delete_batch(g->flows_fd, flows, n);
	*n += err == -ENOENT;
	return err == 0 || err == -ENOENT;
}

void classifier_group_del_own_flows(struct classifier_group *g, const struct flow_key *keys, size_t n)
{
	bool by_batch = !g->in_memory;
	for (size_t i = 0; i < n;) {
		uint32_t now = n - i < DELETED_AT_ONCE ? n - i : DELETED_AT_ONCE;
		by_batch = by_batch && delete_batch(g, &keys[i], &now);
		if (!by_batch) { /* the kernel has no such call */
			classifier_group_del_flow(g, &keys[i]);
			now = 1;
		}
		i += now;
	}
}

/* Deletes an entry that was seen dead; a SYN may have replaced it since. */
static void delete_dead(struct classifier_group *g, const struct classifier_flow *f)
{
	uint64_t owner;
	if (bpf_map_take(g->flows_fd, f, &owner) == 0 && is_alive(g, owner))
		bpf_map_insert(g->flows_fd, f, &owner);
}

struct swept {
	struct classifier_flow keys[SWEEP_ENTRIES];
	uint64_t owners[SWEEP_ENTRIES];
};

static int sweep_some(struct classifier_group *g, struct swept *s)
{
	uint32_t n = SWEEP_ENTRIES, next = 0;
	int err = bpf_map_lookup_batch(g->flows_fd, g->sweeping ? &g->sweep_at : NULL, &next, s->keys, s->owners, &n);

	if (err < 0 && err != -ENOENT) { /* -ENOENT: these are the last */
		g->sweeping = false;
		return err;
	}
	for (uint32_t i = 0; i < n; i++)
		if (!is_alive(g, s->owners[i]))
			delete_dead(g, &s->keys[i]);
	g->sweeping = err == 0;
	g->sweep_at = next;
	return g->sweeping;
}

int classifier_group_sweep(struct classifier_group *g)
{
	if (g->in_memory) /* a dead member's cells are free */
		return 0;
	struct swept *s = malloc(sizeof *s); /* the caller's thread may have little stack */
	if (!s)
		return -ENOMEM;
	int err = sweep_some(g, s);
	free(s);
	return err;
}
