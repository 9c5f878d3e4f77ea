/*
 * What the broker and its members send each other: one message with its descriptors, the variable's value, the address.
 */
#include "process/broker.h"

#include <string.h>

#include "base/abstract.h"
#include "base/fd_pass.h"

_Static_assert(BROKER_FDS_MAX <= FD_PASS_MAX, "one message gives a link");

int broker_send(int fd, const void *msg, size_t len, const struct broker_fds *fds, int flags)
{
	return fd_pass_send(fd, msg, len, fds ? fds->fd : NULL, fds ? fds->n : 0, flags);
}

long broker_receive(int fd, void *msg, size_t len, struct broker_fds *fds, int flags)
{
	unsigned n_fds = BROKER_FDS_MAX;
	ssize_t n = fd_pass_receive(fd, msg, len, fds->fd, &n_fds, flags);
	fds->n = n_fds;
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
	return abstract_name(out, BROKER_NAME_PREFIX "%s", name);
}
