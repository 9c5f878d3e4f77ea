/*
 * Every intercepted call, on TCP sockets over loopback and on pipes, files, AF_UNIX and UDP. Prints
 * each result and errno; shim_calls_test.sh compares the output without the shim, under it on the
 * kernel's TCP, and under it with a fake engine.
 *
 * Ports from the first argument on. No output may depend on time, process ids or addresses.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <linux/close_range.h>
#include <termios.h>
#include <unistd.h>

#ifdef SYS_epoll_wait
#define EPOLL_WAIT_NR SYS_epoll_wait
#else
#define EPOLL_WAIT_NR SYS_epoll_pwait
#endif

#include "shim_calls.h"
#include "tests/task.h"

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

static short poll1(int fd, short events)
{
	struct pollfd p = {fd, events, 0};
	return poll(&p, 1, 1000) < 0 ? -1 : p.revents;
}

/* The slave of a pseudo-terminal is opened again and flushed: the master in packet mode is told. */
static void *flush_slave(void *name)
{
	int slave = open(name, O_RDWR | O_NOCTTY);
	tcflush(slave, TCIFLUSH);
	return (void *)(intptr_t)slave;
}

/* What poll always tells, and select only of fds in whose set it is. */
static void select_hung_up(int s)
{
	int fds[2], on = 1, master = posix_openpt(O_RDWR | O_NOCTTY);
	fd_set in, ex;
	void *slave;
	pthread_t thread;
	struct timeval tv = {0, 20000};
	SAY(pipe(fds));
	close(fds[1]);
	SAY(grantpt(master) + unlockpt(master) + ioctl(master, TIOCPKT, &on));
	close(open(ptsname(master), O_RDWR | O_NOCTTY));
	SAY(poll1(master, 0) & POLLHUP);
	FD_ZERO(&in);
	FD_ZERO(&ex);
	FD_SET(s, &in);
	FD_SET(fds[0], &ex);
	FD_SET(master, &ex);
	SAY(select(100, &in, NULL, &ex, &tv));
	SAY(tv.tv_sec * 1000000 + tv.tv_usec);
	FD_SET(s, &in);
	FD_SET(fds[0], &ex);
	FD_SET(master, &ex);
	SAY(pthread_create(&thread, NULL, flush_slave, ptsname(master)));
	tv = (struct timeval){10, 0};
	SAY(select(100, &in, NULL, &ex, &tv));
	SAY(FD_ISSET(s, &in) + 2 * FD_ISSET(fds[0], &ex) + 4 * FD_ISSET(master, &ex));
	pthread_join(thread, &slave);
	close((int)(intptr_t)slave);
	close(master);
	close(fds[0]);
}

/* More is said than the set holds, as with getdtablesize(): Linux looks no further than its table. What is behind the set may change meanwhile, or not be mapped. */
static struct {
	fd_set in;
	volatile long behind[2048];
} wide;
static int wide_fd;

static void *change_behind(void *arg)
{
	struct timespec ts = {0, 20000000};
	nanosleep(&ts, NULL); /* the other is mostly in select by then; where it is not, nothing is tested */
	wide.behind[1] = 77;
	wide.behind[800] = 78;
	SAY(write(wide_fd, "w", 1));
	return arg;
}

static void select_beyond(int c, int s)
{
	const int numbers[] = {1024, 2000, 4096, 65536, 1048576, 0x7fffffff};
	char b, *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fd_set *last = (fd_set *)(void *)(page + 4096 - sizeof *last);
	struct timespec ts = {5, 0};
	pthread_t thread;
	munmap(page + 4096, 4096);
	wide_fd = c;
	for (int i = 0; i < 5; i++) {
		memset(&wide, 0, sizeof wide);
		FD_SET(s, &wide.in);
		pthread_create(&thread, NULL, change_behind, NULL);
		long r = pselect(numbers[i], &wide.in, NULL, NULL, &ts, NULL);
		pthread_join(thread, NULL);
		say("changed meanwhile", r);
		SAY(FD_ISSET(s, &wide.in) + wide.behind[1] * 1000 + wide.behind[800]);
		SAY(read(s, &b, 1));
	}
	memset(&wide, 255, sizeof wide); /* numbers that are not open, all beyond the table */
	FD_ZERO(&wide.in);
	SAY(write(c, "w", 1));
	FD_SET(s, &wide.in);
	SAY(pselect(10000, &wide.in, NULL, NULL, &ts, NULL));
	SAY(wide.behind[0] == -1 && wide.behind[100] == -1);
	for (int i = 0; i < 6; i++) {
		FD_ZERO(last);
		FD_SET(s, last);
		SAY(pselect(numbers[i], last, NULL, NULL, &ts, NULL));
		FD_ZERO(last);
		FD_SET(STDOUT_FILENO, last);
		SAY(pselect(numbers[i], NULL, last, NULL, &ts, NULL));
		SAY(pselect(numbers[i], (void *)(page + 4096), NULL, NULL, &ts, NULL));
	}
	SAY(read(s, &b, 1));
	munmap(page, 4096);
}

