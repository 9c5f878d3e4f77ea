#include "base/aside.h"

#include "base/sys.h"
#include "base/thread.h"

static void make_call(struct aside *a)
{
	a->result = sys_call6(a->nr, a->args[0], a->args[1], a->args[2], a->args[3], a->args[4], a->args[5]);
	__atomic_store_n(&a->ended, true, __ATOMIC_RELEASE);
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
	a->ended = false;
	a->runs = thread_start(&a->thread, aside_main, a) == 0;
	if (!a->runs)
		make_call(a);
}

bool aside_has_ended(const struct aside *a)
{
	return __atomic_load_n(&a->ended, __ATOMIC_ACQUIRE);
}

long aside_wait(struct aside *a)
{
	if (!a->runs)
		return a->result;
	thread_join(a->thread);
	a->runs = false;
	return a->result;
}
