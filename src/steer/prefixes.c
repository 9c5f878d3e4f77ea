#include "steer/prefixes.h"

#include <stdlib.h>
#include <string.h>

#include "base/siphash.h"
#include "base/time.h"

#define PREFIXES         128
#define WAYS             4
#define OWN_EVIDENCE     8  /* closes: a trial's six and some more */
#define SHARE_EVERY      32
#define PREFIXES_TELLING 8
#define KEEP_US          (600 * USEC_PER_SEC)
#define V4_BYTES         3 /* /24 */
#define V6_BYTES         7 /* /56 */

struct group {
	uint8_t prefix[16]; /* the rest zero */
	uint8_t class;
	bool used, told;
	int64_t heard_at;
	struct learner learner;
};

struct prefix_table {
	struct group groups[PREFIXES];
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
	free(p->table);
	p->table = NULL;
}

static void prefix_of(const struct ip_addr *client, uint8_t out[16])
{
	memset(out, 0, 16);
	memcpy(out, client->b, ip_addr_is_v4(client) ? 12 + V4_BYTES : V6_BYTES);
}

static struct group *set_of(struct prefixes *p, const uint8_t secret[16], const uint8_t prefix[16], enum prefix_class c)
{
	uint8_t data[17];
	memcpy(data, prefix, 16);
	data[16] = (uint8_t)c;
	return &p->table->groups[siphash24(data, sizeof data, secret) % (PREFIXES / WAYS) * WAYS];
}

static bool may_go(const struct group *g, int64_t now)
{
	return g->learner.observations < OWN_EVIDENCE || now - g->heard_at > KEEP_US;
}

static struct group *group_find(struct prefixes *p, const uint8_t secret[16], const struct ip_addr *client, enum prefix_class c)
{
	uint8_t prefix[16];
	if (!p->table)
		return NULL;
	prefix_of(client, prefix);
	struct group *set = set_of(p, secret, prefix, c);
	for (int i = 0; i < WAYS; i++)
		if (set[i].used && set[i].class == c && memcmp(set[i].prefix, prefix, 16) == 0)
			return &set[i];
	return NULL;
}

static struct group *group_get(struct prefixes *p, const uint8_t secret[16], const struct ip_addr *client, enum prefix_class c, int64_t now)
{
	if (!p->table)
		p->table = calloc(1, sizeof *p->table);
	struct group *g = group_find(p, secret, client, c), *worst = NULL;
	if (g || !p->table)
		return g;
	uint8_t prefix[16];
	prefix_of(client, prefix);
	struct group *set = set_of(p, secret, prefix, c);
	for (int i = 0; i < WAYS && (!worst || worst->used); i++) {
		if (!set[i].used)
			worst = &set[i];
		else if (may_go(&set[i], now) && (!worst || set[i].learner.observations < worst->learner.observations))
			worst = &set[i];
	}
	if (!worst)
		return NULL;
	*worst = (struct group){.class = (uint8_t)c, .used = true, .heard_at = now};
	memcpy(worst->prefix, prefix, 16);
	learner_init(&worst->learner, p->hold_max_us);
	return worst;
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
	if (g)
		g->heard_at = now;
	return learner_advise(who_advises(p, g, c), now, srtt_us, held_now, hold_us);
}

/* The group's own observation; whether all are told, too. */
static bool is_told(struct prefixes *p, struct group *g, enum prefix_class c)
{
	if (!g)
		return true;
	if (!g->told) {
		g->told = true;
		p->telling[c]++;
	}
	return g->learner.observations < OWN_EVIDENCE || g->learner.observations % SHARE_EVERY == 0;
}

void prefixes_on_closed_first(struct prefixes *p, const uint8_t secret[16], const struct ip_addr *client, enum prefix_class c, int64_t now,
			      int64_t after_us)
{
	struct group *g = group_get(p, secret, client, c, now);
	if (is_told(p, g, c))
		learner_on_closed_first(&p->all[c], after_us);
	if (g)
		learner_on_closed_first(&g->learner, after_us);
}

void prefixes_on_waited(struct prefixes *p, const uint8_t secret[16], const struct ip_addr *client, enum prefix_class c, int64_t now,
			int64_t held_us)
{
	struct group *g = group_get(p, secret, client, c, now);
	if (is_told(p, g, c))
		learner_on_waited(&p->all[c], held_us);
	if (g)
		learner_on_waited(&g->learner, held_us);
}

void prefixes_on_late(struct prefixes *p, const uint8_t secret[16], const struct ip_addr *client, enum prefix_class c, int64_t now,
		      int64_t held_us, int64_t after_us)
{
	struct group *g = group_find(p, secret, client, c);
	(void)now;
	learner_on_late(&p->all[c], held_us, after_us);
	if (g)
		learner_on_late(&g->learner, held_us, after_us);
}
