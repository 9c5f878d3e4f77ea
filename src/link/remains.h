/*
 * What is left in the receive ring of a process that died: the ring lives as long as its packet socket, of which
 * somebody else has a descriptor. He does not trust who gave it to him.
 */
#ifndef FINESSE_LINK_REMAINS_H
#define FINESSE_LINK_REMAINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct link_remains_visit {
	/* Of a frame that was not given back, from its IP header on, as much as the slot has; a copy. */
	void (*packet)(struct link_remains_visit *v, const uint8_t *ip, size_t len);
};

/* A packet socket? */
bool link_remains_are(int rx_fd);
/* The interface's index; 0 or less: it is gone. */
int link_remains_at(int rx_fd);
/* A ring of another size than the default is left alone. */
void link_remains_visit(int rx_fd, struct link_remains_visit *v);

#endif
