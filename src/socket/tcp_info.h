/*
 * struct tcp_info as Linux 6.18 has it (include/uapi/linux/tcp.h): the headers of the machine that compiles may be
 * older, and libc's end with tcpi_total_retrans. Older kernels have a shorter one, and a program gets no more of ours
 * than of theirs.
 */
#ifndef FINESSE_SOCKET_TCP_INFO_H
#define FINESSE_SOCKET_TCP_INFO_H

#include <stddef.h>
#include <stdint.h>

struct tcp_info_linux {
	uint8_t state, ca_state, retransmits, probes, backoff, options;
	uint8_t snd_wscale : 4, rcv_wscale : 4;
	uint8_t delivery_rate_app_limited : 1, fastopen_client_fail : 2;
	uint32_t rto, ato, snd_mss, rcv_mss; /* µs and bytes */
	uint32_t unacked, sacked, lost, retrans, fackets;
	uint32_t last_data_sent, last_ack_sent, last_data_recv, last_ack_recv; /* ms ago */
	uint32_t pmtu, rcv_ssthresh, rtt, rttvar, snd_ssthresh, snd_cwnd, advmss, reordering;
	uint32_t rcv_rtt, rcv_space, total_retrans;
	uint64_t pacing_rate, max_pacing_rate; /* bytes a second */
	uint64_t bytes_acked, bytes_received;
	uint32_t segs_out, segs_in, notsent_bytes, min_rtt, data_segs_in, data_segs_out;
	uint64_t delivery_rate, busy_time, rwnd_limited, sndbuf_limited;
	uint32_t delivered, delivered_ce;
	uint64_t bytes_sent, bytes_retrans;
	uint32_t dsack_dups, reord_seen, rcv_ooopack, snd_wnd, rcv_wnd, rehash;
	uint16_t total_rto, total_rto_recoveries;
	uint32_t total_rto_time; /* ms */
	uint32_t received_ce, delivered_e1_bytes, delivered_e0_bytes, delivered_ce_bytes; /* AccECN, since 6.18: here and below zero */
	uint32_t received_e1_bytes, received_e0_bytes, received_ce_bytes;
	uint16_t accecn_fail_mode, accecn_opt_seen;
};
_Static_assert(offsetof(struct tcp_info_linux, pacing_rate) == 104 && offsetof(struct tcp_info_linux, delivery_rate) == 160 &&
		       offsetof(struct tcp_info_linux, total_rto_time) == 244 && sizeof(struct tcp_info_linux) == 280,
	       "Linux's layout");

struct engine;
struct sock;
/* Of a connection. How many bytes the running kernel's has: what a younger one has more is zero here. Lock held. */
size_t tcp_info_tell(const struct engine *e, const struct sock *s, struct tcp_info_linux *out);

#endif
