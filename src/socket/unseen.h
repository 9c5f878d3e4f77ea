/* Text that stays in the kernel until it is read; see unseen.c. */
#ifndef FINESSE_SOCKET_UNSEEN_H
#define FINESSE_SOCKET_UNSEEN_H

#include "socket/engine.h"

/* A large frame has come, of which its beginning is here. True: it was taken without the rest. */
bool unseen_take(struct iface *i, const struct link_rx *rx);
/*
 * Every byte is put where it belongs: before somebody blocks, and before a connection's bytes are looked at but by
 * unseen_read.
 */
void unseen_settle(struct engine *e);
void unseen_settle_iface(struct iface *i);
/* … of one connection, and of what came before. */
void unseen_settle_sock(struct engine *e, struct sock *s);
/*
 * Of a connection that has some (n_unseen): up to `most` bytes to `to`, as far as one copy reaches. Bytes, or as
 * tcp_recv.
 */
ssize_t unseen_read(struct engine *e, struct sock *s, void *to, size_t most);

#endif
