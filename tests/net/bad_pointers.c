/*
 * Bad pointers in every call that takes one, on a connection, a listener and other sockets; and what a program may do
 * with SIGSEGV itself. Prints each result and errno; bad_pointers_test.sh compares the output natively and under
 * finesse. Arguments: address and port of a server that sends "hello" and then echoes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <netinet/tcp.h>
#include <linux/sockios.h>
#include <unistd.h>

#define SAY(call)                                                                                  \
	do {                                                                                       \
		errno = 0;                                                                         \
		long r_ = (long)(call);                                                            \
		printf("%s: %ld %s\n", #call, r_, r_ < 0 ? strerrorname_np(errno) : "ok");         \
	} while (0)

#define SAY_AND_KEEP(call)                                                                         \
	({                                                                                         \
		long kept_;                                                                        \
		SAY(kept_ = (call));                                                               \
		kept_;                                                                             \
	})

static char *none, *read_only; /* a page each: nothing may be done; only read */
#define BAD ((void *)none)

static void data_calls(int fd)
{
	char b[16] = "";
	struct iovec bad_iov = {BAD, 5}, second_bad[2] = {{b, 2}, {BAD, 3}}, negative = {b, -1};
	struct msghdr bad_msg = {.msg_iov = &bad_iov, .msg_iovlen = 1}, bad_array = {.msg_iov = BAD, .msg_iovlen = 1};
	struct msghdr good = {.msg_iov = second_bad, .msg_iovlen = 1}, many = {.msg_iov = second_bad, .msg_iovlen = IOV_MAX + 1};
	struct sockaddr_storage from;
	SAY(recv(fd, BAD, 5, MSG_DONTWAIT));
	SAY(recv(fd, read_only, 5, MSG_DONTWAIT));
	SAY(recv(fd, BAD, 5, MSG_PEEK));
	SAY(recv(fd, BAD, 0, MSG_DONTWAIT));
	SAY(read(fd, BAD, 5));
	SAY(readv(fd, &bad_iov, 1));
	SAY(readv(fd, second_bad, 2));
	SAY(readv(fd, BAD, 1));
	SAY(readv(fd, &negative, 1));
	SAY(readv(fd, &bad_iov, -1));
	SAY(readv(fd, &bad_iov, IOV_MAX + 1));
	SAY(recvmsg(fd, BAD, 0));
	SAY(recvmsg(fd, &bad_msg, 0));
	SAY(recvmsg(fd, &bad_array, 0));
	SAY(recvmsg(fd, &many, 0));
	SAY(recvmmsg(fd, BAD, 1, 0, NULL));
	SAY(recvfrom(fd, BAD, 5, 0, (void *)&from, BAD));
	SAY(send(fd, BAD, 5, 0));
	SAY(send(fd, BAD, 0, 0));
	SAY(write(fd, BAD, 5));
	SAY(writev(fd, second_bad, 2));
	SAY(writev(fd, BAD, 1));
	SAY(writev(fd, &negative, 1));
	SAY(sendmsg(fd, BAD, 0));
	SAY(sendmsg(fd, &bad_msg, 0));
	SAY(sendmsg(fd, &bad_array, 0));
	SAY(sendmmsg(fd, BAD, 1, 0));
	SAY(sendfile(fd, fd, NULL, 1));
	good.msg_control = BAD;
	good.msg_controllen = 64;
	SAY(sendmsg(fd, &good, 0));
	SAY(recv(fd, b, 5, MSG_WAITALL));
	SAY(memcmp(b, "hello", 5));
	SAY(send(fd, read_only, 3, 0));
	SAY(recv(fd, b, 3, MSG_WAITALL));
}

static void lying_control(int fd)
{
	char buf[CMSG_SPACE(4)] = {0}, data = 'x';
	struct iovec iov = {&data, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = buf, .msg_controllen = sizeof buf};
	struct cmsghdr *c = (void *)buf;
	*c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = 0xffffff};
	SAY(sendmsg(fd, &m, 0));
	c->cmsg_len = 3;
	SAY(sendmsg(fd, &m, 0));
	m.msg_control = BAD;
	SAY(sendmsg(fd, &m, 0));
	struct mmsghdr mm = {.msg_hdr = m};
	SAY(sendmmsg(fd, &mm, 1, 0));
	SAY(recvmsg(fd, BAD, MSG_DONTWAIT));
}

