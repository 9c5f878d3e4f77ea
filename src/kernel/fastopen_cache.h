/*
 * What clients of TCP Fast Open remember of a server (RFC 7413 §4.1.3), for all processes of this host and network
 * namespace: its cookie, its MSS, and how it was asked in vain. As in Linux, it belongs to the pair of addresses and
 * does not grow old; where room is short, something goes. Linux's own cache cannot be written, so it is not used.
 *
 * The table is a file under /run/finesse (host_table.h). Four words are an entry: a keyed hash of the pair, the cookie,
 * the rest with a check over
 * all: what two processes wrote at once is not believed. Thread-safe.
 */
#ifndef FINESSE_KERNEL_FASTOPEN_CACHE_H
#define FINESSE_KERNEL_FASTOPEN_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"

struct fastopen_cache {
	uint64_t *words; /* NULL: not open */
	uint8_t key[16];
	uint64_t netns;
};

#define FASTOPEN_MEMO_BYTES 16

struct fastopen_memo {
	uint16_t mss;
	uint8_t len;   /* of the cookie; 0: none */
	bool old;      /* it came in the experimental option */
	uint8_t asked; /* without an answer: 1 by the option, 2 by the experimental one, too */
	uint8_t val[FASTOPEN_MEMO_BYTES];
};

/* As peers_open. */
int fastopen_cache_open(struct fastopen_cache *c, const char *dir, const uint8_t key[16], uint64_t netns);
/* False, and all is 0: nothing is known. */
bool fastopen_cache_get(const struct fastopen_cache *c, const struct ip_addr *laddr, const struct ip_addr *raddr, struct fastopen_memo *out);
void fastopen_cache_put(struct fastopen_cache *c, const struct ip_addr *laddr, const struct ip_addr *raddr, const struct fastopen_memo *memo);

#endif
