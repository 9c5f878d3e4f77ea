/*
 * Text that arrived out of order, until what is missing before it comes.
 *
 * Owns chunks of `struct tcp_memory`, sorted by sequence number. What a peer sends costs what it sends: a byte at the
 * window's end takes 64 bytes of memory, not a buffer up to there. Text that goes on where a chunk ends fills its room,
 * or a chunk of twice the size, so that many small segments cost little more than their bytes. `bytes` is what the
 * chunks take, as Linux's truesize; the caller bounds it. Chunks may overlap; what is told of which numbers are there
 * is the range set's (base/ranges.h).
 */
#ifndef FINESSE_TCP_REASSEMBLY_H
#define FINESSE_TCP_REASSEMBLY_H

#include <stdint.h>

#include "base/memory.h"

#define REASSEMBLY_CHUNKS_MAX 4096 /* a search walks over them */

struct chunk;

struct reassembly {
	struct chunk *first, *last;
	uint32_t bytes; /* of memory */
	uint32_t n;
};

/*
 * 0, or -ENOMEM: it would take more than `most`, or there is no memory; a part may have been kept, which does no harm.
 * `len` > 0.
 */
int reassembly_add(struct reassembly *r, struct tcp_memory *m, uint32_t seq, const uint8_t *bytes, uint32_t len, uint32_t most);
/*
 * The text at `next` and what follows it in one piece: its length, 0 when there is none. What lies before `next` goes.
 */
uint32_t reassembly_at(struct reassembly *r, struct tcp_memory *m, uint32_t next, const uint8_t **bytes);
void reassembly_free(struct reassembly *r, struct tcp_memory *m);

#endif
