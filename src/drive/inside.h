/*
 * What the shim's signal trampoline and the engine agree on, per thread. The shim gives every handler of the program a
 * trampoline that looks at these variables. Initial-exec TLS: the shared object is loaded at start, so a handler
 * reaches them without an allocation.
 *
 * Rules:
 * - engine_enter() before the engine's lock is taken, engine_leave() after it is released. A handler that comes in
 *   between is deferred; it runs inside
 *   engine_leave(), with no lock held, and may call any verb or longjmp away. Never hold the lock over anything that
 *   may run the program's code.
 * - A wait (ppoll, futex) happens with engine_inside 0. It passes the kernel a timespec of its own (never NULL: a long
 *   one instead) and points
 *   engine_wait_timeout at it from before its last look at the counters until the wait returned. The trampoline zeroes
 *   it before it runs a handler, so that the wait returns at once and no signal is lost; and it calls
 *   engine_on_interrupt, because a handler may take long, or never return.
 * - Whether a signal ends the verb is told by the counters, compared with their values at entry, never by EINTR alone:
 *   poll, select, epoll and calls with
 *   SO_RCVTIMEO/SO_SNDTIMEO end with -EINTR when engine_handlers.all moved; other verbs only when
 *   engine_handlers.norestart moved (a handler without SA_RESTART). The call's entry is the shim's (engine_call): what
 *   the call does before it waits may take long, a first accept in a child brings an engine up, and a handler that runs
 *   meanwhile ends the wait all the same. The trampoline keeps the entry's values over the handler, which makes calls
 *   of its own.
 * - What a call holds while it may wait (a reference, a number) is on the thread's list of undos. The list is run when
 *   the call's frames are left by
 *   longjmp, pthread_exit or cancellation instead of by return.
 * - To the program a handler runs after the call that it interrupts: Linux has let go of the file by then, and looks at
 *   the number anew if it starts the call
 *   again. So what a waiting call holds of the program's it gives up before a handler runs (undo.handler), and takes
 *   back afterwards, if that is still at its number. Otherwise the call is lost: its wait ends with -EINTR; or with
 *   -ERESTART, on which the shim looks at the number again.
 */
#ifndef FINESSE_DRIVE_INSIDE_H
#define FINESSE_DRIVE_INSIDE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#define ENGINE_THREAD _Thread_local __attribute__((tls_model("initial-exec")))

extern ENGINE_THREAD int engine_inside;
extern ENGINE_THREAD int engine_signal_pending;          /* set by the trampoline when it deferred */
/* Handlers of the program that have run on this thread; `norestart`: these without SA_RESTART. */
struct handlers_run {
	unsigned all, norestart;
	unsigned lost; /* … that made a call lose what it held */
	bool moved; /* of a call: it has taken or given something, and `all` is of then (drive_wait_moved) */
};
extern ENGINE_THREAD struct handlers_run engine_handlers;
extern ENGINE_THREAD struct handlers_run engine_handlers_at_call; /* … when the call that is under way was entered */
extern ENGINE_THREAD struct timespec *engine_wait_timeout;
extern void (*engine_on_leave)(void);     /* the shim's: runs what was deferred on this thread */
/* the engine's: a handler is about to interrupt this thread's wait. False: the lock is not to be had any more */
extern bool (*engine_on_interrupt)(void);

/*
 * libc's setuid and its kin (setxid): each other thread makes the change in a handler of libc's own, which no
 * trampoline sees. The shim brackets such calls, so that the helper thread takes what ends its sleep then for no stop
 * of the process (stopped.c). Any thread, no lock.
 */
extern _Atomic unsigned engine_setxids_begun, engine_setxids_ended;

static inline void engine_setxid_begin(void)
{
	engine_setxids_begun++;
}

static inline void engine_setxid_end(void)
{
	engine_setxids_ended++;
}

/* A call of the program that may wait begins. */
static inline void engine_call(void)
{
	if (!engine_inside)
		engine_handlers_at_call = engine_handlers;
}

static inline void engine_enter(void)
{
	engine_inside++;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void engine_leave(void)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	engine_inside--;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (__builtin_expect(engine_signal_pending, 0) && engine_inside == 0)
		engine_on_leave();
}

/* ---- what is undone when a call's frames are left without a return ---- */

/*
 * Embedded in the frame of the call that holds something. `undo` runs on the call's thread, with no lock held, before
 * the frame is gone.
 */
struct undo {
	struct undo *outer;
	void (*undo)(struct undo *u);
	/*
	 * Around a handler that runs in the call's wait, before it (begins) and after it. The latter: was what it held
	 * lost? NULL: nothing is given up.
	 */
	bool (*handler)(struct undo *u, bool begins);
};

extern ENGINE_THREAD struct undo *engine_undos; /* the innermost */

static inline void undo_push(struct undo *u, void (*undo)(struct undo *))
{
	u->undo = undo;
	u->handler = NULL;
	u->outer = engine_undos;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	engine_undos = u;
}

/* Pushes and pops nest: a handler that ran in between has popped its own. */
static inline void undo_pop(struct undo *u)
{
	engine_undos = u->outer;
}

/* In a wait, or a handler: no call has begun within it. A call that is not in its wait gives up nothing. */
bool undos_all_wait(void);
/*
 * The trampoline's, inside, around a handler: the calls from the result on inwards are those that it interrupts.
 * `give`: they wait, and give up what they hold.
 */
struct undo *undos_handler_begins(bool give);
void undos_handler_ends(struct undo *outer, bool give);
/* … or the handler is left otherwise than by return. */
void undos_handler_left(struct undo *outer);

/*
 * Around anything that may be left by longjmp, pthread_exit or cancellation: a wait's system call, a handler of the
 * program. When that happens, `undone` runs first, then the undos of the calls within this bracket; frames are still
 * there. Both run without the engine's lock. glibc calls us back (pthread_cleanup_push(3) by its older entry points,
 * which longjmp serves, too).
 */
struct unwind {
	struct _pthread_cleanup_buffer buffer;
	struct undo *floor; /* undos from here on belong to whatever was interrupted */
	void (*undone)(void *arg); /* or NULL */
	void *arg;
};
void unwind_begin(struct unwind *u, void (*undone)(void *), void *arg);
void unwind_end(struct unwind *u);

#endif
