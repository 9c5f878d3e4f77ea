/* What poll.c, select.c and epoll.c share. */
#ifndef FINESSE_PRELOAD_WAITS_H
#define FINESSE_PRELOAD_WAITS_H

#include "ready/ready.h"
#include "socket/sock.h"

#include <time.h>

/* NULL: for ever. */
struct timespec *timespec_from_ms(int ms, struct timespec *out);
/* fd is polled or put into another epoll: if it is an epoll with engine sockets, now or later, its
 * kernel fd must show their readiness. */
void epoll_note_polled(int fd);
/* Does the engine have to look at this fd? */
bool is_engine_fd(int fd);
bool timespec_valid(const struct timespec *ts);
#define KERNEL_SIGSET_BYTES 8 /* of libc's sigset_t, what the kernel reads */
/* Why Linux refuses such a wait before it looks at a descriptor: -EINVAL, -EFAULT; 0: it does not. */
int wait_is_wrong(const struct timespec *timeout, const sigset_t *mask);

/*
 * A wait's own mask. What it blocks stays blocked between the engine's system calls, until the result is known: the
 * handler runs when the call is over, and does not end it. (What the mask lets in is the business of each system call.)
 */
uint64_t wait_mask_hold(const sigset_t *mask);
void wait_mask_release(uint64_t held);

/* How long a call may take. */
struct span {
	const struct timespec *total; /* NULL: for ever */
	struct timespec start;
};
void span_begin(struct span *s, const struct timespec *total);
/* What is left of it, in *left; NULL: for ever. */
const struct timespec *span_left(const struct span *s, struct timespec *left);

#define MIXED_ON_STACK 64 /* fds: 3 KiB */

/* Sets that are held for one wait. */
struct mixed {
	struct undo undo; /* gives the references back when a handler jumps out of the call */
	unsigned n;
	struct sock_pollfd *fds;
	struct file **files; /* references, NULL: kernel fd; a handler may make them lost (shim.h) */
	bool handled;    /* a handler has run */
	bool was_renumbered; /* … and before it, that was so */
	struct mixed_block *block; /* more than MIXED_ON_STACK: where they are */
	struct sock_pollfd stack_fds[MIXED_ON_STACK];
	struct file *stack_files[MIXED_ON_STACK];
};

int mixed_begin(struct mixed *m, unsigned n);
/* Slot i of n is fd. */
void mixed_set(struct mixed *m, unsigned i, int fd, short events);
void mixed_end(struct mixed *m);
/* After a poll that told something: one of them left the engine meanwhile, and is to be looked up again. */
bool mixed_has_moved(const struct mixed *m);
/* A number leads somewhere else than when the wait began: it was closed, perhaps opened anew. */
bool mixed_is_renumbered(const struct mixed *m);

#endif
