/*
 * Signal handlers are deferred while their thread is inside the engine or holds the table's lock.
 *
 * The kernel gets our trampoline in place of every handler; the program's own is in `actions` and is what sigaction
 * returns. A trampoline that finds engine_inside > 0 gives the signal back: it blocks it in the interrupted context,
 * queues it again to this thread with its siginfo, and returns; engine_leave() unblocks it, and the kernel delivers it
 * with a true context. So queueing, merging, masks and order stay the kernel's. Faults of the thread itself (SIGSEGV …)
 * cannot wait and run at once. Otherwise the handler runs now, counted in engine_handlers; a wait that was just about
 * to start ends at once, because its timeout is zeroed (drive/inside.h tells the rules). A handler may jump away
 * (siglongjmp): what the calls that it interrupted hold is given back then. From the first TCP socket on the kernel has
 * the trampoline, too, for signals that the program did not touch: those whose default action ends the process
 * (death.c), and SIGSEGV and SIGBUS whatever the program set: a touch of a bad pointer is one of ours (base/user.h). Of
 * any other the program's own disposition follows, and it is what sigaction tells. An ignored signal stays so in the
 * kernel (but for these two): it must wake nobody, and survives exec. A handler from before the shim was ready (a
 * library's constructor) gets its trampoline then, too. Process 1 of a PID namespace has no default actions, so its are
 * left alone. SA_RESETHAND is done here, or the queued-again signal would meet the default action. Async-signal-safe:
 * no lock; an action is two atomics, written before the kernel learns of it.
 */
#include "shim.h"
#include "waits.h"

#include <string.h>

#include "base/user.h"

#define SIGNALS 65 /* 1 … 64 */

struct action {
	void *_Atomic handler;
	_Atomic int flags;
};

static struct action actions[SIGNALS];
static ENGINE_THREAD uint64_t deferred; /* signals blocked by us on this thread */

void kernel_sigmask(int how, uint64_t set)
{
	sys_call(SYS_rt_sigprocmask, how, &set, NULL, sizeof set, 0, 0);
}

uint64_t kernel_sigmask_now(void)
{
	uint64_t now = 0;
	sys_call(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &now, sizeof now, 0, 0);
	return now;
}

/*
 * Who blocks these has no handler for a bad pointer, and libc's own two, for pthread_cancel and setuid, must come
 * through.
 */
#define NEVER_HELD (signal_bit(SIGSEGV) | signal_bit(SIGBUS) | signal_bit(__SIGRTMIN) | signal_bit(__SIGRTMIN + 1))

uint64_t wait_mask_hold(const sigset_t *mask)
{
	uint64_t set = 0, before = 0;
	if (mask)
		memcpy(&set, mask, sizeof set);
	set &= ~NEVER_HELD;
	if (!set)
		return 0;
	sys_call(SYS_rt_sigprocmask, SIG_BLOCK, &set, &before, sizeof set, 0, 0);
	if (!engine_inside) { /* those that ran until now came before the wait */
		engine_handlers_at_call.all = engine_handlers.all;
		engine_handlers_at_call.norestart = engine_handlers.norestart;
	}
	return set & ~before;
}

void wait_mask_release(uint64_t held)
{
	if (held)
		kernel_sigmask(SIG_UNBLOCK, held);
}

static bool is_fault(int sig, const siginfo_t *info)
{
	switch (sig) {
	case SIGSEGV:
	case SIGBUS:
	case SIGFPE:
	case SIGILL:
	case SIGTRAP:
	case SIGABRT:
	case SIGSYS:
		return true;
	}
	return false;
}

void signal_to_self(int sig, const siginfo_t *info)
{
	sys_call(SYS_rt_tgsigqueueinfo, sys_getpid(), sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0), sig, info, 0, 0);
}

