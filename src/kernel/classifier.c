/*
 * The classifier: chooses a backend, and keeps what every backend needs to know: the interfaces' addresses, and the
 * listeners with their reference counts.
 *
 * eBPF is exact, needs no message per connection, and is tried first. Where bpf(2) is refused (a user namespace, no
 * CAP_BPF) or tcx is missing (Linux before 6.6), nftables does the same. The socket backend is taken when it is named
 * only: who has no more than CAP_NET_RAW cannot read the firewall's rules, nor hand a live connection to the kernel.
 */
#include "kernel/classifier_backend.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/sys.h"
#include "base/zeroed.h"
#include "kernel/classifier_group_internal.h"
#include "kernel/judge.h"
#include "kernel/named.h"
#include "kernel/silent_filter.h"

/* A multicast address: nobody's own, so it can stand for something else. */
const struct ip_addr classifier_any_v6only = {{0xff}};

static int open_backend(struct classifier **out, enum classifier_choice choice, int ifindex, int packet_fd, bool has_eth, char *why,
			size_t why_len)
{
	char first[192];
	int err = -EOPNOTSUPP;
	if (choice == CLASSIFIER_SOCKET)
		return classifier_socket_open(out, ifindex, packet_fd, has_eth, why, why_len);
	if (choice != CLASSIFIER_NFTABLES) {
		err = classifier_ebpf_open(out, ifindex, packet_fd, has_eth, why, why_len);
		/* the host does not lack it: the program has no number for it now */
		if (!err || choice == CLASSIFIER_EBPF || err == -EMFILE || err == -ENFILE)
			return err;
		snprintf(first, sizeof first, "%s", why);
		log_info("classifier", "%s; trying nftables", first);
	}
	int second = classifier_nft_open(out, ifindex, packet_fd, has_eth, why, why_len);
	if (second && err != -EOPNOTSUPP) /* the first reason is what the host lacks */
		snprintf(why, why_len, "%s", first);
	return second;
}

/*
 * The filter is final: whoever takes over this process later (it may have dropped its privilege, the socket has not)
 * cannot read more by another one. The maps that the program reads still change.
 */
static void lock_filter(int packet_fd)
{
	int on = 1;
	sys_setsockopt(packet_fd, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof on);
}

int classifier_open(struct classifier **out, enum classifier_choice choice, int ifindex, int packet_fd, bool has_eth, char *why,
		    size_t why_len)
{
	int err = open_backend(out, choice, ifindex, packet_fd, has_eth, why, why_len);
	if (err == 0)
		lock_filter(packet_fd);
	return err;
}

int classifier_put(struct classifier *c, int ifindex, int place, int packet_fd, bool has_eth)
{
	int err = classifier_ebpf_put(c, ifindex, place, packet_fd, has_eth);
	if (err == 0)
		lock_filter(packet_fd);
	return err;
}

int classifier_open_own(struct classifier **out, const struct classifier_own *own, int ifindex, int packet_fd, bool has_eth, char *why, size_t why_len)
{
	int err = classifier_own_open(out, own, ifindex, packet_fd, has_eth, why, why_len);
	if (err == 0)
		lock_filter(packet_fd);
	return err;
}

int classifier_attach(struct classifier *c, int ifindex, int packet_fd, bool has_eth, char *why, size_t why_len)
{
	int err = c->ops->attach(c, ifindex, packet_fd, has_eth, why, why_len);
	if (err == 0)
		lock_filter(packet_fd);
	return err;
}

void classifier_detach(struct classifier *c, int ifindex)
{
	c->ops->detach(c, ifindex);
}

int classifier_take_attachment(struct classifier *c, int ifindex)
{
	return c->ops->take_attachment ? c->ops->take_attachment(c, ifindex) : -1;
}

/* Its maps go with the classifier's. */
static void leave_group(struct classifier_group *g)
{
	classifier_group_leave_slot(g);
	classifier_group_forget(g);
}

static void end(struct classifier *c, void (*end_group)(struct classifier_group *g), void (*free_it)(struct classifier *c))
{
	c->n_listeners = 0; /* nothing is published any more */
	while (c->groups)
		end_group(c->groups);
	zeroed_free(c->addrs, c->n_addrs * sizeof *c->addrs);
	free(c->listeners);
	free_it(c);
}

void classifier_close(struct classifier *c)
{
	if (c)
		end(c, leave_group, c->ops->close);
}

void classifier_forget(struct classifier *c)
{
	if (c)
		end(c, classifier_group_forget, c->ops->forget ? c->ops->forget : c->ops->close);
}

int classifier_fds(const struct classifier *c, int fds[CLASSIFIER_FDS])
{
	if (c->ops == &classifier_socket_ops)
		return 0;
	int err = c->ops == &classifier_ebpf_ops ? classifier_ebpf_fds(c, fds) : -EOPNOTSUPP;
	return err ? err : CLASSIFIER_FDS;
}

