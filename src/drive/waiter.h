/* What waiter.c and wait.c share. Lock held, but for waiter_of_thread. */
#ifndef FINESSE_DRIVE_WAITER_H
#define FINESSE_DRIVE_WAITER_H

#include "drive/drive.h"

/* This thread's record, if it has one. */
struct waiter *waiter_of_thread(void);
/* Gives back what came after `last`; &w->blocks: all. */
void waiter_free_after(struct waiter *w, const struct list *last);
/* Once: the engine hears of handlers that interrupt waits. */
void wait_init(void);
/* The wait is over, or interrupted: another thread watches what it shared. */
void waiter_leave_share(struct waiter *w);
/* The leader's wake-up, made where there is none yet; -errno. Lock held. */
int drive_seat_efd(struct drive *d);

/* Lets go of the lock, then wakes whom its holder wanted woken. */
void waiter_unlock(struct drive *d);

#endif
