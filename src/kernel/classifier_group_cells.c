/*
 * Which member of a group a frame belongs to, decided in user space.
 *
 * A flow's hash, keyed by the group's seed, names one of GROUP_CELLS cells. A cell is one word: the member that has it
 * (slot and generation), how many flows it has there, and when it was chosen. All flows of a cell are one member's. So
 * one compare-and-swap gives a flow an owner, and there is nothing that a death could leave half done.
 *
 *   - A SYN whose cell is free finds an owner by whoever sees it first: of two members that wait (or accept, or serve,
 *     where none waits) the one with the shorter queue.
 *     The others, the chosen one too, find that in the cell. Where nobody accepts it is a member all the same: the
 *     kernel's queue gets nothing here.
 *   - A cell that was chosen and has no flow yet is held for CHOSEN_SECONDS, for the chosen one may be late. Then, or
 *     when the owner lets it go, it is free.
 *   - A cell whose owner is gone (its slot has another generation) is free.
 *   - What is no SYN, and has a free cell, is nobody's connection. By its hash one of those that serve answers it (RST,
 *     or a cookie that came back). So is a SYN
 *     decided while members answer by cookies: they keep nothing for it, and so does the cell.
 *
 * Two flows of one cell meet by chance: of 10,000 connections one in a hundred goes where another one is, whoever
 * waits. An owner that dies and is not buried yet still gets SYNs. So whoever sees a SYN for another looks whether that
 * one is dead (process/claim.c), and asks again. A cell that was chosen for one who is gone is the first asker's: the
 * others may have left the SYN to the dead one, and do not see it again.
 *
 * Limits: 65,535 flows of a cell, and no others. Trust: as of the maps of other groups, every member can write all of
 * it; its size is sealed.
 */
#include "kernel/classifier_group_cells.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/siphash.h"
#include "base/quiet.h"
#include "base/sys.h"
#include "base/time.h"
#include "kernel/classifier_group_internal.h"
#include "kernel/classifier_prog.h"

#define GROUP_CELLS    (1u << 20) /* 8 MiB, of which only touched pages exist */
#define CHOSEN_SECONDS 3          /* a SYN is sent again after one */
#define SEALS          (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#ifndef F_ADD_SEALS
#define F_ADD_SEALS   1033
#define F_GET_SEALS   1034
#define F_SEAL_SEAL   1
#define F_SEAL_SHRINK 2
#define F_SEAL_GROW   4
#endif

struct group_memory {
	struct group_members members; /* first: g->members */
	uint64_t cells[GROUP_CELLS];
};

/* A cell, taken apart. As a word: generation, flows, second, slot, from the top. 0: free. */
struct cell {
	uint32_t generation;
	uint16_t flows;
	uint8_t second; /* in which it was chosen, modulo 256 */
	uint8_t slot;
};

static uint64_t word_of(const struct cell *c)
{
	return (uint64_t)c->generation << 32 | (uint64_t)c->flows << 16 | (uint64_t)c->second << 8 | c->slot;
}

static struct cell cell_of(uint64_t word)
{
	return (struct cell){.generation = word >> 32, .flows = word >> 16, .second = word >> 8, .slot = word % CLASSIFIER_GROUP_SLOTS};
}

static uint64_t *at_hash(const struct classifier_group *g, uint64_t hash)
{
	return &((struct group_memory *)g->members)->cells[hash % GROUP_CELLS];
}

