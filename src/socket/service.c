/* The helper thread's other work: it answers `finesse stat`, and fork children that ask for what they inherited. */
#include "socket/engine.h"
#include "socket/leaving.h"

#include "base/fd.h"
#include "base/log.h"
#include "kernel/sandbox.h"

#include <errno.h>

static struct engine *engine_of(struct drive *d)
{
	return container_of(d, struct engine, drive);
}

unsigned service_fds(struct drive *d, struct pollfd *out, unsigned max)
{
	struct engine *e = engine_of(d);
	out[0] = (struct pollfd){.fd = e->stat_fd, .events = POLLIN};
	(void)max; /* at least 2 */
	return 1 + control_fds(e, out + 1);
}

void service_run(struct drive *d, const struct pollfd *fds, unsigned n)
{
	struct engine *e = engine_of(d);
	if (n > 1 && fds[1].revents)
		control_serve(e);
	if (fds[0].revents)
		stat_serve(e, e->stat_fd);
	fork_tell_shim(e);
	death_serve(e);
}

/*
 * Beside the kernel's TCP it only answers `finesse stat`. That is not worth a number that the program misses, nor its
 * end by a filter.
 */
static int helper_is_allowed(const struct engine *e)
{
	if (!sandbox_lets_helper())
		return -EPERM;
	return e->up || e->drive.helper_runs || fd_has_room() ? 0 : -EMFILE;
}

int helper_start(struct engine *e)
{
	int allowed = helper_is_allowed(e);
	if (allowed)
		return allowed;
	if (e->stat_fd < 0) {
		e->stat_fd = stat_listen();
		if (e->stat_fd < 0)
			log_debug("helper", "the stat socket could not be made (errno %d)", -e->stat_fd);
	}
	int err = drive_helper_start(&e->drive);
	if (err) {
		fd_close(e->stat_fd);
		e->stat_fd = -1;
	}
	return err;
}

void helper_stop(struct engine *e)
{
	rejudge_pause(e);
	drive_helper_stop(&e->drive);
	fd_close(e->stat_fd);
	e->stat_fd = -1;
}

void helper_leave(struct engine *e)
{
	drive_helper_leave(&e->drive);
	fd_close(e->stat_fd);
	e->stat_fd = -1;
}

void helper_after_fork(struct engine *e)
{
	drive_after_fork(&e->drive);
	death_after_fork(e);
	stat_after_fork();
	fd_close(e->stat_fd);
	e->stat_fd = -1;
}

bool engine_stop_thread(void)
{
	struct engine *e = engine_of_process();
	engine_lock(e);
	bool had = e->drive.helper_runs;
	if (had)
		helper_stop(e);
	netstate_pause(e->net);
	engine_unlock(e);
	return had;
}

void engine_start_thread(void)
{
	struct engine *e = engine_of_process();
	engine_lock(e);
	helper_start(e);
	engine_unlock(e);
}
