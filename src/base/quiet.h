/* Writing inside somebody else's program: no signal of it is the program's. */
#ifndef FINESSE_BASE_QUIET_H
#define FINESSE_BASE_QUIET_H

#include <stddef.h>
#include <sys/types.h>

/* write(2) whose SIGPIPE or SIGXFSZ does not reach the program. Bytes written, or -errno. Any thread. */
ssize_t write_quietly(int fd, const void *bytes, size_t n);

#endif
