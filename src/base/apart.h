/*
 * A function that makes descriptors which nobody keeps, called by a thread of its own with a descriptor table of its
 * own: in the program's table each would have the lowest free number for a moment, which a call of the program beside
 * it must get. The table is empty, and its end closes what is in it.
 *
 * Returns when the function has. Where no thread can be made, or no table of its own, the caller's is used. All signals
 * are blocked in the thread. No lock is needed.
 */
#ifndef FINESSE_BASE_APART_H
#define FINESSE_BASE_APART_H

void apart_call(void (*function)(void *), void *arg);

#endif
