/*
 * The socket layer as the shim sees it: verbs on struct sock, in Linux's semantics, 0/positive or -errno.
 *
 * A struct sock is a listening or connected TCP socket served by this process's engine. Every verb takes and leaves the
 * engine's lock itself, drives the engine while it waits, and may be called from any thread. References are counted:
 * the shim holds one per open file (dups and calls in progress share it and are counted by the shim) and ends it with
 * sock_close.
 */
#ifndef FINESSE_SOCKET_SOCK_H
#define FINESSE_SOCKET_SOCK_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/epoll.h>
#include <poll.h>
#include <time.h>

#include "drive/inside.h" /* the thread's state that the shim and the engine share */

struct engine;
struct sock;
struct settings;
struct candidate; /* socket/options.h */

/* ---- which engine ---- */

/*
 * The process's one, before and after it is up: for whoever has no socket to ask. Below the functions that the shim
 * calls, a socket's or an epoll set's own is meant, or the one that is passed.
 */
struct engine *engine_of_process(void);

/* ---- deciding: an undecided kernel TCP socket becomes ours, or stays the kernel's ---- */

/* Positive results of sock_decide_*: the kernel keeps the socket; the shim makes the real call. */
#define SOCK_KERNEL 1

/*
 * listen(2) on kernel socket `kfd`. 0: *out serves it (and kfd listens in the kernel too, non-blocking from now on; the
 * application's view of O_NONBLOCK is sock_get_nonblock). SOCK_KERNEL: not ours, nothing was done. -errno: listen
 * failed, as the kernel said.
 */
int sock_decide_listen(int kfd, const struct candidate *candidate, int backlog, struct sock **out);
/*
 * A listening socket that this process got from elsewhere, before a fork: as if its parent had listened. *out is
 * inherited (sock_adopt). SOCK_KERNEL: not ours; -ENOMEM,
 * -EMFILE.
 */
int sock_decide_given(int kfd, const struct candidate *candidate, int backlog, struct sock **out);
/*
 * connect(2) on kernel socket `kfd`. `candidate`: what is known of it, which spares asking the kernel. 0: *out exists,
 * the connection is begun; sock_connect says what comes of it. SOCK_KERNEL: not ours. -errno: nothing was begun.
 * `fastopen`: it is sendmsg with MSG_FASTOPEN, which follows, and the SYN waits for it.
 */
int sock_decide_connect(int kfd, const struct candidate *candidate, const struct sockaddr *addr, socklen_t len, bool nonblock,
			bool fastopen, struct sock **out);
/*
 * bind(2) of a candidate, to an address that is the engine's and without a port: noted in it, and 0 is the answer.
 * False: the kernel is to be asked.
 */
bool sock_may_bind_late(struct candidate *candidate, const struct sockaddr *addr, socklen_t len);
/* What it is to be bound to. */
void sock_late_name(const struct candidate *candidate, struct sockaddr *out, socklen_t *len);
/* What bind would say because of connections that the kernel does not know: 0 or -EADDRINUSE. `addr` can be read. */
int engine_port_taken(int kfd, const struct sockaddr *addr, socklen_t len);
/* Before bind(2) of a candidate: an address of our own, which the kernel lacks, can be bound to. */
void engine_before_bind(int fd, const struct sockaddr *addr, socklen_t len);

/* ---- references and life ---- */
struct sock *sock_ref(struct sock *s);
void sock_unref(struct sock *s);  /* end of a call in progress: not a close */
/*
 * close(2) of the last fd, when no call is in progress any more (as the kernel's fput): the close policy is asked,
 * SO_LINGER obeyed. Consumes one reference. 0 or -errno. The fd may be gone already, and its number another file's. On
 * a handed-over, adopted or inherited sock it drops the reference and does nothing else.
 */
int sock_close(struct sock *s);
bool sock_is_listener(const struct sock *s);

