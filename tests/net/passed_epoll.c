/*
 * An epoll that is reached by other numbers than the one it was made under: by dup, by fork, and by a message
 * (SCM_RIGHTS), in which it stays what it is, though every number of it is closed meanwhile. Prints what each call
 * says; passed_epoll_test.sh compares natively and under finesse, whose engine carries the connections.
 *
 *     passed_epoll ADDRESS PORT      a server that echoes
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define BOUND_S 60
#define LONG_MS 5000
#define FDS_MAX 4
#define UNREAD  40

static struct sockaddr_in server;

static int connect_server(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (void *)&server, sizeof server)) {
		perror("connect");
		exit(1);
	}
	return fd;
}

static void add(const char *what, int epfd, int fd, uint64_t data)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = data};
	int r = epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev);
	printf("%s: add %d %s\n", what, r, r ? strerrorname_np(errno) : "");
}

static void take_out(const char *what, int epfd, int fd)
{
	int r = epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL);
	printf("%s: del %d %s\n", what, r, r ? strerrorname_np(errno) : "");
}

static void wait_for(const char *what, int epfd, int ms)
{
	struct epoll_event ev = {0};
	int r = epoll_wait(epfd, &ev, 1, ms);
	printf("%s: wait %d %x %d %s\n", what, r, r > 0 ? ev.events : 0, r > 0 ? (int)ev.data.u64 : 0, r < 0 ? strerrorname_np(errno) : "");
}

/* The server's echo is awaited, told, and read. */
static void echo(const char *what, int epfd, int fd)
{
	char byte;
	if (send(fd, "x", 1, 0) != 1)
		perror("send");
	wait_for(what, epfd, LONG_MS);
	if (recv(fd, &byte, 1, 0) != 1)
		perror("recv");
	wait_for(what, epfd, 0);
}

union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
};

static void pass(int via, const int *fds, int n)
{
	union control c = {.header = {.cmsg_len = CMSG_LEN(n * sizeof *fds), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	struct iovec iov = {"x", 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = CMSG_SPACE(n * sizeof *fds)};
	memcpy(CMSG_DATA(&c.header), fds, n * sizeof *fds);
	if (sendmsg(via, &msg, 0) != 1)
		perror("sendmsg");
}

static void receive(int via, int *fds, int n)
{
	union control c;
	char byte;
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c};
	if (recvmsg(via, &msg, 0) != 1 || !CMSG_FIRSTHDR(&msg))
		perror("recvmsg");
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&msg)), n * sizeof *fds);
}

static void closed_in_flight(int u[2])
{
	int e = epoll_create1(0), s = connect_server(), to;
	add("in flight", e, s, 1);
	pass(u[0], &e, 1);
	close(e);
	receive(u[1], &to, 1);
	echo("in flight", to, s);
	take_out("in flight", to, s);
	take_out("in flight, again", to, s);
	close(to);
	close(s);
}

static void both_used(int u[2])
{
	int e = epoll_create1(0), s = connect_server(), t = connect_server(), to[2];
	pass(u[0], (int[]){e, e}, 2);
	add("both", e, s, 2);
	receive(u[1], to, 2);
	add("both, twice", to[0], s, 3);
	add("both, another", to[1], t, 4);
	echo("both", to[0], s);
	close(to[0]);
	echo("both, by the first", e, t);
	close(e);
	echo("both, by the last", to[1], s);
	take_out("both, by the last", to[1], t);
	close(to[1]);
	close(s);
	close(t);
}

/* Passed on, from one message to the next, and duplicated on its way. */
static void passed_on(int u[2])
{
	int e = epoll_create1(0), s = connect_server(), null = dup(u[0]);
	add("passed on", e, s, 5);
	for (int i = 0; i < 3; i++) {
		pass(u[0], &e, 1);
		dup2(null, e); /* closes it */
		close(e);
		receive(u[1], &e, 1);
		echo("passed on", e, s);
	}
	int copy = dup(e);
	close(e);
	echo("a copy", copy, s);
	int over = dup2(copy, null);
	close(copy);
	echo("a copy over another", over, s);
	close(over);
	close(s);
}

static void nested(int u[2])
{
	int inner = epoll_create1(0), outer = epoll_create1(0), s = connect_server(), to[2];
	add("nested", inner, s, 6);
	add("nested", outer, inner, 7);
	pass(u[0], (int[]){inner, outer}, 2);
	close(outer);
	close(inner);
	receive(u[1], to, 2);
	echo("nested", to[1], s);
	close(to[0]);
	close(to[1]);
	close(s);
}

static void with_socket(int u[2])
{
	int e = epoll_create1(0), s = connect_server(), to[2];
	add("with its socket", e, s, 8);
	pass(u[0], (int[]){e, s}, 2);
	receive(u[1], to, 2);
	echo("with its socket", to[0], to[1]);
	close(e);
	close(s);
	echo("with its socket, by the copies", to[0], to[1]);
	close(to[0]);
	close(to[1]);
}

/* Nobody ever reads these messages. */
static void never_received(void)
{
	int u[2], e = epoll_create1(0), s = connect_server();
	socketpair(AF_UNIX, SOCK_STREAM, 0, u);
	add("unread", e, s, 9);
	for (int i = 0; i < UNREAD; i++) {
		int other = epoll_create1(0);
		struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 1};
		epoll_ctl(other, EPOLL_CTL_ADD, s, &ev);
		pass(u[0], &other, 1);
		close(other);
	}
	echo("unread", e, s);
	close(u[0]);
	close(u[1]);
	close(e);
	close(s);
}

static void in_child(void)
{
	int e = epoll_create1(0), s = connect_server();
	add("child", e, s, 10);
	fflush(stdout);
	pid_t child = fork();
	if (!child) {
		echo("child", e, s);
		take_out("child", e, s);
		fflush(stdout);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	take_out("parent", e, s);
	close(e);
	close(s);
}

int main(int argc, char **argv)
{
	int u[2];
	if (argc != 3)
		return 2;
	alarm(BOUND_S);
	server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
	inet_pton(AF_INET, argv[1], &server.sin_addr);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, u))
		return 1;
	closed_in_flight(u);
	both_used(u);
	passed_on(u);
	nested(u);
	with_socket(u);
	never_received();
	in_child();
	printf("lowest free number %d\n# end\n", dup(0));
	return 0;
}
