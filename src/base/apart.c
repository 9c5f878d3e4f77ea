#include "base/apart.h"

#include <linux/close_range.h>
#include <pthread.h>

#include "base/sys.h"

struct apart {
	void (*function)(void *);
	void *arg;
};

static void *apart_main(void *arg)
{
	struct apart *a = arg;
	sys_call(SYS_close_range, 0, ~0u, CLOSE_RANGE_UNSHARE, 0, 0, 0);
	a->function(a->arg);
	return NULL;
}

/* The caller may be between two cancellation points of the program's. */
static void wait_for(pthread_t thread)
{
	int cancel_state;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	pthread_join(thread, NULL);
	pthread_setcancelstate(cancel_state, NULL);
}

void apart_call(void (*function)(void *), void *arg)
{
	struct apart a = {.function = function, .arg = arg};
	sigset_t all, before;
	pthread_t thread;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int err = pthread_create(&thread, NULL, apart_main, &a);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err)
		function(arg);
	else
		wait_for(thread);
}
