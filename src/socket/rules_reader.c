#include "socket/rules_reader.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>

#include "base/sys.h"
#include "base/thread.h"
#include "base/time.h"
#include "kernel/firewall.h"
#include "kernel/privileged.h"

#define ANSWER_US (20 * USEC_PER_MSEC) /* who forks, or ends, does not wait longer for the broker's answer */
#define REST_US   (2 * USEC_PER_SEC)   /* some looks' time */

/* What the thread does: its owner sets READS and ENDS, it the others. */
enum { READS, RESTS, ENDS, ENDED };

struct rules_reader {
	pthread_t thread;
	bool runs; /* it is to be joined */
	uint32_t state; /* atomic, a futex */
	int timer_fd;
	struct firewall_look *look; /* NULL: it reads the rules */
	struct firewall_sight sight;
	int broker_fd; /* by it the broker is asked what this process may not see; negative: it is not */
	uint32_t generation;
	struct firewall *read;
	int err;
	char why[160];
	_Atomic bool done; /* what is before it is the caller's */
};

static void see(struct rules_reader *r)
{
	firewall_see(&r->sight, r->look);
	if (r->sight.untold == -EPERM && r->broker_fd >= 0)
		r->sight.untold = privileged_look(r->broker_fd, &r->generation);
}

static bool turns(struct rules_reader *r, uint32_t from, uint32_t to)
{
	return __atomic_compare_exchange_n(&r->state, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static void tell_thread(struct rules_reader *r)
{
	sys_call(SYS_futex, &r->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* True: there is another job. */
static bool rest(struct rules_reader *r)
{
	const struct timespec most = timespec_of(REST_US);
	int err = 0;
	while (__atomic_load_n(&r->state, __ATOMIC_SEQ_CST) == RESTS) {
		if (err == -ETIMEDOUT && turns(r, RESTS, ENDED))
			return false;
		err = sys_call(SYS_futex, &r->state, FUTEX_WAIT_PRIVATE, RESTS, &most, NULL, 0);
	}
	return __atomic_load_n(&r->state, __ATOMIC_SEQ_CST) == READS;
}

static void *reader_main(void *arg)
{
	struct rules_reader *r = arg;
	const struct itimerspec at_once = {.it_value.tv_nsec = 1};
	bool rests;
	do {
		if (r->look)
			see(r);
		else
			r->err = firewall_read(&r->read, r->why, sizeof r->why);
		int timer_fd = r->timer_fd;
		rests = turns(r, READS, RESTS);
		atomic_store(&r->done, true);
		/* it may be the next job's already, which is not done: nothing happens then */
		sys_call(SYS_timerfd_settime, timer_fd, 0, &at_once, NULL, 0, 0);
	} while (rests && rest(r));
	return NULL;
}

/* NULL where there is no thread. */
static struct rules_reader *reader_run(struct rules_reader *r)
{
	if (!r)
		return NULL;
	if (r->runs && turns(r, RESTS, READS)) {
		tell_thread(r);
		return r;
	}
	if (r->runs)
		thread_join(r->thread); /* it ends */
	r->state = READS;
	r->runs = thread_start(&r->thread, reader_main, r) == 0;
	if (r->runs)
		return r;
	free(r);
	return NULL;
}

static struct rules_reader *reader_new(struct rules_reader *resting, int timer_fd)
{
	struct rules_reader *r = resting ? resting : calloc(1, sizeof *r);
	if (!r)
		return NULL;
	atomic_store(&r->done, false);
	r->timer_fd = timer_fd;
	r->look = NULL;
	r->read = NULL;
	r->err = 0;
	r->why[0] = 0;
	return r;
}

struct rules_reader *rules_reader_begin(struct rules_reader *resting, int timer_fd)
{
	return reader_run(reader_new(resting, timer_fd));
}

struct rules_reader *rules_reader_begin_look(struct rules_reader *resting, int timer_fd, const struct firewall_sight *sight, struct firewall_look *look, int broker_fd,
					     uint32_t generation)
{
	struct rules_reader *r = reader_new(resting, timer_fd);
	if (r) {
		r->look = look;
		r->sight = *sight;
		r->broker_fd = broker_fd;
		r->generation = generation;
	}
	return reader_run(r);
}

const struct firewall_sight *rules_reader_saw(const struct rules_reader *r, uint32_t *generation)
{
	*generation = r->generation;
	return r->look ? &r->sight : NULL;
}

bool rules_reader_is_done(const struct rules_reader *r)
{
	return atomic_load(&r->done);
}

int rules_reader_take(struct rules_reader *r, struct firewall **out, char *why, size_t why_len)
{
	*out = r->read;
	r->read = NULL;
	snprintf(why, why_len, "%s", r->why);
	return r->err;
}

void rules_reader_join(struct rules_reader *r)
{
	bool asks = !atomic_load(&r->done) && r->look && r->broker_fd >= 0;
	if (!r->runs)
		return;
	r->runs = false;
	__atomic_store_n(&r->state, ENDS, __ATOMIC_SEQ_CST);
	tell_thread(r);
	if (asks && thread_join_within(r->thread, ANSWER_US))
		return;
	if (asks)
		privileged_look_cut();
	thread_join(r->thread);
}

static void reader_free(struct rules_reader *r)
{
	if (atomic_load(&r->done) && !r->err)
		firewall_free(r->read);
	free(r);
}

void rules_reader_end(struct rules_reader *r)
{
	if (!r)
		return;
	rules_reader_join(r);
	reader_free(r);
}

void rules_reader_forget(struct rules_reader *r)
{
	if (r)
		reader_free(r);
}
