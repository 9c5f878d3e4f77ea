/*
 * Netlink I/O over raw system calls.
 *
 * A request carries a sequence number of a process-wide counter; answers with another number or
 * another port are left-overs of an earlier request that failed midway and are skipped. A dump ends
 * at NLMSG_DONE, everything else at the ack (NLMSG_ERROR), so that the socket is empty when
 * netlink_talk returns, however the caller's callback felt about it. The receive buffer is on the
 * heap: engine entry points may run on small thread stacks.
 */
#include "kernel/netlink.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>

#include "base/sys.h"
#include "base/time.h"
#include "base/zeroed.h"

/* Notifications of a busy host between two of our turns */
#define NETLINK_RCVBUF_BYTES (1024 * 1024)

static uint32_t next_seq(void)
{
	static uint32_t seq;
	uint32_t n = __atomic_add_fetch(&seq, 1, __ATOMIC_RELAXED);
	return n ? n : __atomic_add_fetch(&seq, 1, __ATOMIC_RELAXED); /* 0 marks notifications */
}

static int open_socket(int bus, int flags)
{
	struct sockaddr_nl any = {.nl_family = AF_NETLINK};
	int one = 1;
	int fd = sys_socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, bus);
	if (fd < 0)
		return fd;
	int ret = sys_bind(fd, &any, sizeof any);
	if (ret < 0) {
		sys_close(fd);
		return ret;
	}
	/* Both only improve answers (dump filters, shorter acks): a kernel without them is fine. */
	sys_setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof one);
	sys_setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one);
	return fd;
}

int netlink_open(int bus)
{
	return open_socket(bus, 0);
}

int netlink_open_groups(int bus, const int *groups, size_t n_groups)
{
	int size = NETLINK_RCVBUF_BYTES;
	int fd = open_socket(bus, SOCK_NONBLOCK);
	if (fd < 0)
		return fd;
	if (sys_setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0)
		sys_setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	for (size_t i = 0; i < n_groups; i++) {
		int ret = sys_setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i],
					 sizeof groups[i]);
		if (ret < 0) {
			sys_close(fd);
			return ret;
		}
	}
	return fd;
}

/* One datagram from the kernel; its length, 0 for one that is not the kernel's, or -errno. */
static ssize_t receive(int fd, void *buf, size_t len)
{
	struct sockaddr_nl from = {0};
	struct iovec iov = {.iov_base = buf, .iov_len = len};
	struct msghdr msg = {
	    .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	do
		n = sys_recvmsg(fd, &msg, MSG_DONTWAIT);
	while (n == -EINTR);
	if (n < 0)
		return n;
	if (msg.msg_flags & MSG_TRUNC)
		return -ENOSPC;
	return from.nl_pid == 0 ? n : 0; /* another process may send to our port: ignored */
}

static int wait_readable(int fd, int64_t deadline_us)
{
	for (;;) {
		int64_t left_us = deadline_us - clock_now_us();
		struct timespec ts = timespec_of(left_us);
		struct pollfd pfd = {.fd = fd, .events = POLLIN};
		if (left_us <= 0)
			return -ETIMEDOUT;
		int ret = sys_ppoll(&pfd, 1, &ts, NULL);
		if (ret > 0)
			return 0;
		if (ret < 0 && ret != -EINTR)
			return ret;
	}
}

struct talk {
	uint32_t seq, port;
	int (*on_msg)(const struct nlmsghdr *, void *);
	void *ctx;
	bool done, interrupted, want_no_more;
	int result;
};

static void on_error(struct talk *t, const struct nlmsghdr *h)
{
	const struct nlmsgerr *err = (const void *)(h + 1);
	t->done = true;
	if (h->nlmsg_len < NLMSG_LENGTH(sizeof err->error))
		t->result = -EBADMSG;
	else if (err->error && !t->result)
		t->result = err->error;
}

static void on_message(struct talk *t, const struct nlmsghdr *h)
{
	if (h->nlmsg_flags & NLM_F_DUMP_INTR)
		t->interrupted = true;
	if (h->nlmsg_type == NLMSG_ERROR) {
		on_error(t, h);
	} else if (h->nlmsg_type == NLMSG_DONE) {
		int error = 0;
		if (h->nlmsg_len >= NLMSG_LENGTH(sizeof error))
			memcpy(&error, h + 1, sizeof error);
		t->done = true;
		if (error < 0 && !t->result)
			t->result = error;
	} else if (h->nlmsg_type >= NLMSG_MIN_TYPE && t->on_msg && !t->want_no_more) {
		int ret = t->on_msg(h, t->ctx);
		t->want_no_more = ret != 0;
		if (ret < 0)
			t->result = ret;
		if (ret == NETLINK_ABANDON)
			t->done = true;
	}
}

static void on_datagram(struct talk *t, const void *buf, size_t n)
{
	const struct nlmsghdr *h = buf;
	for (; n >= sizeof *h && h->nlmsg_len >= sizeof *h && h->nlmsg_len <= n;) {
		size_t step = NLMSG_ALIGN(h->nlmsg_len);
		if (h->nlmsg_seq == t->seq && h->nlmsg_pid == t->port && !t->done)
			on_message(t, h);
		if (step >= n)
			break;
		n -= step;
		h = (const void *)((const char *)h + step);
	}
}

static int converse(int fd, struct talk *t, char *buf, size_t len)
{
	int64_t deadline_us = clock_now_us() + NETLINK_TIMEOUT_MS * USEC_PER_MSEC;
	while (!t->done) {
		ssize_t n = receive(fd, buf, len);
		if (n == -EAGAIN)
			n = wait_readable(fd, deadline_us);
		else if (n > 0)
			on_datagram(t, buf, n);
		if (n < 0)
			return n;
	}
	if (t->result == 0 && t->interrupted)
		return -EINTR;
	return t->result;
}

static int own_port(int fd, uint32_t *port)
{
	struct sockaddr_nl self = {0};
	socklen_t len = sizeof self;
	int err = sys_getsockname(fd, &self, &len);
	*port = self.nl_pid;
	return err < 0 ? err : 0;
}

static int talk_into(int fd, struct talk *t, const void *requests, size_t len, char *buf, size_t buf_len)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	ssize_t n;
	do
		n = sys_sendto(fd, requests, len, 0, &kernel, sizeof kernel);
	while (n == -EINTR);
	return n < 0 ? n : converse(fd, t, buf, buf_len);
}

