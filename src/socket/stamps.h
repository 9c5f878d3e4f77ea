/*
 * Time stamps of a connection: SO_TIMESTAMP, SO_TIMESTAMPNS, SO_TIMESTAMPING and their forms for 64 bits (stamps.c).
 * Everything under the engine's lock.
 */
#ifndef FINESSE_SOCKET_STAMPS_H
#define FINESSE_SOCKET_STAMPS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct engine;
struct sock;
struct cmsg_out;
struct err_notice;
struct err_owed;
struct stamps; /* sock.stamps; NULL: never asked for */
struct tcp_segment;
struct link_tx;

/* ---- what was asked for ---- */
bool stamps_is_option(unsigned index); /* one of the six */
#define STAMPS_OF_MESSAGE (UINT32_C(1) << 0 | UINT32_C(1) << 1 | UINT32_C(1) << 8 | UINT32_C(1) << 9 | UINT32_C(1) << 18) /* what sendmsg may ask for: SOF_TIMESTAMPING_TX_… */
bool stamps_may_carry_message(const struct sock *s, uint32_t flags); /* SO_TIMESTAMPING's, and these; false: only the kernel can */
bool stamps_refused(int kfd);          /* those of a kernel socket that is being decided */
/* As setsockopt and getsockopt, of memory that can be read. SOCK_KERNEL: the kernel's. */
int stamps_set(struct engine *e, struct sock *s, unsigned index, const void *val, socklen_t len);
socklen_t stamps_get(const struct sock *s, unsigned index, uint32_t out[2]);
int stamps_take(struct engine *e, struct sock *s, int kfd);                    /* what was set on the kernel socket. -ENOMEM */
int stamps_inherit(struct engine *e, struct sock *s, const struct sock *l);            /* an accepted socket's. -ENOMEM */
void stamps_give(const struct sock *s, int kfd);                                       /* to the kernel socket that goes on for it */
void stamps_fini(struct engine *e, struct sock *s);

/* ---- of what is received ---- */
/* tcp_input; its time is noted, if it was taken and somebody asked */
void stamps_input(struct engine *e, struct sock *s, const struct tcp_segment *seg);
void stamps_on_syn(struct engine *e, struct sock *s, const struct tcp_segment *syn); /* the text of a SYN that has opened it */
/* The stamp of byte `seq`, for recvmsg; bytes before `read` are forgotten. */
void stamps_tell_read(struct sock *s, uint32_t seq, uint32_t read, struct cmsg_out *out);

/* ---- of what is sent ---- */
/*
 * A call took bytes. `flags`: SOF_TIMESTAMPING_TX_… of its control data, in place of the socket's; NULL: none.
 * `record`: with MSG_EOR.
 */
void stamps_sent(struct engine *e, struct sock *s, const uint32_t *flags, bool record);
void stamps_left(struct engine *e, struct sock *s, const struct tcp_segment *seg, const struct link_tx *tx); /* it was given to the link */
void stamps_flushed(struct engine *e);                                             /* … and that to the interface */
void stamps_acked(struct engine *e, struct sock *s, const struct err_owed *o);
void stamps_tell_notice(const struct sock *s, const struct err_notice *n, struct cmsg_out *out); /* the time, for MSG_ERRQUEUE */

#endif
