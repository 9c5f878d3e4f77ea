/*
 * TCP_SAVE_SYN and TCP_SAVED_SYN: an accepted socket can read the headers of the SYN that opened it, once
 * (saved_syn.c). Everything under the engine's lock.
 */
#ifndef FINESSE_SOCKET_SAVED_SYN_H
#define FINESSE_SOCKET_SAVED_SYN_H

#include <stdbool.h>
#include <sys/socket.h>

struct engine;
struct sock;

bool saved_syn_may_carry(const struct engine *e, int value); /* false: only the kernel has those bytes */
/*
 * The frame at hand opens `s`: its headers, as far as its listener's value says. Without memory they are not saved, as
 * in Linux.
 */
void saved_syn_note(struct engine *e, struct sock *s);
/* getsockopt(TCP_SAVED_SYN): 0 or -errno. `len` can be read. */
int saved_syn_get(struct engine *e, struct sock *s, void *val, socklen_t *len);
void saved_syn_forget(struct engine *e, struct sock *s);

#endif
