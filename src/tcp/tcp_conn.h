/* The connection's own state. Included by tcp/tcp.h only; fields belong to src/tcp. */
#ifndef FINESSE_TCP_TCP_CONN_H
#define FINESSE_TCP_TCP_CONN_H

#include "base/ranges.h"
#include "base/chunks.h"
#include "base/ring.h"
#include "tcp/minmax.h"
#include "tcp/reassembly.h"
#include "tcp/sent.h"

/* How loss is being repaired (tcp/recovery.c). */
enum tcp_loss {
	TCP_LOSS_OPEN,     /* nothing is known to be lost */
	TCP_LOSS_RECOVERY, /* fast recovery: RFC 8985, or RFC 6582 without SACK */
	TCP_LOSS_RTO,      /* a timeout */
};

/* rack.c; RFC 8985 §5.2's names. */
struct tcp_rack {
	int64_t xmit_us; /* 0: nothing was delivered yet */
	uint32_t end_seq, rtt_us, fack;
	uint32_t dsack_round; /* of which the D-SACK was taken */
	bool again; /* that segment was a retransmission */
	bool in_dsack_round, reordering_seen;
	bool advanced; /* an ACK told of a delivery, of which rack_detect_on_ack has not heard */
	bool rtt_acked; /* rtt_us is of what the ACK at hand acknowledges; what it SACKs counts as delivered before that */
	uint8_t reo_wnd_mult; /* less one */
	uint8_t reo_wnd_persist;
};

/* rate.c. */
struct tcp_rate {
	int64_t first_us;     /* when the flight that is delivered now began to be sent */
	int64_t delivered_us; /* the last time that something was */
	uint64_t app_limited; /* until so much was delivered; 0: not */
	/* Of the ACK at hand: what was delivered by it and left last. */
	int64_t at_us;
	uint64_t lost_before;
	uint32_t end, prior_delivered, prior_us, sending_us, rtt_us, prior_flight;
	/*
	 * Round trips of what had left once only, of the first piece that is acknowledged or SACKed; 0: there is none.
	 * acked_again: something acknowledged had left twice.
	 */
	uint32_t first_rtt_us, sack_rtt_us;
	bool known, repeated, acked_again, prior_limited;
	/* What tcp_info tells. */
	bool limited;
	uint32_t delivered, interval_us;
};

/* figures.c. */
enum tcp_chrono { TCP_CHRONO_NONE, TCP_CHRONO_BUSY, TCP_CHRONO_RWND, TCP_CHRONO_SNDBUF, TCP_CHRONO_COUNT };
struct tcp_kept {
	int64_t established_us; /* 0: not yet */
	uint32_t rcv_ssthresh, rcv_clamp, rcv_space; /* bytes, as Linux reckons; rcv_clamp: the most that rcv_ssthresh may become */
	uint64_t segs_before; /* SYN-ACKs */
	uint32_t reordering, reord_seen;  /* segments; times */
	uint32_t synack_timeouts; /* of a server's, before it was established: its request's */
	uint32_t delivered_segs, delivered_ce_segs, dsack_dups, rcv_ooopack;
	uint32_t timeouts, rto_recoveries; /* of the retransmission timer, and how often it began */
	int64_t rto_since_us, rto_time_us; /* 0: none is going on */
	int64_t chrono_since_us, chrono_us[TCP_CHRONO_COUNT];
	uint8_t chrono;
};

/* mtu_probe.c: what a packet of this path may have for text and options. */
struct tcp_mtu {
	bool on;
	uint32_t low, high;  /* it takes so much; it may take so much */
	uint32_t settled;    /* segments were so large when the search began, and no probe has arrived since; 0: low bounds them */
	uint32_t probe;      /* of the probe in flight; 0: none */
	uint32_t start, end; /* … its numbers */
	uint32_t more_acked; /* by how much more than it acknowledges does the ACK at hand let cwnd grow */
	int64_t at_us;       /* when the search began */
};

/* rtt.c: the estimate, scaled; Linux's srtt_us, mdev_us, mdev_max_us and rttvar_us. */
struct tcp_rtt {
	uint32_t srtt8, mdev4, most4, var4; /* µs by 8 and by 4 */
	uint32_t seq; /* a round trip is over when this is acknowledged */
};

/* rtt.c: the round trip as a receiver sees it. */
struct tcp_rcv_rtt {
	uint32_t us;        /* the least that was seen; 0: none was */
	uint32_t seq;       /* a window's worth from where it began: not before a round trip is over */
	uint32_t ts_ecr;    /* of the last sample by time stamps */
	int64_t since_us;   /* when that window began; 0: none did */
};

enum tcp_urgent { TCP_URGENT_NONE, TCP_URGENT_ANNOUNCED, TCP_URGENT_HERE, TCP_URGENT_READ };

