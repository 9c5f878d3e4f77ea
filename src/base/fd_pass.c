#include "base/fd_pass.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/sys.h"

union room {
	char buf[CMSG_SPACE(FD_PASS_MAX * sizeof(int))];
	struct cmsghdr align;
};

int fd_pass_send(int sock, const void *msg, size_t len, const int *fds, unsigned n_fds, int flags)
{
	struct iovec iov = {(void *)msg, len};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	union room room;
	assert(n_fds <= FD_PASS_MAX);
	memset(&room, 0, sizeof room);
	if (n_fds) {
		m.msg_control = room.buf;
		m.msg_controllen = CMSG_SPACE(n_fds * sizeof *fds);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof *fds);
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof *fds);
	}
	ssize_t n;
	do
		n = sys_sendmsg(sock, &m, flags | MSG_NOSIGNAL);
	while (n == -EINTR);
	return n < 0 ? (int)n : 0;
}

struct receive_args {
	int sock, flags, *fds;
	void *msg;
	size_t len;
	unsigned *n_fds;
};

/* With a number that is held for it until then. */
static long make_received(void *arg)
{
	struct receive_args *a = arg;
	int copy = sys_fcntl(a->sock, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return copy;
	sys_close(copy);
	return fd_pass_receive(a->sock, a->msg, a->len, a->fds, a->n_fds, a->flags);
}

ssize_t fd_pass_receive_surely(int sock, void *msg, size_t len, int *fds, unsigned *n_fds, int flags)
{
	struct receive_args a = {sock, flags, fds, msg, len, n_fds};
	return fd_make(make_received, &a);
}

ssize_t fd_pass_receive(int sock, void *msg, size_t len, int *fds, unsigned *n_fds, int flags)
{
	struct iovec iov = {msg, len};
	union room room;
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room.buf, .msg_controllen = sizeof room.buf};
	unsigned max = *n_fds;
	ssize_t n;
	*n_fds = 0;
	do
		n = sys_recvmsg(sock, &m, flags | MSG_CMSG_CLOEXEC | MSG_TRUNC);
	while (n == -EINTR);
	if (n < 0)
		return n;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		unsigned count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (unsigned i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (*n_fds < max)
				fds[(*n_fds)++] = fd;
			else
				sys_close(fd);
		}
	}
	if (m.msg_flags & MSG_CTRUNC)
		while (*n_fds)
			sys_close(fds[--*n_fds]);
	return n;
}
