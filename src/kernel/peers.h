/*
 * Which hosts run finesse, too: found out on a FIN, remembered for an hour, for all processes of this host and network
 * namespace.
 *
 * The mark. A SYN to a stranger is Linux's to the byte, so the ends cannot find each other there. A FIN's IPv4
 * identification, or IPv6 flow label, is the mark of its sequence number: to a stranger a number like any other (RFC
 * 6864 §4.1 leaves an atomic datagram's to its source), and where something on the way changes it, nothing is hurt. A
 * stranger's FIN has it by chance once in 65,536: then one SYN carries an option that is not answered, and the address
 * is forgotten.
 *
 * The table. A file under /run/finesse that every engine maps: words that are read and written whole, so no lock. Each
 * says a keyed hash of an address and when it was noted. Who may not open it has a table of its own. Whoever spoils it
 * makes SYNs carry an option in vain, and nothing else. Thread-safe.
 */
#ifndef FINESSE_KERNEL_PEERS_H
#define FINESSE_KERNEL_PEERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/siphash.h"

#define PEERS_MARK_MAX UINT32_C(0xffff)

struct peers {
	uint64_t *words; /* NULL: not open */
	uint8_t key[16];
	uint64_t netns;
	struct siphash_memo last;
};

/* `dir`: NULL is /run/finesse. `key`: of the host. 0: shared; 1: this process's own; -ENOMEM. */
int peers_open(struct peers *p, const char *dir, const uint8_t key[16], uint64_t netns);
bool peers_know(struct peers *p, const struct ip_addr *peer, int64_t now_us);
void peers_note(struct peers *p, const struct ip_addr *peer, int64_t now_us);
void peers_forget(struct peers *p, const struct ip_addr *peer);

/* Of the FIN that has this sequence number. Never 0. */
uint16_t peers_mark(uint32_t fin_seq);

#endif
