/*
 * Says to the kernel that neighbours are used (RTM_NEWNEIGH with NTF_USE), by a thread of its own.
 *
 * The kernel has one lock for all changes of interfaces and neighbours, in all network namespaces. Who says so waits
 * for it: 100s of milliseconds where containers come and go. The engine's lock must not wait for that, and with it
 * every socket of the program.
 *
 * The thread begins with the first neighbour that is told, and ends when it has told all. It takes no lock of the
 * engine's. What failed is fetched by neigh_asker_failure. A thread keeps the privilege that its maker had, and a
 * process may drop its own: so none waits for the next neighbour.
 *
 * All functions need the engine's lock, or are of one thread. A fork's child has no thread, and forgets the asker.
 */
#ifndef FINESSE_KERNEL_NEIGH_ASKER_H
#define FINESSE_KERNEL_NEIGH_ASKER_H

#include <stdbool.h>

#include "base/addr.h"

struct neigh_asker;

struct neigh_ask {
	int ifindex;
	struct ip_addr addr;
	int err; /* of what failed: -errno */
};

/* NULL: no memory, or no socket. */
struct neigh_asker *neigh_asker_new(void);
/* False: there is no thread, or it has too much to tell; the caller asks himself. */
bool neigh_asker_tell(struct neigh_asker *a, int ifindex, const struct ip_addr *addr);
/* One that failed, each once; false: there is none. */
bool neigh_asker_failure(struct neigh_asker *a, struct neigh_ask *out);
/* Until all are told: afterwards the process has no thread of it. NULL: nothing. */
void neigh_asker_join(struct neigh_asker *a);
/* Waits for nothing: a thread that is still telling frees it. NULL: nothing. */
void neigh_asker_free(struct neigh_asker *a);
/* In a fork's child. NULL: nothing. */
void neigh_asker_forget(struct neigh_asker *a);

#endif
