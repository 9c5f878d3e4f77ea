/*
 * Driving the engine: its lock, the bracket of a turn, waiting, and the helper thread.
 *
 * Owns: the lock; who has the seat (sched.h); each thread's record of its wait (struct waiter); the helper thread.
 * Knows nothing of sockets: what a turn does is the owner's, through `struct drive_ops`. One per engine.
 *
 * Units are µs on the monotonic clock. Functions return 0/positive or -errno. "Lock held" is said where it is so; any
 * thread may call. RFC 9293 MUST-58/59 rest on it: while every thread of the program computes or sleeps elsewhere, the
 * helper thread sends ACKs and retransmits.
 */
#ifndef FINESSE_DRIVE_DRIVE_H
#define FINESSE_DRIVE_DRIVE_H

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/pool.h"
#include "base/time.h"
#include "drive/bulk.h"
#include "drive/inside.h"
#include "drive/sched.h"

struct drive;
struct fd_share;
struct sock;
struct waiter;

/* ---- interest of a thread, or of an epoll registration, in one socket ---- */
struct watch {
	struct list node; /* sock.watches */
	void (*notify)(struct watch *w, struct sock *s); /* lock held */
	struct waiter *waiter;
};

/*
 * A thread's record: it belongs to the thread, never to a stack frame. What a wait needs while it is blocked (watches,
 * arrays) is allocated from the record and given back by the wait's end, or by its undoing when the frames are left by
 * longjmp, pthread_exit or cancellation.
 */
struct waiter {
	struct sched_thread sched;
	bool signalled;          /* something it watches changed */
	uint8_t blocked;         /* enum waiter_blocked: how it can be woken. Lock */
	bool woken;              /* … and that was done */
	int rhythm;              /* how well it has shown that it looks for input soon after it spoke: putoff.c */
	unsigned in_time;        /* looks that did, since the helper had to speak for it */
	unsigned empty;          /* verbs in a row that found nothing */
	int64_t looked_us;       /* it called for input last */
	int64_t waited_us;       /* it found nothing to do last; 0: never yet */
	int64_t woken_us;        /* … and that was over. 0: it waits for the first time */
	int64_t ran_us, slept_us; /* lately, between its waits and in them */
	int64_t spoke_us;        /* its last call had something to say, then; 0: it had not */
	int efd;                 /* while blocked on file descriptors without the seat; else -1 */
	uint32_t futex;          /* while blocked on nothing else */
	bool ends_at_stop;       /* its wait does */
	struct list blocks;      /* memory of its waits, innermost last */
	struct fd_share *share;  /* of its wait; NULL: its fds are its own */
	struct list share_node;  /* fd_share.others, while another thread watches the fds */
	struct drive *drive;
};

/*
 * Kernel fds that several threads wait for in a way that each event is for one of them: an epoll's, a listener's. One
 * of them watches the fds; who leaves its wait for good passes that on. So an event wakes two threads at most, whatever
 * their number, and the others need no eventfd. Embedded in what the fds belong to; zeroed is empty. Lock.
 */
struct fd_share {
	struct waiter *watcher;
	struct list others; /* waiter.share_node, in their waits */
	unsigned epoch;     /* drive.epoch: before a fork the threads were the parent's */
};
/* What it is embedded in ends. */
void fd_share_end(struct fd_share *share);

enum waiter_blocked { BLOCKED_NOT, BLOCKED_LEADS, BLOCKED_FUTEX, BLOCKED_FD, BLOCKED_SLICE };

/*
 * For so long after a call the helper leaves the engine to the program. A peer's tail-loss probe comes after twice the
 * round trip and 2 ms, when two segments are out (RFC 8985): an ACK should be earlier.
 */
#define DRIVE_GRACE_US USEC_PER_MSEC
/*
 * … and so long a program that is calm: for DRIVE_CALM_US no thread of it was away from its waits for longer than
 * DRIVE_AWAY_US.
 */
#define DRIVE_GRACE_CALM_US (4 * USEC_PER_MSEC)
#define DRIVE_CALM_US       (250 * USEC_PER_MSEC)
#define DRIVE_AWAY_US       (USEC_PER_MSEC / 2)

/*
 * What the engine lives from: netlink, and of each interface the packet ring, and the transmit queue while it is full;
 * SYNs that the host judged.
 */
#define DRIVE_FDS         34
#define DRIVE_SERVICE_FDS 64

