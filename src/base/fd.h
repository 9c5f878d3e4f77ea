/*
 * File descriptors that the engine keeps for itself inside somebody else's program.
 *
 * They are moved out of the program's way. Where RLIMIT_NOFILE is 1024 or less they lie beyond it, so that the program
 * may have as many as without us. Where it is larger, or cannot be raised for the moment that this takes, they lie from
 * just under min(RLIMIT_NOFILE, 1024) up. So low numbers stay the program's (lowest free number, FD_SETSIZE), and a
 * close-all loop or closefrom() asks fd_is_internal() first. All are close-on-exec. The table is a bitmap of atomics:
 * fd_is_internal() takes no lock and may run in a signal handler. After fork the child has its copy, and its copies of
 * the descriptors.
 */
#ifndef FINESSE_BASE_FD_H
#define FINESSE_BASE_FD_H

#include <stdbool.h>

/*
 * Moves `fd` up, close-on-exec, and marks it internal. Returns the new number; `fd` itself is closed then. Where no
 * number is free up there it keeps `fd` (marked, and close-on-exec). A negative `fd` is handed through, so that
 * fd_move_high(sys_socket(...)) needs one check. -EMFILE (and `fd` is closed) when the number is beyond the table.
 */
int fd_move_high(int fd);
/* The same for a duplicate of `fd`, which stays as it is. */
int fd_copy_high(int fd);
/*
 * What makes descriptors for a moment, while a call of the program needs them: it must not fail where the program has
 * used up its numbers. Then `make`, which said -EMFILE, is called once more with numbers beyond RLIMIT_NOFILE. It makes
 * one system call. The descriptors are no internal ones.
 */
typedef long fd_maker(void *arg);
long fd_make(fd_maker *make, void *arg);
/* socket(2) so, and a duplicate, close-on-exec. */
int fd_socket(int family, int type, int protocol);
int fd_dup(int fd);
/* Closes an internal fd, and forgets it. Does nothing for a negative one. */
void fd_close(int fd);
/* Forgets an internal fd that somebody else closes. */
void fd_unmark(int fd);
bool fd_is_internal(int fd);
/* Numbers for an engine's own, without taking most of what the program may have. */
bool fd_has_room(void);
/* Were there ever any? */
bool fd_any_internal(void);
/* In a fork's child: another thread of the parent may have been about to move one. */
void fd_after_fork(void);

#endif
