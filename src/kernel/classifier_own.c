/*
 * The classifier of own-address mode: there is nothing to keep from the kernel, which drops what is for an address and
 * a MAC that are not its own (ip_rcv and ipv6_rcv drop PACKET_OTHERHOST, whether the host forwards or not). So there is
 * a filter for the packet socket only, in classic BPF, which needs no privilege beyond the socket's, and the interface
 * is told which MAC and groups to let in.
 *
 * Let in: IP for one of the addresses; ARP that names one, and what neighbours say of themselves unasked; solicitations
 * for one, advertisements to groups, and queries for listeners. Not let in: tagged frames, our own, and those that the
 * kernel sends by this interface, to which nobody on the link could answer through us. What other programs send by this
 * interface is let in: two own addresses on one interface hear each other.
 */
#include "kernel/classifier_backend.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/sys.h"
#include "wire/bytes.h"
#include "wire/mld.h"
#include "wire/ndisc.h"

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

#ifndef SIOCGIWNAME
#define SIOCGIWNAME 0x8b01 /* linux/wireless.h, which net/if.h excludes: is it a wireless interface? */
#endif

#define ANCILLARY(what) ((uint32_t)(SKF_AD_OFF + (what)))
#define CODE_MAX        512
#define ACCEPT          UINT32_MAX

/* Offsets behind the Ethernet header. */
#define ARP_SENDER  14
#define ARP_TARGET  24
#define IPV4_DST    16
#define IPV6_NEXT   6
#define IPV6_DST    24
#define IPV6_BYTES  40
#define ICMPV6_TYPE 40
#define ND_TARGET   48

struct program {
	struct sock_filter code[CODE_MAX];
	unsigned n;
	unsigned l2; /* bytes before the network header */
};

static void put(struct program *p, uint16_t code, uint8_t yes, uint8_t no, uint32_t k)
{
	if (p->n < CODE_MAX)
		p->code[p->n] = (struct sock_filter){code, yes, no, k};
	p->n++;
}

static void load(struct program *p, uint16_t size, uint32_t at)
{
	put(p, BPF_LD | size | BPF_ABS, 0, 0, at);
}

static void end(struct program *p, uint32_t verdict)
{
	put(p, BPF_RET | BPF_K, 0, 0, verdict);
}

static void accept_if(struct program *p, uint32_t k)
{
	put(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, k);
	end(p, ACCEPT);
}

/* What follows, up to skip_to_here, is for this value only. */
static unsigned only_if(struct program *p, uint32_t k)
{
	put(p, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, k);
	put(p, BPF_JMP | BPF_JA, 0, 0, 0);
	return p->n - 1;
}

static void skip_to_here(struct program *p, unsigned jump)
{
	if (jump < CODE_MAX)
		p->code[jump].k = p->n - jump - 1;
}

/* Frames from this MAC are dropped. */
static void drop_from(struct program *p, const uint8_t mac[6])
{
	load(p, BPF_W, 6);
	put(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 3, load_be32(mac));
	load(p, BPF_H, 10);
	put(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, (uint32_t)mac[4] << 8 | mac[5]);
	end(p, 0);
}

static void gen_link(struct program *p, const struct classifier_own *own)
{
	load(p, BPF_W, ANCILLARY(SKF_AD_VLAN_TAG_PRESENT));
	put(p, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 0);
	end(p, 0);
	load(p, BPF_W, ANCILLARY(SKF_AD_PKTTYPE));
	if (!p->l2) { /* what the kernel sends has no source to be known by */
		put(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, PACKET_OUTGOING);
		end(p, 0);
		return;
	}
	unsigned outgoing = only_if(p, PACKET_OUTGOING);
	drop_from(p, own->if_mac);
	skip_to_here(p, outgoing);
	drop_from(p, own->mac);
}

static void accept_v4(struct program *p, const struct classifier_own *own, uint32_t at)
{
	load(p, BPF_W, at);
	for (size_t i = 0; i < own->n; i++)
		if (ip_addr_is_v4(&own->addrs[i]))
			accept_if(p, load_be32(own->addrs[i].b + 12));
}

