#include "base/aside.h"

#include "base/sys.h"

static void make_call(struct aside *a)
{
	a->result = sys_call6(a->nr, a->args[0], a->args[1], a->args[2], a->args[3], a->args[4], a->args[5]);
}

static void *aside_main(void *arg)
{
	make_call(arg);
	return NULL;
}

void aside_begin(struct aside *a, long nr, const long args[6])
{
	sigset_t all, before;
	a->nr = nr;
	for (int i = 0; i < 6; i++)
		a->args[i] = args[i];
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	a->runs = pthread_create(&a->thread, NULL, aside_main, a) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!a->runs)
		make_call(a);
}

/* The caller may be between two cancellation points of the program's. */
long aside_wait(struct aside *a)
{
	int cancel_state;
	if (!a->runs)
		return a->result;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	pthread_join(a->thread, NULL);
	pthread_setcancelstate(cancel_state, NULL);
	a->runs = false;
	return a->result;
}
