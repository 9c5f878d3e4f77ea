/* How connections leave the engine by a death of the process, or to its children. */
#ifndef FINESSE_SOCKET_LEAVING_H
#define FINESSE_SOCKET_LEAVING_H

#include "socket/engine.h"

/* ---- death.c ---- */
void death_after_fork(struct engine *e); /* in the child: who dies is the parent */
void death_drains(struct engine *e); /* exit's wait for the peers begins */
void death_is_over(struct engine *e); /* the end: whoever waits for it may die */
void death_serve(struct engine *e); /* the helper's, lock held: does not return when the process is about to die */

/* ---- fork.c ---- */
/*
 * The connection becomes the kernel's on the engine's own account; the shim is told by the helper thread. *fd stays the
 * socket's. 0 or -errno. Lock held.
 */
int sock_give_kernel(struct engine *e, struct sock *s, const char *why, int *fd);
/* Tells the shim of sockets that children took; drops the lock meanwhile. */
void fork_tell_shim(struct engine *e);
void inherited_close(struct engine *e, struct sock *s);
/* Every inherited listener is this process's, too. */
void listeners_adopt(struct engine *e);
/* At exit: connections that children hold become the kernel's, and the children get them. */
void fork_give_all(struct engine *e);

#endif
