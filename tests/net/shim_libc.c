/*
 * The part of shim_calls about libc itself: calls that use an fd inside libc, where no wrapper sees it, numbers that
 * stdio uses without being told, and calls that act on a pending cancellation.
 */
#include "shim_calls.h"

#include <aio.h>
#include <linux/aio_abi.h>
#include <execinfo.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

int bindresvport(int fd, struct sockaddr_in *addr); /* glibc's header for it is another library's today */

static long aio_ended(struct aiocb *cb)
{
	const struct aiocb *list[] = {cb};
	struct timespec bound = {10, 0};
	return aio_suspend(list, 1, &bound) < 0 ? -1 : aio_error(cb) ? -aio_error(cb) : aio_return(cb);
}

static void asynchronous(void)
{
	char b[8] = "";
	int c, s;
	pair(&c, &s);
	struct aiocb in = {.aio_fildes = s, .aio_buf = b, .aio_nbytes = sizeof b, .aio_lio_opcode = LIO_READ};
	struct aiocb out = {.aio_fildes = c, .aio_buf = "aio", .aio_nbytes = 3, .aio_lio_opcode = LIO_WRITE};
	SAY(aio_read(&in));
	SAY(aio_write(&out));
	SAY(aio_ended(&out));
	SAY(aio_ended(&in));
	SAY(memcmp(b, "aio", 3));
	close(c), close(s);
	pair(&c, &s);
	in.aio_fildes = s, out.aio_fildes = c;
	struct aiocb *both[] = {&out, NULL, &in};
	SAY(lio_listio(LIO_WAIT, both, 3, NULL));
	SAY(aio_return(&out));
	SAY(aio_return(&in));
	SAY(send(s, "x", 1, 0));
	wait_readable(c);
	SAY(recv(c, b, sizeof b, 0));
	in.aio_fildes = -1;
	SAY(aio_read(&in) ? 0 : aio_ended(&in));
	close(c), close(s);
}

/* Linux's own, whose calls glibc does not have. */
static long submitted(aio_context_t context, struct iocb *cb)
{
	struct io_event ev = {.res = -ETIME};
	struct timespec bound = {10, 0};
	if (syscall(SYS_io_submit, context, 1, &cb) != 1)
		return -1;
	syscall(SYS_io_getevents, context, 1, 1, &ev, &bound);
	return ev.res;
}

static void asynchronous_in_kernel(void)
{
	char b[8] = "";
	int c, s, port, l = listener(&port);
	aio_context_t context = 0;
	struct iocb *bad = (void *)8;
	pair(&c, &s);
	SAY(syscall(SYS_io_setup, 8, &context));
	SAY(send(c, "kernel", 6, 0));
	struct iocb poll = {.aio_lio_opcode = IOCB_CMD_POLL, .aio_fildes = s, .aio_buf = POLLIN};
	struct iocb in = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = s, .aio_buf = (uintptr_t)b, .aio_nbytes = sizeof b};
	struct iocb out = {.aio_lio_opcode = IOCB_CMD_PWRITE, .aio_fildes = s, .aio_buf = (uintptr_t)"answer", .aio_nbytes = 6};
	SAY(submitted(context, &poll));
	SAY(submitted(context, &in));
	SAY(memcmp(b, "kernel", 6));
	SAY(submitted(context, &out));
	wait_readable(c);
	SAY(recv(c, b, sizeof b, 0));
	SAY(memcmp(b, "answer", 6));
	int waiting = client(port);
	poll.aio_fildes = l;
	SAY(submitted(context, &poll));
	close(accept(l, NULL, NULL));
	SAY(syscall(SYS_io_submit, context, 1, &bad));
	SAY(syscall(SYS_io_submit, context, 1, NULL));
	SAY(syscall(SYS_io_destroy, context));
	close(waiting), close(l), close(c), close(s);
}

