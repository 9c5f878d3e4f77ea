/*
 * The differential runner: what a program sees of its sockets under finesse must equal what it sees on the kernel's
 * TCP.
 *
 * A *case* is: a socket brought into a *state*, an *ending* (what the peer does then), an *option* set before, and one
 * or two *calls*. states.c, options.c and the calls_*.c hold tables of these, cases.c multiplies them. The subject
 * (subject.c) executes cases and writes down what it saw, one line of text each; it is an ordinary program that knows
 * nothing of finesse. The peer (peer.c) has kernel TCP in another network namespace and obeys the subject over an
 * AF_UNIX socket. differential.py runs the subject natively and preloaded, and compares the lines.
 *
 * Nothing in a line may depend on port numbers, descriptors, process ids, addresses in memory, or buffer sizes.
 */
#ifndef DIFFERENTIAL_H
#define DIFFERENTIAL_H

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define TEXT_MAX  3000 /* bytes of a case's line */
#define NAME_MAX_ 160

/* What the peer does before the call, or (…_LATER) LATER_US after the subject was told to go on. */
enum ending {
	END_NONE,
	END_DATA,      /* "hello" */
	END_DATA_FIN,
	END_FIN,
	END_RST,
	END_DATA_RST,
	END_FIN_RST,   /* a reset after its FIN */
	END_OOB,       /* "ab", and "c" urgent */
	END_OOB_DATA,  /* the same, then "de" */
	END_BIG,       /* BIG_BYTES */
	END_BIG_FIN,
	END_FULL,      /* the peer does not read, and the subject has filled all buffers */
	END_FULL_RST,
	END_DATA_LATER,
	END_FIN_LATER,
	END_RST_LATER,
	END_DATA_FIN_LATER,
	END_COUNT
};
extern const char *const ending_names[END_COUNT];

#define BIG_BYTES 20000
#define LATER_US  20000

enum peer_op {
	PEER_HELLO,   /* → its listener's port */
	PEER_ACCEPT,  /* the next connection of its listener → the subject's port */
	PEER_CONNECT, /* to `port` of the subject → its own port */
	PEER_END,     /* `arg`: enum ending */
	PEER_SEE,     /* how long a new connection may take, ms → what has come, in words */
	PEER_DROP,    /* its connection, by reset */
};

struct peer_request {
	int op, arg, family;
	unsigned port;
};

struct peer_reply {
	int result; /* 0 or -errno */
	unsigned port;
	char text[120];
};

int peer_main(const char *path, const char *own_v4, const char *own_v6, const char *other_v4, const char *other_v6);

/* One option that is set before connect or listen. */
struct option {
	const char *name;
	int level, number, value;
	int second; /* for struct linger and struct timeval */
	int length; /* sizeof(int), or of both */
};
extern const struct option options[];
extern const unsigned n_options;
#define OPTIONS_IN_SEQUENCES 37 /* the first ones: with more of them, all sequences would become others */

/* One execution of a case. */
struct run {
	int fd; /* under test; -1: closed by a call */
	int family;
	bool nonblocking;
	bool peer_has; /* the peer holds a connection of this case */
	char carrier;  /* who carries an established connection: 'k' the kernel, 'e' somebody else, '-' there is none */
	const struct option *option;
	enum ending ending;
	unsigned peer_port, own_port; /* of the connection, 0: unknown */
	struct sockaddr_storage peer_address;
	socklen_t address_length;
	int control; /* to the peer */
	char *text;
	size_t used;
};

/* --- subject.c: what states and calls are made of --- */
void out(struct run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
void out_bytes(struct run *r, const void *bytes, long n);
void out_address(struct run *r, const struct sockaddr_storage *a, socklen_t length, socklen_t room);
extern bool calls_are_untimed; /* how long they take is not compared */
void call_begins(void);
void call_ends(struct run *r, const char *name, long result);
struct peer_reply peer_does(struct run *r, int op, int arg, unsigned port);
_Noreturn void give_up(struct run *r, const char *what); /* the state could not be built */
void note_carrier(struct run *r, int fd);
void settle(void);

/* Does it, and writes down name, result, errno and time. */
#define CALL(r, name, expr)                                                                                                                          \
	({                                                                                                                                           \
		call_begins();                                                                                                                       \
		long result_ = (long)(expr);                                                                                                         \
		call_ends(r, name, result_);                                                                                                         \
		result_;                                                                                                                             \
	})

/* The same for a call whose result is a descriptor: its number depends on what came before. */
#define FD_CALL(r, name, expr)                                                                                                                       \
	({                                                                                                                                           \
		call_begins();                                                                                                                       \
		long fd_ = (long)(expr);                                                                                                             \
		call_ends(r, name, fd_ < 0 ? fd_ : 0);                                                                                               \
		fd_;                                                                                                                                 \
	})

/* --- states.c --- */
void leave_listeners(void); /* in a child: those that accepted connections come from */
struct state {
	const char *name;
	void (*build)(struct run *r, int arg);
	int arg;
	unsigned flags;
};
#define STATE_PEER   1u /* has a connection: endings apply */
#define STATE_LISTEN 2u
#define STATE_SHUT   4u /* a variant of a connection, with fewer endings */
#define STATE_V6     8u
#define STATE_HOLE   16u /* for connects that block */
extern const struct state states[];
extern const unsigned n_states;

/* --- calls_*.c --- */
struct call {
	const char *name;
	void (*make)(struct run *r, long a, long b);
	long a, b;
	unsigned flags;
};
#define CALL_WAITS  1u /* worth being woken by a later ending */
#define CALL_FIRST  2u /* worth being the first of two */
#define CALL_SECOND 4u
#define CALL_OPTION 8u /* of the tables of all options: only in a few states */
#define CALL_STEPS  16u /* a sequence of others */
#define CALL_THREADS 32u /* blocks in a thread of its own: where that makes sense */
#define CALL_PROCESS 64u /* forks */

struct call_table {
	const struct call *calls;
	unsigned n;
};
extern const struct call_table receive_calls, send_calls, wait_calls, name_calls, file_calls;
extern struct call_table option_calls, steps_calls, threads_calls, process_calls, masked_calls; /* made at start */
#define N_CALL_TABLES 10
const struct call *call_at(unsigned i);
unsigned n_calls(void);

/* --- cases.c --- */
struct result {
	char carrier;
	volatile bool done;
	char text[TEXT_MAX];
};

struct test_case {
	const struct state *state;
	const struct call *first, *second; /* second: NULL for one call */
	const struct option *option;	   /* or NULL */
	enum ending ending;
	bool nonblocking;
};
struct test_case *cases_make(unsigned *n);
void case_name(const struct test_case *c, char name[NAME_MAX_]);

/* --- subject.c, for blocks.c --- */
void subject_prepare(void);
int control_to(const char *path);
void run_case(const struct test_case *c, struct result *result, int control);

/* Bad pointers. */
extern void *unmapped, *read_only;

extern const char *peer_v4, *peer_v6, *own_v4, *own_v6, *hole_v4, *hole_v6;
int address_of(const char *v4, const char *v6, int family, unsigned port, struct sockaddr_storage *a);

#endif
