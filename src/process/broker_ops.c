/*
 * What the broker does for its members. Each request is checked as if the member were hostile, since it may be: it is a
 * process that gave its privilege away.
 *
 * A link is what makes a member an engine, and it is powerful: see README, "A compromised worker". The other requests
 * give nothing that a link does not.
 * - TCP_REPAIR, bind: of a TCP socket of the broker's own network namespace, that the member passes.
 * - The FIN: it must be one of the very peer of the connected socket that comes along, to its very address and ports,
 *   without data.
 * - A neighbour is resolved as any packet to it would have it resolved.
 * - A listener group's maps are of the member's own ports; a member gets BROKER_GROUPS_MAX of them.
 * - Maps of a member's are entered in maps of maps of its own (broker_enter.c).
 * - A spare queue is given to who shows its very listening socket.
 * - Of the kernel's sockets, only a TIME-WAIT is ended.
 */
#include "process/broker.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/fd.h"
#include "base/settings.h"
#include "base/sockopt.h"
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
#include "process/broker_spares.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"
#include "wire/tcp.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* since Linux 5.14 */
#endif
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72 /* since Linux 5.14 */
#endif

#define BUFFER_MAX (64u << 20) /* bytes: more than a connection's buffers ever are */

union any_addr {
	struct sockaddr sa;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* ---- links ---- */

static struct broker_link sent; /* what the last answer gives away, until it is sent */

/* What was found out by the member's number is another's, if the member has ended meanwhile. */
static int unless_ended(int ret, const struct broker_spent *spent)
{
	return spent->pidfd < 0 || broker_process_ended(spent->pidfd) ? -ESRCH : ret;
}

/*
 * A link to give away; the firewall is asked when it is given, not when it was made, and of the member: its cgroup may
 * be another than the broker's.
 */
static int take_link(const struct broker_ops_config *c, const struct broker_spent *spent, const struct broker_request *r, char *why)
{
	int ifindex = r->link.ifindex, err;
	if (ifindex <= 0)
		return -ENODEV;
	if (!c->bypass_firewall && (err = unless_ended(firewall_check(broker_process_pid(spent->pidfd), ifindex, why, BROKER_WHY_BYTES), spent)))
		return err < 0 ? err : -EACCES;
	return broker_link_take(c, ifindex, r->link.only_spare, &sent, why);
}

static int firewall_fd = -1; /* on its way */

static int do_firewall(const struct broker_spent *spent, struct broker_answer *a, struct broker_fds *out)
{
	struct firewall *f;
	int err = firewall_read_of(broker_process_pid(spent->pidfd), &f, a->why, sizeof a->why);
	if (err)
		return err;
	err = unless_ended(0, spent);
	firewall_fd = err ? err : firewall_save(f);
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
	broker_link_close(&sent);
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

#define FILES_SPARE 1024 /* descriptors: with so many, members have enough beside those of the settings */

/* The namespace's settings now. */
static void read_sysctls(struct sysctl_values *out)
{
	static struct sysctls s; /* its files stay open */
	struct rlimit64 limit;
	if (s.open) {
		sysctls_read(&s);
	} else {
		sysctls_open(&s);
		if (sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit, 0, 0) == 0 && limit.rlim_cur >= FILES_SPARE)
			sysctls_keep_files(&s);
	}
	*out = s.now;
}

void broker_ops_prepare(const struct broker_ops_config *c, int ifindex)
{
	struct netstate *net;
	struct sysctl_values unused;
	char why[BROKER_WHY_BYTES];
	if (!ifindex && netstate_open(&net) == 0) {
		ifindex = first_interface(net);
		netstate_close(net);
	}
	if (!ifindex)
		return;
	broker_spares_want(ifindex);
	broker_spares_tend(); /* a place … */
	broker_spares_tend(); /* … and a link */
	read_sysctls(&unused);
	if (!c->bypass_firewall)
		firewall_check(0, ifindex, why, sizeof why); /* the first time takes long, and the kernel makes the spare meanwhile */
}

/* One place is kept for each member, its last. */
static int do_link(const struct broker_ops_config *c, struct broker_spent *spent, const struct broker_request *r, struct broker_answer *a, struct broker_fds *out)
{
	int n = take_link(c, spent, r, a->why);
	if (!n)
		n = classifier_fds(sent.classifier, out->fd + 2);
	if (n < 0) {
		broker_place_return(&sent.place, false);
		broker_ops_sent();
		return n;
	}
	if (spent->place.fd >= 0)
		sys_close(spent->place.fd);
	spent->place = sent.place;
	link_packet_fds(sent.link, &out->fd[0], &out->fd[1]);
	out->n = 2 + n;
	a->veth = sent.veth;
	host_secret(a->secret);
	read_sysctls(&a->sysctls);
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
	return in->n == 1 && sockopt_int(in->fd[0], SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP && broker_netns_of(in->fd[0]) == c->netns;
}

static void grow(int fd, int force, uint32_t bytes)
{
	if (!bytes)
		return;
	sockopt_set_int(fd, SOL_SOCKET, force, bytes > BUFFER_MAX ? BUFFER_MAX : bytes);
	sockopt_set_int(fd, SOL_SOCKET, SO_BUF_LOCK, 0);
}

static int do_repair(const struct broker_request *r, int fd)
{
	int v = r->repair.value;
	if (v != TCP_REPAIR_ON && v != TCP_REPAIR_OFF && v != TCP_REPAIR_OFF_NO_WP)
		return -EINVAL;
	if (r->repair.addr_len > sizeof r->repair.addr || (r->repair.addr_len && v != TCP_REPAIR_ON))
		return -EINVAL;
	int err = sockopt_set_int(fd, IPPROTO_TCP, TCP_REPAIR, v);
	if (err)
		return err;
	grow(fd, SO_RCVBUFFORCE, r->repair.rcvbuf);
	grow(fd, SO_SNDBUFFORCE, r->repair.sndbuf);
	return r->repair.addr_len ? sys_bind(fd, r->repair.addr, r->repair.addr_len) : 0;
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

/*
 * Where a raw socket sends the packet to: one of IPv4 goes by an IPv4 address, also where an AF_INET6 socket has it
 * mapped.
 */
static socklen_t raw_address(union any_addr *to, bool v4)
{
	if (to->sa.sa_family == AF_INET6 && v4) {
		struct in6_addr mapped = to->v6.sin6_addr;
		to->v4 = (struct sockaddr_in){.sin_family = AF_INET};
		memcpy(&to->v4.sin_addr, mapped.s6_addr + 12, sizeof to->v4.sin_addr);
	}
	if (to->sa.sa_family == AF_INET) {
		to->v4.sin_port = 0;
		return sizeof to->v4;
	}
	to->v6.sin6_port = 0;
	return sizeof to->v6;
}

static int do_fin(const struct broker_request *r, int fd)
{
	union any_addr to;
	socklen_t to_len;
	if (r->data.len > sizeof r->data.bytes || !is_fin_of_peer(r->data.bytes, r->data.len, fd, &to, &to_len))
		return -EPERM;
	to_len = raw_address(&to, r->data.bytes[0] >> 4 == 4);
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
	return r->op == BROKER_LINK || r->op == BROKER_REPAIR || r->op == BROKER_FIN || r->op == BROKER_TIME_WAIT ||
	       r->op == BROKER_FIREWALL || r->op == BROKER_GROUP || r->op == BROKER_ENTER || r->op == BROKER_ESTABLISH || r->op == BROKER_SPARE || r->op == BROKER_CGROUP;
}

static int do_socket(const struct broker_ops_config *c, const struct broker_request *r, const struct broker_fds *in)
{
	if (!is_tcp_of_ours(c, in))
		return -ENOTSOCK;
	return r->op == BROKER_REPAIR ? do_repair(r, in->fd[0]) : do_fin(r, in->fd[0]);
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
		answer->result = do_link(c, spent, r, answer, out);
		return true;
	case BROKER_REPAIR:
	case BROKER_FIN:
		answer->result = do_socket(c, r, in);
		return true;
	case BROKER_NEIGHBOUR:
		answer->result = netstate_use_neighbour(r->neighbour.ifindex, &r->neighbour.addr);
		return true;
	case BROKER_FIREWALL:
		answer->result = do_firewall(spent, answer, out);
		return true;
	case BROKER_CGROUP:
		answer->result = unless_ended(firewall_untold_of(broker_process_pid(spent->pidfd)), spent);
		answer->generation = firewall_generation();
		return true;
	case BROKER_GROUP:
		answer->result = do_group(spent, out);
		return true;
	case BROKER_ENTER:
		answer->result = broker_enter(r, in);
		return true;
	case BROKER_SPARE:
		answer->result = broker_passed_find(in, out);
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
