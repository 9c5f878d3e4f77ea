/*
 * What the broker does for its members. Each request is checked as if the member were hostile, since it may be: it is a process that gave its privilege away.
 *
 * A link is what makes a member an engine, and it is powerful: see README, "A compromised worker". The other requests give nothing that a link does not.
 * - TCP_REPAIR, bind: of a TCP socket of the broker's own network namespace, that the member passes.
 * - The FIN: it must be one of the very peer of the connected socket that comes along, to its very address and ports, without data.
 * - A neighbour is resolved as any packet to it would have it resolved.
 * - A listener group's maps are of the member's own ports; a member gets BROKER_GROUPS_MAX of them.
 * - Of the kernel's sockets, only a TIME-WAIT is ended.
 */
#include "process/broker.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/settings.h"
#include "base/sys.h"
#include "base/time.h"
#include "kernel/classifier.h"
#include "kernel/classifier_group.h"
#include "kernel/diag.h"
#include "kernel/conntrack.h"
#include "kernel/firewall.h"
#include "kernel/netlink.h"
#include "kernel/netstate.h"
#include "kernel/ports.h"
#include "link/link.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"
#include "wire/tcp.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* since Linux 5.14 */
#endif
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72 /* since Linux 5.14 */
#endif

/* A spare link costs every frame of the interface some 200 ns: it is kept for who starts one program after another. */
#define SPARE_US   (2 * USEC_PER_SEC)
#define BUFFER_MAX (64u << 20) /* bytes: more than a connection's buffers ever are */

