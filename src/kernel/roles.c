#include "kernel/roles.h"

#include "base/fd.h"
#include "base/sys.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

union any_addr {
	struct sockaddr sa;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* A socket that was a client, and is none any more. -errno: there is no way to `local`, or it is not the kernel's. */
static int make_former_client(const struct ip_addr *local)
{
	union any_addr a = {.sa = {.sa_family = AF_INET}};
	socklen_t len = sizeof a.v4;
	if (ip_addr_is_v4(local)) {
		memcpy(&a.v4.sin_addr, local->b + 12, sizeof a.v4.sin_addr);
	} else {
		a.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6};
		memcpy(&a.v6.sin6_addr, local->b, sizeof a.v6.sin6_addr);
		len = sizeof a.v6;
	}
	int fd = fd_move_high(sys_socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
	if (fd < 0)
		return fd;
	int err = sys_bind(fd, &a, len);
	if (!err)
		err = sys_getsockname(fd, &a, &len);
	if (!err)
		err = sys_connect(fd, &a, len);
	if (!err || err == -EINPROGRESS)
		err = sys_connect(fd, &(struct sockaddr){.sa_family = AF_UNSPEC}, sizeof(struct sockaddr));
	if (!err)
		return fd;
	fd_close(fd);
	return err;
}

bool roles_are_kept(const struct ip_addr *local)
{
	static const uint8_t loopback[4] = {127, 0, 0, 1};
	static bool asked, kept;
	if (asked)
		return kept;
	struct ip_addr lo = ip_addr_from_v4(loopback);
	int fd = make_former_client(&lo);
	if (fd < 0 && !ip_addr_is_any(local))
		fd = make_former_client(local);
	if (fd < 0)
		return false;
	kept = sys_listen(fd, 0) == -EINVAL;
	asked = true;
	fd_close(fd);
	return kept;
}

void roles_take_port(int fd)
{
	union any_addr own;
	socklen_t len = sizeof own;
	if (sys_getsockname(fd, &own, &len) < 0)
		return;
	own.v4.sin_port = 0; /* of both families it lies there. A name may tell a port that the socket has lost */
	sys_bind(fd, &own, len);
}
