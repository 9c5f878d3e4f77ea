#include "base/time.h"

static int (*gettime)(clockid_t clock, struct timespec *ts) = clock_gettime;

void clock_use(int (*function)(clockid_t clock, struct timespec *ts))
{
	gettime = function;
}

void clock_get(clockid_t clock, struct timespec *ts)
{
	gettime(clock, ts);
}

int64_t clock_now_us(void)
{
	struct timespec ts;
	clock_get(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * USEC_PER_SEC + ts.tv_nsec / NSEC_PER_USEC;
}

int64_t clock_real_ns(void)
{
	struct timespec ts;
	clock_get(CLOCK_REALTIME, &ts);
	return ts.tv_sec * USEC_PER_SEC * NSEC_PER_USEC + ts.tv_nsec;
}
