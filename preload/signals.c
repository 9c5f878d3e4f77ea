/*
 * Signal handlers are deferred while their thread is inside the engine or holds the table's lock
 * (DESIGN §5 "Signals").
 *
 * The kernel gets our trampoline in place of every handler; the program's own is in `actions` and
 * is what sigaction returns. A trampoline that finds engine_inside > 0 gives the signal back: it
 * blocks it in the interrupted context, queues it again to this thread with its siginfo, and
 * returns; engine_leave() unblocks it, and the kernel delivers it with a true context. So queueing,
 * merging, masks and order stay the kernel's. Faults of the thread itself (SIGSEGV …) cannot wait
 * and run at once. Otherwise the handler runs now, counted in engine_handlers; a wait that was
 * just about to start ends at once, because its timeout is zeroed (drive/inside.h tells the rules).
 * A handler may jump away (siglongjmp): what the calls that it interrupted hold is given back then.
 * SIGSEGV and SIGBUS have the trampoline in the kernel from the first TCP socket on, whatever the
 * program set: a touch of a bad pointer is one of ours (base/user.h). Of any other the program's own
 * disposition follows, and it is what sigaction tells.
 * SA_RESETHAND is done here, or the queued-again signal would meet the default action.
 * Async-signal-safe: no lock; an action is two atomics, written before the kernel learns of it.
 */
#include "shim.h"

#include <string.h>
#include <ucontext.h>

#include "base/user.h"

#define SIGNALS 65 /* 1 … 64 */

struct action {
	void *_Atomic handler;
	_Atomic int flags;
};

static struct action actions[SIGNALS];
static ENGINE_THREAD uint64_t deferred; /* signals blocked by us on this thread */

static uint64_t bit(int sig)
{
	return 1ULL << (sig - 1);
}

static void kernel_sigmask(int how, uint64_t set)
{
	sys_call(SYS_rt_sigprocmask, how, &set, NULL, sizeof set, 0, 0);
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

/* Back to the kernel, blocked until engine_leave. */
static void defer(int sig, siginfo_t *info, ucontext_t *context)
{
	uint64_t mask;
	kernel_sigmask(SIG_BLOCK, bit(sig)); /* with SA_NODEFER it would come right back */
	memcpy(&mask, &context->uc_sigmask, sizeof mask);
	mask |= bit(sig);
	memcpy(&context->uc_sigmask, &mask, sizeof mask);
	deferred |= bit(sig);
	engine_signal_pending = 1;
	sys_call(SYS_rt_tgsigqueueinfo, sys_getpid(), sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0), sig,
		 info, 0, 0);
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

/* A fault of the program's own that it does not handle, or such a signal that was sent: as the kernel would. */
static void default_fault(int sig, siginfo_t *info, ucontext_t *context, bool ignored)
{
	struct sigaction reset = {.sa_handler = SIG_DFL};
	bool sent = info->si_code <= 0;
	if (ignored && sent)
		return;
	REAL(sigaction)(sig, &reset, NULL);
	before_known(KNOWN_ANYWAY);
	if (sent) /* a fault comes again by itself, with the same registers */
		sys_call(SYS_rt_tgsigqueueinfo, sys_getpid(), sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0), sig, info, 0, 0);
	uint64_t mask;
	memcpy(&mask, &context->uc_sigmask, sizeof mask);
	mask &= ~bit(sig);
	memcpy(&context->uc_sigmask, &mask, sizeof mask);
}

static void memory_fault_reset(int sig);

static void trampoline(int sig, siginfo_t *info, void *context)
{
	struct action *a = &actions[sig];
	int saved = errno;
	if (is_memory_fault(sig)) {
		void *own = a->handler;
		if (user_fix_up(context))
			return;
		if (own == (void *)SIG_DFL || own == (void *)SIG_IGN) {
			default_fault(sig, info, context, own == (void *)SIG_IGN);
			return;
		}
	}
	if (engine_inside && !is_fault(sig, info)) {
		defer(sig, info, context);
		errno = saved;
		return;
	}
	int flags = a->flags;
	void (*handler)(int, siginfo_t *, void *) = a->handler;
	if (flags & (int)SA_RESETHAND) {
		struct sigaction reset = {.sa_handler = SIG_DFL};
		if (is_memory_fault(sig))
			memory_fault_reset(sig);
		else
			REAL(sigaction)(sig, &reset, NULL);
	}
	engine_handlers.all++;
	if (!(flags & SA_RESTART))
		engine_handlers.norestart++;
	struct handlers_run at_call = engine_handlers_at_call;
	bool in_wait = engine_wait_timeout;
	int cancel_type;
	if (in_wait) {
		pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &cancel_type);
		*engine_wait_timeout = (struct timespec){0, 0};
		engine_on_interrupt();
	}
	errno = saved;
	struct unwind unwind;
	unwind_begin(&unwind, NULL, NULL);
	handler(sig, info, context);
	unwind_end(&unwind);
	engine_handlers_at_call = at_call;
	if (in_wait)
		pthread_setcanceltype(cancel_type, NULL);
}

