/*
 * Time is int64_t microseconds on a monotonic clock, read once per engine turn by the driver
 * (clock_now_us) and handed down; nothing below src/socket reads a clock.
 */
#ifndef FINESSE_BASE_TIME_H
#define FINESSE_BASE_TIME_H

#include <stdint.h>
#include <time.h>

#define USEC_PER_MSEC INT64_C(1000)
#define USEC_PER_SEC  INT64_C(1000000)
#define NSEC_PER_USEC INT64_C(1000)
#define TIME_NEVER    INT64_MAX /* a deadline that is not armed */

/*
 * Which function reads the clocks; libc's, if nobody says. A library beside ours may stand in for clock_gettime
 * (faketime). It may tell one time to the program and another to who is called by its own wrappers, so that the
 * engine's time would jump. Called once, before there are threads.
 */
void clock_use(int (*function)(clockid_t clock, struct timespec *ts));
/* As clock_gettime, by that function. Thread-safe. */
void clock_get(clockid_t clock, struct timespec *ts);
/* CLOCK_MONOTONIC in microseconds. Only drivers call it. Thread-safe. */
int64_t clock_now_us(void);
/* CLOCK_REALTIME in nanoseconds: what programs are told of the time. Thread-safe. */
int64_t clock_real_ns(void);

/* A span, not below 0. */
static inline struct timespec timespec_of(int64_t us)
{
	return (struct timespec){.tv_sec = us / USEC_PER_SEC, .tv_nsec = us % USEC_PER_SEC * NSEC_PER_USEC};
}

static inline int64_t max_time(int64_t a, int64_t b)
{
	return a > b ? a : b;
}
static inline int64_t min_time(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

#endif
