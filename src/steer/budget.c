#include "steer/budget.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/siphash.h"
#include "base/time.h"
#include "base/zeroed.h"

#define SLOT_US   (5 * USEC_PER_SEC)
#define WINDOW_US (60 * USEC_PER_SEC) /* Linux's TIME-WAIT */
#define SLOTS     (WINDOW_US / SLOT_US + 1)
#define SET_WAYS  8
#define SETS      1024 /* 8192 clients, 640 KiB when all are in use */
#define BLOCK     1024 /* ports: 64 blocks are all */

/* Each member by atomic operations. */
struct budget_entry {
	uint64_t who;           /* the hash of client and server port; 0: free */
	int64_t slot;           /* the newest slot that counts[] knows */
	uint64_t blocks;        /* of which the client used a port, a bit each */
	uint32_t counts[SLOTS]; /* by slot number modulo SLOTS */
};

struct budget_table {
	uint8_t secret[16]; /* never changes */
	struct budget_entry sets[SETS][SET_WAYS];
};

struct budget {
	struct budget_table *table;
	struct siphash_memo last; /* a close asks for its client two or three times */
};

struct budget_table *budget_table_new(const uint8_t secret[16])
{
	struct budget_table *t = zeroed_shared_new(sizeof *t);
	if (t)
		memcpy(t->secret, secret, sizeof t->secret);
	return t;
}

void budget_table_free(struct budget_table *t)
{
	zeroed_free(t, sizeof *t);
}

struct budget *budget_new(struct budget_table *table)
{
	struct budget *b = calloc(1, sizeof *b);
	if (b)
		b->table = table;
	return b;
}

void budget_free(struct budget *b)
{
	free(b);
}

static uint64_t hash_of(struct budget *b, const struct ip_addr *client, uint16_t port)
{
	uint8_t key[18];
	memcpy(key, client->b, 16);
	memcpy(key + 16, &port, 2);
	uint64_t who = siphash13_again(&b->last, key, sizeof key, b->table->secret);
	return who ? who : 1;
}

static struct budget_entry *entry_find(struct budget_entry *set, uint64_t who)
{
	for (int i = 0; i < SET_WAYS; i++)
		if (__atomic_load_n(&set[i].who, __ATOMIC_RELAXED) == who)
			return &set[i];
	return NULL;
}

static struct budget_entry *budget_find(struct budget *b, const struct ip_addr *client,
					uint16_t port)
{
	uint64_t who = hash_of(b, client, port);
	return entry_find(b->table->sets[who % SETS], who);
}

/* Another process may have written anything there. */
static int64_t newest_of(const struct budget_entry *e)
{
	int64_t slot = __atomic_load_n(&e->slot, __ATOMIC_RELAXED);
	return slot > 0 ? slot : 0;
}

static uint32_t entry_count(const struct budget_entry *e, int64_t slot)
{
	uint32_t sum = 0;
	int64_t newest = newest_of(e);
	for (int64_t i = newest; i > newest - SLOTS && i > slot - SLOTS && i >= 0; i--)
		sum += __atomic_load_n(&e->counts[i % SLOTS], __ATOMIC_RELAXED);
	return sum;
}

/* Brings `e` up to `slot`: what is too old is forgotten, by the one that moves it. */
static void entry_advance(struct budget_entry *e, int64_t slot)
{
	int64_t from = __atomic_load_n(&e->slot, __ATOMIC_RELAXED);
	if (from >= slot || !__atomic_compare_exchange_n(&e->slot, &from, slot, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return;
	if (from <= slot - SLOTS) {
		from = slot - SLOTS;
		__atomic_store_n(&e->blocks, 0, __ATOMIC_RELAXED);
	}
	if (from < -1)
		from = -1;
	while (from < slot)
		__atomic_store_n(&e->counts[++from % SLOTS], 0, __ATOMIC_RELAXED);
}

/* A free one, else the smallest, is overwritten. NULL: another process was quicker. */
static struct budget_entry *entry_new(struct budget_entry *set, uint64_t who, int64_t slot)
{
	struct budget_entry *victim = &set[0];
	for (int i = 0; i < SET_WAYS; i++) {
		if (__atomic_load_n(&set[i].who, __ATOMIC_RELAXED) == 0) {
			victim = &set[i];
			break;
		}
		if (entry_count(&set[i], slot) < entry_count(victim, slot))
			victim = &set[i];
	}
	uint64_t before = __atomic_load_n(&victim->who, __ATOMIC_RELAXED);
	if (!__atomic_compare_exchange_n(&victim->who, &before, who, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return NULL;
	for (int64_t i = 0; i < SLOTS; i++)
		__atomic_store_n(&victim->counts[i], 0, __ATOMIC_RELAXED);
	__atomic_store_n(&victim->blocks, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&victim->slot, slot, __ATOMIC_RELAXED);
	return victim;
}

uint32_t budget_count(struct budget *b, int64_t now, const struct ip_addr *client,
		      uint16_t port)
{
	const struct budget_entry *e = budget_find(b, client, port);
	return e ? entry_count(e, now / SLOT_US) : 0;
}

void budget_charge(struct budget *b, int64_t now, const struct ip_addr *client, uint16_t port)
{
	int64_t slot = now / SLOT_US;
	uint64_t who = hash_of(b, client, port);
	struct budget_entry *set = b->table->sets[who % SETS];
	struct budget_entry *e = entry_find(set, who);
	if (!e)
		e = entry_new(set, who, slot);
	if (!e)
		return;
	entry_advance(e, slot);
	__atomic_add_fetch(&e->counts[slot % SLOTS], 1, __ATOMIC_RELAXED);
}

/* False: there is none. */
static bool take_one(uint32_t *count)
{
	uint32_t n = __atomic_load_n(count, __ATOMIC_RELAXED);
	while (n > 0)
		if (__atomic_compare_exchange_n(count, &n, n - 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return true;
	return false;
}

void budget_refund(struct budget *b, int64_t now, const struct ip_addr *client, uint16_t port)
{
	struct budget_entry *e = budget_find(b, client, port);
	if (!e)
		return; /* evicted meanwhile */
	entry_advance(e, now / SLOT_US);
	int64_t newest = newest_of(e);
	for (int64_t i = newest; i > newest - SLOTS && i >= 0; i--)
		if (take_one(&e->counts[i % SLOTS]))
			return;
}

uint32_t budget_ports(struct budget *b, const struct ip_addr *client, uint16_t port, uint16_t client_port)
{
	struct budget_entry *e = budget_find(b, client, port);
	uint64_t block = UINT64_C(1) << (client_port / BLOCK);
	if (!e)
		return 0;
	uint64_t blocks = __atomic_load_n(&e->blocks, __ATOMIC_RELAXED);
	if (!(blocks & block))
		blocks = __atomic_or_fetch(&e->blocks, block, __ATOMIC_RELAXED);
	return (uint32_t)__builtin_popcountll(blocks) * BLOCK;
}
