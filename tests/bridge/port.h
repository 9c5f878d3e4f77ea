/*
 * One end of the bridge: an interface's frames by a packet socket, as they are on the wire.
 *
 * Only wire segments pass: a super-segment, a frame whose checksum the sender left to its device and a frame with a
 * VLAN tag are dropped and counted, and the first of a kind says so on stderr. The other ends of the veths must have
 * their transmit offloads off.
 *
 * The network's time is the kernel's stamp of a frame's arrival, not when this process came to read. So delays and the
 * bottleneck hold on a busy machine, too, as long as this process runs when a frame is due: `late` and `latest_us` tell
 * where it did not.
 */
#ifndef FINESSE_TESTS_BRIDGE_PORT_H
#define FINESSE_TESTS_BRIDGE_PORT_H

#include <stdbool.h>
#include <stdint.h>

#include "link/impair.h"

#define PORT_BATCH     64
#define PORT_LATE_US   1000
#define PORT_FRAME_MAX 9018 /* a jumbo frame; slots hold one byte more than the MTU allows, to see what is too long */

struct port_counters {
	uint64_t oversized, unfinished, tagged; /* refused on receipt */
	uint64_t unsent;                        /* the kernel refused to send */
	uint64_t late;                          /* left more than PORT_LATE_US after its time */
	int64_t latest_us;
};

struct port {
	const char *name;
	int fd;
	uint32_t frame_max; /* MTU and link header */
	bool blocked;       /* the last send would have blocked: wait for POLLOUT */
	int64_t came_us; /* the newest frame's arrival */
	struct port_counters counters;
};

/* 0, or -errno after a line on stderr. */
int port_open(struct port *p, const char *name);
void port_close(struct port *p);
/* Hands what has come to `out`, one batch. How many frames came; -errno: the interface is gone. */
int port_receive(struct port *p, struct impair *out, int64_t now);
/* Sends what has arrived by `now`, in order, as far as the kernel takes it. */
void port_send(struct port *p, struct impair *from, int64_t now);

#endif
