/* The messages of a group's members, and the names that the kernel keeps for them. */
#include "process/group.h"

#include "base/sys.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

union fds_room {
	char buf[CMSG_SPACE(GROUP_FDS * sizeof(int))];
	struct cmsghdr align;
};

int group_send(int fd, const void *msg, size_t len, const int *fds, unsigned n_fds)
{
	struct iovec iov = {(void *)msg, len};
	union fds_room room;
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
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
	ssize_t n = sys_sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n < 0 ? (int)n : 0;
}

int group_receive(int fd, void *msg, size_t len, int *fds, unsigned *n_fds)
{
	struct iovec iov = {msg, len};
	union fds_room room;
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room.buf, .msg_controllen = sizeof room.buf};
	unsigned max = *n_fds, got = 0;
	*n_fds = 0;
	ssize_t n = sys_recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return n;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		unsigned count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (unsigned i = 0; i < count; i++) {
			int one;
			memcpy(&one, CMSG_DATA(c) + i * sizeof one, sizeof one);
			if (got < max)
				fds[got++] = one;
			else
				sys_close(one);
		}
	}
	*n_fds = got;
	return n;
}

static unsigned name_done(struct sockaddr_un *out, int n)
{
	return offsetof(struct sockaddr_un, sun_path) + 1 + n;
}

unsigned group_listen_name(const struct group_place *p, struct sockaddr_un *out)
{
	char addr[IP_ADDR_STRLEN];
	*out = (struct sockaddr_un){.sun_family = AF_UNIX};
	return name_done(out, snprintf(out->sun_path + 1, sizeof out->sun_path - 1, "finesse/listen/%s%s/%u", ip_addr_format(&p->addr, addr),
				       p->family == AF_INET ? "" : p->v6only ? "/6" : "/46", p->port));
}

unsigned group_slot_name(uint64_t id, unsigned slot, struct sockaddr_un *out)
{
	*out = (struct sockaddr_un){.sun_family = AF_UNIX};
	return name_done(out, snprintf(out->sun_path + 1, sizeof out->sun_path - 1, "finesse/member/%016" PRIx64 "/%u", id, slot));
}
