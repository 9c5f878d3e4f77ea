/*
 * Rules (ip rule) that look at what the question for a route does not have. A route is asked once for all connections
 * between two addresses, so a rule that chooses by port, by TOS or DSCP, or by a field that is not known here, might
 * give one of them another way than its own. Where there is such a rule for TCP, the ways of that family are the
 * kernel's.
 *
 * A rule for VRFs (l3mdev) says that there may be some: netstate_link.c tells which interfaces are theirs.
 *
 * Source, destination, interface, mark, user and protocol are in the question (netstate_route.c). The rules are read
 * with the first route, and again when one changed.
 */
#include "kernel/netstate_internal.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <netinet/in.h>
#include <stddef.h>

#include "base/log.h"

/*
 * From here on all attributes choose packets by fields that the question has not: ports, and in newer kernels DSCP,
 * flow label and their masks.
 */
#define FIRST_UNASKED FRA_SPORT_RANGE

struct reading {
	struct netstate *n;
	bool v6;
};

static int on_rule(const struct nlmsghdr *h, void *ctx)
{
	const struct fib_rule_hdr *r = mnl_nlmsg_get_payload(h);
	const struct nlattr *attr;
	const struct reading *reading = ctx;
	bool other = false, unasked;
	if (h->nlmsg_type != RTM_NEWRULE || mnl_nlmsg_get_payload_len(h) < sizeof *r)
		return 0;
	unasked = r->tos != 0;
	mnl_attr_for_each(attr, h, sizeof *r)
	{
		unsigned type = mnl_attr_get_type(attr);
		if (type == FRA_IP_PROTO && mnl_attr_get_payload_len(attr) == 1)
			other = mnl_attr_get_u8(attr) != IPPROTO_TCP;
		unasked |= type >= FIRST_UNASKED;
		if (type == FRA_L3MDEV && mnl_attr_get_payload_len(attr) == 1 && mnl_attr_get_u8(attr))
			reading->n->has_vrfs = true;
	}
	if (unasked && !other)
		reading->n->rules_why[reading->v6] = "a routing rule (ip rule) chooses by port, TOS or DSCP";
	return 0;
}

static int read_rules(struct netstate *n, bool v6)
{
	char buf[64];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	h->nlmsg_type = RTM_GETRULE;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	struct fib_rule_hdr *r = mnl_nlmsg_put_extra_header(h, sizeof *r);
	r->family = v6 ? AF_INET6 : AF_INET;
	n->rules_why[v6] = NULL;
	int err = netstate_dump(n, h, on_rule, &(struct reading){n, v6}, NULL);
	if (err == -EAFNOSUPPORT || err == -EOPNOTSUPP) /* no rules, no IPv6 */
		return 0;
	if (err < 0)
		n->rules_why[v6] = "the routing rules (ip rule) could not be read";
	return err;
}

static void refresh(struct netstate *n)
{
	if (n->rules_dirty) {
		n->has_vrfs = false;
		bool unread = n->rules_unread;
		int err4 = read_rules(n, false), err6 = read_rules(n, true);
		n->rules_unread = n->rules_dirty = err4 < 0 || err6 < 0;
		n->has_vrfs = n->has_vrfs || n->rules_unread;
		if (n->rules_unread)
			log_info("netstate", "rules: %d, %d", err4, err6);
		else if (unread) /* ways were the kernel's meanwhile */
			netstate_bump(&n->route_generation);
	}
}

const char *netstate_rules_why(struct netstate *n, bool v6)
{
	refresh(n);
	return n->rules_why[v6];
}

/*
 * Also of a rule that somebody made for them by hand; not of VRFs whose rules name tables and devices (before Linux
 * 4.8, or where it was deleted).
 */
bool netstate_has_vrfs(struct netstate *n)
{
	refresh(n);
	return n->has_vrfs;
}
