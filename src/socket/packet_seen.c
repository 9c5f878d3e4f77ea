/*
 * What Linux keeps of the packets of a TCP socket, and where getsockopt gives it back: IP_PKTOPTIONS,
 * IPV6_2292PKTOPTIONS and, because it is kept in their place, IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS and
 * IPV6_MULTICAST_IF.
 *
 * An accepted socket has the values of the packet that ended its handshake. With IPv6 every packet in order brings new
 * ones, as far as the program asked for them by then (tcp_v6_do_rcv). Which messages there are, their order and what a
 * small buffer holds of them are a fresh kernel socket's answer; only their values are put in here.
 */
#include "socket/packet_seen.h"
#include "socket/engine.h"
#include "socket/options.h"

#include "ip/ip.h"

#include <netinet/in.h>
#include <string.h>

#define FLOWINFO_TCLASS_SHIFT 20
#ifndef IPV6_FLOWINFO
#define IPV6_FLOWINFO         11 /* linux/in6.h, which cannot stand beside netinet/in.h */
#endif
#define IPV4_OF_IPV6          0x7f000006 /* Linux's LOOPBACK4_IPV6: the IPv4 address of a socket that IPv6 opened */

void packet_seen_opening(struct engine *e, struct sock *s, const struct ip_input *in)
{
	bool v4 = ip_addr_is_v4(&in->key.raddr);
	s->seen.has_ttl = s->seen.has_ifindex = true;
	s->seen.ttl = in->ttl;
	s->seen.tos = in->tos;
	s->seen.ifindex = iface_info(e->arrived)->ifindex;
	s->seen.flowinfo = v4 ? 0 : (uint32_t)in->tos << FLOWINFO_TCLASS_SHIFT | in->ident;
}

static bool asks(const struct sock *s, unsigned a, unsigned b)
{
	return option_values_number(s->values, a) || option_values_number(s->values, b);
}

void packet_seen_syn(struct sock *s)
{
	s->seen.kept = s->values && !ip_addr_is_v4(&s->flow.key.raddr) &&
			 (asks(s, OPTION_IPV6_RECVPKTINFO, OPTION_IPV6_2292PKTINFO) || asks(s, OPTION_IPV6_RECVHOPLIMIT, OPTION_IPV6_2292HOPLIMIT));
}

static bool is_in_order(const struct sock *s, const struct tcp_segment *seg)
{
	struct tcp_status st;
	tcp_get_status(&s->tcp, &st);
	return seg->seq + seg->payload_len + !!(seg->flags & SEG_SYN) + !!(seg->flags & SEG_FIN) == st.rcv_nxt;
}

void packet_seen_note(struct engine *e, struct sock *s, const struct ip_input *in)
{
	struct packet_seen *seen = &s->seen;
	if (!s->values || ip_addr_is_v4(&s->flow.key.raddr) || (s->listener && !s->accepted))
		return;
	bool info = asks(s, OPTION_IPV6_RECVPKTINFO, OPTION_IPV6_2292PKTINFO);
	bool ttl = asks(s, OPTION_IPV6_RECVHOPLIMIT, OPTION_IPV6_2292HOPLIMIT);
	bool flow = asks(s, OPTION_IPV6_RECVTCLASS, OPTION_IPV6_FLOWINFO);
	if (!(info || ttl || flow) || !s->live || !is_in_order(s, &in->seg))
		return;
	seen->kept = option_values_number(s->values, OPTION_IPV6_FLOWINFO) && (in->tos || in->ident);
	if (info) {
		seen->has_ifindex = true;
		seen->ifindex = iface_info(e->arrived)->ifindex;
	}
	if (ttl) {
		seen->has_ttl = true;
		seen->ttl = in->ttl;
	}
	if (flow)
		seen->flowinfo = (uint32_t)in->tos << FLOWINFO_TCLASS_SHIFT | in->ident;
}

/* A message's payload, of which a small buffer may hold a part only. */
struct payload {
	uint8_t *at;
	size_t room;
};

static void put(struct payload p, size_t offset, const void *value, size_t len)
{
	if (offset < p.room)
		memcpy(p.at + offset, value, len < p.room - offset ? len : p.room - offset);
}

static void tell_v4(const struct sock *s, int type, struct payload p)
{
	bool v4 = ip_addr_is_v4(&s->flow.key.raddr);
	int ttl = s->seen.ttl, tos = s->seen.tos;
	uint32_t addr = htonl(IPV4_OF_IPV6);
	if (v4)
		memcpy(&addr, s->flow.key.laddr.b + 12, sizeof addr);
	switch (type) {
	case IP_PKTINFO:
		if (v4 && s->accepted)
			put(p, offsetof(struct in_pktinfo, ipi_ifindex), &s->seen.ifindex, sizeof s->seen.ifindex);
		put(p, offsetof(struct in_pktinfo, ipi_spec_dst), &addr, sizeof addr);
		put(p, offsetof(struct in_pktinfo, ipi_addr), &addr, sizeof addr);
		break;
	case IP_TTL:
		if (v4 && s->accepted)
			put(p, 0, &ttl, sizeof ttl);
		break;
	case IP_TOS:
		if (v4 && s->accepted)
			put(p, 0, &tos, sizeof tos);
	}
}

/*
 * Linux gives the peer's address, where it does not keep a packet, which is a SYN, or one with a flow that the program
 * asked for.
 */
static void tell_v6(const struct sock *s, int type, struct payload p)
{
	int ttl = s->seen.ttl, tclass = s->seen.flowinfo >> FLOWINFO_TCLASS_SHIFT;
	uint32_t flowinfo = htonl(s->seen.flowinfo);
	switch (type) {
	case IPV6_PKTINFO:
	case IPV6_2292PKTINFO:
		if (!s->seen.has_ifindex)
			break;
		put(p, offsetof(struct in6_pktinfo, ipi6_addr), (s->seen.kept ? &s->flow.key.laddr : &s->flow.key.raddr)->b, sizeof(struct in6_addr));
		put(p, offsetof(struct in6_pktinfo, ipi6_ifindex), &s->seen.ifindex, sizeof s->seen.ifindex);
		break;
	case IPV6_HOPLIMIT:
	case IPV6_2292HOPLIMIT:
		if (s->seen.has_ttl)
			put(p, 0, &ttl, sizeof ttl);
		break;
	case IPV6_TCLASS:
		put(p, 0, &tclass, sizeof tclass);
		break;
	case IPV6_FLOWINFO:
		put(p, 0, &flowinfo, sizeof flowinfo);
	}
}

void packet_seen_tell(const struct sock *s, int level, void *control, socklen_t len)
{
	struct cmsghdr h;
	for (size_t at = 0; at + sizeof h <= len; at += CMSG_ALIGN(h.cmsg_len)) {
		memcpy(&h, (uint8_t *)control + at, sizeof h);
		if (h.cmsg_len < sizeof h || h.cmsg_len > len - at) /* another thread writes to it */
			return;
		struct payload p = {(uint8_t *)control + at + sizeof h, h.cmsg_len - sizeof h};
		if (level == IPPROTO_IP)
			tell_v4(s, h.cmsg_type, p);
		else
			tell_v6(s, h.cmsg_type, p);
	}
}
