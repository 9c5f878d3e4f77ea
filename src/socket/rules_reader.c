#include "socket/rules_reader.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>

#include "base/sys.h"
#include "kernel/firewall.h"

struct rules_reader {
	pthread_t thread;
	bool runs; /* it is to be joined */
	int timer_fd;
	struct firewall *read;
	int err;
	char why[160];
	_Atomic bool done; /* the three before it are the caller's */
};

static void *reader_main(void *arg)
{
	struct rules_reader *r = arg;
	const struct itimerspec at_once = {.it_value.tv_nsec = 1};
	r->err = firewall_read(&r->read, r->why, sizeof r->why);
	atomic_store(&r->done, true);
	sys_call(SYS_timerfd_settime, r->timer_fd, 0, &at_once, NULL, 0, 0);
	return NULL;
}

struct rules_reader *rules_reader_begin(int timer_fd)
{
	sigset_t all, before;
	struct rules_reader *r = calloc(1, sizeof *r);
	if (!r)
		return NULL;
	r->timer_fd = timer_fd;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r->runs = pthread_create(&r->thread, NULL, reader_main, r) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r->runs)
		return r;
	free(r);
	return NULL;
}

bool rules_reader_is_done(const struct rules_reader *r)
{
	return atomic_load(&r->done);
}

void rules_reader_join(struct rules_reader *r)
{
	int cancel_state;
	if (!r->runs)
		return;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	pthread_join(r->thread, NULL);
	pthread_setcancelstate(cancel_state, NULL);
	r->runs = false;
}

int rules_reader_end(struct rules_reader *r, struct firewall **out, char *why, size_t why_len)
{
	rules_reader_join(r);
	int err = r->err;
	*out = r->read;
	snprintf(why, why_len, "%s", r->why);
	free(r);
	return err;
}

void rules_reader_forget(struct rules_reader *r)
{
	if (r && atomic_load(&r->done) && !r->err)
		firewall_free(r->read);
	free(r);
}
