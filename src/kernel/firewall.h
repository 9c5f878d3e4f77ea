/*
 * Promise 6: does this host filter TCP where our packets would bypass it? nftables on input, output, prerouting,
 * postrouting, ingress, egress; legacy iptables and ip6tables; cgroup BPF programs (skb and sock_addr) on our cgroup.
 */
#ifndef FINESSE_KERNEL_FIREWALL_H
#define FINESSE_KERNEL_FIREWALL_H

#include <stddef.h>

/* 0: nothing that could concern TCP on this interface. 1: something does, `why` names it in one line. -errno: could not tell
   (treated as 1 by callers; `why` says so). Our own classifier's table does not count. */
int firewall_check(int ifindex, char *why, size_t why_len);

#endif