static void polls(void)
{
	int c, s, fds[2];
	char b;
	puts("# polls");
	pair(&c, &s);
	SAY(pipe(fds));
	SAY(poll1(s, POLLOUT | POLLIN));
	struct pollfd p[4] = {
	    {s, POLLIN, 0}, {fds[0], POLLIN, 0}, {-1, POLLIN, 0}, {997, POLLIN, 0}};
	SAY(poll(p, 3, 0));
	SAY(poll(p, 4, 1000));
	printf("%x %x %x %x\n", p[0].revents, p[1].revents, p[2].revents, p[3].revents);
	SAY(write(fds[1], "1", 1));
	SAY(poll(p, 3, 1000));
	printf("%x %x\n", p[0].revents, p[1].revents);
	SAY(write(c, "2", 1));
	wait_readable(s);
	struct timespec ts = {1, 0}, bad = {0, -1};
	SAY(ppoll(p, 3, &ts, NULL));
	SAY(ppoll(p, 3, &bad, NULL));
	printf("%x %x\n", p[0].revents, p[1].revents);
	fd_set in, out, ex;
	struct timeval tv = {30, 0}, zero = {0, 0};
	memset(&in, 0, sizeof in);
	out = ex = in;
	FD_SET(s, &in);
	FD_SET(fds[0], &in);
	FD_SET(s, &out);
	FD_SET(s, &ex);
	SAY(select(100, &in, &out, &ex, &tv));
	SAY(FD_ISSET(s, &in) + 2 * FD_ISSET(fds[0], &in) + 4 * FD_ISSET(s, &out) +
	    8 * FD_ISSET(s, &ex));
	SAY(tv.tv_sec > 0 && tv.tv_sec < 30); /* what was left */
	SAY(read(s, &b, 1));
	SAY(read(fds[0], &b, 1));
	FD_SET(s, &in);
	FD_SET(fds[0], &in);
	SAY(select(100, &in, NULL, NULL, &zero));
	SAY(FD_ISSET(s, &in));
	tv = (struct timeval){0, 20000};
	FD_SET(s, &in);
	SAY(select(100, &in, NULL, NULL, &tv));
	SAY(tv.tv_sec * 1000000 + tv.tv_usec);
	FD_SET(s, &in);
	FD_SET(50, &in); /* not open */
	SAY(select(51, &in, NULL, NULL, &zero));
	FD_CLR(50, &in);
	SAY(pselect(100, &in, NULL, NULL, &ts, NULL) == 0);
	SAY(select(-1, NULL, NULL, NULL, &zero));
	select_hung_up(s);
	select_beyond(c, s);
	SAY(shutdown(c, SHUT_WR));
	wait_readable(s);
	SAY(poll1(s, POLLIN | POLLRDHUP));
	SAY(close(c));
	SAY(close(s));
	close(fds[0]);
	close(fds[1]);
}

int ready(int ep, int ms)
{
	struct epoll_event ev[8];
	int n = epoll_wait(ep, ev, 8, ms);
	if (n < 0)
		return -1;
	int bits = 0;
	for (int i = 0; i < n; i++)
		bits = bits * 10000 + ev[i].data.u32 * 1000 + (ev[i].events & 0xff);
	return bits;
}

int ctl(int ep, int op, int fd, unsigned events, unsigned tag)
{
	struct epoll_event ev = {.events = events, .data.u32 = tag};
	return epoll_ctl(ep, op, fd, &ev);
}

struct waiting {
	int ep;
	_Atomic pid_t tid;
	int result;
};
static void *wait_there(void *arg)
{
	struct waiting *w = arg;
	w->tid = gettid();
	w->result = ready(w->ep, 20000);
	return NULL;
}

