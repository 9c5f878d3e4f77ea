/*
 * fork and vfork. Other ways to a child: clone.c, spawn.c; exec.c and exit.c are next.
 *
 * fork: the table's lock is held across it, so that the child's copy is whole; the engine prepares and repairs itself
 * on both sides. The program's own handlers of fork run without any of that. In the child every engine socket is
 * `inherited` until its first use adopts it (handover.c). vfork: the child would write to our table, which it shares
 * with its parent. So vfork is fork once there was a TCP socket; until then, the real one, reached by a jump, since its
 * caller's frame must be left alone.
 */
#include "shim.h"

#include "base/thread.h"
#include "process/broker.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <paths.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <utmp.h>

static pid_t own_pid; /* a process that borrows our memory (CLONE_VM) has another */

bool process_is_own(void)
{
	return sys_getpid() == own_pid;
}

/* ---- fork ---- */

/* Also in a program that has used no TCP yet: another of its threads may be just about to. */
bool fork_is_bracketed(void)
{
	return shim_ready && !engine_inside;
}

#define FORK_TRIES  2000
#define FORK_NAP_NS 100000

/*
 * Neither the engine's nor the kernel's yet: what another thread has in its hands would be nobody's in the child. It is
 * let finish, but not for ever: it may wait for a parent.
 */
static bool fork_begin(bool anyway)
{
	fdtable_lock();
	if ((anyway || !fdtable_is_busy()) && engine_fork_prepare(anyway)) /* takes the engine's lock, which epoll registrations are under, too */
		return true;
	fdtable_unlock();
	return false;
}

void fork_before(void)
{
	struct timespec nap = {.tv_nsec = FORK_NAP_NS};
	for (int tries = 0; !fork_begin(tries == FORK_TRIES); tries++)
		sys_ppoll(NULL, 0, &nap, NULL);
	thread_await_births(); /* under the engine's lock nobody starts one */
	files_touched(); /* from now on the other process may set options on what we share */
}

void fork_after_in_child(void)
{
	passed_after_fork();
	fdtable_forget_calls();
	files_after_fork();
	shim_in_child = true;
	own_pid = sys_getpid();
	signals_after_fork();
	broker_client_after_fork();
	reuse_after_fork();
	engine_fork_child();
	ready_after_fork();
	shim_exit_forget();
	shim_is_main(); /* this thread is the child's first one */
	fdtable_unlock();
}

void fork_after_in_parent(long child)
{
	engine_fork_parent(child);
	fdtable_unlock();
}

/*
 * The program's own prepare handlers (pthread_atfork) may wait for locks, and for threads that are in calls of ours. So
 * they run before ours: ours is registered before its first after the constructors, and prepare handlers run in the
 * reverse order. In the parent and in the child ours is the first, then.
 */
static _Atomic bool atfork_registered;
static ENGINE_THREAD bool fork_wanted, fork_held; /* by wrap_fork: the handlers have it to do; they have begun it */

static void atfork_prepare(void)
{
	if (!fork_wanted)
		return;
	fork_wanted = false;
	fork_before();
	fork_held = true;
}

static void atfork_child(void)
{
	if (!fork_held)
		return;
	fork_held = false;
	fork_after_in_child();
}

/* Also when there is no child. What was prepared for it sees that by itself: its end of the connection is closed. */
static void atfork_parent(void)
{
	if (!fork_held)
		return;
	fork_held = false;
	fork_after_in_parent(0);
}

/*
 * pthread_atfork is within each program and library, and calls this one. An allocator's handlers (jemalloc), and a
 * sanitizer's, take its locks. Ours wait for threads that allocate, so theirs must run after ours: they are registered
 * by the time that the shim is ready (shim_start allocates). So are those that a library's constructor registers, which
 * run under our locks. A sanitizer's runtime calls before it is up, so nothing here is instrumented.
 */
