/* The parts of firewall_check; each returns what it returns: 0, 1 with `why`, or -errno. */
#ifndef FINESSE_KERNEL_FIREWALL_INTERNAL_H
#define FINESSE_KERNEL_FIREWALL_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

/* Not the initial user namespace: what is ours here is ours alone, and what is the host's cannot be asked about. */
bool firewall_in_user_namespace(void);

struct firewall_question {
	int ifindex;
	char ifname[16];
	char *why;
	size_t why_len;
};

int firewall_check_nftables(const struct firewall_question *q);
int firewall_check_iptables(const struct firewall_question *q); /* legacy, both families */
int firewall_check_cgroup(const struct firewall_question *q);

#endif
