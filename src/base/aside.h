/*
 * A system call that waits long in the kernel, made by a thread of its own while the caller goes on: bring-up has
 * several that each wait for an RCU grace period, some 10 ms, and these can be the same one.
 *
 * What the call points to stays until aside_wait. Where no thread can be made, aside_begin makes the call itself. All
 * signals are blocked in the thread. No lock is needed; a struct aside is one caller's.
 */
#ifndef FINESSE_BASE_ASIDE_H
#define FINESSE_BASE_ASIDE_H

#include <pthread.h>
#include <stdbool.h>

struct aside {
	long nr, args[6];
	long result; /* 0/positive or -errno */
	pthread_t thread;
	bool runs;
	bool ended; /* the call has; atomic */
};

void aside_begin(struct aside *a, long nr, const long args[6]);
bool aside_has_ended(const struct aside *a);
/* The call's result. Again: the same. */
long aside_wait(struct aside *a);

#endif
