/*
 * The process's end by its own will: exit, _exit, quick_exit, and the return of a clone's child. The engine is told
 * once (socket/handover.c).
 *
 * What the program's last handlers and destructors send must still go out, so the engine ends after all of them.
 * exit(3) runs one list of handlers, the last that was registered first. Destructors of C++ objects are on it, too, and
 * the loader's function, which runs the libraries' destructors. So ours is registered before anybody's first one, in
 * the constructor at the latest; quick_exit has such a list of its own. exit makes its last system call without any
 * function that we could see.
 *
 * The kernel ends all threads of a process at once. So no other thread returns from a call once the engine has begun to
 * end (drive_end_of_process), and no handler of a signal runs in the thread that ends it. _exit in a handler may have
 * interrupted malloc, as death by a signal may. So the helper does what is to be done (death.c).
 */
#include "shim.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>

#include "base/thread.h"
#include "process/broker.h"

static _Atomic bool exit_told;

/*
 * Those that the program handles: natively it is gone by now. But not those that the thread's own doings bring: a touch
 * of a bad pointer is one of ours (base/user.h), and what exit still writes may meet a closed pipe. A signal that ends
 * the process by default ends the wait for slow peers, too.
 */
static void hold_signals(void)
{
	static const uint8_t own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPIPE, SIGXFSZ};
	uint64_t held = signals_handled();
	for (unsigned i = 0; i < sizeof own; i++)
		held &= ~signal_bit(own[i]);
	kernel_sigmask(SIG_BLOCK, held);
}

void shim_exit(void)
{
	if (engine_inside || !engine_exists() || exit_told || !process_is_own())
		return;
	hold_signals();
	if (!signals_in_handler() || !death_by_helper()) {
		engine_on_exit(true, signals_told_to_end()); /* a second thread does not return */
		broker_client_bye();
	}
	exit_told = true;
}

void shim_exit_done(void)
{
	exit_told = true;
}

void shim_exit_forget(void)
{
	exit_told = false;
}

void wrap__exit(int status)
{
	shim_exit();
	for (;;) {
		REAL(_exit)(status);
		sys_call(SYS_exit_group, status, 0, 0, 0, 0, 0);
	}
}

/* ---- the lists of handlers ---- */

/* libc writes what streams still have after the last handler, and may wait for a reader: signals come as ever then. */
static void at_end(void *unused)
{
	const uint64_t before = kernel_sigmask_now();
	(void)unused;
	shim_exit();
	kernel_sigmask(SIG_SETMASK, before);
}

static void at_exit(void *unused)
{
	if (shim_on() && !exit_told && process_is_own())
		stdio_flush_programs();
	at_end(unused);
}

/* ---- the end of the last thread ---- */

/*
 * Where main ends by pthread_exit, libc ends the process with the last thread, and does not know which threads are the
 * program's. So the helper looks, from then on. (/proc must be there.) A destructor of main's own data sees all ways:
 * pthread_exit, thrd_exit, a cancellation.
 */
static pthread_key_t main_key;
static bool has_main_key;
static uint64_t main_mask; /* the signals that it had blocked */

/*
 * What libc would do in the program's last thread. A thread of its own: the program's handlers run in it, and the
 * helper has its work meanwhile.
 */
static void *last_thread(void *unused)
{
	(void)unused;
	kernel_sigmask(SIG_SETMASK, main_mask);
	exit(0);
}

static bool last_thread_ends(void)
{
	pthread_t t;
	return thread_start(&t, last_thread, NULL) == 0 && pthread_detach(t) == 0;
}

static void main_leaves(void *unused)
{
	(void)unused;
	if (engine_inside)
		return;
	main_mask = kernel_sigmask_now();
	engine_main_leaves(last_thread_ends);
}

void shim_is_main(void)
{
	if (has_main_key)
		pthread_setspecific(main_key, &main_key);
}

/*
 * A sanitizer's runtime registers handlers before it is up, and libraries before our constructor: nothing here is
 * instrumented, and nothing is found yet.
 */
#define EARLY __attribute__((no_sanitize_thread, no_sanitize_address))

/* Constructors run in one thread. */
#define EARLY_REAL(name)                                                                           \
	({                                                                                         \
		if (!real_calls.name)                                                              \
			real_calls.name = (__typeof__(real_calls.name))dlsym(RTLD_NEXT, #name);    \
		real_calls.name;                                                                   \
	})

EARLY static void be_last_at_exit(void)
{
	static _Atomic bool done;
	if (!atomic_exchange(&done, true))
		EARLY_REAL(__cxa_atexit)(at_exit, NULL, NULL);
}

EARLY static void be_last_at_quick_exit(void)
{
	static _Atomic bool done;
	if (!atomic_exchange(&done, true))
		EARLY_REAL(__cxa_at_quick_exit)(at_end, NULL);
}

/* atexit is within each program and library, and calls this one; so do C++ objects. */
EARLY int wrap___cxa_atexit(void (*handler)(void *), void *arg, void *dso)
{
	be_last_at_exit();
	return EARLY_REAL(__cxa_atexit)(handler, arg, dso);
}

EARLY int wrap_on_exit(void (*handler)(int, void *), void *arg)
{
	be_last_at_exit();
	return EARLY_REAL(on_exit)(handler, arg);
}

EARLY int wrap___cxa_at_quick_exit(void (*handler)(void *), void *dso)
{
	be_last_at_quick_exit();
	return EARLY_REAL(__cxa_at_quick_exit)(handler, dso);
}

void shim_exit_init(void)
{
	has_main_key = pthread_key_create(&main_key, main_leaves) == 0;
	shim_is_main();
	be_last_at_exit();
	be_last_at_quick_exit();
}
