/*
 * What a member of a listener group leaves when it dies: its slot, and entries in the group's flows. For the broker,
 * which is no member, and has copies of the maps' descriptors.
 *
 * Among the entries are clients whose SYN the dead member's packet ring still holds, which nobody will read. So the
 * entries are told, one by one, and deleted.
 *
 * Functions return 0/positive or -errno. Not thread-safe. The maps come from a process that is not trusted: it can make
 * no more of them than its own group suffers.
 */
#ifndef FINESSE_KERNEL_CLASSIFIER_REMAINS_H
#define FINESSE_KERNEL_CLASSIFIER_REMAINS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"

#define CLASSIFIER_REMAINS_STEP 256 /* entries that one step looks at */

struct classifier_remains {
	int members_fd, flows_fd; /* the caller's */
	uint32_t slot, generation;
	uint32_t at; /* the kernel's token: where the walk goes on */
	bool goes_on;
};

/* Are these the maps of a group, and is this a slot? */
bool classifier_remains_are(const struct classifier_remains *r);
/* Does the slot have this owner still? */
bool classifier_remains_has_slot(const struct classifier_remains *r);
/* The owner is dead, the caller knows: nobody chooses it any more, and what its entries name is nobody's. */
void classifier_remains_end(const struct classifier_remains *r);
/*
 * Looks at some entries of the flows; those of the dead are deleted, and their 4-tuples are in `keys`, *n of them. 1:
 * call again, 0: all seen.
 */
int classifier_remains_step(struct classifier_remains *r, struct flow_key keys[CLASSIFIER_REMAINS_STEP], unsigned *n);

#endif
