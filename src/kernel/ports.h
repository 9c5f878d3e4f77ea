/*
 * Ephemeral ports of our client connections: outside net.ipv4.ip_local_port_range, 61000–65535 first, leased in blocks
 * by an abstract AF_UNIX name per block and network namespace, released by the kernel on any death. Chosen per 4-tuple
 * by RFC 6056 §3.3.4 (double hash) with the host's secret. Under the engine's lock.
 */
#ifndef FINESSE_KERNEL_PORTS_H
#define FINESSE_KERNEL_PORTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"

struct ports;

int ports_open(struct ports **out, const uint8_t secret[16]);
void ports_close(struct ports *p);
void ports_forget(struct ports *p); /* in a fork child: leases stay the parent's */

struct ports_in_use {
	bool (*in_use)(struct ports_in_use *u, const struct flow_key *key);
	/* the kernel has this 4-tuple; NULL: any of its sockets on the port counts */
	bool (*is_kernels)(struct ports_in_use *u, const struct flow_key *key);
};
/* Sets key->lport to a free port for this 4-tuple. -EADDRNOTAVAIL when every leasable port is in use. */
int ports_pick(struct ports *p, struct flow_key *key, struct ports_in_use *u);
/* A connection on this port has become the kernel's: not ours to use while the kernel has it. */
void ports_handed_over(struct ports *p, uint16_t lport);
/* A connection on this port was given up before the peer answered: the port is left out for a few seconds. */
void ports_given_up(struct ports *p, uint16_t lport);

bool ports_has(const struct ports *p, uint16_t lport); /* in a block of this process */

/* The kernel's own range, net.ipv4.ip_local_port_range. */
void ports_kernels(uint16_t *first, uint16_t *last);
/*
 * Adds the ports that an administrator keeps for services (net.ipv4.ip_local_reserved_ports) to a set, a bit for each.
 * 0 or -ENOMEM.
 */
#define PORTS_SET_WORDS 1024
int ports_reserved(uint64_t *set);

/* How many ports this process has leased so far. */
unsigned ports_leased(const struct ports *p);

/*
 * Root-only file under /run, made once: the same 64 bytes for every process of this host. Without permission to read
 * it: random bytes, and 1 is returned.
 */
int host_secret(uint8_t out[64]);
int host_secret_in(const char *dir, uint8_t out[64]); /* the same under another directory, for tests */

#endif
