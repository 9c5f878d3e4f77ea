/* Calls about names and roles: shutdown, connect, bind, listen, accept, getsockname, getpeername. */
#include "differential.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

static void call_shutdown(struct run *r, long how, long unused)
{
	CALL(r, "shutdown", shutdown(r->fd, how));
}

static void call_name(struct run *r, long peer, long room)
{
	struct sockaddr_storage a;
	socklen_t n = room;
	memset(&a, 0xee, sizeof a);
	if (peer)
		CALL(r, "getpeername", getpeername(r->fd, (struct sockaddr *)&a, &n));
	else
		CALL(r, "getsockname", getsockname(r->fd, (struct sockaddr *)&a, &n));
	out_address(r, &a, n, room);
}

static void call_name_bad(struct run *r, long peer, long kind)
{
	struct sockaddr_storage a;
	socklen_t n = sizeof a;
	struct sockaddr *to = kind == 0 ? NULL : kind == 1 ? unmapped : (struct sockaddr *)&a;
	socklen_t *length = kind == 2 ? NULL : kind == 3 ? unmapped : &n;
	if (peer)
		CALL(r, "getpeername", getpeername(r->fd, to, length));
	else
		CALL(r, "getsockname", getsockname(r->fd, to, length));
}

static void call_accept(struct run *r, long flags, long kind)
{
	struct sockaddr_storage a;
	socklen_t n = kind == 1 ? 4 : kind == 2 ? (socklen_t)-1 : sizeof a;
	char byte;
	long fd;
	memset(&a, 0xee, sizeof a);
	if (kind == 3)
		fd = FD_CALL(r, "accept4", accept4(r->fd, NULL, NULL, flags));
	else if (kind == 4)
		fd = FD_CALL(r, "accept4", accept4(r->fd, unmapped, &n, flags));
	else if (kind == 5)
		fd = FD_CALL(r, "accept4", accept4(r->fd, (struct sockaddr *)&a, NULL, flags));
	else if (kind == 6)
		fd = FD_CALL(r, "accept", accept(r->fd, (struct sockaddr *)&a, unmapped));
	else
		fd = FD_CALL(r, "accept4", accept4(r->fd, (struct sockaddr *)&a, &n, flags));
	if (fd < 0)
		return;
	if (kind == 0 || kind == 1)
		out_address(r, &a, n, kind == 1 ? 4 : sizeof a);
	out(r, " fl=%x fd=%x", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
	socklen_t m = sizeof a;
	CALL(r, "getpeername", getpeername(fd, (struct sockaddr *)&a, &m));
	CALL(r, "recv", recv(fd, &byte, 1, MSG_DONTWAIT));
	CALL(r, "send", send(fd, "x", 1, MSG_NOSIGNAL));
	CALL(r, "close", close(fd));
}

static void call_accept_twice(struct run *r, long unused, long unused2)
{
	fcntl(r->fd, F_SETFL, O_RDWR | O_NONBLOCK);
	for (int i = 0; i < 2; i++) {
		long fd = FD_CALL(r, "accept", accept(r->fd, NULL, NULL));
		if (fd >= 0)
			close(fd);
	}
}

static void call_listen(struct run *r, long backlog, long unused)
{
	CALL(r, "listen", listen(r->fd, backlog));
}

enum whom { SAME, HOLE, UNSPEC, UNIX, SHORT, NOWHERE, BAD, NEGATIVE, OTHER_FAMILY, UNSPEC_SHORT, BROADCAST, CLOSED_PORT, ANY, SELF, HUGE_LENGTH };

static void call_connect(struct run *r, long whom, long unused)
{
	struct sockaddr_storage a = r->peer_address;
	struct sockaddr *to = (struct sockaddr *)&a;
	socklen_t n = r->address_length;
	if (whom == SAME && a.ss_family == 0)
		n = address_of(peer_v4, peer_v6, r->family, r->peer_port, &a);
	if (whom == HOLE)
		n = address_of(hole_v4, hole_v6, r->family, 80, &a);
	if (whom == CLOSED_PORT)
		n = address_of(peer_v4, peer_v6, r->family, 9, &a);
	if (whom == BROADCAST)
		n = address_of("255.255.255.255", "ff02::1", r->family, 80, &a);
	if (whom == ANY)
		n = address_of("0.0.0.0", "::", r->family, 9, &a);
	if (whom == SELF)
		n = address_of(own_v4, own_v6, r->family, 9, &a);
	if (whom == OTHER_FAMILY)
		n = address_of(peer_v4, peer_v6, r->family == AF_INET ? AF_INET6 : AF_INET, 80, &a);
	if (whom == UNSPEC || whom == UNSPEC_SHORT)
		a.ss_family = AF_UNSPEC;
	if (whom == UNIX)
		a.ss_family = AF_UNIX;
	if (whom == SHORT)
		n = 8;
	if (whom == UNSPEC_SHORT)
		n = 2;
	if (whom == NEGATIVE)
		n = -1;
	if (whom == HUGE_LENGTH)
		n = 4096;
	CALL(r, "connect", connect(r->fd, whom == NOWHERE ? NULL : whom == BAD ? unmapped : to, n));
}

/* A socket that is nobody's again connects anew, and says hello. */
static void call_reconnect(struct run *r, long unused, long unused2)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	struct sockaddr_storage a;
	char buffer[8];
	CALL(r, "unspec", connect(r->fd, &none, sizeof none));
	socklen_t n = address_of(peer_v4, peer_v6, r->family, peer_does(r, PEER_HELLO, 0, 0).port, &a);
	CALL(r, "connect", connect(r->fd, (struct sockaddr *)&a, n));
	struct pollfd f = {r->fd, POLLOUT, 0};
	CALL(r, "poll", poll(&f, 1, 40));
	CALL(r, "connect", connect(r->fd, (struct sockaddr *)&a, n));
	CALL(r, "send", send(r->fd, "again", 5, MSG_NOSIGNAL | MSG_DONTWAIT));
	CALL(r, "recv", recv(r->fd, buffer, sizeof buffer, MSG_DONTWAIT));
}

