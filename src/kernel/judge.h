/*
 * The firewall as the judge (DESIGN §4): which SYNs the host's rules accepted.
 *
 * The classifier's tcx program lets a SYN for a listening port of ours climb the kernel's stack, and notes that it asked. Behind every hook of the
 * host (prerouting, conntrack, input, cgroup programs) a filter on the kernel's own listening socket meets those that all rules accepted. It swallows
 * each that was asked about and writes it into a ring that the engine reads in memory; the engine answers those alone. What was not asked about
 * (another interface, an address or port that a rule changed, an engine that died) is the kernel's, as if the filter were not there.
 *
 * One per engine, and one per group of processes that serve a port. Functions return 0/positive or -errno; called under the engine's lock. Opening needs
 * CAP_BPF; attaching does not.
 */
#ifndef FINESSE_KERNEL_JUDGE_H
#define FINESSE_KERNEL_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

struct judge;

#define JUDGE_TCP_HDR_MAX 60

/* A segment without its payload, as the filter met it. Points into the ring. */
struct judged_segment {
	struct flow_key key; /* the engine's end is local */
	uint32_t ifindex;
	const uint8_t *src_mac; /* 6 bytes; zeros where the interface has no link header */
	uint8_t ttl, tos;
	const uint8_t *tcp;
	uint32_t tcp_len;
};

#define JUDGE_FDS 4
int judge_open(struct judge **out, char *why, size_t why_len);
/* Another process opened it for this one; the fds are the judge's from now on, also on failure. */
int judge_adopt(struct judge **out, const int fds[JUDGE_FDS]);
void judge_fds(const struct judge *j, int fds[JUDGE_FDS]);
void judge_close(struct judge *j); /* also in a fork child; NULL: nothing */

/* The listening socket's filter from now on; replaces one that is there. -EPERM: it is locked. */
int judge_attach(const struct judge *j, int listening_fd);
int judge_asked_map(const struct judge *j); /* what the classifier's program writes into (struct judge_asked) */
int judge_poll_fd(const struct judge *j);   /* readable while a segment waits */
bool judge_pending(const struct judge *j);  /* looks at memory only */
/* The next segment; false: there is none. It is valid until judge_done. */
bool judge_next(struct judge *j, struct judged_segment *out);
void judge_done(struct judge *j);

#endif
