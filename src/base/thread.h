/*
 * Threads of the engine's in the program's process: no handler of the program runs in one, so all signals are blocked there. No lock is needed.
 */
#ifndef FINESSE_BASE_THREAD_H
#define FINESSE_BASE_THREAD_H

#include <pthread.h>

/* 0 or -errno. */
int thread_start(pthread_t *out, void *(*main)(void *arg), void *arg);
/* Waits for its end, and is no cancellation point: the caller may be between two of the program's. */
void thread_join(pthread_t thread);

#endif
