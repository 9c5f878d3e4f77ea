/*
 * The firewall as the judge: which SYNs the host's rules accepted.
 *
 * The classifier's tcx program lets a SYN for a listening port of ours climb the kernel's stack, and notes that it
 * asked. Behind every hook of the host (prerouting, conntrack, input, cgroup programs) a filter on the kernel's own
 * listening socket meets those that all rules accepted. It swallows each that was asked about and writes it into a ring
 * that the engine reads in memory; the engine answers those alone. What was not asked about (another interface, an
 * address or port that a rule changed, an engine that died) is the kernel's, as if the filter were not there.
 *
 * One per engine, and one per group of processes that serve a port. Functions return 0/positive or -errno; called under
 * the engine's lock. Opening needs CAP_BPF; attaching does not.
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

int judge_open(struct judge **out, char *why, size_t why_len);
void judge_close(struct judge *j); /* also in a fork child; NULL: nothing */

/* What a group's members share: the map of what was asked, the rings of all, the filter. */
struct judge_shared {
	int asked_fd, rings_fd, prog_fd; /* internal; -1: there is none */
};
int judge_shared_open(struct judge_shared *out); /* needs CAP_BPF */
void judge_shared_close(struct judge_shared *s);
/* This engine's ring is the slot's. */
int judge_shared_join(const struct judge_shared *s, const struct judge *j, unsigned slot);
int judge_shared_attach(const struct judge_shared *s, int listening_fd);

/* The listening socket's filter from now on; replaces one that is there. -EPERM: it is locked. */
int judge_attach(const struct judge *j, int listening_fd);
int judge_asked_map(const struct judge *j); /* what the classifier's program writes into (struct judge_asked) */
int judge_poll_fd(const struct judge *j);   /* readable while a segment waits; after judge_settle, and until one is taken */
void judge_settle(struct judge *j);         /* before each poll */
bool judge_pending(const struct judge *j);  /* looks at memory only */
/* The next segment; false: there is none. It is valid until judge_done. */
bool judge_next(struct judge *j, struct judged_segment *out);
void judge_done(struct judge *j);

#endif
