/*
 * What verbs have to say, put off until their thread has to wait.
 *
 * An event loop calls recv, send, send, close, and then waits. Sent verb by verb, that is an ACK, two segments, a FIN,
 * and a system call for each. Said at the wait, it is one segment, and one system call for all connections of the
 * round. So a verb may leave what it has to say to its thread's next wait. A wait that finds something at once is such
 * a verb, too: a client that hears that it is connected sends its request from the round after that, and the
 * handshake's last ACK rides on it.
 *
 * Bounds:
 *   - a verb that finds something older than PUT_OFF_AGE_US sends it first. So does everybody who takes the lock for
 *     anything but such a verb (drive_lock).
 *     The age is PUT_OFF_AGE_BUSY_US where the thread is busy: it has not had to wait for BUSY_AFTER_US, or lately it
 *     ran for longer than it waited; and no other thread leads, as one that waits has time. What a busy thread answers
 *     has waited for longer than that, and its flushes wake a peer that sleeps, at the sender's
 *     cost: a server of short connections would wake its client for each seven of them. Not where verbs take long,
 *     because they move much: in bulk the peer's window would wait. An ACK that may be delayed, and is all that its
 *     connection has to say, the verb leaves for the request, the answer or the FIN that it may ride on, but not for
 *     longer than the helper would: PUT_OFF_ACK_US;
 *   - the helper thread owns it meanwhile: it is awake or ticks, and sends what it finds at the end of its tick, 1 ms
 *     (4 while the program is calm: helper.c). So it is, too, where another thread leads: that
 *     one may sleep for long, and is not woken. Where the helper sleeps or leads, nothing is put off: nobody would look
 *     in time;
 *   - nobody else can know of a verb that was put off: the shim has it said before the program ends itself or reaches
 *     another process (preload/known.c). An end
 *     from outside within that time (SIGKILL, no memory left) loses it, as it loses what waits for the peer's window.
 *     Closing that, too, would take a copy of each verb's output where another process finds it, or the system call
 *     that putting off saves;
 *   - only a thread that has shown that it comes back, and soon, puts anything off. `rhythm` tells. It grows with each
 *     look for input (recv, accept, a wait) that
 *     comes within COME_BACK_US after a call that had something to say, and halves with one that comes later. When the
 *     helper has to speak for a thread, many looks must follow before it is trusted again; few, when that was the first
 *     time for long: it was not the program's doing then, but the machine's, which had no CPU for it.
 *   - a thread that sends at a rate, and looks for input never or in another thread, saves nothing by putting off, and
 *     each message would be late. Sending alone
 *     makes no rhythm, and one that was there halves whenever something has become old without a look.
 *   - whoever has received much (drive_ops.hurries) puts nothing off: the ACK is what its sender waits for.
 *   - a thread that looks for an answer again and again instead of waiting for it (recv without blocking, in a loop)
 *     comes to no wait. So the second verb in a
 *     row that finds nothing says what was put off, as a wait would. One such verb is usual in an event loop: it has
 *     read all that there was.
 */
#include "drive/drive.h"

#include "drive/waiter.h"

#define PUT_OFF_AGE_US 100
#define PUT_OFF_AGE_BUSY_US 200
#define BUSY_AFTER_US  2000
#define BUSY_FORGETS   8 /* a wait, and what the thread ran before it, counts for an eighth less with each wait that follows */
#define BUSY_VERB_US   5 /* its verbs take no longer, on an average */
#define PUT_OFF_ACK_US DRIVE_GRACE_US
#define COME_BACK_US   50  /* an event loop's calls are 1 to 20 us apart; a longer pause costs more latency than a system call is worth */
#define HELPER_LATE_US 100 /* beyond the age: the helper need not have been asked for less */
#define RHYTHM_TRUSTED 8
#define RHYTHM_MAX     32
#define RHYTHM_LATE    (-32)
#define EMPTY_USUAL    1
#define RHYTHM_PROVEN  1024 /* looks in time since it was late last */

/* Sends, and what else only speaks, leave `rhythm` alone; looks for input, in time, make it. */
enum verb { VERB_SPEAKS, VERB_LOOKS };

static void lose_rhythm(struct waiter *w)
{
	if (w->rhythm > 0)
		w->rhythm /= 2;
}

/* This thread makes a call. */
static void came_back(struct waiter *w, int64_t now, enum verb verb)
{
	int64_t spoke = w->spoke_us;
	w->spoke_us = 0;
	if (verb == VERB_SPEAKS)
		return;
	w->looked_us = now;
	if (!spoke)
		return;
	if (now - spoke <= COME_BACK_US) {
		w->rhythm += w->rhythm < RHYTHM_MAX;
		w->in_time += w->in_time < RHYTHM_PROVEN;
	} else {
		lose_rhythm(w);
	}
}

void putoff_forget(struct drive *d)
{
	__atomic_store_n(&d->put_off_us, 0, __ATOMIC_RELAXED);
	d->put_off_by = NULL;
}

void putoff_settle(struct drive *d)
{
	if (!d->put_off_us)
		return;
	d->now = d->ops->look(d);
	drive_end(d);
}

