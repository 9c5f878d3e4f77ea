/* A live connection in the terms of TCP_REPAIR, for handover to the kernel. */
#include "tcp/snapshot.h"
#include "tcp/tcp_int.h"

#include <errno.h>

int tcp_snapshot(const struct tcp_conn *c, int64_t now, struct tcp_snapshot *out)
{
	if (c->state < TCPS_ESTABLISHED || c->state == TCPS_TIME_WAIT)
		return -ENOTCONN;
	uint32_t fin_ours = c->fin_sent ? 1 : 0;
	*out = (struct tcp_snapshot){
		.key = c->key,
		.snd_una = c->snd_base,
		.snd_nxt = c->snd_nxt - fin_ours,
		.snd_data = c->snd,
		.snd_data_len = c->snd.len,
		.rcv_nxt = c->rcv_nxt - c->peer_fin,
		.rcv_data_len = c->rcv.len,
		.snd_wl1 = c->snd_wl1,
		.snd_wnd = c->snd_wnd,
		.max_window = c->max_snd_wnd,
		.rcv_wnd = rcv_wnd(c),
		.rcv_wup = SEQ_GT(c->rcv_wup, c->rcv_nxt - c->peer_fin) ? c->rcv_nxt - c->peer_fin : c->rcv_wup,
		.mss_clamp = c->options.maxseg && c->options.maxseg < c->mss_peer ? c->options.maxseg : c->mss_peer,
		.snd_wscale = c->snd_wscale,
		.rcv_wscale = c->rcv_wscale,
		.wscale = c->wscale_on,
		.sack = c->sack_on,
		.timestamps = c->ts_on,
		.ts_now = tcp_ts_now(now, c->ts_offset),
		.ts_recent = c->ts_recent,
		.fin_ours = c->fin_wanted,
		.fin_peer = c->peer_fin,
		.nodelay = c->options.nodelay,
		.keepalive = c->options.keepalive,
		.sndbuf_bytes = c->sndbuf_limit,
		.rcvbuf_bytes = c->rcvbuf_limit,
	};
	ring_span(&c->rcv, 0, c->rcv.len, out->rcv_data);
	return 0;
}

void tcp_unread(const struct tcp_conn *c, struct iovec data[2])
{
	data[0] = data[1] = (struct iovec){NULL, 0};
	ring_span(&c->rcv, 0, c->rcv.len, data);
}
