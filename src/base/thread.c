#include "base/thread.h"

#include <signal.h>

int thread_start(pthread_t *out, void *(*main)(void *arg), void *arg)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int err = pthread_create(out, NULL, main, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -err;
}

void thread_join(pthread_t thread)
{
	int cancel_state;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	pthread_join(thread, NULL);
	pthread_setcancelstate(cancel_state, NULL);
}
