/*
 * TCP Fast Open (RFC 7413) for the engine: which listener takes data with a SYN, and which client sends it. Lock held
 * in all.
 */
#ifndef FINESSE_SOCKET_FASTOPEN_H
#define FINESSE_SOCKET_FASTOPEN_H

#include "socket/engine.h"

/* ---- fastopen.c ---- */
bool fastopen_may_serve(struct engine *e); /* false: the namespace's servers may, and its key cannot be read */
void fastopen_listen(struct engine *e, struct sock *l, int kfd); /* kfd listens, or an option of it is another */
void fastopen_forget(struct engine *e, struct fastopen *f);
/* What becomes of a SYN; *cookie is for its SYN-ACK. */
enum fastopen_fate fastopen_on_syn(struct engine *e, struct sock *l, const struct ip_input *in, struct fastopen_cookie *cookie);
void fastopen_began(struct engine *e, struct sock *l, struct sock *s); /* an embryo of FASTOPEN_TAKEN */
void fastopen_ended(struct engine *e, struct sock *s); /* its handshake is complete, or never will be */

/* ---- fastopen_client.c ---- */
bool fastopen_may_call(const struct engine *e); /* … of this namespace */
bool fastopen_wants_connect(const struct sock *s); /* TCP_FASTOPEN_CONNECT */
void fastopen_connect(struct engine *e, struct sock *s); /* its connect: without a cookie the SYN, which waited, leaves and asks for one */
/*
 * What sendmsg does with MSG_FASTOPEN, or where the SYN waits, before it sends. *taken: how many of its bytes went with
 * the SYN. 0: the rest is to be sent. Else its result: bytes or -errno. *dissolve: as of sock_connect.
 */
ssize_t fastopen_send(struct engine *e, struct sock *s, const struct msghdr *msg, int flags, size_t *taken, bool *dissolve);
void fastopen_learn(struct engine *e, const struct sock *s); /* connected */
void fastopen_hole(struct engine *e); /* TCP_EV_BLACK_HOLE */
void fastopen_client_ended(struct engine *e, const struct sock *s);

#endif
