/*
 * The TCP core's contract (RFC 9293 and companions). Pure: it is told the time, takes segments and
 * application verbs, yields segments and one deadline. No I/O, clock, allocation of its own or errno.
 *
 * Ownership: a struct tcp_conn lives in its caller's memory (embedded in a socket); its buffers come
 * from and go back to stack->memory. Everything runs under the caller's lock. Time is int64_t µs.
 *
 * A turn, as every caller does it: tcp_input for each segment; application verbs; tcp_tick when
 * tcp_next_deadline() <= now; then tcp_output, which hands every segment that may go now to `emit`. Payload
 * pointers given to emit stay valid until the next tcp_input or verb on that connection.
 */
#ifndef FINESSE_TCP_TCP_H
#define FINESSE_TCP_TCP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/addr.h"
#include "base/memory.h"
#include "base/time.h"
#include "tcp/close_policy.h"
#include "wire/tcp.h"

enum tcp_state {
	TCPS_CLOSED,
	TCPS_LISTEN,
	TCPS_SYN_SENT,
	TCPS_SYN_RECEIVED,
	TCPS_ESTABLISHED,
	TCPS_FIN_WAIT_1,
	TCPS_FIN_WAIT_2,
	TCPS_CLOSE_WAIT,
	TCPS_CLOSING,
	TCPS_LAST_ACK,
	TCPS_TIME_WAIT,
};

/* As the RFC spells it: "SYN-RECEIVED". */
const char *tcp_state_name(enum tcp_state state);

/* What happened, for the socket layer's readiness. tcp_take_events() returns and clears. */
#define TCP_EV_CONNECTED 0x01 /* the handshake completed */
#define TCP_EV_READABLE  0x02 /* new bytes in order */
#define TCP_EV_WRITABLE  0x04 /* send space became worth a wake-up after being short */
#define TCP_EV_PEER_FIN  0x08 /* the peer's FIN arrived in order */
#define TCP_EV_ERROR     0x10 /* tcp_error() is set: reset, timed out, unreachable */
#define TCP_EV_URGENT    0x20
#define TCP_EV_CLOSED    0x40 /* TCPS_CLOSED: nothing more will be sent or accepted */
#define TCP_EV_FIN_ACKED 0x100 /* FIN-WAIT-2: the peer has our FIN */
#define TCP_EV_TIME_WAIT 0x80 /* entered TIME-WAIT: the caller may move it to a struct tcp_tw */
#define TCP_EV_BLACK_HOLE 0x200 /* of Fast Open, and its segments seem to be swallowed on the way: a client's next SYNs had better be ordinary ones */

/* Every fate of a segment and every event that is counted: tcp/tcp_counter.def. */
enum tcp_counter {
#define TCP_COUNTER(name, text) TCPC_##name,
#include "tcp/tcp_counter.def"
#undef TCP_COUNTER
	TCPC_COUNT
};
const char *tcp_counter_name(enum tcp_counter c); /* "RcvdBadChecksum", … stable, for JSON */

/* net.ipv4.tcp_ecn. */
enum tcp_ecn {
	TCP_ECN_OFF,
	TCP_ECN_ON,
	TCP_ECN_ACCEPT,      /* when the peer asks */
	TCP_ECN_ACCURATE,    /* AccECN, which is not here: RFC 3168's in its place, as TCP_ECN_ON */
	TCP_ECN_ACCURATE_IN, /* … asking for RFC 3168's */
	TCP_ECN_ACCURATE_ACCEPT, /* … asking for nothing */
};

/*
 * Configuration of an engine: Linux's defaults by tcp_config_default(), then what the namespace says
 * (kernel/sysctl.def). It may change between two calls of the core. What a handshake has settled stays; the rest holds
 * for connections that live, too, as in Linux.
 */
