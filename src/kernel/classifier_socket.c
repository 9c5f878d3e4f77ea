/*
 * The classifier's third backend: filters on the kernel's own sockets, where CAP_NET_RAW is all that one has (a
 * container by default).
 *
 * Nothing can be dropped on the way up then. But the kernel answers a segment for whoever listens on its port, and a
 * filter there that swallows it leaves no answer. So:
 *
 *   - A listener's kernel socket, which the program keeps, gets a filter (silent_filter.c) that swallows all that comes
 *     by a served interface to an address of ours, but the
 *     4-tuples that are the kernel's. Each change of addresses, interfaces or exceptions makes the filter anew.
 *   - A client connection's port is one that a socket of ours holds, listening, and swallowing all (silent_ports.c).
 *   - Connections that outlive their listener: we keep the listener's socket. Where nobody else has it, it swallows all
 *     from then on, and lives until
 *     the last of its flows is taken away: so long the port is taken. Where others have it, it swallows those flows
 *     alone; where the engines of others serve it, it swallows all, as ever.
 *
 *   - Of several processes that serve a port each swallows all at its listening socket, which may be one that they
 *     share, and each engine gets every frame: who answers
 *     is decided in memory (classifier_group_cells.c).
 *
 * The packet socket's filter is the nftables backend's: all TCP to this host. Segments that nobody here knows, on a
 * port that is silent, are the engine's to answer (is_silent).
 *
 * Owns the held ports and duplicates of listeners' sockets that outlived them; refers to those that live. A fork
 * child's close leaves the filters to the parent.
 *
 * Limits: SILENT_ADDRESSES_MAX addresses; some 580 exceptions by IPv4 and 210 by IPv6 (BPF_MAXINSNS). Beyond, a change
 * fails with -E2BIG, and what it was for is the kernel's. When a process that shares its listening socket dies by a
 * signal, its filter stays until another one serves the socket, or all have closed it.
 */
#include "kernel/classifier_backend.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "kernel/classifier_nft_filter.h"
#include "kernel/silent_filter.h"
#include "kernel/silent_ports.h"

/* A growing array of 4-tuples. */
struct flows {
	struct flow_key *at;
	size_t n, cap;
};

/* A kernel socket that listens, with a filter of ours. */
struct silenced {
	struct list node;
	int fd;
	struct ip_addr addr;
	uint16_t port;
	enum { SERVES, OUTLIVED, OUTLIVED_SHARED, OUTLIVED_SERVED } state; /* not SERVES: `fd` is ours */
	bool only_syns;                                   /* the kernel's half-open connections are not known yet */
	struct flows flows;                               /* its connections that have an entry of their own */
};

struct socket_classifier {
	struct classifier base;
	int ifindexes[CLASSIFIER_INTERFACES_MAX]; /* 0: free */
	struct list silenced;
	struct silent_ports *ports;
	struct flows exceptions;
};

static struct socket_classifier *socket_of(const struct classifier *c)
{
	return (struct socket_classifier *)container_of(c, struct socket_classifier, base);
}

/* ---- sets of 4-tuples ---- */

static int flows_add(struct flows *f, const struct flow_key *key)
{
	if (f->n == f->cap) {
		size_t cap = f->cap ? f->cap * 2 : 8;
		struct flow_key *bigger = realloc(f->at, cap * sizeof *bigger);
		if (!bigger)
			return -ENOMEM;
		f->at = bigger;
		f->cap = cap;
	}
	f->at[f->n++] = *key;
	return 0;
}

static bool flows_remove(struct flows *f, const struct flow_key *key)
{
	for (size_t i = 0; i < f->n; i++)
		if (flow_key_equal(&f->at[i], key)) {
			f->at[i] = f->at[--f->n];
			return true;
		}
	return false;
}

/* ---- filters ---- */

static int refresh(const struct socket_classifier *c, const struct silenced *s)
{
	struct silent_rules r = {.ifindexes = c->ifindexes, .n_ifindexes = CLASSIFIER_INTERFACES_MAX};
	if (s->state == OUTLIVED_SERVED) /* those who serve see to it */
		return 0;
	if (s->state == OUTLIVED)
		return silent_filter_attach_all(s->fd);
	if (s->state == OUTLIVED_SHARED) {
		r.flows = s->flows.at;
		r.n_flows = s->flows.n;
		r.only_flows = true;
	} else {
		r.addrs = c->base.addrs;
		r.n_addrs = c->base.n_addrs;
		r.flows = c->exceptions.at;
		r.n_flows = c->exceptions.n;
		r.only_syns = s->only_syns;
	}
	return silent_filter_attach(s->fd, &r);
}