union any_addr {
	struct sockaddr sa;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static int set_int(int fd, int level, int option, int value)
{
	return sys_setsockopt(fd, level, option, &value, sizeof value);
}

/* ---- links ---- */

/* A packet socket's filter, and where it is bound, anybody may change who has it. So what it receives is fixed: what the classifier's program lets through, or nothing. */
static int lock_filters(const struct link *l)
{
	struct sock_filter none[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
	struct sock_fprog prog = {.len = 1, .filter = none};
	int rx, tx;
	link_packet_fds(l, &rx, &tx);
	int err = sys_setsockopt(tx, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog);
	if (!err)
		err = set_int(tx, SOL_SOCKET, SO_LOCK_FILTER, 1);
	return err ? err : set_int(rx, SOL_SOCKET, SO_LOCK_FILTER, 1);
}

struct opened {
	struct link *link;
	struct classifier *classifier;
	int ifindex;
};

static struct opened sent; /* what the last answer gives away, until it is sent */

/*
 * Links made ahead, since the kernel lets who makes one wait some 20 ms, for RCU grace periods and the verifier. For each of the interfaces that members asked for
 * lately, one; and one more whenever a member came and none was there, since several programs start at once then.
 */
#define SPARES_MAX 4
#define WANTS_MAX  4
static struct opened spares[SPARES_MAX];
static struct want {
	int ifindex; /* 0: none */
	unsigned n;
	int64_t until_us; /* then its spares are given up */
} wants[WANTS_MAX];

static void opened_close(struct opened *o)
{
	classifier_close(o->classifier);
	link_close(o->link);
	*o = (struct opened){NULL};
}

static int open_link(const struct broker_ops_config *c, int ifindex, struct opened *o, char *why)
{
	const struct link_config lc = {.ifindex = ifindex, .no_io_uring = true, .later = true};
	enum classifier_choice choice = c->classifier == CLASSIFIER_AUTO ? CLASSIFIER_EBPF : c->classifier;
	if (choice == CLASSIFIER_NFTABLES) {
		snprintf(why, BROKER_WHY_BYTES, "the broker: an nftables classifier cannot be given to another process");
		return -EOPNOTSUPP;
	}
	o->ifindex = ifindex;
	int err = link_open_packet(&o->link, &lc);
	if (err) {
		snprintf(why, BROKER_WHY_BYTES, "the broker: packet socket on interface %d: error %d", ifindex, -err);
		return err;
	}
	err = classifier_open(&o->classifier, choice, ifindex, link_rx_fd(o->link), link_info(o->link)->has_eth, why, BROKER_WHY_BYTES);
	if (!err)
		err = link_complete(o->link);
	return err ? err : lock_filters(o->link);
}

static struct opened *spare_of(int ifindex)
{
	for (int i = 0; i < SPARES_MAX; i++)
		if (spares[i].ifindex == ifindex)
			return &spares[i];
	return NULL;
}

static unsigned spares_of(int ifindex)
{
	unsigned n = 0;
	for (int i = 0; i < SPARES_MAX; i++)
		n += spares[i].ifindex == ifindex;
	return n;
}

static void want_no_more(struct want *w)
{
	for (struct opened *o; w->ifindex && (o = spare_of(w->ifindex));)
		opened_close(o);
	*w = (struct want){0};
}

/* Such a link is asked for: now, or soon. */
static void want(int ifindex, bool missed)
{
	struct want *w = &wants[0];
	for (int i = 0; i < WANTS_MAX && w->ifindex != ifindex; i++)
		if (wants[i].ifindex == ifindex || wants[i].until_us < w->until_us)
			w = &wants[i];
	if (w->ifindex != ifindex) {
		want_no_more(w);
		w->ifindex = ifindex;
	}
	if (!w->n || (missed && w->n < SPARES_MAX))
		w->n++;
	w->until_us = clock_now_us() + SPARE_US;
}

/* A link to give away; the firewall is asked when it is given, not when it was made. */
static int take_link(const struct broker_ops_config *c, const struct broker_request *r, char *why)
{
	int ifindex = r->link.ifindex, err;
	if (ifindex <= 0)
		return -ENODEV;
	struct opened *spare = spare_of(ifindex);
	want(ifindex, !spare);
	if (r->link.only_spare && !spare)
		return -EAGAIN;
	if (!c->bypass_firewall && (err = firewall_check(ifindex, why, BROKER_WHY_BYTES)))
		return err < 0 ? err : -EACCES;
	if (!spare)
		return open_link(c, ifindex, &sent, why);
	sent = *spare;
	*spare = (struct opened){NULL};
	return 0;
}

static int firewall_fd = -1; /* on its way */

static int do_firewall(struct broker_answer *a, struct broker_fds *out)
{
	struct firewall *f;
	int err = firewall_read(&f, a->why, sizeof a->why);
	if (err)
		return err;
	firewall_fd = firewall_save(f);
	firewall_free(f);
	if (firewall_fd < 0)
		return firewall_fd;
	out->fd[0] = firewall_fd;
	out->n = 1;
	return 0;
}

static int do_establish(const struct broker_request *r)
{
	int fd = netlink_open(NETLINK_NETFILTER);
	if (fd < 0)
		return fd;
	int err = conntrack_establish(fd, &r->establish.key, r->establish.client);
	sys_close(fd);
	return err;
}

static struct broker_fds group_sent; /* on their way */

static int do_group(struct broker_spent *spent, struct broker_fds *out)
{
	if (spent->groups >= BROKER_GROUPS_MAX)
		return -ENOSPC;
	int err = classifier_group_make(group_sent.fd);
	if (err < 0)
		return err;
	spent->groups++;
	group_sent.n = CLASSIFIER_GROUP_FDS;
	*out = group_sent;
	return 0;
}

void broker_ops_sent(void)
{
	for (int i = 0; i < group_sent.n; i++)
		fd_close(group_sent.fd[i]);
	group_sent.n = 0;
	fd_close(firewall_fd);
	firewall_fd = -1;
	opened_close(&sent);
}

/* Spares of which too many are there, or nobody asked for lately, are given up. When the next are due, or TIME_NEVER. */
static int64_t spares_expire(int64_t now)
{
	int64_t next = TIME_NEVER;
	for (int i = 0; i < WANTS_MAX; i++) {
		if (wants[i].ifindex && now >= wants[i].until_us)
			want_no_more(&wants[i]);
		if (wants[i].ifindex && wants[i].until_us < next)
			next = wants[i].until_us;
	}
	return next;
}

static struct want *unmet_want(void)
{
	for (int i = 0; i < WANTS_MAX; i++)
		if (wants[i].ifindex && spares_of(wants[i].ifindex) < wants[i].n)
			return &wants[i];
	return NULL;
}

int broker_ops_idle(const struct broker_ops_config *c)
{
	char why[BROKER_WHY_BYTES];
	int64_t now = clock_now_us(), next = spares_expire(now);
	struct want *w = unmet_want();
	struct opened *free_one = w ? spare_of(0) : NULL;
	if (free_one) {
		if (open_link(c, w->ifindex, free_one, why)) {
			opened_close(free_one);
			want_no_more(w);
		}
		return 0; /* who asks comes first; then the next one */
	}
	return next == TIME_NEVER ? -1 : (int)((next - now) / USEC_PER_MSEC) + 1;
}

/* As the engine chooses its first. */
static int first_interface(struct netstate *net)
{
	char why[BROKER_WHY_BYTES];
	int all[1], found = netstate_default_interface(net, why, sizeof why);
	if (found <= 0 && netstate_interfaces(net, all, 1) > 0)
		found = all[0];
	return found > 0 ? found : 0;
}

void broker_ops_prepare(int ifindex)
{
	struct netstate *net;
	if (!ifindex && netstate_open(&net) == 0) {
		ifindex = first_interface(net);
		netstate_close(net);
	}
	if (ifindex)
		want(ifindex, false);
}

static int do_link(const struct broker_ops_config *c, const struct broker_request *r, struct broker_answer *a, struct broker_fds *out)
{
	int n = take_link(c, r, a->why);
	if (!n)
		n = classifier_fds(sent.classifier, out->fd + 2);
	if (n < 0) {
		broker_ops_sent();
		return n;
	}
	link_packet_fds(sent.link, &out->fd[0], &out->fd[1]);
	out->n = 2 + n;
	host_secret(a->secret);
	return 0;
}

/* ---- TCP sockets that come along ---- */

uint64_t broker_netns_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof cookie;
	return sys_getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) ? 0 : cookie;
}

