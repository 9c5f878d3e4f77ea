/* Calls that receive. */
#include "differential.h"

#include <fcntl.h>
#include <linux/errqueue.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

static char buffer[65536];

static void bytes_of(struct run *r, long n)
{
	if (n > 0)
		out_bytes(r, buffer, n);
}

static void call_recv(struct run *r, long n, long flags)
{
	memset(buffer, '.', 64);
	bytes_of(r, CALL(r, "recv", recv(r->fd, buffer, n, flags)));
}

static void call_recv_bad(struct run *r, long n, long which)
{
	CALL(r, "recv", recv(r->fd, which == 0 ? NULL : which == 1 ? unmapped : read_only, n, 0));
}

static void call_recv_all(struct run *r, long flags, long unused)
{
	for (int i = 0; i < 5; i++)
		bytes_of(r, CALL(r, "recv", recv(r->fd, buffer, sizeof buffer, flags)));
}

static void call_read(struct run *r, long n, long unused)
{
	bytes_of(r, CALL(r, "read", read(r->fd, buffer, n)));
}

static void call_read_bad(struct run *r, long n, long unused)
{
	CALL(r, "read", read(r->fd, unmapped, n));
}

static void call_readv(struct run *r, long count, long kind)
{
	struct iovec v[3] = {{buffer, 2}, {buffer + 2, 0}, {buffer + 2, 8}};
	if (kind == 1)
		v[1] = (struct iovec){unmapped, 4};
	if (kind == 2)
		v[0] = (struct iovec){unmapped, 4};
	memset(buffer, '.', 16);
	long n = CALL(r, "readv", readv(r->fd, kind == 3 ? unmapped : v, count));
	bytes_of(r, n);
}

static void call_recvfrom(struct run *r, long kind, long unused)
{
	struct sockaddr_storage a;
	socklen_t n = kind == 1 ? 0 : kind == 2 ? (socklen_t)-1 : sizeof a;
	memset(&a, 0xee, sizeof a);
	long got;
	if (kind == 3)
		got = CALL(r, "recvfrom", recvfrom(r->fd, buffer, 10, 0, (struct sockaddr *)&a, NULL));
	else if (kind == 4)
		got = CALL(r, "recvfrom", recvfrom(r->fd, buffer, 10, 0, unmapped, &n));
	else if (kind == 5)
		got = CALL(r, "recvfrom", recvfrom(r->fd, buffer, 10, 0, NULL, unmapped));
	else
		got = CALL(r, "recvfrom", recvfrom(r->fd, buffer, 10, 0, (struct sockaddr *)&a, &n));
	bytes_of(r, got);
	out(r, " length=%d family=%x", (int)n, a.ss_family);
}

static void call_recvmsg(struct run *r, long flags, long kind)
{
	char control[256];
	struct sockaddr_storage a;
	struct iovec v[2] = {{buffer, 3}, {buffer + 3, 60}};
	struct msghdr m = {.msg_name = &a, .msg_namelen = sizeof a, .msg_iov = v, .msg_iovlen = 2, .msg_control = control, .msg_controllen = sizeof control};
	if (kind == 1)
		m.msg_control = NULL, m.msg_controllen = 0;
	if (kind == 2)
		m.msg_iovlen = 2000;
	if (kind == 3)
		m.msg_iov = NULL, m.msg_iovlen = 0;
	if (kind == 4)
		m.msg_iov = unmapped;
	if (kind == 5)
		m.msg_control = unmapped;
	if (kind == 6)
		m.msg_namelen = -1;
	m.msg_flags = 0x7777;
	long n = CALL(r, "recvmsg", recvmsg(r->fd, kind == 7 ? unmapped : &m, flags));
	bytes_of(r, n);
	if (n >= 0)
		out(r, " name=%d control=%zu flags=%x", (int)m.msg_namelen, m.msg_controllen, (unsigned)m.msg_flags);
	if (n >= 0 && m.msg_control == control)
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
			out(r, " cmsg=%d/%d/%zu", c->cmsg_level, c->cmsg_type, (size_t)c->cmsg_len);
}