/* ---- verbs ---- */
/*
 * 0 and *out; or 1, and *kernel_fd is a connection from the kernel's queue (flags: SOCK_NONBLOCK, SOCK_CLOEXEC as
 * accept4); or -errno. addr/len get the peer's address, and may be NULL.
 */
/* Beside accept4's flags: never waits, whatever O_NONBLOCK says. */
#define SOCK_ACCEPT_AT_ONCE 1
int sock_accept(struct sock *s, int flags, struct sockaddr *addr, socklen_t *len, struct sock **out, int *kernel_fd);
/*
 * From the kernel's queue only, without waiting. 1 and *kernel_fd as above, or -errno: -EAGAIN when that queue is
 * empty.
 */
int sock_accept_kernel(struct sock *s, int flags, struct sockaddr *addr, socklen_t *len, int *kernel_fd);
/*
 * connect(2) on our socket; BEGUN: it was this call that sock_decide_connect began. Waits for the handshake unless the
 * socket is non-blocking. CONNECT_BEGUN_NONBLOCK: it was non-blocking when the call began. What connect must return: 0,
 * -EINPROGRESS, -EALREADY, -EISCONN, -EINTR, the connection's error. *dissolve: the socket must be made unconnected
 * (sock_disconnect) before the call returns, because it failed or was asked for that (AF_UNSPEC).
 */
enum connect_how { CONNECT_ANEW, CONNECT_BEGUN, CONNECT_BEGUN_NONBLOCK };
int sock_connect(struct sock *s, const struct sockaddr *addr, socklen_t len, enum connect_how how, bool *dissolve);
/*
 * bind(2) on a connection, `fd` is the program's, `addr` can be read. It has a port already, which is an error unless
 * the connection is over.
 */
int sock_bind(struct sock *s, int fd, const struct sockaddr *addr, socklen_t len);
/* ELSEWHERE: another process, which has the same listener, has shut it down, or dissolved it. */
enum disconnect { DISCONNECT_CONNECT, DISCONNECT_SHUTDOWN, DISCONNECT_ELSEWHERE };
/* Of a listener, whose kernel socket shows something: has that happened? */
bool sock_ended_elsewhere(struct sock *s);
/*
 * disconnect.c: the engine's part of a socket that is unconnected again ends; from now on its verbs say -EBADF. *error:
 * what SO_ERROR says then, positive, or 0.
 * -EBADF: it is none any more. -EAGAIN: it is not in SYN-SENT any more (DISCONNECT_SHUTDOWN), shut it down again.
 */
int sock_disconnect(struct sock *s, enum disconnect why, int *error);
/*
 * A fresh kernel socket with the options of this connection: its fd, the caller's, and in *c what is known of it.
 * -errno.
 */
int sock_twin(struct sock *s, struct candidate *c);
/*
 * The kernel answers for a listener's port from now on, for the reason `why`, which lives for ever; accept gives what
 * came to the engine, too. 0, -EBADF.
 */
int sock_listener_to_kernel(struct sock *s, const char *why);
/* listen(2) again: backlog changes. */
int sock_listen_again(struct sock *s, int backlog);
/*
 * flags: MSG_*. MSG_DONTWAIT or the socket's O_NONBLOCK: no waiting. -EPIPE: the shim raises SIGPIPE unless
 * MSG_NOSIGNAL. With MSG_FASTOPEN, or where TCP_FASTOPEN_CONNECT put the SYN off, it connects first; msg_name may be
 * NULL. *dissolve, false before: as of sock_connect.
 */
ssize_t sock_sendmsg(struct sock *s, const struct msghdr *msg, int flags, bool *dissolve);
/*
 * Up to `n` bytes of a file, which has them, from `at` on, by one copy: from the page cache to where they wait to be
 * acknowledged. `end`: where the program's call ends. Bytes; -EAGAIN: there is no room, and the socket does not wait;
 * 0: not in this way (a wait, an error, bytes that are not in memory).
 */
