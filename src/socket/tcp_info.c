/* getsockopt(TCP_INFO) of a connection: the core's status in Linux's terms. */
#include "socket/tcp_info.h"

#include "socket/engine.h"
#include "tcp/cc.h"

#include <netinet/tcp.h>
#include <string.h>

#define SSTHRESH_UNSET  0x7fffffff  /* Linux: TCP_INFINITE_SSTHRESH */
#define RATE_UNLIMITED  UINT64_MAX
#define CWND_BEFORE     10 /* Linux: TCP_INIT_CWND, which a socket has before it is connected */
#define RCV_MSS_BEFORE  88 /* Linux: TCP_MIN_MSS, as long as there is no window */
#define RTTVAR_BEFORE_US 250000 /* Linux: a quarter of TCP_TIMEOUT_INIT */
#define RTO_EARLY_US     3000000 /* … TCP_TIMEOUT_FALLBACK: a server's by Fast Open, before the handshake is complete */
#define SND_MSS_BEFORE   536 /* … TCP_MSS_DEFAULT, and IPv6's, until the peer has told its own */
#define SND_MSS_BEFORE6  1220
#define TIMESTAMP_BYTES  12  /* of each segment, where timestamps are agreed */
#define BOOT_US          (300 * USEC_PER_SEC) /* … INITIAL_JIFFIES: its clock began five minutes below nought */
#define INFO_OPT_TFO_CHILD 128 /* Linux 6.15's TCPI_OPT_TFO_CHILD */
#define CA_DISORDER     1  /* Linux: enum tcp_ca_state */
#define CA_CWR          2
#define CA_RECOVERY     3
#define CA_LOSS         4

static uint8_t linux_state(const struct sock *s, enum tcp_state state)
{
	static const uint8_t states[] = {
		[TCPS_CLOSED] = TCP_CLOSE,	     [TCPS_LISTEN] = TCP_LISTEN,
		[TCPS_SYN_SENT] = TCP_SYN_SENT,	     [TCPS_SYN_RECEIVED] = TCP_SYN_RECV,
		[TCPS_ESTABLISHED] = TCP_ESTABLISHED, [TCPS_FIN_WAIT_1] = TCP_FIN_WAIT1,
		[TCPS_FIN_WAIT_2] = TCP_FIN_WAIT2,   [TCPS_CLOSE_WAIT] = TCP_CLOSE_WAIT,
		[TCPS_CLOSING] = TCP_CLOSING,	     [TCPS_LAST_ACK] = TCP_LAST_ACK,
		[TCPS_TIME_WAIT] = TCP_CLOSE, /* what the program's socket says; TIME-WAIT is none any more */
	};
	/* A close request is an end of file without a FIN: programs that look are to find what they know. */
	bool asked = state == TCPS_ESTABLISHED && tcp_peer_fin(&s->tcp);
	return states[asked ? TCPS_CLOSE_WAIT : state];
}

static uint8_t ca_state(const struct tcp_figures *f)
{
	if (f->loss == TCP_LOSS_OPEN)
		return f->cwr ? CA_CWR : f->disorder ? CA_DISORDER : 0;
	return f->loss == TCP_LOSS_RECOVERY ? CA_RECOVERY : CA_LOSS;
}

/* The kernel keeps its timers in ticks, and rounds up before it doubles. */
static uint32_t rto_in_ticks(const struct engine *e, int64_t base_us, unsigned backoff)
{
	int64_t tick = e->tick_us > 0 ? e->tick_us : 1, most = e->tcp.config.rto_max_us;
	int64_t rto = (base_us + tick - 1) / tick * tick;
	for (; backoff && rto < most; backoff--)
		rto *= 2;
	return rto < most ? rto : most;
}

/*
 * Milliseconds since `at`, or since the connection began where that never was; counted in ticks. Before there is a
 * connection Linux tells what its clock says.
 */
static uint32_t ms_since(const struct engine *e, int64_t at, int64_t began)
{
	int64_t tick = e->tick_us > 0 ? e->tick_us : 1, since = at ? at : began ? began : BOOT_US;
	return e->now > since || since == BOOT_US ? (e->now / tick - since / tick) * tick / USEC_PER_MSEC : 0;
}

/* … of what the kernel counts in ticks. */
static uint64_t in_ticks(const struct engine *e, uint64_t us)
{
	return e->tick_us > 0 ? us - us % e->tick_us : us;
}