static bool swap(uint64_t *at, uint64_t *old, uint64_t new)
{
	return __atomic_compare_exchange_n(at, old, new, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static uint64_t hash_of(const struct classifier_group *g, const struct flow_key *key)
{
	struct classifier_flow f = classifier_flow(key);
	uint64_t seed[2] = {g->members->seed, ~g->members->seed};
	uint64_t hash = siphash13(&f, sizeof f, (const uint8_t *)seed);
	return hash ? hash : 1;
}

static bool is_alive(const struct classifier_group *g, const struct cell *c)
{
	return (c->generation & 1) && __atomic_load_n(&g->members->slots[c->slot].generation, __ATOMIC_ACQUIRE) == c->generation;
}

static bool is_mine(const struct classifier_group *g, const struct cell *c)
{
	return g->slot == c->slot && g->generation == c->generation;
}

/* ---- the memory ---- */

int group_cells_make(void)
{
	int fd = fd_move_high(sys_call(SYS_memfd_create, "finesse-group", MFD_CLOEXEC | MFD_ALLOW_SEALING, 0, 0, 0, 0));
	if (fd < 0)
		return fd;
	int err = resize_quietly(fd, sizeof(struct group_memory));
	if (!err)
		err = sys_fcntl(fd, F_ADD_SEALS, SEALS);
	if (err < 0)
		fd_close(fd);
	return err < 0 ? err : fd;
}

int group_cells_map(struct classifier_group *g, int fd)
{
	struct stat st;
	int seals = sys_fcntl(fd, F_GET_SEALS, 0);
	if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW) || sys_fstat(fd, &st) || st.st_size != sizeof(struct group_memory))
		return -EINVAL;
	void *p = sys_mmap(NULL, sizeof(struct group_memory), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (sys_is_error(p))
		return (int)(intptr_t)p;
	g->members = p;
	g->in_memory = true;
	return 0;
}

void group_cells_unmap(struct classifier_group *g)
{
	sys_munmap(g->members, sizeof(struct group_memory));
	free(g->told.at);
}

/* ---- which flows were told ---- */

static uint32_t told_find(const struct group_told *t, uint64_t hash)
{
	uint32_t i = (hash >> 32) & (t->cap - 1);
	while (t->at[i] && t->at[i] != hash)
		i = (i + 1) & (t->cap - 1);
	return i;
}

static bool told_has(const struct group_told *t, uint64_t hash)
{
	return t->cap && t->at[told_find(t, hash)];
}

static int told_grow(struct group_told *t)
{
	struct group_told bigger = {.n = t->n, .cap = t->cap ? t->cap * 2 : 64};
	bigger.at = calloc(bigger.cap, sizeof *bigger.at);
	if (!bigger.at)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->cap; i++)
		if (t->at[i])
			bigger.at[told_find(&bigger, t->at[i])] = t->at[i];
	free(t->at);
	*t = bigger;
	return 0;
}

static int told_add(struct group_told *t, uint64_t hash)
{
	int err = t->n >= t->cap / 2 ? told_grow(t) : 0;
	if (err)
		return err;
	t->at[told_find(t, hash)] = hash;
	t->n++;
	return 0;
}

/* What stood behind it, because its place was taken, moves up (Knuth 6.4, algorithm R). */
static void told_remove(struct group_told *t, uint64_t hash)
{
	uint32_t mask = t->cap - 1, hole = told_find(t, hash);
	for (uint32_t i = (hole + 1) & mask; t->at[i]; i = (i + 1) & mask) {
		uint32_t home = (t->at[i] >> 32) & mask;
		if (((i - home) & mask) < ((i - hole) & mask))
			continue;
		t->at[hole] = t->at[i];
		hole = i;
	}
	t->at[hole] = 0;
	t->n--;
}

/* ---- decisions ---- */

static uint8_t second_of(int64_t now_us)
{
	return now_us / USEC_PER_SEC;
}

static bool is_recent(const struct cell *c, int64_t now_us)
{
	return (uint8_t)(second_of(now_us) - c->second) <= CHOSEN_SECONDS;
}

static bool is_taken(const struct classifier_group *g, const struct cell *c, int64_t now_us)
{
	return is_alive(g, c) && (c->flows || is_recent(c, now_us));
}

static unsigned nth_bit(uint64_t bits, unsigned n)
{
	while (n--)
		bits &= bits - 1;
	return __builtin_ctzll(bits);
}

static uint64_t load(const uint64_t *at)
{
	return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}

/* The one of those that serve whom the hash says; where nobody does, the first that is there. */
static int by_hash(const struct classifier_group *g, uint64_t hash)
{
	uint64_t serving = load(&g->members->serving);
	if (serving)
		return nth_bit(serving, (hash >> 24) % __builtin_popcountll(serving));
	for (int slot = 0; slot < CLASSIFIER_GROUP_SLOTS; slot++)
		if (classifier_group_slot_is_taken(g, slot))
			return slot;
	return -1;
}

