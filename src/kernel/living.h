/*
 * Which connections of the engine live, in memory that outlives the process: a crash-readable table of 4-tuples, each
 * with what its end is to say if the process dies now.
 *
 * The engine writes it by plain stores. The broker has a descriptor of it and reads it when the process has ended: who
 * is in it then has a peer that nobody told. Not thread-safe: under the engine's lock.
 */
#ifndef FINESSE_KERNEL_LIVING_H
#define FINESSE_KERNEL_LIVING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"

#define LIVING_MAX 262144 /* connections; the peers of more hear of a death at their next segment only */

struct living;

/*
 * The last segment of a connection, with its numbers (host order): FIN and ACK, RST and ACK, or RST, as the kernel's
 * close would send it; flags 0: none that is known.
 */
struct living_word {
	uint32_t seq, ack;
	uint8_t flags;
};
struct living_conn {
	struct flow_key key;
	struct living_word word;
};

/* ---- the engine ---- */
int living_new(struct living **out, int ifindex); /* 0 or -errno */
int living_fd(const struct living *l);
/* Its place, for living_del; 0: the table is full. */
uint32_t living_add(struct living *l, const struct flow_key *key);
void living_say(struct living *l, uint32_t place, const struct living_word *word); /* place 0: nothing */
void living_del(struct living *l, uint32_t place);                                 /* 0: nothing */
void living_forget(struct living *l); /* in a fork child: it stays the parent's; NULL is fine */

/* ---- the broker: `fd` comes from a process that is not trusted ---- */
/* Can it be read without waiting for anybody? */
bool living_is_table(int fd);
/*
 * Reads on from *place (0: the beginning) until `n` living ones are found or the end is reached. How many. *ifindex:
 * the scope of link-local ones.
 */
unsigned living_read(int fd, uint32_t *place, struct living_conn *out, unsigned n, int *ifindex);

#endif
