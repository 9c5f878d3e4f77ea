/*
 * The thread-local state by which the shim's signal trampoline and the engine agree; the rules are in sock.h.
 * Initial-exec: the shared object is loaded at start, so a signal handler reaches these without an allocation.
 */
#include "socket/sock.h"

ENGINE_THREAD int engine_inside;
ENGINE_THREAD int engine_signal_pending;
ENGINE_THREAD unsigned engine_handlers_run;
ENGINE_THREAD unsigned engine_handlers_norestart;
ENGINE_THREAD struct timespec *engine_wait_timeout;

static void nothing_deferred(void)
{
}

void (*engine_on_leave)(void) = nothing_deferred;