static void name_calls(int fd)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof a, negative = -1, zero = 0, four = 4;
	int v = 1;
	SAY(getsockname(fd, BAD, BAD));
	SAY(getsockname(fd, (void *)&a, BAD));
	SAY(getsockname(fd, BAD, &len));
	SAY(len);
	SAY(getsockname(fd, BAD, &zero));
	SAY(zero);
	SAY(getsockname(fd, (void *)&a, &negative));
	SAY(getpeername(fd, BAD, BAD));
	SAY(getpeername(fd, BAD, &len));
	SAY(getsockopt(fd, SOL_SOCKET, SO_ERROR, BAD, BAD));
	SAY(getsockopt(fd, SOL_SOCKET, SO_ERROR, &v, BAD));
	SAY(getsockopt(fd, SOL_SOCKET, SO_ERROR, BAD, &four));
	SAY(getsockopt(fd, IPPROTO_TCP, TCP_INFO, BAD, &four));
	SAY(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &v, &negative));
	SAY(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, BAD, 4));
	SAY(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, BAD, 4));
	SAY(setsockopt(fd, SOL_SOCKET, SO_LINGER, BAD, 8));
	SAY(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, BAD, 16));
	SAY(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &v, -1));
	SAY(ioctl(fd, FIONREAD, BAD));
	SAY(ioctl(fd, FIONBIO, BAD));
	SAY(ioctl(fd, SIOCATMARK, BAD));
	SAY(ioctl(fd, SIOCOUTQ, BAD));
	SAY(connect(fd, BAD, sizeof a));
}