/* The first error; the others are tried all the same. */
static int refresh_all(const struct socket_classifier *c)
{
	int first = 0;
	list_for_each (pos, tmp, &c->silenced) {
		int err = refresh(c, container_of(pos, struct silenced, node));
		first = first ? first : err;
	}
	return first;
}

static struct silenced *find_fd(const struct socket_classifier *c, int fd)
{
	list_for_each (pos, tmp, &c->silenced) {
		struct silenced *s = container_of(pos, struct silenced, node);
		if (s->fd == fd)
			return s;
	}
	return NULL;
}

static struct silenced *find_port(const struct socket_classifier *c, const struct ip_addr *addr, uint16_t port)
{
	list_for_each (pos, tmp, &c->silenced) {
		struct silenced *s = container_of(pos, struct silenced, node);
		if (s->port == port && classifier_claims(&s->addr, addr))
			return s;
	}
	return NULL;
}

static void forget(struct silenced *s)
{
	if (s->state != SERVES)
		fd_close(s->fd);
	list_unlink(&s->node);
	free(s->flows.at);
	free(s);
}

/* ---- opening ---- */

static void socket_close(struct classifier *base)
{
	struct socket_classifier *c = socket_of(base);
	list_for_each (pos, tmp, &c->silenced)
		forget(container_of(pos, struct silenced, node));
	silent_ports_close(c->ports);
	free(c->exceptions.at);
	free(c);
}

static int add_interface(struct socket_classifier *c, int ifindex)
{
	for (int i = 0; i < CLASSIFIER_INTERFACES_MAX; i++)
		if (!c->ifindexes[i] || c->ifindexes[i] == ifindex) {
			c->ifindexes[i] = ifindex;
			return 0;
		}
	return -E2BIG;
}

static void socket_detach(struct classifier *base, int ifindex)
{
	struct socket_classifier *c = socket_of(base);
	for (int i = 0; i < CLASSIFIER_INTERFACES_MAX; i++)
		if (c->ifindexes[i] == ifindex)
			c->ifindexes[i] = 0;
	if (refresh_all(c))
		log_warn("classifier", "a listening socket's filter could not be changed");
}

static int socket_attach(struct classifier *base, int ifindex, int packet_fd, bool has_eth, char *why, size_t why_len)
{
	struct socket_classifier *c = socket_of(base);
	int err = classifier_nft_filter(packet_fd, has_eth);
	if (!err)
		err = add_interface(c, ifindex);
	if (!err && (err = refresh_all(c)))
		socket_detach(base, ifindex);
	if (err)
		snprintf(why, why_len, "classifier: the filters of sockets could not be changed (error %d)", -err);
	return err;
}

static struct socket_classifier *socket_new(void)
{
	struct socket_classifier *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->base.ops = &classifier_socket_ops;
	list_init(&c->silenced);
	c->ports = silent_ports_open();
	if (c->ports)
		return c;
	free(c);
	return NULL;
}

int classifier_socket_open(struct classifier **out, int ifindex, int packet_fd, bool has_eth, char *why, size_t why_len)
{
	int err = silent_filter_probe();
	if (err) {
		snprintf(why, why_len, "classifier: no filter on a TCP socket (error %d%s)", -err,
			 err == -EPERM ? ": this kernel wants CAP_NET_ADMIN for it" : "");
		return err == -EPERM ? -EACCES : err;
	}
	struct socket_classifier *c = socket_new();
	err = c ? socket_attach(&c->base, ifindex, packet_fd, has_eth, why, why_len) : -ENOMEM;
	if (!err)
		*out = &c->base;
	else if (c)
		socket_close(&c->base);
	return err;
}

int classifier_socket_adopt(struct classifier **out, int ifindex)
{
	int err = silent_filter_probe();
	struct socket_classifier *c = err ? NULL : socket_new();
	if (!c)
		return err ? err : -ENOMEM;
	add_interface(c, ifindex);
	*out = &c->base;
	return 0;
}

/* ---- listeners ---- */

static int silence(struct classifier *base, int fd, const struct ip_addr *addr, uint16_t port, enum silence_begin how)
{
	struct socket_classifier *c = socket_of(base);
	struct silenced *s = find_fd(c, fd);
	if (s && s->state == SERVES) {
		s->only_syns = how == SILENCE_SYNS;
		return refresh(c, s);
	}
	s = calloc(1, sizeof *s);
	if (!s)
		return -ENOMEM;
	*s = (struct silenced){.fd = fd, .addr = *addr, .port = port, .state = SERVES, .only_syns = how == SILENCE_SYNS};
	list_init(&s->node);
	int err = refresh(c, s);
	if (err) {
		free(s);
		return err;
	}
	list_push_front(&c->silenced, &s->node); /* before one that outlived its listener */
	return 0;
}

