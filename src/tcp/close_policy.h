/*
 * What the core asks when an application's call would send a FIN, and what it tells afterwards.
 * The mechanism (holding the FIN) is the core's, tcp_hold in src/tcp; the policy is src/steer's.
 * This is the only header of tcp/ that steer/ may include. Pure; called under the engine's lock.
 */
#ifndef FINESSE_TCP_CLOSE_POLICY_H
#define FINESSE_TCP_CLOSE_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"

enum close_call {
	CLOSE_CALL_CLOSE,    /* the last reference to the socket goes */
	CLOSE_CALL_SHUTDOWN, /* shutdown(SHUT_WR) or SHUT_RDWR */
};

/* What a protocol reader knows of the server's bytes so far. */
enum reader_says {
	READER_SILENT,       /* no reader understands this connection */
	READER_MESSAGE_OVER, /* the client can tell that the message is complete and last */
	READER_EOF_DELIMITED,
	READER_TLS,
	READER_KEPT_ALIVE, /* complete, and the client may use the connection again */
};

struct close_facts {
	enum close_call call;
	struct flow_key key;
	bool accepted;         /* we are the server: only such connections are ever held */
	bool unread;           /* received bytes that the application did not read */
	bool linger;           /* SO_LINGER with a positive time */
	bool exiting;          /* the process is on its way out */
	bool peer_closed;      /* the peer's FIN is here already: CLOSE-WAIT */
	bool last_bytes_ours;  /* the last payload byte of the connection went out, not in */
	bool all_acked;        /* nothing of ours is unacknowledged or unsent */
	int64_t acked_age_us;  /* since the last of our bytes was acknowledged; 0 if !all_acked */
	int64_t srtt_us;       /* 0: no sample */
	uint64_t bytes_in, bytes_out;
	enum reader_says reader;
	bool timestamps; /* the connection has them */
	bool can_ask; /* the client understands close requests (close_request.c) */
};

enum close_action {
	CLOSE_FIN_NOW,
	CLOSE_ASK,  /* a hold whose client is asked to close */
	CLOSE_HOLD, /* for at most hold_us, counted from the moment that all data is acknowledged */
};

/* Why, for counters, `finesse stat` and `finesse trace`. Names: close_reason_name(). */
enum close_reason {
#define CLOSE_REASON(ident, name, text) CLOSE_REASON_##ident,
#include "tcp/close_reason.def"
#undef CLOSE_REASON
	CLOSE_REASON_COUNT
};

struct close_verdict {
	enum close_action action;
	enum close_reason reason;
	int64_t hold_us;
};

/* How a connection's closing came out. */
enum close_end {
	CLOSE_END_PEER_FIN,  /* the client closed first, within the hold */
	CLOSE_END_EXPIRED,   /* the hold ran out: our FIN was first */
	CLOSE_END_PEER_RST,
	CLOSE_END_PEER_DATA, /* new data in the hold: FIN, then RST */
	CLOSE_END_ABANDONED, /* exit, abort, or retransmission gave up */
	CLOSE_END_FIN_SENT,  /* never held: our FIN was first */
	CLOSE_END_PEER_FIRST, /* never asked or held: the peer's FIN was there before the close */
};

struct close_outcome {
	enum close_end end;
	struct flow_key key;
	int64_t held_us; /* from all-acknowledged to the end; 0 when not held */
	enum reader_says reader; /* as in the facts */
	bool asked, answered; /* the verdict was CLOSE_ASK; the client has understood */
	bool held;       /* the verdict was CLOSE_HOLD or CLOSE_ASK: tells a held CLOSE_END_ABANDONED from one that was never asked */
	/* After CLOSE_END_EXPIRED or CLOSE_END_FIN_SENT: from our FIN to the client's FIN; TIME_NEVER if it never
	   came. Reported in a second call with `late` set. */
	int64_t peer_fin_after_us;
	bool late;
};

/*
 * One object per listener, made by steer/, embedding this as its first member. Both functions are
 * called with the listener's object; NULL ops.outcome is allowed.
 */
struct close_policy {
	const struct close_policy_ops *ops;
};

struct close_policy_ops {
	const char *name;
	void (*decide)(struct close_policy *policy, int64_t now, const struct close_facts *facts,
		       struct close_verdict *verdict);
	void (*outcome)(struct close_policy *policy, int64_t now, const struct close_outcome *out);
};

const char *close_reason_name(enum close_reason reason); /* "peer-first", … */
const char *close_reason_text(enum close_reason reason); /* "the peer had closed before", … */

#endif
