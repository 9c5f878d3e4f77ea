/*
 * What a bad network does to frames, as text:
 * `loss=1%,delay=20ms,jitter=5ms,reorder=1%,dup=0.1%,corrupt=0.1%,rate=10mbit,queue=30000,seed=7`. Each word may be
 * left out (then it does nothing) and may be given once. Pure; src/link/impair.h does it to frames.
 *
 *   loss, reorder, dup, corrupt   share of the frames, 0% to 100%, to 0.0001%
 *   delay, jitter                 one way; us, ms or s, to 10 s. Jitter adds 0 to that much and keeps the order
 *   rate                          bit, kbit, mbit or gbit a second; 8kbit to 100gbit
 *   queue                         bytes that wait where the rate limits; not given: 100 ms of the rate
 *   burst                         bytes that pass at once where the rate limits, after a pause. With queue=0 it is a policer: what comes faster is dropped
 *   batch                         a time: what arrives within it arrives together at its end
 *   seed                          the same seed and the same frames: the same fates; default 1
 */
#ifndef FINESSE_BASE_IMPAIR_CONFIG_H
#define FINESSE_BASE_IMPAIR_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#define IMPAIR_PPM 1000000 /* all of the frames */

struct impair_config {
	uint32_t loss_ppm, reorder_ppm, dup_ppm, corrupt_ppm;
	int64_t delay_us, jitter_us, batch_us;
	uint64_t rate_bps; /* 0: no bottleneck */
	int64_t queue_bytes; /* -1: not given */
	uint64_t burst_bytes;
	uint64_t seed;
};

/* 0; -EINVAL and one line in `why` that names the word and what it takes. */
int impair_config_parse(struct impair_config *out, const char *text, char *why, size_t why_len);

#endif
