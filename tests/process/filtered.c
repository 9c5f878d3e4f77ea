/*
 * Which system calls a program makes once it has set a filter of them (seccomp): a filter may end it for each that it
 * did not make itself.
 *
 *   filtered trace OUT COMMAND…   runs COMMAND and writes to OUT what its first thread calls from its filter on, a line each: the step, the call's number and, where it is
 *                                 a descriptor, its first argument
 *   filtered bare                 has no TCP socket before its filter
 *   filtered served ADDRESS PORT  listens on PORT, has a connection to ADDRESS and a set of epoll with both
 *   filtered peer PORT            greets who connects
 *
 * A step is named by a write to a descriptor that nobody has.
 */
#include <arpa/inet.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOBODYS 9999 /* a descriptor */
#define DESCRIPTORS 72 /* what the steps use; processes have higher numbers */

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(3);
}

/* ---- trace ---- */

struct call_record {
	uint64_t nr, args[6];
};

static bool is_filter(const struct call_record *c)
{
	return c->nr == SYS_seccomp || (c->nr == SYS_prctl && c->args[0] == PR_SET_SECCOMP);
}

static bool names_process(uint64_t nr)
{
	return nr == SYS_wait4 || nr == SYS_kill || nr == SYS_tgkill;
}

static void read_name(pid_t pid, uint64_t at, char *out, size_t len)
{
	struct iovec here = {out, len - 1}, there = {(void *)at, len - 1};
	ssize_t got = process_vm_readv(pid, &here, 1, &there, 1, 0);
	out[got > 0 ? got : 0] = 0;
}

static bool next_call(pid_t pid, struct call_record *c)
{
	int status, sig = 0;
	for (;;) {
		must(ptrace(PTRACE_SYSCALL, pid, 0, sig) == 0, "PTRACE_SYSCALL");
		must(waitpid(pid, &status, __WALL) == pid, "waitpid");
		if (!WIFSTOPPED(status)) {
			if (!WIFEXITED(status) || WEXITSTATUS(status))
				fprintf(stderr, "the program ended with status %x\n", status);
			return false;
		}
		sig = WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == (SIGTRAP | 0x80) ? 0 : WSTOPSIG(status);
		struct __ptrace_syscall_info info;
		if (WSTOPSIG(status) != (SIGTRAP | 0x80) || ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) < 0 || info.op != PTRACE_SYSCALL_INFO_ENTRY)
			continue;
		c->nr = info.entry.nr;
		memcpy(c->args, info.entry.args, sizeof c->args);
		return true;
	}
}

static int trace(const char *out, char **command)
{
	pid_t pid = fork();
	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		execvp(command[0], command);
		_exit(127);
	}
	FILE *f = fopen(out, "w");
	int status;
	must(f && waitpid(pid, &status, 0) == pid && WIFSTOPPED(status), "the child's stop");
	must(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) == 0, "PTRACE_SETOPTIONS");
	struct call_record c;
	char step[32] = "the filter";
	bool on = false;
	while (next_call(pid, &c)) {
		bool told = on && c.nr != SYS_futex; /* pthread_join makes it only when the other thread has not ended yet */
		if (c.nr == SYS_write && c.args[0] == NOBODYS)
			read_name(pid, c.args[1], step, sizeof step < c.args[2] + 1 ? sizeof step : c.args[2] + 1);
		else if (told && c.args[0] < DESCRIPTORS && !names_process(c.nr))
			fprintf(f, "%s: %d(%d)\n", step, (int)c.nr, (int)c.args[0]);
		else if (told)
			fprintf(f, "%s: %d\n", step, (int)c.nr);
		on |= is_filter(&c);
	}
	return fclose(f);
}

/* ---- what is traced ---- */

static void step(const char *name)
{
	if (write(NOBODYS, name, strlen(name)) >= 0)
		abort();
}

static void set_filter(void)
{
	struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog prog = {.len = 1, .filter = all};
	must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) == 0, "seccomp");
}