static bool is_handler(const struct sigaction *a)
{
	return a->sa_handler != SIG_DFL && a->sa_handler != SIG_IGN;
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

/* ---- faults of memory ---- */

/* libc adds it to what it tells the kernel, and so it comes back from sigaction. */
#if defined(__x86_64__)
#define RESTORER_FLAG 0x04000000
#else
#define RESTORER_FLAG 0
#endif

static struct sigaction fault_actions[2]; /* as the program set them: SIGSEGV, SIGBUS */
static bool faults_ours;                  /* … and the kernel has our trampoline, whatever they are */

static struct sigaction *fault_action(int sig)
{
	return &fault_actions[sig == SIGBUS];
}

/* SA_RESETHAND: the handler runs once. */
static void memory_fault_reset(int sig)
{
	actions[sig].handler = (void *)SIG_DFL;
	fault_action(sig)->sa_handler = SIG_DFL;
}

static int fault_install(int sig)
{
	const struct sigaction *own = fault_action(sig);
	struct sigaction ours = {.sa_flags = (int)SA_NODEFER | SA_ONSTACK};
	if (is_handler(own)) {
		ours = *own;
		ours.sa_flags &= ~(int)SA_RESETHAND;
	}
	ours.sa_sigaction = trampoline;
	ours.sa_flags |= SA_SIGINFO;
	return REAL(sigaction)(sig, &ours, NULL);
}

/* From now on a bad pointer is an error of the call that was given it. A handler that came by another way than ours stays. */
void shim_faults_init(void)
{
	static const int faults[] = {SIGSEGV, SIGBUS};
	struct sigaction now;
	for (int i = 0; i < 2; i++)
		if (REAL(sigaction)(faults[i], NULL, &now) == 0 && (!is_handler(&now) || now.sa_sigaction == trampoline)) {
			if (now.sa_sigaction != trampoline)
				*fault_action(faults[i]) = now;
			actions[faults[i]].handler = (void *)fault_action(faults[i])->sa_handler;
			fault_install(faults[i]);
		}
	faults_ours = true;
}

static int fault_sigaction(int sig, const struct sigaction *action, struct sigaction *old)
{
	struct sigaction *own = fault_action(sig), before = *own;
	if (action) {
		*own = *action;
		own->sa_flags |= RESTORER_FLAG;
		actions[sig].flags = own->sa_flags;
		actions[sig].handler = (void *)own->sa_handler;
		if (fault_install(sig) < 0)
			return -1;
	}
	if (old)
		*old = before;
	return 0;
}

int wrap_sigaction(int sig, const struct sigaction *action, struct sigaction *old)
{
	if (sig < 1 || sig >= SIGNALS || !shim_ready)
		return REAL(sigaction)(sig, action, old);
	if (faults_ours && is_memory_fault(sig))
		return fault_sigaction(sig, action, old);
	if (action && is_memory_fault(sig)) {
		*fault_action(sig) = *action;
		fault_action(sig)->sa_flags |= RESTORER_FLAG;
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
	bool restart = sig < 1 || sig >= SIGNALS || !(interrupting & bit(sig));
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
		if (sigprocmask(SIG_BLOCK, &set, &old) < 0)
			return SIG_ERR;
		if (sigismember(&old, sig))
			return SIG_HOLD;
		return wrap_sigaction(sig, NULL, &action) < 0 ? SIG_ERR : action.sa_handler;
	}
	shim_sighandler before = signal_with(sig, handler, 0);
	if (before == SIG_ERR || sigprocmask(SIG_UNBLOCK, &set, &old) < 0)
		return SIG_ERR;
	return sigismember(&old, sig) ? SIG_HOLD : before;
}

int wrap_siginterrupt(int sig, int on)
{
	struct sigaction action;
	if (wrap_sigaction(sig, NULL, &action) < 0)
		return -1;
	if (on) {
		__atomic_fetch_or(&interrupting, bit(sig), __ATOMIC_RELAXED);
		action.sa_flags &= ~SA_RESTART;
	} else {
		__atomic_fetch_and(&interrupting, ~bit(sig), __ATOMIC_RELAXED);
		action.sa_flags |= SA_RESTART;
	}
	return wrap_sigaction(sig, &action, NULL);
}

void shim_signals_init(void)
{
	engine_on_leave = run_deferred;
}