static void call_bind(struct run *r, long kind, long unused)
{
	struct sockaddr_storage a;
	socklen_t n = address_of(own_v4, own_v6, r->family, kind == 1 ? r->own_port : 0, &a);
	if (kind == 2)
		n = address_of("0.0.0.0", "::", r->family, 0, &a);
	if (kind == 3)
		n = address_of(peer_v4, peer_v6, r->family, 0, &a);
	if (kind == 4)
		a.ss_family = AF_UNIX;
	if (kind == 5)
		n = 6;
	if (kind == 8)
		n = address_of("224.0.0.1", "ff02::1", r->family, 0, &a);
	if (kind == 10)
		n = address_of(own_v4, own_v6, r->family, 1, &a);
	if (kind == 11)
		n = address_of("0.0.0.0", "::", r->family, 0, &a), a.ss_family = AF_UNSPEC;
	CALL(r, "bind", bind(r->fd, kind == 6 ? NULL : kind == 7 ? unmapped : (struct sockaddr *)&a, kind == 9 ? (socklen_t)-1 : n));
	n = sizeof a;
	if (r->own_port == 0 && getsockname(r->fd, (struct sockaddr *)&a, &n) == 0)
		out(r, " port=%s", ((struct sockaddr_in *)&a)->sin_port ? "some" : "0");
}

