/*
 * A library that stands before libfinesse.so and tells another time, as faketime does: all clocks are three days ahead,
 * but for whoever its own poll calls. So an engine that asks it gets two times in turn.
 */
#include <dlfcn.h>
#include <poll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define AHEAD_S (3 * 86400)

static _Thread_local int inside;

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	int r = (int)syscall(SYS_clock_gettime, clock, ts);
	if (r == 0 && !inside)
		ts->tv_sec += AHEAD_S;
	return r;
}

int poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	int (*next)(struct pollfd *, nfds_t, int) = (int (*)(struct pollfd *, nfds_t, int))dlsym(RTLD_NEXT, "poll");
	inside++;
	int r = next(fds, n, timeout_ms);
	inside--;
	return r;
}