static void texts(int fd, int peer)
{
	char b[16];
	struct iovec v = {b, 1};
	struct mmsghdr m = {.msg_hdr = {.msg_iov = &v, .msg_iovlen = 1}};
	socklen_t len = sizeof b;
	step("write, read");
	(void)!write(fd, "abcdefgh", 8);
	(void)!read(peer, b, 1);
	step("writev, readv");
	(void)!writev(fd, &v, 1);
	(void)!readv(peer, &v, 1);
	step("send, recv");
	send(fd, "a", 1, 0);
	recv(peer, b, 1, 0);
	step("sendto, recvfrom");
	sendto(fd, "a", 1, 0, NULL, 0);
	recvfrom(peer, b, 1, 0, (void *)b, &len);
	step("sendmsg, recvmsg");
	sendmsg(fd, &m.msg_hdr, 0);
	recvmsg(peer, &m.msg_hdr, 0);
	step("sendmmsg, recvmmsg");
	sendmmsg(fd, &m, 1, 0);
	recvmmsg(peer, &m, 1, MSG_DONTWAIT, NULL);
}

static void waits(int fd)
{
	struct pollfd p = {fd, POLLOUT, 0};
	struct timeval tv = {0};
	struct timespec ts = {0};
	fd_set set;
	step("poll");
	poll(&p, 1, 0);
	step("ppoll");
	ppoll(&p, 1, &ts, NULL);
	FD_ZERO(&set);
	FD_SET(fd, &set);
	step("select");
	select(fd + 1, NULL, &set, NULL, &tv);
	step("pselect");
	pselect(fd + 1, NULL, &set, NULL, &ts, NULL);
}

static void sets(int set, int fd)
{
	struct epoll_event event = {EPOLLIN, {0}};
	struct timespec ts = {0, 1};
	step("epoll_ctl");
	epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
	epoll_ctl(set, EPOLL_CTL_MOD, fd, &event);
	step("epoll_wait");
	epoll_wait(set, &event, 1, 0);
	step("epoll_pwait");
	epoll_pwait(set, &event, 1, 0, NULL);
	step("epoll_pwait2");
	epoll_pwait2(set, &event, 1, &ts, NULL);
	step("epoll_ctl of what is not there");
	epoll_ctl(set, EPOLL_CTL_DEL, fd, &event);
	epoll_ctl(set, EPOLL_CTL_DEL, fd, &event);
}

static void options(int fd)
{
	int one = 1;
	char name[128];
	socklen_t len = sizeof one, name_len = sizeof name;
	step("options");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &one, &len);
	step("names");
	getsockname(fd, (void *)name, &name_len);
	name_len = sizeof name;
	getpeername(fd, (void *)name, &name_len);
	step("ioctl");
	ioctl(fd, FIONREAD, &one);
	ioctl(fd, FIONBIO, &one);
	step("fcntl");
	fcntl(fd, F_GETFL);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	fcntl(fd, F_GETFD);
	step("fstat");
	struct stat st;
	fstat(fd, &st);
}

static void numbers(int fd)
{
	step("dup");
	int other = dup(fd);
	step("dup2");
	dup2(fd, other);
	dup3(fd, other, O_CLOEXEC);
	step("F_DUPFD");
	close(fcntl(fd, F_DUPFD_CLOEXEC, 50));
	step("close");
	close(other);
	close(other);
	step("close_range");
	close_range(60, 70, 0);
}

static void new_sockets(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	step("socket");
	int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), c = socket(AF_INET, SOCK_STREAM, 0);
	step("bind, listen");
	bind(s, (void *)&a, sizeof a);
	listen(s, 5);
	getsockname(s, (void *)&a, &len);
	step("accept of nobody");
	accept(s, NULL, NULL);
	accept4(s, NULL, NULL, SOCK_CLOEXEC);
	step("connect");
	connect(c, (void *)&a, sizeof a);
	step("accept");
	int t = accept(s, NULL, NULL);
	options(t);
	texts(t, c);
	step("shutdown");
	shutdown(t, SHUT_WR);
	shutdown(s, SHUT_RD);
	step("close of sockets");
	close(t);
	close(c);
	close(s);
}

static void *thread(void *arg)
{
	return arg;
}

static void processes(void)
{
	pthread_t t;
	step("fork");
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	step("waitpid");
	waitpid(pid, NULL, 0);
	step("vfork");
	pid = vfork();
	if (pid == 0)
		_exit(0);
	step("waitpid of a vfork");
	waitpid(pid, NULL, 0);
	step("a thread");
	if (pthread_create(&t, NULL, thread, NULL) == 0)
		pthread_join(t, NULL);
}