/* It has more to do than it gets done, or nearly. */
static bool is_busy(const struct drive *d, const struct waiter *w, int64_t now)
{
	if (!w || !w->woken_us || d->sched.seat)
		return false;
	return now - w->woken_us > BUSY_AFTER_US || w->slept_us < w->ran_us;
}

/* How old it may become. */
static int64_t age_allowed(const struct drive *d, int64_t now)
{
	if (!is_busy(d, d->put_off_by, now) || now - d->put_off_us > (int64_t)d->put_off_verbs * BUSY_VERB_US)
		return PUT_OFF_AGE_US;
	return PUT_OFF_AGE_BUSY_US;
}

void putoff_settle_late(struct drive *d)
{
	int64_t now = clock_now_us();
	if (d->put_off_us && now - d->put_off_us > age_allowed(d, now) + HELPER_LATE_US) {
		struct waiter *w = d->put_off_by;
		w->rhythm = w->in_time < RHYTHM_PROVEN ? RHYTHM_LATE : 0;
		w->in_time = 0;
	}
	putoff_settle(d);
}

void putoff_note_wait(struct drive *d)
{
	struct waiter *w = waiter_of_thread();
	if (!w)
		return;
	came_back(w, d->now, VERB_LOOKS);
	if (w->woken_us && d->now - w->woken_us > DRIVE_AWAY_US)
		__atomic_store_n(&d->away, true, __ATOMIC_RELAXED);
	w->waited_us = d->now;
}

static int64_t average_in(int64_t sum, int64_t us)
{
	return sum - sum / BUSY_FORGETS + min_time(us, BUSY_AFTER_US); /* a night's sleep is soon forgotten */
}

void putoff_note_woken(struct drive *d, struct waiter *w)
{
	if (w->woken_us)
		w->ran_us = average_in(w->ran_us, w->waited_us - w->woken_us);
	w->slept_us = average_in(w->slept_us, d->now - w->waited_us);
	w->woken_us = d->left_us = d->now;
}

/* The helper will look within its tick, and nobody else has to be told. */
static bool has_owner(const struct drive *d)
{
	return d->sched.helper == HELPER_TICKS || d->sched.helper == HELPER_AWAKE;
}

bool putoff_is_sound(const struct drive *d)
{
	return !d->put_off_us || has_owner(d);
}

/* What was put off is old. */
static void say_old(struct drive *d)
{
	if (d->now - d->unsaid_us > PUT_OFF_ACK_US) {
		drive_end(d);
		return;
	}
	d->ops->end_urgent(d);
	d->put_off_verbs = 0;
	if (d->ops->owes(d))
		__atomic_store_n(&d->put_off_us, d->now, __ATOMIC_RELAXED);
	else
		putoff_forget(d);
	drive_check_deadline(d);
}

static void enter(struct drive *d, enum verb verb)
{
	drive_lock_only(d);
	drive_begin(d);
	struct waiter *w = waiter_of_thread();
	if (w)
		came_back(w, d->now, verb);
	if (!d->put_off_us || d->now - d->put_off_us <= age_allowed(d, d->now))
		return;
	struct waiter *by = d->put_off_by;
	if (by && by->looked_us < d->put_off_us)
		lose_rhythm(by);
	say_old(d);
}

void drive_enter_verb(struct drive *d)
{
	enter(d, VERB_SPEAKS);
}

void drive_enter_look(struct drive *d)
{
	enter(d, VERB_LOOKS);
}

void drive_enter_wait(struct drive *d)
{
	drive_waiter(d); /* the thread's record is there also when it never has to block */
	drive_enter_look(d);
}

/*
 * Where threads follow each other on the seat, the helper may sleep through it all. A thread in full rhythm wakes it,
 * once per pause of the program: from then on it ticks, as long as they go on.
 */
static bool find_owner(struct drive *d, const struct waiter *w)
{
	if (d->sched.helper == HELPER_SLEEPS && w->rhythm == RHYTHM_MAX)
		drive_helper_wake(d);
	return has_owner(d);
}

/* A verb of thread `w` (NULL: it never waited) ends. */
static void leave(struct drive *d, struct waiter *w)
{
	if (!w || !d->ops->owes(d) || d->ops->hurries(d)) {
		drive_leave(d);
		return;
	}
	w->spoke_us = d->now;
	if (w->rhythm < RHYTHM_TRUSTED || !find_owner(d, w) || d->ops->tx_blocked(d)) {
		drive_leave(d);
		return;
	}
	if (!d->put_off_us) {
		__atomic_store_n(&d->put_off_us, d->now, __ATOMIC_RELAXED);
		d->unsaid_us = d->now;
		d->put_off_verbs = 0;
	}
	d->put_off_verbs++;
	d->put_off_by = w;
	drive_unlock(d);
}

void drive_leave_verb(struct drive *d)
{
	struct waiter *w = waiter_of_thread();
	if (w)
		w->empty = 0;
	leave(d, w);
}

void drive_leave_empty(struct drive *d)
{
	struct waiter *w = waiter_of_thread();
	if (w && w->empty++ >= EMPTY_USUAL)
		drive_leave(d);
	else
		leave(d, w);
}
