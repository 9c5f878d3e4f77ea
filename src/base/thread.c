#include "base/thread.h"

#include "base/sys.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define PLENTY 1024 /* of RLIMIT_NPROC: nobody is near it */

int thread_start(pthread_t *out, void *(*main)(void *arg), void *arg)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int err = pthread_create(out, NULL, main, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -err;
}

static void *nothing(void *arg)
{
	return arg;
}

int thread_try(void)
{
	struct rlimit64 limit;
	pthread_t thread;
	if (sys_call(SYS_prlimit64, 0, RLIMIT_NPROC, 0, (long)&limit, 0, 0) < 0 || limit.rlim_cur >= PLENTY)
		return 0;
	int err = thread_start(&thread, nothing, NULL);
	if (!err)
		thread_join(thread);
	return err;
}

void thread_join(pthread_t thread)
{
	int cancel_state;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	pthread_join(thread, NULL);
	pthread_setcancelstate(cancel_state, NULL);
}

bool thread_try_join(pthread_t thread)
{
	return pthread_tryjoin_np(thread, NULL) == 0;
}
