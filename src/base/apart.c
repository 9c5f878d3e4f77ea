#include "base/apart.h"

#include <linux/close_range.h>

#include "base/sys.h"
#include "base/thread.h"

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

void apart_call(void (*function)(void *), void *arg)
{
	struct apart a = {.function = function, .arg = arg};
	pthread_t thread;
	if (thread_start(&thread, apart_main, &a))
		function(arg);
	else
		thread_join(thread);
}
