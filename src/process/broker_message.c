/* What the broker and its members send each other: one message with its descriptors, the variable's value, the address. */
#include "process/broker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "base/sys.h"

union control {
	char buf[CMSG_SPACE(BROKER_FDS_MAX * sizeof(int))];
	struct cmsghdr align;
};

int broker_send(int fd, const void *msg, size_t len, const struct broker_fds *fds, int flags)
{
	struct iovec iov = {.iov_base = (void *)msg, .iov_len = len};
	union control control;
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
	memset(&control, 0, sizeof control);
	if (fds && fds->n) {
		h.msg_control = control.buf;
		h.msg_controllen = CMSG_SPACE(fds->n * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fds->n * sizeof(int));
		memcpy(CMSG_DATA(c), fds->fd, fds->n * sizeof(int));
	}
	ssize_t n;
	do
		n = sys_sendmsg(fd, &h, flags | MSG_NOSIGNAL);
	while (n == -EINTR);
	return n < 0 ? (int)n : 0;
}

long broker_receive(int fd, void *msg, size_t len, struct broker_fds *fds, int flags)
{
	struct iovec iov = {.iov_base = msg, .iov_len = len};
	union control control;
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof control.buf};
	ssize_t n;
	fds->n = 0;
	do
		n = sys_recvmsg(fd, &h, flags | MSG_CMSG_CLOEXEC);
	while (n == -EINTR);
	if (n < 0)
		return n;
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		fds->n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds->fd, CMSG_DATA(c), fds->n * sizeof(int));
	}
	return n;
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool broker_parse(const char *value, char name[BROKER_NAME_LEN + 1], uint8_t token[BROKER_TOKEN_BYTES])
{
	if (!value || strlen(value) != BROKER_VALUE_LEN)
		return false;
	for (int i = 0; i < BROKER_VALUE_LEN; i++)
		if (digit(value[i]) < 0)
			return false;
	memcpy(name, value, BROKER_NAME_LEN);
	name[BROKER_NAME_LEN] = 0;
	const char *t = value + BROKER_NAME_LEN;
	for (int i = 0; i < BROKER_TOKEN_BYTES; i++)
		token[i] = digit(t[2 * i]) << 4 | digit(t[2 * i + 1]);
	return true;
}

unsigned broker_address(const char *name, struct sockaddr_un *out)
{
	memset(out, 0, sizeof *out);
	out->sun_family = AF_UNIX;
	int n = snprintf(out->sun_path + 1, sizeof out->sun_path - 1, "%s%s", BROKER_NAME_PREFIX, name);
	return offsetof(struct sockaddr_un, sun_path) + 1 + n;
}
