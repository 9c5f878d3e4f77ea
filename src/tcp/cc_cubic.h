/* CUBIC's state and arithmetic, for cc_cubic.c, cc_hystart.c and their tests. */
#ifndef FINESSE_TCP_CC_CUBIC_H
#define FINESSE_TCP_CC_CUBIC_H

#include <stdbool.h>
#include <stdint.h>

#include "tcp/cc_hystart.h"

/* Time in 1/1024 s, so that its cube is a shift away from cubic seconds. */
#define CUBIC_HZ_SHIFT 10

/* In cc_state. Windows in segments, names as in RFC 9438 §4.1.2 where it has them. */
struct cubic {
	int64_t epoch_start_us; /* t_epoch, moved on by pauses; 0: no stage of congestion avoidance */
	int64_t updated_us;     /* segs_per_growth is of then */
	uint32_t segs_per_growth; /* a segment more for so many acknowledged ones */
	uint32_t updated_cwnd;
	uint32_t w_max;         /* 0: undefined */
	uint32_t origin;        /* where the curve is flat: w_max, or cwnd_epoch */
	uint32_t k;             /* in 1/1024 s */
	uint32_t w_est;         /* what Reno would have */
	uint32_t est_acked;     /* segments towards its next one */
	uint32_t part;          /* bytes that were acknowledged of a segment */
	struct hystart hystart;
};

/* The integer cube root, rounded down. */
uint32_t cubic_root(uint64_t x);
/* K for a window that has `below` segments to the origin; in 1/1024 s. */
uint32_t cubic_k(uint32_t below);
/* W_cubic(t): C * (t − K)^3 beyond the origin, in segments; times in 1/1024 s. */
uint32_t cubic_window(const struct cubic *s, int64_t t);

#endif