int classifier_adopt(struct classifier **out, const int fds[CLASSIFIER_FDS], int ifindex, bool has_eth)
{
	return fds[0] < 0 ? classifier_socket_adopt(out, ifindex) : classifier_ebpf_adopt(out, fds, ifindex, has_eth);
}

const char *classifier_backend(const struct classifier *c)
{
	return c->ops->name;
}

bool classifier_is_exact(const struct classifier *c)
{
	return c->ops->is_exact;
}

int classifier_set_judge(struct classifier *c, const struct judge *j)
{
	int err = c->ops->set_judge ? 0 : -EOPNOTSUPP;
	c->judge = j;
	for (struct classifier_group *g = c->groups; g && !err; g = g->next)
		err = classifier_group_join_judge(g);
	if (!err)
		err = c->ops->set_judge(c, j ? judge_asked_map(j) : -1);
	if (err)
		c->judge = NULL;
	return err;
}

void classifier_open_ports(struct classifier *c, bool v6, uint16_t first, unsigned n, const uint8_t *bits)
{
	if (c->ops->open_ports)
		c->ops->open_ports(c, v6, first, n, bits);
}

bool classifier_is_open(const struct classifier *c, bool v6, uint16_t port)
{
	return c->ops->is_open && c->ops->is_open(c, v6, port);
}

void classifier_name_sources(struct classifier *c, bool v6, const struct named_sources *named, bool also)
{
	struct named_sources *in = c->ops->named ? c->ops->named(c, v6) : NULL;
	const uint8_t *from = (const void *)named;
	uint8_t *to = (void *)in;
	for (size_t i = 0; in && i < sizeof *in; i++) {
		uint8_t bits = (from ? from[i] : 0) | (also ? to[i] : 0);
		if (to[i] != bits)
			__atomic_store_n(&to[i], bits, __ATOMIC_RELEASE);
	}
}

bool classifier_names(const struct classifier *c, const struct ip_addr *source)
{
	const struct named_sources *in = c->ops->named ? c->ops->named(c, !ip_addr_is_v4(source)) : NULL;
	return in && named_has(in, source);
}

bool classifier_names_others(const struct classifier *c, bool v6, const struct named_sources *than)
{
	const struct named_sources *in = c->ops->named ? c->ops->named(c, v6) : NULL;
	const uint8_t *has = (const void *)in, *known = (const void *)than;
	for (size_t i = 0; in && i < sizeof *in; i++)
		if (has[i] & ~(known ? known[i] : 0))
			return true;
	return false;
}

void classifier_note_cookies(struct classifier *c, int64_t until_us)
{
	if (c->ops->note_cookies)
		c->ops->note_cookies(c, until_us);
}

/* ---- addresses ---- */

bool classifier_has_address(const struct ip_addr *set, size_t n, const struct ip_addr *a)
{
	for (size_t i = 0; i < n; i++)
		if (ip_addr_equal(&set[i], a))
			return true;
	return false;
}

int classifier_set_addresses(struct classifier *c, const struct ip_addr *addrs, size_t n)
{
	struct ip_addr *copy = n ? zeroed_new(n * sizeof *copy) : NULL; /* at the process's end, in a signal handler, malloc's lock may be held */
	if (n && !copy)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		copy[i] = addrs[i];
	int err = c->ops->set_addresses(c, copy, n);
	if (err < 0) {
		zeroed_free(copy, n * sizeof *copy);
		return err;
	}
	zeroed_free(c->addrs, c->n_addrs * sizeof *c->addrs);
	c->addrs = copy;
	c->n_addrs = n;
	return 0;
}

/* ---- listeners ---- */

bool classifier_is_wildcard(const struct ip_addr *addr)
{
	return ip_addr_is_any(addr) || ip_addr_equal(addr, &classifier_any_v6only);
}

bool classifier_claims(const struct ip_addr *of, const struct ip_addr *addr)
{
	if (ip_addr_equal(of, &classifier_any_v6only))
		return !ip_addr_is_v4(addr);
	if (ip_addr_is_any(of))
		return ip_addr_is_v4(addr) || !ip_addr_is_v4(of);
	return ip_addr_equal(of, addr);
}

struct listener *classifier_find_listener(struct classifier *c, const struct ip_addr *addr, uint16_t port)
{
	for (size_t i = 0; i < c->n_listeners; i++)
		if (c->listeners[i].port == port && ip_addr_equal(&c->listeners[i].addr, addr))
			return &c->listeners[i];
	return NULL;
}

