/* What poll.c and epoll.c share. */
#ifndef FINESSE_PRELOAD_WAITS_H
#define FINESSE_PRELOAD_WAITS_H

#include <time.h>

/* NULL: for ever. */
struct timespec *timespec_from_ms(int ms, struct timespec *out);
/* fd is polled or put into another epoll: if it is an epoll with engine sockets, now or later, its
 * kernel fd must show their readiness. */
void epoll_note_polled(int fd);

#endif