struct tcp_config {
	uint32_t rcvbuf_init_bytes, rcvbuf_max_bytes; /* tcp_rmem[1], [2] */
	uint32_t rmem_core_bytes;                     /* net.core.rmem_max: the window scale is made for it, too */
	uint32_t sndbuf_init_bytes, sndbuf_max_bytes; /* tcp_wmem[1], [2] */
	uint32_t initial_window_segs;                 /* RFC 6928 */
	int64_t rto_min_us, rto_max_us, rto_init_us;  /* RFC 6298; Linux: 200 ms, 120 s, 1 s */
	int64_t tick_us;                              /* Linux's timers go by ticks: 4 ms */
	int64_t min_rtt_window_us;                    /* the least round trip is that of so long: 300 s */
	int64_t delack_us;                            /* RFC 9293 MUST-59: < 500 ms; Linux 40 ms */
	int64_t fin_timeout_us;                       /* orphan in FIN-WAIT-2: tcp_fin_timeout */
	int64_t time_wait_us;                         /* 2 MSL; Linux: 60 s */
	int64_t invalid_ratelimit_us;                 /* a connection answers segments that are not acceptable once in so long: 500 ms */
	uint32_t challenge_ack_limit;                 /* challenge ACKs in a second, of the connections of a stack; TCP_CHALLENGES_ANY */
	unsigned syn_retries, synack_retries;         /* 6, 5 */
	unsigned syn_linear_timeouts;                 /* 4: SYNs whose time-outs do not double yet */
	unsigned min_tso_segs, tso_rtt_log;           /* 2, 9: tso.c */
	unsigned mtu_probing, probe_threshold, retries1; /* 0, 8, 3: mtu_probe.c */
	uint32_t base_mss, mtu_probe_floor;           /* 1024, 48 */
	int64_t probe_interval_us;                    /* 600 s */
	unsigned tso_win_divisor;                     /* 3: less than such a part of the window may wait */
	unsigned pacing_ss_ratio, pacing_ca_ratio;    /* 200, 120 %: tso.c */
	unsigned retries2, orphan_retries;            /* 15; 0: 8 */
	uint32_t min_snd_mss;                         /* a peer's MSS counts as no less */
	uint32_t notsent_lowat;                       /* where TCP_NOTSENT_LOWAT was not set; UINT32_MAX: none */
	unsigned timestamps;                          /* 0; 1: with an offset for each flow; TCP_TIMESTAMPS_BARE */
	bool sack, window_scaling;
	bool shrink_window;         /* what was advertised may be taken back */
	uint8_t ecn;                         /* enum tcp_ecn */
	bool ecn_fallback;                   /* a repeated SYN does not ask for ECN */
	bool stdurg;                         /* the urgent pointer of what comes points at the urgent byte, not behind it */
	uint32_t reordering;                 /* RFC 5681's and RFC 6675's DupThresh, segments: 3 */
	uint32_t max_reordering;             /* … as far as tcp_info lets it grow: 300 */
	unsigned recovery;                   /* TCP_RECOVERY_… */
	unsigned frto;                       /* 0: spurious timeouts are not looked for (RFC 5682) */
	bool retrans_collapse;               /* small segments that go again go as one */
	unsigned early_retrans;              /* 3, 4: tail loss probes */
	uint32_t comp_sack_nr, comp_sack_rtt_percent; /* 44, 5: delack_behind_gap */
	int64_t comp_sack_delay_ns, comp_sack_slack_ns;
	bool dsack;                 /* tell of what came twice (RFC 2883) */
	bool moderate_rcvbuf;       /* the receive buffer follows the speed */
	bool slow_start_after_idle; /* RFC 2861 */
	bool rfc1337;               /* no RST ends TIME-WAIT */
	bool thin_linear_timeouts;  /* a thin stream's timeouts do not double at first */
	bool close_request;         /* tcp/close_request.c */
};
/* net.ipv4.tcp_recovery. Without RACK, 1, loss is found by it all the same. */
#define TCP_RECOVERY_STATIC_REO_WND 2
#define TCP_RECOVERY_NO_DUPTHRESH   4
#define TCP_CHALLENGES_ANY  INT32_MAX
#define TCP_TIMESTAMPS_BARE 2 /* … without: the clock shows */
void tcp_config_default(struct tcp_config *config);

struct tcp_stack {
	struct tcp_config config;
	struct tcp_memory *memory;
	uint8_t isn_secret[16]; /* RFC 6528 */
	uint8_t ts_secret[16];  /* RFC 7323 §5.4: per-flow timestamp offset */
	uint64_t counters[TCPC_COUNT];
	int64_t challenge_second; /* in which so many challenge ACKs may leave yet */
	uint32_t challenges_left;
	uint64_t random;        /* challenge-ACK and such: seeded by the caller */
};
void tcp_stack_init(struct tcp_stack *stack, const struct tcp_config *config,
		    struct tcp_memory *memory, const uint8_t secret[32]);

