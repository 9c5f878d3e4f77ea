/*
 * Ports on which the kernel stays silent because a socket of ours listens there and swallows all: what the engine's
 * client connections use where nothing else keeps their segments from the kernel. Internal to src/kernel.
 *
 * One socket for each (address, port), shared by all 4-tuples there, kept until silent_ports_close. The kernel's table
 * of bound sockets keeps others off the port, and closes all when the process dies. Under the engine's lock.
 */
#ifndef FINESSE_KERNEL_SILENT_PORTS_H
#define FINESSE_KERNEL_SILENT_PORTS_H

#include <stdbool.h>

#include "base/addr.h"

struct silent_ports;

struct silent_ports *silent_ports_open(void); /* NULL: no memory */
void silent_ports_close(struct silent_ports *p); /* in a fork child: closes our copies only */
/* 0: silent now, if it was not before. -EADDRINUSE: somebody else has the port. Other -errno: no room. */
int silent_ports_hold(struct silent_ports *p, const struct ip_addr *addr, uint16_t port);
bool silent_ports_has(const struct silent_ports *p, const struct ip_addr *addr, uint16_t port);

#endif
