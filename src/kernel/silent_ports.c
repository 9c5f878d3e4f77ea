/*
 * Silent ports: the sockets that hold them, and where those are kept.
 *
 * A process with many connections to one place needs as many ports, and a descriptor for each would take numbers from
 * the program. So the sockets are sent to ourselves, PARK_AT_ONCE in a message, and stay in a socket pair's queue: they
 * live there without a number, and die with the pair. Nobody receives them.
 *
 * Limits: the kernel allows RLIMIT_NOFILE descriptors in flight for each user, and as many messages as the pair's
 * buffer holds (some 270). Beyond, the port is not held, and the connection is the kernel's.
 */
#include "kernel/silent_ports.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/fd_pass.h"
#include "base/sys.h"
#include "kernel/silent_filter.h"

#define BUCKETS      1024u
#define PARK_AT_ONCE FD_PASS_MAX

struct silent_port {
	struct silent_port *next;
	struct ip_addr addr;
	uint16_t port;
};

struct silent_ports {
	struct silent_port *buckets[BUCKETS]; /* by port */
	int waiting[PARK_AT_ONCE]; /* internal descriptors, until they are parked */
	unsigned n_waiting;
	int park[2]; /* -1: not made yet */
};

struct silent_ports *silent_ports_open(void)
{
	struct silent_ports *p = calloc(1, sizeof *p);
	if (p)
		p->park[0] = p->park[1] = -1;
	return p;
}

void silent_ports_close(struct silent_ports *p)
{
	if (!p)
		return;
	for (unsigned i = 0; i < BUCKETS; i++)
		for (struct silent_port *next, *at = p->buckets[i]; at; at = next) {
			next = at->next;
			free(at);
		}
	for (unsigned i = 0; i < p->n_waiting; i++)
		fd_close(p->waiting[i]);
	fd_close(p->park[0]);
	fd_close(p->park[1]);
	free(p);
}

bool silent_ports_has(const struct silent_ports *p, const struct ip_addr *addr, uint16_t port)
{
	for (const struct silent_port *at = p->buckets[port % BUCKETS]; at; at = at->next)
		if (at->port == port && ip_addr_equal(&at->addr, addr))
			return true;
	return false;
}

/* A socket that listens there, and swallows all from before it does. */
static int listen_silently(const struct ip_addr *addr, uint16_t port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	bool is_v4 = ip_addr_is_v4(addr);
	memcpy(&v4.sin_addr, addr->b + 12, sizeof v4.sin_addr);
	memcpy(&v6.sin6_addr, addr->b, sizeof v6.sin6_addr);
	int fd = sys_socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	if (fd < 0)
		return fd;
	int err = silent_filter_attach_all(fd);
	if (!err)
		err = is_v4 ? sys_bind(fd, &v4, sizeof v4) : sys_bind(fd, &v6, sizeof v6);
	if (!err)
		err = sys_listen(fd, 0);
	if (!err)
		return fd_move_high(fd);
	sys_close(fd);
	return err;
}

static int make_park(struct silent_ports *p)
{
	int pair[2];
	int err = sys_socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair);
	if (err < 0)
		return err;
	p->park[0] = fd_move_high(pair[0]);
	p->park[1] = fd_move_high(pair[1]);
	return p->park[0] < 0 ? p->park[0] : p->park[1] < 0 ? p->park[1] : 0;
}

static int park(struct silent_ports *p)
{
	int err = p->park[0] < 0 ? make_park(p) : 0;
	char byte = 0;
	if (!err)
		err = fd_pass_send(p->park[0], &byte, sizeof byte, p->waiting, p->n_waiting, MSG_DONTWAIT);
	if (err < 0)
		return err;
	while (p->n_waiting)
		fd_close(p->waiting[--p->n_waiting]);
	return 0;
}

int silent_ports_hold(struct silent_ports *p, const struct ip_addr *addr, uint16_t port)
{
	int err = 0;
	if (silent_ports_has(p, addr, port))
		return 0;
	if (p->n_waiting == PARK_AT_ONCE)
		err = park(p);
	struct silent_port *s = err ? NULL : calloc(1, sizeof *s);
	if (!s)
		return err ? err : -ENOMEM;
	int fd = listen_silently(addr, port);
	if (fd < 0) {
		free(s);
		return fd;
	}
	p->waiting[p->n_waiting++] = fd;
	*s = (struct silent_port){.next = p->buckets[port % BUCKETS], .addr = *addr, .port = port};
	p->buckets[port % BUCKETS] = s;
	return 0;
}
