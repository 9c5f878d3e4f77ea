/*
 * What the wrappers share: the list of calls, the real functions, the one shape of a wrapper, and
 * what can happen to a file.
 *
 * The shape: an fd that is not the engine's, a call from within the engine, a call before the shim
 * is ready → the real function. Otherwise VIA_ENGINE looks up the socket, holds a reference,
 * delegates to a verb, and turns -errno into errno at this edge. If the verb says -EBADF because
 * the socket was handed over to the kernel meanwhile, the loop sees a kernel fd and the real
 * function serves it.
 */
#ifndef FINESSE_PRELOAD_SHIM_H
#define FINESSE_PRELOAD_SHIM_H

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <termios.h>
#include <ucontext.h>
#include <unistd.h>
#include <wordexp.h>

#include <time.h>

#include "base/sys.h"
#include "fdtable.h"
#include "socket/sock.h"

struct aiocb;
struct sockaddr_in;
struct io_uring;
struct iocb;
struct io_uring_cqe;
struct io_uring_params;
struct __kernel_timespec;
typedef void (*shim_sighandler)(int); /* a parameter type in the list needs a name */

/* wrap_read() is the C name, "read" the symbol: the headers' own prototypes (transparent unions,
 * fortified redirects) stay out of the way. */
#define CALL(name, ret, ...)                                                                       \
	__attribute__((visibility("default"))) ret wrap_##name(__VA_ARGS__) __asm__(#name);
#define ALIAS(name, target)
#include "calls.def"
#undef CALL
#undef ALIAS

struct real_calls {
#define CALL(name, ret, ...) ret (*name)(__VA_ARGS__);
#define ALIAS(name, target)
#include "calls.def"
#undef CALL
#undef ALIAS
};
extern struct real_calls real_calls;
void *real_find(const char *name);
void real_find_all(void);

