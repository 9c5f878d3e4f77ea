/* See peers.h. */
#include "kernel/peers.h"

#include "base/siphash.h"
#include "base/time.h"
#include "kernel/host_table.h"

#define PEERS_NAME    "peers.1" /* the number is the form's: nobody changes a file that others have mapped */
#define PEERS_SETS    1024
#define PEERS_WAYS    4
#define PEERS_BYTES   (PEERS_SETS * PEERS_WAYS * sizeof(uint64_t))
#define PEERS_KEPT_S  3600
#define STAMP_BITS    24 /* seconds, modulo 194 days */
#define STAMP_MASK    ((UINT64_C(1) << STAMP_BITS) - 1)

/*
 * No secret: anybody can make one, and has nothing of it. A mixing of the bits is all that it takes to look like any
 * number (MurmurHash3's last step).
 */
uint16_t peers_mark(uint32_t fin_seq)
{
	uint32_t x = fin_seq;
	x = (x ^ x >> 16) * UINT32_C(0x85ebca6b);
	x = (x ^ x >> 13) * UINT32_C(0xc2b2ae35);
	uint16_t mark = x >> 16;
	return mark ? mark : 1;
}

int peers_open(struct peers *p, const char *dir, const uint8_t key[16], uint64_t netns)
{
	for (int i = 0; i < 16; i++)
		p->key[i] = key[i];
	p->netns = netns;
	p->last = (struct siphash_memo){0};
	if (p->words) /* a fork's child has its parent's */
		return 0;
	return host_table_map(&p->words, dir, PEERS_NAME, PEERS_BYTES);
}

struct place {
	uint64_t *set, tag;
};

static struct place place_of(struct peers *p, const struct ip_addr *peer)
{
	struct {
		uint8_t addr[16];
		uint64_t netns;
	} what = {.netns = p->netns};
	for (int i = 0; i < 16; i++)
		what.addr[i] = peer->b[i];
	uint64_t hash = siphash24_again(&p->last, &what, sizeof what, p->key);
	return (struct place){p->words + (hash & (PEERS_SETS - 1)) * PEERS_WAYS, hash & ~STAMP_MASK};
}

static uint64_t load(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

/* Seconds since the word was written; those of the future are old, too: another boot's. */
static uint64_t age(uint64_t word, int64_t now_us)
{
	return ((uint64_t)(now_us / USEC_PER_SEC) - word) & STAMP_MASK;
}

bool peers_know(struct peers *p, const struct ip_addr *peer, int64_t now_us)
{
	if (!p->words)
		return false;
	struct place at = place_of(p, peer);
	for (int i = 0; i < PEERS_WAYS; i++) {
		uint64_t word = load(&at.set[i]);
		if (word && (word & ~STAMP_MASK) == at.tag)
			return age(word, now_us) < PEERS_KEPT_S;
	}
	return false;
}

void peers_note(struct peers *p, const struct ip_addr *peer, int64_t now_us)
{
	if (!p->words)
		return;
	struct place at = place_of(p, peer);
	uint64_t *victim = at.set;
	for (int i = 0; i < PEERS_WAYS; i++) {
		uint64_t word = load(&at.set[i]);
		if ((word & ~STAMP_MASK) == at.tag || !word) {
			victim = &at.set[i];
			break;
		}
		if (age(word, now_us) > age(load(victim), now_us))
			victim = &at.set[i];
	}
	uint64_t stamp = (uint64_t)(now_us / USEC_PER_SEC) & STAMP_MASK;
	__atomic_store_n(victim, at.tag | (stamp ? stamp : 1), __ATOMIC_RELAXED);
}

void peers_forget(struct peers *p, const struct ip_addr *peer)
{
	if (!p->words)
		return;
	struct place at = place_of(p, peer);
	for (int i = 0; i < PEERS_WAYS; i++)
		if ((load(&at.set[i]) & ~STAMP_MASK) == at.tag)
			__atomic_store_n(&at.set[i], 0, __ATOMIC_RELAXED);
}
