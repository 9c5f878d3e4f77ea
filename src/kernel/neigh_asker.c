#include "kernel/neigh_asker.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/fd.h"
#include "base/thread.h"
#include "kernel/netlink.h"
#include "kernel/netstate_internal.h"

#define ENDING_MAX 4u
#define ASKS_MAX 64u /* waiting; and as many failures */

struct queue {
	struct neigh_ask asks[ASKS_MAX];
	unsigned first, n;
};

struct neigh_asker {
	int fd;
	pthread_t threads[ENDING_MAX]; /* under the engine's lock: the last one may tell, the others have told and wait for a CPU, to end */
	unsigned n_threads;   /* the same */
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

/*
 * Nobody waits here for those that still end; but none is let out of sight, since a process may have to be alone
 * (unshare).
 */
static void join_ended(struct neigh_asker *a)
{
	unsigned left = 0;
	for (unsigned i = 0; i < a->n_threads; i++)
		if (!thread_try_join(a->threads[i]))
			a->threads[left++] = a->threads[i];
	a->n_threads = left;
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
	join_ended(a);
	if (a->n_threads < ENDING_MAX && thread_start(&a->threads[a->n_threads], asker_main, a) == 0) {
		a->n_threads++;
		return true;
	}
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
	for (unsigned i = 0; a && i < a->n_threads; i++)
		thread_join(a->threads[i]);
	if (a)
		a->n_threads = 0;
}

void neigh_asker_free(struct neigh_asker *a)
{
	if (!a)
		return;
	pthread_mutex_lock(&a->lock);
	bool tells = a->tells;
	if (tells) {
		a->abandoned = true;
		for (unsigned i = 0; i < a->n_threads; i++)
			pthread_detach(a->threads[i]);
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
