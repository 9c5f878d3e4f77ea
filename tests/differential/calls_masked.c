/*
 * Waits under a signal mask of their own, which lets in a signal that is pending when they begin. Linux delivers it
 * only if the wait ends because of
 * it: when something is ready, or the time was over with nothing pending, the old mask is back before any handler runs.
 * A signal that comes meanwhile, and that the wait's mask blocks, is delivered when the call is over, and does not end
 * it.
 */
#include "differential.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#define BRIEF_NS 20000000

enum wait_by { PPOLL, PPOLL_OUT, PSELECT, EPOLL_PWAIT, EPOLL_PWAIT2, PPOLL_TWO, BY_COUNT };
static const char *const by_names[BY_COUNT] = {"ppoll", "ppoll.out", "pselect", "epoll_pwait", "epoll_pwait2", "ppoll.two"};

enum span { AT_ONCE, BRIEF, EVER, SPAN_COUNT };
static const char *const span_names[SPAN_COUNT] = {"0", "brief", "ever"};

enum pending { ONE, ONE_RESTART, IGNORED, BLOCKED_STILL, BLOCKED_MEANWHILE, PENDING_COUNT };
static const char *const pending_names[PENDING_COUNT] = {"signal", "signal.sa", "ignored", "blocked", "meanwhile"};

static volatile sig_atomic_t handled;

static void on_signal(int number)
{
	handled++;
}

static long waits(struct run *r, enum wait_by by, enum span span, const sigset_t *mask, unsigned *told)
{
	struct timespec t = {0, span == BRIEF ? BRIEF_NS : 0}, *timeout = span == EVER ? NULL : &t;
	int ms = span == EVER ? -1 : span == BRIEF ? BRIEF_NS / 1000000 : 0, ep;
	int p[2] = {-1, -1};
	struct pollfd f[2] = {{r->fd, by == PPOLL_OUT ? POLLOUT : POLLIN | POLLPRI | POLLRDHUP, 0}, {-1, POLLIN, 0}};
	struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP};
	fd_set in;
	long n = -1;
	switch (by) {
	case PPOLL:
	case PPOLL_OUT:
		n = ppoll(f, 1, timeout, mask);
		break;
	case PPOLL_TWO:
		if (pipe(p) < 0)
			return -1;
		f[1].fd = p[0];
		n = ppoll(f, 2, timeout, mask);
		break;
	case PSELECT:
		FD_ZERO(&in);
		FD_SET(r->fd, &in);
		n = pselect(r->fd + 1, &in, NULL, NULL, timeout, mask);
		break;
	default:
		ep = epoll_create1(EPOLL_CLOEXEC);
		if (epoll_ctl(ep, EPOLL_CTL_ADD, r->fd, &e) < 0)
			n = -1;
		else
			n = by == EPOLL_PWAIT ? epoll_pwait(ep, &e, 1, ms, mask) : epoll_pwait2(ep, &e, 1, timeout, mask);
		*told = n > 0 ? e.events : 0;
		int error = errno;
		close(ep);
		errno = error;
	}
	if (by < PSELECT || by == PPOLL_TWO)
		*told = n > 0 ? (unsigned short)f[0].revents : 0;
	if (p[0] >= 0) {
		int error = errno;
		close(p[0]), close(p[1]);
		errno = error;
	}
	return n;
}

/* Within a wait of BRIEF_NS; whenever it comes, the line is the same. */
static void comes_soon(int number, timer_t *timer)
{
	struct sigevent by = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = number};
	struct itimerspec soon = {.it_value.tv_nsec = BRIEF_NS / 10};
	if (timer_create(CLOCK_MONOTONIC, &by, timer) < 0 || timer_settime(*timer, 0, &soon, NULL) < 0)
		exit(99);
}

