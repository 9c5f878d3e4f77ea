/*
 * Connections of the engine that nobody accepted yet, put into the accept queue of the kernel's listener: for a
 * listener that becomes the kernel's, so that whoever accepts from the kernel (io_uring, another process) gets the
 * clients that were there before.
 *
 * Linux 6.8 and later: its kfunc bpf_sk_assign_tcp_reqsk, meant for SYN cookies of a program's own, makes a connection
 * from a segment whose handshake somebody else did. A program at the loopback interface's tcx ingress calls it for the
 * segments that are sent here in the peer's name; what the client had sent follows.
 */
#ifndef FINESSE_KERNEL_REQUEUE_H
#define FINESSE_KERNEL_REQUEUE_H

#include "tcp/snapshot.h"

struct requeue;

/*
 * For the caller's network namespace; takes some 20 ms. -EOPNOTSUPP: this kernel cannot, or its SYN cookies are off;
 * -EPERM: no CAP_BPF, CAP_NET_ADMIN or CAP_NET_RAW.
 */
int requeue_open(struct requeue **out);
void requeue_close(struct requeue *q);
void requeue_forget(struct requeue *q); /* in a fork child: the parent's goes on */

/*
 * The kernel has the connection and what was unread of it, from then on, as accept(2) will find it: established, or
 * CLOSE-WAIT. Nothing may have been sent on it, and its addresses may not be link-local (-EINVAL). Its frames are still
 * kept from the kernel: the caller lets them through now.
 * -ENOBUFS: the queue is full, or nobody listens, or a rule of the host keeps the segments out; the kernel has nothing
 * of it then, and may have sent a reset.
 */
int requeue_give(struct requeue *q, const struct tcp_snapshot *s);

#endif
