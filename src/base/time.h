/*
 * Time is int64_t microseconds on a monotonic clock, read once per engine turn by the driver
 * (clock_now_us) and handed down; nothing below src/socket reads a clock.
 */
#ifndef FINESSE_BASE_TIME_H
#define FINESSE_BASE_TIME_H

#include <stdint.h>

#define USEC_PER_MSEC INT64_C(1000)
#define USEC_PER_SEC  INT64_C(1000000)
#define NSEC_PER_USEC INT64_C(1000)
#define TIME_NEVER    INT64_MAX /* a deadline that is not armed */

/* CLOCK_MONOTONIC in microseconds. Only drivers call it. Thread-safe. */
int64_t clock_now_us(void);
/* CLOCK_REALTIME in nanoseconds: what programs are told of the time. Thread-safe. */
int64_t clock_real_ns(void);

static inline int64_t max_time(int64_t a, int64_t b)
{
	return a > b ? a : b;
}
static inline int64_t min_time(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

#endif