struct tcp_cc_ops; /* tcp/cc.h */
extern const struct tcp_cc_ops tcp_cc_cubic, tcp_cc_newreno, tcp_cc_dctcp, tcp_cc_bbr;
const struct tcp_cc_ops *tcp_cc_find(const char *name); /* NULL: unknown */

#define TCP_PACING_RATE_ZERO UINT64_MAX /* a bound of 0, with which Linux does not pace, but makes no super-segments */
/* Per-connection options, settable at any time unless said. Linux's meanings. */
struct tcp_options {
	bool nodelay, cork, quickack, keepalive;
	bool conversing;                /* TCP_QUICKACK 0 before the connection: it begins as if program and peer conversed */
	bool ack_waits;                 /* a client's TCP_DEFER_ACCEPT: the handshake's ACK waits for text */
	bool user_sndbuf, user_rcvbuf;  /* the application fixed the size: no autotuning */
	uint32_t sndbuf_bytes, rcvbuf_bytes;
	uint32_t rcvlowat_bytes;        /* SO_RCVLOWAT, 1 */
	int64_t keepidle_us, keepintvl_us;
	unsigned keepcnt;
	int64_t user_timeout_us;        /* RFC 5482; 0: retries2 */
	int64_t linger2_us;             /* TCP_LINGER2; 0: fin_timeout */
	unsigned syncnt;                /* TCP_SYNCNT; 0: config */
	uint16_t maxseg;                /* TCP_MAXSEG before the SYN; 0: path */
	uint32_t window_clamp;          /* 0: none, or it is over (tcp_set_window_clamp) */
	uint32_t notsent_lowat;         /* TCP_NOTSENT_LOWAT; 0: none */
	uint64_t max_pacing_rate;       /* SO_MAX_PACING_RATE, bytes a second; 0: none; TCP_PACING_RATE_ZERO */
	bool oobinline;                 /* SO_OOBINLINE */
	const struct tcp_cc_ops *cc;    /* TCP_CONGESTION; NULL: tcp_open's */
};
void tcp_options_default(struct tcp_options *opt);

/* What goes into the Fast Open option of a SYN or SYN-ACK (tcp/fastopen.h). */
struct fastopen_cookie {
	bool there; /* the option is */
	bool old;   /* … in its experimental form */
	uint8_t len;
	uint8_t val[SEG_COOKIE_MAX];
};

struct tcp_open {
	struct flow_key key;
	uint16_t mss_advertised; /* what we announce: our MTU − IP header − 20 */
	uint16_t mss_path;       /* most payload + options per segment on the way out */
	uint32_t gso_max_bytes;  /* payload bytes one emit may carry; 0: one segment each */
	struct tcp_options options;
	/* What the route says; 0: nothing. */
	uint32_t initial_window_segs, initial_rcv_segs, window_clamp;
	int64_t rto_min_us;
	bool quickack; /* every segment is acknowledged at once */
	const struct tcp_cc_ops *cc;
	struct close_policy *policy; /* of the listener; NULL: FIN at once */
	bool ecn_route;              /* the route asks for ECN (RTAX_FEATURE_ECN) */
	bool no_close_request;       /* a stranger, or a path that is known to drop SYNs that offer it */
	uint32_t iss;                /* tcp_isn() + what TIME-WAIT reuse asks */
	bool reuses;                 /* active: a TIME-WAIT of the 4-tuple that had time stamps, the last one `ts_recent` */
	uint32_t ts_recent;
	uint32_t ts_offset;          /* tcp_ts_offset() */
	bool fastopen;               /* passive: the SYN's text is taken, and data may leave before the handshake is complete (RFC 7413 §4.2.2) */
	struct fastopen_cookie cookie; /* passive: of the first SYN-ACK */
	bool syn_waits;               /* active: the SYN waits for tcp_fastopen_begin */
};