/* Linux's tcp_update_pacing_rate, where no round trip is known: the window, in an eighth of a microsecond. */
static uint64_t rate_of_no_time(const struct engine *e, uint32_t mss, uint32_t cwnd)
{
	return (uint64_t)mss * cwnd * 8 * (USEC_PER_SEC / 100) * e->tcp.config.pacing_ss_ratio;
}

static void tell_sending(const struct engine *e, const struct tcp_options *opt, const struct tcp_status *st, const struct tcp_figures *f, struct tcp_info_linux *ti)
{
	uint32_t mss = st->mss_snd ? st->mss_snd : 1;
	ti->unacked = f->unacked;
	ti->sacked = f->sacked;
	ti->lost = f->lost;
	ti->retrans = f->retrans;
	ti->snd_mss = st->mss_snd;
	ti->snd_ssthresh = st->ssthresh_bytes == TCP_SSTHRESH_INITIAL || !st->ssthresh_bytes ? SSTHRESH_UNSET : st->ssthresh_bytes / mss;
	ti->snd_cwnd = f->established_us ? st->cwnd_bytes / mss : CWND_BEFORE;
	ti->snd_wnd = st->snd_wnd;
	ti->reordering = f->reordering;
	ti->reord_seen = f->reord_seen;
	ti->dsack_dups = f->dsack_dups;
	ti->total_retrans = st->total_retrans;
	ti->pacing_rate = f->established_us && !st->srtt_us && !f->fastopen_early ? rate_of_no_time(e, mss, ti->snd_cwnd) : f->pacing_rate;
	ti->max_pacing_rate = !opt->max_pacing_rate ? RATE_UNLIMITED : opt->max_pacing_rate == TCP_PACING_RATE_ZERO ? 0 : opt->max_pacing_rate;
	ti->delivery_rate = f->delivery_rate;
	ti->delivery_rate_app_limited = f->delivery_app_limited;
	ti->bytes_acked = st->bytes_acked + (f->established_us && f->client) + f->fin_acked; /* Linux counts SYN and FIN, but not the SYN-ACK */
	ti->bytes_sent = st->bytes_out + st->bytes_retrans;
	ti->bytes_retrans = st->bytes_retrans;
	ti->segs_out = f->segs_out;
	ti->data_segs_out = st->data_segs_out;
	ti->delivered = f->delivered;
	ti->delivered_ce = f->delivered_ce;
	ti->rwnd_limited = in_ticks(e, f->rwnd_limited_us);
	ti->sndbuf_limited = in_ticks(e, f->sndbuf_limited_us);
	ti->busy_time = in_ticks(e, f->busy_us) + ti->rwnd_limited + ti->sndbuf_limited;
}

static void tell_receiving(const struct tcp_status *st, const struct tcp_figures *f, struct tcp_info_linux *ti)
{
	ti->ato = f->ato_us;
	ti->rcv_mss = f->rcv_mss;
	ti->advmss = f->advmss;
	ti->rcv_ssthresh = f->rcv_ssthresh;
	ti->rcv_rtt = f->rcv_rtt_us;
	ti->rcv_space = f->rcv_space;
	ti->rcv_wnd = f->rcv_wnd;
	ti->rcv_ooopack = f->rcv_ooopack;
	ti->bytes_received = st->bytes_in + f->peer_fin;
	ti->segs_in = st->segs_in;
	ti->data_segs_in = st->data_segs_in;
}

static void tell_times(const struct engine *e, const struct tcp_status *st, const struct tcp_figures *f, struct tcp_info_linux *ti)
{
	ti->retransmits = f->retransmits;
	ti->probes = f->probes;
	ti->backoff = st->backoff;
	ti->rto = rto_in_ticks(e, f->rto_base_us, f->persists ? 0 : st->backoff); /* in Linux the probes' times are no timeout's */
	ti->rtt = st->srtt_us;
	ti->rttvar = st->rttvar_us || !f->established_us ? st->rttvar_us : RTO_EARLY_US / 4; /* nothing was measured */
	ti->min_rtt = st->min_rtt_us ? st->min_rtt_us : UINT32_MAX;
	ti->last_data_sent = ms_since(e, st->last_data_sent_us, f->established_us);
	ti->last_data_recv = ms_since(e, st->last_data_rcvd_us, f->crossed ? 0 : f->established_us);
	ti->last_ack_recv = ms_since(e, st->last_ack_rcvd_us, f->fastopen_early ? 0 : f->established_us);
	ti->rehash = f->rehashes; /* Linux chooses another path with each */
	ti->total_rto = f->timeouts;
	ti->total_rto_recoveries = f->rto_recoveries;
	ti->total_rto_time = f->rto_time_us / USEC_PER_MSEC;
}

