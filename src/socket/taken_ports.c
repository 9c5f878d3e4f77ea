/*
 * Ports that connections of the engine take, as Linux's bind sees them.
 *
 * Linux keeps every socket that has a local port in a bind bucket, TIME-WAITs included, and bind looks there, whoever
 * calls. While a listener lives, its kernel socket says for the engine's connections what they would say themselves.
 * When it closes before them, the kernel knows of nobody there: bind would succeed where Linux says EADDRINUSE.
 *
 *   - Accepted connections and their TIME-WAITs: when their listener closes, a kernel socket takes the port for them,
 *     at each of their local
 *     addresses, with the SO_REUSEADDR, SO_REUSEPORT, device and IPV6_V6ONLY of the first one there, or where only
 *     TIME-WAITs are there, of the listener. It never listens. It goes with the last connection or TIME-WAIT of that
 *     name.
 *   - A client that was bound has a kernel socket with its port anyway (sock.port_fd). Its TIME-WAIT keeps that one.
 *   - A client's port that connect chose is known in this process alone (taken_by_client): a kernel socket for each
 *     would cost more than it tells.
 *
 * bind beside a listener succeeds in repair mode only (SK_FORCE_REUSE), which takes CAP_NET_ADMIN, or the broker.
 * Without either the port is not taken.
 *
 * Linux counts an accepted IPv6 connection against a bind to 0.0.0.0, too; a kernel socket that is bound to an IPv6
 * address it does not. So there bind succeeds.
 *
 * Owns a kernel socket for each name, TAKEN_PORTS_MAX at most; beyond, who has taken one for longest loses it. While a
 * name is here, `n` counts all connections in the tables and all TIME-WAITs with that name; of a client's only those
 * since its first TIME-WAIT, so it may go early where several share a port. A fork's child closes its copies. Not in
 * own-address mode, whose ports are nobody else's.
 */
#include "socket/engine.h"
#include "socket/listener.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/sockopt.h"
#include "base/sys.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

static void forget_at(struct taken_ports *t, unsigned i)
{
	fd_close(t->at[i].fd);
	t->n--;
	memmove(&t->at[i], &t->at[i + 1], (t->n - i) * sizeof t->at[0]);
}

static struct taken_port *find(struct engine *e, const struct ip_addr *addr, uint16_t port)
{
	struct taken_ports *t = &e->taken_ports;
	for (unsigned i = 0; i < t->n; i++)
		if (t->at[i].port == port && ip_addr_equal(&t->at[i].addr, addr))
			return &t->at[i];
	return NULL;
}

void taken_ports_count(struct engine *e, const struct flow_key *key, int more)
{
	struct taken_port *p = find(e, &key->laddr, key->lport);
	if (!p)
		return;
	p->n += more;
	if (p->n == 0)
		forget_at(&e->taken_ports, p - e->taken_ports.at);
}

int taken_ports_fd(struct engine *e, const struct ip_addr *addr, uint16_t port)
{
	const struct taken_port *p = find(e, addr, port);
	return p ? p->fd : -1;
}

void taken_ports_forget(struct engine *e)
{
	while (e->taken_ports.n)
		forget_at(&e->taken_ports, e->taken_ports.n - 1);
}

/* `fd` is internal, and the table's from now on. */
static void add(struct engine *e, const struct ip_addr *addr, uint16_t port, unsigned n, int fd)
{
	struct taken_ports *t = &e->taken_ports;
	if (t->n == TAKEN_PORTS_MAX)
		forget_at(t, 0);
	t->at[t->n++] = (struct taken_port){.addr = *addr, .port = port, .n = n, .fd = fd};
}

/* In repair mode bind looks at nobody else. */
static int bind_in_repair(int fd, const struct sockaddr *name, socklen_t len)
{
	int err = sockopt_set_int(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON);
	if (!err)
		err = sys_bind(fd, name, len);
	if (err == -EPERM || err == -EACCES)
		err = privileged_repair(fd, &(struct privileged_repair){.value = TCP_REPAIR_ON, .addr = name, .addr_len = len});
	if (err < 0)
		return err;
	err = sockopt_set_int(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF);
	return err == -EPERM ? privileged_repair(fd, &(struct privileged_repair){.value = TCP_REPAIR_OFF}) : err;
}