/* What a client's SYN of Fast Open has with it (RFC 7413 §4.1.3, §4.2.1). */
struct tcp_fastopen {
	bool text;                     /* some of what the program sends may be in it */
	struct fastopen_cookie cookie; /* an empty one asks for one */
	uint16_t mss_peer;             /* what the peer announced the last time; 0: not known */
	bool waits;                    /* the call waits for the handshake, whose ACK may go with the rest of the text */
};
/* What its handshake tells for the next time. */
struct tcp_fastopen_news {
	struct fastopen_cookie cookie; /* .there: a new one */
	uint16_t mss_peer;
	bool unanswered; /* the SYN asked for a cookie, and the SYN-ACK had no option */
	bool asked_old;  /* … in the experimental form */
};
/* tcp_info's tcpi_fastopen_client_fail. */
enum tcp_fastopen_fail { TCP_FASTOPEN_FAIL_NOT, TCP_FASTOPEN_NO_COOKIE_YET, TCP_FASTOPEN_NOT_ACKED, TCP_FASTOPEN_SYN_AGAIN };

struct tcp_conn;
#include "tcp/tcp_conn.h" /* the struct itself, to embed; read its fields through the functions below */

/*
 * Segments out. gso_size: payload bytes per wire segment when payload_len exceeds it, else 0. `full`, set before or by
 * a segment: no more for now. What is left is due at once, so whoever sets it comes back when there is room.
 */
struct tcp_emit {
	void (*segment)(struct tcp_emit *emit, struct tcp_conn *conn, const struct tcp_segment *seg,
			uint16_t gso_size);
	bool full;
};

/* Opens. The SYN leaves with the next tcp_output. -ENOMEM, -EINVAL. */
int tcp_open_active(struct tcp_conn *c, struct tcp_stack *stack, int64_t now,
		    const struct tcp_open *open);
/* `syn` is an acceptable SYN for a listener: the connection starts in SYN-RECEIVED. */
int tcp_open_passive(struct tcp_conn *c, struct tcp_stack *stack, int64_t now,
		     const struct tcp_open *open, const struct tcp_segment *syn);
/* Give buffers back; any state. The struct may be freed afterwards. */
void tcp_fini(struct tcp_conn *c);

void tcp_input(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg);
void tcp_tick(struct tcp_conn *c, int64_t now);
void tcp_output(struct tcp_conn *c, int64_t now, struct tcp_emit *emit);
/*
 * All that it has to say is an ACK that RFC 9293 lets wait (MUST-58, SHLD-19: of the handshake's end, or what arrived
 * in order, less than two full segments and at most two short ones): better, soon, with what the program says next.
 */
bool tcp_may_say_later(const struct tcp_conn *c);
/* So much has come since it last acknowledged anything that its peer may well have stopped for that. */
bool tcp_acks_much(const struct tcp_conn *c);
/*
 * `len` bytes of text from `seq` on did not leave: the device's queue refused them, just after tcp_output gave them.
 * The newest first, if there are several.
 */
void tcp_bounced(struct tcp_conn *c, int64_t now, uint32_t seq, uint32_t len);
/* Earliest time at which tcp_tick or tcp_output has something to do; TIME_NEVER if none. */
int64_t tcp_next_deadline(const struct tcp_conn *c);
uint32_t tcp_take_events(struct tcp_conn *c);

/*
 * Bytes taken (possibly short), -EAGAIN when there is no space, -EFAULT when the memory turned out bad before the
 * first, -EPIPE after our FIN or shutdown, or the connection's error, which is then cleared. `more`: MSG_MORE.
 * `urgent`: the last byte is urgent (MSG_OOB).
 */
ssize_t tcp_send(struct tcp_conn *c, int64_t now, const struct iovec *iov, int iovcnt, bool more,
		 bool urgent);
/*
 * The same, for bytes that the caller has yet to read from somewhere: so many (or as of tcp_send, which says as much),
 * and where they belong, in one or two pieces …
 */
ssize_t tcp_send_room(struct tcp_conn *c, uint32_t want, struct iovec place[2], int *pieces);
/*
 * … and now the first `n` of them are there, which may be none. Nothing may be done with the connection between the
 * two.
 */
void tcp_send_filled(struct tcp_conn *c, int64_t now, uint32_t n, uint32_t want, bool more);
/* MSG_EOR: no segment has both the last byte that tcp_send took and the next one. */
void tcp_end_record(struct tcp_conn *c);
/*
 * unseen.c: a segment whose text is elsewhere, its payload[0] is NULL with the length. Whether it may be given to
 * tcp_input_unseen, as of now …
 */
