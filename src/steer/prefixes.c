#include "steer/prefixes.h"

#include <string.h>

#include "base/siphash.h"
#include "base/time.h"
#include "base/zeroed.h"

#define PREFIXES         128
#define WAYS             4
#define OWN_EVIDENCE     8  /* closes: a trial's six and some more */
#define PREFIXES_TELLING 8
#define TELLERS          1024 /* counters of who told when: 8 KiB */
#define KEEP_US          (600 * USEC_PER_SEC)
#define CHALLENGES       64 /* closes, against none of the group that has to go */
#define V4_BYTES         3  /* /24 */
#define V6_BYTES         7  /* /56 */
#define V6_SITE_BYTES    6  /* /48 */

struct group {
	uint8_t prefix[16]; /* the rest zero */
	uint8_t class;
	bool used;
	int64_t heard_at;
	struct learner learner;
};

struct set {
	struct group groups[WAYS];
	/* Who wants a place. */
	uint64_t challenger;
	unsigned challenges;
	int64_t challenged_at;
};

struct teller {
	uint64_t turn : 63; /* when it told last, counted in tellings; 0: never */
	uint64_t waited : 1; /* … that a hold ran out; it may turn out otherwise */
};

struct prefix_table {
	struct set sets[PREFIXES / WAYS];
	struct teller tellers[PREFIX_CLASSES][TELLERS / PREFIX_CLASSES];
};

void prefixes_init(struct prefixes *p, int64_t hold_max_us)
{
	memset(p, 0, sizeof *p);
	p->hold_max_us = hold_max_us;
	for (int c = 0; c < PREFIX_CLASSES; c++) {
		learner_init(&p->all[c], hold_max_us);
		p->all[c].of_many = true;
	}
}

void prefixes_fini(struct prefixes *p)
{
	zeroed_free(p->table, sizeof *p->table);
	p->table = NULL;
}

static void prefix_of(const struct ip_addr *client, unsigned v6_bytes, uint8_t out[16])
{
	memset(out, 0, 16);
	memcpy(out, client->b, ip_addr_is_v4(client) ? 12 + V4_BYTES : v6_bytes);
}

static uint64_t prefix_hash(const uint8_t secret[16], const uint8_t prefix[16], enum prefix_class c)
{
	uint8_t data[17];
	memcpy(data, prefix, 16);
	data[16] = (uint8_t)c;
	return siphash13(data, sizeof data, secret);
}

/* ---- places ---- */

static bool may_go(const struct group *g, int64_t now)
{
	return g->learner.observations < OWN_EVIDENCE || now - g->heard_at > KEEP_US;
}

static struct group *set_find(struct set *set, const uint8_t prefix[16], enum prefix_class c)
{
	for (int i = 0; i < WAYS; i++)
		if (set->groups[i].used && set->groups[i].class == c && memcmp(set->groups[i].prefix, prefix, 16) == 0)
			return &set->groups[i];
	return NULL;
}

static struct group *group_find(struct prefixes *p, const uint8_t secret[16], const struct ip_addr *client, enum prefix_class c)
{
	uint8_t prefix[16];
	if (!p->table)
		return NULL;
	prefix_of(client, V6_BYTES, prefix);
	return set_find(&p->table->sets[prefix_hash(secret, prefix, c) % (PREFIXES / WAYS)], prefix, c);
}

/* Which group a newcomer may overwrite: a free one, else the one with the least evidence. */
static struct group *set_victim(struct set *set, int64_t now)
{
	struct group *worst = NULL;
	for (int i = 0; i < WAYS; i++) {
		struct group *g = &set->groups[i];
		if (!g->used)
			return g;
		if (may_go(g, now) && (!worst || g->learner.observations < worst->learner.observations))
			worst = g;
	}
	return worst;
}

/*
 * One more close of somebody without a place (as many others as came between them count against it). Returns the group
 * that was not heard of meanwhile.
 */
static struct group *set_challenge(struct set *set, uint64_t who, int64_t now)
{
	if (set->challenges == 0) {
		set->challenger = who;
		set->challenged_at = now;
	}
	if (set->challenger != who) {
		set->challenges--;
		return NULL;
	}
	if (++set->challenges < CHALLENGES)
		return NULL;
	set->challenges = 0;
	for (int i = 0; i < WAYS; i++)
		if (set->groups[i].heard_at < set->challenged_at)
			return &set->groups[i];
	return NULL;
}

/* At a close: its group, a new one if there is a place. */
static struct group *group_get(struct prefixes *p, const uint8_t secret[16], const struct ip_addr *client, enum prefix_class c, int64_t now)
{
	uint8_t prefix[16];
	if (!p->table)
		p->table = zeroed_new(sizeof *p->table);
	if (!p->table)
		return NULL;
	prefix_of(client, V6_BYTES, prefix);
	uint64_t hash = prefix_hash(secret, prefix, c);
	struct set *set = &p->table->sets[hash % (PREFIXES / WAYS)];
	struct group *g = set_find(set, prefix, c);
	if (!g) {
		g = set_victim(set, now);
		if (!g)
			g = set_challenge(set, hash, now);
		if (!g)
			return NULL;
		*g = (struct group){.class = (uint8_t)c, .used = true};
		memcpy(g->prefix, prefix, 16);
		learner_init(&g->learner, p->hold_max_us);
	}
	g->heard_at = now;
	return g;
}