static bool is_tcp_of_ours(const struct broker_ops_config *c, const struct broker_fds *in)
{
	int protocol = 0;
	socklen_t len = sizeof protocol;
	return in->n == 1 && sys_getsockopt(in->fd[0], SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 && protocol == IPPROTO_TCP &&
	       broker_netns_of(in->fd[0]) == c->netns;
}

static void grow(int fd, int force, uint32_t bytes)
{
	if (!bytes)
		return;
	set_int(fd, SOL_SOCKET, force, bytes > BUFFER_MAX ? BUFFER_MAX : bytes);
	set_int(fd, SOL_SOCKET, SO_BUF_LOCK, 0);
}

static int do_repair(const struct broker_request *r, int fd)
{
	int v = r->repair.value;
	if (v != TCP_REPAIR_ON && v != TCP_REPAIR_OFF && v != TCP_REPAIR_OFF_NO_WP)
		return -EINVAL;
	int err = set_int(fd, IPPROTO_TCP, TCP_REPAIR, v);
	if (err)
		return err;
	grow(fd, SO_RCVBUFFORCE, r->repair.rcvbuf);
	grow(fd, SO_SNDBUFFORCE, r->repair.sndbuf);
	return 0;
}

static bool is_in_repair(int fd)
{
	int v = 0;
	socklen_t len = sizeof v;
	return sys_getsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &v, &len) == 0 && v == TCP_REPAIR_ON;
}

static int do_bind(const struct broker_request *r, int fd)
{
	if (!is_in_repair(fd) || r->data.len > sizeof r->data.bytes)
		return -EPERM;
	return sys_bind(fd, r->data.bytes, r->data.len);
}

/* ---- the FIN ---- */

static struct ip_addr addr_of(const union any_addr *a, uint16_t *port)
{
	*port = ntohs(a->sa.sa_family == AF_INET ? a->v4.sin_port : a->v6.sin6_port);
	return a->sa.sa_family == AF_INET ? ip_addr_from_v4(&a->v4.sin_addr) : ip_addr_from_v6(&a->v6.sin6_addr);
}

/* The ends of the packet, as its receiver has them. NULL: it is no plain TCP over IP. */
static const uint8_t *packet_ends(const uint8_t *p, size_t len, struct flow_key *k, size_t *tcp_len)
{
	struct ipv4_header v4;
	struct ipv6_header v6;
	if (len && p[0] >> 4 == 4) {
		if (ipv4_parse(p, len, &v4) != IPV4_OK || v4.protocol != IP_PROTO_TCP || v4.header_len != IPV4_HDR_MIN || v4.total_len != len || v4.more_fragments ||
		    v4.frag_offset)
			return NULL;
		k->raddr = ip_addr_from_v4(v4.src);
		k->laddr = ip_addr_from_v4(v4.dst);
		*tcp_len = len - IPV4_HDR_MIN;
		return p + IPV4_HDR_MIN;
	}
	if (ipv6_parse(p, len, &v6) != IPV6_OK || v6.next_header != IP_PROTO_TCP || (size_t)v6.payload_len + IPV6_HDR_BYTES != len)
		return NULL;
	k->raddr = ip_addr_from_v6(v6.src);
	k->laddr = ip_addr_from_v6(v6.dst);
	*tcp_len = len - IPV6_HDR_BYTES;
	return p + IPV6_HDR_BYTES;
}

