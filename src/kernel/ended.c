/*
 * An ended connection as a kernel socket: two sockets are connected over loopback, the one writes what is unread and
 * goes, by RST or by FIN; the other one is the result. Loopback delivers within the call that sends, so everything is
 * there when this returns.
 *
 * An AF_UNIX stream knows a reset, too: its peer closed with bytes unread.
 */
#include "kernel/ended.h"

#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>

#define DELIVERY_MS 100 /* bound of a wait that under load only is one */

union any_addr {
	struct sockaddr sa;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* An AF_INET6 socket by its IPv4 side: ::1 may be missing. */
static socklen_t loopback(int family, union any_addr *a)
{
	memset(a, 0, sizeof *a);
	if (family == AF_INET6) {
		a->v6.sin6_family = AF_INET6;
		a->v6.sin6_addr.s6_addr[10] = a->v6.sin6_addr.s6_addr[11] = 0xff;
		a->v6.sin6_addr.s6_addr[12] = 127;
		a->v6.sin6_addr.s6_addr[15] = 1;
		return sizeof a->v6;
	}
	a->v4.sin_family = AF_INET;
	a->v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return sizeof a->v4;
}

static bool becomes(int fd, short what)
{
	struct pollfd p = {.fd = fd, .events = what};
	struct timespec ts = {.tv_nsec = DELIVERY_MS * 1000000L};
	return sys_ppoll(&p, 1, &ts, NULL) == 1 && (p.revents & what) == what;
}

/* Makes it as large as the system allows. */
static void room_for(int fd, int force, int plain, size_t bytes)
{
	int want = bytes > (1 << 29) ? 1 << 29 : (int)bytes * 2;
	if (bytes > 65536 && sys_setsockopt(fd, SOL_SOCKET, force, &want, sizeof want) < 0)
		sys_setsockopt(fd, SOL_SOCKET, plain, &want, sizeof want);
}

static int connected_pair(int listener, int family, size_t bytes, int pair[2])
{
	union any_addr a;
	socklen_t len = loopback(family, &a);
	int err = sys_bind(listener, &a, len);
	if (!err)
		err = sys_listen(listener, 1);
	if (!err)
		err = sys_getsockname(listener, &a, &len);
	if (err)
		return err;
	pair[0] = sys_socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
	if (pair[0] < 0)
		return pair[0];
	room_for(pair[0], SO_RCVBUFFORCE, SO_RCVBUF, bytes);
	err = sys_connect(pair[0], &a, len);
	if ((err == 0 || err == -EINPROGRESS) && becomes(pair[0], POLLOUT) && becomes(listener, POLLIN))
		pair[1] = sys_accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	else
		pair[1] = -ENETUNREACH; /* no loopback here, or one that is filtered */
	if (pair[1] >= 0)
		return 0;
	sys_close(pair[0]);
	return pair[1];
}

static int tcp_pair(int family, size_t bytes, int pair[2])
{
	int listener = sys_socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
	if (listener < 0)
		return listener;
	int err = connected_pair(listener, family, bytes, pair);
	sys_close(listener);
	return err;
}

/* True: all of it is where the other one reads. */
static bool deliver(int fd, const struct iovec data[2], bool tcp)
{
	int queued = 0;
	for (int i = 0; i < 2; i++)
		for (size_t done = 0; done < data[i].iov_len;) {
			ssize_t n = sys_sendto(fd, (const char *)data[i].iov_base + done, data[i].iov_len - done, MSG_NOSIGNAL, NULL, 0);
			if (n <= 0)
				return false;
			done += n;
		}
	for (int ms = 0; tcp && ms < DELIVERY_MS; ms++) {
		struct timespec ts = {.tv_nsec = 1000000};
		if (sys_ioctl(fd, SIOCOUTQ, &queued) < 0 || !queued)
			break;
		sys_ppoll(NULL, 0, &ts, NULL);
	}
	return !queued;
}

/* By a port that is taken, and at which nobody listens. */
static int refused_socket(int family)
{
	union any_addr a;
	socklen_t len = loopback(family, &a);
	int fd = -1, taken = sys_socket(family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	if (taken < 0)
		return taken;
	int err = sys_bind(taken, &a, len);
	if (!err)
		err = sys_getsockname(taken, &a, &len);
	if (!err)
		err = fd = sys_socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
	if (fd >= 0) {
		err = sys_connect(fd, &a, len);
		err = err == -EINPROGRESS && becomes(fd, POLLHUP) ? 0 : -ENETUNREACH;
		sys_fcntl(fd, F_SETFL, sys_fcntl(fd, F_GETFL, 0) & ~O_NONBLOCK);
	}
	sys_close(taken);
	if (err && fd >= 0)
		sys_close(fd);
	return err ? err : fd;
}

/*
 * A reset behind the peer's FIN is EPIPE. An AF_UNIX socket has nothing like it: there the FIN's end of file is what a
 * read would find.
 */
static bool ends_by_fin(int fd, int other)
{
	return sys_shutdown(other, SHUT_WR) == 0 && becomes(fd, POLLRDHUP);
}

int ended_socket(int family, const struct iovec data[2], int error)
{
	bool reset = error != 0;
	struct linger at_once = {.l_onoff = 1};
	size_t bytes = data[0].iov_len + data[1].iov_len;
	int pair[2];
	int refused = error == ECONNREFUSED && !bytes ? refused_socket(family) : -1;
	if (refused >= 0)
		return refused;
	bool tcp = tcp_pair(family, bytes, pair) == 0;
	if (!tcp) {
		int err = sys_socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair);
		if (err)
			return err;
	}
	room_for(pair[1], SO_SNDBUFFORCE, SO_SNDBUF, bytes);
	if (!deliver(pair[1], data, tcp))
		reset = true;
	else if (error == EPIPE)
		reset = tcp && ends_by_fin(pair[0], pair[1]);
	if (reset && tcp)
		sys_setsockopt(pair[1], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	else if (reset)
		sys_sendto(pair[0], "", 1, MSG_NOSIGNAL, NULL, 0);
	sys_close(pair[1]);
	becomes(pair[0], reset ? POLLHUP : POLLIN);
	if (!reset)
		sys_shutdown(pair[0], SHUT_WR);
	sys_fcntl(pair[0], F_SETFL, sys_fcntl(pair[0], F_GETFL, 0) & ~O_NONBLOCK);
	return pair[0];
}