/* Its connections' segments go on being swallowed. */
static int outlive(struct socket_classifier *c, struct silenced *s, enum silence_end how)
{
	int fd = fd_copy_high(s->fd);
	if (fd < 0)
		return fd;
	s->fd = fd;
	s->state = how == SILENCE_DIES ? OUTLIVED : how == SILENCE_ENDS ? OUTLIVED_SHARED : OUTLIVED_SERVED;
	return refresh(c, s);
}

static void end_silence(struct classifier *base, int fd, enum silence_end how)
{
	struct socket_classifier *c = socket_of(base);
	struct silenced *s = find_fd(c, fd);
	if (!s)
		return;
	int err = s->flows.n ? outlive(c, s, how) : how == SILENCE_GOES_ON ? 0 : silent_filter_remove(fd);
	if (err)
		log_warn("classifier", "port %u: the filter of its socket could not be changed (error %d)", s->port, -err);
	if (err || !s->flows.n)
		forget(s);
}

/* What a listener's name says to the other backends, its own socket's filter does here. */
static int listener_changes(struct classifier *base, const struct ip_addr *addr, uint16_t port)
{
	(void)base;
	(void)addr;
	(void)port;
	return 0;
}

static int socket_set_addresses(struct classifier *base, const struct ip_addr *addrs, size_t n)
{
	struct socket_classifier *c = socket_of(base);
	struct ip_addr *old = base->addrs;
	size_t n_old = base->n_addrs;
	base->addrs = (struct ip_addr *)addrs;
	base->n_addrs = n;
	int err = n > SILENT_ADDRESSES_MAX ? -E2BIG : refresh_all(c);
	base->addrs = old;
	base->n_addrs = n_old;
	return err;
}

/* ---- flows ---- */

static int except(struct socket_classifier *c, const struct flow_key *key)
{
	int err = flows_add(&c->exceptions, key);
	if (!err && (err = refresh_all(c))) {
		flows_remove(&c->exceptions, key);
		refresh_all(c);
	}
	return err;
}

static int socket_add_flow(struct classifier *base, enum classifier_set set, const struct flow_key *key)
{
	struct socket_classifier *c = socket_of(base);
	if (set == SET_EXCEPTIONS)
		return except(c, key);
	struct silenced *s = find_port(c, &key->laddr, key->lport);
	if (!s)
		return silent_ports_hold(c->ports, &key->laddr, key->lport);
	int err = flows_add(&s->flows, key);
	if (!err && s->state == OUTLIVED_SHARED && (err = refresh(c, s)))
		flows_remove(&s->flows, key);
	return err;
}

/* The last of a listener that is gone takes its socket along. */
static int flow_of_silenced_ends(struct socket_classifier *c, struct silenced *s)
{
	int err = 0;
	if (s->state == OUTLIVED_SHARED)
		err = s->flows.n ? refresh(c, s) : silent_filter_remove(s->fd);
	if (s->state != SERVES && !s->flows.n)
		forget(s);
	return err;
}

static int socket_del_flow(struct classifier *base, enum classifier_set set, const struct flow_key *key)
{
	struct socket_classifier *c = socket_of(base);
	if (set == SET_EXCEPTIONS)
		return flows_remove(&c->exceptions, key) ? refresh_all(c) : -ENOENT;
	list_for_each (pos, tmp, &c->silenced) {
		struct silenced *s = container_of(pos, struct silenced, node);
		if (flows_remove(&s->flows, key))
			return flow_of_silenced_ends(c, s);
	}
	return 0; /* a held port's: it stays */
}

static int hold_port(struct classifier *base, const struct ip_addr *addr, uint16_t port)
{
	return silent_ports_hold(socket_of(base)->ports, addr, port);
}

static bool is_silent(const struct classifier *base, const struct flow_key *key)
{
	const struct socket_classifier *c = socket_of(base);
	const struct silenced *s = find_port(c, &key->laddr, key->lport);
	return (s && s->state == OUTLIVED) || silent_ports_has(c->ports, &key->laddr, key->lport);
}

const struct classifier_ops classifier_socket_ops = {
	.name = "socket",
	.is_exact = false,
	.groups_in_memory = true,
	.attach = socket_attach,
	.detach = socket_detach,
	.close = socket_close,
	.set_addresses = socket_set_addresses,
	.add_listener = listener_changes,
	.del_listener = listener_changes,
	.add_flow = socket_add_flow,
	.del_flow = socket_del_flow,
	.silence = silence,
	.end_silence = end_silence,
	.hold_port = hold_port,
	.is_silent = is_silent,
};