static void gen_arp(struct program *p, const struct classifier_own *own)
{
	accept_v4(p, own, p->l2 + ARP_SENDER);
	accept_v4(p, own, p->l2 + ARP_TARGET);
	load(p, BPF_W, p->l2 + ARP_SENDER);
	put(p, BPF_MISC | BPF_TAX, 0, 0, 0);
	load(p, BPF_W, p->l2 + ARP_TARGET);
	put(p, BPF_JMP | BPF_JEQ | BPF_X, 0, 1, 0); /* gratuitous: an announcement */
	end(p, ACCEPT);
	end(p, 0);
}

static void gen_nd(struct program *p, const struct classifier_own *own)
{
	load(p, BPF_B, p->l2 + ICMPV6_TYPE);
	unsigned ns = only_if(p, NDISC_SOLICITATION);
	load(p, BPF_W, p->l2 + ND_TARGET + 12);
	for (size_t i = 0; i < own->n; i++)
		if (!ip_addr_is_v4(&own->addrs[i]))
			accept_if(p, load_be32(own->addrs[i].b + 12));
	skip_to_here(p, ns);
	load(p, BPF_B, p->l2 + ICMPV6_TYPE);
	unsigned na = only_if(p, NDISC_ADVERTISEMENT);
	load(p, BPF_B, p->l2 + IPV6_DST);
	accept_if(p, 0xff);
	skip_to_here(p, na);
}

/* Queries of multicast listener discovery stand behind a hop-by-hop header. */
static void gen_mld(struct program *p)
{
	load(p, BPF_B, p->l2 + IPV6_NEXT);
	unsigned hop_by_hop = only_if(p, IPPROTO_HOPOPTS);
	load(p, BPF_B, p->l2 + IPV6_BYTES);
	unsigned icmp = only_if(p, IPPROTO_ICMPV6);
	load(p, BPF_B, p->l2 + IPV6_BYTES + 8);
	accept_if(p, MLD_QUERY);
	skip_to_here(p, icmp);
	skip_to_here(p, hop_by_hop);
}

static void gen_v6(struct program *p, const struct classifier_own *own)
{
	if (p->l2) {
		load(p, BPF_B, p->l2 + IPV6_NEXT);
		unsigned icmp = only_if(p, IPPROTO_ICMPV6);
		gen_nd(p, own);
		skip_to_here(p, icmp);
		gen_mld(p);
	}
	for (size_t i = 0; i < own->n; i++) {
		if (ip_addr_is_v4(&own->addrs[i]))
			continue;
		for (unsigned w = 0; w < 4; w++) {
			load(p, BPF_W, p->l2 + IPV6_DST + 4 * w);
			put(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 7 - 2 * w, load_be32(own->addrs[i].b + 4 * w));
		}
		end(p, ACCEPT);
	}
	end(p, 0);
}

static int attach_filter(const struct classifier_own *own, int packet_fd, bool has_eth)
{
	struct program p = {.l2 = has_eth ? ETH_HLEN : 0};
	gen_link(&p, own);
	load(&p, BPF_W, ANCILLARY(SKF_AD_PROTOCOL));
	if (has_eth) {
		unsigned arp = only_if(&p, ETH_P_ARP);
		gen_arp(&p, own);
		skip_to_here(&p, arp);
	}
	unsigned v4 = only_if(&p, ETH_P_IP);
	accept_v4(&p, own, p.l2 + IPV4_DST);
	end(&p, 0);
	skip_to_here(&p, v4);
	unsigned v6 = only_if(&p, ETH_P_IPV6);
	gen_v6(&p, own);
	skip_to_here(&p, v6);
	end(&p, 0);
	if (p.n > CODE_MAX)
		return -E2BIG;
	struct sock_fprog prog = {.len = p.n, .filter = p.code};
	return sys_setsockopt(packet_fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog);
}

static int join(int packet_fd, int ifindex, uint16_t type, const uint8_t mac[6])
{
	struct packet_mreq m = {.mr_ifindex = ifindex, .mr_type = type, .mr_alen = 6};
	memcpy(m.mr_address, mac, 6);
	return sys_setsockopt(packet_fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &m, sizeof m);
}

/*
 * The interface lets in what is for our MAC, the solicited-node groups and all nodes. An interface with one MAC only
 * shows everything.
 */