/* Of a vector of several, each is to lie in the program's half of the addresses. */
static void vectors_and_flags(void)
{
	char b[8];
	int c, s;
	pair(&c, &s);
	struct iovec v[2] = {{b, SSIZE_MAX}, {b, 1}};
	SAY(write(c, "abcdef", 6));
	wait_readable(s);
	SAY(readv(s, v, 2));
	SAY(writev(s, v, 2));
	SAY(readv(s, &(struct iovec){b, 0}, 1));
	v[0].iov_len = v[1].iov_len = 1;
	v[1].iov_base = (void *)-4096;
	SAY(readv(s, v, 2));
	v[1].iov_base = b;
	for (int flag = 1; flag < 0x400; flag <<= 1)
		if (flag != 0x80) { /* RWF_DONTCACHE, which a socket refuses in its own way */
			printf("# flag %x\n", flag);
			SAY(preadv2(s, v, 1, -1, flag) == pwritev2(c, v, 1, -1, flag));
		}
	close(s); /* with unread bytes: a reset */
	wait_readable(c);
	while (recv(c, b, sizeof b, MSG_DONTWAIT) > 0)
		;
	SAY(pwritev2(c, v, 1, -1, 0x100) < 0);
	close(c);
}

static void reserved_port(void)
{
	int port, l = listener(&port), fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = address(0), to = address(port), got = {0};
	socklen_t len = sizeof got;
	SAY(bindresvport(fd, &a));
	SAY(connect(fd, sa(&to), sizeof to));
	int s = SAY(accept(l, sa(&got), &len));
	SAY(got.sin_port == a.sin_port);
	close(fd), close(s), close(l);
}

/* Numbers 0 to 2 by accept, connect, dup and F_DUPFD: stdio reads and writes there. */
static void standard_streams(void)
{
	int port, l = listener(&port), kept = fcntl(0, F_DUPFD, 100), c = client(port), s;
	char b[16] = "";
	wait_readable(l);
	close(0);
	SAY(s = accept(l, NULL, NULL));
	SAY(write(c, "one\n", 4));
	SAY(fgets(b, sizeof b, stdin) != NULL);
	SAY(strcmp(b, "one\n"));
	close(c);
	SAY(getchar());
	clearerr(stdin);

	close(0);
	c = client(port);
	SAY(c);
	wait_readable(l);
	s = accept(l, NULL, NULL);
	SAY(write(s, "two\n", 4));
	SAY(fgets(b, sizeof b, stdin) != NULL);
	SAY(strcmp(b, "two\n"));
	close(c), close(s);

	dup2(kept, 0);
	pair(&c, &s);
	close(0);
	SAY(dup(s));
	SAY(write(c, "three\n", 6));
	SAY(fgets(b, sizeof b, stdin) != NULL);
	SAY(strcmp(b, "three\n"));
	close(0);
	SAY(fcntl(s, F_DUPFD, 0));
	SAY(write(c, "four\n", 5));
	SAY(fgets(b, sizeof b, stdin) != NULL);
	SAY(strcmp(b, "four\n"));
	dup2(kept, 0);
	close(kept), close(c), close(s), close(l);
}

/* A socket as the source of sendfile: to a pipe it is a splice. */
static void sent_from_socket(void)
{
	int c, s, p[2], file = open("/dev/null", O_RDONLY);
	char b[8];
	off_t offset = 0;
	pair(&c, &s);
	SAY(pipe(p));
	SAY(write(c, "pipe", 4));
	wait_readable(s);
	SAY(sendfile(p[1], s, NULL, 2));
	SAY(sendfile(p[1], s, NULL, 8));
	SAY(read(p[0], b, sizeof b));
	SAY(fcntl(s, F_SETFL, O_NONBLOCK));
	SAY(sendfile(p[1], s, NULL, 1));
	SAY(sendfile(p[1], s, NULL, 0));
	SAY(sendfile(p[1], s, &offset, 1));
	SAY(sendfile(p[0], s, NULL, 1));
	SAY(sendfile(c, s, NULL, 1));
	SAY(sendfile(-1, s, NULL, 1));
	SAY(sendfile(file, s, NULL, 1));
	SAY(sendfile(s, file, NULL, -1));
	close(p[0]), close(p[1]), close(c), close(s), close(file);
}

void libc_inside(void)
{
	int c, s;
	char b[512];
	void *frame[] = {libc_inside};
	puts("# libc");
	asynchronous();
	asynchronous_in_kernel();
	vectors_and_flags();
	reserved_port();
	standard_streams();
	sent_from_socket();
	pair(&c, &s);
	backtrace_symbols_fd(frame, 1, c);
	wait_readable(s);
	SAY(read(s, b, sizeof b) > 4);
	close(c), close(s);
}

