/* CUBIC's state and arithmetic, for cc_cubic.c and its tests. */
#ifndef FINESSE_TCP_CC_CUBIC_H
#define FINESSE_TCP_CC_CUBIC_H

#include <stdbool.h>
#include <stdint.h>

#include "tcp/cc_hystart.h"

/* Time in 1/1024 s, so that its cube is a shift away from cubic seconds. */
#define CUBIC_HZ_SHIFT 10

/* RFC 9438 §4.1.2's variables, in bytes. In cc_state. */
struct cubic {
	int64_t epoch_start_us; /* t_epoch, moved on by the time in which cwnd was not the limit; 0: no stage of congestion avoidance */
	int64_t last_us;        /* the last ACK */
	uint64_t w_est;         /* Reno's window, fractions of a byte below CUBIC_EST_SHIFT */
	uint32_t w_max;         /* 0: undefined */
	uint32_t cwnd_prior;
	uint32_t k;             /* in 1/1024 s */
	struct hystart hystart;
};

#define CUBIC_EST_SHIFT 12

/* The integer cube root, rounded down. */
uint32_t cubic_root(uint64_t x);
/* K for a window that has `below` bytes to W_max; in 1/1024 s. */
uint32_t cubic_k(uint32_t below, uint32_t mss);
/* W_cubic(t) − W_max = C * (t − K)^3 in bytes; times in 1/1024 s. */
int64_t cubic_offset(int64_t t, uint32_t k, uint32_t mss);

#endif