static bool is_fin_of_peer(const uint8_t *p, size_t len, int fd, union any_addr *to, socklen_t *to_len)
{
	union any_addr peer;
	socklen_t peer_len = sizeof peer;
	struct flow_key k, of_fd;
	struct tcp_segment seg;
	size_t tcp_len;
	*to_len = sizeof *to;
	if (sys_getsockname(fd, to, to_len) || sys_getpeername(fd, &peer, &peer_len))
		return false;
	const uint8_t *tcp = packet_ends(p, len, &k, &tcp_len);
	if (!tcp || tcp_parse(tcp, tcp_len, &seg) < 0)
		return false;
	of_fd.laddr = addr_of(to, &of_fd.lport);
	of_fd.raddr = addr_of(&peer, &of_fd.rport);
	k.rport = seg.sport;
	k.lport = seg.dport;
	return flow_key_equal(&k, &of_fd) && seg.flags == (SEG_FIN | SEG_ACK) && seg.payload_len == 0;
}

static int do_fin(const struct broker_request *r, int fd)
{
	union any_addr to;
	socklen_t to_len;
	if (r->data.len > sizeof r->data.bytes || !is_fin_of_peer(r->data.bytes, r->data.len, fd, &to, &to_len))
		return -EPERM;
	if (to.sa.sa_family == AF_INET)
		to.v4.sin_port = 0;
	else
		to.v6.sin6_port = 0;
	int raw = sys_socket(to.sa.sa_family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	if (raw < 0)
		return raw;
	ssize_t n = sys_sendto(raw, r->data.bytes, r->data.len, MSG_DONTWAIT, &to, to_len);
	sys_close(raw);
	return n < 0 ? (int)n : 0;
}

/* ---- neighbours, TIME-WAITs ---- */

static int do_time_wait(const struct broker_request *r)
{
	int fd = diag_open();
	if (fd < 0)
		return fd;
	int state = diag_state(fd, &r->time_wait.key, r->time_wait.ifindex);
	int ret = state < 0 ? state : state == 0 ? 0 : -EPERM;
	if (state == TCP_TIME_WAIT)
		ret = diag_end(fd, &r->time_wait.key, r->time_wait.cookie, r->time_wait.ifindex);
	fd_close(fd);
	return ret;
}

/* ---- all ---- */

bool broker_ops_is_answered(const struct broker_request *r)
{
	return r->op == BROKER_LINK || r->op == BROKER_REPAIR || r->op == BROKER_BIND || r->op == BROKER_FIN || r->op == BROKER_TIME_WAIT ||
	       r->op == BROKER_FIREWALL || r->op == BROKER_GROUP || r->op == BROKER_ESTABLISH;
}

static int do_socket(const struct broker_ops_config *c, const struct broker_request *r, const struct broker_fds *in)
{
	if (!is_tcp_of_ours(c, in))
		return -ENOTSOCK;
	switch (r->op) {
	case BROKER_REPAIR:
		return do_repair(r, in->fd[0]);
	case BROKER_BIND:
		return do_bind(r, in->fd[0]);
	default:
		return do_fin(r, in->fd[0]);
	}
}

bool broker_ops_do(const struct broker_ops_config *c, struct broker_spent *spent, const struct broker_request *r, size_t len, const struct broker_fds *in,
		   struct broker_answer *answer, struct broker_fds *out)
{
	if (len != sizeof *r)
		return false;
	memset(answer, 0, sizeof *answer);
	answer->op = r->op;
	answer->id = r->id;
	out->n = 0;
	switch (r->op) {
	case BROKER_LINK:
		answer->result = do_link(c, r, answer, out);
		return true;
	case BROKER_REPAIR:
	case BROKER_BIND:
	case BROKER_FIN:
		answer->result = do_socket(c, r, in);
		return true;
	case BROKER_NEIGHBOUR:
		answer->result = netstate_use_neighbour(r->neighbour.ifindex, &r->neighbour.addr);
		return true;
	case BROKER_FIREWALL:
		answer->result = do_firewall(answer, out);
		return true;
	case BROKER_GROUP:
		answer->result = do_group(spent, out);
		return true;
	case BROKER_ESTABLISH:
		answer->result = do_establish(r);
		return true;
	case BROKER_TIME_WAIT:
		answer->result = do_time_wait(r);
		return true;
	}
	return false;
}
