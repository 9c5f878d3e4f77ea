/* Calls that send. */
#include "differential.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

static char text[65536] = "world";

static void call_send(struct run *r, long n, long flags)
{
	CALL(r, "send", send(r->fd, text, n, flags));
}

static void call_send_twice(struct run *r, long n, long flags)
{
	CALL(r, "send", send(r->fd, text, n, flags));
	CALL(r, "send", send(r->fd, text, n, 0));
}

/*
 * More than there is: the memory ends after a few bytes. What had been taken of it would be a matter of how it is
 * copied.
 */
static void call_send_edge(struct run *r, long n, long flags)
{
	CALL(r, "send", send(r->fd, (char *)unmapped - 40, n, flags));
}

static void call_send_bad(struct run *r, long n, long flags)
{
	CALL(r, "send", send(r->fd, n % 2 ? NULL : unmapped, n, flags));
}

static void call_write(struct run *r, long n, long unused)
{
	CALL(r, "write", write(r->fd, text, n));
}

static void call_write_bad(struct run *r, long n, long unused)
{
	CALL(r, "write", write(r->fd, unmapped, n));
}

static void call_writev(struct run *r, long count, long kind)
{
	struct iovec v[3] = {{text, 2}, {text + 2, 0}, {text + 2, 3}};
	if (kind == 1)
		v[1] = (struct iovec){unmapped, 4};
	if (kind == 2)
		v[0] = (struct iovec){unmapped, 4};
	if (kind == 4)
		v[1].iov_len = -1;
	CALL(r, "writev", writev(r->fd, kind == 3 ? unmapped : v, count));
}

static void call_sendto(struct run *r, long kind, long flags)
{
	struct sockaddr_storage a = r->peer_address;
	struct sockaddr *to = (struct sockaddr *)&a;
	socklen_t n = r->address_length;
	if (kind == 1)
		n = 2;
	if (kind == 2)
		a.ss_family = AF_UNIX;
	if (kind == 3)
		n = -1;
	if (kind == 4)
		to = unmapped;
	if (kind == 5)
		n = address_of(hole_v4, hole_v6, r->family, 80, &a);
	if (kind == 6)
		a.ss_family = AF_UNSPEC;
	if (kind == 7)
		n = 1;
	CALL(r, "sendto", sendto(r->fd, text, 5, flags, to, n));
}

