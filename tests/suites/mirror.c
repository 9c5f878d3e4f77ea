/*
 * A program's loopback becomes the wire. Suites of tests talk to 127.0.0.1 and ::1, which stay with the kernel's TCP
 * whatever is
 * preloaded: so they would tell nothing about the engine. This object, preloaded before anything else, translates the
 * addresses of TCP sockets:
 *
 *   bind     loopback → HOME, the address of the namespace's interface
 *   connect  loopback → MIRROR, an address behind the interface; suites.py has a second namespace send what comes for MIRROR back
 *            to HOME, as if ECHO had sent it, with the ports as they were
 *   getsockname, getpeername, accept    HOME, MIRROR and ECHO → loopback
 *
 * So both ends of each connection are in this program (or its children), and each segment crosses the wire. Only libc's
 * names are
 * translated: a program that makes its system calls itself keeps to its loopback.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#define EXPORT __attribute__((visibility("default")))

static const uint32_t home4 = 0x0a4d0001, mirror4 = 0x0a4f0002, echo4 = 0x0a4f0003; /* 10.77.0.1, 10.79.0.2, 10.79.0.3 */

/* fd77::1 in the interface's network; fd79::2 and fd79::3 behind it. */
static const struct in6_addr home6 = {.s6_addr = {0xfd, 0x77, [15] = 1}};
static const struct in6_addr mirror6 = {.s6_addr = {0xfd, 0x79, [15] = 2}};
static const struct in6_addr echo6 = {.s6_addr = {0xfd, 0x79, [15] = 3}};

/* The function that we stand before. */
static void *next(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

static bool is_tcp(int fd)
{
	int saved = errno, value = 0;
	socklen_t len = sizeof(value);
	int (*get)(int, int, int, void *, socklen_t *) = next("getsockopt");
	bool yes = get(fd, SOL_SOCKET, SO_PROTOCOL, &value, &len) == 0 && value == IPPROTO_TCP;
	errno = saved;
	return yes;
}

static bool is_mapped(const struct in6_addr *a)
{
	return IN6_IS_ADDR_V4MAPPED(a);
}

static uint32_t mapped_get(const struct in6_addr *a)
{
	uint32_t be;
	memcpy(&be, &a->s6_addr[12], 4);
	return ntohl(be);
}

static void mapped_set(struct in6_addr *a, uint32_t v4)
{
	uint32_t be = htonl(v4);
	memcpy(&a->s6_addr[12], &be, 4);
}

/* What the program means by loopback: for connect also the unspecified address. */
static bool is_loopback4(uint32_t v4, bool connecting)
{
	return v4 == INADDR_LOOPBACK || (connecting && v4 == INADDR_ANY);
}

/* The address on the wire for one that the program gives; the program's own where nothing is to be translated. */
static const struct sockaddr *outward(int fd, const struct sockaddr *sa, socklen_t len, bool connecting,
				      struct sockaddr_storage *room)
{
	uint32_t to4 = connecting ? mirror4 : home4;
	if (!sa || len > sizeof(*room) || !is_tcp(fd))
		return sa;
	if (len >= sizeof(struct sockaddr_in) && sa->sa_family == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)room;
		memcpy(room, sa, len);
		if (is_loopback4(ntohl(in->sin_addr.s_addr), connecting))
			in->sin_addr.s_addr = htonl(to4);
		return (struct sockaddr *)room;
	}
	if (len >= sizeof(struct sockaddr_in6) && sa->sa_family == AF_INET6) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)room;
		memcpy(room, sa, len);
		if (is_mapped(&in6->sin6_addr) && is_loopback4(mapped_get(&in6->sin6_addr), connecting))
			mapped_set(&in6->sin6_addr, to4);
		else if (IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) || (connecting && IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr)))
			in6->sin6_addr = connecting ? mirror6 : home6;
		return (struct sockaddr *)room;
	}
	return sa;
}

static bool is_wire4(uint32_t v4)
{
	return v4 == home4 || v4 == mirror4 || v4 == echo4;
}

static bool is_wire6(const struct in6_addr *a)
{
	return !memcmp(a, &home6, sizeof(*a)) || !memcmp(a, &mirror6, sizeof(*a)) || !memcmp(a, &echo6, sizeof(*a));
}

/* A name from below as the program knows it. `room` bytes of it are there. */
static void inward(struct sockaddr *sa, socklen_t room)
{
	if (sa && room >= sizeof(struct sockaddr_in) && sa->sa_family == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)sa;
		if (is_wire4(ntohl(in->sin_addr.s_addr)))
			in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	} else if (sa && room >= sizeof(struct sockaddr_in6) && sa->sa_family == AF_INET6) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)sa;
		if (is_mapped(&in6->sin6_addr) && is_wire4(mapped_get(&in6->sin6_addr)))
			mapped_set(&in6->sin6_addr, INADDR_LOOPBACK);
		else if (is_wire6(&in6->sin6_addr))
			in6->sin6_addr = in6addr_loopback;
	}
}

EXPORT int bind(int fd, const struct sockaddr *sa, socklen_t len)
{
	struct sockaddr_storage room;
	int (*below)(int, const struct sockaddr *, socklen_t) = next("bind");
	return below(fd, outward(fd, sa, len, false, &room), len);
}

EXPORT int connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	struct sockaddr_storage room;
	int (*below)(int, const struct sockaddr *, socklen_t) = next("connect");
	return below(fd, outward(fd, sa, len, true, &room), len);
}

EXPORT int getsockname(int fd, struct sockaddr *sa, socklen_t *len)
{
	int (*below)(int, struct sockaddr *, socklen_t *) = next("getsockname");
	socklen_t room = len ? *len : 0;
	int r = below(fd, sa, len);
	if (r == 0)
		inward(sa, room);
	return r;
}

EXPORT int getpeername(int fd, struct sockaddr *sa, socklen_t *len)
{
	int (*below)(int, struct sockaddr *, socklen_t *) = next("getpeername");
	socklen_t room = len ? *len : 0;
	int r = below(fd, sa, len);
	if (r == 0)
		inward(sa, room);
	return r;
}

EXPORT int accept(int fd, struct sockaddr *sa, socklen_t *len)
{
	int (*below)(int, struct sockaddr *, socklen_t *) = next("accept");
	socklen_t room = sa && len ? *len : 0;
	int r = below(fd, sa, len);
	if (r >= 0)
		inward(sa, room);
	return r;
}

EXPORT int accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
	int (*below)(int, struct sockaddr *, socklen_t *, int) = next("accept4");
	socklen_t room = sa && len ? *len : 0;
	int r = below(fd, sa, len, flags);
	if (r >= 0)
		inward(sa, room);
	return r;
}
