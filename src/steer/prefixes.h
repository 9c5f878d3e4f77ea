/*
 * What a listener has learned of its clients, by where they come from (/24, /56) and by whether a reader said that they know the end: a learner for each such group, and one for all
 * together to begin with.
 *
 * A group that has evidence of its own goes by that. One that has little goes by what all groups together have shown, if that comes from PREFIXES_TELLING groups at least; before that it tries for
 * itself. So a large group that waits for our end of file cannot switch holding off for the others, and an Internet full of small groups need not each find out at its
 * clients' cost. A group tells the others of its first OWN_EVIDENCE closes, and of one in SHARE_EVERY afterwards: the many count more than the busy.
 *
 * Limits: PREFIXES groups per listener, in sets of four. When a set is full the group with the least evidence goes, unless it has enough of its own and was heard of within KEEP_US: then the
 * newcomer has no place, and goes by all together. A flood of prefixes costs a flood of closes, and moves none that has evidence. Memory: 96 KiB when first needed. Pure.
 */
#ifndef FINESSE_STEER_PREFIXES_H
#define FINESSE_STEER_PREFIXES_H

#include "base/addr.h"
#include "steer/learner.h"

enum prefix_class { PREFIX_UNKNOWN, PREFIX_MESSAGE_OVER, PREFIX_CLASSES };

struct prefix_table;

struct prefixes {
	struct learner all[PREFIX_CLASSES];
	unsigned telling[PREFIX_CLASSES]; /* groups that have told of a close */
	struct prefix_table *table;       /* NULL: none yet, or no memory: all together then */
	int64_t hold_max_us;
};

void prefixes_init(struct prefixes *p, int64_t hold_max_us);
void prefixes_fini(struct prefixes *p);

enum learner_advice prefixes_advise(struct prefixes *p, const uint8_t secret[16], const struct ip_addr *client, enum prefix_class c,
				    int64_t now, int64_t srtt_us, uint64_t held_now, int64_t *hold_us);
void prefixes_on_closed_first(struct prefixes *p, const uint8_t secret[16], const struct ip_addr *client, enum prefix_class c, int64_t now,
			      int64_t after_us);
void prefixes_on_waited(struct prefixes *p, const uint8_t secret[16], const struct ip_addr *client, enum prefix_class c, int64_t now,
			int64_t held_us);
void prefixes_on_late(struct prefixes *p, const uint8_t secret[16], const struct ip_addr *client, enum prefix_class c, int64_t now,
		      int64_t held_us, int64_t after_us);

#endif