static void call_sendmsg(struct run *r, long flags, long kind)
{
	union {
		char bytes[64];
		struct cmsghdr h;
	} control = {0};
	struct iovec v[2] = {{text, 2}, {text + 2, 3}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
	control.h = (struct cmsghdr){.cmsg_len = CMSG_LEN(4), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_TTL};
	if (kind == 1) /* a message for another layer */
		m.msg_control = &control, m.msg_controllen = CMSG_SPACE(4);
	if (kind == 2) { /* a length that lies */
		m.msg_control = &control, m.msg_controllen = CMSG_SPACE(4);
		control.h.cmsg_len = 5000;
	}
	if (kind == 3) {
		m.msg_control = &control, m.msg_controllen = CMSG_SPACE(4);
		control.h = (struct cmsghdr){.cmsg_len = CMSG_LEN(4), .cmsg_level = SOL_SOCKET, .cmsg_type = 4711};
	}
	if (kind == 4)
		m.msg_iovlen = 2000;
	if (kind == 5)
		m.msg_iov = unmapped;
	if (kind == 6)
		m.msg_name = &r->peer_address, m.msg_namelen = r->address_length;
	if (kind == 7)
		m.msg_iov = NULL, m.msg_iovlen = 0;
	if (kind == 9)
		m.msg_control = unmapped, m.msg_controllen = 32;
	if (kind == 10) { /* SCM_RIGHTS on TCP */
		m.msg_control = &control, m.msg_controllen = CMSG_SPACE(4);
		control.h = (struct cmsghdr){.cmsg_len = CMSG_LEN(4), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
	}
	if (kind > 10) { /* what the caller may do, and a time stamp */
		static const struct {
			int type, value;
		} of[] = {{SO_MARK, 7}, {SO_PRIORITY, 3}, {SO_PRIORITY, 99}, {SO_TIMESTAMPING, 1 << 1}, {SO_TIMESTAMPING, 1 << 4}, {61 /* SCM_TXTIME */, 0}};
		m.msg_control = &control, m.msg_controllen = CMSG_SPACE(4);
		control.h = (struct cmsghdr){.cmsg_len = CMSG_LEN(4), .cmsg_level = SOL_SOCKET, .cmsg_type = of[kind - 11].type};
		memcpy(CMSG_DATA(&control.h), &of[kind - 11].value, sizeof(int));
	}
	CALL(r, "sendmsg", sendmsg(r->fd, kind == 8 ? unmapped : &m, flags));
}

static void call_sendmmsg(struct run *r, long count, long kind)
{
	struct iovec v[3] = {{text, 2}, {kind == 1 ? unmapped : text + 2, 2}, {text + 4, 1}};
	struct mmsghdr m[3] = {{.msg_hdr = {.msg_iov = v, .msg_iovlen = 1}},
			       {.msg_hdr = {.msg_iov = v + 1, .msg_iovlen = 1}},
			       {.msg_hdr = {.msg_iov = v + 2, .msg_iovlen = 1}}};
	long n = CALL(r, "sendmmsg", sendmmsg(r->fd, kind == 2 ? unmapped : m, count, 0));
	for (long i = 0; i < n; i++)
		out(r, " %u", m[i].msg_len);
}

static int file_of_five(void)
{
	int fd = memfd_create("five", 0);
	if (write(fd, "world", 5) != 5)
		exit(99);
	return fd;
}

static void call_sendfile(struct run *r, long kind, long n)
{
	int fd = file_of_five(), p[2];
	off_t offset = kind == 1 ? 3 : kind == 2 ? -1 : 0;
	if (kind == 3) {
		CALL(r, "sendfile", sendfile(fd, r->fd, NULL, n));
	} else if (kind == 4) {
		CALL(r, "sendfile", sendfile(r->fd, fd, unmapped, n));
	} else if (kind == 5 && pipe(p) == 0) {
		CALL(r, "sendfile", sendfile(r->fd, p[0], NULL, n));
		close(p[0]), close(p[1]);
	} else if (kind == 6) {
		int directory = open("/", O_RDONLY | O_CLOEXEC);
		CALL(r, "sendfile", sendfile(r->fd, directory, NULL, n));
		close(directory);
	} else if (kind == 7) {
		CALL(r, "sendfile", sendfile(fd, r->fd, &offset, n));
	} else {
		CALL(r, "sendfile", sendfile(r->fd, fd, &offset, n));
		out(r, " offset=%ld", (long)offset);
	}
	close(fd);
}

static void call_splice_in(struct run *r, long flags, long kind)
{
	int p[2];
	loff_t zero = 0;
	if (pipe(p) < 0 || write(p[1], "world", 5) != 5)
		return;
	CALL(r, "splice", splice(p[0], NULL, r->fd, kind ? &zero : NULL, 5, flags));
	close(p[0]);
	close(p[1]);
}

/* More than one piece of a pipe (64 KiB), and than a pipe holds by itself. */
static void call_splice_in_long(struct run *r, long flags, long n)
{
	int p[2], room = 400000;
	if (setsockopt(r->fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room) < 0 || pipe(p) < 0 || fcntl(p[1], F_SETPIPE_SZ, n * 2) < n || write(p[1], text, sizeof text) < 0 || write(p[1], text, n - sizeof text) < 0)
		return;
	CALL(r, "splice", splice(p[0], NULL, r->fd, NULL, n + 5, flags));
	close(p[0]);
	close(p[1]);
}

static void call_other(struct run *r, long kind, long unused)
{
	struct iovec v = {text, 5};
	int fd = file_of_five();
	if (kind == 0)
		CALL(r, "pwrite", pwrite(r->fd, text, 5, 0));
	else if (kind == 1)
		CALL(r, "pwritev", pwritev(r->fd, &v, 1, 0));
	else if (kind == 2)
		CALL(r, "pwritev2", pwritev2(r->fd, &v, 1, -1, 0));
	else if (kind == 3)
		CALL(r, "copy_file_range", copy_file_range(fd, NULL, r->fd, NULL, 5, 0));
	else if (kind == 4)
		CALL(r, "tee", tee(r->fd, r->fd, 5, 0));
	else
		CALL(r, "vmsplice", vmsplice(r->fd, &v, 1, 0));
	close(fd);
}

static const struct call calls[] = {
	{"send", call_send, 5, 0, CALL_FIRST | CALL_SECOND},
	{"send.0", call_send, 0, 0, CALL_SECOND},
	{"send.big", call_send, 30000, 0, CALL_FIRST},
	{"send.nosignal", call_send, 5, MSG_NOSIGNAL, CALL_FIRST | CALL_SECOND},
	{"send.0.nosignal", call_send, 0, MSG_NOSIGNAL, 0},
	{"send.more", call_send, 5, MSG_MORE, CALL_FIRST},
	{"send.more.then", call_send_twice, 3, MSG_MORE, 0},
	{"send.dontwait", call_send, 5, MSG_DONTWAIT, CALL_SECOND},
	{"send.oob", call_send, 3, MSG_OOB, CALL_FIRST | CALL_SECOND},
	{"send.oob.0", call_send, 0, MSG_OOB, 0},
	{"send.oob.then", call_send_twice, 2, MSG_OOB, 0},
	{"send.eor", call_send, 5, MSG_EOR, 0},
	{"send.confirm", call_send, 5, MSG_CONFIRM | MSG_DONTROUTE, 0},
	{"send.fastopen", call_send, 5, MSG_FASTOPEN, 0},
	{"send.zerocopy", call_send, 5, MSG_ZEROCOPY, 0},
	{"send.errqueue", call_send, 5, MSG_ERRQUEUE, 0},
	{"send.bogus", call_send, 5, 0x00800000 | MSG_PEEK | MSG_TRUNC, 0},
	{"send.unmapped", call_send_bad, 10, 0, CALL_FIRST},
	{"send.null", call_send_bad, 11, 0, 0},
	{"send.unmapped.0", call_send_bad, 0, 0, 0},
	{"send.unmapped.huge", call_send_bad, LONG_MAX - 1, MSG_DONTWAIT, 0},
	{"send.negative", call_send_edge, -1, MSG_DONTWAIT | MSG_OOB, 0},
	{"write", call_write, 5, 0, CALL_FIRST | CALL_SECOND},
	{"write.0", call_write, 0, 0, CALL_SECOND},
	{"write.unmapped", call_write_bad, 10, 0, 0},
	{"write.unmapped.0", call_write_bad, 0, 0, 0},
	{"writev", call_writev, 3, 0, CALL_SECOND},
	{"writev.0", call_writev, 0, 0, 0},
	{"writev.negative", call_writev, -1, 0, 0},
	{"writev.2000", call_writev, 2000, 0, 0},
	{"writev.second-bad", call_writev, 3, 1, 0},
	{"writev.first-bad", call_writev, 3, 2, 0},
	{"writev.vector-bad", call_writev, 3, 3, 0},
	{"writev.huge", call_writev, 3, 4, 0},
	{"sendto", call_sendto, 0, 0, CALL_SECOND},
	{"sendto.short", call_sendto, 1, 0, 0},
	{"sendto.unix", call_sendto, 2, 0, 0},
	{"sendto.negative", call_sendto, 3, 0, 0},
	{"sendto.bad", call_sendto, 4, 0, 0},
	{"sendto.other", call_sendto, 5, 0, 0},
	{"sendto.unspec", call_sendto, 6, 0, 0},
	{"sendto.fastopen", call_sendto, 0, MSG_FASTOPEN, 0},
	{"sendmsg", call_sendmsg, 0, 0, CALL_SECOND},
	{"sendmsg.ttl", call_sendmsg, 0, 1, 0},
	{"sendmsg.lie", call_sendmsg, 0, 2, 0},
	{"sendmsg.bogus-control", call_sendmsg, 0, 3, 0},
	{"sendmsg.2000", call_sendmsg, 0, 4, 0},
	{"sendmsg.vector-bad", call_sendmsg, 0, 5, 0},
	{"sendmsg.name", call_sendmsg, 0, 6, 0},
	{"sendmsg.no-vector", call_sendmsg, 0, 7, 0},
	{"sendmsg.bad", call_sendmsg, 0, 8, 0},
	{"sendmsg.control-bad", call_sendmsg, 0, 9, 0},
	{"sendmsg.rights", call_sendmsg, 0, 10, 0},
	{"sendmsg.mark", call_sendmsg, 0, 11, 0},
	{"sendmsg.priority", call_sendmsg, 0, 12, 0},
	{"sendmsg.priority-high", call_sendmsg, 0, 13, 0},
	{"sendmsg.timestamping", call_sendmsg, 0, 14, 0},
	{"sendmsg.timestamping-bad", call_sendmsg, 0, 15, 0},
	{"sendmsg.txtime", call_sendmsg, 0, 16, 0},
	{"sendmsg.fastopen", call_sendmsg, MSG_FASTOPEN, 0, 0},
	{"sendmsg.fastopen.name", call_sendmsg, MSG_FASTOPEN, 6, 0},
	{"sendmsg.fastopen.bogus-control", call_sendmsg, MSG_FASTOPEN, 3, 0},
	{"sendto.fastopen.unspec", call_sendto, 6, MSG_FASTOPEN, 0},
	{"sendto.fastopen.short", call_sendto, 7, MSG_FASTOPEN, 0},
	{"sendmsg.oob", call_sendmsg, MSG_OOB, 0, 0},
	{"sendmmsg", call_sendmmsg, 3, 0, CALL_SECOND},
	{"sendmmsg.0", call_sendmmsg, 0, 0, 0},
	{"sendmmsg.second-bad", call_sendmmsg, 3, 1, 0},
	{"sendmmsg.bad", call_sendmmsg, 3, 2, 0},
	{"sendfile", call_sendfile, 0, 5, CALL_SECOND},
	{"sendfile.beyond", call_sendfile, 0, 500, 0},
	{"sendfile.0", call_sendfile, 0, 0, 0},
	{"sendfile.offset", call_sendfile, 1, 5, 0},
	{"sendfile.negative", call_sendfile, 2, 5, 0},
	{"sendfile.from", call_sendfile, 3, 5, 0},
	{"sendfile.offset-bad", call_sendfile, 4, 5, 0},
	{"sendfile.pipe", call_sendfile, 5, 5, 0},
	{"sendfile.directory", call_sendfile, 6, 5, 0},
	{"sendfile.from-offset", call_sendfile, 7, 5, 0},
	{"splice.in", call_splice_in, 0, 0, CALL_SECOND},
	{"splice.in.more", call_splice_in, SPLICE_F_MORE, 0, 0},
	{"splice.in.nonblock", call_splice_in, SPLICE_F_NONBLOCK, 0, 0},
	{"splice.in.long", call_splice_in_long, 0, 100000, 0},
	{"splice.in.long.nonblock", call_splice_in_long, SPLICE_F_NONBLOCK, 100000, 0},
	{"splice.in.offset", call_splice_in, 0, 1, 0},
	{"pwrite", call_other, 0, 0, 0},
	{"pwritev", call_other, 1, 0, 0},
	{"pwritev2", call_other, 2, 0, 0},
	{"copy_file_range", call_other, 3, 0, 0},
	{"tee", call_other, 4, 0, 0},
	{"vmsplice", call_other, 5, 0, 0},
};
const struct call_table send_calls = {calls, sizeof calls / sizeof *calls};