/* Who gets a new connection; -1: nobody serves. */
static int choose(const struct classifier_group *g, uint64_t hash)
{
	const struct group_members *m = g->members;
	uint64_t among = load(&m->waiting);
	if (!among)
		among = load(&m->accepting);
	if (!among)
		among = load(&m->serving);
	unsigned n = __builtin_popcountll(among);
	if (!n)
		return -1;
	unsigned one = (hash >> 24) % n;
	if (n == 1)
		return nth_bit(among, one);
	unsigned other = (hash >> 44) % (n - 1);
	one = nth_bit(among, one);
	other = nth_bit(among & ~(1ull << one), other);
	uint32_t q1 = __atomic_load_n(&m->slots[one].queue, __ATOMIC_RELAXED), q2 = __atomic_load_n(&m->slots[other].queue, __ATOMIC_RELAXED);
	return q2 < q1 ? other : one;
}

/* Its owner was chosen, and is gone before it had the connection. */
static bool is_left(const struct cell *c, int64_t now_us)
{
	return (c->generation & 1) && !c->flows && is_recent(c, now_us);
}

static bool serves(const struct classifier_group *g)
{
	return g->slot >= 0 && (load(&g->members->serving) & 1ull << g->slot);
}

static bool syn_is_others(struct classifier_group *g, uint64_t hash, int64_t now_us)
{
	uint64_t *at = at_hash(g, hash), word = load(at);
	for (;;) {
		struct cell c = cell_of(word);
		if (is_taken(g, &c, now_us))
			return !is_mine(g, &c);
		if (load(&g->members->cookies_until_ns) > (uint64_t)now_us * 1000)
			return by_hash(g, hash) != g->slot;
		int slot = is_left(&c, now_us) && serves(g) ? g->slot : choose(g, hash);
		if (slot < 0) /* to be refused */
			return by_hash(g, hash) != g->slot;
		c = (struct cell){.slot = slot, .second = second_of(now_us), .generation = __atomic_load_n(&g->members->slots[slot].generation, __ATOMIC_ACQUIRE)};
		if (!(c.generation & 1)) /* it has just left: the client asks again */
			return true;
		if (swap(at, &word, word_of(&c)))
			return !is_mine(g, &c);
	}
}

bool group_cells_is_others(struct classifier_group *g, const struct flow_key *key, bool syn, int64_t now_us)
{
	uint64_t hash = hash_of(g, key);
	if (syn)
		return syn_is_others(g, hash, now_us);
	struct cell c = cell_of(load(at_hash(g, hash)));
	return is_taken(g, &c, now_us) ? !is_mine(g, &c) : by_hash(g, hash) != g->slot;
}

/* ---- flows ---- */

int group_cells_add(struct classifier_group *g, const struct flow_key *key)
{
	uint64_t hash = hash_of(g, key), *at = at_hash(g, hash), word = load(at);
	if (told_has(&g->told, hash))
		return 0;
	int err = told_add(&g->told, hash);
	while (!err) {
		struct cell c = cell_of(word);
		bool mine = is_mine(g, &c);
		if (!mine && is_alive(g, &c) && c.flows)
			err = -EEXIST;
		else if (mine && c.flows == UINT16_MAX)
			err = -E2BIG;
		else {
			c = (struct cell){.slot = g->slot, .generation = g->generation, .flows = mine ? c.flows + 1 : 1};
			if (swap(at, &word, word_of(&c)))
				return 0;
		}
		if (err)
			told_remove(&g->told, hash);
	}
	return err;
}

/* Of a flow that was never told, what is taken away is that this member was chosen for it. */
int group_cells_del(struct classifier_group *g, const struct flow_key *key)
{
	uint64_t hash = hash_of(g, key), *at = at_hash(g, hash), word = load(at);
	bool told = told_has(&g->told, hash);
	if (told)
		told_remove(&g->told, hash);
	for (;;) {
		struct cell c = cell_of(word);
		if (!is_mine(g, &c) || (!told && c.flows))
			break;
		c.flows -= told && c.flows;
		if (swap(at, &word, c.flows ? word_of(&c) : 0))
			break;
	}
	return told ? 0 : -ENOENT;
}
