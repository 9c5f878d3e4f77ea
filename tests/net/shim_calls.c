/*
 * Every intercepted call, on TCP sockets over loopback and on pipes, files, AF_UNIX and UDP. Prints
 * each result and errno; shim_calls_test.sh compares the output without the shim, under it on the
 * kernel's TCP, and under it with a fake engine.
 *
 * Ports from the first argument on. No output may depend on time, process ids or addresses.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim_calls.h"

static int next_port;

static const char *error_name(long r)
{
	return r < 0 ? strerrorname_np(errno) : "ok";
}

void say(const char *what, long r)
{
	const char *e = error_name(r);
	printf("%s: %ld %s\n", what, r, e);
	fflush(stdout);
}

struct sockaddr_in address(int port)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
				    .sin_port = htons(port),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

struct sockaddr *sa(struct sockaddr_in *a)
{
	return (struct sockaddr *)a;
}

int listener(int *port)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	struct sockaddr_in a = address(*port = next_port++);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, sa(&a), sizeof a) < 0 || listen(fd, 16) < 0)
		perror("listener"), exit(99);
	return fd;
}

int client(int port)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = address(port);
	if (connect(fd, sa(&a), sizeof a) < 0)
		perror("connect"), exit(99);
	return fd;
}

/* c: client end, s: server end. */
void pair(int *c, int *s)
{
	int port, l = listener(&port);
	*c = client(port);
	*s = accept(l, NULL, NULL);
	close(l);
}

void wait_readable(int fd)
{
	struct pollfd p = {fd, POLLIN, 0};
	poll(&p, 1, 5000);
}