bool tcp_may_take_unseen(const struct tcp_conn *c, const struct tcp_segment *seg);
/* … which answers whether the text was taken: from now on its place is in the receive buffer. */
bool tcp_input_unseen(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg);
/* Where it belongs, for whoever has the bytes: one or two pieces. 0: nobody wants them any more. */
int tcp_unseen_place(struct tcp_conn *c, uint32_t seq, uint32_t len, struct iovec place[2]);
/* There are none: the connection ends by a reset, and nothing can be read of it any more. */
void tcp_unseen_lost(struct tcp_conn *c, int64_t now);
/*
 * Bytes given, up to the urgent mark; -EAGAIN when nothing is there; -EFAULT as tcp_send; 0 at the peer's FIN, or at
 * the connection's end once its error was told; else the error (cleared). `discard` (MSG_TRUNC): bytes are dropped, iov
 * ignored but for its length.
 */
ssize_t tcp_recv(struct tcp_conn *c, int64_t now, const struct iovec *iov, int iovcnt, bool peek,
		 bool discard);
bool tcp_recv_ended(const struct tcp_conn *c); /* no byte will come: behind those that are there is the end of file, or the error */
int tcp_recv_urgent(struct tcp_conn *c, uint8_t *byte, bool peek); /* 1: the byte; 0: it will never come; -EAGAIN, -EINVAL, -ENOTCONN */
bool tcp_urgent_ready(const struct tcp_conn *c);        /* POLLPRI: the byte is there, in line or not */
bool tcp_at_mark(const struct tcp_conn *c);             /* SIOCATMARK */
bool tcp_is_mark(const struct tcp_conn *c, uint32_t offset); /* … if so many bytes more had been read */
/* shutdown(SHUT_RD): with our FIN wanted, too, text that arrives resets the connection, as in Linux. */
void tcp_shutdown_receive(struct tcp_conn *c);

/* What a protocol reader says of the conversation so far: a fact for the policy. */
void tcp_set_reader(struct tcp_conn *c, enum reader_says says);
/* shutdown(SHUT_WR): the policy is asked. 0, -ENOTCONN. */
int tcp_shutdown(struct tcp_conn *c, int64_t now);
/*
 * The application's last reference goes. Unread data: RST (RFC 9293 MUST-17 family, as Linux). Otherwise the policy is
 * asked, and FIN goes after all data, now or when the hold ends. From here on the connection is an orphan. `exiting`
 * feeds the policy.
 */
void tcp_close(struct tcp_conn *c, int64_t now, bool linger, bool exiting);
/* RST to the peer where the state has one; TCPS_CLOSED at once (SO_LINGER 0, ABORT call). */
void tcp_abort(struct tcp_conn *c, int64_t now);
/*
 * Neither end wants it: the peer gets a RST, the program, which still has it, `err` (Linux's tcp_abort, of an
 * administrator).
 */
void tcp_destroy(struct tcp_conn *c, int64_t now, int err);

/* The SYN waits for tcp_fastopen_begin. */
bool tcp_syn_waits(const struct tcp_conn *c);
/* How much text a SYN that waits will take, if it may take any. */
uint32_t tcp_fastopen_room(const struct tcp_conn *c, const struct tcp_fastopen *f);
/* It waits no more. How many bytes go with it: none without memory for them, and then it only asks for a cookie. */
uint32_t tcp_fastopen_begin(struct tcp_conn *c, const struct tcp_fastopen *f, const struct iovec *iov, int iovcnt);
/* After TCP_EV_CONNECTED. False: the SYN was an ordinary one. */
bool tcp_fastopen_news(const struct tcp_conn *c, struct tcp_fastopen_news *out);
/* Such a SYN's peer has sent text: nothing on the way is in the way. */
bool tcp_fastopen_heard_text(const struct tcp_conn *c);
/* A connection by Fast Open whose handshake is not complete was accepted: ICMP does not end it any more. */
void tcp_fastopen_accepted(struct tcp_conn *c);
/*
 * The program has this passive connection now, and can read. What comes before waits longer for an answer that its ACK
 * can ride on.
 */
void tcp_accepted(struct tcp_conn *c);
/* SYN-SENT or SYN-RECEIVED, and nothing can be sent yet. */
bool tcp_is_opening(const struct tcp_conn *c);