static const struct call calls[] = {
	{"shutdown.rd", call_shutdown, SHUT_RD, 0, CALL_FIRST | CALL_SECOND},
	{"shutdown.wr", call_shutdown, SHUT_WR, 0, CALL_FIRST | CALL_SECOND},
	{"shutdown.rdwr", call_shutdown, SHUT_RDWR, 0, CALL_FIRST | CALL_SECOND},
	{"shutdown.3", call_shutdown, 3, 0, 0},
	{"shutdown.negative", call_shutdown, -1, 0, 0},
	{"getsockname", call_name, 0, sizeof(struct sockaddr_storage), CALL_SECOND},
	{"getsockname.0", call_name, 0, 0, 0},
	{"getsockname.5", call_name, 0, 5, 0},
	{"getsockname.negative", call_name, 0, -1, 0},
	{"getsockname.null", call_name_bad, 0, 0, 0},
	{"getsockname.unmapped", call_name_bad, 0, 1, 0},
	{"getsockname.length-null", call_name_bad, 0, 2, 0},
	{"getsockname.length-bad", call_name_bad, 0, 3, 0},
	{"getpeername", call_name, 1, sizeof(struct sockaddr_storage), CALL_SECOND | CALL_FIRST},
	{"getpeername.0", call_name, 1, 0, 0},
	{"getpeername.5", call_name, 1, 5, 0},
	{"getpeername.negative", call_name, 1, -1, 0},
	{"getpeername.null", call_name_bad, 1, 0, 0},
	{"getpeername.unmapped", call_name_bad, 1, 1, 0},
	{"getpeername.length-null", call_name_bad, 1, 2, 0},
	{"getpeername.length-bad", call_name_bad, 1, 3, 0},
	{"accept", call_accept, 0, 0, CALL_WAITS | CALL_SECOND},
	{"accept.nonblock", call_accept, SOCK_NONBLOCK | SOCK_CLOEXEC, 0, CALL_SECOND},
	{"accept.flags-bad", call_accept, 0x7, 0, 0},
	{"accept.short", call_accept, 0, 1, 0},
	{"accept.negative", call_accept, 0, 2, 0},
	{"accept.null", call_accept, 0, 3, 0},
	{"accept.unmapped", call_accept, 0, 4, 0},
	{"accept.length-null", call_accept, 0, 5, 0},
	{"accept.length-bad", call_accept, 0, 6, 0},
	{"accept.twice", call_accept_twice, 0, 0, 0},
	{"listen", call_listen, 5, 0, CALL_FIRST | CALL_SECOND},
	{"listen.0", call_listen, 0, 0, 0},
	{"listen.negative", call_listen, -1, 0, 0},
	{"connect", call_connect, SAME, 0, CALL_FIRST | CALL_SECOND},
	{"connect.hole", call_connect, HOLE, 0, CALL_FIRST},
	{"connect.closed-port", call_connect, CLOSED_PORT, 0, CALL_FIRST | CALL_SECOND},
	{"connect.unspec", call_connect, UNSPEC, 0, CALL_FIRST | CALL_SECOND},
	{"connect.unspec.short", call_connect, UNSPEC_SHORT, 0, 0},
	{"connect.unix", call_connect, UNIX, 0, 0},
	{"connect.short", call_connect, SHORT, 0, CALL_FIRST},
	{"connect.null", call_connect, NOWHERE, 0, 0},
	{"connect.bad", call_connect, BAD, 0, 0},
	{"connect.negative", call_connect, NEGATIVE, 0, 0},
	{"connect.huge", call_connect, HUGE_LENGTH, 0, 0},
	{"connect.other-family", call_connect, OTHER_FAMILY, 0, 0},
	{"connect.broadcast", call_connect, BROADCAST, 0, CALL_FIRST},
	{"connect.any", call_connect, ANY, 0, 0},
	{"connect.self", call_connect, SELF, 0, 0},
	{"reconnect", call_reconnect, 0, 0, CALL_SECOND},
	{"bind", call_bind, 0, 0, CALL_FIRST | CALL_SECOND},
	{"bind.same", call_bind, 1, 0, 0},
	{"bind.any", call_bind, 2, 0, 0},
	{"bind.foreign", call_bind, 3, 0, CALL_FIRST},
	{"bind.unix", call_bind, 4, 0, 0},
	{"bind.short", call_bind, 5, 0, 0},
	{"bind.null", call_bind, 6, 0, 0},
	{"bind.unmapped", call_bind, 7, 0, 0},
	{"bind.multicast", call_bind, 8, 0, 0},
	{"bind.negative", call_bind, 9, 0, 0},
	{"bind.low", call_bind, 10, 0, 0},
	{"bind.unspec", call_bind, 11, 0, 0},
};
const struct call_table name_calls = {calls, sizeof calls / sizeof *calls};
