/* Epoll registrations of candidates and engine sockets; see registrations.c. */
#ifndef FINESSE_PRELOAD_REGISTRATIONS_H
#define FINESSE_PRELOAD_REGISTRATIONS_H

#include "fdtable.h"

struct epoll_event;

/* epoll_ctl of file `f` at fd. 0 or -errno. */
int registration_ctl(int epfd, int op, int fd, struct file *f, struct epoll_event *event);
/* A candidate is about to be decided by connect: out of the kernel's epolls; and back, if the
 * kernel keeps it. */
void registrations_suspend(struct file *f);
void registrations_resume(struct file *f);
/* It became the engine's. Lock held. */
void registrations_to_epset(struct file *f);
/* It left the engine; every number of it is the kernel's already. `already_there`: a listener. */
void registrations_to_kernel(struct file *f, bool already_there);
/* Its last reference went. */
void registrations_drop(struct file *f);

/* data.ptr of the event that wakes threads in the kernel's epoll_wait: never shown to the program.
 */
extern const char epoll_kick_mark;
/* Nobody sleeps there any more: take that event back. */
void epoll_unkick(struct file *epoll);
/* Always readable. Lock held. -errno: no fd for it. */
int files_readable_fd(void);

#endif