/* Until that thread is asleep in an epoll wait of the kernel. */
static void until_asleep(struct waiting *w)
{
	long nr;
	do
		nr = task_call(getpid(), w->tid);
	while (nr != SYS_epoll_pwait && nr != EPOLL_WAIT_NR);
}

static void epolls(void)
{
	int c, s, fds[2], port;
	char b;
	puts("# epolls");
	int ep = epoll_create1(0);
	int l = listener(&port);
	SAY(ctl(ep, EPOLL_CTL_ADD, l, EPOLLIN, 1));
	SAY(ctl(ep, EPOLL_CTL_ADD, l, EPOLLIN, 1));
	SAY(ready(ep, 0));
	c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	SAY(ctl(ep, EPOLL_CTL_ADD, c, EPOLLIN | EPOLLOUT, 2)); /* before it is decided */
	struct sockaddr_in a = address(port);
	SAY(connect(c, sa(&a), sizeof a));
	SAY(poll1(c, POLLOUT));
	SAY(connect(c, sa(&a), sizeof a) < 0 && errno != EISCONN);
	wait_readable(l);
	SAY(ctl(ep, EPOLL_CTL_MOD, c, EPOLLIN, 2));
	SAY(ready(ep, 1000));
	s = accept(l, NULL, NULL);
	SAY(ready(ep, 0));
	SAY(ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET, 3));
	SAY(pipe(fds));
	SAY(ctl(ep, EPOLL_CTL_ADD, fds[0], EPOLLIN, 4));
	SAY(ready(ep, 0));
	write(c, "xy", 2);
	wait_readable(s);
	SAY(ready(ep, 1000));
	SAY(ready(ep, 0)); /* edge: once */
	write(fds[1], "p", 1);
	SAY(ready(ep, 1000));
	SAY(ready(ep, 0));
	SAY(read(fds[0], &b, 1));
	SAY(ctl(ep, EPOLL_CTL_MOD, s, EPOLLIN | EPOLLONESHOT, 3));
	SAY(ready(ep, 1000));
	SAY(ready(ep, 0));
	SAY(ctl(ep, EPOLL_CTL_MOD, s, EPOLLIN, 3));
	SAY(ready(ep, 1000));
	SAY(ctl(ep, EPOLL_CTL_DEL, s, 0, 0));
	SAY(ctl(ep, EPOLL_CTL_DEL, s, 0, 0));
	SAY(ctl(ep, EPOLL_CTL_MOD, s, 0, 0));
	SAY(epoll_ctl(ep, 77, s, NULL));
	SAY(epoll_ctl(ep, EPOLL_CTL_ADD, s, NULL));
	SAY(ctl(ep, EPOLL_CTL_ADD, 998, EPOLLIN, 0));
	SAY(ctl(fds[0], EPOLL_CTL_ADD, s, EPOLLIN, 0));
	SAY(ready(ep, 0));
	SAY(ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 3));
	/* an epoll in an epoll, and polled */
	int outer = epoll_create(1);
	SAY(ctl(outer, EPOLL_CTL_ADD, ep, EPOLLIN, 7));
	SAY(ready(outer, 1000));
	SAY(poll1(ep, POLLIN));
	SAY(read(s, &b, 1));
	SAY(read(s, &b, 1));
	SAY(ready(outer, 0));
	write(c, "z", 1);
	SAY(ready(outer, 1000));
	SAY(ready(ep, 1000));
	SAY(close(s)); /* takes its registration along */
	SAY(ready(ep, 0) == 0 || ready(ep, 0) / 1000 == 2);
	close(outer);
	close(c);
	close(ep);
	close(l);
	/* a member that comes while another thread waits */
	ep = epoll_create1(EPOLL_CLOEXEC);
	pair(&c, &s);
	write(c, "q", 1);
	wait_readable(s);
	struct waiting w = {.ep = ep};
	pthread_t t;
	pthread_create(&t, NULL, wait_there, &w);
	while (!w.tid)
		sched_yield();
	until_asleep(&w);
	SAY(ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 5));
	pthread_join(t, NULL);
	SAY(w.result);
	SAY(ready(ep, 0));
	struct epoll_event ev;
	struct timespec ts = {0, 1000000};
	SAY(epoll_pwait(ep, &ev, 1, 1000, NULL));
	SAY(epoll_pwait2(ep, &ev, 1, &ts, NULL));
	SAY(epoll_wait(ep, &ev, 0, 0));
	SAY(epoll_wait(s, &ev, 1, 0));
	int ep2 = dup(ep);
	close(ep);
	SAY(ready(ep2, 1000));
	close(ep2);
	close(s);
	close(c);
	close(fds[0]);
	close(fds[1]);
}