/* Network events about this connection (RFC 5927 checks that seq is in flight). */
enum tcp_unreachable {
	TCP_UNREACHABLE_IGNORED, /* not in flight */
	TCP_UNREACHABLE_NOTED,   /* the connection's end may be explained by it */
	TCP_UNREACHABLE_ENDED,   /* the attempt to connect is over */
};
enum tcp_unreachable tcp_on_unreachable(struct tcp_conn *c, int64_t now, int err, bool hard, uint32_t seq);
/* True: `seq` is in flight, so the news of the path may be believed, for other connections to the same host, too. */
bool tcp_on_frag_needed(struct tcp_conn *c, int64_t now, uint16_t mss_path, uint32_t seq);
/*
 * The path carries segments of this size from now on, larger or smaller ones than before. `lost`: what is in flight in
 * larger ones is.
 */
void tcp_set_path_mss(struct tcp_conn *c, int64_t now, uint16_t mss_path, bool lost);
void tcp_set_quickack(struct tcp_conn *c, bool quick); /* TCP_QUICKACK: until the next conversation */
bool tcp_hurry_ack(struct tcp_conn *c); /* what came is acknowledged by the next output. False: it is already, or by what is still to leave */
/*
 * TCP_WINDOW_CLAMP of a connection: as in Linux until the buffer or what its segments take of it changes. Before, the
 * option's value holds.
 */
void tcp_set_window_clamp(struct tcp_conn *c, uint32_t bytes);
uint32_t tcp_window_clamp(const struct tcp_conn *c);
void tcp_set_options(struct tcp_conn *c, int64_t now, const struct tcp_options *opt);

/* Status. */
enum tcp_state tcp_state(const struct tcp_conn *c);
const struct tcp_options *tcp_get_options(const struct tcp_conn *c);
int tcp_error(const struct tcp_conn *c);        /* positive errno, 0 */
void tcp_tell_error(struct tcp_conn *c, int err); /* the application reads it once; the connection goes on */
int tcp_take_error(struct tcp_conn *c);         /* returns and clears */
int tcp_take_any_error(struct tcp_conn *c);     /* SO_ERROR: where there is none, what ICMP has told since it was last asked */
void tcp_put_error(struct tcp_conn *c, int err); /* … to be told again */
uint32_t tcp_readable_bytes(const struct tcp_conn *c); /* in order, unread */
/*
 * What SO_RCVLOWAT is compared with when a program asks what is ready: as in Linux with the urgent byte, but where the
 * reader stands before it.
 */
uint32_t tcp_ready_bytes(const struct tcp_conn *c);
uint32_t tcp_unread_bytes(const struct tcp_conn *c); /* … with the urgent byte in any case, as Linux where SO_RCVLOWAT is set */
bool tcp_has_unread(const struct tcp_conn *c);         /* … an urgent byte counts: a close is a RST */
uint32_t tcp_recv_next(const struct tcp_conn *c); /* sequence number of the next byte to be read */
/*
 * As Linux's splice, which neither gives an urgent byte, read or not, nor passes it. 1: none is next. 0, an error: what
 * splice says then; -EAGAIN, 0 where it would wait.
 */
ssize_t tcp_splice_stops(struct tcp_conn *c);
uint32_t tcp_readable_to_mark(const struct tcp_conn *c); /* FIONREAD: only those before an urgent byte that is out of line */
uint32_t tcp_send_space(const struct tcp_conn *c, uint32_t want); /* how many of so many bytes tcp_send would take now */
bool tcp_is_writable(const struct tcp_conn *c); /* POLLOUT, by Linux's rule of a third free */
bool tcp_ask_writable(struct tcp_conn *c); /* … and when it is not, TCP_EV_WRITABLE comes when it is */
/*
 * The sequence number behind the last byte that tcp_send took, and whether the peer has acknowledged everything before
 * such a one (or never will).
 */
uint32_t tcp_send_end(const struct tcp_conn *c);
bool tcp_is_delivered(const struct tcp_conn *c, uint32_t end);
uint32_t tcp_unsent_bytes(const struct tcp_conn *c);
/* SIOCOUTQ and SIOCOUTQNSD: numbers that are not acknowledged, and not sent. A FIN is one. */
uint32_t tcp_outq(const struct tcp_conn *c);
uint32_t tcp_outq_unsent(const struct tcp_conn *c);
uint32_t tcp_unacked_bytes(const struct tcp_conn *c);  /* unsent + in flight */
/*
 * The peer was heard within `us`; or its window is shut, of which it is asked at growing intervals, and it has answered
 * so far.
 */
