/* A live connection becomes a kernel socket (TCP_REPAIR). */
#ifndef FINESSE_KERNEL_HANDOVER_H
#define FINESSE_KERNEL_HANDOVER_H

#include "tcp/snapshot.h"

/*
 * Several steps, so that the peer's segments always meet somebody:
 *
 *   fd = handover_begin(snap, family, ifindex); the kernel has the connection, in repair mode: it receives and acknowledges, and sends nothing else
 *   handover_follow(fd, &snap, &now, …);    what has come meanwhile is put in place, too
 *   … the 4-tuple becomes the kernel's in the classifier, and the engine forgets the connection …
 *   handover_finish(fd, snap);              unsent data and our FIN leave
 *
 * The other way round, a segment that arrives between the classifier's change and handover_begin meets no socket: RST.
 * And with both steps before the classifier's change, the answers to what handover_finish sends are lost, and cost a
 * retransmission timeout.
 *
 * handover_begin returns a connected kernel TCP socket: blocking, close-on-exec, a low number (the caller's dup2 moves
 * it). Unacknowledged data is queued, unread data readable; CLOSE-WAIT is reached by a FIN built here and sent, with
 * the peer's source address, to our own through the loopback interface, which must be up (`ifindex` is the scope of
 * link-local addresses). `family`: AF_INET6 also of an IPv4 connection, as the program's socket was (its names are
 * ::ffff:a.b.c.d); AF_UNSPEC: as its addresses are.
 * -EPERM without CAP_NET_ADMIN, and for CLOSE-WAIT CAP_NET_RAW; -EADDRINUSE when the kernel has the 4-tuple already;
 * -ENETDOWN when the FIN does not arrive. On failure nothing was sent and no socket is left.
 */
int handover_begin(const struct tcp_snapshot *snap, int family, int ifindex);
/*
 * To make the socket takes half a millisecond and more, and what the peer says in it comes to the engine: without this
 * it would have to say it once more. `then` is what handover_begin had. The classifier still keeps the flow's segments
 * from the kernel. 0, or -errno: the socket does not fit any more, and nothing was said with it.
 */
int handover_follow(int fd, const struct tcp_snapshot *then, const struct tcp_snapshot *now, int ifindex);
/*
 * 0. On failure (-EPERM, -ENOBUFS) `fd` is closed without a word to the peer. The snapshot's data must still be there.
 */
int handover_finish(int fd, const struct tcp_snapshot *snap);

/*
 * Both steps at once; returns the socket. For a caller that cannot come between (a helper process), and for connections
 * with nothing to send.
 */
int handover_import(const struct tcp_snapshot *snap, int ifindex);

#endif
