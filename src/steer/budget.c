#include "steer/budget.h"

#include <stdlib.h>

#include "base/siphash.h"
#include "base/time.h"

#define SLOT_US   (5 * USEC_PER_SEC)
#define WINDOW_US (60 * USEC_PER_SEC) /* Linux's TIME-WAIT */
#define SLOTS     (WINDOW_US / SLOT_US + 1)
#define SET_WAYS  8
#define SETS      1024 /* 8192 clients, 700 KiB when all are in use */

struct budget_entry {
	struct ip_addr client;
	uint16_t port;          /* 0: free; nobody serves on port 0 */
	int64_t slot;           /* the newest slot that counts[] knows */
	uint32_t counts[SLOTS]; /* by slot number modulo SLOTS */
};

struct budget {
	uint8_t secret[16];
	struct siphash_memo last; /* a close asks for its client two or three times */
	struct budget_entry sets[SETS][SET_WAYS];
};

struct budget *budget_new(const uint8_t secret[16])
{
	struct budget *b = calloc(1, sizeof *b);
	if (b)
		memcpy(b->secret, secret, sizeof b->secret);
	return b;
}

void budget_free(struct budget *b)
{
	free(b);
}

static size_t budget_set(struct budget *b, const struct ip_addr *client, uint16_t port)
{
	uint8_t key[18];
	memcpy(key, client->b, 16);
	memcpy(key + 16, &port, 2);
	return siphash13_again(&b->last, key, sizeof key, b->secret) % SETS;
}

static struct budget_entry *budget_find(struct budget *b, const struct ip_addr *client,
					uint16_t port)
{
	struct budget_entry *set = b->sets[budget_set(b, client, port)];
	for (int i = 0; i < SET_WAYS; i++)
		if (set[i].port == port && ip_addr_equal(&set[i].client, client))
			return &set[i];
	return NULL;
}

static uint32_t entry_count(const struct budget_entry *e, int64_t slot)
{
	uint32_t sum = 0;
	for (int64_t i = e->slot - (SLOTS - 1); i <= e->slot; i++)
		if (i > slot - SLOTS && i >= 0)
			sum += e->counts[i % SLOTS];
	return sum;
}

/* Brings `e` up to `slot`: what is too old is forgotten. */
static void entry_advance(struct budget_entry *e, int64_t slot)
{
	if (slot - e->slot >= SLOTS) {
		memset(e->counts, 0, sizeof e->counts);
		e->slot = slot;
	}
	while (e->slot < slot)
		e->counts[++e->slot % SLOTS] = 0;
}

/* The entry to overwrite for a new client: a free one, else the smallest. */
static struct budget_entry *budget_victim(struct budget *b, const struct ip_addr *client,
					  uint16_t port, int64_t slot)
{
	struct budget_entry *set = b->sets[budget_set(b, client, port)], *victim = &set[0];
	for (int i = 0; i < SET_WAYS; i++) {
		if (set[i].port == 0)
			return &set[i];
		if (entry_count(&set[i], slot) < entry_count(victim, slot))
			victim = &set[i];
	}
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
	struct budget_entry *e = budget_find(b, client, port);
	if (!e) {
		e = budget_victim(b, client, port, slot);
		memset(e, 0, sizeof *e);
		e->client = *client;
		e->port = port;
		e->slot = slot;
	}
	entry_advance(e, slot);
	e->counts[slot % SLOTS]++;
}

void budget_refund(struct budget *b, int64_t now, const struct ip_addr *client, uint16_t port)
{
	struct budget_entry *e = budget_find(b, client, port);
	if (!e)
		return; /* evicted meanwhile */
	entry_advance(e, now / SLOT_US);
	for (int64_t i = e->slot; i > e->slot - SLOTS && i >= 0; i--) {
		if (e->counts[i % SLOTS] > 0) {
			e->counts[i % SLOTS]--;
			return;
		}
	}
}
