/* Ends of ends_walk while a socket connects, and what connects again. */
#include "tests/net/ends_walk.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* ---- while connecting ---- */

int connecting(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	SAY(connect_to(fd, hole_ip, 80));
	return fd;
}

static void *connects(void *arg)
{
	int fd = *(int *)arg;
	int r = connect_to(fd, hole_ip, 80);
	return (void *)(long)(r < 0 ? -errno : r);
}

static void connect_ended(int how)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT}, got = {0};
	pthread_t t;
	void *r;
	int fd = connecting(), ep = epoll_create1(0);
	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
	SAY(connect_to(fd, hole_ip, 80));
	SAY(end_listening(fd, how));
	SAY(epoll_wait(ep, &got, 1, 0));
	SAY(got.events);
	describe(fd);
	SAY(receive(fd, 1, 0));
	SAY(by_send(fd));
	SAY(shutdown(fd, how % 3));
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	pthread_create(&t, NULL, connects, &fd);
	settle(2);
	SAY(events(fd)); /* of what is connected, not of what was undecided */
	SAY(end_listening(fd, how));
	pthread_join(t, &r);
	say("  connect: %s\n", strerrorname_np(-(long)r));
	describe(fd);
	set_blocking(fd, true);
	SAY(connect_to(fd, peer_ip, PEER_PORT));
	tell("accept");
	tell("send anew");
	SAY(receive(fd, 9, 0));
	close(fd);
	close(ep);
}

static sigjmp_buf out;

static void jump(int sig)
{
	(void)sig;
	siglongjmp(out, 1);
}

static void nothing(int sig)
{
	(void)sig;
}

static pthread_t main_thread;

static void *interrupts(void *arg)
{
	(void)arg;
	settle(2);
	pthread_kill(main_thread, SIGUSR1);
	return NULL;
}

/* A blocking connect that is left by a signal goes on. */
static void connect_left(bool by_jump)
{
	pthread_t t;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sigaction a = {.sa_handler = by_jump ? jump : nothing};
	sigaction(SIGUSR1, &a, NULL);
	main_thread = pthread_self();
	pthread_create(&t, NULL, interrupts, NULL);
	if (sigsetjmp(out, 1) == 0)
		SAY(connect_to(fd, hole_ip, 80));
	pthread_join(t, NULL);
	set_blocking(fd, false);
	SAY(connect_to(fd, hole_ip, 80));
	describe(fd);
	SAY(shutdown(fd, SHUT_RDWR));
	describe(fd);
	close(fd);
}

void connects_ended(void)
{
	struct timeval brief = {.tv_usec = 50000};
	for (int how = SHUT_RD; how <= SHUT_RDWR + 1; how++) {
		section("connecting");
		say("  way %d\n", how);
		connect_ended(how);
	}
	for (int i = 0; i < 2; i++) {
		section("connect left");
		connect_left(i);
	}
	section("connect timed out");
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &brief, sizeof brief);
	SAY(connect_to(fd, hole_ip, 80));
	SAY(connect_to(fd, hole_ip, 80));
	describe(fd);
	close(fd);
}

/* ---- connecting again ---- */

static void reconnects_after_refusal(bool blocking)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP}, got = {0};
	int fd = socket(AF_INET, SOCK_STREAM, 0), ep = epoll_create1(0), copy = dup(fd), one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	epoll_ctl(ep, EPOLL_CTL_ADD, copy, &ev);
	set_blocking(fd, blocking);
	SAY(connect_to(fd, peer_ip, CLOSED_PORT));
	settle(1);
	SAY(epoll_wait(ep, &got, 1, 0));
	SAY(got.events);
	if (!blocking)
		SAY(error_of(fd));
	SAY(connect_to(fd, peer_ip, PEER_PORT));
	settle(1);
	SAY(events(fd));
	SAY(connect_to(copy, peer_ip, PEER_PORT));
	settle(1);
	SAY(connect_to(fd, peer_ip, PEER_PORT));
	SAY(connect_to(fd, peer_ip, PEER_PORT));
	tell("accept");
	tell("send welcome");
	SAY(number(fd, IPPROTO_TCP, TCP_NODELAY));
	SAY(epoll_wait(ep, &got, 1, 1000));
	SAY(got.events);
	SAY(receive(copy, 20, 0));
	close(copy);
	close(fd);
	close(ep);
}

static void shut_after_refusal(void)
{
	int fd = refused();
	SAY(shutdown(fd, SHUT_RDWR));
	SAY(error_of(fd));
	SAY(connect_to(fd, peer_ip, PEER_PORT));
	SAY(unspecified(fd));
	SAY(connect_to(fd, peer_ip, PEER_PORT));
	tell("accept");
	close(fd);
}

/* A connection is dissolved; the socket connects again, or listens. */
static void dissolve(int fd, const char *then, bool copied)
{
	int copy = copied ? dup(fd) : -1, one = 1;
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT}, got = {0};
	int ep = epoll_create1(0);
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
	if (then)
		tell("%s", then);
	SAY(unspecified(fd));
	tell("receive");
	SAY(epoll_wait(ep, &got, 1, 0));
	SAY(got.events);
	SAY(events(fd));
	SAY(peer_name(fd));
	SAY(error_of(fd));
	SAY(unspecified(fd));
	SAY(receive(fd, 9, 0));
	SAY(by_send(fd));
	SAY(number(fd, SOL_SOCKET, SO_KEEPALIVE));
	SAY(number(fd, SOL_SOCKET, SO_TYPE));
	SAY(connect_to(copied ? copy : fd, peer_ip, PEER_PORT));
	tell("accept");
	tell("send anew");
	SAY(receive(fd, 9, 0));
	SAY(number(fd, SOL_SOCKET, SO_KEEPALIVE));
	SAY(epoll_wait(ep, &got, 1, 0));
	SAY(got.events);
	close(fd);
	tell("receive");
	if (copied) {
		SAY(by_send(copy));
		tell("receive");
		close(copy);
	}
	close(ep);
}

void reconnects(void)
{
	static const char *const news[] = {NULL, "send hello", "fin", "reset"};
	for (int blocking = 0; blocking < 2; blocking++) {
		section(blocking ? "after a refusal, blocking" : "after a refusal");
		reconnects_after_refusal(blocking);
	}
	section("shut down after a refusal");
	shut_after_refusal();
	for (int how = SHUT_RD; how <= SHUT_RDWR; how++) {
		section("shut down before it connects");
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		SAY(shutdown(fd, how));
		SAY(connect_to(fd, peer_ip, PEER_PORT));
		tell("accept");
		SAY(events(fd));
		SAY(by_send(fd));
		close(fd);
	}
	section("undecided");
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	SAY(unspecified(fd));
	SAY(connect_to(fd, peer_ip, PEER_PORT));
	tell("accept");
	close(fd);
	for (unsigned i = 0; i < 4; i++)
		for (int copied = 0; copied < 2; copied++) {
			section("dissolved");
			dissolve(connected(), news[i], copied);
			section("dissolved, of accept");
			int l = listening();
			dissolve(accepted(l, NULL), news[i], copied);
			close(l);
		}
}