/* A kernel socket with this name, bound as `s` is, beside whoever else has it. */
static int bind_beside(struct engine *e, const struct sock *s, const struct ip_addr *addr, uint16_t port)
{
	struct sockaddr_storage name;
	socklen_t len = sizeof name;
	int fd = sys_socket(s->family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	name_from_addr(e, s->family, addr, port, (struct sockaddr *)&name, &len);
	if (s->family == AF_INET6)
		sockopt_set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, s->v6only);
	if (s->ip.oif)
		sockopt_set_int(fd, SOL_SOCKET, SO_BINDTOIFINDEX, s->ip.oif);
	int err = bind_in_repair(fd, (struct sockaddr *)&name, len);
	if (err >= 0)
		return fd_move_high(fd);
	sys_close(fd);
	return err;
}

struct count {
	struct time_wait_visit visit;
	const struct ip_addr *addr;
	unsigned n;
};

static void count_time_wait(struct time_wait_visit *v, const struct flow_key *key)
{
	struct count *c = container_of(v, struct count, visit);
	c->n += ip_addr_equal(&key->laddr, c->addr);
}

static unsigned count_all(struct engine *e, const struct ip_addr *addr, uint16_t port)
{
	struct count c = {.visit.each = count_time_wait, .addr = addr};
	time_waits_visit_port(e, port, false, &c.visit);
	list_for_each (pos, tmp, &e->socks) {
		const struct sock *s = container_of(pos, struct sock, node);
		c.n += s->in_demux && s->flow.key.lport == port && ip_addr_equal(&s->flow.key.laddr, addr);
	}
	return c.n;
}

/* What a listener's end takes. `stop`: what kept one from being taken would keep the next one from it as well. */
struct taking {
	struct time_wait_visit visit;
	struct engine *e;
	const struct sock *listener;
	unsigned taken;
	int reuseport;    /* the listener's SO_REUSEPORT */
	bool reuse, stop; /* reuse: the TIME-WAITs' connections had SO_REUSEADDR */
};

/* `as`: how it is bound. */
static void take(struct taking *t, const struct sock *as, const struct ip_addr *addr, bool reuseaddr, int reuseport)
{
	struct engine *e = t->e;
	uint16_t port = t->listener->lst->port;
	if (t->stop || find(e, addr, port))
		return;
	int fd = t->taken++ == TAKEN_PORTS_MAX ? -E2BIG : bind_beside(e, as, addr, port);
	t->stop = fd < 0;
	if (t->stop) {
		log_debug("engine", "port %u of live connections could not be kept (errno %d)", port, -fd);
		return;
	}
	sockopt_set_int(fd, SOL_SOCKET, SO_REUSEADDR, reuseaddr); /* repair mode had a value of its own */
	sockopt_set_int(fd, SOL_SOCKET, SO_REUSEPORT, reuseport);
	add(e, addr, port, count_all(e, addr, port), fd);
}

static void take_for_time_wait(struct time_wait_visit *v, const struct flow_key *key)
{
	struct taking *t = container_of(v, struct taking, visit);
	const struct sock *l = t->listener;
	if (listener_name_matches(&l->lst->addr, l->family, l->v6only, &key->laddr))
		take(t, l, &key->laddr, t->reuse, t->reuseport);
}

void taken_ports_listener_closes(struct engine *e, const struct sock *l)
{
	struct taking t = {.visit.each = take_for_time_wait, .e = e, .listener = l};
	if (!e->up || e->own || e->exiting)
		return;
	list_for_each (pos, tmp, &e->socks) {
		const struct sock *s = container_of(pos, struct sock, node);
		if (s->kind == SOCK_KIND_CONN && s->in_demux && s->accepted && s->flow.key.lport == l->lst->port)
			take(&t, s, &s->flow.key.laddr, s->reuseaddr, option_values_number(s->values, option_find(SOL_SOCKET, SO_REUSEPORT)));
	}
	t.reuseport = kernel_int(l->lst->kfd, SOL_SOCKET, SO_REUSEPORT);
	time_waits_visit_port(e, l->lst->port, true, &t.visit);
	t.reuse = true; /* what is left */
	time_waits_visit_port(e, l->lst->port, false, &t.visit);
}

