/*
 * Death by a signal's default action: the connections go to the kernel first, as at exit (socket/death.c).
 *
 * Nothing runs in a process between such a signal and its end, unless it has a handler. So from the first TCP socket on
 * the kernel has our trampoline for each signal in `ends` that the program left at its default (signals.c keeps the
 * books: sigaction says SIG_DFL). It comes here. The engine's helper thread does the work; then the default action is
 * put back, and the signal is given to this thread once more, with its siginfo. So whoever waits for the process finds
 * what it would have found: the signal, and a core dump where there is one. A fault is left to happen again, so that
 * the core shows the instruction.
 *
 * _exit in a handler of the program's comes here, too, since it may have interrupted malloc as well (exit.c).
 *
 * What the program can tell: /proc/self/status shows the signals as caught; the handler needs some room on the stack,
 * or the alternative one; other threads may run for some milliseconds more, until their next call. What does not come
 * here is as sudden as ever: SIGKILL; a fault with the signal blocked, or without room on the stack; a crash inside the
 * engine, or with the engine's lock held; real-time signals; a process that shares our memory, but is another.
 */
#include "shim.h"

#include <errno.h>
#include <string.h>

#include "process/broker.h"

/* signal(7): the action is Term or Core. Without SIGKILL, which cannot be caught. */
static const uint8_t ends[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGILL,    SIGTRAP, SIGABRT, SIGBUS,    SIGFPE, SIGUSR1, SIGSEGV, SIGUSR2,
			       SIGPIPE, SIGALRM, SIGTERM, SIGSTKFLT, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF, SIGIO,  SIGPWR,  SIGSYS};

bool death_is_default(int sig)
{
	return memchr(ends, sig, sizeof ends);
}

bool death_comes_again(int sig, const siginfo_t *info)
{
	switch (sig) {
	case SIGSEGV:
	case SIGILL:
	case SIGFPE:
		return info->si_code > 0;
	case SIGBUS:
		return info->si_code > 0 && info->si_code != BUS_MCEERR_AO; /* told of memory that it did not touch */
	}
	return false; /* a trap, or a refused system call, is over */
}

static void mask_on_return(ucontext_t *context, uint64_t mask)
{
	memcpy(&context->uc_sigmask, &mask, sizeof mask);
}

/* Everything that exit does and a signal handler may have done. */
static void leave_orderly(void)
{
	if (engine_inside || !shim_ready || !engine_exists() || !process_is_own())
		return;
	if (engine_wait_timeout)
		engine_on_interrupt(); /* this thread drives no more */
	death_by_helper();
}

bool death_by_helper(void)
{
	int err = engine_before_death(engine_of_process());
	if (!err)
		broker_client_bye();
	return err != -ESRCH;
}

void death_by_default(int sig, siginfo_t *info, ucontext_t *context)
{
	struct sigaction reset = {.sa_handler = SIG_DFL};
	kernel_sigmask(SIG_BLOCK, ~0ULL);
	leave_orderly();
	REAL(sigaction)(sig, &reset, NULL);
	mask_on_return(context, ~signal_bit(sig)); /* no other handler before the end */
	if (death_comes_again(sig, info))
		return;
	signal_to_self(sig, info);
	kernel_sigmask(SIG_UNBLOCK, signal_bit(sig));
}
