/* See fastopen_cache.h. */
#include "kernel/fastopen_cache.h"

#include <string.h>

#include "base/siphash.h"
#include "kernel/host_table.h"

#define NAME "fastopen.1" /* the number is the form's: nobody changes a file that others have mapped */
#define SETS 1024
#define WAYS 4

enum { TAG, VALUE, VALUE_2, REST, WORDS };
#define BYTES (SETS * WAYS * WORDS * sizeof(uint64_t))
/* REST: bits of what is not the cookie; above them the check. */
#define LEN_SHIFT   16
#define OLD_SHIFT   24
#define ASKED_SHIFT 25
#define CHECK_SHIFT 32

int fastopen_cache_open(struct fastopen_cache *c, const char *dir, const uint8_t key[16], uint64_t netns)
{
	memcpy(c->key, key, sizeof c->key);
	c->netns = netns;
	return c->words ? 0 : host_table_map(&c->words, dir, NAME, BYTES);
}

struct place {
	uint64_t *set, tag;
};

static struct place place_of(const struct fastopen_cache *c, const struct ip_addr *laddr, const struct ip_addr *raddr)
{
	struct {
		struct ip_addr laddr, raddr;
		uint64_t netns;
	} what;
	memset(&what, 0, sizeof what);
	what.laddr = *laddr;
	what.raddr = *raddr;
	what.netns = c->netns;
	uint64_t hash = siphash24(&what, sizeof what, c->key);
	return (struct place){c->words + (hash & (SETS - 1)) * WAYS * WORDS, hash | 1};
}

static uint64_t load(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void store(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* The REST that goes with the other words. */
static uint64_t sealed(const struct fastopen_cache *c, uint64_t entry[WORDS], uint32_t rest)
{
	entry[REST] = rest;
	return rest | siphash24(entry, WORDS * sizeof *entry, c->key) << CHECK_SHIFT;
}

bool fastopen_cache_get(const struct fastopen_cache *c, const struct ip_addr *laddr, const struct ip_addr *raddr, struct fastopen_memo *out)
{
	memset(out, 0, sizeof *out);
	if (!c->words)
		return false;
	struct place at = place_of(c, laddr, raddr);
	for (int i = 0; i < WAYS; i++) {
		uint64_t entry[WORDS];
		for (int w = 0; w < WORDS; w++)
			entry[w] = load(&at.set[i * WORDS + w]);
		uint64_t rest = entry[REST];
		if (entry[TAG] != at.tag || sealed(c, entry, rest) != rest)
			continue;
		*out = (struct fastopen_memo){.mss = rest, .len = rest >> LEN_SHIFT, .old = rest >> OLD_SHIFT & 1, .asked = rest >> ASKED_SHIFT & 3};
		memcpy(out->val, &entry[VALUE], sizeof out->val);
		if (out->len <= sizeof out->val)
			return true;
		memset(out, 0, sizeof *out);
	}
	return false;
}

/* The pair's own, a free one, or one of the others: which, nobody outside can tell. */
static uint64_t *victim(const struct fastopen_cache *c, const struct place *at, const struct fastopen_memo *memo)
{
	uint64_t *found = NULL;
	for (int i = 0; i < WAYS; i++) {
		uint64_t *entry = at->set + i * WORDS;
		if (load(&entry[TAG]) == at->tag)
			return entry;
		if (!load(&entry[TAG]) && !found)
			found = entry;
	}
	return found ? found : at->set + (siphash24(memo->val, sizeof memo->val, c->key) & (WAYS - 1)) * WORDS;
}

void fastopen_cache_put(struct fastopen_cache *c, const struct ip_addr *laddr, const struct ip_addr *raddr, const struct fastopen_memo *memo)
{
	if (!c->words)
		return;
	struct place at = place_of(c, laddr, raddr);
	uint64_t *to = victim(c, &at, memo), entry[WORDS] = {[TAG] = at.tag};
	memcpy(&entry[VALUE], memo->val, sizeof memo->val);
	uint32_t rest = memo->mss | (uint32_t)memo->len << LEN_SHIFT | (uint32_t)memo->old << OLD_SHIFT | (uint32_t)(memo->asked & 3) << ASKED_SHIFT;
	uint64_t last = sealed(c, entry, rest);
	store(&to[REST], ~last); /* not believed meanwhile */
	for (int w = TAG; w < REST; w++)
		store(&to[w], entry[w]);
	store(&to[REST], last);
}
