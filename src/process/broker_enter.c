/*
 * Maps entered in maps of maps for members: for each change the kernel waits until no program uses the map before any more, an RCU grace period. That is no concern of who
 * enters one: the change itself is made at once. So the call is made aside, and the member is answered when the map is found there.
 *
 * A member could do all of it itself: it has the descriptors, and the kernel asks for no more than these.
 */
#include "process/broker.h"

#include <errno.h>

#include "base/aside.h"
#include "base/fd.h"
#include "base/sys.h"
#include "kernel/bpf_sys.h"

#define ENTERING_MAX 16
#define LOOK_NS      20000L

static struct entering {
	bool runs;
	struct bpf_aside call;
	uint32_t key;
	int inner; /* a number that the call reads when it begins */
} entering[ENTERING_MAX];
static unsigned next;

static int end(struct entering *e)
{
	int ret = e->runs ? bpf_map_update_end(&e->call) : 0;
	e->runs = false;
	return ret;
}

static void end_those_over(void)
{
	for (struct entering *e = entering; e < entering + ENTERING_MAX; e++)
		if (e->runs && aside_has_ended(&e->call.call))
			end(e);
}

static struct entering *begin(int map_fd, uint32_t key, int inner_fd)
{
	struct entering *e = &entering[next++ % ENTERING_MAX];
	end(e); /* the oldest; mostly it is over */
	e->key = key;
	e->inner = inner_fd;
	e->runs = true;
	bpf_map_update_begin(&e->call, map_fd, &e->key, &e->inner);
	return e;
}

static int await(struct entering *e, int map_fd)
{
	while (!aside_has_ended(&e->call.call)) {
		if (bpf_map_holds(map_fd, e->key, e->inner))
			return 0;
		sys_ppoll(NULL, 0, &(struct timespec){.tv_nsec = LOOK_NS}, NULL);
	}
	return end(e);
}

int broker_enter(const uint32_t *key, const struct broker_fds *in)
{
	struct entering *e[PRIVILEGED_ENTER_MAX];
	int n = in->n / 2, err = 0;
	if (in->n % 2 || n < 1 || n > PRIVILEGED_ENTER_MAX)
		return -EINVAL;
	for (int i = 0; i < n; i++)
		if (!bpf_map_is(in->fd[2 * i], BPF_MAP_TYPE_ARRAY_OF_MAPS, sizeof(uint32_t), sizeof(uint32_t)))
			return -EINVAL;
	end_those_over();
	for (int i = 0; i < n; i++) { /* of what is there already a call would not be seen to have begun */
		bool is_there = bpf_map_holds(in->fd[2 * i], key[i], in->fd[2 * i + 1]);
		e[i] = is_there ? NULL : begin(in->fd[2 * i], key[i], in->fd[2 * i + 1]);
	}
	for (int i = 0; i < n; i++) {
		int one = e[i] ? await(e[i], in->fd[2 * i]) : 0;
		err = err < 0 ? err : one;
	}
	return err;
}