struct tcp_conn {
	struct tcp_stack *stack;
	uint8_t state; /* enum tcp_state */
	uint8_t loss;  /* enum tcp_loss */
	uint8_t snd_wscale, rcv_wscale;
	uint32_t events; /* TCP_EV_* */

	/* Negotiated. */
	bool ts_on : 1, sack_on : 1, wscale_on : 1;
	bool cr_on : 1; /* close request: before the peer's SYN, what we offer */
	/* Our side. */
	bool passive : 1;    /* opened by a peer's SYN */
	bool accepted : 1;   /* … and the program has it */
	bool by_cookie : 1;  /* … of which only the cookie was remembered: when it came is not known */
	bool orphan : 1;     /* close() was called */
	bool rcv_shut : 1;   /* shutdown(SHUT_RD) was */
	bool fin_wanted : 1; /* a FIN follows the data in snd */
	bool fin_held : 1;   /* … but the close policy holds it */
	bool fin_sent : 1;   /* it has a sequence number: snd_nxt − 1 */
	bool fin_acked : 1;
	bool peer_fin : 1;     /* in order: rcv_nxt − 1 */
	bool fin_ahead : 1;    /* out of order, at fin_ahead_seq */
	/*
	 * What output owes: predicates of output_next(). These eight are one byte, which output_is_idle() asks at once.
	 */
	bool : 0;
	bool syn_due : 1, ack_due : 1, rst_due : 1, probe_due : 1, keepalive_due : 1;
	bool tlp_due : 1;       /* a tail loss probe */
	bool cr_due : 1;        /* close_request.c */
	bool ack_prior_due : 1; /* an ACK that was delayed goes before the next: of ack_prior, with or without ECE */
	bool fin_then_rst : 1;
	bool rst_replies : 1, rst_acks : 1; /* … to a segment: it says no more than where that stood, or ended */
	bool rtx_due : 1, push_due : 1, just_written : 1; /* … : since the last ACK */
	bool closed_due : 1; /* TCP_EV_CLOSED after the RST went out */
	bool msg_more : 1;   /* the last send had MSG_MORE */
	bool nospace : 1;    /* the sender met a shortage: wake it when writable */
	bool wake_asked : 1; /* … an ACK made room: is it, once what that lets go has left? */
	bool no_memory : 1;  /* … of memory: not writable before something was acknowledged */
	bool mtu_probes : 1;     /* the segment that leaves is a probe */
	bool tso_waits : 1;      /* tso.c: something left just now, and an ACK is about to come */
	bool cwnd_limited : 1, syn_retransmitted : 1;
	bool crossed : 1; /* our SYN-ACK answered a SYN that met ours on the way */
	bool asked : 1, outcome_told : 1, late_owed : 1; /* close policy */
	/*
	 * delack.c: delack_at waits for the application to read, too; it is no timeout; program and peer converse; a
	 * segment that came was pushed; two were.
	 */
	bool quickack_owed : 1, delack_short : 1, conversing : 1, ack_pushed : 1, ack_pushed_twice : 1;
	bool rtx_is_persist : 1; /* rtx_at was armed for a closed window, or since the device bounced what was to leave */
	/* bounced.c. Since the last ACK; nothing new goes for now; what goes is tried once more */
	bool bounced : 1, bounced_waits : 1, bounced_probe : 1;
	bool frto : 1, frto_wait : 1; /* frto.c */
	bool lost_again : 1;          /* rack_detect found that a retransmission was lost, too */
	bool ack_sacked : 1, ack_orig : 1; /* of the ACK at hand: it SACKs something new; it delivers what was sent once, before recovery_point */
	bool tlp_out : 1, tlp_again : 1; /* a tail loss probe has no answer yet; was a retransmission */
	/* close_request.c. The server asks: until the echo, or a miss too many. */
	bool cr_asked : 1, cr_asking : 1, cr_answered : 1;
	/* The client was asked: the final sequence number is known, its echo is owed, it was reached. */
	bool cr_known : 1, cr_echo_due : 1, cr_eof : 1;
	bool cr_offered : 1;  /* a SYN went with it */
	bool text_lost : 1;   /* unseen.c: what was acknowledged will never be read */
	/*
	 * ecn.c. Agreed (before: asked for); a capable packet was seen; ECE is sent; CWR is owed; the route asks for
	 * it.
	 */
	bool ecn_on : 1, ecn_seen : 1, ecn_echo : 1, ecn_cwr_due : 1, ecn_route : 1;
	bool reuses : 1;     /* of a client: a TIME-WAIT was taken over, whose ts_recent the SYN echoes */
	bool closed_late : 1; /* the segment at hand found FIN-WAIT-2 */
	bool ack_ece : 1;    /* the ACK at hand echoes a mark */
	bool cwr : 1;        /* cwnd shrinks to ssthresh without a loss, until cwr_point is passed */
	bool ack_prior_echo : 1;
	/* pace.c: segments leave at pacing_rate; for now none may; … and text or a repair waited for it */
	bool paced : 1, pace_waits : 1, pace_held : 1;
	/*
	 * fastopen.c. Opened so; the handshake is not complete yet; … and the program has it; text of the SYN was
	 * taken.
	 */
	bool fastopen : 1, fastopen_early : 1, fastopen_accepted : 1, syn_data : 1;
	/*
	 * fastopen_client.c. The SYN waits for the program's text; it went with the option, in its experimental form;
	 * with text; the SYN-ACK had the option.
	 */
	bool syn_waits : 1, syn_option : 1, syn_option_old : 1, syn_text : 1, syn_answered : 1;
	uint8_t fastopen_fail; /* enum tcp_fastopen_fail */
	bool cr_left_out : 1; /* a SYN went without it, because those with it got no answer */
	uint8_t cr_misses;
	int8_t first_fin;
	int8_t reset; /* whose RST ended it: +1 ours, −1 the peer's */
	uint8_t close_reason; /* enum close_reason */
	uint8_t close_end;    /* enum close_end, once told */
	uint8_t reader;       /* enum reader_says */
	uint8_t reader_asked; /* … when the policy was asked */
	uint8_t urgent;       /* enum tcp_urgent */
	uint8_t urgent_byte;
	uint8_t quickacks;    /* segments still to be acknowledged at once */
	uint8_t backoff;      /* RTO and persist doublings */
	uint8_t rtx_count;    /* timeouts without any progress */
	uint8_t keep_probes;  /* keepalives without an answer */
	uint8_t n_recent;
	uint8_t sacks_held;   /* out-of-order segments that no ACK told yet, with SACK: delack_behind_gap */
	uint8_t sacks_at_once; /* … that were answered at once, since a gap began at gap_nxt */
	uint8_t dup_acks_due; /* out-of-order segments still to be answered, without SACK */

