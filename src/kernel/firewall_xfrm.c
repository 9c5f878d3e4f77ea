/*
 * IPsec policies (ip xfrm policy): what the kernel would encrypt, ask to be encrypted, or block. Frames that the engine
 * takes and sends pass none of that, so a connection that a policy could concern is the kernel's.
 *
 * Asked for in one dump. A policy that lets packets pass as they are, one of an xfrm interface (that device does its
 * work on the engine's frames as well), one for marked packets and one of a single socket concern nothing of ours. More
 * than fit: all is taken to be concerned.
 */
#include "kernel/firewall_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/xfrm.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include <libmnl/libmnl.h>

#include "base/fd.h"
#include "base/siphash.h"
#include "kernel/netlink.h"

static struct ip_addr address_of(const xfrm_address_t *a, bool v6)
{
	return v6 ? ip_addr_from_v6(a->a6) : ip_addr_from_v4(&a->a4);
}

/* Does the policy do nothing to packets without a mark? */
static bool is_harmless(const struct nlmsghdr *h, const struct xfrm_userpolicy_info *p)
{
	const struct nlattr *attr;
	bool acts = p->action != XFRM_POLICY_ALLOW;
	mnl_attr_for_each(attr, h, sizeof *p)
	{
		const struct xfrm_mark *mark = mnl_attr_get_payload(attr);
		switch (mnl_attr_get_type(attr)) {
		case XFRMA_TMPL:
			acts = true;
			break;
		case XFRMA_IF_ID:
			if (mnl_attr_get_payload_len(attr) == 4 && mnl_attr_get_u32(attr))
				return true;
			break;
		case XFRMA_MARK:
			if (mnl_attr_get_payload_len(attr) >= sizeof *mark && mark->v & mark->m)
				return true;
			break;
		}
	}
	return !acts;
}

static int on_policy(const struct nlmsghdr *h, void *ctx)
{
	struct firewall_xfrm *x = ctx;
	struct xfrm_userpolicy_info p;
	if (h->nlmsg_type != XFRM_MSG_NEWPOLICY || mnl_nlmsg_get_payload_len(h) < sizeof p)
		return 0;
	memcpy(&p, mnl_nlmsg_get_payload(h), sizeof p); /* netlink aligns to 4 bytes, and it has 64-bit numbers */
	const struct xfrm_selector *s = &p.sel;
	if (p.dir > XFRM_POLICY_OUT || (s->proto && s->proto != IPPROTO_TCP) || is_harmless(h, &p))
		return 0;
	if (x->n == FIREWALL_XFRM_MAX) {
		x->all = true;
		return 1;
	}
	bool v6 = s->family == AF_INET6;
	struct firewall_xfrm_policy *to = &x->policies[x->n++]; /* zeroed; a digest is made of all its bytes */
	to->v6 = v6;
	to->out = p.dir == XFRM_POLICY_OUT;
	to->src = address_of(&s->saddr, v6);
	to->dst = address_of(&s->daddr, v6);
	to->src_bits = s->prefixlen_s;
	to->dst_bits = s->prefixlen_d;
	to->sport = ntohs(s->sport);
	to->sport_mask = ntohs(s->sport_mask);
	to->dport = ntohs(s->dport);
	to->dport_mask = ntohs(s->dport_mask);
	to->ifindex = s->ifindex;
	return 0;
}

/* Without a policy: is it blocked? */
static int on_default(const struct nlmsghdr *h, void *ctx)
{
	struct firewall_xfrm *x = ctx;
	const struct xfrm_userpolicy_default *d = mnl_nlmsg_get_payload(h);
	if (h->nlmsg_type == XFRM_MSG_GETDEFAULT && mnl_nlmsg_get_payload_len(h) >= sizeof *d)
		x->all |= d->in == XFRM_USERPOLICY_BLOCK || d->out == XFRM_USERPOLICY_BLOCK;
	return 0;
}

static int read_policies(int fd, struct firewall_xfrm *out)
{
	char buf[256];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	h->nlmsg_type = XFRM_MSG_GETPOLICY;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	mnl_nlmsg_put_extra_header(h, sizeof(struct xfrm_userpolicy_id));
	return netlink_talk(fd, h, on_policy, out);
}

static void read_default(int fd, struct firewall_xfrm *out)
{
	char buf[64];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	h->nlmsg_type = XFRM_MSG_GETDEFAULT;
	h->nlmsg_flags = NLM_F_REQUEST;
	mnl_nlmsg_put_extra_header(h, sizeof(struct xfrm_userpolicy_default));
	netlink_talk(fd, h, on_default, out); /* before Linux 5.14 there was none */
}

int firewall_read_xfrm(struct firewall_xfrm *out)
{
	memset(out, 0, sizeof *out);
	int fd = fd_move_high(netlink_open(NETLINK_XFRM));
	if (fd == -EPROTONOSUPPORT) /* a kernel without IPsec */
		return 0;
	int err = fd < 0 ? fd : read_policies(fd, out);
	if (!err)
		read_default(fd, out);
	fd_close(fd);
	return err;
}

uint32_t firewall_xfrm_digest(void)
{
	static const uint8_t key[16];
	struct firewall_xfrm x;
	if (firewall_read_xfrm(&x) || (!x.n && !x.all))
		return 0;
	return siphash13(&x, sizeof x, key);
}

/* ---- could it concern a flow? What is not known of it is any, or, for `some`, what escapes the policy. ---- */

static bool in_prefix(const struct ip_addr *net, unsigned bits, const struct ip_addr *a, bool v6, bool some)
{
	unsigned from = v6 ? 0 : 12;
	const uint8_t *x = net->b + from, *y = a->b + from;
	if (!bits)
		return true;
	if (ip_addr_is_any(a))
		return !some;
	return memcmp(x, y, bits / 8) == 0 && (bits % 8 == 0 || (x[bits / 8] ^ y[bits / 8]) >> (8 - bits % 8) == 0);
}

static bool is_port(uint16_t want, uint16_t mask, uint16_t port, bool some)
{
	return !mask || (port ? (port & mask) == (want & mask) : !some);
}

/*
 * Of what comes in, the kernel compares the interface of the local delivery, not the one it came by: a policy that
 * names any may be for it.
 */
static bool concerns(const struct firewall_xfrm_policy *p, const struct firewall_flow *f, bool some)
{
	const struct ip_addr *src = p->out ? &f->key.laddr : &f->key.raddr, *dst = p->out ? &f->key.raddr : &f->key.laddr;
	uint16_t sport = p->out ? f->key.lport : f->key.rport, dport = p->out ? f->key.rport : f->key.lport;
	return p->v6 == f->v6 && (!p->out || !p->ifindex || p->ifindex == f->ifindex) && in_prefix(&p->src, p->src_bits, src, f->v6, some) &&
	       in_prefix(&p->dst, p->dst_bits, dst, f->v6, some) && is_port(p->sport, p->sport_mask, sport, some) && is_port(p->dport, p->dport_mask, dport, some);
}

int firewall_xfrm_has(const struct firewall_xfrm *x, const struct firewall_flow *f, bool some, char *why, size_t why_len)
{
	for (unsigned i = 0; i < x->n; i++) {
		if (!concerns(&x->policies[i], f, some))
			continue;
		snprintf(why, why_len, "firewall: an IPsec policy (ip xfrm policy, dir %s) is for its packets", x->policies[i].out ? "out" : "in");
		return 1;
	}
	if (x->all)
		snprintf(why, why_len, "firewall: IPsec policies (ip xfrm policy) block what has none, or are more than %d", FIREWALL_XFRM_MAX);
	return x->all;
}
