/*
 * A bad network, one direction of it: frames go in, and come out later, or not, or twice, or damaged.
 *
 * Owns copies of the frames in flight, in a heap by the time they arrive. Pure in time: the caller says what time it
 * is.
 *
 * A frame meets, in this order: the bottleneck (`rate`: a queue of `queue` bytes, or of IMPAIR_QUEUE_US at that rate,
 * at least IMPAIR_QUEUE_MIN_BYTES; what does not fit is dropped from the tail; a token bucket of `burst` bytes lets
 * frames pass it), loss, then per copy the delay, `batch`, reordering and corruption.
 * - The fate of the n-th frame is a function of the seed, the direction, n and the frame's length alone: every frame
 *   draws the same
 *   number of random numbers, whatever they decide.
 * - Order is kept (also under jitter) but for frames that `reorder` picks: each arrives later than its turn by up to
 *   half the
 *   delay, at least by up to IMPAIR_REORDER_MIN_US.
 * - Corruption flips one bit behind the link header of an IPv4 or IPv6 frame, which any Internet checksum finds. What
 *   has no checksum of its
 *   own on a path (ARP, the link header, behind a frame check sequence on real wires) is left alone.
 * - Frames are wire segments. Super-segments must be split and checksums computed before: a flipped bit under a
 *   checksum that is
 *   computed afterwards would be delivered as good.
 *
 * Limits: IMPAIR_FLIGHT_MAX_BYTES in flight; beyond, and without memory, frames are dropped. All fates are counted.
 */
#ifndef FINESSE_LINK_IMPAIR_H
#define FINESSE_LINK_IMPAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/impair_config.h"
#include "base/time.h"

#define IMPAIR_QUEUE_US         (100 * USEC_PER_MSEC)
#define IMPAIR_QUEUE_MIN_BYTES  65536
#define IMPAIR_REORDER_MIN_US   USEC_PER_MSEC
#define IMPAIR_FLIGHT_MAX_BYTES ((size_t)256 << 20)

struct impair_frame {
	int64_t at;     /* when it arrives */
	uint64_t order; /* equal times arrive in the order of sending */
	uint32_t len;
	uint8_t bytes[];
};

struct impair_counters {
	uint64_t frames, bytes; /* offered */
	uint64_t lost, duplicated, reordered, corrupted;
	uint64_t overflowed; /* the bottleneck's queue, the bound of bytes in flight, or memory */
	uint64_t delivered;
};

struct impair {
	struct impair_config config;
	uint64_t random;
	bool has_eth; /* frames begin with an Ethernet header, else with the IP header */
	struct impair_frame **heap;
	size_t count, capacity;
	size_t flight_bytes;
	uint64_t next_order;
	int64_t busy_until;      /* the bottleneck sends until then … */
	uint64_t rate_remainder; /* … and a part of a microsecond, in 1/rate_bps */
	int64_t last_arrival;    /* of frames in order */
	struct impair_counters counters;
};

/* Directions with different numbers have different fates from one seed. */
void impair_init(struct impair *im, const struct impair_config *config, unsigned direction, bool has_eth);
/* Forgets what is in flight. */
void impair_fini(struct impair *im);
/* A frame sets out; copied. */
void impair_send(struct impair *im, int64_t now, const uint8_t *frame, uint32_t len);
/* When the next frame arrives; TIME_NEVER: none is in flight. */
int64_t impair_next(const struct impair *im);
/* The frame that has arrived by `now`, or NULL. It stays first, and valid, until impair_pop. */
const struct impair_frame *impair_peek(const struct impair *im, int64_t now);
void impair_pop(struct impair *im);

#endif
