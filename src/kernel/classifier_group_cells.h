/*
 * A group's table in memory that its members share, where no program in the kernel can decide (classifier "socket"):
 * then each member's packet socket gets every frame of the port, and each engine asks here whether a frame that no
 * connection of its own knows is its to answer. All members get the same answer.
 *
 * Functions return 0/positive or -errno, under the engine's lock; none makes a system call but group_cells_make and
 * _map. classifier_group_cells.c has the theory.
 */
#ifndef FINESSE_KERNEL_CLASSIFIER_GROUP_CELLS_H
#define FINESSE_KERNEL_CLASSIFIER_GROUP_CELLS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"

struct classifier_group;
struct group_members;

/* Flows of which this process has told the cells: hashes of their 4-tuples, by open addressing. */
struct group_told {
	uint64_t *at; /* 0: free */
	uint32_t n, cap;
};

/* Memory for a new group: a descriptor, the caller's, of a size that nobody can change. */
int group_cells_make(void);
/* Maps it: the group's members and cells from now on. -EINVAL: it is none such. */
int group_cells_map(struct classifier_group *g, int fd);
void group_cells_unmap(struct classifier_group *g);

/*
 * Is this frame another member's to answer, or nobody's here? `syn`: a SYN without ACK or RST, which finds an owner now
 * if it has none.
 */
bool group_cells_is_others(struct classifier_group *g, const struct flow_key *key, bool syn, int64_t now_us);
/* classifier_group_add_flow, _del_flow. -EEXIST: its cell is another living member's. */
int group_cells_add(struct classifier_group *g, const struct flow_key *key);
int group_cells_del(struct classifier_group *g, const struct flow_key *key);

#endif
