/*
 * The spare queue: accepted by the peer, by nobody here.
 *
 * A pair of AF_UNIX sockets that all processes of a listening port hold. It is made before there can be a second one:
 * at fork, when a group begins, and before an exec that passes the listener on (spare_exec.c). Where a message of the
 * program's passes it (SCM_RIGHTS), the broker hands it on (broker_passed.c). Connections that may be accepted go from
 * spare[0] to spare[1], which all who accept watch. The other way go those that TCP_DEFER_ACCEPT holds back
 * (claim_deferred.c).
 *
 * The kernel keeps what is in it, and ends those connections when the last process is gone, as it does with a listening
 * socket's own queue. Where that process has closed its listeners and goes on with its connections, it ends them itself
 * (claim_spare.c).
 */
#include "process/group.h"

#include "base/fd.h"
#include "base/fd_pass.h"
#include "base/sys.h"

#include <errno.h>
#include <sys/socket.h>

int group_spare_make(struct group *g)
{
	int pair[2], room = 1 << 20; /* bytes; the kernel counts some hundreds for each */
	if (g->spare[0] >= 0)
		return 0;
	int err = sys_socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair);
	if (err)
		return err;
	for (unsigned i = 0; i < 2; i++)
		sys_setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
	g->spare[0] = fd_move_high(pair[0]);
	g->spare[1] = fd_move_high(pair[1]);
	if (g->spare[0] < 0 || g->spare[1] < 0) {
		fd_close(g->spare[0]);
		fd_close(g->spare[1]);
		g->spare[0] = g->spare[1] = -1;
		return -EMFILE;
	}
	g->host->has_spare(g->host);
	return 0;
}

int group_spare_give(struct group *g, int fd)
{
	static const char byte;
	return g->spare[0] < 0 ? -ENOTCONN : fd_pass_send(g->spare[0], &byte, 1, &fd, 1, MSG_DONTWAIT);
}

static bool has_message(int fd)
{
	char byte;
	return fd >= 0 && sys_recvfrom(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL) > 0;
}

bool group_spare_has(const struct group *g)
{
	return has_message(g->spare[1]);
}

bool group_spare_has_any(const struct group *g)
{
	return has_message(g->spare[1]) || has_message(g->spare[0]);
}

int group_spare_take(struct group *g)
{
	char byte;
	int fd = -1;
	unsigned n = 1;
	if (g->spare[1] < 0)
		return -EAGAIN;
	int r = fd_pass_receive(g->spare[1], &byte, 1, &fd, &n, MSG_DONTWAIT);
	return r < 0 ? r : n ? fd : -EAGAIN;
}

int group_spare_defer(struct group *g, int fd, int64_t until_us)
{
	return g->spare[1] < 0 ? -ENOTCONN : fd_pass_send(g->spare[1], &until_us, sizeof until_us, &fd, 1, MSG_DONTWAIT);
}

int group_spare_take_deferred(int from, int64_t *until_us)
{
	int fd = -1;
	unsigned n = 1;
	ssize_t r = fd_pass_receive_surely(from, until_us, sizeof *until_us, &fd, &n, MSG_DONTWAIT);
	if (r < 0)
		return (int)r;
	return r == sizeof *until_us && n ? fd_move_high(fd) : -EAGAIN;
}

void group_spare_empty(struct group *g)
{
	int64_t until_us;
	int fd;
	while ((fd = group_spare_take(g)) >= 0)
		sys_close(fd);
	while ((fd = group_spare_take_deferred(g->spare[0], &until_us)) >= 0)
		fd_close(fd);
}