ssize_t sock_send_file(struct sock *s, int fd, off_t at, size_t n, off_t end);
ssize_t sock_recvmsg(struct sock *s, struct msghdr *msg, int flags);
ssize_t sock_splice_stops(struct sock *s); /* before an urgent byte, read or not: what splice returns. 1: it does not stop */
/* Control data that can be read: does it ask for what only the kernel does? */
bool sock_message_is_kernels(struct sock *s, const struct msghdr *msg);
/*
 * SOCK_DISCONNECT: what shutdown does here is done by disconnecting (sock_disconnect), a listener's kernel socket shut
 * down first.
 */
#define SOCK_DISCONNECT 1
int sock_shutdown(struct sock *s, int how);
/*
 * SOCK_KERNEL: only a connection of the kernel's has the answer: hand it over and ask the fd. SOCK_ASK_FD: the fd's
 * kernel socket has it, as it is.
 */
#define SOCK_ASK_FD 2
int sock_getsockopt(struct sock *s, int level, int name, void *val, socklen_t *len);
/* SOCK_KERNEL: the option is the kernel's: the connection has to be handed over, and the option set on its fd. */
int sock_setsockopt(struct sock *s, int level, int name, const void *val, socklen_t len);
/* SO_ERROR becomes `error`, positive: told by the next call that looks at it. */
void sock_put_error(struct sock *s, int error);
/* That, positive or 0, which is told by this. What ICMP said without ending anything is SO_ERROR's alone. */
int sock_take_error(struct sock *s);
/* Is a handover owed, because an option of the kernel's was set before a handover was possible? */
bool sock_wants_kernel(const struct sock *s);
int sock_getsockname(struct sock *s, struct sockaddr *addr, socklen_t *len);
/* That `c` was this connection, and of which name. */
void sock_note_client(const struct sock *s, struct candidate *c);
/* May it never listen again, since it was a client? (kernel/roles.h) */
bool sock_role_is_kept(const struct candidate *c);
int sock_getpeername(struct sock *s, struct sockaddr *addr, socklen_t *len);
int sock_ioctl(struct sock *s, unsigned long request, void *arg); /* FIONREAD, FIONBIO, SIOCATMARK, SIOCOUTQ… else -ENOTTY */
bool sock_get_nonblock(const struct sock *s);
void sock_set_nonblock(struct sock *s, bool on);
/* Of what the engine made a kernel socket for a child: has the program here set it anew since? */
bool sock_mode_changed(const struct sock *s);

/* Is there an engine in this process? One load; false: every wrapper may go straight to the kernel. */
bool engine_exists(void);
/* Does output of verbs wait for a wait (drive/putoff.c)? One load. */
bool engine_puts_off(void);
/* Does something of the host want to see each socket being made, bound and freed? It is asked: costly. No lock held. */
bool engine_sockets_are_watched(void);
/* It is sent. */
void engine_say(void);

struct settings;
/*
 * Once, from the shim's constructor: the settings (copied). Makes no system call; the engine itself is made by the
 * first socket that is decided for it. Without this call the engine never serves anything.
 */
void engine_configure(const struct settings *settings);

/* ---- process events ---- */
/*
 * Before anything of this process ends (exit, _exit, exec): unsent data and FINs go to the kernel, or drain within a
 * bound. `for_good`: nothing can go wrong any more (an exec can), and what is made afterwards is the kernel's.
 * `hurries`: somebody waits for it.
 */
void engine_on_exit(bool for_good, bool hurries);
/*
 * The process's first thread ends by pthread_exit. `last` is called by the helper, without a lock, when no other one is
 * left; it sees to the end. False: it could not.
 */
void engine_main_leaves(bool (*last)(void));
/* An exec that engine_on_exit came before has failed: the process goes on, and so does the engine. */
void engine_after_failed_exec(void);
/*
 * A signal is about to end this process: what exit would do is done, by the helper thread, within a bound. For a signal
 * handler of a thread that is not inside the engine (death.c). 0; -ESRCH: there is no helper; -ETIMEDOUT; -EALREADY: a
 * second thread that asks has waited for the process's end, within a bound of its own.
 */