/* ---- telling all ---- */

static struct teller *teller_of(struct prefixes *p, const uint8_t secret[16], const struct ip_addr *client, enum prefix_class c)
{
	uint8_t prefix[16];
	if (!p->table)
		return NULL;
	prefix_of(client, V6_SITE_BYTES, prefix);
	return &p->table->tellers[c][prefix_hash(secret, prefix, c) % (TELLERS / PREFIX_CLASSES)];
}

static bool may_tell(const struct prefixes *p, const struct teller *t, enum prefix_class c)
{
	return t && (t->turn == 0 || p->tellings[c] - t->turn >= PREFIXES_TELLING - 1);
}

static void has_told(struct prefixes *p, struct teller *t, enum prefix_class c, bool waited)
{
	p->telling[c] += t->turn == 0;
	t->turn = ++p->tellings[c];
	t->waited = waited;
}

/* Whose experience counts for this group's next close. */
static struct learner *who_advises(struct prefixes *p, struct group *g, enum prefix_class c)
{
	bool own = g && (g->learner.observations >= OWN_EVIDENCE || g->learner.hold_us > 0 || p->telling[c] < PREFIXES_TELLING);
	return own ? &g->learner : &p->all[c];
}

enum learner_advice prefixes_advise(struct prefixes *p, const uint8_t secret[16], const struct ip_addr *client, enum prefix_class c,
				    int64_t now, int64_t srtt_us, uint64_t held_now, int64_t *hold_us)
{
	struct group *g = group_get(p, secret, client, c, now);
	struct learner *l = who_advises(p, g, c);
	if (p->table && !g && !may_tell(p, teller_of(p, secret, client, c), c))
		return learner_advise_only(l, hold_us);
	return learner_advise(l, now, srtt_us, held_now, hold_us);
}

/* A hold's end: the group's own, and everyone's if it is the group's turn. */
static void on_hold_end(struct prefixes *p, const uint8_t secret[16], const struct ip_addr *client, enum prefix_class c, bool waited, int64_t us)
{
	void (*observe)(struct learner *, int64_t) = waited ? learner_on_waited : learner_on_closed_first;
	struct group *g = group_find(p, secret, client, c);
	struct teller *t = teller_of(p, secret, client, c);
	if (g)
		observe(&g->learner, us);
	if (may_tell(p, t, c)) {
		observe(&p->all[c], us);
		has_told(p, t, c, waited);
	}
}

void prefixes_on_closed_first(struct prefixes *p, const uint8_t secret[16], const struct ip_addr *client, enum prefix_class c,
			      int64_t after_us)
{
	on_hold_end(p, secret, client, c, false, after_us);
}

void prefixes_on_waited(struct prefixes *p, const uint8_t secret[16], const struct ip_addr *client, enum prefix_class c, int64_t held_us)
{
	on_hold_end(p, secret, client, c, true, held_us);
}

/*
 * All are told of a late FIN if they were told of its hold, else if it is the group's turn and the FIN says something.
 */
void prefixes_on_late(struct prefixes *p, const uint8_t secret[16], const struct ip_addr *client, enum prefix_class c, int64_t held_us,
		      int64_t after_us)
{
	struct group *g = group_find(p, secret, client, c);
	struct teller *t = teller_of(p, secret, client, c);
	if (g)
		learner_on_late(&g->learner, held_us, after_us);
	if (held_us >= 0 && t && t->waited) {
		learner_on_late(&p->all[c], held_us, after_us);
		t->waited = 0;
	} else if (held_us < 0 && may_tell(p, t, c)) {
		if (learner_on_late(&p->all[c], held_us, after_us))
			has_told(p, t, c, false);
	}
}

/* ---- for finesse stat ---- */

int64_t prefixes_longest_hold(const struct prefixes *p, bool *off)
{
	int64_t longest = 0;
	bool known = false, trying = false;
	for (int c = 0; c < PREFIX_CLASSES; c++)
		if (p->telling[c] >= PREFIXES_TELLING) {
			known = true;
			longest = p->all[c].hold_us > longest ? p->all[c].hold_us : longest;
		}
	for (int i = 0; p->table && i < PREFIXES; i++) {
		const struct group *g = &p->table->sets[i / WAYS].groups[i % WAYS];
		if (!g->used || g->learner.observations == 0)
			continue;
		bool tries = learner_is_trying(&g->learner) && p->telling[g->class] < PREFIXES_TELLING;
		trying |= tries;
		known |= !tries;
		longest = g->learner.hold_us > longest ? g->learner.hold_us : longest;
	}
	*off = known && !trying && longest == 0;
	return longest;
}
