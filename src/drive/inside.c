/* The thread's state by which the shim and the engine agree: see inside.h. */
#include "drive/inside.h"

#include <stddef.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

ENGINE_THREAD int engine_inside;
ENGINE_THREAD int engine_signal_pending;
ENGINE_THREAD struct handlers_run engine_handlers;
ENGINE_THREAD struct handlers_run engine_handlers_at_call;
ENGINE_THREAD struct timespec *engine_wait_timeout;
ENGINE_THREAD struct undo *engine_undos;
_Atomic unsigned engine_setxids_begun, engine_setxids_ended;

static void nothing(void)
{
}

static bool nothing_is_up(void)
{
	return false;
}

void (*engine_on_leave)(void) = nothing;
bool (*engine_on_interrupt)(void) = nothing_is_up;

/* glibc's older entry points: unlike pthread_cleanup_push's they also serve a longjmp that leaves the frame. */
void _pthread_cleanup_push(struct _pthread_cleanup_buffer *buffer, void (*routine)(void *), void *arg);
void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *buffer, int execute);

static ENGINE_THREAD struct undo *undo_floor; /* the innermost bracket's calls begin above it */

static ENGINE_THREAD struct undo *interrupted; /* handlers run in the calls from here on outwards */

bool undos_all_wait(void)
{
	return engine_undos == undo_floor;
}

struct undo *undos_handler_begins(bool give)
{
	struct undo *outer = interrupted;
	for (struct undo *u = give ? engine_undos : NULL; u && u != outer; u = u->outer)
		if (u->handler)
			u->handler(u, true);
	interrupted = engine_undos;
	return outer;
}

void undos_handler_ends(struct undo *outer, bool give)
{
	bool lost = false;
	for (struct undo *u = give ? engine_undos : NULL; u && u != outer; u = u->outer)
		if (u->handler)
			lost |= u->handler(u, false);
	engine_handlers.lost += lost;
	interrupted = outer;
}

void undos_handler_left(struct undo *outer)
{
	interrupted = outer;
}

static void undo_run(struct undo *floor)
{
	while (engine_undos && engine_undos != floor) {
		struct undo *u = engine_undos;
		engine_undos = u->outer; /* first: an undo may itself make calls */
		u->undo(u);
	}
}

/* AddressSanitizer does not hear of a cancellation's unwinding: the frames' red zones would stay on the stack. */
static void forget_frames(void)
{
#ifdef __SANITIZE_ADDRESS__
	__asan_handle_no_return();
#endif
}

static void unwind_run(void *arg)
{
	struct unwind *u = arg;
	forget_frames();
	if (u->undone)
		u->undone(u->arg);
	undo_run(u->floor);
	undo_floor = u->floor;
}

void unwind_begin(struct unwind *u, void (*undone)(void *), void *arg)
{
	u->undone = undone;
	u->arg = arg;
	u->floor = undo_floor;
	undo_floor = engine_undos;
	_pthread_cleanup_push(&u->buffer, unwind_run, u);
}

void unwind_end(struct unwind *u)
{
	_pthread_cleanup_pop(&u->buffer, 0);
	undo_floor = u->floor;
}