static int join_all(const struct classifier_own *own, int packet_fd, int ifindex)
{
	static const uint8_t all_nodes[6] = {0x33, 0x33, 0, 0, 0, 1};
	bool v6 = false;
	int err = memcmp(own->mac, own->if_mac, 6) ? join(packet_fd, ifindex, PACKET_MR_UNICAST, own->mac) : 0;
	if (err)
		err = join(packet_fd, ifindex, PACKET_MR_PROMISC, own->mac);
	for (size_t i = 0; i < own->n && !err; i++) {
		if (ip_addr_is_v4(&own->addrs[i]))
			continue;
		v6 = true;
		const uint8_t *a = own->addrs[i].b;
		const uint8_t mac[6] = {0x33, 0x33, 0xff, a[13], a[14], a[15]}; /* RFC 4291 §2.7.1, RFC 2464 §7 */
		err = join(packet_fd, ifindex, PACKET_MR_MULTICAST, mac);
	}
	return err || !v6 ? err : join(packet_fd, ifindex, PACKET_MR_MULTICAST, all_nodes);
}

/* Whose interface it is, as ethtool -i shows; "" when nobody says. */
static void driver_of(int fd, const char *ifname, char *out, size_t size)
{
	struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
	struct ifreq req = {.ifr_data = (void *)&info};
	snprintf(req.ifr_name, sizeof req.ifr_name, "%s", ifname);
	snprintf(out, size, "%s", sys_ioctl(fd, SIOCETHTOOL, &req) == 0 ? info.driver : "");
}

enum own_mac classifier_own_mac(const char *ifname)
{
	char driver[32];
	struct ifreq wireless = {0};
	enum own_mac kind = OWN_MAC_WORKS;
	int fd = sys_socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return kind;
	driver_of(fd, ifname, driver, sizeof driver);
	snprintf(wireless.ifr_name, sizeof wireless.ifr_name, "%s", ifname);
	if (strcmp(driver, "ipvlan") == 0)
		kind = OWN_MAC_IS_NOTHING;
	else if (strcmp(driver, "macvlan") == 0 || sys_ioctl(fd, SIOCGIWNAME, &wireless) == 0)
		kind = OWN_MAC_IS_LOST;
	sys_close(fd);
	return kind;
}

/* ---- the backend: nothing else is to be done in the kernel ---- */

static int own_attach(struct classifier *c, int ifindex, int packet_fd, bool has_eth, char *why, size_t why_len)
{
	(void)c, (void)ifindex, (void)packet_fd, (void)has_eth;
	snprintf(why, why_len, "own addresses are of one interface");
	return -E2BIG;
}

static void own_detach(struct classifier *c, int ifindex)
{
	(void)c, (void)ifindex;
}

static void own_close(struct classifier *c)
{
	free(c);
}

static int own_set_addresses(struct classifier *c, const struct ip_addr *addrs, size_t n)
{
	(void)c, (void)addrs, (void)n;
	return 0;
}

static int own_listener(struct classifier *c, const struct ip_addr *addr, uint16_t port)
{
	(void)c, (void)addr, (void)port;
	return 0;
}

static int own_flow(struct classifier *c, enum classifier_set set, const struct flow_key *key)
{
	(void)c, (void)set, (void)key;
	return 0;
}

static const struct classifier_ops own_ops = {
	.name = "own-address",
	.is_exact = false,
	.attach = own_attach,
	.detach = own_detach,
	.close = own_close,
	.set_addresses = own_set_addresses,
	.add_listener = own_listener,
	.del_listener = own_listener,
	.add_flow = own_flow,
	.del_flow = own_flow,
};

int classifier_own_open(struct classifier **out, const struct classifier_own *own, int ifindex, int packet_fd, bool has_eth, char *why, size_t why_len)
{
	int no = 0;
	struct classifier *c = calloc(1, sizeof *c);
	int err = c ? attach_filter(own, packet_fd, has_eth) : -ENOMEM;
	if (!err && has_eth) {
		err = join_all(own, packet_fd, ifindex);
		sys_setsockopt(packet_fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &no, sizeof no);
	}
	if (err) {
		snprintf(why, why_len, "own-address mode: the packet socket's filter: %s", strerror(-err));
		free(c);
		return err;
	}
	c->ops = &own_ops;
	*out = c;
	return 0;
}