static int talk(int fd, struct talk *t, const void *requests, size_t len)
{
	char *buf = zeroed_new(NETLINK_BUFFER_BYTES); /* a verb in a signal handler comes here, too, and that may have interrupted malloc */
	if (!buf)
		return -ENOMEM;
	int ret = talk_into(fd, t, requests, len, buf, NETLINK_BUFFER_BYTES);
	zeroed_free(buf, NETLINK_BUFFER_BYTES);
	return ret;
}

static int prepare(int fd, struct talk *t, struct nlmsghdr *req)
{
	int err = own_port(fd, &t->port);
	if (err < 0)
		return err;
	req->nlmsg_seq = t->seq;
	req->nlmsg_pid = t->port;
	req->nlmsg_flags |= NLM_F_REQUEST;
	if ((req->nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP)
		req->nlmsg_flags |= NLM_F_ACK;
	return 0;
}

int netlink_talk(int fd, struct nlmsghdr *req, int (*on_msg)(const struct nlmsghdr *, void *),
		 void *ctx)
{
	struct talk t = {.seq = next_seq(), .on_msg = on_msg, .ctx = ctx};
	int err = prepare(fd, &t, req);
	return err ? err : talk(fd, &t, req, req->nlmsg_len);
}

int netlink_tell(int fd, struct nlmsghdr *req)
{
	struct talk t = {.seq = next_seq()};
	char buf[NETLINK_ACK_BYTES];
	int err = prepare(fd, &t, req);
	return err ? err : talk_into(fd, &t, req, req->nlmsg_len, buf, sizeof buf);
}

int netlink_talk_batch(int fd, void *requests, size_t len)
{
	struct talk t = {.seq = next_seq()};
	struct nlmsghdr *last = NULL, *last_but_one = NULL;
	int err = own_port(fd, &t.port);
	if (err < 0)
		return err;
	for (size_t at = 0; at < len; at += NLMSG_ALIGN(last->nlmsg_len)) {
		last_but_one = last;
		last = (struct nlmsghdr *)((char *)requests + at);
		last->nlmsg_seq = t.seq;
		last->nlmsg_pid = t.port;
		last->nlmsg_flags |= NLM_F_REQUEST;
	}
	if (!last_but_one)
		return -EINVAL;
	last_but_one->nlmsg_flags |= NLM_F_ACK;
	return talk(fd, &t, requests, len);
}

int netlink_drain(int fd, int (*on_msg)(const struct nlmsghdr *, void *), void *ctx)
{
	char byte;
	ssize_t n = sys_recvfrom(fd, &byte, sizeof byte, MSG_PEEK | MSG_DONTWAIT, NULL, NULL); /* mostly there is nothing */
	int ret = 0;
	if (n < 0 && n != -EINTR)
		return n == -EAGAIN ? 0 : n;
	char *buf = zeroed_new(NETLINK_BUFFER_BYTES);
	if (!buf)
		return -ENOMEM;
	while (ret >= 0 && (n = receive(fd, buf, NETLINK_BUFFER_BYTES)) != -EAGAIN) {
		const struct nlmsghdr *h = (const void *)buf;
		if (n < 0)
			ret = n;
		for (; ret >= 0 && NLMSG_OK(h, n); h = NLMSG_NEXT(h, n))
			if (h->nlmsg_type >= NLMSG_MIN_TYPE)
				ret = on_msg(h, ctx);
	}
	zeroed_free(buf, NETLINK_BUFFER_BYTES);
	return ret < 0 ? ret : 0;
}
