/*
 * inet_diag: which TCP sockets the kernel itself owns (sock_diag(7)).
 *
 * Stateless: a netlink socket per question, which are rare (a listener starts, an unknown segment arrives, a block of
 * ports is leased); who ends many TIME-WAITs keeps one. The kernel filters by local port while it walks its table, so a
 * host with many sockets costs a walk but no messages. One question about a 4-tuple is a hash lookup there.
 */
#include "kernel/diag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "base/fd.h"
#include "kernel/netlink.h"
#include "kernel/privileged.h"

#define STATE_NEW_SYN_RECV 12 /* TCP_NEW_SYN_RECV: kernel-internal; shown as TCP_SYN_RECV */
/* All that have a peer: not TCP_CLOSE, not TCP_LISTEN, not the bound-only pseudo-state of
 * Linux 6.8. */
#define STATES_CONNECTED                                                                           \
	((1U << (STATE_NEW_SYN_RECV + 1)) - 2 - (1U << TCP_CLOSE) - (1U << TCP_LISTEN))

#define BYTES_RECEIVED_AT 128 /* offsetof(struct tcp_info, tcpi_bytes_received) of linux/tcp.h, which netinet/tcp.h shuts out */

struct question {
	struct nlmsghdr h; /* mnl builds it in place */
	struct inet_diag_req_v2 req;
	uint8_t filter[32];
};

static struct nlmsghdr *ask(struct question *q, int family, uint16_t flags)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(q);
	struct inet_diag_req_v2 *req = mnl_nlmsg_put_extra_header(h, sizeof *req);

	h->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	h->nlmsg_flags = NLM_F_REQUEST | flags;
	req->sdiag_family = family;
	req->sdiag_protocol = IPPROTO_TCP;
	req->idiag_states = STATES_CONNECTED;
	req->id.idiag_cookie[0] = req->id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	return h;
}

static struct ip_addr addr_of(int family, const void *bytes)
{
	return family == AF_INET ? ip_addr_from_v4(bytes) : ip_addr_from_v6(bytes);
}

static bool parse_any(const struct nlmsghdr *h, struct diag_socket *s)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);

	if ((h->nlmsg_type != SOCK_DIAG_BY_FAMILY && h->nlmsg_type != TCPDIAG_GETSOCK) || mnl_nlmsg_get_payload_len(h) < sizeof *m)
		return false;
	s->key = (struct flow_key){.laddr = addr_of(m->idiag_family, m->id.idiag_src),
				   .raddr = addr_of(m->idiag_family, m->id.idiag_dst),
				   .lport = ntohs(m->id.idiag_sport),
				   .rport = ntohs(m->id.idiag_dport)};
	s->state = m->idiag_state;
	memcpy(s->cookie, m->id.idiag_cookie, sizeof s->cookie);
	return true;
}

/* False when the message is no connected TCP socket. */
static bool parse(const struct nlmsghdr *h, struct diag_socket *s)
{
	return parse_any(h, s) && s->state != TCP_LISTEN && s->state != TCP_CLOSE && s->key.rport != 0;
}

struct dump {
	struct diag_visit *visit;
	uint16_t first, last;
};

static int on_dumped(const struct nlmsghdr *h, void *ctx)
{
	struct dump *d = ctx;
	struct diag_socket s;

	if (parse(h, &s) && s.key.lport >= d->first && s.key.lport <= d->last)
		d->visit->socket(d->visit, &s);
	return 0;
}

/*
 * first <= source port <= last, in inet_diag's filter language: an operation, then its operand in an operation's `no`.
 */
static void filter_ports(struct nlmsghdr *h, uint16_t first, uint16_t last)
{
	enum { OP = sizeof(struct inet_diag_bc_op) };
	const struct inet_diag_bc_op program[] = {
		{.code = INET_DIAG_BC_S_GE, .yes = 2 * OP, .no = 5 * OP /* one behind the end: no */},
		{.no = first},
		{.code = INET_DIAG_BC_S_LE, .yes = 2 * OP, .no = 3 * OP},
		{.no = last},
	};
	mnl_attr_put(h, INET_DIAG_REQ_BYTECODE, sizeof program, program);
}

int diag_open(void)
{
	return fd_move_high(netlink_open(NETLINK_SOCK_DIAG));
}

/*
 * Of both families, what is in `states` and has a port of these. The older request is the one that asks for both: the
 * kernel walks its table once, which takes it some 0.3 ms, however little is in it.
 */
static int dump(uint32_t states, uint16_t first, uint16_t last, int (*each)(const struct nlmsghdr *, void *), void *ctx)
{
	struct question q;
	struct nlmsghdr *h = mnl_nlmsg_put_header(&q);
	struct inet_diag_req *req = mnl_nlmsg_put_extra_header(h, sizeof *req);
	int fd = diag_open();
	int ret = fd;

	h->nlmsg_type = TCPDIAG_GETSOCK;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	req->idiag_states = states;
	if (first == last)
		req->id.idiag_sport = htons(first);
	else
		filter_ports(h, first, last);
	if (ret >= 0)
		ret = netlink_talk(fd, h, each, ctx);
	fd_close(fd);
	return ret < 0 ? ret : 0;
}

int diag_dump_ports(uint16_t first, uint16_t last, struct diag_visit *v)
{
	struct dump d = {.visit = v, .first = first, .last = last};
	return dump(STATES_CONNECTED, first, last, on_dumped, &d);
}

static int on_listening(const struct nlmsghdr *h, void *ctx)
{
	struct diag_visit *v = ctx;
	struct diag_socket s;

	if (parse_any(h, &s) && s.state == TCP_LISTEN)
		v->socket(v, &s);
	return 0;
}

