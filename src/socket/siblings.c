/*
 * Listeners of one port that share it by SO_REUSEPORT. Linux spreads clients over all of them, or by a program of
 * theirs (SO_ATTACH_REUSEPORT_CBPF). The engine takes a port as a whole: a socket that the kernel serves, beside one
 * that the engine serves, would get no client. So where one is the kernel's because of an option, the others of this
 * process are its, too: those that the engine serves already, and those that listen later.
 *
 * The engine does not know the kernel's sockets. It remembers the cookies of the last ones that it gave up, and asks
 * the kernel whether they still listen. (Of other processes' sockets it knows nothing. Whose option it is decides for
 * its own process alone.)
 */
#include "socket/engine.h"
#include "socket/listener.h"

#include "base/sockopt.h"
#include "kernel/diag.h"

static bool shares_port(int kfd)
{
	return kernel_int(kfd, SOL_SOCKET, SO_REUSEPORT);
}

static struct sock *sibling_served(struct engine *e, const struct sibling *of)
{
	list_for_each (pos, tmp, &e->listeners) {
		struct listener *lst = container_of(pos, struct listener, node);
		if (lst->port == of->port && ip_addr_equal(&lst->addr, &of->addr) && sockopt_cookie(lst->kfd) != of->cookie && shares_port(lst->kfd))
			return lst->owner;
	}
	return NULL;
}

void siblings_follow(struct engine *e, int kfd, const char *why)
{
	struct sibling given = {.cookie = sockopt_cookie(kfd)};
	struct sock *l;
	int family;
	if (!shares_port(kfd) || !given.cookie || name_of_kernel(kfd, &given.addr, &given.port, &family))
		return;
	e->siblings[e->sibling_next++ % SIBLINGS_MAX] = given;
	while ((l = sibling_served(e, &given)))
		listener_to_kernel(e, l, why);
}

struct sibling_search {
	struct diag_visit visit;
	const struct engine *e;
	const struct ip_addr *addr;
	uint16_t port;
	bool found;
};

static void on_listener(struct diag_visit *v, const struct diag_socket *s)
{
	struct sibling_search *w = container_of(v, struct sibling_search, visit);
	uint64_t cookie = s->cookie[0] | (uint64_t)s->cookie[1] << 32;
	for (int i = 0; i < SIBLINGS_MAX && !w->found; i++) {
		const struct sibling *g = &w->e->siblings[i];
		w->found = g->cookie == cookie && g->port == w->port && ip_addr_equal(&g->addr, w->addr);
	}
}

bool siblings_refuse(struct engine *e, int kfd, const struct ip_addr *addr, uint16_t port)
{
	struct sibling_search w = {.visit.socket = on_listener, .e = e, .addr = addr, .port = port};
	if (e->sibling_next && shares_port(kfd))
		diag_dump_listeners(port, &w.visit);
	return w.found;
}