/* A file that cannot be read, and what else may be wrong: which comes first. */
static void unreadable(int c)
{
	off_t at = 2, before = -2;
	int files[] = {-1, 9999, open("/dev/null", O_WRONLY), open("/dev/null", O_PATH), open("/", O_RDONLY)};
	for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
		SAY(sendfile(c, files[i], &at, 4));
		SAY(sendfile(c, files[i], &before, 4));
		SAY(sendfile(c, files[i], &at, 0));
		SAY(sendfile(c, files[i], (off_t *)8, 4));
		SAY(sendfile(c, files[i], NULL, 4));
		close(files[i]);
	}
	SAY(at);
	SAY(before);
}

/* Behind the largest offset of the file's file system, and of all. */
static void far_offsets(int c)
{
	static const off_t far[] = {100, INT32_MAX, 1L << 60, 1L << 62, INT64_MAX, INT64_MAX - 4};
	int files[] = {open("/proc/self/exe", O_RDONLY), memfd_create("f", 0), open("/dev/null", O_WRONLY)};
	for (unsigned f = 0; f < 3; f++) {
		for (unsigned i = f ? 0 : 2; i < sizeof far / sizeof *far; i++) {
			off_t at = far[i];
			SAY(sendfile(c, files[f], &at, 5));
			SAY(sendfile(c, files[f], &at, 0));
			SAY(at == far[i]);
		}
		SAY(sendfile(c, files[f], &(off_t){5}, INT64_MAX));
		close(files[f]);
	}
}

static void copies(void)
{
	int c, s, fds[2];
	char buf[16] = {0};
	off_t at = 2;
	loff_t none = 0;
	puts("# copies");
	pair(&c, &s);
	int file = memfd_create("f", 0);
	write(file, "0123456789", 10);
	SAY(sendfile(c, file, &at, 4));
	SAY(at);
	SAY(lseek(file, 0, SEEK_CUR));
	wait_readable(s);
	SAY(read(s, buf, 16));
	printf("%.4s\n", buf);
	lseek(file, 7, SEEK_SET);
	SAY(sendfile(c, file, NULL, 100));
	SAY(lseek(file, 0, SEEK_CUR));
	SAY(sendfile(c, file, NULL, 100));
	SAY(sendfile(file, s, NULL, 10));
	SAY(sendfile(c, -1, NULL, 10));
	unreadable(c);
	int fifo[2], out_only = open("/dev/null", O_WRONLY);
	static const off_t offsets[] = {0, 3, -1};
	for (size_t i = 0; i < 3; i++)
		for (size_t n = 0; n < 2; n++) {
			at = offsets[i];
			printf("from %d, %d\n", (int)at, (int)n);
			SAY(sendfile(c, -1, &at, n));
			SAY(sendfile(c, out_only, &at, n));
		}
	at = 0;
	SAY(pipe(fifo));
	SAY(sendfile(c, fifo[0], &at, 1));
	SAY(sendfile(c, fifo[1], &at, 1));
	close(fifo[0]), close(fifo[1]), close(out_only);
	SAY(pipe(fds));
	wait_readable(s);
	SAY(splice(s, NULL, fds[1], NULL, 100, 0));
	SAY(read(fds[0], buf, 16));
	printf("%.3s\n", buf);
	fcntl(s, F_SETFL, O_NONBLOCK);
	SAY(splice(s, NULL, fds[1], NULL, 100, SPLICE_F_NONBLOCK));
	fcntl(s, F_SETFL, 0);
	write(fds[1], "pipe", 4);
	SAY(splice(fds[0], NULL, c, NULL, 100, 0));
	wait_readable(s);
	SAY(read(s, buf, 16));
	printf("%.4s\n", buf);
	int low = 10;
	SAY(setsockopt(s, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low));
	SAY(write(c, "below", 5));
	SAY(recv(s, buf, 5, MSG_PEEK)); /* all of it is there */
	SAY(splice(s, NULL, fds[1], NULL, 100, 0)); /* which does not heed it */
	low = 1;
	SAY(setsockopt(s, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low));
	SAY(splice(s, NULL, c, NULL, 1, 0));
	SAY(splice(s, NULL, -1, NULL, 1, 0));
	SAY(splice(999, NULL, c, NULL, 1, 0));
	SAY(splice(s, &none, fds[1], NULL, 1, 0));
	SAY(splice(fds[0], NULL, c, NULL, 1, SPLICE_F_NONBLOCK));
	SAY(copy_file_range(file, NULL, c, NULL, 1, 0));
	SAY(splice(s, (loff_t *)8, fds[1], NULL, 1, 0));
	SAY(splice(s, (loff_t *)8, file, NULL, 1, 0));
	SAY(splice(fds[0], NULL, c, (loff_t *)8, 1, 0));
	SAY(splice(fds[0], (loff_t *)8, c, (loff_t *)8, 1, 0));
	SAY(splice(s, &none, fds[0], NULL, 1, 0));
	SAY(splice(fds[1], NULL, c, &none, 1, 0));
	int path = open("/dev/null", O_PATH);
	SAY(splice(s, NULL, path, NULL, 1, 0));
	SAY(splice(path, NULL, c, NULL, 1, 0));
	close(path);
	far_offsets(c);
	SAY(fcntl(c, F_SETFL, O_APPEND));
	SAY(sendfile(c, file, &(off_t){0}, 4));
	SAY(sendfile(c, file, NULL, 4));
	SAY(sendfile(c, file, NULL, 0));
	SAY(sendfile(c, 9999, &(off_t){0}, 4));
	SAY(write(fds[1], "left", 4));
	SAY(splice(fds[0], NULL, c, NULL, 4, 0));
	SAY(read(fds[0], buf, 16));
	SAY(write(c, "a", 1));
	SAY(read(s, buf, 16));
	close(fds[0]), close(fds[1]), close(c), close(s), close(file);
}

