/* Options of the kernel's sockets, a system call each. Thread-safe. */
#ifndef FINESSE_BASE_SOCKOPT_H
#define FINESSE_BASE_SOCKOPT_H

#include <stdint.h>
#include <sys/socket.h>

#include "base/sys.h"

/* -1: it has none such, or is no socket. */
static inline int sockopt_int(int fd, int level, int name)
{
	int v = 0;
	socklen_t len = sizeof v;
	return sys_getsockopt(fd, level, name, &v, &len) ? -1 : v;
}

/* 0 or -errno. */
static inline int sockopt_set_int(int fd, int level, int name, int value)
{
	return sys_setsockopt(fd, level, name, &value, sizeof value);
}

/* SO_COOKIE: names the socket, whoever has it. 0: it is none. */
static inline uint64_t sockopt_cookie(int fd)
{
	uint64_t v = 0;
	socklen_t len = sizeof v;
	return sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &v, &len) ? 0 : v;
}

#endif