bool tcp_peer_answers(const struct tcp_conn *c, int64_t now, int64_t us);
bool tcp_peer_fin(const struct tcp_conn *c);    /* end of file: the peer's FIN was received in order, or its close request */
bool tcp_send_closed(const struct tcp_conn *c); /* our FIN is sent, queued or held */
/* In TIME-WAIT of an orphan that waited in FIN-WAIT-2: Linux has no socket by then, and its ACK has nothing of one. */
bool tcp_is_closed_late(const struct tcp_conn *c);
bool tcp_is_held(const struct tcp_conn *c);     /* the close policy holds our FIN */
/*
 * The handshake was only completed without the option of close requests: something on the path may drop SYNs that carry
 * it.
 */
bool tcp_close_request_unheard(const struct tcp_conn *c);
/* Our SYN offered close requests, and the peer's SYN-ACK did not take it up: it does not speak it. */
bool tcp_close_request_declined(const struct tcp_conn *c);
/* The peer's FIN was received in order: its sequence number. */
bool tcp_rcvd_fin(const struct tcp_conn *c, uint32_t *seq);
/* Who sent the first FIN: +1 we, −1 the peer, 0 nobody yet. */
int tcp_first_fin(const struct tcp_conn *c);
enum close_reason tcp_close_reason(const struct tcp_conn *c); /* valid once tcp_send_closed() */

/*
 * The flags of what would be the last segment if the program were gone, as Linux's close says it: FIN when all was sent
 * and read, RST otherwise; with its numbers. Data in flight is not waited for: a peer that misses some asks for it. In
 * SYN-RECEIVED RST without ACK: a peer that has our SYN hears of the end, and one that has not connects again (RFC 9293
 * §3.10.7.3). 0: there is none, because the connection is not opened yet, or our FIN was sent.
 */
uint8_t tcp_last_word(const struct tcp_conn *c, uint32_t *seq, uint32_t *ack);

/* Everything `finesse stat` and TCP_INFO show, in RFC and Linux terms. */
struct tcp_status {
	enum tcp_state state;
	uint32_t iss, irs, snd_una, snd_nxt, snd_wnd, rcv_nxt, rcv_wnd;
	uint8_t snd_wscale, rcv_wscale;
	bool timestamps, sack, wscale, close_request;
	uint32_t mss_snd, mss_advertised, cwnd_bytes, ssthresh_bytes, in_flight_bytes;
	int64_t srtt_us, rttvar_us, rto_us, min_rtt_us, handshake_rtt_us;
	uint64_t bytes_in, bytes_out, bytes_acked, bytes_retrans;
	uint64_t segs_in, segs_out, data_segs_in, data_segs_out;
	uint32_t total_retrans, rto_events, fast_recoveries, backoff;
	uint32_t rcvbuf_bytes, sndbuf_bytes, readable_bytes, unsent_bytes, ooo_bytes;
	int64_t last_data_sent_us, last_data_rcvd_us, last_ack_rcvd_us; /* times, 0 never */
	int8_t reset; /* whose RST ended it: +1 ours, −1 the peer's, 0 nobody's */
	enum close_reason fin_reason; /* tcp_close_reason(), or how the hold that it began has ended */
	int64_t hold_us; /* our FIN was held for at most so long; 0: never */
	const char *cc_name;
	bool quickack; /* ACKs do not wait for an answer */
	bool ecn, ecn_seen; /* agreed; a capable packet of the peer's was seen */
	bool fastopen, syn_data; /* opened by a peer's SYN of Fast Open; text of a SYN was taken, by whichever end */
	uint8_t fastopen_fail; /* enum tcp_fastopen_fail */
};
void tcp_get_status(const struct tcp_conn *c, struct tcp_status *out);

/* TCP_CC_INFO: Linux's record of the algorithm, in bytes; most have none. */
#define TCP_CC_INFO_WORDS 5
size_t tcp_cc_info(const struct tcp_conn *c, uint32_t out[TCP_CC_INFO_WORDS]);