/* Back to the kernel, blocked until engine_leave. */
static void defer(int sig, siginfo_t *info, ucontext_t *context)
{
	uint64_t mask;
	kernel_sigmask(SIG_BLOCK, signal_bit(sig)); /* with SA_NODEFER it would come right back */
	memcpy(&mask, &context->uc_sigmask, sizeof mask);
	mask |= signal_bit(sig);
	memcpy(&context->uc_sigmask, &mask, sizeof mask);
	deferred |= signal_bit(sig);
	engine_signal_pending = 1;
	signal_to_self(sig, info);
}

static void run_deferred(void)
{
	uint64_t set = deferred;
	deferred = 0;
	engine_signal_pending = 0;
	kernel_sigmask(SIG_UNBLOCK, set);
}

/* Faults of memory: ours to see first. */
static bool is_memory_fault(int sig)
{
	return sig == SIGSEGV || sig == SIGBUS;
}

/* The kernel has our trampoline, and the program no handler. */
static void by_default(int sig, siginfo_t *info, ucontext_t *context, bool ignored)
{
	bool again = death_comes_again(sig, info);
	if (!again && (ignored || sys_getpid() == 1)) /* ignored; a memory fault's signal that somebody sent */
		return;
	if (!again && engine_inside)
		defer(sig, info, context);
	else
		death_by_default(sig, info, context);
}

static void reset_to_default(int sig);

static ENGINE_THREAD unsigned handlers_depth; /* of the program's that run on this thread */

struct handler_run {
	unsigned depth; /* outside of it */
	struct undo *calls;
};

bool signals_in_handler(void)
{
	return handlers_depth;
}

/* By longjmp, or the thread's end. */
static void handler_left(void *outer)
{
	struct handler_run *run = outer;
	handlers_depth = run->depth;
	undos_handler_left(run->calls);
	user_mask_changed();
}

static bool is_function(const void *handler)
{
	return handler != (void *)SIG_DFL && handler != (void *)SIG_IGN;
}

static _Atomic bool told_to_end;

bool signals_told_to_end(void)
{
	return told_to_end;
}

static void trampoline(int sig, siginfo_t *info, void *context)
{
	struct action *a = &actions[sig];
	int saved = errno;
	void *own = a->handler;
	if (is_memory_fault(sig) && user_fix_up(info, context))
		return;
	if (!is_function(own)) {
		by_default(sig, info, context, own == (void *)SIG_IGN);
		errno = saved;
		return;
	}
	if (engine_inside && !is_fault(sig, info)) {
		defer(sig, info, context);
		errno = saved;
		return;
	}
	int flags = a->flags;
	void (*handler)(int, siginfo_t *, void *) = a->handler;
	if (flags & (int)SA_RESETHAND)
		reset_to_default(sig);
	if (sig == SIGTERM || sig == SIGINT || sig == SIGQUIT)
		told_to_end = true;
	engine_handlers.all++;
	if (!(flags & SA_RESTART))
		engine_handlers.norestart++;
	struct handlers_run at_call = engine_handlers_at_call;
	bool in_wait = engine_wait_timeout, gives = false;
	int cancel_type;
	if (in_wait) {
		pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &cancel_type);
		*engine_wait_timeout = (struct timespec){0, 0};
		gives = engine_on_interrupt() && !engine_inside && undos_all_wait();
	}
	struct kernel_wait *kernel_wait = epset_handler_begins();
	errno = saved;
	struct unwind unwind;
	unsigned lost = engine_handlers.lost;
	void *guard = user_guard_set(NULL);
	engine_enter(); /* no other handler sees half of it, or jumps away in between; the same behind the handler */
	struct handler_run run = {.depth = handlers_depth, .calls = undos_handler_begins(gives)};
	unwind_begin(&unwind, handler_left, &run);
	engine_leave();
	handlers_depth = run.depth + 1;
	user_mask_changed(); /* the handler has sa_mask, what follows has what was */
	handler(sig, info, context);
	user_mask_changed();
	handlers_depth = run.depth;
	engine_enter();
	unwind_end(&unwind);
	engine_handlers.lost = lost; /* what those that the handler itself made lost is not ours */
	undos_handler_ends(run.calls, gives);
	engine_leave();
	user_guard_set(guard);
	epset_handler_ends(kernel_wait);
	engine_handlers_at_call = at_call;
	if (in_wait)
		pthread_setcanceltype(cancel_type, NULL);
}