void taken_ports_time_wait(struct engine *e, struct sock *s)
{
	const struct flow_key *key = &s->flow.key;
	if (s->port_fd < 0 || s->bound_again)
		return;
	if (find(e, &key->laddr, key->lport))
		return;
	add(e, &key->laddr, key->lport, 1, s->port_fd);
	s->port_fd = -1;
}

/* ---- ports that connect chose ---- */

/* Who calls bind. */
struct binder {
	struct ip_addr addr;
	uint16_t port;
	bool v6, v6only, reuse;
};

/* Linux's inet_rcv_saddr_equal, of a socket that is connected. */
static bool overlaps(const struct binder *b, const struct ip_addr *laddr, bool v6only)
{
	bool v4 = ip_addr_is_v4(laddr);
	if (!b->v6 && v6only)
		return false;
	if (ip_addr_is_any(&b->addr))
		return !(b->v6 && b->v6only && v4);
	return ip_addr_equal(&b->addr, laddr);
}

static bool taken_by_client(struct engine *e, const struct binder *b)
{
	list_for_each (pos, tmp, &e->socks) {
		const struct sock *s = container_of(pos, struct sock, node);
		if (s->kind == SOCK_KIND_CONN && s->in_demux && !s->accepted && s->port_fd < 0 && s->flow.key.lport == b->port &&
		    !(b->reuse && s->reuseaddr) && overlaps(b, &s->flow.key.laddr, s->v6only))
			return true;
	}
	return false;
}

struct visit {
	struct time_wait_visit base;
	const struct binder *binder;
	bool taken;
};

static void on_time_wait(struct time_wait_visit *base, const struct flow_key *key)
{
	struct visit *v = container_of(base, struct visit, base);
	v->taken = v->taken || overlaps(v->binder, &key->laddr, false);
}

static bool is_taken(struct engine *e, const struct binder *b)
{
	struct visit v = {.base.each = on_time_wait, .binder = b};
	if (taken_by_client(e, b))
		return true;
	time_waits_visit_port(e, b->port, b->reuse, &v.base);
	return v.taken;
}

/* What bind says of the address before it looks at the port. */
static int judge_address(int family, const struct sockaddr *addr, socklen_t len)
{
	struct sockaddr_storage a = {0};
	int fd = sys_socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	memcpy(&a, addr, len);
	((struct sockaddr_in *)&a)->sin_port = 0; /* of both families it lies there */
	int r = sys_bind(fd, &a, len);
	sys_close(fd);
	return r;
}

static bool binder_of(int kfd, const struct sockaddr *addr, socklen_t len, struct binder *b, int *family)
{
	*b = (struct binder){.reuse = false};
	*family = kernel_int(kfd, SOL_SOCKET, SO_DOMAIN);
	if (kernel_int(kfd, SOL_SOCKET, SO_PROTOCOL) != IPPROTO_TCP || name_to_addr(addr, len, &b->addr, &b->port))
		return false;
	b->v6 = *family == AF_INET6;
	b->v6only = kernel_v6only(kfd, *family);
	b->reuse = kernel_int(kfd, SOL_SOCKET, SO_REUSEADDR);
	return b->port != 0;
}

int engine_port_taken(int kfd, const struct sockaddr *addr, socklen_t len)
{
	struct engine *e = engine_of_process();
	struct sockaddr_storage own;
	socklen_t own_len = sizeof own;
	struct binder b;
	int family;
	if (!e->up || len > sizeof own || name_to_addr(addr, len, &b.addr, &b.port) || !b.port)
		return 0;
	engine_lock(e);
	bool ours = e->up && !e->own && ports_has(e->ports, b.port) && binder_of(kfd, addr, len, &b, &family) && is_taken(e, &b);
	engine_unlock(e);
	if (!ours || sys_getsockname(kfd, &own, &own_len) || ((struct sockaddr_in *)&own)->sin_port) /* bound already: bind says so first */
		return 0;
	return judge_address(family, addr, len) == 0 ? -EADDRINUSE : 0;
}