int diag_dump_listeners(uint16_t port, struct diag_visit *v)
{
	return dump(1U << TCP_LISTEN, port, port, on_listening, v);
}

int diag_dump_port(uint16_t lport, struct diag_visit *v)
{
	return diag_dump_ports(lport, lport, v);
}

struct ownership {
	const struct flow_key *key;
	int owned, state;
	uint32_t cookie[2];
};

/* The kernel's lookup falls back to a listener; only the very 4-tuple counts. */
static int on_found(const struct nlmsghdr *h, void *ctx)
{
	struct ownership *o = ctx;
	struct diag_socket s;

	if (parse(h, &s) && flow_key_equal(&s.key, o->key))
		*o = (struct ownership){o->key, 1, s.state, {s.cookie[0], s.cookie[1]}};
	return 0;
}

/* A request about one 4-tuple. */
static struct nlmsghdr *ask_flow(struct question *q, const struct flow_key *key, int ifindex)
{
	bool v4 = ip_addr_is_v4(&key->laddr);
	struct nlmsghdr *h = ask(q, v4 ? AF_INET : AF_INET6, 0);
	struct inet_diag_req_v2 *req = mnl_nlmsg_get_payload(h);
	int skip = v4 ? 12 : 0; /* the IPv4 part of a mapped address */

	req->id.idiag_sport = htons(key->lport);
	req->id.idiag_dport = htons(key->rport);
	req->id.idiag_if = ifindex;
	memcpy(req->id.idiag_src, key->laddr.b + skip, sizeof key->laddr.b - skip);
	memcpy(req->id.idiag_dst, key->raddr.b + skip, sizeof key->raddr.b - skip);
	return h;
}

int diag_ask(int fd, const struct flow_key *key, int ifindex)
{
	struct ownership o = {.key = key};
	struct question q;
	int ret = netlink_talk(fd, ask_flow(&q, key, ifindex), on_found, &o);

	return ret < 0 && ret != -ENOENT ? ret : o.owned;
}

int diag_state(int fd, const struct flow_key *key, int ifindex)
{
	struct ownership o = {.key = key};
	struct question q;
	int ret = netlink_talk(fd, ask_flow(&q, key, ifindex), on_found, &o);

	return ret < 0 && ret != -ENOENT ? ret : o.state;
}

struct received {
	const struct flow_key *key;
	uint64_t *bytes;
	int found;
};

static int on_received(const struct nlmsghdr *h, void *ctx)
{
	struct received *r = ctx;
	struct diag_socket s;
	const struct nlattr *attr;
	if (!parse(h, &s) || !flow_key_equal(&s.key, r->key))
		return 0;
	r->found = 1;
	mnl_attr_for_each(attr, h, sizeof(struct inet_diag_msg)) {
		if (mnl_attr_get_type(attr) == INET_DIAG_INFO && mnl_attr_get_payload_len(attr) >= BYTES_RECEIVED_AT + sizeof *r->bytes)
			memcpy(r->bytes, (const char *)mnl_attr_get_payload(attr) + BYTES_RECEIVED_AT, sizeof *r->bytes);
	}
	return 0;
}

int diag_received(int fd, const struct flow_key *key, int ifindex, uint64_t *bytes)
{
	struct received r = {.key = key, .bytes = bytes};
	struct question q;
	struct nlmsghdr *h = ask_flow(&q, key, ifindex);
	struct inet_diag_req_v2 *req = mnl_nlmsg_get_payload(h);
	req->idiag_ext = 1 << (INET_DIAG_INFO - 1);
	int ret = netlink_talk(fd, h, on_received, &r);
	return ret < 0 && ret != -ENOENT ? ret : r.found;
}

static int on_listener(const struct nlmsghdr *h, void *ctx)
{
	bool *listens = ctx;
	struct diag_socket s = {.state = 0};
	parse(h, &s); /* which says no to a listener, and fills it in */
	*listens = *listens || s.state == TCP_LISTEN;
	return 0;
}

int diag_has_listener(int fd, const struct flow_key *key, int ifindex)
{
	bool listens = false;
	struct question q;
	int ret = netlink_talk(fd, ask_flow(&q, key, ifindex), on_listener, &listens);
	return ret < 0 && ret != -ENOENT ? ret : listens;
}

int diag_owns_on(const struct flow_key *key, int ifindex)
{
	int fd = diag_open();
	int ret = fd < 0 ? fd : diag_ask(fd, key, ifindex);

	fd_close(fd);
	return ret;
}

int diag_end(int fd, const struct flow_key *key, const uint32_t cookie[2], int ifindex)
{
	struct question q;
	struct nlmsghdr *h = ask_flow(&q, key, ifindex);
	struct inet_diag_req_v2 *req = mnl_nlmsg_get_payload(h);
	h->nlmsg_type = SOCK_DESTROY;
	/* The lookup falls back to a listener, which has another cookie. */
	memcpy(req->id.idiag_cookie, cookie, sizeof req->id.idiag_cookie);
	int ret = netlink_talk(fd, h, NULL, NULL);
	if (ret == -EPERM)
		return privileged_end_time_wait(key, cookie, ifindex);
	return ret >= 0 ? 1 : ret == -ENOENT || ret == -ESTALE ? 0 : ret;
}

int diag_end_time_wait(int fd, const struct flow_key *key, int ifindex)
{
	struct ownership o = {.key = key};
	struct question q;
	int ret = netlink_talk(fd, ask_flow(&q, key, ifindex), on_found, &o);
	if (ret < 0 && ret != -ENOENT)
		return ret;
	if (o.owned && o.state != TCP_TIME_WAIT)
		return 0;
	if (o.owned)
		diag_end(fd, key, o.cookie, ifindex);
	return 1;
}

int diag_owns(const struct flow_key *key)
{
	return diag_owns_on(key, 0);
}