uint64_t signals_handled(void)
{
	uint64_t set = 0;
	for (int sig = 1; sig < SIGNALS; sig++)
		if (is_function(actions[sig].handler))
			set |= signal_bit(sig);
	return set;
}

static bool is_handler(const struct sigaction *a)
{
	return is_function(a->sa_handler);
}

/* What the program should see of what the kernel had. */
static void translate_old(struct sigaction *old, void *handler, int flags)
{
	if (old->sa_sigaction != trampoline)
		return;
	old->sa_handler = (shim_sighandler)handler;
	old->sa_flags &= ~(SA_SIGINFO | (int)SA_RESETHAND);
	old->sa_flags |= flags & (SA_SIGINFO | (int)SA_RESETHAND);
}

/* ---- default actions that are ours ---- */

/* libc adds it to what it tells the kernel, and so it comes back from sigaction. */
#if defined(__x86_64__)
#define RESTORER_FLAG 0x04000000
#else
#define RESTORER_FLAG 0
#endif

static struct sigaction own_actions[SIGNALS]; /* of signals with is_ours(): as the program set them */
static bool defaults_ours;                    /* … and what the kernel has is install()'s */
static bool ends_ours;                        /* … also for those that only end the process */

static bool is_ours(int sig)
{
	return is_memory_fault(sig) || death_is_default(sig);
}

static int install(int sig)
{
	const struct sigaction *own = &own_actions[sig];
	struct sigaction ours = {.sa_flags = SA_ONSTACK | SA_RESTART};
	if (is_handler(own)) {
		ours = *own;
		ours.sa_flags &= ~(int)SA_RESETHAND;
	} else if (is_memory_fault(sig)) {
		ours.sa_flags |= SA_NODEFER; /* a touch's fault is over when the trampoline returns */
	} else if (own->sa_handler == SIG_IGN || !ends_ours) {
		return REAL(sigaction)(sig, own, NULL);
	} else {
		sigfillset(&ours.sa_mask);
	}
	ours.sa_sigaction = trampoline;
	ours.sa_flags |= SA_SIGINFO;
	return REAL(sigaction)(sig, &ours, NULL);
}

/* What the kernel has becomes ours. A handler that came by another way than sigaction stays. */
static void take_over(int sig)
{
	struct sigaction now;
	if (REAL(sigaction)(sig, NULL, &now) < 0 || (is_handler(&now) && now.sa_sigaction != trampoline))
		return;
	if (now.sa_sigaction != trampoline)
		own_actions[sig] = now;
	actions[sig].handler = (void *)own_actions[sig].sa_handler;
	install(sig);
}

/*
 * What libc has its handlers return to: so they can be told from those that came by another way. False: the kernel has
 * no trampoline.
 */
static bool find_restorer(struct sigaction *with)
{
	for (int sig = 1; sig < SIGNALS; sig++)
		if (REAL(sigaction)(sig, NULL, with) == 0 && with->sa_sigaction == trampoline)
			return true;
	return false;
}

/* Handlers that the program set before the shim was ready, by libc's sigaction. */
static void adopt_handlers(void)
{
	struct sigaction ours, now;
	if (!find_restorer(&ours))
		return;
	for (int sig = 1; sig < SIGNALS; sig++)
		if (REAL(sigaction)(sig, NULL, &now) == 0 && is_handler(&now) && now.sa_sigaction != trampoline && now.sa_restorer == ours.sa_restorer)
			wrap_sigaction(sig, &now, NULL);
}

/*
 * Within the program's first socket(): a call that succeeds leaves errno alone, and libc does not tell of signals of
 * its own.
 */