struct drive_ops {
	/* A turn begins: time is read (and returned), frames come in, due timers run. Lock held, as in all of these. */
	int64_t (*begin)(struct drive *d);
	/* A turn ends: what connections say goes out. */
	void (*end)(struct drive *d);
	/* … but what may as well be said with something else stays with who has it. */
	void (*end_urgent)(struct drive *d);
	/* Connections have something to say. */
	bool (*owes)(struct drive *d);
	/* … and the peer of the first one waits for that: a verb does not put it off. */
	bool (*hurries)(struct drive *d);
	/* The time is read anew, before an `end` that no `begin` precedes; returns it. */
	int64_t (*look)(struct drive *d);
	/* When a turn has something to do at the latest. */
	int64_t (*deadline)(struct drive *d);
	/* What drives the engine waits for: fills `out` (DRIVE_FDS long), returns how many. */
	unsigned (*fds)(struct drive *d, struct pollfd *out);
	/* … and what to do when they are ready, before `begin`. */
	void (*ready)(struct drive *d, const struct pollfd *fds, unsigned n);
	/* A full transmit queue waits for room: a wait that began without that fd is too short-sighted. */
	bool (*tx_blocked)(struct drive *d);
	/* For `spin`: frames wait, without a system call. No lock. */
	bool (*rx_pending)(struct drive *d);
	/* The helper's other work: `finesse stat`, fork children. Must not block: nobody else may be driving. */
	unsigned (*service_fds)(struct drive *d, struct pollfd *out, unsigned max);
	void (*service)(struct drive *d, const struct pollfd *fds, unsigned n);
};

struct drive {
	pthread_mutex_t lock;
	const struct drive_ops *ops;
	struct pool *pool;
	bool up;               /* there is something to drive */
	int64_t now;           /* of this turn */
	int64_t driven_us;     /* when a thread of the program last drove; the helper looks without the lock */
	int64_t put_off_us;    /* since when verbs' output waits for a wait; 0: none does. The helper looks without the lock */
	int64_t unsaid_us;     /* since when nothing was put off: what is not urgent may be so old */
	struct waiter *put_off_by;
	unsigned put_off_verbs; /* … and how many verbs it is */
	int64_t spin_us;
	struct bulk bulk;
	struct sched sched;
	unsigned epoch;        /* 1; a fork's child counts on */
	int64_t seat_until;    /* the seat's thread wakes by itself */
	bool seat_sees_tx;     /* … and waits for the transmit queue, too */
	int seat_efd;          /* wakes it; -1: none could be had, it sleeps in slices */
	int efds[64];          /* idle ones, for waits on file descriptors */
	unsigned n_efds;
	uint32_t *wakes[16];   /* futexes of threads that the lock's holder woke: told once it has let go, or they would only wait for the lock */
	unsigned n_wakes;
	pthread_t helper;
	int helper_efd;
	bool helper_runs, helper_stop, helper_sees_tx;
	bool main_left;   /* the process's first thread has ended by pthread_exit, or is about to */
	int main_stat;    /* … then /proc/self/stat; -1: not open */
	int64_t main_look_us; /* … and when the helper looks at it next */
	const void *last;      /* the process ends: whose thread is the only one to go on, by the address of a variable of its own */
	struct timespec *helper_timeout; /* the helper's, by a mapping to write; NULL: not mapped (stopped.c) */
	const struct timespec *helper_timeout_read; /* … by one to read */
	unsigned stops;        /* how often the process was stopped and went on */
	int64_t grace_us;      /* the helper's: how long it leaves the engine to the program */
	bool away;             /* a thread was away for long. The helper looks without the lock, and takes it back */
	int64_t left_us;       /* when the last wait ended */
	int64_t calm_us;       /* the helper's: since when no thread was away for long */
};

/* Statically; so that the lock and a turn's bracket work from the start, before there is anything to drive. */
#define DRIVE_BEFORE_INIT(o) {.lock = PTHREAD_MUTEX_INITIALIZER, .ops = (o), .seat_efd = -1, .helper_efd = -1, .main_stat = -1}
/* Once, lock held, before the first wait. */
void drive_init(struct drive *d, struct pool *pool);
/* There is something to drive from now on. Lock held. */
void drive_came_up(struct drive *d);
/* What verbs put off goes out first: who takes the lock sees connections as the peer does. */
void drive_lock(struct drive *d);
void drive_unlock(struct drive *d);
/* src/ready's: epolls that others watch show what a verb changed. NULL: there are none. */
extern void (*drive_before_unlock)(void);
/*
 * The process ends, and the calling thread sees to it. As the kernel's end of a process does, this one lets no other
 * thread's call return: whoever needs the engine from here on, or wakes in a wait, sleeps until the process is gone.
 * Lock held.
 */
void drive_end_of_process(struct drive *d);
bool drive_ends_elsewhere(const struct drive *d); /* … and this one is not the last thread. No lock */
/* The usual bracket of a verb: lock and a turn's beginning; its end and unlock. */
void drive_enter(struct drive *d);
void drive_leave(struct drive *d);
/*
 * The same for a verb of an event loop, which neither looks at what connections have said nor waits: its output may go
 * out as late as its thread's next wait (putoff.c).
 */
void drive_enter_verb(struct drive *d);
/* drive_enter_verb for one that looks for input (recv, accept). */
void drive_enter_look(struct drive *d);
void drive_leave_verb(struct drive *d);
/*
 * drive_leave_verb of one that found nothing and did not wait (EAGAIN): a thread that asks again and again waits in its
 * own way.
 */
