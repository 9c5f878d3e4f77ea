/*
 * Netlink I/O without libc's socket names (the shim intercepts those). Messages are built and walked with libmnl's pure
 * helpers (mnl_nlmsg_put_*, mnl_attr_*), carried by these. One request at a time per socket; no state besides the fd.
 * Called under the engine's lock; blocks for a round trip at most (NETLINK_TIMEOUT_MS).
 */
#ifndef FINESSE_KERNEL_NETLINK_H
#define FINESSE_KERNEL_NETLINK_H

#include <stddef.h>
#include <stdint.h>
#include <linux/netlink.h>

#define NETLINK_BUFFER_BYTES (64 * 1024) /* the largest datagram that the kernel builds for a dump is 32 KiB */
#define NETLINK_TIMEOUT_MS   2000
#define NETLINK_ABANDON      (-125) /* -ECANCELED, as the callback's result: see netlink_talk */

/*
 * A close-on-exec socket of `bus` (NETLINK_ROUTE …), bound to a port that the kernel picks, or -errno.
 * NETLINK_GET_STRICT_CHK is
 * on: a dump request needs the full header of its kind (ifaddrmsg, ndmsg, rtmsg …), and the kernel filters by it.
 */
int netlink_open(int bus);
/* The same, joined to the groups (numbers, not bits: RTNLGRP_…), non-blocking: for notifications. */
int netlink_open_groups(int bus, const int *groups, size_t n_groups);

/*
 * Sends `req` and hands every message of the answer to `on_msg` (which may be NULL). The sequence number is set here;
 * NLM_F_ACK is added to a request that is not a dump. `on_msg` returns 0 to go on, positive to want no more messages
 * (the rest is still read and skipped, the call returns 0), negative to fail with that; NETLINK_ABANDON fails without
 * reading the rest, after which the socket can only be closed. Returns 0 or -errno: the kernel's own answer, -EINTR
 * when a dump was interrupted by a change (NLM_F_DUMP_INTR: what was delivered may be inconsistent; ask again),
 * -ENOBUFS, -ETIMEDOUT.
 */
int netlink_talk(int fd, struct nlmsghdr *req, int (*on_msg)(const struct nlmsghdr *, void *),
		 void *ctx);

/*
 * The same for a request that only an ack answers, without malloc: a thread of its own would get an arena for that. The
 * socket is used for nothing else.
 */
#define NETLINK_ACK_BYTES 512
int netlink_tell(int fd, struct nlmsghdr *req);

/*
 * netlink_talk for several requests in a row, `len` bytes, that the kernel takes or refuses as one (nfnetlink's
 * batches). The last but one is asked to be acknowledged; the first error is the result.
 */
int netlink_talk_batch(int fd, void *requests, size_t len);

/*
 * Reads what waits on a notification socket without blocking. Returns 0 when drained; -ENOBUFS when notifications were
 * lost (dump again); other -errno. `on_msg` as above, its negative result stops at once.
 */
int netlink_drain(int fd, int (*on_msg)(const struct nlmsghdr *, void *), void *ctx);

#endif