static void call_recvmmsg(struct run *r, long flags, long kind)
{
	struct iovec v[3] = {{buffer, 2}, {buffer + 2, 2}, {buffer + 4, 60}};
	struct mmsghdr m[3] = {{.msg_hdr = {.msg_iov = v, .msg_iovlen = 1}},
			       {.msg_hdr = {.msg_iov = v + 1, .msg_iovlen = 1}},
			       {.msg_hdr = {.msg_iov = v + 2, .msg_iovlen = 1}}};
	struct timespec t = {kind == 2 ? -1 : 0, kind == 3 ? 2000000000 : 20000000};
	if (kind == 5)
		v[1].iov_base = unmapped;
	long n = CALL(r, "recvmmsg", recvmmsg(r->fd, kind == 4 ? unmapped : m, kind == 1 ? 0 : 3, flags, kind && kind < 5 ? &t : NULL));
	for (long i = 0; i < n; i++)
		out(r, " %u/%x", m[i].msg_len, (unsigned)m[i].msg_hdr.msg_flags);
	if (kind < 5)
		return;
	/* The error of a later message is told by the next call. */
	int error = -1;
	socklen_t length = sizeof error;
	CALL(r, "SO_ERROR", getsockopt(r->fd, SOL_SOCKET, SO_ERROR, &error, &length));
	out(r, " %d", error);
}

static void call_pread(struct run *r, long kind, long unused)
{
	struct iovec v = {buffer, 5};
	if (kind == 0)
		CALL(r, "pread", pread(r->fd, buffer, 5, 0));
	else if (kind == 1)
		CALL(r, "preadv", preadv(r->fd, &v, 1, 0));
	else if (kind == 2)
		bytes_of(r, CALL(r, "preadv2", preadv2(r->fd, &v, 1, -1, 0)));
	else
		bytes_of(r, CALL(r, "preadv2", preadv2(r->fd, &v, 1, -1, RWF_NOWAIT)));
}

static void call_splice_out(struct run *r, long flags, long unused)
{
	int p[2];
	if (pipe(p) < 0)
		return;
	long n = CALL(r, "splice", splice(r->fd, NULL, p[1], NULL, 4, flags));
	if (n > 0)
		bytes_of(r, read(p[0], buffer, n));
	close(p[0]);
	close(p[1]);
}

/* Twice: the second one may stand before an urgent byte. */
static void call_splice_twice(struct run *r, long flags, long unused)
{
	call_splice_out(r, flags, 0);
	call_splice_out(r, flags, 0);
}

