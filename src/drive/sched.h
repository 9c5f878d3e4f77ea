/*
 * Who drives the engine: the rule, as a pure state machine. No locks, clocks or system calls; the caller holds the
 * engine's lock.
 *
 * The engine lives from events (frames, deadlines, netlink news). Somebody must wait for them at every moment, or the
 * peers hear nothing until the program calls again. That somebody has the *seat*. Invariant (sched_is_sound), at every
 * exit of the engine's lock:
 *
 *     exactly one of   a thread in its wait leads                     seat = thread, SCHED_LEADS
 *                      a follower was told to lead and is on its way  seat = thread, SCHED_PROMOTED
 *                      the helper thread leads or ticks               seat = NULL, the helper not asleep for good
 *
 *                 sched_wait                    sched_wait
 *        OUT ─────────────────► LEADS    OUT ───────────────► FOLLOWS
 *         ▲     seat is free      │       ▲    seat is taken   │   │ sched_leave of the seat's thread
 *         └───────────────────────┘       └────────────────────┘   ▼
 *               sched_leave            sched_leave, sched_signal  PROMOTED ──sched_wait──► LEADS
 *
 * A follower that has an event of its own leaves the machine at once (sched_signal), before its thread has run. So it
 * is never promoted: it will return to the program, not wait. Every way out of a wait (event, time-out, signal handler,
 * longjmp, cancellation, end of the thread) is sched_leave, which passes the seat on. Not thread-safe; nothing
 * allocates; no errors.
 */
#ifndef FINESSE_DRIVE_SCHED_H
#define FINESSE_DRIVE_SCHED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

enum sched_role {
	SCHED_OUT,      /* runs the program, or is about to */
	SCHED_FOLLOWS,  /* waits for an event of its own */
	SCHED_PROMOTED, /* was told to lead, has not come yet */
	SCHED_LEADS,    /* waits for everybody */
};

struct sched_thread {
	struct list node; /* sched.followers */
	enum sched_role role;
};

/* What the helper thread does, as it said when it last looked. */
enum sched_helper {
	HELPER_NONE,   /* there is no helper thread: before the engine is up, in a fork child, around unshare */
	HELPER_AWAKE,  /* it runs, or a wake-up for it is pending */
	HELPER_SLEEPS, /* until somebody wakes it */
	HELPER_TICKS,  /* it looks again within a tick */
	HELPER_LEADS,  /* it waits for the engine's events, like a leading thread */
};

struct sched {
	struct sched_thread *seat; /* NULL: the helper's */
	struct list followers;
	enum sched_helper helper;
	int64_t helper_until; /* HELPER_LEADS: when it wakes by itself, µs */
	int64_t back_us;      /* when the helper, which led, found that the program had driven meanwhile */
};

/* Whom the caller must wake; both may be empty. */
struct sched_wake {
	struct sched_thread *thread; /* was promoted */
	bool helper;
};

void sched_init(struct sched *s);
void sched_thread_init(struct sched_thread *t);

/* `t` begins to wait (again). True: it leads. */
bool sched_wait(struct sched *s, struct sched_thread *t);
/* `t` waits no longer, for whatever reason. Again: nothing. */
struct sched_wake sched_leave(struct sched *s, struct sched_thread *t);
/* An event of `t`'s own. True: it sleeps in its wait and must be woken. */
bool sched_signal(struct sched *s, struct sched_thread *t);

/*
 * The helper looks: what it is to do until it looks again. `driven_us`: when a thread of the program last drove;
 * `grace_us`: for so long after that, and after the helper found the program back, it leaves the engine to the program.
 * *until gets when it must look again (TIME_NEVER: when woken, or when an event comes).
 */
enum sched_helper sched_helper_look(struct sched *s, int64_t now, int64_t driven_us, int64_t grace_us, int64_t deadline, int64_t *until);
/* It woke up. */
void sched_helper_awake(struct sched *s);
/*
 * It led, and the program drove meanwhile: it leads again only when the program has had its grace time from now on.
 * Otherwise a program whose calls are farther apart than a short grace time would have a second driver for each frame,
 * and both would fight for the lock.
 */
void sched_helper_found_back(struct sched *s, int64_t now);
/* A deadline moved to `deadline`. True: the helper must be woken, its sleep is too long for it. */
bool sched_helper_is_late(const struct sched *s, int64_t deadline);

bool sched_is_sound(const struct sched *s);

#endif