static void wait_calls(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	struct epoll_event ev = {.events = EPOLLOUT};
	struct timespec bad_time = {0, -1};
	int ep = epoll_create1(0);
	fd_set set;
	FD_ZERO(&set);
	FD_SET(fd, &set);
	SAY(poll(BAD, 1, 0));
	SAY(poll(BAD, 0, 0));
	SAY(ppoll(&p, 1, &bad_time, NULL));
	SAY(ppoll(BAD, 1, NULL, NULL));
	SAY(select(fd + 1, BAD, NULL, NULL, NULL));
	SAY(epoll_ctl(ep, EPOLL_CTL_ADD, fd, BAD));
	SAY(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	SAY(epoll_ctl(ep, EPOLL_CTL_MOD, fd, BAD));
	SAY(epoll_wait(ep, BAD, 1, 0));
	SAY(epoll_pwait2(ep, &ev, 1, BAD, NULL));
	SAY(epoll_ctl(ep, EPOLL_CTL_DEL, fd, BAD));
	close(ep);
}

/* Without a client: accept's name is looked at only then. */
static void listener_calls(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof a;
	int l = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	SAY(bind(l, BAD, sizeof a));
	SAY(bind(l, (void *)&a, sizeof a));
	SAY(listen(l, 5));
	SAY(accept(l, BAD, BAD));
	SAY(accept4(l, BAD, &len, 0x1));
	name_calls(l);
	int c = socket(AF_INET, SOCK_STREAM, 0);
	SAY(getsockname(l, (void *)&a, &len));
	inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
	SAY(connect(c, BAD, sizeof a));
	SAY(connect(c, (void *)&a, sizeof a));
	SAY(accept(l, (void *)&a, BAD) < 0);
	close(c);
	close(l);
}

static sigjmp_buf out;
static void jump(int sig)
{
	siglongjmp(out, sig);
}

/* Volatile, so that each fault happens where it stands. */
static void fault(void)
{
	*(volatile char *)none = 1;
}

static int status_of(void (*body)(void))
{
	int status;
	fflush(stdout);
	pid_t pid = fork();
	if (!pid) {
		body();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

static void send_itself(void)
{
	kill(getpid(), SIGSEGV);
}

static void ignored_fault(void)
{
	signal(SIGSEGV, SIG_IGN);
	fault();
}

static void ignored_sent(void)
{
	signal(SIGSEGV, SIG_IGN);
	send_itself();
	_exit(7);
}

static void once(void)
{
	struct sigaction sa = {.sa_handler = jump, .sa_flags = SA_RESETHAND | SA_NODEFER};
	sigaction(SIGSEGV, &sa, NULL);
	if (!sigsetjmp(out, 1))
		fault();
	fault();
}

static void signal_calls(int fd)
{
	struct sigaction old, sa = {.sa_handler = jump, .sa_flags = SA_NODEFER};
	sigaddset(&sa.sa_mask, SIGUSR1);
	sigaction(SIGSEGV, NULL, &old);
	SAY(old.sa_handler == SIG_DFL);
	SAY(old.sa_flags);
	SAY(sigismember(&old.sa_mask, SIGUSR1));
	SAY(sigaction(SIGSEGV, &sa, &old));
	SAY(old.sa_handler == SIG_DFL);
	volatile int jumps = 0;
	for (volatile int i = 0; i < 3; i++)
		if (sigsetjmp(out, 1) == SIGSEGV)
			jumps++;
		else
			fault();
	SAY(jumps);
	SAY(send(fd, BAD, 5, 0)); /* an error, not the handler's business */
	SAY(jumps);
	SAY(sigaction(SIGSEGV, NULL, &old));
	SAY(old.sa_handler == jump);
	SAY(old.sa_flags);
	SAY(sigismember(&old.sa_mask, SIGUSR1));
	SAY(signal(SIGSEGV, SIG_DFL) == jump);
	SAY(send(fd, BAD, 5, 0));
	SAY(status_of(fault));
	SAY(status_of(send_itself));
	SAY(status_of(ignored_fault));
	SAY(status_of(ignored_sent));
	SAY(status_of(once));
	SAY(signal(SIGSEGV, SIG_IGN) == SIG_DFL);
	SAY(recv(fd, BAD, 5, MSG_DONTWAIT));
	SAY(send(fd, BAD, 5, 0));
	SAY(signal(SIGSEGV, SIG_DFL) == SIG_IGN);
}

/* Lengths that the kernel cuts or refuses, and flags that only it may set. */
static void length_calls(int fd)
{
	struct msghdr none_at_all = {0};
	struct mmsghdr one = {0};
	char b[16];
	SAY(write(fd, b, -1));
	SAY(read(fd, b, -1));
	SAY(write(fd, b, (size_t)1 << 63));
	SAY(sendmsg(fd, &none_at_all, 0x80000000)); /* MSG_CMSG_COMPAT */
	SAY(recvmsg(fd, &none_at_all, 0x80000000 | MSG_DONTWAIT));
	SAY(sendmmsg(fd, &one, 1, 0x80000000));
	SAY(recvmmsg(fd, &one, 1, 0x80000000 | MSG_DONTWAIT, NULL));
}

/* The kernel tells as many events as there is memory for. */
static void events_at_the_end_of_memory(int fd)
{
	struct epoll_event want = {.events = EPOLLOUT}, *some;
	char *pages = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int set = epoll_create1(0);
	munmap(pages + 4096, 4096);
	some = (struct epoll_event *)(pages + 4096) - 3;
	for (want.data.fd = 0; want.data.fd < 6; want.data.fd++)
		epoll_ctl(set, EPOLL_CTL_ADD, dup(fd), &want);
	SAY(epoll_wait(set, some, 10, 0));
	SAY(epoll_wait(set, some, 3, 0));
	SAY(epoll_wait(set, (void *)(pages + 4094), 10, 0));
	SAY(epoll_wait(set, (void *)pages, 10, 0));
	close(set);
	munmap(pages, 4096);
}

/* Who would empty the pipe is the caller: what it holds moves, and the call returns. */
static void more_than_a_pipe_holds(int fd)
{
	static char piece[4096];
	int pipe_fd[2], waiting = 0;
	SAY(pipe(pipe_fd));
	SAY(fcntl(pipe_fd[1], F_SETPIPE_SZ, sizeof piece));
	for (int i = 0; i < 5; i++)
		SAY(write(fd, piece, sizeof piece));
	while (waiting < 5 * (int)sizeof piece)
		ioctl(fd, FIONREAD, &waiting);
	SAY(splice(fd, NULL, pipe_fd[1], NULL, 1, 0x100));
	SAY(splice(fd, NULL, pipe_fd[1], NULL, 0, 0x100));
	bool moved = splice(fd, NULL, pipe_fd[1], NULL, 1 << 20, 0) > 0; /* how much there is in a pipe's page is the kernel's to say */
	SAY(moved);
	ioctl(fd, FIONREAD, &waiting);
	while (waiting > 0)
		waiting -= read(fd, piece, sizeof piece);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

/*
 * Beyond the last address that a program can have a call ends before it looks at the socket: MSG_TRUNC would write
 * nothing there.
 */
static void addresses_at_the_end(int fd)
{
	static const uintptr_t at[] = {0x7fffffffeff8, 0x7fffffffeff9, 0x7fffffffefff, 0x7ffffffff000, 0x7ffffffff001, 0x800000000000, 0x1000000000000};
	char b[32];
	SAY(send(fd, "0123456789abcdef", 16, 0));
	for (int n = 0; n < 16;)
		ioctl(fd, FIONREAD, &n);
	for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
		void *last = (void *)at[i];
		struct iovec two[2] = {{b, 0}, {last, 1}};
		SAY(i);
		SAY(recv(fd, last, 0, MSG_DONTWAIT));
		SAY(recv(fd, last, 1, MSG_DONTWAIT | MSG_TRUNC | MSG_PEEK));
		SAY(recv(fd, last, 8, MSG_DONTWAIT | MSG_TRUNC | MSG_PEEK));
		SAY(read(fd, last, 0));
		SAY(write(fd, last, 0));
		SAY(send(fd, last, 0, 0));
		SAY(readv(fd, two, 2));
	}
	SAY(recv(fd, b, 16, MSG_WAITALL));
}

/*
 * The kernel has no room for so much control data, whatever it is; and what sendmmsg cannot tell is sent all the same.
 */
static void much_control(int fd)
{
	enum { MUCH = 2000000 };
	char *many = calloc(1, MUCH), b[8];
	struct iovec iov = {many, 4};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	struct mmsghdr *told_nothing = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct cmsghdr *c = (void *)many;
	static const size_t lengths[] = {30, 100, 4096, 4097, 10000, MUCH, INT_MAX, (size_t)INT_MAX + 1};
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		*c = (struct cmsghdr){.cmsg_level = IPPROTO_UDP, .cmsg_len = lengths[i]};
		m.msg_controllen = lengths[i];
		m.msg_control = BAD;
		SAY(sendmsg(fd, &m, 0));
		m.msg_control = many;
		if (lengths[i] > MUCH)
			continue;
		int sent = SAY_AND_KEEP(sendmsg(fd, &m, 0));
		if (sent > 0)
			SAY(recv(fd, b, sent, MSG_WAITALL));
	}
	told_nothing->msg_hdr = (struct msghdr){.msg_iov = &iov, .msg_iovlen = 1};
	mprotect(told_nothing, 4096, PROT_READ);
	SAY(sendmmsg(fd, told_nothing, 1, 0));
	SAY(recv(fd, b, 4, MSG_WAITALL));
	munmap(told_nothing, 4096);
	free(many);
}

/* In a thread that blocks the signals of faults, by each way; and again when it does not. */
static void blocked_calls(int fd)
{
	sigset_t faults, all;
	uint64_t by_number;
	sigemptyset(&faults);
	sigaddset(&faults, SIGSEGV);
	sigaddset(&faults, SIGBUS);
	sigfillset(&all);
	SAY(send(fd, BAD, 5, 0));
	SAY(send(fd, "hello", 5, 0));
	for (int n = 0; n < 5;)
		ioctl(fd, FIONREAD, &n);
	SAY(pthread_sigmask(SIG_BLOCK, &faults, NULL));
	data_calls(fd);
	name_calls(fd);
	wait_calls(fd);
	listener_calls();
	SAY(sigprocmask(SIG_UNBLOCK, &faults, NULL));
	SAY(send(fd, BAD, 5, 0));
	SAY(sigprocmask(SIG_SETMASK, &all, NULL));
	SAY(send(fd, BAD, 5, 0));
	SAY(recv(fd, read_only, 5, MSG_DONTWAIT));
	memset(&by_number, 0, sizeof by_number);
	SAY(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &by_number, NULL, sizeof by_number));
	SAY(send(fd, BAD, 5, 0));
	memset(&by_number, 0xff, sizeof by_number);
	SAY(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &by_number, NULL, sizeof by_number));
	SAY(send(fd, BAD, 5, 0));
	SAY(sigprocmask(SIG_UNBLOCK, &all, NULL));
}

