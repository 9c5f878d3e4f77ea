/* Internal to the classifier: a group's maps as the programs see them, and this process's view of a group. */
#ifndef FINESSE_KERNEL_CLASSIFIER_GROUP_INTERNAL_H
#define FINESSE_KERNEL_CLASSIFIER_GROUP_INTERNAL_H

#include "kernel/classifier_backend.h"
#include "kernel/classifier_group.h"
#include "kernel/classifier_group_cells.h"
#include "kernel/judge.h"

#define CLASSIFIER_GROUPS_MAX 256    /* groups that one classifier takes part in */
#define GROUP_FLOWS_MAX       262144 /* connections of one group. The map's buckets cost 16 bytes each, used or not */
#define GROUP_SLOT_KERNEL     0x80000000u /* in an entry's slot: the 4-tuple is the kernel's, said by this slot's owner */
#define CACHE_LINE            64

/* One member. The owner writes, everybody reads. */
struct group_slot {
	uint32_t generation; /* odd: owned. Changes with each owner, so that entries of a former one count no more */
	uint32_t queue;
	uint32_t pid; /* the owner's, as it counts itself; only `finesse stat` reads it */
	uint32_t given; /* grows when a tap has taken this member's bits away, and given SYNs to the kernel, because the member is silent */
	uint64_t syn_since_ns; /* CLOCK_MONOTONIC: since when a SYN waits for the member; 0: none does. A tap writes it, and the owner clears it */
	uint8_t pad[CACHE_LINE - 24]; /* members on other CPUs write the neighbours */
};

/* The value of the map of members: an array of one, in memory that all members share. */
struct group_members {
	uint64_t seed; /* of the hash for cookies */
	uint64_t cookies_until_ns; /* CLOCK_MONOTONIC */
	uint64_t zero;
	uint8_t pad[CACHE_LINE - 24];
	/* One bit per slot; changed by atomic operations. Waiting is a subset of accepting, but for a moment. */
	uint64_t accepting;
	uint64_t waiting;
	uint64_t serving; /* has a listener, accepting or not. Only cells ask */
	uint64_t lately;  /* accepted a moment ago. Accepting is a subset */
	uint8_t pad2[CACHE_LINE - 32];
	struct group_slot slots[CLASSIFIER_GROUP_SLOTS];
};

/* The value of the map of flows; one word, so that it is replaced as one. */
static inline uint64_t group_owner(uint32_t slot, uint32_t generation)
{
	return (uint64_t)generation << 32 | slot;
}

struct classifier_group {
	struct classifier *c;
	struct classifier_group *next; /* in c->groups */
	unsigned index;                /* in the backend's maps of groups */
	int members_fd, flows_fd;      /* internal descriptors */
	bool in_memory;                /* no maps: cells. members_fd is the memory, flows_fd -1 */
	struct group_told told;        /* … and the flows of ours that they count */
	struct judge_shared judge;
	struct group_members *members; /* mapped */
	int slot;                      /* -1: none */
	uint32_t generation;           /* of the own slot */
	bool accepting, waiting, serving, lately; /* as the caller said last */
	uint32_t given; /* … of the own slot, when it was looked at last */
	uint32_t sweep_at;             /* the kernel's token: where the sweep goes on */
	bool sweeping;
};

/* This engine's ring becomes the own slot's, if there are both. 0 or -errno. */
int classifier_group_join_judge(struct classifier_group *g);

void classifier_group_publish(struct classifier_group *g); /* whether it accepts */

/* The slot has no owner any more, and its entries count no more. */
void group_end_generation(struct group_members *m, unsigned slot);

/* What this process's entries hold; 0, which no entry holds, without a slot. */
static inline uint64_t group_own(const struct classifier_group *g)
{
	return g->slot < 0 ? 0 : group_owner(g->slot, g->generation);
}

#endif
