/*
 * The error queue of a connection: what recvmsg(MSG_ERRQUEUE) tells, and what is owed to it until the peer has
 * acknowledged the bytes of a call.
 *
 * Three kinds of notice: that the memory of a send with MSG_ZEROCOPY is free (zerocopy.c), time stamps (stamps.c), and
 * the ICMP error by which an attempt to connect ended. Everything under the engine's lock.
 */
#ifndef FINESSE_SOCKET_ERRQUEUE_H
#define FINESSE_SOCKET_ERRQUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <linux/types.h>
#include <linux/errqueue.h>

#include "base/list.h"

struct engine;
struct sock;
struct cmsg_out;
struct ip_icmp_error;
struct msghdr;

#define ERR_OWED_MAX 4096 /* calls of a connection that wait for acknowledgments */

/*
 * What one call of send is owed. A zero-copy call is told when `end` is acknowledged, a stamp also when its last byte
 * leaves.
 */
struct err_owed {
	struct list node; /* sock.err_owed, by `end` */
	uint32_t end;     /* sequence number behind the call's bytes */
	bool zerocopy;
	uint32_t first, last; /* zerocopy: numbers of calls */
	uint32_t stamps;      /* else SOF_TIMESTAMPING_TX_… */
	bool record;          /* … sent with MSG_EOR: what follows is not joined to it */
	struct err_frame *frame; /* … in which its last byte left, where the program is to see it; or NULL */
	bool sent, due;       /* … its last byte left; its frame is in the link's queue, and SCM_TSTAMP_SND is due when that is flushed */
};

/* One that waits to be read. */
struct err_notice {
	struct list node; /* sock.errqueue */
	struct sock_extended_err ee;
	int64_t at_ns;   /* CLOCK_REALTIME; 0: no time */
	uint32_t charge; /* bytes of SO_RCVBUF */
	struct err_icmp *icmp; /* NULL: it is none of ICMP's */
	struct err_frame *frame; /* a stamp's, or NULL: the program gets what follows `skip` */
	uint32_t skip;
};

/* What was sent, for SO_TIMESTAMPING without SOF_TIMESTAMPING_OPT_TSONLY. */
struct err_frame {
	uint32_t users, headers, len;
	uint8_t bytes[];
};
void errqueue_unref(struct engine *e, struct err_frame *f); /* NULL is none */

/* The record of a call, behind those that are there; NULL: no memory, or too many. */
struct err_owed *errqueue_owe(struct engine *e, struct sock *s);
void errqueue_settle(struct engine *e, struct sock *s, struct err_owed *o); /* it is gone */
/* Something was acknowledged, or the connection has ended. */
void errqueue_progress(struct engine *e, struct sock *s);
/*
 * False: there is no room (Linux's sock_queue_err_skb), or no memory, and nobody is told. The caller calls
 * errqueue_notify.
 */
bool errqueue_push(struct engine *e, struct sock *s, const struct err_notice *n);
void errqueue_push_icmp(struct engine *e, struct sock *s, const struct ip_icmp_error *icmp); /* who watches is told by the caller */
void errqueue_drop_icmp(struct engine *e, struct sock *s); /* IP_RECVERR was switched off */
void errqueue_notify(struct engine *e, struct sock *s); /* POLLERR, if there is anything new */
struct err_notice *errqueue_last(struct sock *s); /* NULL: none */
bool errqueue_has(const struct sock *s);
/* recvmsg(MSG_ERRQUEUE): bytes, -EAGAIN, -EFAULT. *msg gets the bytes, and the name's length. */
ssize_t errqueue_read(struct engine *e, struct sock *s, struct msghdr *msg, struct cmsg_out *out, int *flags);
void errqueue_init(struct sock *s);
void errqueue_fini(struct engine *e, struct sock *s);

/* ---- zerocopy.c ---- */
bool zerocopy_is_on(const struct sock *s);
int zerocopy_may_send(const struct sock *s); /* 0, -ENOBUFS */
void zerocopy_sent(struct engine *e, struct sock *s); /* a call with MSG_ZEROCOPY took bytes */
void zerocopy_done(struct engine *e, struct sock *s, const struct err_owed *o);

#endif