/* A directory may be "executed" for all that access(2) says. */
static void programs(void)
{
	char *argv[] = {"/", NULL};
	int fd = open("/", O_PATH);
	step("exec");
	execve("/", argv, argv + 1);
	execv("/", argv);
	execvp("/", argv);
	step("exec by a descriptor");
	execveat(AT_FDCWD, "/", argv, argv + 1, 0);
	fexecve(fd, argv, argv + 1);
	close(fd);
	pid_t pid;
	step("posix_spawn");
	posix_spawn(&pid, "/", NULL, NULL, argv, argv + 1);
	posix_spawnp(&pid, "/", NULL, NULL, argv, argv + 1);
	step("system");
	(void)!system("exit 0");
}

static void others(const int *pipes)
{
	struct timespec ts = {0, 1000};
	sigset_t none;
	sigemptyset(&none);
	step("signals");
	signal(SIGUSR1, SIG_IGN);
	raise(SIGUSR1);
	sigprocmask(SIG_BLOCK, &none, NULL);
	step("nanosleep");
	nanosleep(&ts, NULL);
	step("mmap");
	munmap(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096);
	step("files");
	int fd = open("/dev/null", O_RDWR);
	sendfile(fd, pipes[0], NULL, 0);
	splice(pipes[0], NULL, fd, NULL, 0, SPLICE_F_NONBLOCK);
	close(fd);
	step("eventfd");
	close(eventfd(0, 0));
	step("by number");
	syscall(SYS_getppid);
	syscall(SYS_dup3, 1, 50, 0);
	syscall(SYS_close, 50);
	step("users");
	(void)!setuid(getuid());
	prctl(PR_SET_DUMPABLE, 1);
}

static void connected(const char *address, const char *port, int *s, int *c)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
	*s = socket(AF_INET, SOCK_STREAM, 0);
	must(bind(*s, (void *)&a, sizeof a) == 0 && listen(*s, 5) == 0, "listen");
	a.sin_addr.s_addr = inet_addr(address);
	*c = socket(AF_INET, SOCK_STREAM, 0);
	must(connect(*c, (void *)&a, sizeof a) == 0, "connect");
	char b;
	must(read(*c, &b, 1) == 1, "the peer's greeting");
}

static void greet(const char *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
	int s = socket(AF_INET, SOCK_STREAM, 0);
	must(bind(s, (void *)&a, sizeof a) == 0 && listen(s, 5) == 0, "listen");
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int c = accept(s, NULL, NULL);
		char b[64];
		must(c >= 0 && write(c, "hello, hello", 12) == 12, "greeting");
		if (fork() == 0) {
			while (read(c, b, sizeof b) > 0)
				;
			_exit(0);
		}
		close(c);
	}
}

int main(int argc, char **argv)
{
	if (argc > 3 && strcmp(argv[1], "trace") == 0)
		return trace(argv[2], argv + 3);
	if (argc == 3 && strcmp(argv[1], "peer") == 0)
		greet(argv[2]);
	int pair[2], pipes[2], s = -1, c = -1, set = epoll_create1(0);
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pipe(pipes) == 0 && set >= 0, "descriptors");
	if (argc == 4 && strcmp(argv[1], "served") == 0) {
		connected(argv[2], argv[3], &s, &c);
		struct epoll_event event = {EPOLLIN, {0}};
		must(epoll_ctl(set, EPOLL_CTL_ADD, s, &event) == 0 && epoll_ctl(set, EPOLL_CTL_ADD, c, &event) == 0, "epoll_ctl");
	}
	pthread_t t; /* what libc does once */
	must(pthread_create(&t, NULL, thread, NULL) == 0 && pthread_join(t, NULL) == 0, "a thread");
	set_filter();
	texts(pair[0], pair[1]);
	waits(pair[0]);
	sets(set, pair[0]);
	options(pair[0]);
	numbers(pair[0]);
	others(pipes);
	processes();
	programs();
	new_sockets();
	if (c >= 0) {
		texts(c, c);
		waits(c);
		waits(s);
		options(c);
		options(s);
		sets(set, s);
		numbers(c);
		step("close of what was served");
		close(c);
		close(s);
	}
	step("namespaces");
	(void)!unshare(CLONE_FILES);
	(void)!setns(pair[0], CLONE_NEWNET);
	(void)!unshare(CLONE_NEWUSER);
	step("exit");
	_exit(0);
}
