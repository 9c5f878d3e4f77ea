/*
 * Frames that the kernel would not take yet, copied, oldest first: a byte ring, bounded, allocated
 * once (the engine may run in a signal handler's send(): no malloc on this path). Untouched pages
 * cost nothing.
 */
#ifndef FINESSE_LINK_TX_PENDING_H
#define FINESSE_LINK_TX_PENDING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define TX_PENDING_BYTES                                                                           \
	(2u << 20) /* some 30 super-segments, or an ACK for each of 10,000 connections */

struct tx_pending_frame {
	uint32_t len;  /* of data; 0: nothing more before the end of the ring */
	uint32_t room; /* of this record */
	bool v6;
	uint8_t priority;
	uint8_t data[];
};

struct tx_pending {
	uint8_t *mem;
	uint32_t head, tail; /* first record; where the next one goes */
	uint32_t used;       /* bytes, with records' headers and the unused end */
	unsigned n;          /* frames */
};

int tx_pending_open(struct tx_pending *p); /* 0 or -ENOMEM */
void tx_pending_close(struct tx_pending *p);
/* false: full */
bool tx_pending_push(struct tx_pending *p, const struct iovec *iov, int n_iov, bool v6, uint8_t priority);
/* The oldest, and the one behind `f`; NULL past the end. */
struct tx_pending_frame *tx_pending_first(const struct tx_pending *p);
struct tx_pending_frame *tx_pending_next(const struct tx_pending *p,
					 const struct tx_pending_frame *f);
void tx_pending_pop(struct tx_pending *p);

#endif
