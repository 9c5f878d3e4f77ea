/*
 * While one thread connects, another calls on the same descriptor: natively and under finesse both are told the same.
 *
 *     deciding ADDRESS PORT CLOSED_PORT KERNELS_PORT
 *
 * When Linux sends a SYN it has the socket's lock, and whoever calls then waits for that and finds a socket that
 * connects. Here the other thread calls just then, without
 * luck: both share one processor, the other one has a real-time priority, and it waits at a packet socket for the SYN.
 * So it runs before the system call that sends the SYN returns to the thread that connects. Handshakes take long
 * (connecting.py's link), so all calls find the connection in SYN-SENT.
 *
 * The third port is open, and a rule leaves it to the kernel.
 *
 * Prints a line for each case. Status 77: there is no real-time priority to be had.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define NO_PRIORITY 77

static struct sockaddr_in open_port, closed_port, kernels_port;
static int tap, fd;
static pthread_t connecting_thread;
static sem_t go, done;
static char said[256];

static const char *name_of(long r)
{
	return r < 0 ? strerrorname_np(errno) : "ok";
}

#define SAY(...) snprintf(said + strlen(said), sizeof said - strlen(said), __VA_ARGS__)

/* ---- what the other thread does ---- */

static void do_getpeername(void)
{
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	SAY("%s", name_of(getpeername(fd, (void *)&a, &len)));
}

static void do_getsockname(void)
{
	struct sockaddr_in a = {0};
	socklen_t len = sizeof a;
	SAY("%s", name_of(getsockname(fd, (void *)&a, &len)));
	SAY(" address %s, port %s", a.sin_addr.s_addr ? "known" : "none", a.sin_port ? "known" : "none");
}

static int option(int level, int number)
{
	int value = -1;
	socklen_t len = sizeof value;
	return getsockopt(fd, level, number, &value, &len) < 0 ? -errno : value;
}

static void do_error(void)
{
	SAY("%d", option(SOL_SOCKET, SO_ERROR));
}

static void do_info(void)
{
	struct tcp_info info;
	socklen_t len = sizeof info;
	SAY("%s", name_of(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len)));
	SAY(" state %d", info.tcpi_state);
}

static void do_poll(void)
{
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP};
	int n = poll(&p, 1, 0);
	SAY("%d %#x", n, p.revents);
}

static void do_select(void)
{
	fd_set in, out;
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_SET(fd, &in);
	FD_SET(fd, &out);
	SAY("%d", select(fd + 1, &in, &out, NULL, &(struct timeval){0}));
}

static void do_epoll(void)
{
	struct epoll_event e = {.events = EPOLLIN | EPOLLOUT};
	int ep = epoll_create1(0);
	SAY("%s", name_of(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e)));
	SAY(" %d", epoll_wait(ep, &e, 1, 0));
	close(ep);
}

static void do_send(void)
{
	SAY("%s", name_of(send(fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL)));
}

static void do_recv(void)
{
	char c;
	SAY("%s", name_of(recv(fd, &c, 1, MSG_DONTWAIT)));
}

static void do_ioctl(void)
{
	int n = -1;
	SAY("%s", name_of(ioctl(fd, FIONREAD, &n)));
	SAY(" %s %d", name_of(ioctl(fd, SIOCOUTQ, &n)), n);
}

static void do_connect(void)
{
	SAY("%s", name_of(connect(fd, (void *)&open_port, sizeof open_port)));
}

static void do_dissolve(void)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	SAY("%s", name_of(connect(fd, &none, sizeof none)));
}

static void do_listen(void)
{
	SAY("%s", name_of(listen(fd, 1)));
}

static void do_bind(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET};
	SAY("%s", name_of(bind(fd, (void *)&any, sizeof any)));
}

static void do_setsockopt(void)
{
	SAY("%s", name_of(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int))));
	SAY(" NODELAY %d", option(IPPROTO_TCP, TCP_NODELAY));
}

static void do_nonblock(void)
{
	SAY("%s", name_of(fcntl(fd, F_SETFL, O_NONBLOCK)));
	SAY(" flags %#x", fcntl(fd, F_GETFL));
}

static void do_shutdown(void)
{
	SAY("%s", name_of(shutdown(fd, SHUT_RDWR)));
}

/* The number is another file's from then on. */
static void do_close(void)
{
	int was = fd, other;
	SAY("%s", name_of(close(fd)));
	other = open("/dev/null", O_RDWR);
	SAY(", the number %s", other == was ? "is free" : "is not free");
	if (other != was)
		close(other);
}

static void do_dup2(void)
{
	int other = open("/dev/null", O_RDWR);
	SAY("%s", dup2(other, fd) == fd ? "ok" : name_of(-1));
	close(other);
}

static void do_fork(void)
{
	int status;
	pid_t pid = fork();
	if (pid == 0)
		_exit(option(SOL_SOCKET, SO_TYPE) == SOCK_STREAM ? 0 : 1);
	SAY("the child says %d", waitpid(pid, &status, 0) == pid ? WEXITSTATUS(status) : -1);
}

static void on_signal(int sig)
{
	int saved = errno;
	(void)sig;
	do_recv();
	errno = saved;
}

/* A handler that runs in the thread that connects, and calls on the same descriptor. */
static void do_signal(void)
{
	struct sigaction a = {.sa_handler = on_signal};
	sigaction(SIGUSR1, &a, NULL);
	pthread_kill(connecting_thread, SIGUSR1);
}

static sigjmp_buf away;

static void on_jump(int sig)
{
	(void)sig;
	siglongjmp(away, 1);
}

static void do_jump(void)
{
	struct sigaction a = {.sa_handler = on_jump};
	sigaction(SIGUSR1, &a, NULL);
	pthread_kill(connecting_thread, SIGUSR1);
}

