/*
 * A probe proves facts about the running kernel that the code relies on, without that code. One line for each fact;
 * exit status 0: all hold, 1: one does not, 77: no privilege to look.
 */
#ifndef FINESSE_TESTS_PROBE_H
#define FINESSE_TESTS_PROBE_H

#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PROBE_SKIP    77
#define PROBE_WAIT_MS 5000

static int probe_failures;

#define fact(holds, ...)                                                                           \
	do {                                                                                       \
		bool holds_ = (holds);                                                             \
		probe_failures += !holds_;                                                         \
		printf("%s: ", holds_ ? "holds" : "DOES NOT HOLD");                                \
		printf(__VA_ARGS__);                                                               \
		printf("\n");                                                                      \
	} while (0)

/* Preparation that must work; failing is a broken probe, not a fact. */
#define must(ok)                                                                                   \
	do {                                                                                       \
		if (!(ok)) {                                                                       \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #ok,                \
				strerror(errno));                                                  \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static inline void probe_run(const char *cmd)
{
	if (system(cmd) != 0) {
		fprintf(stderr, "failed: %s\n", cmd);
		exit(1);
	}
}

/* A network namespace that dies with the probe, with a veth pair va–vb. */
static inline void probe_namespace(void)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0)
		exit(PROBE_SKIP);
	probe_run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1 && ip link set lo up && "
		  "ip link add va type veth peer name vb && ip link set va up && ip link set vb up");
}

static inline bool probe_polls(int fd, short events, int wait_ms)
{
	struct pollfd p = {.fd = fd, .events = events};
	return poll(&p, 1, wait_ms) == 1 && p.revents & events;
}

static inline int probe_end(void)
{
	return probe_failures != 0;
}

#endif