/* The function that the program would have called without us. */
#define REAL(name)                                                                                 \
	({                                                                                         \
		if (__builtin_expect(!real_calls.name, 0))                                         \
			real_calls.name = (__typeof__(real_calls.name))real_find(#name);           \
		real_calls.name;                                                                   \
	})

/* errno at the edge. */
static inline long edge(long r)
{
	if (r >= 0 || r < -4095)
		return r;
	errno = -r;
	return -1;
}

/* ---- the shape ---- */
struct call {
	struct undo undo; /* gives the reference back when a handler jumps out of the call */
	int fd;
	struct file *file; /* &file_lost: it has none any more (call.c) */
	struct sock *sock;
	long error; /* adopting it failed: the call's result */
};
/* What a call wants of a listener that is inherited over fork, which this process does not serve yet. */
enum call_use {
	USE_PLAINLY, /* the kernel's socket has the answer */
	USE_STATUS,  /* the shim has it */
	USE_TO_WAIT, /* a client: it is served from now on */
};
/*
 * c->file, of any kind, stays until call_let_go, or until a handler jumps out of the call. NULL: fd is nothing of ours.
 */
struct file *call_hold(struct call *c, int fd);
void call_let_go(struct call *c);
/* True: fd is the engine's, and ours for this call. */
bool call_begin_engine(struct call *c, int fd, enum call_use use);
/* Waits while another thread decides what is at fd (fdtable.h). True: it is the engine's. */
bool undecided_await(int fd);
static inline bool call_begin_to(struct call *c, int fd, enum call_use use)
{
	struct file *f = fdtable_peek(fd);
	if (__builtin_expect(!f, 1) || engine_inside)
		return false;
	if (f->kind != FILE_SOCK && !(f->seized && undecided_await(fd)))
		return false;
	return call_begin_engine(c, fd, use);
}
static inline bool call_begin(struct call *c, int fd)
{
	return call_begin_to(c, fd, USE_PLAINLY);
}
/* c->file, of the engine, is held, and fd leads to it: the rest of such a call's beginning. */
void call_begun(struct call *c, int fd);
/*
 * False: the socket went to the kernel meanwhile, or a handler took it from its number and the call starts again: look
 * again.
 */
bool call_end(struct call *c, long result);
/*
 * For calls that never wait, on listeners: the whole call is inside, so that a handler of the program runs before or
 * after it. It may close the listener and bind its port again, which a call that still holds it would not let go.
 * False: nothing of that kind, and not inside.
 */
bool call_begin_at_once(struct call *c, int fd);
bool call_end_at_once(struct call *c, long result);
/* The caller keeps c->file's reference, and sees to what is undone. */
static inline void call_keep(struct call *c)
{
	undo_pop(&c->undo);
}

#define VIA_ENGINE(fd, verb) VIA_ENGINE_TO(fd, USE_PLAINLY, verb)
#define VIA_ENGINE_TO(fd, use, verb)                                                               \
	do {                                                                                       \
		engine_call();                                                                     \
		VIA_ENGINE_IN_CALL(fd, use, verb);                                                 \
	} while (0)
/*
 * A call that POSIX makes a cancellation point acts on a cancellation that is pending when it begins, and has then done
 * nothing, also where it need not wait. The real functions see to it themselves. Before anything is held: what comes
 * after is left only in a wait.
 */
static inline void cancel_point(int fd)
{
	if (!engine_inside && fdtable_peek(fd))
		pthread_testcancel();
}
#define VIA_ENGINE_CANCELLED(fd, verb)                                                             \
	do {                                                                                       \
		cancel_point(fd);                                                                  \
		VIA_ENGINE(fd, verb);                                                              \
	} while (0)
/* For a wrapper that has done something before, within the same call of the program: it says engine_call() first. */
#define VIA_ENGINE_IN_CALL(fd, use, verb)                                                          \
	do {                                                                                       \
		struct call c;                                                                     \
		while (call_begin_to(&c, fd, use)) {                                                      \
			long r_ = c.error ? c.error : (verb);                                      \
			if (call_end(&c, r_))                                                      \
				return edge(r_);                                                   \
		}                                                                                  \
	} while (0)

/* Before VIA_ENGINE of the same verb. */
#define VIA_LISTENER_AT_ONCE(fd, verb)                                                             \
	do {                                                                                       \
		struct call c;                                                                     \
		while (call_begin_at_once(&c, fd)) {                                              \
			long r_ = (verb);                                                          \
			if (call_end_at_once(&c, r_))                                              \
				return edge(r_);                                                   \
		}                                                                                  \
	} while (0)

/*
 * A waiting call's hold on *f, which is `s` at number fd: given up before a handler of the program runs (begins), and
 * taken back after it. True: it is lost.
 */
bool file_around_handler(struct file **f, struct sock *s, int fd, bool begins);
bool file_is_lost(const struct file *f);
void file_put_of_call(struct file *f, struct sock *s); /* file_put; where it is lost, of what is kept instead */

/* May the wrapper do more than the real call? */
static inline bool shim_on(void)
{
	return fdtable_used && !engine_inside;
}

/*
 * An undecided socket in the hands of one call, which changes it: seized, so that others decide it before or after
 * that. True: c->file is the file, until undecided_let_go; or NULL, fd is nothing undecided. False: it was just
 * decided, look again.
 */
bool undecided_hold_slow(struct call *c, int fd);
static inline bool undecided_hold(struct call *c, int fd)
{
	struct file *f = shim_on() ? fdtable_peek(fd) : NULL;
	c->file = NULL;
	if (__builtin_expect(!f, 1) || (f->kind != FILE_CANDIDATE && (f->kind != FILE_KERNEL || !f->seized)))
		return true;
	return undecided_hold_slow(c, fd);
}
void undecided_let_go(struct call *c); /* c->file may be NULL */
/* Is fd the engine's for a call of this kind? */
bool call_is_engines(int fd, enum call_use use);
/*
 * The same for a call that found fd not to be the engine's, when it looked. False also: another thread has decided it,
 * entirely, since then. The kernel's socket has no part in what the call asks any more.
 */
static inline bool undecided_hold_looked(struct call *c, int fd, enum call_use use)
{
	return undecided_hold(c, fd) && (c->file || __builtin_expect(!shim_on() || !fdtable_peek(fd), 1) || !call_is_engines(fd, use));
}
/* The engine's call; otherwise `held` has what is undecided at fd, or nothing. */
#define VIA_ENGINE_OR_HOLD(held, fd, use, verb)                                                    \
	do {                                                                                       \
		VIA_ENGINE_TO(fd, use, verb);                                                      \
	} while (!undecided_hold_looked(held, fd, use))

/* ---- init.c ---- */
extern _Atomic bool shim_ready; /* false: every wrapper makes the program's call, and no other */
void shim_stand_aside(void); /* for good; nothing is the engine's any more */

/* ---- files.c ---- */
extern _Atomic bool shim_has_sockets; /* there was a candidate */
extern bool shim_in_child;            /* after a fork: inherited sockets may exist */
/* A kernel TCP socket that connect or listen may make ours. `kept`: as in struct file. */
void file_note_candidate(int fd, int family, uint8_t kept);
/* … that is just made, of a program that believes it to be non-blocking or not, as the kernel does. */
void file_note_made(int fd, int family, uint8_t kept, bool nonblock, bool kernel_nonblock);
/* Sets `used`. An undecided socket has no keeper from then on, and is seized. */
void file_used(struct file *f);
void fd_used(int fd);
/* O_NONBLOCK of an undecided one, which is seized, is `on` from now on. */
void file_set_nonblock(struct file *f, bool on);
/*
 * Another process may set options on all that there is from now on; what is undecided is settled. At a fork; at other
 * times.
 */
void files_touched(void);
void files_after_fork(void); /* in the child; the table's lock is held */
void files_shared(void);
void file_note_epoll(int fd);
/* Number `fd`, which leads to the kernel's epoll of `f`, has the caller's reference. Seized. */
void file_gets_number(struct file *f, int fd);
/* passed.c: if it is an epoll, it goes into a message. */
void epoll_passed(int fd);
/* A new number came in a message. True: it leads to an epoll that went into one, and is in the table. */
bool epoll_received(int fd);
/* In a fork's child, whose references are the numbers' only. */
void passed_after_fork(void);
/* The kernel just gave us this number: what the table still says of it is stale. Returns fd. */
int fd_created_slow(int fd);
static inline int fd_created(int fd)
{
	return fd < 0 || !fdtable_peek(fd) ? fd : fd_created_slow(fd);
}
/* Undecided, and now used in a way that only the kernel serves. */
void file_forget_candidate(int fd);
void file_forget(struct file *f); /* … and seized by the caller */
/* Before it is forgotten, but for a call that connects it: what it was. */
void candidate_leaves_role(const struct candidate *c, int fd);
/* close(2), 0 or -errno. */
int file_close(int fd);
/* dup3(2) where the table knows one of the two. */
int file_dup_over(int fd, int to, int flags);
/* A number for the same as `fd` by the system call nr(fd, b, c): dup, F_DUPFD, dup3. The number, or -errno. */
int file_dup(int fd, long nr, long b, long c);
int file_release(struct file *f); /* fdtable_on_release */
/* 0 decided, or SOCK_KERNEL, or FILE_AGAIN, or -errno. */
#define FILE_AGAIN 2 /* another thread has just decided it: look again */
int file_listen(int fd, int backlog);
int file_given(int fd, int backlog); /* as if a parent had listened */
/*
 * 0: it is begun, and `c` has it, also if its number is closed meanwhile, until call_end. *nonblock: the socket was
 * non-blocking then.
 */
int file_connect(struct call *c, int fd, const struct sockaddr *addr, socklen_t len, bool fastopen, bool *nonblock);
int file_accept(struct call *c, int flags, struct sockaddr *addr, socklen_t *len);

/* ---- reuse.c ---- */
/*
 * socket(2) with a kernel socket that is at home: its number, its place, and its O_NONBLOCK. -EAGAIN: there is none;
 * -EMFILE.
 */
int reuse_take(int family, int type, uint8_t *place, bool *nonblock);
/* A keeper for a socket that was just made, its place; 0: none. */
uint8_t reuse_keep(int fd, int family);
/* The file ends: its kernel socket comes home, or loses its keeper. */
void reuse_end(struct file *f);
void reuse_drop(uint8_t place); /* … loses it; 0: there is none */
/* What a socket has of its maker may be another thing from now on. */
void reuse_forget(void);
bool reuse_may_begin(void); /* the program opens connection after connection, and nothing of the host sees each socket */
/* … and the program may make no calls for it any more. */
void reuse_stop(void);
/* Numbers are needed: those at home end. False: there were none. */
bool reuse_give_up(void);
void reuse_after_fork(void); /* in the child; the table's lock is held */

/* ---- undecided.c ---- */
/*
 * The kernel's socket of an undecided `f` hears what it has not heard yet. Before anything is done with it. `f` is
 * seized, here and below; or no other thread can reach it.
 */
void undecided_settle(struct file *f);
void undecided_settle_all(void);
/* F_SETFL and F_GETFL, O_NONBLOCK alone; FIONBIO. False, -EBADF: the kernel is to be asked. */
bool undecided_set_nonblock(struct file *f, bool on);
int undecided_flags(const struct file *f);
/* bind(2). False: the kernel is to be asked. */
bool undecided_bind(struct file *f, const struct sockaddr *addr, socklen_t len);

/* ---- handover.c ---- */
/* The engine socket `f` becomes a kernel socket under all its numbers; `why` is told by finesse
 * stat. 0 or -errno. */
int file_handover(struct file *f, const char *why);
/* In a fork's child, of an inherited one: a connection becomes the kernel's, a listener this process's. */
int file_adopt(struct file *f);
/* The same for whatever is at fd; 0 also when it is nothing of ours. An undecided socket stays the
 * kernel's from now on. */
int fd_handover(int fd, const char *why);
/* What the kernel alone does for a connection, and does from now on. A listener's kernel socket does it as it is. */
void connection_to_kernel(int fd, const char *why);
/*
 * The same for an fd that somebody gets who knows nothing of us. A connection that cannot be handed over ends, and what
 * he gets says so (sock_handover).
 */
int fd_to_kernel(int fd, const char *why);
/*
 * The same for an fd that a message takes along. -ETOOMANYREFS: as for the kernel, too many are under way for now;
 * whatever was at fd is still there.
 */
int fd_to_message(int fd);
/* Everything that the engine serves in this process. */
void handover_all(const char *why);
/* The same, and nothing more comes to the engine: what is undecided and what is to come are the kernel's. */
void leave_engine(const char *why);
/* Before a program is started that inherits what is not close-on-exec. */
void handover_for_spawn(const char *why);
/*
 * A verb said -EBADF: a socket that the engine made the kernel's by itself is that under all its numbers when this
 * returns true, or was already.
 */
bool file_follow(struct file *f);
void shim_handover_init(void);
/* Before exec. True: the program gets a listener. */
bool handover_for_exec(void);
/* ---- exec.c ---- */
/* Before the process executes a program: says so where finesse does not reach it (unreached.c). */
void unreached_program(const char *path);
void unreached_file(const char *file);
void unreached_program_at(int dir, const char *path);
void unreached_before_fork(void);
void exec_keep_environment(char *const *env); /* once, at load */

void numbers_to_kernel(struct file *f, int kfd); /* under every number of `f` there is a dup of kfd */
void kernel_fd_set_nonblock(int fd, bool on);
/* Flags of F_SETFL that Linux keeps for a socket, tells again, and does not heed. */
#define STATUS_KEPT (O_APPEND | O_NOATIME)
/* … and the kernel's socket has them, and O_NONBLOCK or not. */
void kernel_fd_set_status(int fd, int kept, bool nonblock);

/* ---- adopt.c ---- */
bool adopt_may(int fd);
bool adopt_look(int fd);
/* Before a wait for clients at `fd`, which may be a listening socket that the shim does not know. */
static inline void adopt_listener(int fd)
{
	if (__builtin_expect(adopt_may(fd), 0))
		adopt_look(fd);
}
/*
 * Before poll or select. Many other things are polled, and by processes whose system calls are restricted: only what
 * was announced or passed is asked about.
 */
bool adopt_is_announced(int fd);
static inline void adopt_polled(int fd)
{
	if (__builtin_expect(adopt_may(fd) && adopt_is_announced(fd), 0))
		adopt_look(fd);
}
/* It was decided that this one is the kernel's. */
void adopt_never(int fd);
void adopt_duped(int fd, int to); /* … as `fd` was */
/* Before the first fork of a program: listening sockets that it got over exec, its children may serve. */
void adopt_before_fork(void);
/* There is another file at this number, and the kernel made it. */
void adopt_ask_again(int fd);
void adopt_were_passed(void); /* at load: who executed this program passed listeners, under some of the first numbers */

/* ---- unconnect.c ---- */
extern _Atomic bool shim_left_errors; /* there was a candidate with a left_error */
/* If `error` stands in for what a dissolved connection left at `fd`: that, once. Else `error`. */
int left_error(int fd, int error);
/* The result of a real call that tells SO_ERROR, and errno. */
static inline ssize_t tells_error(int fd, ssize_t r)
{
	if (__builtin_expect(r < 0 && shim_left_errors, 0))
		errno = left_error(fd, errno);
	return r;
}
/*
 * The engine socket `f`, of which the caller has a reference, is undecided again. `how`: shutdown's. 0; -EBADF: it is
 * the engine's no more; -EAGAIN as sock_disconnect;
 * -ENOMEM, -EMFILE: nothing changed.
 */
int file_unconnect(struct file *f, enum disconnect why, int how);
/* The engine listener `f` was ended by another process, which has it as well; it is the kernel's now. */
bool file_ended_elsewhere(struct file *f);
/*
 * Puts an option of a connection off until it is unconnected: the kernel socket beneath needs it no earlier. The engine
 * has taken `value`. False: it is none that can be put off, or there is no room; what was put off is set then, and the
 * caller sets this one.
 */
bool file_option_late(struct file *f, unsigned index, const void *value, socklen_t len);

/* ---- io.c ---- */
/* sockets.c: the socket is unconnected again, after a call that said `r`; what the call says then. */
long call_unconnected(struct call *c, long r);
/*
 * The kernel's connect, or sendmsg with MSG_FASTOPEN, said `r`, after file_connect had said SOCK_KERNEL: where it
 * connects, the socket is the kernel's from now on. `dissolves`: it was asked for AF_UNSPEC. Leaves errno.
 */
long kernel_connects(int fd, long r, bool dissolves);
/* sock_sendmsg; SIGPIPE as Linux raises it. */
ssize_t engine_send(struct call *c, const struct msghdr *msg, int flags);
/* As tells_error, of a real call that sends: an EPIPE that was left comes with its signal, as the kernel's would. */
ssize_t send_tells_error(int fd, ssize_t r, int flags);
void raise_sigpipe(void); /* on this thread, as Linux does */

/* ---- stdio.c ---- */
/* stdio may sit on this number, and then it goes past the wrappers. */
static inline bool is_stdio_number(int fd)
{
	return fd >= 0 && fd <= STDERR_FILENO;
}
/*
 * A call gives the program this number: an engine socket goes to the kernel where stdio may sit on it. If it cannot,
 * the number still works through the wrappers. Returns fd; leaves errno.
 */
int number_for_stdio(int fd);
/* exit(3) has run all handlers: what streams have that write by functions of the program. */
void stdio_flush_programs(void);

/* ---- known.c ---- */
#define KNOWN_ANYWAY (-2)
void known_soon(int fd);
/*
 * The program is about to write to `fd`, which is not the engine's, or (KNOWN_ANYWAY) to reach another process in
 * another way, or to end.
 */
static inline void before_known(int fd)
{
	if (shim_on() && engine_puts_off())
		known_soon(fd);
}
void known_forget(int fd); /* it is about to be closed */
void known_by_number(long nr); /* syscall(2) */

/* ---- process.c ---- */
/*
 * The bracket around whatever makes a child with memory of its own. From fork_before on this thread holds the table's
 * lock and the engine's; one of the two others gives them back, each in its process. `child`: the pid, or negative:
 * there is none.
 */
bool fork_is_bracketed(void);
void fork_before(void);
void fork_after_in_child(void);
void fork_after_in_parent(long child);
void process_note_socket(void);
bool process_is_own(void); /* … and not another one that shares its memory */
void shim_process_init(void);

/* ---- exit.c ---- */
void shim_exit_init(void);
void shim_exit(void);        /* this process ends now: tell the engine, once */
void shim_exit_forget(void); /* a child has an end of its own */
void shim_is_main(void);     /* this thread is the process's first one */
void shim_exit_done(void);   /* … nothing is left for it to do then */

/* ---- namespaces.c ---- */
extern bool shim_left_netns; /* a thread may be, or have been, in another network namespace than the process began in */
static inline void netns_may_change(uint64_t clone_flags)
{
	if (clone_flags)
		reuse_forget();
	if (clone_flags & CLONE_NEWNET)
		__atomic_store_n(&shim_left_netns, true, __ATOMIC_RELAXED);
}

/* ---- clone.c ---- */
/* clone, clone3, fork or vfork by number, as syscall(2) makes them: the raw result. */
long clone_by_number(long nr, const long *a);

/* ---- privilege.c ---- */
/* The calls of syscall(2) that change what a process may do. True: made, *r as libc's. */
bool privilege_by_number(long nr, const long *a, long *r);

/* ---- aio.c ---- */
/* io_submit by its number. */
void aio_submitted(long n, struct iocb **list);

/* ---- uring.c ---- */
/* io_uring_enter of the program's own, past liburing. */
void uring_entered(int fd);
/* io_uring_setup by its number: the raw result. `caller`: the code that asks. */
long uring_setup(long entries, void *params, const void *caller);
/*
 * Does the program have a ring of its own? Then its sockets are the kernel's from now on. `may_skip`: not looked for if
 * that was done lately.
 */
bool uring_in_use(bool may_skip);

/* ---- signals.c ---- */
void shim_signals_init(void);
void shim_defaults_init(void); /* with the first TCP socket */
void signals_before_exec(void); /* ignored memory faults are ignored in the kernel, too: the new program inherits that */
void signals_after_exec(void);  /* … no longer; errno stays */
void signals_give_back(void);  /* the program restricts its system calls: default actions are the kernel's again */
void signals_after_fork(void); /* in the child */
bool signals_told_to_end(void); /* a handler of the program's has run for SIGTERM, SIGINT or SIGQUIT: whoever sent it waits for the end */
uint64_t signals_handled(void); /* the program has a handler of its own */
bool signals_in_handler(void); /* this thread runs a handler of the program's */
static inline uint64_t signal_bit(int sig)
{
	return 1ULL << (sig - 1);
}
void kernel_sigmask(int how, uint64_t set);
uint64_t kernel_sigmask_now(void);
void signal_to_self(int sig, const siginfo_t *info); /* queued to this thread, as it came */

/* ---- death.c ---- */
bool death_is_default(int sig); /* of a signal: its default action ends the process, and is ours to prepare */
/* In a handler: what exit does is done by the helper. False: there is none. */
bool death_by_helper(void);
/*
 * The default action of `sig`, for a thread that is not inside the engine, or whose own fault it is. Mostly does not
 * return; otherwise the handler must.
 */
void death_by_default(int sig, siginfo_t *info, ucontext_t *context);
bool death_comes_again(int sig, const siginfo_t *info); /* of a fault: its instruction is repeated when the handler returns */

#endif
