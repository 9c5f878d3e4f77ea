/* What the files of this room share. Everything here: engine lock held. */
#ifndef FINESSE_READY_INTERNAL_H
#define FINESSE_READY_INTERNAL_H

#include "ready/ready.h"
#include "socket/engine.h"

/*
 * One registration: (epoll, file, number). It knows who reports it: the engine (`sock`) or the kernel's epoll
 * (`in_kernel`).
 */
struct ep_item {
	struct watch watch; /* on the socket */
	struct list ready;  /* epset.ready */
	struct list in_set, in_file;
	struct list listener_node; /* queue.c: those of listeners */
	struct epset *set;
	struct list *file;
	struct sock *sock; /* NULL: not the engine's */
	int fd;
	struct epoll_event event;
	bool in_kernel;
	bool disabled;     /* one-shot, fired */
	bool number_gone;  /* `fd` was closed, the file lives on by another number */
	int shown_fd;      /* … by which number the kernel's epoll has its queue, too (queue.c); -1: it has not */
	bool kernel_queue; /* of a listener: somebody may wait in the kernel's queue */
	bool counted;      /* of a listener: among those by which somebody waits for it */
};

uint32_t item_mask(struct engine *e, struct ep_item *it);
/* Something happened to its socket that may be told. `shown`: the epoll's outer one had the edge. */
void item_event(struct ep_item *it, bool shown);
void ready_push(struct epset *set, struct ep_item *it);
void ready_remove(struct epset *set, struct ep_item *it);
void epset_wake_one(struct epset *set);

/* ---- mark.c: our mark in the kernel's epoll ---- */
extern const char epset_mark; /* data.ptr of its events */
/* Another event of a set that is polled or nested: also an edge for who watches the epoll edge-triggered. */
void mark_event(struct epset *set);
/* … by an item that turned out not to be ready: it is an edge if others are. */
void mark_edge(struct epset *set);
/* Threads in the kernel's epoll_wait look again, and find the engine's sockets. */
void mark_kick(struct epset *set);
/* See that the mark says what is true now. */
void mark_update(struct epset *set);
void mark_forget(struct epset *set); /* the set ends */

/* ---- queue.c: kernel queues of listeners ---- */
/* An fd that is readable when a client arrived in one of them; -1: could not be made, look from time to time. */
int queues_fd(void);
void queues_add(struct ep_item *it);
/* Looks who arrived. */
void queues_look(struct engine *e);
bool queue_is_ready(struct ep_item *it);
/* Its registration changed, or the number of threads that wait: does somebody wait for the listener by it? */
void queue_count(struct ep_item *it);
/* So many threads more wait. */
void queues_wait(struct epset *set, int by);
/* Its registration, or whether its epoll is polled, changed: what others see of the queue. */
void queue_show(struct ep_item *it);
/* The kernel's epoll told of a queue, or of nothing. */
void queues_shown(struct epset *set);
void queues_after_fork(void);

#endif