static const struct call calls[] = {
	{"recv", call_recv, 10, 0, CALL_WAITS | CALL_FIRST | CALL_SECOND},
	{"recv.3", call_recv, 3, 0, CALL_FIRST},
	{"recv.0", call_recv, 0, 0, CALL_SECOND},
	{"recv.big", call_recv, 60000, 0, CALL_FIRST},
	{"recv.peek", call_recv, 10, MSG_PEEK, CALL_WAITS | CALL_FIRST | CALL_SECOND},
	{"recv.peek.0", call_recv, 0, MSG_PEEK, 0},
	{"recv.waitall", call_recv, 10, MSG_WAITALL, CALL_WAITS | CALL_SECOND},
	{"recv.waitall.5", call_recv, 5, MSG_WAITALL, 0},
	{"recv.waitall.0", call_recv, 0, MSG_WAITALL, 0},
	{"recv.peek.waitall", call_recv, 10, MSG_PEEK | MSG_WAITALL, CALL_WAITS},
	{"recv.peek.waitall.5", call_recv, 5, MSG_PEEK | MSG_WAITALL, 0},
	{"recv.dontwait", call_recv, 10, MSG_DONTWAIT, CALL_FIRST | CALL_SECOND},
	{"recv.dontwait.waitall", call_recv, 10, MSG_DONTWAIT | MSG_WAITALL, 0},
	{"recv.dontwait.peek", call_recv, 10, MSG_DONTWAIT | MSG_PEEK, CALL_SECOND},
	{"recv.trunc", call_recv, 10, MSG_TRUNC, CALL_FIRST},
	{"recv.trunc.peek", call_recv, 10, MSG_TRUNC | MSG_PEEK, 0},
	{"recv.trunc.dontwait.big", call_recv, 60000, MSG_TRUNC | MSG_DONTWAIT, 0},
	{"recv.oob", call_recv, 10, MSG_OOB, CALL_FIRST | CALL_SECOND},
	{"recv.oob.0", call_recv, 0, MSG_OOB, 0},
	{"recv.oob.peek", call_recv, 1, MSG_OOB | MSG_PEEK, CALL_FIRST},
	{"recv.oob.waitall", call_recv, 10, MSG_OOB | MSG_WAITALL, 0},
	{"recv.oob.trunc", call_recv, 1, MSG_OOB | MSG_TRUNC, 0},
	{"recv.errqueue", call_recv, 10, MSG_ERRQUEUE, CALL_SECOND},
	{"recv.nosignal", call_recv, 10, MSG_NOSIGNAL, 0},
	{"recv.bogus", call_recv, 10, 0x00800000, 0},
	{"recv.more", call_recv, 10, MSG_MORE | MSG_EOR | MSG_CTRUNC, 0},
	{"recv.null", call_recv_bad, 10, 0, 0},
	{"recv.unmapped", call_recv_bad, 10, 1, CALL_FIRST},
	{"recv.read-only", call_recv_bad, 10, 2, 0},
	{"recv.unmapped.0", call_recv_bad, 0, 1, 0},
	{"recv.unmapped.huge", call_recv_bad, LONG_MAX, 1, 0},
	{"recv.kernel-address", call_recv, -1, 0, 0},
	{"recv.all", call_recv_all, MSG_DONTWAIT, 0, CALL_FIRST | CALL_SECOND},
	{"read", call_read, 10, 0, CALL_WAITS | CALL_FIRST | CALL_SECOND},
	{"read.0", call_read, 0, 0, CALL_SECOND},
	{"read.unmapped", call_read_bad, 10, 0, 0},
	{"read.unmapped.0", call_read_bad, 0, 0, 0},
	{"readv", call_readv, 3, 0, CALL_WAITS},
	{"readv.0", call_readv, 0, 0, 0},
	{"readv.negative", call_readv, -1, 0, 0},
	{"readv.2000", call_readv, 2000, 0, 0},
	{"readv.second-bad", call_readv, 3, 1, 0},
	{"readv.first-bad", call_readv, 3, 2, 0},
	{"readv.vector-bad", call_readv, 3, 3, 0},
	{"recvfrom", call_recvfrom, 0, 0, CALL_SECOND},
	{"recvfrom.0", call_recvfrom, 1, 0, 0},
	{"recvfrom.negative", call_recvfrom, 2, 0, 0},
	{"recvfrom.length-null", call_recvfrom, 3, 0, 0},
	{"recvfrom.name-bad", call_recvfrom, 4, 0, 0},
	{"recvfrom.length-bad", call_recvfrom, 5, 0, 0},
	{"recvmsg", call_recvmsg, 0, 0, CALL_WAITS | CALL_SECOND},
	{"recvmsg.peek", call_recvmsg, MSG_PEEK, 0, 0},
	{"recvmsg.trunc", call_recvmsg, MSG_TRUNC, 0, 0},
	{"recvmsg.waitall", call_recvmsg, MSG_WAITALL, 0, 0},
	{"recvmsg.oob", call_recvmsg, MSG_OOB, 0, 0},
	{"recvmsg.errqueue", call_recvmsg, MSG_ERRQUEUE, 0, CALL_SECOND},
	{"recvmsg.cloexec", call_recvmsg, MSG_CMSG_CLOEXEC, 0, 0},
	{"recvmsg.dontwait", call_recvmsg, MSG_DONTWAIT, 0, 0},
	{"recvmsg.no-control", call_recvmsg, 0, 1, 0},
	{"recvmsg.2000", call_recvmsg, 0, 2, 0},
	{"recvmsg.no-vector", call_recvmsg, 0, 3, 0},
	{"recvmsg.vector-bad", call_recvmsg, 0, 4, 0},
	{"recvmsg.control-bad", call_recvmsg, 0, 5, 0},
	{"recvmsg.name-negative", call_recvmsg, 0, 6, 0},
	{"recvmsg.bad", call_recvmsg, 0, 7, 0},
	{"recvmmsg", call_recvmmsg, 0, 0, CALL_WAITS},
	{"recvmmsg.waitforone", call_recvmmsg, MSG_WAITFORONE, 0, CALL_WAITS},
	{"recvmmsg.dontwait", call_recvmmsg, MSG_DONTWAIT, 0, CALL_SECOND},
	{"recvmmsg.none", call_recvmmsg, 0, 1, 0},
	{"recvmmsg.time-negative", call_recvmmsg, 0, 2, 0},
	{"recvmmsg.time-bad", call_recvmmsg, 0, 3, 0},
	{"recvmmsg.bad", call_recvmmsg, 0, 4, 0},
	{"recvmmsg.second-bad", call_recvmmsg, 0, 5, 0},
	{"recvmmsg.oob", call_recvmmsg, MSG_OOB, 0, 0},
	{"pread", call_pread, 0, 0, 0},
	{"preadv", call_pread, 1, 0, 0},
	{"preadv2", call_pread, 2, 0, 0},
	{"preadv2.nowait", call_pread, 3, 0, 0},
	{"splice.out", call_splice_out, 0, 0, CALL_WAITS | CALL_SECOND},
	{"splice.out.twice", call_splice_twice, SPLICE_F_NONBLOCK, 0, 0},
	{"splice.out.nonblock", call_splice_out, SPLICE_F_NONBLOCK, 0, 0},
};
const struct call_table receive_calls = {calls, sizeof calls / sizeof *calls};
