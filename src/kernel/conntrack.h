/* The kernel's connection tracking: told of a connection that it did not see grow up. */
#ifndef FINESSE_KERNEL_CONNTRACK_H
#define FINESSE_KERNEL_CONNTRACK_H

#include <stdbool.h>

#include "base/addr.h"

/*
 * A connection of ours becomes the kernel's: from now on conntrack has it as established, whatever it had of it (of an
 * accepted one, a SYN that nobody seemed to answer: its next segments would be INVALID for the host's rules). `fd`:
 * netlink_open(NETLINK_NETFILTER). 0 or -errno: -EPERM, CAP_NET_ADMIN is missing; others, no conntrack.
 */
int conntrack_establish(int fd, const struct flow_key *key, bool client);

#endif