	/* Send sequence space (RFC 9293 §3.3.1). */
	uint32_t snd_una, snd_nxt, snd_wnd, snd_wl1, snd_wl2, iss, snd_up;
	uint32_t max_snd_wnd;
	uint32_t snd_base; /* sequence number of snd's first byte */
	uint32_t burst_end; /* of a super-segment that the link does not cut: tso.c */
	uint32_t snd_sml;  /* end of the last small segment sent (Minshall) */
	uint32_t snd_pushed; /* what left with PSH ends there */
	uint32_t snd_push; /* end of the last write that was not MSG_MORE: a segment that ends there has PSH */
	struct chunks snd; /* unacknowledged, then unsent */
	struct ranges eor; /* bytes that end a record (MSG_EOR): no segment goes on behind one */

	/* Receive sequence space. */
	uint32_t rcv_nxt, irs;
	uint32_t gap_nxt; /* rcv_nxt when text last came behind a gap: sacks_at_once is of then */
	uint32_t rcv_wup; /* rcv_nxt as last acknowledged: RFC 7323's Last.ACK.sent */
	uint32_t rcv_adv; /* right edge of the window that was advertised */
	uint32_t read_since; /* bytes that the application read since that edge moved */
	uint32_t urgent_seq, fin_ahead_seq;
	struct ring rcv;   /* in order and unread */
	uint32_t rcv_filled; /* from there on it has no bytes: all is unseen (unseen.c) */
	struct ranges ooo; /* what is there out of order … */
	struct reassembly ahead; /* … and its bytes */
	uint32_t recent[TCP_SACK_BLOCKS]; /* a number within each of the last blocks, newest first */
	struct range dsack;               /* to report once; empty: left == right */

	/* Segment sizes. */
	uint16_t mss_advertised, mss_path, mss_peer;
	struct tcp_mtu mtu;
	uint16_t mss; /* most payload of a segment without SACK blocks */
	uint32_t rcv_seen; /* the length of the last full one: only another changes rcv_ratio */
	uint8_t rcv_ratio; /* of 256: which share of SO_RCVBUF is text, by the segments seen; 0: none yet */
	uint16_t rcv_mss; /* the peer's segments, as seen */
	uint16_t rcv_last; /* the length of the last one, if it was shorter */
	uint32_t ato_us;  /* 0: no text came yet */
	uint32_t data_segs_acked; /* data_segs_in when the last ACK left */
	uint32_t gso_max_bytes;

	/* RFC 7323 timestamps. */
	uint32_t ts_recent, ts_offset;
	int64_t ts_recent_age_us; /* when ts_recent was taken */