void shim_defaults_init(void)
{
	int saved = errno;
	ends_ours = sys_getpid() != 1;
	for (int sig = 1; sig < SIGNALS; sig++)
		if (is_ours(sig))
			take_over(sig);
	defaults_ours = true;
	adopt_handlers();
	errno = saved;
}

/* The kernel's again, or ours again; handlers of the program's stay as they are. */
static void ends_become(bool ours)
{
	if (!defaults_ours || ours == ends_ours)
		return;
	ends_ours = ours;
	for (int sig = 1; sig < SIGNALS; sig++)
		if (death_is_default(sig) && !is_memory_fault(sig) && own_actions[sig].sa_handler == SIG_DFL)
			install(sig);
}

void signals_give_back(void)
{
	ends_become(false);
}

static bool is_ignored_fault(int sig)
{
	return is_memory_fault(sig) && own_actions[sig].sa_handler == SIG_IGN;
}

/* An ignored signal survives exec. Meanwhile a bad pointer in another thread's call is fatal. */
void signals_before_exec(void)
{
	for (int sig = 1; defaults_ours && sig < SIGNALS; sig++)
		if (is_ignored_fault(sig))
			REAL(sigaction)(sig, &own_actions[sig], NULL);
}

/* The exec failed, or another process made it. */
void signals_after_exec(void)
{
	int saved = errno;
	for (int sig = 1; defaults_ours && sig < SIGNALS; sig++)
		if (is_ignored_fault(sig))
			install(sig);
	errno = saved;
}

void signals_after_fork(void)
{
	ends_become(sys_getpid() != 1);
	told_to_end = false;
}

static int own_sigaction(int sig, const struct sigaction *action, struct sigaction *old)
{
	struct sigaction *own = &own_actions[sig], before = *own;
	if (action) {
		*own = *action;
		own->sa_flags |= RESTORER_FLAG;
		sigdelset(&own->sa_mask, SIGKILL); /* as the kernel does */
		sigdelset(&own->sa_mask, SIGSTOP);
		actions[sig].flags = own->sa_flags;
		actions[sig].handler = (void *)own->sa_handler;
		if (install(sig) < 0)
			return -1;
	}
	if (old)
		*old = before;
	return 0;
}

/* SA_RESETHAND: the handler runs once. */
static void reset_to_default(int sig)
{
	struct sigaction reset = {.sa_handler = SIG_DFL};
	if (!defaults_ours || !is_ours(sig)) {
		REAL(sigaction)(sig, &reset, NULL);
		return;
	}
	actions[sig].handler = (void *)SIG_DFL;
	own_actions[sig].sa_handler = SIG_DFL;
	if (!is_memory_fault(sig))
		install(sig);
}

int wrap_sigaction(int sig, const struct sigaction *action, struct sigaction *old)
{
	if (sig < 1 || sig >= SIGNALS || !shim_ready)
		return REAL(sigaction)(sig, action, old);
	if (defaults_ours && is_ours(sig))
		return own_sigaction(sig, action, old);
	if (action && is_ours(sig)) {
		own_actions[sig] = *action;
		own_actions[sig].sa_flags |= RESTORER_FLAG;
	}
	struct action *a = &actions[sig];
	void *old_handler = a->handler;
	int old_flags = a->flags;
	struct sigaction ours;
	if (action && is_handler(action) && action->sa_sigaction != trampoline) {
		ours = *action;
		ours.sa_sigaction = trampoline;
		ours.sa_flags = (action->sa_flags | SA_SIGINFO) & ~(int)SA_RESETHAND;
		a->flags = action->sa_flags;
		a->handler = (void *)action->sa_handler;
		action = &ours;
	}
	int r = REAL(sigaction)(sig, action, old);
	if (r < 0 && action == &ours) {
		a->handler = old_handler;
		a->flags = old_flags;
	}
	if (r == 0 && old)
		translate_old(old, old_handler, old_flags);
	return r;
}

