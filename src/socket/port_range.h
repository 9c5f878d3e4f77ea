/* IP_LOCAL_PORT_RANGE of a client, under the engine's lock. */
#ifndef FINESSE_SOCKET_PORT_RANGE_H
#define FINESSE_SOCKET_PORT_RANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "kernel/ports.h"

struct candidate;
struct engine;

struct port_range {
	uint16_t first, last; /* last 0: the program chose none */
};

/* True: the socket has one. */
bool port_range_of(int kfd, const struct candidate *c, struct port_range *out);
/*
 * Sets key->lport, and *port_fd to what holds it: a high descriptor, the caller's. -EADDRNOTAVAIL: our own connections
 * have them all; -EADDRINUSE: others have, too.
 */
int port_range_pick(struct engine *e, const struct port_range *r, int family, struct flow_key *key, struct ports_in_use *u, int *port_fd);

#endif
