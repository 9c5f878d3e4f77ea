/* What is done for a listener: its claim of the port, its embryos, its queues, its end. Lock held in all. */
#ifndef FINESSE_SOCKET_LISTENER_H
#define FINESSE_SOCKET_LISTENER_H

#include "socket/engine.h"

/* ---- listen.c ---- */
/* What is served for a listener on this address, and the device that it is bound to. As engine_up. */
int listener_serve(struct engine *e, int kfd, const struct candidate *candidate, const struct ip_addr *addr, uint16_t port, char *why, size_t why_len);
/* Is this address one of a listener's that is bound to `name`? */
bool listener_name_matches(const struct ip_addr *name, int family, bool v6only, const struct ip_addr *addr);
/* `ifindex`: by which it comes; 0: any. */
struct sock *listener_find(struct engine *e, const struct flow_key *key, int ifindex);
struct sock *listener_in_use(struct engine *e, struct sock *l); /* `l`, or its sibling that the program uses, while it does not use `l` */
void listener_is_used(struct engine *e, struct sock *l); /* for the first time */
/* A listener of this port that is bound to an interface: it has no SYN of others. */
bool listener_is_elsewhere(struct engine *e, const struct flow_key *key);
/* `for_all`: nobody accepts from its socket any more, in no process. */
void listener_close(struct engine *e, struct sock *l, bool for_all);
/* From now on the kernel answers for the port; accept goes on to give what is here, and what the kernel's queue has. */
void listener_to_kernel(struct engine *e, struct sock *l, const char *why);
void listener_release(struct engine *e, struct sock *l);
int listener_claim(struct engine *e, struct sock *l);
/* As the classifier names it: 0.0.0.0 is IPv4 only, :: both families. */
const struct ip_addr *listener_classifier_name(const struct ip_addr *addr, bool v6only);
/* Connections that the kernel has on this port stay its own. */
int listener_except_kernels(struct engine *e, struct listener *lst);
int listeners_except_kernels(struct engine *e, const uint8_t *ports); /* of all whose port has its bit set; the same, at once */
/*
 * An inherited listener that this process accepts from the kernel's queue: who serves it elsewhere is told, and what
 * waits there for accept comes here, too.
 */
void listener_stays_kernels(struct engine *e, struct sock *s);
/* Without the listening port, each connection needs an entry of its own in the classifier. */
void listener_keep_connections(struct engine *e, uint16_t port);
void listener_note_fallback(const struct sock *l, int err);
/* Readable when a client came by another way than the engine. */
static inline int listener_queue(const struct listener *lst)
{
	return lst->queue_fd >= 0 ? lst->queue_fd : lst->kfd;
}
/* There is a spare queue `fd` now: who waits, waits for it, too. */
void listener_watch_too(struct engine *e, struct sock *l, int fd);
extern void (*engine_on_queue_changed)(struct sock *l); /* ready/'s: listener_queue is another one. Lock held. NULL: nobody registers queues */
void listeners_drain(struct engine *e); /* at a turn's end */

/* ---- syn.c: handshakes that others begin ---- */
/* True: it is an embryo now. `iss_min`: of a TIME-WAIT that it takes over, or 0. */
bool listener_on_syn(struct engine *e, struct sock *l, const struct ip_input *in, uint32_t iss_min);
/* A segment of no connection, with ACK: true when it brings back a cookie of ours (or may not be answered). */
bool listener_on_ack(struct engine *e, struct sock *l, const struct ip_input *in);
void embryo_leave(struct sock *s); /* established, or dead */
/* The handshake of an embryo is complete. */
void listener_on_established(struct engine *e, struct sock *s);
void listener_give_to_accept(struct engine *e, struct sock *s);
bool listener_accept_full(const struct sock *l);

/* ---- way_back.c ---- */
/*
 * 0; -EXDEV: Linux might not take a SYN of this source that came now, and is to say so itself; `found`: the way of its
 * answer.
 */
int way_back_check(struct engine *e, const struct sock *l, const struct flow_key *key, const struct route *found);
int way_back_of_cookie(struct engine *e, const struct sock *l, const struct flow_key *key); /* … or -errno: no way leads there */

/* ---- defer.c ---- */
bool defer_starts(struct engine *e, struct sock *s); /* false: it need not wait */
bool sock_is_deferred(const struct sock *s);
void defer_expire(struct engine *e);
int64_t defer_deadline(const struct engine *e);
bool defer_has_others(const struct listener *lst); /* is there an embryo that is not deferred? */
void defer_forget(struct engine *e, struct listener *lst); /* in silence */

/* ---- siblings.c ---- */
/*
 * `kfd` listens, or will, and is the kernel's because of an option: so are those from now on that share its port.
 * Inside a turn, not inside a walk over engine.listeners.
 */
void siblings_follow(struct engine *e, int kfd, const char *why);
/* It would share a port with such a one. */
bool siblings_refuse(struct engine *e, int kfd, const struct ip_addr *addr, uint16_t port);

/* ---- requeue.c ---- */
/* Who waits for accept goes to the queue of the kernel's listener, as far as the kernel takes them. */
void listener_requeue(struct engine *e, struct listener *lst);
void requeue_end(struct engine *e); /* no listener drains any more */
void requeue_after_fork(struct engine *e); /* in the child: the parent's listeners drain on */

#endif
