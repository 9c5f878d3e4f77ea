/*
 * The table of socket options (options.def), sets of options, and the values that are noted for a socket.
 *
 * A connection has no kernel socket to keep its options. What is set on it is judged by a fresh kernel socket, on which
 * its noted values are set first: so errors, lengths, clamping and privilege are the running kernel's own. What that
 * socket then reads back is noted.
 */
#ifndef FINESSE_SOCKET_OPTIONS_H
#define FINESSE_SOCKET_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/addr.h"

enum option_index {
#define OPTION(level, name, number, type, class, source, heritage) OPTION_##name,
#include "socket/options.def"
#undef OPTION
	OPTION_COUNT,
	OPTION_UNKNOWN = 255, /* in a set: something that the table does not have was set */
};

enum option_type { OPTION_INT, OPTION_BYTE, OPTION_TIMEVAL, OPTION_LINGER, OPTION_NAME, OPTION_WIDE, OPTION_BULK };
enum option_class { OPTION_CARRIED, OPTION_HARMLESS, OPTION_KERNELS, OPTION_READ };
enum option_source { OPTION_OWN, OPTION_NOTED, OPTION_UNREAD, OPTION_ASKED };

struct option {
	const char *text; /* "SO_MARK" */
	int level;
	uint8_t number, type, class, source;
	bool inherited;
};
extern const struct option option_table[OPTION_COUNT];
/* An enum option_index; OPTION_UNKNOWN: not in the table. */
unsigned option_find(int level, int number);

/* Which options were set. The shim adds to one without a lock. */
#define OPTION_SET_WORDS 4
struct option_set {
	uint64_t word[OPTION_SET_WORDS];
};
static inline void option_set_add(struct option_set *set, unsigned index)
{
	__atomic_or_fetch(&set->word[index / 64], UINT64_C(1) << index % 64, __ATOMIC_RELAXED);
}
static inline void option_set_drop(struct option_set *set, unsigned index)
{
	__atomic_and_fetch(&set->word[index / 64], ~(UINT64_C(1) << index % 64), __ATOMIC_RELAXED);
}
static inline bool option_set_has(const struct option_set *set, unsigned index)
{
	return __atomic_load_n(&set->word[index / 64], __ATOMIC_RELAXED) >> index % 64 & 1;
}
static inline bool option_set_empty(const struct option_set *set)
{
	return !(set->word[0] | set->word[1] | set->word[2] | set->word[3]);
}

/* What the shim knows of a kernel socket that connect or listen decides. */
struct candidate {
	int family;            /* AF_INET or AF_INET6; 0: ask the kernel */
	bool shared;           /* another process may have set options, too: ask the kernel for all */
	bool adopted;          /* it listened already when this process got it */
	bool bound;            /* bind was called; means nothing when shared */
	bool port_chosen;      /* … with a port, and it succeeded */
	bool home;             /* at its connect: no thread of the process ever left the network namespace that it and the engine are in */
	bool nonblock_known, nonblock; /* O_NONBLOCK, unless shared */
	bool kernel_nonblock;  /* … of the kernel's socket, which may not have heard yet */
	bool bind_late;        /* bound to late_addr, without a port; the kernel's socket has not heard yet */
	struct ip_addr late_addr;
	/*
	 * calls that connect it in the kernel just now: nobody else decides it meanwhile. One that was left by a jump
	 * counts for ever: it goes on
	 */
	uint16_t kernel_connects;
	bool used;             /* something was done to the kernel's socket that nothing else here tells, or its identity was asked for */
	bool had_port;         /* it was connected or listened, and is unconnected again: its name may tell a port that it has lost */
	bool was_client, was_listener; /* … what it was, in this process */
	struct ip_addr client_addr; /* its own address as a client; any: not known */
	uint16_t lost_port;    /* … which the kernel's own name does not tell; 0: it does */
	uint16_t left_error;   /* what its last connection left in SO_ERROR, where the kernel's socket has ECONNRESET in its place; 0: nothing */
	bool maxseg_unset;     /* TCP_MAXSEG is in `set`, and its last value was 0, which the kernel gives back as 536 */
	bool rcvtimeo_now, sndtimeo_now; /* the last value was below zero, which the kernel gives back as zero */
	struct option_set set; /* by this process */
};
/* An option was set, with success, to `len` bytes at `val`. The shim calls it without a lock. */
void candidate_note(struct candidate *c, unsigned index, const void *val, socklen_t len);
/* Nothing was set on it and nobody else could: the defaults hold without asking. */
static inline bool candidate_untouched(const struct candidate *c)
{
	return c->family && !c->shared && option_set_empty(&c->set);
}

#define OPTION_VALUE_MAX 16

struct option_value {
	uint8_t index, len;
	uint8_t bytes[OPTION_VALUE_MAX];
};

/* Immutable once others refer to it: accepted sockets share their listener's. NULL: none. Engine's lock. */
struct option_values {
	uint32_t refs, n;
	struct option_value v[];
};
struct engine;
struct option_values *option_values_ref(struct option_values *values);
void option_values_unref(struct engine *e, struct option_values *values);
int option_values_number(const struct option_values *values, unsigned index); /* 0: none */
bool option_values_has(const struct option_values *values, unsigned index);
/* *values has `v` now in place of what it had of that option. -ENOMEM: nothing changed. */
int option_values_note(struct engine *e, struct option_values **values, const struct option_value *v);

/* A fresh kernel TCP socket with these values set, or -errno. The caller closes it. */
int option_oracle(int family, const struct option_values *values);
/* Sets them on a kernel socket, as far as it takes them. */
void option_values_set(const struct option_values *values, int fd);
bool option_value_equal(const struct option_value *a, const struct option_value *b);
/* The value that a kernel socket has; false: it has none that can be noted. */
bool option_read(int fd, unsigned index, struct option_value *out);

#endif