	/* RTT and RTO (RFC 6298), µs. */
	struct tcp_rtt rtt;
	uint32_t srtt_us, rttvar_us, rto_us, handshake_rtt_us;
	uint32_t min_rtt_us;    /* the least of config's min_rtt_window_us; 0: none */
	struct minmax rtt_min; /* by milliseconds */
	int64_t syn_at; /* the first SYN left then */
	uint32_t ack_rtt_us; /* what the last ACK of new data tells, 0: nothing; within a tick where it is by timestamps */

	/* Loss recovery (RFC 6675's names; recovery_point is RFC 6582's recover too). */
	struct ranges sacked;
	uint32_t sacked_bytes; /* of `sacked`, or estimated from duplicate ACKs without SACK */
	uint32_t recovery_point;
	uint32_t pipe;
	uint32_t cwr_point;
	uint32_t ack_prior;    /* ack_prior_due's number */
	uint32_t prr_delivered, prr_out, recover_fs; /* RFC 6937 */
	uint32_t tlp_end;      /* RFC 8985's TLP.end_seq */
	struct sent_log sent;  /* with SACK: everything in flight */
	struct tcp_rack rack;
	struct undo *undo;     /* NULL: there is nothing to undo */

	/* Congestion control. */
	const struct tcp_cc_ops *cc;
	uint32_t cwnd, ssthresh; /* bytes */
	uint32_t cwnd_acked;     /* bytes towards the next increase */
	uint32_t flight_max;     /* cwnd.c: most in flight in this round, which ends at flight_seq */
	uint32_t flight_seq;
	uint32_t cwnd_used;      /* most in flight since cwnd was the limit, or cwnd_used_at */
	int64_t cwnd_used_at;
	uint64_t cc_state[19];   /* the algorithm's own */
	uint64_t pacing_rate;    /* bytes a second, as of the last ACK; UINT64_MAX: not known */
	int64_t pace_ns;         /* pace.c: when the next segment may go */
	int64_t pace_credit_ns;  /* … and how late the last one was */

	/* Timers: absolute; TIME_NEVER when off. */
	int64_t rtx_at;    /* SYN, retransmission or persist */
	int64_t tlp_at;    /* tail loss probe */
	int64_t reo_at;    /* when what was overtaken counts as lost */
	int64_t delack_at;
	int64_t cork_at;
	int64_t keep_at;
	int64_t hold_at;
	int64_t cr_at;
	int64_t wait_at;   /* FIN-WAIT-2 of an orphan, TIME-WAIT */
	int64_t stall_at;  /* from when the user timeout counts: the SYN, or the first repetition of what is not acknowledged (as Linux) */
	int64_t bounced_at, bounced_since; /* the next try; the first one, 0: none yet */
	int64_t answered_at; /* a challenge ACK, or an answer to what was not acceptable, last left; 0: never */

	/* Close policy. */
	struct close_policy *policy;
	int64_t hold_us, hold_start_us; /* hold_start_us: 0 until all data is acknowledged */
	int64_t fin_sent_us;
	int64_t all_acked_us;

	/* Buffers' limits and autotuning. */
	uint32_t rcvbuf_limit, sndbuf_limit;
	uint32_t drs_copied, drs_space;
	int64_t drs_since;

	struct tcp_options options;
	struct fastopen_cookie cookie; /* of the first SYN or SYN-ACK; a client's, once connected: what it was given */
	struct flow_key key;
	int error;      /* positive errno: SO_ERROR */
	int error_soft; /* the last ICMP error that did not abort */
	uint32_t rst_seq, rst_ack;
	uint16_t rst_window;
	uint32_t cr_seq; /* the final sequence number */

	/* Figures for status. */
	uint64_t bytes_in, bytes_out, bytes_acked, bytes_retrans;
	uint64_t segs_in, segs_out, data_segs_in, data_segs_out;
	uint32_t total_retrans, rto_events, fast_recoveries;
	uint64_t delivered, delivered_ce; /* bytes that were acknowledged or SACKed; by an ACK with ECE */
	uint64_t lost; /* bytes that were found lost */
	struct tcp_rate rate;
	int64_t last_sent_us; /* whatever it was */
	int64_t last_data_sent_us, last_data_rcvd_us, last_rcvd_us, last_ack_rcvd_us;
	bool last_bytes_ours;
	bool route_quickack;
	uint8_t initial_window_segs; /* RFC 6928, or the route's */
	uint8_t initial_rcv_segs;    /* the route's; 0: none */
	int64_t rto_min_us;          /* the route's; 0: the configuration's */
	struct tcp_kept kept;
	struct tcp_rcv_rtt rcv_rtt;
};

#endif