static int fd_is_socket(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

static void lifecycle(void)
{
	int port;
	puts("# lifecycle");
	int l = SAY(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
	struct sockaddr_in a = address(port = next_port++), got;
	socklen_t len = sizeof got;
	SAY(accept(l, NULL, NULL));
	SAY(bind(l, sa(&a), sizeof a));
	SAY(listen(l, 5));
	SAY(listen(l, 7));
	SAY(bind(l, sa(&a), sizeof a));
	SAY(getsockname(l, sa(&got), &len));
	SAY(ntohs(got.sin_port) == port);
	SAY(getpeername(l, sa(&got), &len));
	SAY(fcntl(l, F_GETFL) & O_NONBLOCK);
	SAY(fcntl(l, F_SETFL, O_RDWR | O_NONBLOCK));
	SAY(accept(l, NULL, NULL));
	SAY(fcntl(l, F_GETFL) & (O_ACCMODE | O_NONBLOCK));
	SAY(fcntl(l, F_GETFD));
	SAY(accept4(l, NULL, NULL, 0x7));
	int c = SAY(socket(AF_INET, SOCK_STREAM, 0));
	SAY(send(c, "x", 1, MSG_NOSIGNAL));
	SAY(connect(c, sa(&a), sizeof a));
	SAY(connect(c, sa(&a), sizeof a));
	wait_readable(l);
	len = sizeof got;
	int s = SAY(accept4(l, sa(&got), &len, SOCK_NONBLOCK | SOCK_CLOEXEC));
	SAY(len);
	SAY(got.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	SAY(fcntl(s, F_GETFL) & (O_ACCMODE | O_NONBLOCK));
	SAY(fcntl(s, F_GETFD));
	SAY(fd_is_socket(s));
	SAY(fd_is_socket(c));
	SAY(lseek(s, 0, SEEK_CUR));
	SAY(pread(s, &a, 1, 0));
	SAY(getpeername(s, sa(&got), &len));
	int value = 0;
	len = sizeof value;
	SAY(getsockopt(s, SOL_SOCKET, SO_TYPE, &value, &len));
	SAY(value == SOCK_STREAM);
	SAY(getsockopt(s, SOL_SOCKET, SO_ACCEPTCONN, &value, &len));
	SAY(value);
	SAY(getsockopt(l, SOL_SOCKET, SO_ACCEPTCONN, &value, &len));
	SAY(value);
	value = 1;
	SAY(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value));
	SAY(setsockopt(c, IPPROTO_TCP, 9999, &value, sizeof value));
	SAY(listen(c, 1));
	SAY(accept(c, NULL, NULL));
	SAY(recv(s, &value, 1, 0));
	value = 0;
	SAY(ioctl(s, FIONBIO, &value));
	SAY(fcntl(s, F_GETFL) & O_NONBLOCK);
	value = 1;
	SAY(ioctl(s, 1UL << 32 | FIONBIO, &value)); /* the kernel takes 32 bits */
	SAY(fcntl(s, F_GETFL) & O_NONBLOCK);
	value = 0;
	SAY(ioctl(s, FIONBIO, &value));
	long long stamp[2];
	SAY(ioctl(s, SIOCGSTAMP_OLD, stamp));
	SAY(ioctl(s, SIOCGSTAMPNS_OLD, stamp));
	SAY(ioctl(s, SIOCGSTAMP_NEW, stamp));
	SAY(ioctl(s, SIOCGSTAMPNS_NEW, stamp));
	SAY(ioctl(s, FIONREAD, &value));
	SAY(value);
	SAY(ioctl(s, TCGETS, &value));
	SAY(ioctl(s, FIONCLEX));
	SAY(fcntl(s, F_GETFD));
	SAY(write(c, "abc", 3));
	wait_readable(s);
	SAY(ioctl(s, FIONREAD, &value));
	SAY(value);
	SAY(shutdown(c, SHUT_WR));
	SAY(shutdown(c, 9));
	char buf[8];
	SAY(read(s, buf, sizeof buf));
	SAY(read(s, buf, sizeof buf));
	SAY(close(s));
	SAY(close(s));
	SAY(read(s, buf, 1));
	SAY(close(c));
	SAY(close(l));
	c = socket(AF_INET, SOCK_STREAM, 0);
	SAY(connect(c, sa(&a), sizeof a));
	close(c);
}

static volatile int pipes;
static void on_sigpipe(int sig)
{
	pipes++;
}

/* Linux cuts the count to 1024, and stops at the first message that fails: pages with later ones are not even there. */
static void many_messages(void)
{
	struct iovec iov = {"x", 1};
	size_t size = 64 * 4096;
	struct mmsghdr *mm = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char there;
	int u[2];
	for (int i = 0; i < 3; i++)
		mm[i].msg_hdr = (struct msghdr){.msg_iov = i < 2 ? &iov : (void *)8, .msg_iovlen = 1};
	SAY(socketpair(AF_UNIX, SOCK_DGRAM, 0, u));
	SAY(sendmmsg(u[0], mm, 2000000, MSG_DONTWAIT));
	SAY(mincore((char *)mm + 40 * 4096, 4096, &there));
	SAY(there & 1);
	close(u[0]);
	close(u[1]);
	munmap(mm, size);
}

static void data(void)
{
	int c, s;
	char buf[64] = {0}, other[64];
	puts("# data");
	pair(&c, &s);
	SAY(write(c, "0123456789", 10));
	wait_readable(s);
	SAY(recv(s, buf, 4, MSG_PEEK));
	SAY(read(s, buf, 3));
	printf("%.3s\n", buf);
	struct iovec iov[2] = {{buf, 2}, {other, 3}};
	SAY(readv(s, iov, 2));
	printf("%.2s %.3s\n", buf, other);
	SAY(readv(s, iov, -1));
	SAY(writev(s, iov, 2));
	SAY(writev(s, iov, 1025));
	SAY(recv(s, buf, sizeof buf, MSG_DONTWAIT));
	SAY(recv(s, buf, sizeof buf, MSG_DONTWAIT));
	struct sockaddr_in from;
	socklen_t len = sizeof from;
	wait_readable(c);
	SAY(recvfrom(c, buf, sizeof buf, 0, sa(&from), &len));
	SAY(len);
	SAY(send(c, "hello", 5, 0));
	SAY(sendto(c, "world", 5, 0, NULL, 0));
	struct msghdr m = {
	    .msg_iov = iov, .msg_iovlen = 2, .msg_name = &from, .msg_namelen = sizeof from};
	iov[0] = (struct iovec){"x", 1};
	iov[1] = (struct iovec){"yz", 2};
	struct msghdr out = {.msg_iov = iov, .msg_iovlen = 2};
	SAY(sendmsg(c, &out, 0));
	iov[0] = (struct iovec){buf, 6};
	iov[1] = (struct iovec){other, 7};
	SAY(recvmsg(s, &m, MSG_WAITALL));
	printf("%.6s %.7s %u\n", buf, other, m.msg_namelen);
	struct iovec one[3] = {{"aa", 2}, {"bbb", 3}, {"c", 1}};
	struct mmsghdr mm[3] = {{.msg_hdr = {.msg_iov = &one[0], .msg_iovlen = 1}},
				{.msg_hdr = {.msg_iov = &one[1], .msg_iovlen = 1}},
				{.msg_hdr = {.msg_iov = &one[2], .msg_iovlen = 1}}};
	SAY(sendmmsg(c, mm, 3, 0));
	many_messages();
	printf("%u %u %u\n", mm[0].msg_len, mm[1].msg_len, mm[2].msg_len);
	wait_readable(s);
	while (recv(s, other, 6, MSG_PEEK | MSG_DONTWAIT) < 6)
		;
	for (int i = 0; i < 3; i++)
		one[i] = (struct iovec){buf + 2 * i, 2};
	struct timespec soon = {5, 0};
	SAY(recvmmsg(s, mm, 3, 0, &soon));
	printf("%.6s\n", buf);
	SAY(recvmmsg(s, mm, 3, MSG_DONTWAIT, NULL));
	SAY(send(c, "!", 1, MSG_OOB));
	struct pollfd p = {s, POLLPRI, 0};
	poll(&p, 1, 5000);
	SAY(sockatmark(s));
	SAY(recv(s, buf, 1, MSG_OOB));
	SAY(recv(s, buf, 0, MSG_DONTWAIT));
	SAY(read(s, buf, 0));
	signal(SIGPIPE, on_sigpipe);
	SAY(shutdown(s, SHUT_WR));
	SAY(write(s, "x", 1));
	SAY(send(s, "x", 1, MSG_NOSIGNAL));
	SAY(writev(s, one, 1));
	SAY(pipes);
	close(s);
	close(c);
	signal(SIGPIPE, SIG_IGN);
}

static void bulk(void)
{
	int c, s;
	enum { SIZE = 3 * 1024 * 1024 };
	puts("# bulk");
	pair(&c, &s);
	pid_t pid = fork();
	if (pid == 0) {
		close(c);
		unsigned sum = 0;
		size_t total = 0;
		static unsigned char buf[65536];
		ssize_t n;
		while ((n = read(s, buf, sizeof buf)) > 0) {
			for (ssize_t i = 0; i < n; i++)
				sum = sum * 31 + buf[i];
			total += n;
		}
		printf("child read %zu sum %u\n", total, sum);
		fflush(stdout);
		_exit(0);
	}
	close(s);
	unsigned char *big = malloc(SIZE);
	for (size_t i = 0; i < SIZE; i++)
		big[i] = i * 7 + (i >> 9);
	SAY(write(c, big, SIZE));
	close(c);
	waitpid(pid, NULL, 0);
	free(big);
}

static void descriptors(void)
{
	int c, s, fds[2];
	char buf[8];
	puts("# descriptors");
	pair(&c, &s);
	int base = dup(0);
	close(base); /* the lowest free number */
	SAY(dup(s) - base);
	SAY(write(base, "d", 1));
	wait_readable(c);
	SAY(read(c, buf, 8));
	SAY(close(s));
	SAY(write(base, "e", 1));
	wait_readable(c);
	SAY(read(c, buf, 8));
	SAY(dup2(base, base + 5) - base);
	SAY(dup2(base + 5, base + 5) - base);
	SAY(dup3(base + 5, base + 6, O_CLOEXEC) - base);
	SAY(fcntl(base + 6, F_GETFD));
	SAY(dup3(base, base, 0));
	SAY(dup2(999, base));
	SAY(dup2(base, -1));
	SAY(write(base + 6, "f", 1));
	SAY(fcntl(base, F_DUPFD, base + 10) - base);
	SAY(fcntl(base, F_DUPFD_CLOEXEC, base + 10) - base);
	SAY(fcntl(base, F_DUPFD, -1));
	SAY(fcntl(base + 11, F_GETFD));
	SAY(fcntl(base + 10, F_SETFL, O_NONBLOCK));
	SAY(fcntl(base, F_GETFL) & O_NONBLOCK);
	SAY(close_range(base + 5, base + 20, 0));
	SAY(write(base + 10, "x", 1));
	SAY(close_range(base + 5, base + 4, 0));
	wait_readable(c);
	SAY(read(c, buf, 8));
	SAY(dup2(STDIN_FILENO, base) -
	    base); /* the last number of the connection: the peer sees the end */
	wait_readable(c);
	SAY(read(c, buf, 8));
	close(base);
	close(c);
	pair(&c, &s);
	close(c);
	SAY(pipe(fds));
	SAY(write(fds[1], "p", 1));
	SAY(read(fds[0], buf, 8));
	SAY(close(fds[0]));
	SAY(write(fds[1], "p", 1));
	SAY(close(fds[1]));
	SAY(pipe2(fds, O_NONBLOCK));
	SAY(read(fds[0], buf, 1));
	close_range(fds[0], fds[1], 0);
	SAY(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
	SAY(send(fds[0], "u", 1, 0));
	SAY(recv(fds[1], buf, 8, 0));
	close(fds[0]);
	close(fds[1]);
	int fd = SAY(memfd_create("m", 0));
	SAY(write(fd, "m", 1));
	close(fd);
	fd = eventfd(3, 0);
	SAY(read(fd, buf, 8));
	close(fd);
	fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	SAY(read(fd, buf, 8));
	close(fd);
	SAY(open("/nonexistent", O_RDONLY));
	fd = openat(AT_FDCWD, "/tmp", O_TMPFILE | O_RDWR, 0600);
	SAY(fd >= 0);
	SAY(fcntl(fd, F_GETFL) & O_ACCMODE);
	close(fd);
	SAY(close(-1));
	closefrom(3);
	SAY(fcntl(3, F_GETFD));
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	SAY(fd);
	SAY(connect(fd, sa(&(struct sockaddr_in){.sin_family = AF_UNSPEC}),
		    sizeof(struct sockaddr_in)));
	SAY(listen(fd, 1));
	close(fd);
}

static int pass_fd(int via, int fd)
{
	char byte = 'x';
	struct iovec iov = {&byte, 1};
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u = {0};
	struct msghdr m = {
	    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.buf, .msg_controllen = sizeof u.buf};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(h), &fd, sizeof fd);
	return sendmsg(via, &m, 0);
}

static int receive_fd(int via)
{
	char byte;
	int fd = -1;
	struct iovec iov = {&byte, 1};
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u;
	struct msghdr m = {
	    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.buf, .msg_controllen = sizeof u.buf};
	if (recvmsg(via, &m, 0) == 1 && CMSG_FIRSTHDR(&m))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
	return fd;
}

static void passing(void)
{
	int c, s, u[2];
	char b[8];
	puts("# passing");
	pair(&c, &s);
	socketpair(AF_UNIX, SOCK_STREAM, 0, u);
	int ep = epoll_create1(0);
	SAY(ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 6));
	SAY(pass_fd(u[0], s));
	int got = receive_fd(u[1]);
	SAY(got >= 0);
	SAY(write(got, "passed", 6));
	SAY(close(got));
	wait_readable(c);
	SAY(read(c, b, 8));
	SAY(write(c, "back", 4));
	SAY(ready(ep, 1000)); /* the registration followed the socket */
	SAY(read(s, b, 8));
	SAY(close(s));
	SAY(read(c, b, 8));
	close(c), close(ep), close(u[0]), close(u[1]);
	/* an option that the fake engine lacks */
	pair(&c, &s);
	int mark = 0;
	SAY(setsockopt(s, SOL_SOCKET, SO_MARK, &mark, sizeof mark) == 0 || errno == EPERM);
	SAY(write(s, "marked", 6));
	wait_readable(c);
	SAY(read(c, b, 8));
	close(c), close(s);
}

static void raw_syscalls(void)
{
	int c, s;
	char b[8];
	puts("# syscall");
	pair(&c, &s);
	SAY(syscall(SYS_write, c, "sys", 3));
	wait_readable(s);
	SAY(syscall(SYS_read, s, b, 8));
	SAY(syscall(SYS_read, -1, b, 8));
	SAY(syscall(SYS_getsockopt, s, 1, 1, 1, 1) < 0);
	struct pollfd p = {s, POLLOUT, 0};
	SAY(syscall(SYS_poll, &p, 1, 100));
	struct epoll_event e = {.events = EPOLLOUT};
	struct timespec soon = {0, 100000000};
	int ep = epoll_create1(0);
	SAY(epoll_ctl(ep, EPOLL_CTL_ADD, s, &e));
	SAY(syscall(SYS_epoll_pwait2, ep, &e, 1, &soon, NULL, 8));
	struct timespec left = {0, 20000000}, wrong = {0, -1};
	struct {
		const void *mask;
		size_t bytes;
	} mask = {NULL, 8};
	fd_set in;
	FD_ZERO(&in);
	FD_SET(s, &in);
	p.events = POLLIN;
	SAY(syscall(SYS_ppoll, &p, 1, &left, NULL, 8));
	SAY(left.tv_sec + left.tv_nsec);
	left.tv_nsec = 20000000;
	SAY(syscall(SYS_pselect6, s + 1, &in, NULL, NULL, &left, &mask));
	SAY(left.tv_sec + left.tv_nsec);
	left.tv_sec = 100, p.events = POLLOUT;
	SAY(syscall(SYS_ppoll, &p, 1, &left, NULL, 8));
	SAY(left.tv_sec < 100);
	SAY(syscall(SYS_ppoll, &p, 1, &wrong, NULL, 8));
	SAY(wrong.tv_nsec);
	SAY(syscall(SYS_ppoll, &p, 1, (void *)8, NULL, 8));
	SAY(syscall(SYS_pselect6, s + 1, &in, NULL, NULL, NULL, (void *)8));
	SAY(ppoll(&p, 1, &left, (void *)8));
	SAY(pselect(s + 1, NULL, &in, NULL, &left, (void *)8));
	SAY(epoll_pwait(ep, &e, 1, 0, (void *)8));
	close(ep);
	int d = syscall(SYS_dup, s);
	SAY(syscall(SYS_close, s));
	SAY(write(d, "y", 1));
	wait_readable(c);
	SAY(read(c, b, 8));
	SAY(syscall(SYS_close, d));
	SAY(read(c, b, 8));
	close(c);
	SAY(syscall(9999));
}

struct blocked {
	int fd;
	long result;
};
static void *read_blocked(void *arg)
{
	struct blocked *b = arg;
	char buf[8];
	b->result = read(b->fd, buf, sizeof buf);
	return NULL;
}

static void threads(void)
{
	int c, s;
	puts("# threads");
	pair(&c, &s);
	struct blocked b = {s, 0};
	pthread_t t;
	pthread_create(&t, NULL, read_blocked, &b);
	SAY(write(c, "t", 1));
	pthread_join(t, NULL);
	SAY(b.result);
	close(c);
	close(s);
}

static void fd_limit(void)
{
	int port, l = listener(&port), c = client(port), fds[1100], n = 0, fd;
	struct rlimit limit = {200, 1024};
	puts("# limit");
	SAY(setrlimit(RLIMIT_NOFILE, &limit));
	while (n < 1100 && (fd = dup(0)) >= 0)
		fds[n++] = fd;
	SAY(dup(0));
	wait_readable(l);
	SAY(accept(l, NULL, NULL)); /* EMFILE; the connection is not lost */
	SAY(pwritev2(c, &(struct iovec){"n", 1}, 1, -1, 0x100)); /* RWF_NOSIGNAL, where the kernel has it */
	close(fds[--n]);
	SAY(accept(l, NULL, NULL) == fds[n]);
	while (n)
		close(fds[--n]);
	SAY(write(c, "x", 1));
	close(l);
	close(c);
	closefrom(3);
}

int main(int argc, char **argv)
{
	next_port = atoi(argv[1]);
	signal(SIGPIPE, SIG_IGN);
	alarm(0);
	static const struct {
		const char *name;
		void (*run)(void);
	} parts[] = {
	    {"lifecycle", lifecycle},     {"data", data},           {"bulk", bulk},
	    {"descriptors", descriptors}, {"polls", polls},         {"epolls", epolls},
	    {"copies", copies},           {"big file", big_file}, {"processes", processes}, {"clones", clones},   {"stdio", stdios},
	    {"passing", passing},         {"signals", signals},     {"storm", storm},
	    {"libc", libc_inside},        {"cancelled", cancellations},
	    {"syscall", raw_syscalls},    {"threads", threads},     {"limit", fd_limit},
	};
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		if (argc < 3 || strcmp(argv[2], parts[i].name) == 0)
			parts[i].run();
	puts("# end");
	return 0;
}
