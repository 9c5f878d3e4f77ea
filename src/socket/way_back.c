/*
 * The source of a SYN that no rule of the host has judged.
 *
 * Before any rule is asked, Linux asks whether a packet of IPv4 may have come from where it says (fib_validate_source):
 * not from an address of this host (but with accept_local), and with rp_filter 1 only by the interface by which the way
 * back leads; with rp_filter 2 there has to be a way back. Our frames are taken before that. A SYN whose way back
 * leaves by the interface that it came by satisfies all of this. What else Linux would say depends on settings, rules
 * and tables, so the connection is the kernel's, to take or to drop: all but those whose way back is by another
 * interface, where rp_filter allows that.
 *
 * A listener that is bound to an interface answers by it, whatever the table says; Linux asks the table nevertheless.
 * IPv6 has no such question; but asked for a way by an interface, its table may name one by another interface, which
 * such a listener's answer must not take.
 *
 * A cookie is sent without a dest. Its way back is asked for as well, but for WAYS_MAX sources in a second: a flood of
 * forged ones would cost a system call each. The next ones are answered to who sent the frame, and asked about when
 * they come back.
 */
#include "socket/engine.h"
#include "socket/listener.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define WAYS_MAX         1000 /* in a second, of an engine */
#define RP_FILTER_AGE_US USEC_PER_SEC

enum { RP_OFF, RP_STRICT, RP_LOOSE }; /* net.ipv4.conf.*.rp_filter */

/* What cannot be read is strict. */
static int rp_filter_of(const struct engine *e, const char *where)
{
	char name[40], text[16];
	snprintf(name, sizeof name, "conf/%s/rp_filter", where);
	return sysctls_text(&e->sysctls, name, text, sizeof text) ? atoi(text) : RP_STRICT;
}

/* The greater one holds, of all and of the interface. */
static int rp_filter(const struct engine *e, struct iface *i)
{
	if (!i->rp_filter_until_us || e->now >= i->rp_filter_until_us) {
		int all = rp_filter_of(e, "all"), its = rp_filter_of(e, iface_info(i)->ifname);
		i->rp_filter = all > its ? all : its;
		i->rp_filter_until_us = e->now + RP_FILTER_AGE_US;
	}
	return i->rp_filter;
}

int way_back_check(struct engine *e, const struct sock *l, const struct flow_key *key, const struct route *found)
{
	struct route any;
	int ifindex = iface_info(e->arrived)->ifindex, oif = dest_oif(e, l, &key->raddr);
	if (e->own)
		return 0;
	if (!ip_addr_is_v4(&key->raddr))
		return oif && found->ifindex != ifindex ? -EXDEV : 0;
	if (e->judging)
		return 0;
	if (oif == ifindex)
		found = netstate_route(e->net, &key->raddr, &key->laddr, 0, 0, &any) ? NULL : &any;
	if (found && !found->local && found->ifindex == ifindex)
		return 0;
	if (netstate_is_local(e->net, &key->raddr))
		return -EXDEV;
	int rp = rp_filter(e, e->arrived);
	return rp == RP_OFF || (rp == RP_LOOSE && found) ? 0 : -EXDEV;
}

static bool may_ask(struct engine *e)
{
	if (e->now - e->ways_us >= USEC_PER_SEC) {
		e->ways_us = e->now;
		e->ways = 0;
	}
	return e->ways++ < WAYS_MAX;
}

int way_back_of_cookie(struct engine *e, const struct sock *l, const struct flow_key *key)
{
	struct route way;
	int oif = dest_oif(e, l, &key->raddr);
	const struct dest *d = dest_find(e, &key->laddr, &key->raddr, oif);
	if (e->own)
		return 0;
	if (d && d->resolved && d->generation == e->net_generation) {
		way = d->route;
	} else {
		int err = may_ask(e) ? netstate_route(e->net, &key->raddr, &key->laddr, oif, 0, &way) : 1;
		if (err)
			return err > 0 ? 0 : err;
	}
	return !way.local && way.ifindex == iface_info(e->arrived)->ifindex ? way_back_check(e, l, key, &way) : -EXDEV;
}