int classifier_add_listener_of(struct classifier *c, struct classifier_group *g, const struct ip_addr *addr, uint16_t port)
{
	struct listener *l = classifier_find_listener(c, addr, port);
	if (l && l->group != g)
		return -EEXIST;
	if (l) {
		l->refs++;
		return 0;
	}
	if (c->n_listeners == c->cap_listeners) {
		size_t cap = c->cap_listeners ? c->cap_listeners * 2 : 8;
		struct listener *bigger = realloc(c->listeners, cap * sizeof *bigger);
		if (!bigger)
			return -ENOMEM;
		c->listeners = bigger;
		c->cap_listeners = cap;
	}
	c->listeners[c->n_listeners++] = (struct listener){.addr = *addr, .port = port, .refs = 1, .group = g};
	int err = c->ops->add_listener(c, addr, port);
	if (err < 0)
		c->n_listeners--;
	return err;
}

int classifier_add_listener(struct classifier *c, const struct ip_addr *addr, uint16_t port)
{
	struct listener *l = classifier_find_listener(c, addr, port);
	return classifier_add_listener_of(c, l ? l->group : NULL, addr, port);
}

int classifier_del_listener(struct classifier *c, const struct ip_addr *addr, uint16_t port)
{
	struct listener *l = classifier_find_listener(c, addr, port);
	if (!l)
		return -ENOENT;
	if (--l->refs > 0)
		return 0;
	struct ip_addr gone = l->addr; /* `addr` may be in the list */
	*l = c->listeners[--c->n_listeners];
	return c->ops->del_listener(c, &gone, port);
}

/* ---- exact flows ---- */

int classifier_add_flow(struct classifier *c, const struct flow_key *key)
{
	return c->ops->add_flow(c, SET_FLOWS, key);
}

int classifier_del_flow(struct classifier *c, const struct flow_key *key)
{
	return c->ops->del_flow(c, SET_FLOWS, key);
}

void classifier_del_flows(struct classifier *c, const struct flow_key *keys, size_t n)
{
	if (n > 1 && c->ops->del_flows) {
		c->ops->del_flows(c, keys, n);
		return;
	}
	for (size_t i = 0; i < n; i++)
		c->ops->del_flow(c, SET_FLOWS, &keys[i]);
}

void classifier_flows_stay(struct classifier *c, const struct flow_key *keys, size_t n)
{
	if (c->ops->flows_stay)
		c->ops->flows_stay(c, keys, n);
}

int classifier_add_exception(struct classifier *c, const struct flow_key *key)
{
	return c->ops->add_flow(c, SET_EXCEPTIONS, key);
}

int classifier_del_exception(struct classifier *c, const struct flow_key *key)
{
	return c->ops->del_flow(c, SET_EXCEPTIONS, key);
}

/* ---- SYNs that wait for the engine ---- */

void classifier_looked(struct classifier *c)
{
	if (c->ops->looked)
		c->ops->looked(c);
}

bool classifier_has_given(struct classifier *c)
{
	return c->ops->has_given && c->ops->has_given(c);
}

void classifier_visit_given(struct classifier *c, struct classifier_given *v)
{
	if (c->ops->visit_given)
		c->ops->visit_given(c, v);
}

void classifier_count_conn(struct classifier *c, const struct flow_key *key, int by)
{
	if (c->ops->count_conn)
		c->ops->count_conn(c, key, by);
}

/* ---- the kernel's own sockets ---- */

int classifier_silence(struct classifier *c, int listening_fd, const struct ip_addr *addr, uint16_t port, enum silence_begin how)
{
	return c->ops->silence ? c->ops->silence(c, listening_fd, addr, port, how) : 0;
}

bool classifier_is_silenced(const struct classifier *c, int listening_fd)
{
	return c->ops->silence && silent_filter_is_there(listening_fd);
}

void classifier_end_silence(struct classifier *c, int listening_fd, enum silence_end how)
{
	if (c->ops->end_silence)
		c->ops->end_silence(c, listening_fd, how);
}

void classifier_accepted(const struct classifier *c, int listening_fd, bool listener_is_kernels, int fd)
{
	bool is_programs = listener_is_kernels && silent_filter_is_there(listening_fd);
	if ((c->ops->silence || c->judge) && !is_programs)
		silent_filter_remove(fd);
}

void classifier_let_go(struct classifier *c)
{
	if (c->ops->let_go)
		c->ops->let_go(c);
}

int classifier_hold_port(struct classifier *c, const struct ip_addr *addr, uint16_t port)
{
	return c->ops->hold_port ? c->ops->hold_port(c, addr, port) : 0;
}

bool classifier_holds_ports(const struct classifier *c)
{
	return c->ops->hold_port;
}

bool classifier_is_silent(const struct classifier *c, const struct flow_key *key)
{
	return c->ops->is_silent && c->ops->is_silent(c, key);
}
