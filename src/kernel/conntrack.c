/*
 * One message of ctnetlink (net/netfilter/nf_conntrack_netlink.c). Windows are not told: both ways are liberal, as
 * conntrackd does it.
 */
#include "kernel/conntrack.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>

#include "kernel/netlink.h"

#define REQUEST_BYTES 512
#define TIMEOUT_S     432000 /* Linux: nf_conntrack_tcp_timeout_established */

static void put_tuple(struct nlmsghdr *h, uint16_t type, const struct ip_addr *src, uint16_t sport, const struct ip_addr *dst, uint16_t dport)
{
	bool v4 = ip_addr_is_v4(src);
	struct nlattr *tuple = mnl_attr_nest_start(h, type), *ip = mnl_attr_nest_start(h, CTA_TUPLE_IP);
	mnl_attr_put(h, v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, v4 ? 4 : 16, v4 ? src->b + 12 : src->b);
	mnl_attr_put(h, v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST, v4 ? 4 : 16, v4 ? dst->b + 12 : dst->b);
	mnl_attr_nest_end(h, ip);
	struct nlattr *proto = mnl_attr_nest_start(h, CTA_TUPLE_PROTO);
	mnl_attr_put_u8(h, CTA_PROTO_NUM, IPPROTO_TCP);
	mnl_attr_put_u16(h, CTA_PROTO_SRC_PORT, htons(sport));
	mnl_attr_put_u16(h, CTA_PROTO_DST_PORT, htons(dport));
	mnl_attr_nest_end(h, proto);
	mnl_attr_nest_end(h, tuple);
}

static void put_state(struct nlmsghdr *h)
{
	struct nf_ct_tcp_flags liberal = {.flags = IP_CT_TCP_FLAG_BE_LIBERAL, .mask = IP_CT_TCP_FLAG_BE_LIBERAL};
	struct nlattr *info = mnl_attr_nest_start(h, CTA_PROTOINFO), *tcp = mnl_attr_nest_start(h, CTA_PROTOINFO_TCP);
	mnl_attr_put_u8(h, CTA_PROTOINFO_TCP_STATE, TCP_CONNTRACK_ESTABLISHED);
	mnl_attr_put(h, CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, sizeof liberal, &liberal);
	mnl_attr_put(h, CTA_PROTOINFO_TCP_FLAGS_REPLY, sizeof liberal, &liberal);
	mnl_attr_nest_end(h, tcp);
	mnl_attr_nest_end(h, info);
}

int conntrack_establish(int fd, const struct flow_key *key, bool client)
{
	_Alignas(struct nlmsghdr) char buf[REQUEST_BYTES] = {0};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *g = mnl_nlmsg_put_extra_header(h, sizeof *g);
	const struct ip_addr *from = client ? &key->laddr : &key->raddr, *to = client ? &key->raddr : &key->laddr;
	uint16_t sport = client ? key->lport : key->rport, dport = client ? key->rport : key->lport;

	h->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE;
	g->nfgen_family = ip_addr_is_v4(from) ? AF_INET : AF_INET6;
	g->version = NFNETLINK_V0;
	put_tuple(h, CTA_TUPLE_ORIG, from, sport, to, dport);
	put_tuple(h, CTA_TUPLE_REPLY, to, dport, from, sport);
	mnl_attr_put_u32(h, CTA_STATUS, htonl(IPS_CONFIRMED | IPS_SEEN_REPLY | IPS_ASSURED));
	mnl_attr_put_u32(h, CTA_TIMEOUT, htonl(TIMEOUT_S));
	put_state(h);
	return netlink_talk(fd, h, NULL, NULL);
}