#define FAULT (1 << (SIGSEGV - 1))

/* … by the functions of older Unix. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static void blocked_of_old(int fd)
{
	SAY(send(fd, BAD, 5, 0));
	SAY(sighold(SIGSEGV));
	SAY(send(fd, BAD, 5, 0));
	SAY(sigrelse(SIGSEGV));
	SAY(send(fd, BAD, 5, 0));
	SAY(sigblock(FAULT));
	SAY(send(fd, BAD, 5, 0));
	SAY(sigsetmask(0));
	SAY(send(fd, BAD, 5, 0));
	SAY(sigsetmask(FAULT));
	SAY(send(fd, BAD, 5, 0));
	SAY(sigsetmask(0));
}
#pragma GCC diagnostic pop

/* The server answers an urgent byte. */
static void blocked_urgent(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLPRI};
	sigset_t all;
	char c;
	sigfillset(&all);
	SAY(send(fd, "urgent", 6, 0));
	SAY(poll(&p, 1, 10000));
	SAY(recv(fd, BAD, 1, MSG_OOB | MSG_PEEK));
	SAY(sigprocmask(SIG_BLOCK, &all, NULL));
	SAY(recv(fd, BAD, 1, MSG_OOB | MSG_PEEK));
	SAY(recv(fd, BAD, 1, MSG_OOB));
	SAY(recv(fd, BAD, 1, MSG_OOB));
	SAY(sigprocmask(SIG_UNBLOCK, &all, NULL));
	SAY(recv(fd, &c, 1, MSG_DONTWAIT)); /* passes it: a close is no reset */
}