#define BIG_BYTES 700001

static unsigned char byte_at(size_t at)
{
	return at * 2654435761u >> 21;
}

/* The file from `at` on, by both ends in turn: how many bytes came, or how many before a wrong one. */
static size_t file_arrives(int c, int s, int file, off_t at)
{
	static unsigned char got[65536];
	size_t from = at, have = 0;
	while (from + have < BIG_BYTES) {
		sendfile(c, file, &at, BIG_BYTES);
		struct pollfd p = {s, POLLIN, 0};
		ssize_t n = poll(&p, 1, 5000) == 1 ? read(s, got, sizeof got) : 0;
		if (n <= 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			if (got[i] != byte_at(from + have + i))
				return have + i;
		have += n;
	}
	return have;
}

/* More than a piece of any copy, from all sorts of places, with room in the send buffer for a part each time. */
static void big_file(void)
{
	static const off_t from[] = {0, 1, 31, 4095, 4096, 131071, 200003};
	static unsigned char bytes[BIG_BYTES];
	int c, s, file = memfd_create("big", 0);
	puts("# a big file");
	for (size_t i = 0; i < BIG_BYTES; i++)
		bytes[i] = byte_at(i);
	SAY(write(file, bytes, BIG_BYTES));
	pair(&c, &s);
	fcntl(c, F_SETFL, O_NONBLOCK);
	for (size_t i = 0; i < sizeof from / sizeof from[0]; i++)
		SAY(file_arrives(c, s, file, from[i]));
	close(c), close(s), close(file);
}

static void stdios(void)
{
	int c, s;
	char line[64];
	puts("# stdio");
	pair(&c, &s);
	SAY(dprintf(s, "%d %s\n", 42, "dprintf"));
	FILE *f = fdopen(c, "r+");
	SAY(fileno(f) == c);
	printf("%s", fgets(line, sizeof line, f));
	fprintf(f, "through stdio\n");
	SAY(fflush(f));
	wait_readable(s);
	ssize_t n = read(s, line, sizeof line);
	printf("%.*s", (int)n, line);
	SAY(shutdown(s, SHUT_WR));
	SAY(fgets(line, sizeof line, f) == NULL);
	SAY(fclose(f));
	SAY(read(s, line, 1));
	close(s);
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

static volatile int handled, in_handler_result;
static int handler_fd;
static void on_alarm(int sig)
{
	handled++;
}
static void on_alarm_write(int sig)
{
	handled++;
	in_handler_result = write(handler_fd, "h", 1);
}

static void alarm_after_ms(int ms)
{
	struct itimerval it = {.it_value = {0, ms * 1000}};
	setitimer(ITIMER_REAL, &it, NULL);
}

/* … and again and again, until 0: one that comes before the call waits, on a busy machine, is not the last. */
static void alarms_after_ms(int ms)
{
	struct itimerval it = {.it_value = {0, ms * 1000}, .it_interval = {0, ms * 10000}};
	if (!ms)
		memset(&it, 0, sizeof it);
	setitimer(ITIMER_REAL, &it, NULL);
}

static void signals(void)
{
	int c, s;
	char b;
	puts("# signals");
	pair(&c, &s);
	struct sigaction act = {.sa_handler = on_alarm}, old;
	SAY(sigaction(SIGALRM, &act, NULL));
	SAY(sigaction(SIGALRM, NULL, &old));
	SAY(old.sa_handler == on_alarm);
	SAY(old.sa_flags & (SA_RESTART | SA_SIGINFO));
	alarms_after_ms(30);
	SAY(recv(s, &b, 1, 0));
	alarms_after_ms(0);
	SAY(handled > 0);
	alarms_after_ms(30);
	struct pollfd p = {s, POLLIN, 0};
	SAY(poll(&p, 1, 30000));
	alarms_after_ms(0);
	act.sa_handler =
	    on_alarm_write; /* SA_RESTART: recv goes on, and gets what the handler wrote */
	act.sa_flags = SA_RESTART;
	handler_fd = c;
	SAY(sigaction(SIGALRM, &act, &old));
	SAY(old.sa_handler == on_alarm);
	alarm_after_ms(30);
	SAY(recv(s, &b, 1, 0));
	SAY(in_handler_result);
	SAY(signal(SIGALRM, SIG_DFL) == on_alarm_write);
	SAY(signal(SIGALRM, on_alarm) == SIG_DFL);
	SAY(siginterrupt(SIGALRM, 1));
	alarms_after_ms(30);
	SAY(recv(s, &b, 1, 0));
	alarms_after_ms(0);
	SAY(signal(SIGALRM, SIG_IGN) == on_alarm);
	SAY(sysv_signal(SIGUSR1, on_alarm) == SIG_DFL);
	int before = handled;
	raise(SIGUSR1);
	SAY(handled - before);
	SAY(signal(SIGUSR1, SIG_IGN) == SIG_DFL); /* it was reset */
	SAY(sigset(SIGUSR2, on_alarm) == SIG_DFL);
	raise(SIGUSR2);
	SAY(handled - before);
	SAY(sigignore(SIGUSR2));
	raise(SIGUSR2);
	SAY(signal(SIGUSR2, SIG_DFL) == SIG_IGN);
	SAY(sigignore(99));
	SAY(sigaction(99, &act, NULL));
	SAY(sigaction(SIGKILL, &act, NULL));
	close(c), close(s);
}

/* Signals in a storm while the thread is in and out of the engine: all arrive, none deadlocks, data
 * stays exact. */
static volatile int storm_hits;
static void on_storm(int sig)
{
	storm_hits++;
	struct pollfd p = {handler_fd, POLLOUT, 0};
	poll(&p, 1, 0); /* a verb from the handler */
}

static void storm(void)
{
	int c, s;
	unsigned char b = 0, got;
	puts("# storm");
	pair(&c, &s);
	handler_fd = c;
	struct sigaction act = {.sa_handler = on_storm, .sa_flags = SA_RESTART};
	sigaction(SIGALRM, &act, NULL);
	struct itimerval it = {{0, 300}, {0, 300}}, stop = {{0, 0}, {0, 0}};
	setitimer(ITIMER_REAL, &it, NULL);
	int wrong = 0, rounds = 0;
	while (storm_hits < 100) {
		b++, rounds++;
		while (send(c, &b, 1, 0) < 0 && errno == EINTR)
			;
		while (recv(s, &got, 1, 0) < 0 && errno == EINTR)
			;
		wrong += got != b;
	}
	setitimer(ITIMER_REAL, &stop, NULL);
	SAY(wrong);
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
