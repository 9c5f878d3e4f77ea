/*
 * The settings of the network namespace that TCP sockets of the kernel's obey (sysctl.def): read when a socket is
 * decided, never on a segment's path.
 *
 * The kernel does not tell of changes. So the files are read again when a socket is decided and what was read is older
 * than SYSCTL_AGE_US, or older than a hundred times what the reading took: it never takes more than a hundredth of the
 * time. A program that decides one socket after the other, less than SYSCTL_AGE_US apart, often has several processes
 * that do the same, and then a hundredth of the time is much of each one's share of the CPUs: there it is an
 * eight-hundredth, as long as nothing gets older than 200 ms by that. At listen it is a tenth: a server listens once,
 * and often just after its settings were made. Two descriptors of directories are kept, so that a program may leave
 * /proc behind (chroot). They show the namespace in which they were opened, whoever reads.
 *
 * To open, read and close some 60 files takes longer than the connection of a short program. So the broker, which has
 * them open, tells them along with a link (process/broker.h).
 *
 * Under the engine's lock.
 */
#ifndef FINESSE_KERNEL_SYSCTL_H
#define FINESSE_KERNEL_SYSCTL_H

#include <stdbool.h>
#include <stdint.h>

#define SYSCTL_AGE_LISTEN_US INT64_C(1000)  /* at listen */
#define SYSCTL_AGE_US       INT64_C(10000)   /* at connect */
#define SYSCTL_AGE_LONG_US  INT64_C(1000000) /* at accept: its socket's settings are those of its SYN */
#define SYSCTL_CONGESTION_MAX 16  /* Linux: TCP_CA_NAME_MAX */

enum sysctl {
#define CORE(name, member, unit, otherwise, least, most) SYSCTL_##name,
#define CORE_AT(name, column, member, unit, otherwise, least, most) SYSCTL_##name##_##column,
#define SYSCTL(name, otherwise, least, most) SYSCTL_##name,
#define UNHEEDED(name, otherwise, why) SYSCTL_##name,
#define SYSCTL_DIRECTORY(name)
#include "kernel/sysctl.def"
	SYSCTL_COUNT
};

struct sysctl_values {
	int64_t v[SYSCTL_COUNT];
	char congestion[SYSCTL_CONGESTION_MAX]; /* net.ipv4.tcp_congestion_control; "": not known */
};

/* {0} before sysctls_open. */
struct sysctls {
	struct sysctl_values now;
	int dirs[2];                            /* /proc/sys/net/ipv4 and core; -1: not to be had */
	int *files; /* one for each line of sysctl.def, -1: not to be had; NULL: each is opened when it is read */
	bool open;
	int64_t read_us, took_us; /* when, and how long; 0: never */
	int64_t asked_us;         /* when sysctls_refresh was called last */
};

/* Reads all that the engine obeys, unless it was told just now. Without /proc the defaults count. */
void sysctls_open(struct sysctls *s);
/* Another process, of the same network namespace, read them just now: for sysctls_open. */
void sysctls_told(struct sysctls *s, const struct sysctl_values *values);
/* For who reads them often, and has descriptors to spare: the files stay open. */
void sysctls_keep_files(struct sysctls *s);
void sysctls_read(struct sysctls *s); /* now, however old they are */
void sysctls_close(struct sysctls *s); /* also in a fork child */
/* Reads anew what is older than `age_us`. True: something is different now. */
bool sysctls_refresh(struct sysctls *s, int64_t now, int64_t age_us);

static inline int64_t sysctls_number(const struct sysctls *s, enum sysctl which)
{
	return s->now.v[which];
}
/* The text of a setting that is none of them, of net.ipv4: read now. False: it cannot be, or is empty. */
bool sysctls_text(const struct sysctls *s, const char *name, char *out, unsigned len);

/*
 * The setting number `i` that the engine does not obey and that is not the default now: true, with what to tell; false:
 * `i` is another. i < SYSCTL_COUNT.
 */
struct sysctl_unheeded {
	const char *name, *why;
	int64_t value;
};
bool sysctls_unheeded(const struct sysctls *s, unsigned i, struct sysctl_unheeded *out);

#endif
