/*
 * Readiness, as the shim sees it: masks, poll and select over engine and kernel fds mixed, epoll sets.
 *
 * Units are those of the calls that these stand for. Functions return 0/positive or -errno, take the engine's lock
 * themselves, and may be called from any thread. None may be called with the fd table's lock held: a turn of the engine
 * may be long, and the table's lock is taken by every close. The only caller that holds both is fork, which takes the
 * table's lock first; nothing under the engine's lock ever takes the table's.
 */
#ifndef FINESSE_READY_READY_H
#define FINESSE_READY_READY_H

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/list.h"
#include "drive/drive.h"

struct engine;
struct sock;

/* ---- poll.c ---- */

struct sock_pollfd {
	struct sock *sock; /* NULL: kernel fd in `fd` */
	int fd;            /* negative with sock NULL: ignored */
	short events, revents;
	bool exact; /* of an engine socket: only `events`, not POLLERR and POLLHUP always (select) */
};
/*
 * poll(2). Returns how many have revents, 0 at timeout, -EINTR, -ENOMEM, -EINVAL; -EAGAIN: a socket left the engine
 * meanwhile, look the fds up again. timeout NULL: for ever. `mask` as ppoll.
 */
int sock_poll(struct sock_pollfd *fds, unsigned n, const struct timespec *timeout, const sigset_t *mask);

/* ---- epset.c: what the kernel's epoll is for the kernel's fds, for engine sockets ---- */

/* One epoll instance; a part of the shim's record of its file. All but `kernel_waiters`: engine lock. */
struct epset {
	struct engine *engine;   /* whose sockets it may have; never changes */
	int epfd;                /* a number of the kernel's epoll in this process; -1: none left */
	struct list items;       /* ep_item.in_set */
	struct list ready;       /* ep_item.ready, while it may be ready */
	struct list waiters;     /* watch.node: threads in epset_wait */
	struct fd_share share;   /* … one of which watches the kernel's epoll */
	struct list node;        /* of the sets that have had an item */
	struct list polled_node; /* on the list of those that are polled or nested */
	unsigned n_ready, n_listeners;
	unsigned n_waiting;      /* threads that wait in epset_wait */
	unsigned n_engine;       /* items that the engine reports. Read without the lock, too */
	unsigned n_kernel;       /* registrations in the kernel's epoll, no fewer than there are (it drops those of closed files by itself) */
	unsigned kernel_waiters; /* atomic: threads in the kernel's epoll_wait */
	bool parents;            /* a fork's child, which has not used it yet: the parent uses the same one of the kernel's */
	bool polled;             /* … or nested: the kernel's epoll must show whether there is something to report */
	bool marked;             /* it has our mark in it (mark.c) */
	unsigned queues_passed;  /* waits since the kernel's queues of listeners were looked at */
	bool kernel_first;       /* the next wait asks the kernel's epoll before the engine (wait.c) */
	unsigned told;           /* events told in a row by the one that is first */
	unsigned numbers_passed; /* while the kernel gets a file: of its items, those that were registered by a number in passing */
};

static inline void epset_init(struct epset *set, struct engine *e, int epfd)
{
	*set = (struct epset){.engine = e, .epfd = epfd};
	list_init(&set->items);
	list_init(&set->ready);
	list_init(&set->waiters);
	list_init(&set->node);
	list_init(&set->polled_node);
}
/* Its file is gone. */
void epset_free(struct epset *set);
/* The kernel's epoll is now fd `epfd`; -1: it has no number any more. */
void epset_set_epfd(struct epset *set, int epfd);
/* Does a wait have to look at engine sockets? No lock. */
static inline bool epset_has_engine(const struct epset *set)
{
	return __atomic_load_n(&set->n_engine, __ATOMIC_SEQ_CST) != 0;
}
/* A kernel fd that we do not follow was added to the kernel's epoll. */
void epset_note_kernel(struct epset *set);
/*
 * The epoll's fd is polled, or in another epoll: from now on the kernel's epoll is readable exactly while there is
 * something to report.
 */
void epset_note_polled(struct epset *set);

/*
 * epoll_ctl(2) of an fd that is, or may become, the engine's. `file` is the list of the file's registrations (an item
 * per epoll and number), `s` its socket; NULL: undecided, the kernel's epoll reports it. Errors in Linux's order.
 */
int epset_ctl(struct epset *set, int op, int fd, struct list *file, struct sock *s, struct epoll_event *ev);

/* The kernel's epoll_wait, as the shim makes it (it is a cancellation point). */
typedef int epset_kernel_wait(int epfd, struct epoll_event *evs, int max, const struct timespec *timeout, const sigset_t *mask);
/* epoll_wait(2): arguments are valid. `epfd`: the caller's number. */
int epset_wait(struct epset *set, int epfd, struct epoll_event *evs, int max, const struct timespec *timeout, const sigset_t *mask,
	       epset_kernel_wait *kernel_wait);

/*
 * Around a handler of the program, which may have interrupted this thread's wait in the kernel, and may take long: the
 * thread is not in the kernel meanwhile.
 */
struct kernel_wait *epset_handler_begins(void);
void epset_handler_ends(struct kernel_wait *w);

/* ---- what happens to a file that is registered ---- */
/*
 * An epoll has it by a number that was closed since: nobody can take it out of there, so an undecided socket must stay
 * the kernel's.
 */
bool registrations_are_stuck(struct list *file);
/*
 * An undecided socket is the engine's from now on: out of the kernel's epolls. Not before that is sure: to be
 * registered anew is an edge.
 */
void registrations_to_engine(struct list *file, struct sock *s);
/*
 * It is the kernel's from now on, under number `fd` and others: the kernel's epolls get what was registered. The list
 * is empty afterwards.
 */
void registrations_to_kernel(struct list *file, int fd);
/*
 * The same of a listener that an executed program gets. A set that is the parent's as well, and that this process has
 * not used, stays as it is: the parent's engine tells what happens there.
 */
void registrations_pass(struct list *file, int fd);
/* It is undecided again, as file `to`, under number `fd` and others: the kernel's epolls have it. */
void registrations_to_undecided(struct list *file, struct list *to, int fd);
/* Number `fd` leads to it no more, others do; not `gone`: it does again. */
void registrations_number_moves(struct list *file, int fd, bool gone);
/* The last reference to it went. */
void registrations_drop(struct list *file);

/* In a fork's child: the threads that waited are the parent's, and so is what watches the kernel's queues. */
void ready_after_fork(void);
/*
 * In a fork's child: of a registered file whose socket is the parent's, its list of registrations; NULL: there is none.
 */
struct list *epset_inherited(struct epset *set);

/* Says whether `epfd` is an epoll: 0, or -errno as epoll_ctl says it. */
int epset_probe(int epfd);

#endif
