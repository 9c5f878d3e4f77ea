/*
 * Legacy iptables and ip6tables, by getsockopt on a raw socket. Only tables that exist in this
 * namespace are asked for (/proc/net/ip_tables_names): asking for another would load and create it.
 *
 * A table concerns us when a built-in chain other than FORWARD has a policy other than ACCEPT, or a
 * rule that could match TCP. User chains are reached by rules only. Both families have the same
 * shape with other structs, so offsets carry the difference.
 */
#include "kernel/firewall_internal.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/sys.h"
#include "kernel/procfile.h"

#define TABLE_BYTES_MAX (8 * 1024 * 1024) /* a larger table filters, whatever it says */
/* A network namespace that was made together with its user namespace (unshare -rn) does not let its owner read the names: then all are asked for, which
   makes empty ones in that namespace, where it is nobody else's. */
#define ALL_TABLES      "filter\nmangle\nraw\nnat\nsecurity"
#define ACCEPT_VERDICT  (-NF_ACCEPT - 1)  /* how x_tables writes a final verdict */

struct family {
	const char *command, *names;
	int af, level, get_info, get_entries;
};

static const struct family families[] = {
    {"iptables", "/proc/net/ip_tables_names", AF_INET, IPPROTO_IP, IPT_SO_GET_INFO,
     IPT_SO_GET_ENTRIES},
    {"ip6tables", "/proc/net/ip6_tables_names", AF_INET6, IPPROTO_IPV6, IP6T_SO_GET_INFO,
     IP6T_SO_GET_ENTRIES},
};

/* The two families' structs for these are the same. */
_Static_assert(sizeof(struct ipt_getinfo) == sizeof(struct ip6t_getinfo), "getinfo");
_Static_assert(offsetof(struct ipt_get_entries, entrytable) ==
		   offsetof(struct ip6t_get_entries, entrytable),
	       "get_entries");

struct rule {
	uint32_t target_offset, next_offset;
	bool may_be_tcp;
};

/* The rule at `at` of the table's entries; false when it does not fit (never, from a sane kernel).
 */
static bool read_rule(const struct family *f, const uint8_t *entries, uint32_t size, uint32_t at,
		      struct rule *out)
{
	struct ipt_entry e4;
	struct ip6t_entry e6;

	if (f->af == AF_INET) {
		if (at > size || size - at < sizeof e4)
			return false;
		memcpy(&e4, entries + at, sizeof e4);
		*out = (struct rule){e4.target_offset, e4.next_offset, true};
		if (e4.ip.proto != 0 && e4.ip.proto != IPPROTO_TCP &&
		    !(e4.ip.invflags & XT_INV_PROTO))
			out->may_be_tcp = false;
	} else {
		if (at > size || size - at < sizeof e6)
			return false;
		memcpy(&e6, entries + at, sizeof e6);
		*out = (struct rule){e6.target_offset, e6.next_offset, true};
		if (e6.ipv6.proto != 0 && e6.ipv6.proto != IPPROTO_TCP &&
		    (e6.ipv6.flags & IP6T_F_PROTO) && !(e6.ipv6.invflags & XT_INV_PROTO))
			out->may_be_tcp = false;
	}
	return out->next_offset > 0 && out->next_offset <= size - at &&
	       out->target_offset < out->next_offset;
}

/* 0: the policy at `at` is ACCEPT. */
static int check_policy(const struct family *f, const uint8_t *entries, uint32_t size, uint32_t at)
{
	struct xt_standard_target target;
	struct rule r;

	if (!read_rule(f, entries, size, at, &r) || r.next_offset - r.target_offset < sizeof target)
		return 1;
	memcpy(&target, entries + at + r.target_offset, sizeof target);
	return target.verdict != ACCEPT_VERDICT;
}

/* 0: no rule between the chain's start and its policy can match TCP. */
static int check_chain(const struct family *f, const uint8_t *entries, uint32_t size, uint32_t from,
		       uint32_t policy)
{
	struct rule r;

	for (uint32_t at = from; at < policy; at += r.next_offset)
		if (!read_rule(f, entries, size, at, &r) || r.may_be_tcp)
			return 1;
	return 0;
}

static int say(const struct firewall_question *q, const struct family *f, const char *table,
	       int hook, const char *what)
{
	static const char *const chains[NF_INET_NUMHOOKS] = {"PREROUTING", "INPUT", "FORWARD",
							     "OUTPUT", "POSTROUTING"};
	snprintf(q->why, q->why_len, "firewall: %s table %s chain %s %s", f->command, table,
		 chains[hook], what);
	return 1;
}

static int check_entries(const struct firewall_question *q, const struct family *f,
			 const struct ipt_getinfo *info, const uint8_t *entries)
{
	for (int hook = 0; hook < NF_INET_NUMHOOKS; hook++) {
		if (hook == NF_INET_FORWARD || !(info->valid_hooks & 1U << hook))
			continue;
		if (check_policy(f, entries, info->size, info->underflow[hook]))
			return say(q, f, info->name, hook, "has a policy other than ACCEPT");
		if (check_chain(f, entries, info->size, info->hook_entry[hook],
				info->underflow[hook]))
			return say(q, f, info->name, hook, "has rules that may concern TCP");
	}
	return 0;
}

static int check_table(const struct firewall_question *q, const struct family *f, int fd,
		       const char *table)
{
	struct ipt_getinfo info = {0};
	socklen_t len = sizeof info;
	int ret;

	snprintf(info.name, sizeof info.name, "%s", table);
	ret = sys_getsockopt(fd, f->level, f->get_info, &info, &len);
	if (ret < 0)
		return ret == -ENOENT ? 0 : ret; /* the table went meanwhile */
	if (info.size > TABLE_BYTES_MAX) {
		snprintf(q->why, q->why_len, "firewall: %s table %s has many rules", f->command,
			 table);
		return 1;
	}
	struct ipt_get_entries *get = calloc(1, sizeof *get + info.size);
	if (!get)
		return -ENOMEM;
	snprintf(get->name, sizeof get->name, "%s", table);
	get->size = info.size;
	len = sizeof *get + info.size;
	ret = sys_getsockopt(fd, f->level, f->get_entries, get, &len);
	if (ret >= 0)
		ret = check_entries(q, f, &info, (const uint8_t *)get->entrytable);
	free(get);
	return ret; /* -EAGAIN: it changed in between; the caller asks again */
}

static int check_family(const struct firewall_question *q, const struct family *f)
{
	char *names, *save = NULL;
	int ret = procfile_read(f->names, &names), fd;

	if (ret == -EACCES && firewall_in_user_namespace()) {
		names = strdup(ALL_TABLES);
		ret = names ? 0 : -ENOMEM;
	}
	if (ret < 0)
		return ret == -ENOENT ? 0 : ret; /* no such kernel code */
	if (names[0] == '\0') {
		free(names);
		return 0;
	}
	fd = fd_move_high(sys_socket(f->af, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
	ret = fd < 0 ? fd : 0;
	for (char *t = strtok_r(names, "\n", &save); t && ret == 0;
	     t = strtok_r(NULL, "\n", &save)) {
		ret = check_table(q, f, fd, t);
		if (ret == -EAGAIN)
			ret = check_table(q, f, fd, t);
	}
	fd_close(fd);
	free(names);
	return ret;
}

int firewall_check_iptables(const struct firewall_question *q)
{
	int ret = check_family(q, &families[0]);
	return ret ? ret : check_family(q, &families[1]);
}