/* Who blocks SIGSEGV or SIGBUS gets no handler for a bad pointer's fault (base/user.h). */
#define CHANGES_MASK(name, parameters, arguments)                                                                          \
	int wrap_##name parameters                                                                                         \
	{                                                                                                                  \
		int r = REAL(name) arguments;                                                                              \
		user_mask_changed();                                                                                       \
		return r;                                                                                                  \
	}

CHANGES_MASK(sigprocmask, (int how, const sigset_t *set, sigset_t *old), (how, set, old))
CHANGES_MASK(pthread_sigmask, (int how, const sigset_t *set, sigset_t *old), (how, set, old))
CHANGES_MASK(sighold, (int sig), (sig))
CHANGES_MASK(sigrelse, (int sig), (sig))
CHANGES_MASK(sigblock, (int mask), (mask))
CHANGES_MASK(sigsetmask, (int mask), (mask))

static shim_sighandler signal_with(int sig, shim_sighandler handler, int flags)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = flags}, old;
	if (handler == SIG_ERR || sig < 1 || sig >= SIGNALS) {
		errno = EINVAL;
		return SIG_ERR;
	}
	if (!(flags & SA_NODEFER))
		sigaddset(&action.sa_mask, sig);
	return wrap_sigaction(sig, &action, &old) < 0 ? SIG_ERR : old.sa_handler;
}

static uint64_t interrupting; /* siginterrupt(sig, 1): signal() leaves SA_RESTART off */

shim_sighandler wrap_signal(int sig, shim_sighandler handler)
{
	if (!shim_ready)
		return REAL(signal)(sig, handler);
	bool restart = sig < 1 || sig >= SIGNALS || !(interrupting & signal_bit(sig));
	return signal_with(sig, handler, restart ? SA_RESTART : 0);
}

shim_sighandler wrap_sysv_signal(int sig, shim_sighandler handler)
{
	if (!shim_ready)
		return REAL(sysv_signal)(sig, handler);
	return signal_with(sig, handler, (int)SA_RESETHAND | SA_NODEFER);
}

/* System V: SIG_HOLD only blocks; else the disposition changes and the signal is unblocked. */
shim_sighandler wrap_sigset(int sig, shim_sighandler handler)
{
	if (!shim_ready || sig < 1 || sig >= SIGNALS)
		return REAL(sigset)(sig, handler);
	sigset_t set, old;
	struct sigaction action;
	sigemptyset(&set);
	sigaddset(&set, sig);
	if (handler == SIG_HOLD) {
		if (wrap_sigprocmask(SIG_BLOCK, &set, &old) < 0)
			return SIG_ERR;
		if (sigismember(&old, sig))
			return SIG_HOLD;
		return wrap_sigaction(sig, NULL, &action) < 0 ? SIG_ERR : action.sa_handler;
	}
	shim_sighandler before = signal_with(sig, handler, 0);
	if (before == SIG_ERR || wrap_sigprocmask(SIG_UNBLOCK, &set, &old) < 0)
		return SIG_ERR;
	return sigismember(&old, sig) ? SIG_HOLD : before;
}

int wrap_sigignore(int sig)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	return wrap_sigaction(sig, &ignore, NULL);
}

int wrap_siginterrupt(int sig, int on)
{
	struct sigaction action;
	if (wrap_sigaction(sig, NULL, &action) < 0)
		return -1;
	if (on) {
		__atomic_fetch_or(&interrupting, signal_bit(sig), __ATOMIC_RELAXED);
		action.sa_flags &= ~SA_RESTART;
	} else {
		__atomic_fetch_and(&interrupting, ~signal_bit(sig), __ATOMIC_RELAXED);
		action.sa_flags |= SA_RESTART;
	}
	return wrap_sigaction(sig, &action, NULL);
}

void shim_signals_init(void)
{
	engine_on_leave = run_deferred;
}
