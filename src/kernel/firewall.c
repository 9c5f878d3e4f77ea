/*
 * Promise 6: no hole in the host (DESIGN §1).
 *
 * Frames that the engine takes pass no netfilter hook and no cgroup program on their way in, and
 * TCP that it sends passes none on its way out. So before it serves, it asks whether anything there
 * could have had a say about TCP on this interface. The rule is one-sided: whatever cannot be shown
 * to leave TCP alone counts, including rules that only count or accept. Stateless; nothing is
 * changed, and no kernel module is loaded by asking (a module that is not loaded filters nothing).
 *
 * What passes tc and XDP programs on the interface is not asked: the packet socket sees frames
 * after XDP, sends through tc egress, and a tc ingress program is no part of promise 6.
 */
#include "kernel/firewall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/sys.h"
#include "kernel/firewall_internal.h"
#include "kernel/procfile.h"

static int name_of(int ifindex, char name[16])
{
	struct ifreq ifr = {.ifr_ifindex = ifindex};
	int fd = fd_move_high(sys_socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	int ret = fd < 0 ? fd : sys_ioctl(fd, SIOCGIFNAME, &ifr);

	fd_close(fd);
	if (ret >= 0)
		snprintf(name, 16, "%s", ifr.ifr_name);
	return ret;
}

/* The answers are in /proc: without it, absence of a file would prove nothing. */
static int check_proc(const struct firewall_question *q)
{
	int fd = fd_move_high(sys_openat(AT_FDCWD, "/proc/net/dev", O_RDONLY | O_CLOEXEC, 0));
	fd_close(fd);
	return fd < 0 ? fd : 0;
}

bool firewall_in_user_namespace(void)
{
	char *map;
	unsigned long inside, outside, count;
	if (procfile_read("/proc/self/uid_map", &map) < 0)
		return false;
	bool whole = sscanf(map, "%lu %lu %lu", &inside, &outside, &count) == 3 && inside == 0 && outside == 0 && count == 4294967295ul;
	free(map);
	return !whole;
}

int firewall_check(int ifindex, char *why, size_t why_len)
{
	static const struct {
		const char *what;
		int (*check)(const struct firewall_question *q);
	} parts[] = {
	    {"anything: /proc is not there", check_proc},
	    {"nftables", firewall_check_nftables},
	    {"iptables", firewall_check_iptables},
	    {"cgroup programs", firewall_check_cgroup},
	};
	struct firewall_question q = {.ifindex = ifindex, .why = why, .why_len = why_len};
	int ret = name_of(ifindex, q.ifname), unknown = 0;

	if (ret < 0) {
		snprintf(why, why_len, "firewall: no interface %d", ifindex);
		return ret;
	}
	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		ret = parts[i].check(&q);
		if (ret > 0)
			return 1; /* a clear answer is better than what could not be told */
		if (ret < 0 && !unknown) {
			unknown = ret;
			snprintf(why, why_len, "firewall: could not ask about %s: %s%s", parts[i].what,
				 strerrordesc_np(-ret),
				 ret == -EPERM ? " (CAP_NET_ADMIN is missing)" : "");
		}
	}
	return unknown;
}