/* What Linux's struct tcp_info has on top of that. */
struct tcp_figures {
	int64_t established_us; /* 0: not yet */
	uint64_t segs_out; /* without SYN-ACKs, which Linux's socket has not sent */
	uint32_t retransmits, probes, advmss, rcv_mss, reordering, rcv_ssthresh, rcv_space, rcv_rtt_us;
	int64_t rto_base_us, ato_us; /* the first: before it was doubled */
	uint32_t unacked, sacked, lost, retrans; /* segments */
	uint64_t pacing_rate; /* bytes a second; UINT64_MAX: not known yet */
	uint64_t delivery_rate; /* the same of rate.c's samples, of segments that count as full ones; 0: there was none */
	bool delivery_app_limited;
	int64_t busy_us, rwnd_limited_us, sndbuf_limited_us;
	uint32_t delivered, delivered_ce, dsack_dups, reord_seen, rcv_ooopack, rcv_wnd, timeouts, rehashes, rto_recoveries;
	int64_t rto_time_us;
	bool client, fin_acked, peer_fin, fastopen_early, crossed, syn_text, persists;
	bool disorder, cwr; /* with loss TCP_LOSS_OPEN: something is missing; the window shrinks for a mark */
	uint8_t loss; /* enum tcp_loss */
};
void tcp_get_figures(const struct tcp_conn *c, int64_t now, struct tcp_figures *out);
uint32_t tcp_rehashes(const struct tcp_conn *c); /* so often something was sent again by a timeout: each asks for another path */
uint32_t tcp_first_window(const struct tcp_conn *c); /* of a client: as it was before the handshake; the SYN told of its first 64 KiB */

/* For limits and identifiers that nobody shall foretell. */
uint32_t tcp_random(struct tcp_stack *stack);
/* RFC 6528 ISN and RFC 7323 §5.4 timestamp offset for a 4-tuple. */
uint32_t tcp_isn(const struct tcp_stack *stack, int64_t now, const struct flow_key *key);
uint32_t tcp_ts_offset(const struct tcp_stack *stack, const struct flow_key *key);
/* `iss`, or *iss_min of TIME-WAIT where `iss` lies before it. */
uint32_t tcp_iss_at_least(uint32_t iss, uint32_t iss_min);

/* A segment that no connection takes (RFC 9293 §3.10.7.1): true and the RST to send, or false. */
bool tcp_reset_for(const struct tcp_segment *in, struct tcp_segment *out);

/* ---- TIME-WAIT, compact (tcp/tw.c) ---- */

/* What is left of a connection that must remember for 2 MSL. The caller owns key and storage. */
struct tcp_tw {
	uint32_t snd_nxt, rcv_nxt;
	uint32_t rcv_wnd;     /* bytes, scaled up */
	uint32_t ts_recent;   /* the peer's last timestamp */
	uint32_t ts_offset;   /* ours */
	uint8_t rcv_wscale;
	bool timestamps;
	int64_t ts_recent_age_us; /* when ts_recent was taken */
	int64_t expires_us;
	int64_t reply_after_us; /* no spaced reply before */
};

enum tw_verdict {
	TW_DROP,   /* nothing to say */
	TW_REPLY,  /* `reply` goes out; 2 MSL restarted where RFC 9293 says so */
	TW_REUSE,  /* an acceptable new SYN (RFC 6191, or a higher sequence number): free this entry, open passively with *iss_min */
	TW_GONE,   /* closed by an acceptable RST */
};

void tcp_tw_enter(struct tcp_tw *tw, const struct tcp_conn *c, int64_t now);
enum tw_verdict tcp_tw_input(struct tcp_tw *tw, struct tcp_stack *stack, int64_t now,
			     const struct tcp_segment *seg, struct tcp_segment *reply,
			     uint32_t *iss_min);
/*
 * May our own client reuse this 4-tuple now (timestamps, and more than `after_us` since last use)? Then *iss_min is the
 * least acceptable ISS.
 */
#define TCP_RTO_MAX_US       (120 * USEC_PER_SEC) /* as Linux's TCP_RTO_MAX */
#define TCP_TW_REUSE_US      USEC_PER_SEC        /* as Linux's tcp_tw_reuse: whatever clock the peer has, it has ticked */
#define TCP_TW_REUSE_SOON_US (-USEC_PER_MSEC)    /* where the program chose the port: at once, as Linux */
/* Linux's clock for it has milliseconds. *iss_min: where the new connection's numbers may begin. */
bool tcp_tw_may_reuse(const struct tcp_tw *tw, int64_t now, int64_t after_us, uint32_t *iss_min);

#endif
