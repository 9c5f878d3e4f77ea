/*
 * What a listener has learned of its clients, by where they come from (/24, /56) and by whether a reader said that they
 * know the end: a learner for each such group, and one for all together to begin with.
 *
 * A group that has evidence of its own goes by that. One that has little goes by what all groups together have shown,
 * if that comes from PREFIXES_TELLING groups at least; before that it tries for itself. So a large group that waits for
 * our end of file cannot switch holding off for the others, and an Internet full of small groups need not each find out
 * at its clients' cost.
 *
 * Groups are weighed, not closes: one that has told the others of a close, in a hold or after our FIN, may tell them of
 * the next after PREFIXES_TELLING − 1 others have told of theirs. So no group, however busy, with or without a place,
 * is more than 1/8 of what all have shown: where seven in eight close first within 35 ms, the eighth changes nothing.
 * Who tells is known by /24 and, since one site may have 256 of them, /48 instead of /56; two that share a counter
 * share a turn.
 *
 * Limits: PREFIXES groups per listener, in sets of four. When a set is full the group with the least evidence goes,
 * unless it has enough of its own and was heard of within KEEP_US: then the newcomer has no place, and goes by all
 * together. One that comes CHALLENGES times while a group of its set is not heard of at all takes that group's place. A
 * flood of prefixes costs a flood of closes, and moves none that has evidence and is in use. Memory: 104 KiB when first
 * needed. Pure.
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
	uint64_t tellings[PREFIX_CLASSES];
	struct prefix_table *table;       /* NULL: none yet, or no memory: all together then */
	int64_t hold_max_us;
};

void prefixes_init(struct prefixes *p, int64_t hold_max_us);
void prefixes_fini(struct prefixes *p);
/* The longest hold that anyone would be given now. *off: something is known, and it is against holding, of everyone. */
int64_t prefixes_longest_hold(const struct prefixes *p, bool *off);

enum learner_advice prefixes_advise(struct prefixes *p, const uint8_t secret[16], const struct ip_addr *client, enum prefix_class c,
				    int64_t now, int64_t srtt_us, uint64_t held_now, int64_t *hold_us);
void prefixes_on_closed_first(struct prefixes *p, const uint8_t secret[16], const struct ip_addr *client, enum prefix_class c,
			      int64_t after_us);
void prefixes_on_waited(struct prefixes *p, const uint8_t secret[16], const struct ip_addr *client, enum prefix_class c, int64_t held_us);
void prefixes_on_late(struct prefixes *p, const uint8_t secret[16], const struct ip_addr *client, enum prefix_class c, int64_t held_us,
		      int64_t after_us);

#endif
