#include "kernel/neigh_asker.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/fd.h"
#include "base/thread.h"
#include "kernel/netlink.h"
#include "kernel/netstate_internal.h"

#define ASKS_MAX 64u /* waiting; and as many failures */

struct queue {
	struct neigh_ask asks[ASKS_MAX];
	unsigned first, n;
};

struct neigh_asker {
	int fd;
	pthread_t thread;     /* under the engine's lock */
	bool joinable;        /* the same */
	pthread_mutex_t lock; /* of what follows; never held over a call that waits */
	struct queue waiting, failed;
	bool tells, abandoned; /* the thread has not ended its loop; it is to free everything */
};

static bool push(struct queue *q, const struct neigh_ask *ask)
{
	if (q->n == ASKS_MAX)
		return false;
	q->asks[(q->first + q->n++) % ASKS_MAX] = *ask;
	return true;
}

static bool pop(struct queue *q, struct neigh_ask *out)
{
	if (!q->n)
		return false;
	*out = q->asks[q->first];
	q->first = (q->first + 1) % ASKS_MAX;
	q->n--;
	return true;
}

/* ---- the thread ---- */

static void destroy(struct neigh_asker *a)
{
	fd_close(a->fd);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

/* The next that waits. False: the thread ends. */
static bool next(struct neigh_asker *a, struct neigh_ask *ask)
{
	pthread_mutex_lock(&a->lock);
	bool abandoned = a->abandoned;
	bool has = !abandoned && pop(&a->waiting, ask);
	a->tells = has;
	pthread_mutex_unlock(&a->lock);
	if (abandoned)
		destroy(a);
	return has;
}

static void *asker_main(void *arg)
{
	struct neigh_asker *a = arg;
	struct neigh_ask ask;
	while (next(a, &ask)) {
		ask.err = netstate_ask_to_use(a->fd, ask.ifindex, &ask.addr);
		if (!ask.err)
			continue;
		pthread_mutex_lock(&a->lock);
		push(&a->failed, &ask); /* too many: those time out */
		pthread_mutex_unlock(&a->lock);
	}
	return NULL;
}

/* ---- its owner ---- */

struct neigh_asker *neigh_asker_new(void)
{
	struct neigh_asker *a = calloc(1, sizeof *a);
	int fd = fd_move_high(netlink_open(NETLINK_ROUTE));
	if (!a || fd < 0) {
		fd_close(fd);
		free(a);
		return NULL;
	}
	a->fd = fd;
	pthread_mutex_init(&a->lock, NULL);
	return a;
}

bool neigh_asker_tell(struct neigh_asker *a, int ifindex, const struct ip_addr *addr)
{
	const struct neigh_ask ask = {.ifindex = ifindex, .addr = *addr};
	struct neigh_ask unused;
	pthread_mutex_lock(&a->lock);
	bool tells = a->tells, taken = push(&a->waiting, &ask);
	a->tells = true;
	pthread_mutex_unlock(&a->lock);
	if (tells)
		return taken;
	if (a->joinable && !thread_try_join(a->thread)) /* it waits for a CPU, to end: nobody waits for that */
		pthread_detach(a->thread);
	a->joinable = false;
	a->joinable = thread_start(&a->thread, asker_main, a) == 0;
	if (a->joinable)
		return true;
	pop(&a->waiting, &unused);
	a->tells = false;
	return false;
}

bool neigh_asker_failure(struct neigh_asker *a, struct neigh_ask *out)
{
	pthread_mutex_lock(&a->lock);
	bool has = pop(&a->failed, out);
	pthread_mutex_unlock(&a->lock);
	return has;
}

void neigh_asker_join(struct neigh_asker *a)
{
	if (!a || !a->joinable)
		return;
	thread_join(a->thread);
	a->joinable = false;
}

void neigh_asker_free(struct neigh_asker *a)
{
	if (!a)
		return;
	pthread_mutex_lock(&a->lock);
	bool tells = a->tells;
	if (tells) {
		a->abandoned = true;
		pthread_detach(a->thread);
	}
	pthread_mutex_unlock(&a->lock);
	if (tells)
		return; /* from here on it is the thread's */
	neigh_asker_join(a);
	destroy(a);
}

void neigh_asker_forget(struct neigh_asker *a)
{
	if (a)
		destroy(a); /* the lock may be held by a thread that is not here */
}
