/*
 * Threads of the engine's in the program's process: no handler of the program runs in one, so all signals are blocked
 * there. No lock is needed.
 */
#ifndef FINESSE_BASE_THREAD_H
#define FINESSE_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* 0 or -errno. */
int thread_start(pthread_t *out, void *(*main)(void *arg), void *arg);
/*
 * Before the process is copied: each that was started has begun to run. Whoever calls it keeps others from starting
 * one.
 */
void thread_await_births(void);
/*
 * 0, or -EAGAIN: the process may have none. What RLIMIT_NPROC counts, all of the user's threads, nobody tells, so where
 * the limit is low one is tried. Who is about to do what takes long, and is of no use without a thread, asks first.
 */
int thread_try(void);
/*
 * The process's first thread has ended, and so have all others but the engine's. Where it was pthread_exit that ended
 * the first one, libc ends the process with the last thread, and takes ours for the program's. `proc_stat`: an open
 * /proc/self/stat. A thread that the kernel gave an io_uring of the program counts as the program's.
 */
bool thread_only_ours(int proc_stat);
/* In a fork's child: those of the parent are gone. */
void thread_after_fork(void);
/* Waits for its end, and is no cancellation point: the caller may be between two of the program's. */
void thread_join(pthread_t thread);
/* False: it has not ended in this time, and is to be joined. */
bool thread_join_within(pthread_t thread, int64_t us);
/*
 * True: it had ended, and is joined. For who must not wait: a thread that has told its result may still wait for a CPU,
 * to end.
 */
bool thread_try_join(pthread_t thread);

#endif