__attribute__((no_sanitize_thread, no_sanitize_address)) int wrap___register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso)
{
	static _Atomic bool begun;
	__typeof__(real_calls.__register_atfork) real = real_calls.__register_atfork;
	if (!real)
		real = (__typeof__(real))dlsym(RTLD_NEXT, "__register_atfork");
	if (shim_ready && !atomic_exchange(&begun, true))
		atfork_registered = real(atfork_prepare, atfork_parent, atfork_child, NULL) == 0;
	return real(prepare, parent, child, dso);
}

static pid_t fork_by_handlers(void)
{
	bool outer = fork_wanted; /* a handler of the program's may fork, too */
	fork_wanted = true;
	pid_t pid = REAL(fork)();
	fork_wanted = outer;
	return pid;
}

static pid_t fork_with(pid_t (*real_fork)(void))
{
	fork_before();
	pid_t pid = real_fork();
	int saved = errno;
	if (pid == 0)
		fork_after_in_child();
	else
		fork_after_in_parent(pid);
	errno = saved;
	return pid;
}

pid_t wrap_fork(void)
{
	adopt_before_fork();
	unreached_before_fork();
	if (!fork_is_bracketed())
		return REAL(fork)();
	return atfork_registered ? fork_by_handlers() : fork_with(REAL(fork));
}

pid_t wrap__Fork(void)
{
	adopt_before_fork();
	unreached_before_fork();
	return fork_is_bracketed() ? fork_with(REAL(_Fork)) : REAL(_Fork)();
}

/* Where vfork jumps while no TCP socket was ever made, or the shim stands aside; NULL in between. */
pid_t (*_Atomic shim_plain_vfork)(void) __attribute__((visibility("hidden")));

void shim_process_init(void)
{
	if (!shim_has_sockets)
		shim_plain_vfork = REAL(vfork);
}

void process_note_socket(void)
{
	own_pid = sys_getpid();
	shim_defaults_init();
	shim_plain_vfork = NULL;
}

#if defined(__x86_64__)
__asm__(".text\n"
	".globl vfork\n"
	".type vfork, @function\n"
	"vfork:\n"
	"	endbr64\n"
	"	movq shim_plain_vfork(%rip), %rax\n"
	"	testq %rax, %rax\n"
	"	je 1f\n"
	"	jmp *%rax\n"
	"1:	jmp fork@PLT\n"
	".size vfork, .-vfork\n");
#elif defined(__aarch64__)
__asm__(".text\n"
	".globl vfork\n"
	".type vfork, %function\n"
	"vfork:\n"
	"	adrp x16, shim_plain_vfork\n"
	"	ldr x16, [x16, #:lo12:shim_plain_vfork]\n"
	"	cbz x16, 1f\n"
	"	br x16\n"
	"1:	b fork\n"
	".size vfork, .-vfork\n");
#endif

int wrap_daemon(int nochdir, int noclose)
{
	if (!shim_on())
		return REAL(daemon)(nochdir, noclose);
	pid_t pid = wrap_fork();
	if (pid < 0)
		return -1;
	if (pid > 0)
		wrap__exit(0);
	if (setsid() < 0)
		return -1;
	if (!nochdir && chdir("/") < 0)
		return -1;
	if (noclose)
		return 0;
	int null = wrap_open(_PATH_DEVNULL, O_RDWR);
	if (null < 0)
		return -1;
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		wrap_dup2(null, fd);
	if (null > STDERR_FILENO)
		wrap_close(null);
	return 0;
}

int wrap_forkpty(int *master, char *name, const struct termios *term, const struct winsize *size)
{
	int ours, its;
	if (!shim_on())
		return REAL(forkpty)(master, name, term, size);
	if (openpty(&ours, &its, name, term, size) < 0)
		return -1;
	pid_t pid = wrap_fork();
	if (pid == 0) {
		wrap_close(ours);
		if (login_tty(its) < 0)
			wrap__exit(EXIT_FAILURE);
		return 0;
	}
	wrap_close(its);
	if (pid < 0)
		wrap_close(ours);
	else
		*master = ours;
	return pid;
}