static void call_masked(struct run *r, long what, long pending)
{
	enum wait_by by = what / SPAN_COUNT;
	enum span span = what % SPAN_COUNT;
	struct sigaction act = {.sa_handler = pending == IGNORED ? SIG_IGN : on_signal, .sa_flags = pending == ONE_RESTART ? SA_RESTART : 0}, before;
	sigset_t block, old, mask, left;
	timer_t timer;
	unsigned told = 0;
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigprocmask(pending == BLOCKED_MEANWHILE ? SIG_UNBLOCK : SIG_BLOCK, &block, &old);
	sigaction(SIGUSR1, &act, &before);
	handled = 0;
	if (pending == BLOCKED_MEANWHILE)
		comes_soon(SIGUSR1, &timer);
	else
		raise(SIGUSR1);
	mask = pending == BLOCKED_STILL || pending == BLOCKED_MEANWHILE ? block : old;
	CALL(r, by_names[by], waits(r, by, span, &mask, &told));
	out(r, " %04x handled=%d", told, (int)handled);
	sigprocmask(SIG_BLOCK, &block, NULL);
	while (pending == BLOCKED_MEANWHILE && !handled) /* what ended at once was before it */
		sigsuspend(&old);
	if (pending == BLOCKED_MEANWHILE)
		timer_delete(timer);
	sigpending(&left);
	out(r, " pending=%d", sigismember(&left, SIGUSR1));
	sigprocmask(SIG_SETMASK, &old, NULL);
	out(r, " handled=%d", (int)handled);
	sigaction(SIGUSR1, &before, NULL);
}

struct call_table masked_calls;

#define STORM_NS    50000 /* from one signal to the next */
#define STORM_WAITS 1500

/* Signals come all the time, also just before a wait and just after it. None ends one. */
static void call_masked_storm(struct run *r, long by, long unused)
{
	struct sigaction act = {.sa_handler = on_signal}, before;
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct itimerspec often = {{.tv_nsec = STORM_NS}, {.tv_nsec = STORM_NS}};
	struct timespec brief = {0, STORM_NS};
	struct epoll_event e = {.events = EPOLLPRI};
	sigset_t mask;
	timer_t timer;
	int ended = 0, ep = epoll_create1(0);
	epoll_ctl(ep, EPOLL_CTL_ADD, r->fd, &e);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigaction(SIGUSR1, &act, &before);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0 || timer_settime(timer, 0, &often, NULL) < 0)
		exit(99);
	for (int i = 0; i < STORM_WAITS; i++) {
		struct pollfd p = {.fd = r->fd, .events = POLLPRI};
		fd_set set;
		FD_ZERO(&set);
		FD_SET(r->fd, &set);
		int n = by == PPOLL ? ppoll(&p, 1, &brief, &mask) : by == PSELECT ? pselect(r->fd + 1, NULL, NULL, &set, &brief, &mask) : epoll_pwait2(ep, &e, 1, &brief, &mask);
		ended += n < 0;
	}
	timer_delete(timer);
	sigaction(SIGUSR1, &before, NULL);
	close(ep);
	out(r, "storm: %d", ended);
}

__attribute__((constructor)) static void make_calls(void)
{
	struct call *calls = calloc(BY_COUNT * (SPAN_COUNT * PENDING_COUNT + 1), sizeof *calls);
	unsigned n = 0;
	for (int by = 0; by < BY_COUNT; by++)
		for (int span = 0; span < SPAN_COUNT; span++)
			for (int pending = 0; pending < PENDING_COUNT; pending++) {
				/* so long that what comes later comes just then */
				bool waits = span == EVER || (span == BRIEF && pending != BLOCKED_MEANWHILE);
				char *name;
				if (span == AT_ONCE && pending == BLOCKED_MEANWHILE)
					continue;
				if (asprintf(&name, "masked.%s.%s.%s", by_names[by], span_names[span], pending_names[pending]) < 0)
					exit(99);
				calls[n++] = (struct call){name, call_masked, by * SPAN_COUNT + span, pending, waits ? CALL_WAITS : 0};
			}
	calls[n++] = (struct call){"masked.ppoll.storm", call_masked_storm, PPOLL, 0, 0};
	calls[n++] = (struct call){"masked.pselect.storm", call_masked_storm, PSELECT, 0, 0};
	calls[n++] = (struct call){"masked.epoll_pwait2.storm", call_masked_storm, EPOLL_PWAIT2, 0, 0};
	masked_calls = (struct call_table){calls, n};
}
