/*
 * bind(2) on a connection.
 *
 * While it has a port the answer is an error, and which one is the kernel's word: it judges the address before it looks
 * at the socket, so a fresh socket with the connection's options is asked. A connection that is over has lost its port,
 * unless bind was called with that port: there bind works, as on Linux, though nothing but getsockname will ever tell.
 * A kernel socket has the port then: that of the program's fd; or a fresh one, where that fd is no TCP socket (an
 * accepted connection) or has a port still.
 */
#include "socket/engine.h"

#include "base/fd.h"
#include "base/sys.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#define PORTS_RESERVED 1024 /* below, a port may need privilege: the address is judged with it */

/*
 * It judges an address; any free port does as well as the one asked for, which may be in use and is not looked at so
 * soon.
 */
static int judge(const struct sock *s, int fd, const struct sockaddr *addr, socklen_t len)
{
	struct sockaddr_storage a = {0};
	struct sockaddr_in *in = (void *)&a; /* the port of both families lies there */
	memcpy(&a, addr, len);
	if (ntohs(in->sin_port) >= PORTS_RESERVED)
		in->sin_port = 0;
	int r = sys_bind(fd, &a, len);
	bool soon = r == -EFAULT || r == -EAFNOSUPPORT || r == -EACCES || (r == -EADDRNOTAVAIL && s->family == AF_INET);
	return soon ? r : -EINVAL;
}

static int bind_again(struct sock *s, int fd, int fresh, const struct sockaddr *addr, socklen_t len)
{
	int by = s->accepted || s->was_bound ? fresh : fd;
	int r = sys_bind(by, addr, len);
	if (r < 0)
		return r;
	r = fd_copy_high(by);
	if (r < 0)
		return r;
	fd_close(s->port_fd);
	s->port_fd = r;
	s->bound_again = true;
	return 0;
}

static bool has_port(const struct sock *s)
{
	enum tcp_state state = tcp_state(&s->tcp);
	return s->bound_again || (s->was_bound && s->port_chosen) || (state != TCPS_CLOSED && state != TCPS_TIME_WAIT);
}

int sock_bind(struct sock *s, int fd, const struct sockaddr *addr, socklen_t len)
{
	struct candidate unused;
	int fresh = sock_twin(s, &unused);
	if (fresh < 0)
		return fresh;
	turn_enter(s->engine);
	int r = -EBADF;
	if (s->kind == SOCK_KIND_CONN)
		r = has_port(s) ? judge(s, fresh, addr, len) : bind_again(s, fd, fresh, addr, len);
	turn_leave(s->engine);
	sys_close(fresh);
	return r;
}