void drive_leave_empty(struct drive *d);
/* In the middle of such a verb, which needs to see connections as the peer does. Lock held. */
void putoff_settle(struct drive *d);
/*
 * drive_enter_look for one that is a wait (epoll_wait, poll). drive_leave_verb when it found something: the program
 * answers, and its answer carries the ACK. Otherwise
 * drive_leave: the program must not go on with anything unsaid.
 */
void drive_enter_wait(struct drive *d);
/* Lock held. */
void drive_begin(struct drive *d);
void drive_end(struct drive *d);

/* ---- waiting (wait.c) ---- */

/* How long, and which signals end it: made at the verb's entry. */
struct wait {
	int64_t deadline;
	struct handlers_run handlers; /* the thread's, when the call was entered */
	bool any_handler;        /* an SA_RESTART handler ends it, too: poll, epoll, calls with a timeout, calls that have moved something */
	const struct drive *drive;
	unsigned stops;          /* drive.stops at its beginning */
	bool ends_at_stop;       /* a stop and SIGCONT end it: epoll, calls with a timeout, calls that have moved something */
	struct fd_share *share;  /* one of those that wait for the same kernel fds watches them; drive_wait_begin: NULL */
};
/* timeout_us 0: for ever. */
void drive_wait_begin(struct wait *wait, const struct drive *d, int64_t timeout_us);
/*
 * Lock held. The call has taken or given something, and so no later wait of it is restarted: as on Linux, a handler
 * ends it from here on, SA_RESTART or not.
 */
void drive_wait_moved(struct wait *wait);
/* As poll takes it: NULL for ever. -EINVAL. */
int drive_wait_begin_timespec(struct wait *wait, const struct drive *d, const struct timespec *timeout);
/* … and as epoll_wait ends: at a stop, too. */
int drive_wait_begin_epoll(struct wait *wait, const struct drive *d, const struct timespec *timeout);
/*
 * Lock held on entry and exit. Ends the turn, then waits until w->signalled, a kernel fd of `kfds` is ready (their
 * revents are set), the deadline or a
 * signal: 0 (look again; a new turn has begun), -ETIMEDOUT, -EINTR, -ENOMEM. Drives the engine meanwhile when nobody
 * else does. A cancellation point; longjmp out of a handler is allowed: the thread's undos down to those of an outer
 * wait are run then, and its memory is given back.
 */
int drive_wait(struct drive *d, struct waiter *w, struct pollfd *kfds, unsigned n_kfds, const struct wait *wait, const sigset_t *mask);

/* ---- this thread's record (waiter.c) ---- */
struct waiter *drive_waiter(struct drive *d);
/* Lock held. Memory until waiter_free, or until the wait is undone; zeroed. NULL: out of memory. */
void *waiter_alloc(struct waiter *w, size_t size);
void waiter_free(struct waiter *w, void *p);
/* n watches that wake this thread, on no socket yet. They are unlinked by waiter_free. */
struct watch *waiter_watches(struct waiter *w, unsigned n);
/* Lock held: something that it watches changed. */
void waiter_wake(struct waiter *w);
void watch_init(struct watch *w, struct waiter *waiter); /* notify wakes the waiter, if there is one */
/* A socket goes: nobody watches it any more. */
void watches_clear(struct list *watches);
void drive_after_fork(struct drive *d); /* in the child, lock held: only this thread is left, and no helper */

/* ---- the helper thread (helper.c). Lock held ---- */
int drive_helper_start(struct drive *d);
void drive_helper_wake(struct drive *d);
void drive_helper_stop(struct drive *d); /* joins with the lock dropped. By the helper itself: no more than that it is not counted on any more */
void drive_helper_leave(struct drive *d); /* the process ends: nobody waits until the helper has woken and ended */
/*
 * The first thread ends by pthread_exit: no lock held, by that thread. From then on the helper looks whether the
 * engine's threads are all that is left, and then calls `last`, without the lock, which has another thread end the
 * process as libc would. False: not yet.
 */
void drive_main_leaves(struct drive *d, bool (*last)(void));
/* It makes a round, soon. Needs no lock, may be called by a signal handler. */
void drive_helper_nudge(const struct drive *d);

/* For drive's own files: passes on whom the scheduler wants woken; sees that somebody wakes for the next deadline. */
void drive_wake(struct drive *d, struct sched_wake wake);
void drive_check_deadline(struct drive *d);

/* putoff.c, for drive's own files. Lock held. */
void drive_lock_only(struct drive *d); /* as drive_lock, but what was put off stays so */
void putoff_settle_late(struct drive *d); /* … by the helper: whoever did not come back puts nothing off for a while */
void putoff_note_wait(struct drive *d);   /* this thread waits */
void putoff_note_woken(struct drive *d, struct waiter *w); /* … and that is over */
void putoff_forget(struct drive *d);      /* all is said, or not ours to say */
bool putoff_is_sound(const struct drive *d);

/* stopped.c, for drive's own files. */
int stopped_poll(struct drive *d, struct pollfd *fds, unsigned n, int64_t us); /* the helper's sleep; -EINTR: the process was stopped and goes on */
void stopped_seen(struct drive *d);       /* that was so: waits that it ends end. Lock held */
void stopped_after_fork(struct drive *d);

#endif