int engine_before_death(struct engine *e);
/*
 * Make this connection a kernel socket: returns its fd (to be dup2'ed over every fd of the socket), after which `s` is
 * dead: each verb -EBADF. -errno: cannot (state, privilege). `why` is for `finesse stat`. Listeners: the port goes back
 * to the kernel, returns 0 and the real listening fd goes on alone. HANDOVER_SURELY: who gets the fd must have a kernel
 * socket (another process, another program). Where it cannot be handed over, the connection ends (its peer is told by
 * RST, unless it is over already), and a kernel socket shows what the program would find: unread bytes, then ECONNRESET
 * or end of file. One that is being opened is opened anew by the kernel. -errno then: -EMFILE. HANDOVER_OR_REFUSE: the
 * same, but -ETOOMANYREFS says that too many descriptors are under way, or none was left; the connection stays.
 */
enum handover_how { HANDOVER_IF_POSSIBLE, HANDOVER_SURELY, HANDOVER_OR_REFUSE };
int sock_handover(struct sock *s, const char *why, enum handover_how how);

/*
 * fork: prepare in the parent before, then parent or child after. The child keeps `struct sock` objects as `inherited`:
 * verbs on them ask the parent by themselves.
 */
/*
 * False, and nothing is locked: the helper is about to tell the shim of a connection that became the kernel's; let it,
 * and try again. `anyway`: true, whatever it does.
 */
bool engine_fork_prepare(bool anyway);
void engine_fork_parent(pid_t child); /* -1: fork failed */
void engine_fork_child(void);
/*
 * The shim's: the engine made `s` a kernel socket by itself (a fork child asked for it), `kernel_fd` is it and stays
 * the engine's: dup it over every fd of `s`, which is dead already. Called from the engine's helper thread, no lock
 * held. NULL: nobody asked.
 */
extern void (*engine_on_handed_over)(struct sock *s, int kernel_fd);
/*
 * A verb said -EBADF: did the engine make `s` a kernel socket by itself? A duplicate of it (close-on-exec), or -EBADF.
 */
int sock_handed_over(struct sock *s);
/* In a child: is this socket the parent's, so that the shim must call sock_adopt before its first use? */
bool sock_lingers(const struct sock *s); /* its close may wait (SO_LINGER) */
bool sock_is_inherited(const struct sock *s);
/*
 * A listener's kernel socket goes to another process or program, which may accept from it: what nobody accepts here is
 * the kernel's. Of an inherited one, whoever serves it is told.
 */
void sock_share(struct sock *l);
/*
 * The process executes a program that gets the listener's kernel socket: who waits for accept here waits for that
 * program.
 */
void sock_pass(struct sock *l);
/*
 * The child's first use of an inherited socket: connection → a kernel fd handed over by the parent (returned; dup2 it
 * over the fd); listener → it is this process's, too: 0. A connection that is lost is a kernel socket that says so, as
 * sock_handover's. -errno: -EMFILE.
 */
int sock_adopt(struct sock *s);

/* From now on every socket that is not decided yet stays with the kernel; `why`, for `finesse stat`, lives for ever. */
void engine_keep_out(const char *why);
bool engine_is_strict(void); /* the setting */

/*
 * The program may change routes and addresses by itself: from now on the kernel is asked for news of them at every
 * connect, not when they may be older than 100 us.
 */
void engine_note_netlink(void);

/*
 * The helper thread ends; true: there was one. Until it is started again nobody drives the engine while the program
 * computes.
 */
bool engine_stop_thread(void);
void engine_start_thread(void);

/* Note a socket that fell back, for `finesse stat`. `what`: "listen 0.0.0.0:80"; `why` one line. */
void engine_note_fallback(const char *what, const char *why);

#endif
