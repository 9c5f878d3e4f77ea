#include "socket/rules_reader.h"

#include <errno.h>
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

struct rules_reader {
	pthread_t thread;
	bool runs; /* it is to be joined */
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

static void *reader_main(void *arg)
{
	struct rules_reader *r = arg;
	const struct itimerspec at_once = {.it_value.tv_nsec = 1};
	if (r->look)
		see(r);
	else
		r->err = firewall_read(&r->read, r->why, sizeof r->why);
	atomic_store(&r->done, true);
	sys_call(SYS_timerfd_settime, r->timer_fd, 0, &at_once, NULL, 0, 0);
	return NULL;
}

static struct rules_reader *reader_new(int timer_fd)
{
	struct rules_reader *r = calloc(1, sizeof *r);
	if (r)
		r->timer_fd = timer_fd;
	return r;
}

/* NULL where there is no thread. */
static struct rules_reader *reader_run(struct rules_reader *r)
{
	if (!r)
		return NULL;
	r->runs = thread_start(&r->thread, reader_main, r) == 0;
	if (r->runs)
		return r;
	free(r);
	return NULL;
}

struct rules_reader *rules_reader_begin(int timer_fd)
{
	return reader_run(reader_new(timer_fd));
}

struct rules_reader *rules_reader_begin_look(int timer_fd, const struct firewall_sight *sight, struct firewall_look *look, int broker_fd, uint32_t generation)
{
	struct rules_reader *r = reader_new(timer_fd);
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

bool rules_reader_is_done(struct rules_reader *r)
{
	if (atomic_load(&r->done) && r->runs)
		r->runs = !thread_try_join(r->thread);
	return !r->runs;
}

bool rules_reader_is_ending(const struct rules_reader *r)
{
	return r->runs && atomic_load(&r->done);
}

void rules_reader_join(struct rules_reader *r)
{
	bool asks = r->look && r->broker_fd >= 0;
	if (!r->runs)
		return;
	r->runs = false;
	if (asks && thread_join_within(r->thread, ANSWER_US))
		return;
	if (asks)
		privileged_look_cut();
	thread_join(r->thread);
}

int rules_reader_end(struct rules_reader *r, struct firewall **out, char *why, size_t why_len)
{
	rules_reader_join(r);
	int err = r->err;
	*out = r->read;
	snprintf(why, why_len, "%s", r->why);
	free(r);
	return err;
}

void rules_reader_forget(struct rules_reader *r)
{
	if (r && atomic_load(&r->done) && !r->err)
		firewall_free(r->read);
	free(r);
}