/* TCP_FASTOPEN_CONNECT: Linux has done nothing yet. */
static void tell_untouched(struct tcp_info_linux *ti)
{
	ti->snd_mss = SND_MSS_BEFORE;
	ti->rttvar = RTTVAR_BEFORE_US;
	ti->rcv_mss = ti->pmtu = ti->rcv_ssthresh = ti->advmss = ti->rcv_wnd = 0;
}

/* A client that is not connected yet, or was refused. */
static void tell_unconnected(const struct tcp_conn *c, struct tcp_info_linux *ti)
{
	ti->rcv_ssthresh = ti->rcv_wnd = tcp_first_window(c);
	ti->rttvar = RTTVAR_BEFORE_US;
	if (tcp_state(c) == TCPS_SYN_RECEIVED) /* SYNs have crossed */
		return;
	ti->rcv_mss = RCV_MSS_BEFORE;
	if (tcp_state(c) == TCPS_CLOSED)
		ti->snd_wscale = ti->rcv_wscale = 0;
}

/* What a timeout makes of CWND_BEFORE. With the handshake it is forgotten. */
static uint32_t ssthresh_of_syn(const char *cc)
{
	if (!strcmp(cc, "bbr"))
		return SSTHRESH_UNSET;
	return strcmp(cc, "cubic") ? CWND_BEFORE / 2 : CWND_BEFORE * 7 / 10;
}

/* The SYN is a segment like others to Linux, and text in it another one: a timeout makes them lost. */
static void tell_syn_sent(const struct sock *s, const char *cc, const struct tcp_figures *f, struct tcp_info_linux *ti)
{
	uint32_t most = (ip_addr_is_v4(&s->flow.key.raddr) ? SND_MSS_BEFORE : SND_MSS_BEFORE6) - (ti->options & TCPI_OPT_TIMESTAMPS ? TIMESTAMP_BYTES : 0);
	if (!f->syn_text) /* else the peer's is known from before */
		ti->snd_mss = ti->snd_mss < most ? ti->snd_mss : most;
	ti->options &= TCPI_OPT_ECN; /* what else we offer is not agreed */
	ti->snd_wscale = ti->rcv_wscale = 0;
	ti->unacked += ti->data_segs_out;
	if (!f->timeouts)
		return;
	ti->ca_state = CA_LOSS;
	ti->lost = ti->unacked;
	ti->snd_ssthresh = ssthresh_of_syn(cc);
	ti->snd_cwnd = ti->retrans = 1;
}

size_t tcp_info_tell(const struct engine *e, const struct sock *s, struct tcp_info_linux *out)
{
	struct tcp_status st;
	struct tcp_figures f;
	memset(out, 0, sizeof *out);
	tcp_get_status(&s->tcp, &st);
	tcp_get_figures(&s->tcp, e->now, &f);
	out->state = linux_state(s, st.state);
	out->ca_state = ca_state(&f);
	out->options = (st.timestamps ? TCPI_OPT_TIMESTAMPS : 0) | (st.sack ? TCPI_OPT_SACK : 0) | (st.wscale ? TCPI_OPT_WSCALE : 0) |
		       (st.ecn ? TCPI_OPT_ECN : 0) | (st.ecn_seen ? TCPI_OPT_ECN_SEEN : 0) |
		       (st.syn_data ? TCPI_OPT_SYN_DATA : 0) | (st.fastopen ? INFO_OPT_TFO_CHILD : 0);
	out->fastopen_client_fail = st.fastopen_fail;
	out->snd_wscale = st.snd_wscale;
	out->rcv_wscale = st.rcv_wscale;
	out->pmtu = s->dest ? s->dest->path.mtu : 0;
	tell_sending(e, tcp_get_options(&s->tcp), &st, &f, out);
	tell_receiving(&st, &f, out);
	tell_times(e, &st, &f, out);
	out->notsent_bytes = tcp_outq_unsent(&s->tcp);
	if (st.state == TCPS_SYN_SENT)
		tell_syn_sent(s, st.cc_name, &f, out);
	if (st.state == TCPS_CLOSED) /* the queue is gone */
		out->unacked = out->backoff = 0;
	if (tcp_syn_waits(&s->tcp))
		tell_untouched(out);
	else if (f.client && !f.established_us)
		tell_unconnected(&s->tcp, out);
	if (f.fastopen_early) {
		out->rto = RTO_EARLY_US;
		out->rttvar = RTO_EARLY_US / 4;
	}
	return e->tcp_info_bytes ? e->tcp_info_bytes : sizeof *out;
}
