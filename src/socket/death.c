/*
 * Death by a signal: what the program had sent still arrives.
 *
 * The kernel's TCP goes on after a process that a signal ended: it sends what was written, then FIN, or RST where
 * something was unread, and it leaves to other processes what waits for accept on a listener that they have, too. Our
 * TCP dies with the process, so it must do before what it does at exit: hand everything over to the kernel. The shim's
 * handler of such signals (preload/death.c) may not do that itself. It may have interrupted malloc, or anything else.
 * So it asks the helper thread, which the signal did not interrupt, and waits:
 *
 *     handler                              helper
 *     death: ALIVE → ASKED, nudge  ──────► its next round: death_serve
 *     waits on the futex                   exit_locked
 *     the signal's default action ◄─────── death: DONE; keeps the lock and sleeps
 *
 * Where the kernel cannot take over, the helper waits for the peers (exit_drain), and says so first (DRAINS). No other
 * thread of the program meets the engine's remains: it stops at its next call, as if it had died by then
 * (drive_end_of_process; afterwards the helper keeps the lock). The handler waits for DEATH_BOUND_US, and as long as
 * the peers may be waited for, and then goes on, whatever the helper does: a thread that crashed may hold what the
 * helper needs. A crash inside the engine does not come here at all.
 *
 * A second signal, for another thread, changes nothing: the first one's is the process's end, and its thread goes on
 * waiting.
 *
 * Where a thread ends the process by exit, it says the same of its own doing: DRAINS, then DONE. A signal for another
 * thread waits for the first of these, not for the peers.
 */
#include "socket/engine.h"
#include "socket/leaving.h"

#include "base/sys.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>

#define DEATH_BOUND_US (2500 * USEC_PER_MSEC)

enum death { DEATH_NOT, DEATH_ASKED, DEATH_DRAINS, DEATH_DONE };

/* Until it has come so far; DEATH_NOT: as long as may be. */
static void await(const struct engine *e, uint32_t until)
{
	int64_t end = clock_now_us() + DEATH_BOUND_US;
	bool drains = false;
	for (;;) {
		uint32_t now = __atomic_load_n(&e->death, __ATOMIC_ACQUIRE);
		if (now == DEATH_DRAINS && !drains)
			end += EXIT_DRAIN_SHORT_US;
		drains = now == DEATH_DRAINS;
		int64_t left = end - clock_now_us();
		if ((until && now >= until) || left <= 0)
			return;
		struct timespec ts = timespec_of(left);
		sys_call(SYS_futex, &e->death, FUTEX_WAIT_PRIVATE, now, &ts, NULL, 0);
	}
}

int engine_before_death(struct engine *e)
{
	uint32_t alive = DEATH_NOT;
	if (!__atomic_load_n(&e->up, __ATOMIC_ACQUIRE))
		return -ESRCH;
	if (drive_ends_elsewhere(&e->drive)) { /* another thread ends the process already: what it hands over is not cut short */
		await(e, __atomic_load_n(&e->dies, __ATOMIC_ACQUIRE) ? DEATH_NOT : DEATH_DRAINS);
		return -EALREADY;
	}
	if (!__atomic_load_n(&e->drive.helper_runs, __ATOMIC_ACQUIRE))
		return -ESRCH;
	__atomic_store_n(&e->dies, true, __ATOMIC_RELEASE); /* before the helper knows */
	if (!__atomic_compare_exchange_n(&e->death, &alive, DEATH_ASKED, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
		await(e, DEATH_NOT); /* the first one's signal is the process's end */
		return -EALREADY;
	}
	drive_helper_nudge(&e->drive);
	await(e, DEATH_DONE);
	return __atomic_load_n(&e->death, __ATOMIC_ACQUIRE) == DEATH_DONE ? 0 : -ETIMEDOUT;
}

void death_after_fork(struct engine *e)
{
	__atomic_store_n(&e->death, DEATH_NOT, __ATOMIC_RELEASE);
	__atomic_store_n(&e->dies, false, __ATOMIC_RELEASE);
}

static void say(struct engine *e, enum death now)
{
	__atomic_store_n(&e->death, now, __ATOMIC_RELEASE);
	sys_call(SYS_futex, &e->death, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void death_drains(struct engine *e)
{
	if (e->drive.last)
		say(e, DEATH_DRAINS);
}

void death_is_over(struct engine *e)
{
	say(e, DEATH_DONE);
}

void death_serve(struct engine *e)
{
	if (__atomic_load_n(&e->death, __ATOMIC_ACQUIRE) != DEATH_ASKED)
		return;
	exit_locked(e, true, EXIT_DRAIN_SHORT_US);
	for (;;)
		sys_ppoll(NULL, 0, NULL, NULL);
}
