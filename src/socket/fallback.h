/*
 * What went to the kernel, and why: counted by reason, and the latest connections remembered (fallback.c). Any thread,
 * with the engine's lock or without.
 */
#ifndef FINESSE_SOCKET_FALLBACK_H
#define FINESSE_SOCKET_FALLBACK_H

#include "socket/engine.h"

unsigned fallback_count(void);
/*
 * Policy leaves it to the kernel: that is no fall-back, nobody is warned and nothing is counted. A trace tells of it,
 * so that it is not silent about all of a program's sockets. SOCK_KERNEL.
 */
int policy_keeps(const struct engine *e, bool server, const struct ip_addr *addr, uint16_t port);
int policy_keeps_source(const struct ip_addr *addr, uint16_t port); /* … for the address that it is bound to */
extern ENGINE_THREAD unsigned fallbacks_noted; /* by this thread */
/* Around fork: no other thread has the table's lock then, which would never be given back in the child. */
void fallback_fork_prepare(void);
void fallback_fork_done(void);
struct fallback {
	char what[64], why[160];
	unsigned count;
};
const struct fallback *fallback_at(unsigned i); /* NULL past the end */
/* A connection went to the kernel: counted with its reason, and remembered. Lock held or not. */
void handover_note(const struct flow_key *key, const char *why);
/* A listener, or a connection that could not be handed over, did. */
void leaving_note(const char *what, const char *why);
void handover_remember(const struct flow_key *key, const char *why); /* … counted elsewhere */
struct handed_over {
	struct flow_key key;
	char why[160];
};
const struct handed_over *handed_over_at(unsigned i); /* of the latest, in no order; NULL past the end */

#endif