/* ---- cancellation ---- */

struct cancelled {
	const char *name;
	int fd, listener, epoll;
	bool returned;
};

/* What need not wait acts on a cancellation that is pending all the same, and has done nothing then. */
static void *call_cancelled(void *arg)
{
	struct cancelled *t = arg;
	char b[4];
	struct iovec v = {b, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	struct mmsghdr mm = {.msg_hdr = m};
	struct sockaddr_in a = address(1);
	struct pollfd p = {t->fd, POLLIN, 0};
	struct timeval no_time = {0};
	struct timespec no_ts = {0};
	struct epoll_event ev;
	fd_set in;
	FD_ZERO(&in);
	FD_SET(t->fd, &in);
	pthread_cancel(pthread_self());
#define IF(call) if (strcmp(t->name, #call) == 0)
	IF(read) read(t->fd, b, 1);
	IF(readv) readv(t->fd, &v, 1);
	IF(recv) recv(t->fd, b, 1, MSG_DONTWAIT);
	IF(recvfrom) recvfrom(t->fd, b, 1, 0, NULL, NULL);
	IF(recvmsg) recvmsg(t->fd, &m, 0);
	IF(recvmmsg) recvmmsg(t->fd, &mm, 1, 0, NULL);
	IF(write) write(t->fd, "c", 1);
	IF(writev) writev(t->fd, &v, 1);
	IF(send) send(t->fd, "c", 1, 0);
	IF(sendto) sendto(t->fd, "c", 1, 0, NULL, 0);
	IF(sendmsg) sendmsg(t->fd, &m, 0);
	IF(sendmmsg) sendmmsg(t->fd, &mm, 1, 0);
	IF(accept) accept(t->listener, NULL, NULL);
	IF(accept4) accept4(t->listener, NULL, NULL, SOCK_NONBLOCK);
	IF(connect) connect(t->fd, sa(&a), sizeof a);
	IF(close) close(t->fd);
	IF(fcntl) fcntl(t->fd, F_GETFL);
	IF(poll) poll(&p, 1, -1);
	IF(ppoll) ppoll(&p, 1, &no_ts, NULL);
	IF(select) select(t->fd + 1, &in, NULL, NULL, &no_time);
	IF(pselect) pselect(t->fd + 1, &in, NULL, NULL, NULL, NULL);
	IF(epoll_wait) epoll_wait(t->epoll, &ev, 1, 0);
	IF(epoll_pwait) epoll_pwait(t->epoll, &ev, 1, -1, NULL);
	IF(epoll_pwait2) epoll_pwait2(t->epoll, &ev, 1, &no_ts, NULL);
	IF(shutdown) shutdown(t->fd, 77);
#undef IF
	t->returned = true;
	return NULL;
}

void cancellations(void)
{
	static const char *const names[] = {"read", "readv",  "recv",    "recvfrom", "recvmsg", "recvmmsg", "write", "writev", "send",
					    "sendto", "sendmsg", "sendmmsg", "accept",   "accept4", "connect",  "close", "fcntl",  "shutdown",
					    "poll", "ppoll", "select", "pselect", "epoll_wait", "epoll_pwait", "epoll_pwait2"};
	int port, l = listener(&port), c = client(port), s = accept(l, NULL, NULL), waiting = client(port);
	char b[64];
	puts("# cancelled");
	SAY(write(c, "unread", 6));
	wait_readable(s);
	wait_readable(l);
	int epoll = epoll_create1(0);
	SAY(epoll_ctl(epoll, EPOLL_CTL_ADD, s, &(struct epoll_event){.events = EPOLLIN}));
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct cancelled t = {names[i], s, l, epoll, false};
		pthread_t thread;
		void *result;
		pthread_create(&thread, NULL, call_cancelled, &t);
		pthread_join(thread, &result);
		printf("%s %s\n", t.name, result == PTHREAD_CANCELED && !t.returned ? "cancelled" : "returned");
	}
	SAY(recv(s, b, sizeof b, MSG_DONTWAIT));
	SAY(recv(c, b, sizeof b, MSG_DONTWAIT));
	struct pollfd p = {l, POLLIN, 0};
	SAY(poll(&p, 1, 0));
	close(epoll), close(waiting), close(c), close(s), close(l);
}
