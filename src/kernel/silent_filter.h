/*
 * The classic BPF filter that keeps the kernel's TCP silent: what it swallows at a listening socket, the kernel neither
 * answers nor keeps. Internal to src/kernel.
 *
 * It runs behind the kernel's lookup: a segment whose 4-tuple has a kernel socket of its own never meets the listener's
 * filter. Connections that the kernel accepts there inherit it (silent_filter_remove). No privilege is needed by the
 * kernel's documentation; a kernel may want CAP_NET_ADMIN (silent_filter_probe).
 */
#ifndef FINESSE_KERNEL_SILENT_FILTER_H
#define FINESSE_KERNEL_SILENT_FILTER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/addr.h"

#define SILENT_ADDRESSES_MAX 64 /* each costs an IPv6 packet nine instructions */

struct silent_rules {
	const int *ifindexes; /* what comes by another interface passes; 0 in it: none */
	size_t n_ifindexes;
	const struct ip_addr *addrs; /* what goes to another address passes */
	size_t n_addrs;
	const struct flow_key *flows;
	size_t n_flows;
	bool only_flows; /* swallows `flows` and nothing else; otherwise everything else */
	bool only_syns;  /* … of everything else only what would begin a connection */
};

/*
 * The socket's filter from now on. -E2BIG: more addresses or flows than a filter has room for; -EPERM: the kernel
 * refuses it, or the filter is locked.
 */
int silent_filter_attach(int fd, const struct silent_rules *r);
/* Swallows all. */
int silent_filter_attach_all(int fd);
/* Somebody's, of any kind. */
bool silent_filter_is_there(int fd);
/* 0, also if there is none. */
int silent_filter_remove(int fd);
/* Does this kernel let us? 0 or -errno. */
int silent_filter_probe(void);

#endif
