/* Writing inside somebody else's program: no signal of it is the program's. */
#ifndef FINESSE_BASE_QUIET_H
#define FINESSE_BASE_QUIET_H

#include <stddef.h>
#include <sys/types.h>

/*
 * Calls whose SIGPIPE or SIGXFSZ (RLIMIT_FSIZE, which also counts for files in memory) does not reach the program. What
 * the call returns, or -errno. Any thread.
 */
ssize_t write_quietly(int fd, const void *bytes, size_t n);
ssize_t pwrite_quietly(int fd, const void *bytes, size_t n, off_t at);
int allocate_quietly(int fd, off_t bytes); /* fallocate(2) from the beginning */
int resize_quietly(int fd, off_t bytes);   /* ftruncate(2) */

#endif
