/*
 * The host's rules, read by a thread of its own: where they are tens of thousands (a cluster's node, long lists of banned addresses), the kernel takes some 100 ms to tell
 * them, and neither the engine's lock nor the helper may be held up so long.
 *
 * The thread takes no lock of the engine's. When it has read, it lets the timer expire whose handler then takes the rules. All signals are blocked in it.
 * The functions need the engine's lock. A fork's child has no thread, and forgets the reader.
 */
#ifndef FINESSE_SOCKET_RULES_READER_H
#define FINESSE_SOCKET_RULES_READER_H

#include <stdbool.h>
#include <stddef.h>

struct firewall;
struct rules_reader;

/* `timer_fd` stays open until rules_reader_end. NULL: there is no memory, or no thread. */
struct rules_reader *rules_reader_begin(int timer_fd);
bool rules_reader_is_done(const struct rules_reader *r);
/* Until it is done: afterwards the process has no thread of it. */
void rules_reader_join(struct rules_reader *r);
/* Waits, and frees it. As firewall_read. */
int rules_reader_end(struct rules_reader *r, struct firewall **out, char *why, size_t why_len);
/* In a fork's child. NULL: nothing. */
void rules_reader_forget(struct rules_reader *r);

#endif