static const struct deed {
	const char *name;
	void (*act)(void);
	bool ends;  /* the number is another file's afterwards */
	bool waits; /* as long as connect does: which of the two is told of a refusal is chance */
	bool jumps; /* out of connect, if that has not returned yet: a neighbour may have to be asked for first, and the SYN leave later */
} deeds[] = {
	{.name = "getpeername", do_getpeername},
	{.name = "getsockname", do_getsockname},
	{.name = "SO_ERROR", do_error},
	{.name = "TCP_INFO", do_info},
	{.name = "poll", do_poll},
	{.name = "select", do_select},
	{.name = "epoll", do_epoll},
	{.name = "send", do_send},
	{.name = "recv", do_recv},
	{.name = "ioctl", do_ioctl},
	{.name = "connect", do_connect, .waits = true},
	{.name = "dissolve", do_dissolve},
	{.name = "listen", do_listen},
	{.name = "bind", do_bind},
	{.name = "setsockopt", do_setsockopt},
	{.name = "O_NONBLOCK", do_nonblock},
	{.name = "shutdown", do_shutdown},
	{.name = "close", do_close, .ends = true},
	{.name = "dup2", do_dup2, .ends = true},
	{.name = "fork", do_fork},
	{.name = "signal", do_signal},
	{.name = "longjmp", do_jump, .jumps = true},
};
#define DEEDS  (sizeof deeds / sizeof *deeds)
#define TRIALS (6 * DEEDS)

/* ---- the two threads ---- */

struct trial {
	const struct deed *deed;
	const struct sockaddr_in *to;
	bool nonblock;
};

/* False: there is none of that number, or it would ask chance. */
static bool trial_of(unsigned number, struct trial *t)
{
	static const struct sockaddr_in *const to[] = {&open_port, &closed_port, &kernels_port};
	*t = (struct trial){&deeds[number % DEEDS], to[number / DEEDS % 3], number / DEEDS / 3};
	return t->nonblock ? !t->deed->jumps : t->to != &closed_port || !t->deed->waits;
}

static bool is_syn(const unsigned char *packet, ssize_t n)
{
	const struct iphdr *ip = (const void *)packet;
	const struct tcphdr *tcp = (const void *)(packet + 20);
	return n >= 40 && ip->version == 4 && ip->protocol == IPPROTO_TCP && tcp->syn && !tcp->ack && (tcp->dest == open_port.sin_port || tcp->dest == closed_port.sin_port || tcp->dest == kernels_port.sin_port);
}

/* Until a SYN leaves this host. */
static void await_syn(void)
{
	unsigned char packet[128];
	struct sockaddr_ll from;
	socklen_t len = sizeof from;
	ssize_t n;
	while ((n = recvfrom(tap, packet, sizeof packet, 0, (void *)&from, &len)) >= 0)
		if (from.sll_pkttype == PACKET_OUTGOING && is_syn(packet, n))
			return;
}

static void *other(void *arg)
{
	struct trial t;
	for (unsigned i = 0; i < TRIALS; i++) {
		if (!trial_of(i, &t))
			continue;
		sem_wait(&go);
		await_syn();
		t.deed->act();
		sem_post(&done);
	}
	return arg;
}

static void one(const struct trial *t)
{
	char packet[128], result[32] = "left";
	said[0] = 0;
	while (recv(tap, packet, sizeof packet, MSG_DONTWAIT) >= 0) /* of the last case */
		;
	fd = socket(AF_INET, SOCK_STREAM | (t->nonblock ? SOCK_NONBLOCK : 0), 0);
	sem_post(&go);
	if (!sigsetjmp(away, 1))
		snprintf(result, sizeof result, "%s", name_of(connect(fd, (const void *)t->to, sizeof *t->to)));
	sem_wait(&done);
	printf("%s, %s, %s: connect %s; %s", t->deed->name, t->to == &open_port ? "open" : t->to == &closed_port ? "closed" : "kernel's", t->nonblock ? "non-blocking" : "blocking", result, said);
	if (!t->deed->ends)
		printf("; then NODELAY %d, flags %#x", option(IPPROTO_TCP, TCP_NODELAY), fcntl(fd, F_GETFL));
	printf("\n");
	close(fd);
}

static struct sockaddr_in address(const char *ip, const char *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
	inet_pton(AF_INET, ip, &a.sin_addr);
	return a;
}

/* One processor for both, and the other one first. */
static bool arrange(pthread_t *thread)
{
	cpu_set_t set;
	pthread_attr_t attr;
	int cpu = 0;
	sched_getaffinity(0, sizeof set, &set);
	while (!CPU_ISSET(cpu, &set))
		cpu++;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof set, &set);
	pthread_attr_init(&attr);
	pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setschedpolicy(&attr, SCHED_FIFO);
	pthread_attr_setschedparam(&attr, &(struct sched_param){.sched_priority = 1});
	return pthread_create(thread, &attr, other, NULL) == 0;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	struct trial t;
	if (argc != 5)
		return EXIT_FAILURE;
	setvbuf(stdout, NULL, _IOLBF, 0);
	open_port = address(argv[1], argv[2]);
	closed_port = address(argv[1], argv[3]);
	kernels_port = address(argv[1], argv[4]);
	connecting_thread = pthread_self();
	tap = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_ALL));
	sem_init(&go, 0, 0);
	sem_init(&done, 0, 0);
	if (tap < 0 || !arrange(&thread))
		return NO_PRIORITY;
	for (unsigned i = 0; i < TRIALS; i++)
		if (trial_of(i, &t))
			one(&t);
	pthread_join(thread, NULL);
	printf("done\n");
	return 0;
}