/* A buffer of many pages whose last one is bad; and one in which all are good. */
static void many_pages(int fd)
{
	enum { PAGES = 16, SIZE = PAGES * 4096 };
	char *pages = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec iov = {pages + SIZE, 5};
	SAY(send(fd, pages, SIZE, 0));
	SAY(recv(fd, pages, SIZE, MSG_WAITALL));
	mprotect(pages + SIZE - 4096, 4096, PROT_NONE);
	iov.iov_base = pages + SIZE - 4096;
	SAY(writev(fd, &iov, 1));
	SAY(send(fd, "12345", 5, 0));
	SAY(recv(fd, pages + SIZE - 4096, 5, 0));
	SAY(recv(fd, pages + 100, 5, MSG_WAITALL));
	SAY(memcmp(pages + 100, "12345", 5));
	munmap(pages, SIZE);
}

static void *in_a_thread(void *arg)
{
	int fd = *(int *)arg;
	SAY(send(fd, BAD, 5, 0));
	SAY(recv(fd, BAD, 0, MSG_DONTWAIT));
	many_pages(fd);
	events_at_the_end_of_memory(fd);
	return NULL;
}

static int handlers_fd;

static void in_a_handler(int sig)
{
	(void)sig;
	SAY(send(handlers_fd, BAD, 5, 0));
}

/* What blocks them otherwise: who makes the thread; a handler's mask. */
static void blocked_otherwise(int fd)
{
	struct sigaction sa = {.sa_handler = in_a_handler};
	pthread_t thread;
	sigset_t before;
	sigfillset(&sa.sa_mask);
	pthread_sigmask(SIG_SETMASK, &sa.sa_mask, &before);
	pthread_create(&thread, NULL, in_a_thread, &fd); /* its lines, not ours beside them */
	pthread_join(thread, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	handlers_fd = fd;
	sigaction(SIGUSR2, &sa, NULL);
	raise(SIGUSR2);
	SAY(send(fd, BAD, 5, 0));
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	int ux[2], fd = socket(AF_INET, SOCK_STREAM, 0);
	if (argc < 3)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	a.sin_port = htons(atoi(argv[2]));
	inet_pton(AF_INET, argv[1], &a.sin_addr);
	none = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	read_only = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	SAY(connect(fd, (void *)&a, sizeof a));
	struct pollfd p = {.fd = fd, .events = POLLIN};
	SAY(poll(&p, 1, 10000));
	for (int n = 0; n < 5;)
		ioctl(fd, FIONREAD, &n);
	data_calls(fd);
	length_calls(fd);
	name_calls(fd);
	wait_calls(fd);
	events_at_the_end_of_memory(fd);
	more_than_a_pipe_holds(fd);
	addresses_at_the_end(fd);
	much_control(fd);
	SAY(socketpair(AF_UNIX, SOCK_STREAM, 0, ux));
	lying_control(ux[0]);
	lying_control(fd);
	listener_calls();
	signal_calls(fd);
	blocked_calls(fd);
	blocked_of_old(fd);
	blocked_otherwise(fd);
	blocked_urgent(fd);
	puts("# end");
	return 0;
}
