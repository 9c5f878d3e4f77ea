/*
 * Maps entered in maps of maps for members: for each change the kernel waits until no program uses the map before any
 * more, an RCU grace period. That is no concern of who enters one: the change itself is made at once. So the call is
 * made aside, and the member is answered when the map is found there.
 *
 * A member could do all of it itself: it has the descriptors, and the kernel asks for no more than these. What it gave
 * up waiting for it has done itself by now, and may have undone: that is not done late.
 *
 * A thread that has not begun yet has descriptors of its own: the member can enter the same map meanwhile, and then it
 * is answered, and its numbers are another's.
 */
#include "process/broker.h"

#include <errno.h>
#include <pthread.h>

#include "base/fd.h"
#include "base/sys.h"
#include "base/thread.h"
#include "base/time.h"
#include "kernel/bpf_sys.h"

#define ENTERING_MAX 16
#define LOOK_NS      20000L

static struct entering {
	bool runs;
	bool ended; /* atomic */
	uint32_t key;
	int map_fd, inner_fd; /* closed when the call has ended */
	int result;
	pthread_t thread;
} entering[ENTERING_MAX];
static unsigned next;

static bool has_ended(const struct entering *e)
{
	return __atomic_load_n(&e->ended, __ATOMIC_ACQUIRE);
}

static int end(struct entering *e)
{
	if (e->runs)
		thread_join(e->thread);
	e->runs = false;
	return e->result;
}

static void end_those_over(void)
{
	for (struct entering *e = entering; e < entering + ENTERING_MAX; e++)
		if (e->runs && has_ended(e))
			end(e);
}

static void *enter(void *arg)
{
	struct entering *e = arg;
	int inner = e->inner_fd;
	e->result = e->map_fd < 0 || inner < 0 ? -EMFILE : bpf_map_update(e->map_fd, &e->key, &inner);
	fd_close(e->map_fd);
	fd_close(inner);
	__atomic_store_n(&e->ended, true, __ATOMIC_RELEASE);
	return NULL;
}

static struct entering *begin(int map_fd, uint32_t key, int inner_fd)
{
	struct entering *e = &entering[next++ % ENTERING_MAX];
	end(e); /* the oldest; mostly it is over */
	*e = (struct entering){.runs = true, .key = key, .map_fd = fd_dup(map_fd), .inner_fd = fd_dup(inner_fd)};
	if (thread_start(&e->thread, enter, e)) {
		e->runs = false;
		enter(e);
	}
	return e;
}

static int await(struct entering *e, int map_fd, int inner_fd)
{
	while (!has_ended(e)) {
		if (bpf_map_holds(map_fd, e->key, inner_fd))
			return 0;
		sys_ppoll(NULL, 0, &(struct timespec){.tv_nsec = LOOK_NS}, NULL);
	}
	return end(e);
}

int broker_enter(const struct broker_request *r, const struct broker_fds *in)
{
	const uint32_t *key = r->enter.key;
	struct entering *e[PRIVILEGED_ENTER_MAX];
	int n = in->n / 2, err = 0;
	if (in->n % 2 || n < 1 || n > PRIVILEGED_ENTER_MAX || r->enter.n != (uint32_t)n)
		return -EINVAL;
	if (clock_now_us() >= r->enter.until_us)
		return -ETIMEDOUT;
	for (int i = 0; i < n; i++)
		if (!bpf_map_is(in->fd[2 * i], BPF_MAP_TYPE_ARRAY_OF_MAPS, sizeof(uint32_t), sizeof(uint32_t)))
			return -EINVAL;
	end_those_over();
	for (int i = 0; i < n; i++) { /* of what is there already a call would not be seen to have begun */
		bool is_there = bpf_map_holds(in->fd[2 * i], key[i], in->fd[2 * i + 1]);
		e[i] = is_there ? NULL : begin(in->fd[2 * i], key[i], in->fd[2 * i + 1]);
	}
	for (int i = 0; i < n; i++) {
		int one = e[i] ? await(e[i], in->fd[2 * i], in->fd[2 * i + 1]) : 0;
		err = err < 0 ? err : one;
	}
	return err;
}
