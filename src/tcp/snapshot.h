/*
 * A live connection between segments, in the terms of TCP_REPAIR (tcp(7)): what another TCP needs to
 * go on with it. Filled by tcp_snapshot(), eaten by kernel/handover.c, the only other reader.
 * Data pointers are into the connection's buffers and die with the next verb or segment.
 */
#ifndef FINESSE_TCP_SNAPSHOT_H
#define FINESSE_TCP_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/addr.h"
#include "base/chunks.h"

struct tcp_snapshot {
	struct flow_key key;
	uint32_t snd_una; /* first byte of snd_data */
	uint32_t snd_nxt; /* bytes below this were on the wire */
	struct chunks snd_data;
	uint32_t snd_data_len; /* unacknowledged + unsent, without a FIN */
	uint32_t rcv_nxt;      /* without the peer's FIN */
	struct iovec rcv_data[2]; /* in order, unread; its last byte is rcv_nxt − 1 */
	uint32_t rcv_data_len;
	/* struct tcp_repair_window */
	uint32_t snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup;
	uint16_t mss_clamp; /* the MSS that the peer announced, or TCP_MAXSEG where that is less */
	uint8_t snd_wscale, rcv_wscale;
	bool wscale, sack, timestamps;
	uint32_t ts_now;    /* our timestamp clock for this flow, now (TCP_TIMESTAMP) */
	uint32_t ts_recent;
	bool fin_ours;      /* our FIN is due or was sent after snd_data: shut down after the import */
	bool fin_peer;      /* the peer's FIN was received: CLOSE-WAIT */
	bool nodelay, keepalive;
	bool held;          /* nothing new leaves before the peer was heard, which the host may have banned. The taker's */
	uint32_t sndbuf_bytes, rcvbuf_bytes;
};

/* Of `len` bytes at `from` of such data: those that lie in one piece. There are so many. */
static inline struct iovec tcp_snapshot_piece(const struct iovec data[2], uint32_t from, uint32_t len)
{
	if (from >= data->iov_len)
		from -= data++->iov_len;
	uint32_t here = data->iov_len - from;
	return (struct iovec){(uint8_t *)data->iov_base + from, here < len ? here : len};
}

struct tcp_conn;
/* 0; -ENOTCONN in a state that cannot be exported (CLOSED, SYN-*, TIME-WAIT). */
int tcp_snapshot(const struct tcp_conn *c, int64_t now, struct tcp_snapshot *out);
/* What is readable, in any state. */
void tcp_unread(const struct tcp_conn *c, struct iovec data[2]);

#endif
