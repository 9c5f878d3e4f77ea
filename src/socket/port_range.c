/*
 * IP_LOCAL_PORT_RANGE: the local port of a client comes out of a range that the program chose, which lies in the
 * kernel's (as Linux: what is outside of net.ipv4.ip_local_port_range counts for nothing, and what is in
 * net.ipv4.ip_local_reserved_ports is left out).
 *
 * The kernel would give the same ports to others. So a kernel socket is bound to each that is chosen, which the
 * connection keeps (sock.port_fd), and then its TIME-WAIT (taken_ports.c). Connections of this process to several
 * destinations share it, as they share the port in Linux; other processes find it taken, and so does the kernel. That
 * is stricter than Linux, where 4-tuples alone count. A range of which others have PORTS_ASKED ports is the kernel's to
 * choose from.
 *
 * The socket classifier cannot keep the kernel from a port outside of our leases: there the kernel serves the socket
 * (connect.c).
 */
#include "socket/port_range.h"

#include "base/fd.h"
#include "base/sys.h"
#include "socket/engine.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#define PORTS_ASKED 64 /* of the kernel, one after the other */

bool port_range_of(int kfd, const struct candidate *c, struct port_range *out)
{
	uint32_t value = 0;
	socklen_t len = sizeof value;
	*out = (struct port_range){0};
	if (!options_may_be_set(c, OPTION_IP_LOCAL_PORT_RANGE) || sys_getsockopt(kfd, IPPROTO_IP, option_table[OPTION_IP_LOCAL_PORT_RANGE].number, &value, &len) || !value)
		return false;
	uint16_t first = value & UINT16_MAX, last = value >> 16;
	struct port_range all;
	ports_kernels(&all.first, &all.last);
	*out = all;
	if (first >= all.first && first <= all.last)
		out->first = first;
	if (last >= all.first && last <= all.last)
		out->last = last;
	return true;
}

/* Another connection of this process may hold it; a copy of its descriptor, or -1. */
static int share(struct engine *e, const struct flow_key *key)
{
	list_for_each (pos, tmp, &e->socks) {
		const struct sock *s = container_of(pos, struct sock, node);
		if (s->kind == SOCK_KIND_CONN && s->port_fd >= 0 && !s->was_bound && !s->bound_again && s->flow.key.lport == key->lport &&
		    ip_addr_equal(&s->flow.key.laddr, &key->laddr))
			return fd_copy_high(s->port_fd);
	}
	int fd = taken_ports_fd(e, &key->laddr, key->lport);
	return fd < 0 ? -1 : fd_copy_high(fd);
}

static int hold(struct engine *e, int family, const struct flow_key *key)
{
	struct sockaddr_storage name;
	socklen_t len = sizeof name;
	int fd = fd_move_high(sys_socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
	if (fd < 0)
		return fd;
	name_from_addr(e, family, &key->laddr, key->lport, (struct sockaddr *)&name, &len);
	int err = sys_bind(fd, &name, len);
	if (!err)
		return fd;
	fd_close(fd);
	fd = share(e, key);
	return fd >= 0 ? fd : err;
}

static int pick(struct engine *e, const struct port_range *r, const uint64_t *reserved, int family, struct flow_key *key, struct ports_in_use *u, int *port_fd)
{
	uint32_t n = r->last >= r->first ? r->last - r->first + 1 : 0, start = tcp_random(&e->tcp);
	unsigned asked = 0;
	for (uint32_t i = 0; i < n; i++) {
		key->lport = r->first + (start + i) % n;
		if ((reserved[key->lport / 64] >> key->lport % 64 & 1) || u->in_use(u, key))
			continue;
		int fd = hold(e, family, key);
		if (fd >= 0) {
			fd_close(*port_fd); /* one that was chosen before this one */
			*port_fd = fd;
			return 0;
		}
		if (++asked == PORTS_ASKED)
			break;
	}
	return asked ? -EADDRINUSE : -EADDRNOTAVAIL;
}

int port_range_pick(struct engine *e, const struct port_range *r, int family, struct flow_key *key, struct ports_in_use *u, int *port_fd)
{
	uint64_t *reserved = calloc(PORTS_SET_WORDS, sizeof *reserved); /* too large for a thread's small stack */
	int err = reserved ? ports_reserved(reserved) : -ENOMEM;
	if (!err)
		err = pick(e, r, reserved, family, key, u, port_fd);
	free(reserved);
	return err;
}
