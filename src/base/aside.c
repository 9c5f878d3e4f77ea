#include "base/aside.h"

#include "base/sys.h"
#include "base/thread.h"

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
	a->nr = nr;
	for (int i = 0; i < 6; i++)
		a->args[i] = args[i];
	a->runs = thread_start(&a->thread, aside_main, a) == 0;
	if (!a->runs)
		make_call(a);
}

long aside_wait(struct aside *a)
{
	if (!a->runs)
		return a->result;
	thread_join(a->thread);
	a->runs = false;
	return a->result;
}
