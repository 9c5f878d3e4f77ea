/* Per-engine configuration: Linux's defaults. */
#include "tcp/tcp.h"

#include <string.h>

void tcp_config_default(struct tcp_config *config)
{
	*config = (struct tcp_config){
		.rcvbuf_init_bytes = 131072, /* net.ipv4.tcp_rmem */
		.rcvbuf_max_bytes = 6291456,
		.rmem_core_bytes = 212992, /* net.core.rmem_max */
		.sndbuf_init_bytes = 16384, /* net.ipv4.tcp_wmem */
		.sndbuf_max_bytes = 4194304,
		.initial_window_segs = 10, /* RFC 6928 */
		.rto_min_us = 200 * USEC_PER_MSEC,
		.rto_max_us = TCP_RTO_MAX_US,
		.rto_init_us = 1 * USEC_PER_SEC, /* RFC 6298 (2.1) */
		.min_rtt_window_us = 300 * USEC_PER_SEC,
		.tick_us = 4 * USEC_PER_MSEC,
		.delack_us = 40 * USEC_PER_MSEC,
		.fin_timeout_us = 60 * USEC_PER_SEC,
		.time_wait_us = 60 * USEC_PER_SEC,
		.invalid_ratelimit_us = 500 * USEC_PER_MSEC,
		.challenge_ack_limit = TCP_CHALLENGES_ANY,
		.syn_retries = 6,
		.synack_retries = 5,
		.syn_linear_timeouts = 4,
		.retries2 = 15,
		.min_tso_segs = 2,
		.tso_rtt_log = 9,
		.tso_win_divisor = 3,
		.base_mss = 1024,
		.mtu_probe_floor = 48,
		.probe_threshold = 8,
		.probe_interval_us = 600 * USEC_PER_SEC,
		.retries1 = 3,
		.pacing_ss_ratio = 200,
		.pacing_ca_ratio = 120,
		.min_snd_mss = 48,
		.reordering = 3,
		.max_reordering = 300,
		.recovery = 1,
		.frto = 2,
		.retrans_collapse = true,
		.early_retrans = 3,
		.notsent_lowat = UINT32_MAX,
		.timestamps = 1,
		.sack = true,
		.window_scaling = true,
		.comp_sack_nr = 44,
		.comp_sack_rtt_percent = 5,
		.comp_sack_delay_ns = 1000000,
		.comp_sack_slack_ns = 100000,
		.dsack = true,
		.moderate_rcvbuf = true,
		.slow_start_after_idle = true,
		.ecn = TCP_ECN_ACCEPT,
		.ecn_fallback = true,
		.close_request = true,
	};
}

void tcp_stack_init(struct tcp_stack *stack, const struct tcp_config *config,
		    struct tcp_memory *memory, const uint8_t secret[32])
{
	memset(stack, 0, sizeof *stack);
	stack->config = *config;
	stack->memory = memory;
	memcpy(stack->isn_secret, secret, sizeof stack->isn_secret);
	memcpy(stack->ts_secret, secret + sizeof stack->isn_secret, sizeof stack->ts_secret);
}
