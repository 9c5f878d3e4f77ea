/*
 * A thread takes the memory away, page by page and again and again, that others send from and receive to: each call
 * says how much was done, or EFAULT, and no other error; the process lives, and afterwards the connection works.
 *
 *     unmapped ADDRESS PORT      the address of a server that sends "hello" and then echoes
 *
 * The receive buffer is small, so that segments are: what is still in the kernel when it is read (socket/unseen.c)
 * would be lost with the memory.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE  4096
#define PAGES 2
#define CALLS 20000

static char *memory;
static int fd;
static volatile bool over;
static volatile int wrong;

static void *take_away(void *arg)
{
	for (unsigned i = 0; !over; i++) {
		char *page = memory + i % PAGES * PAGE;
		mprotect(page, PAGE, PROT_NONE);
		mprotect(page, PAGE, PROT_READ | PROT_WRITE);
	}
	return arg;
}

static void look(const char *call, ssize_t r, ssize_t most)
{
	if ((r < 0 && errno != EFAULT && errno != EAGAIN) || !r || r > most) {
		printf("%s: %zd %s\n", call, r, strerrorname_np(errno));
		wrong = 1;
	}
}

static void *sends(void *arg)
{
	for (int i = 0; i < CALLS && !wrong; i++) {
		struct iovec two[] = {{memory + 10, PAGE}, {memory + PAGE, 300}};
		look("send", send(fd, memory + i % PAGE, PAGE, MSG_DONTWAIT), PAGE);
		look("writev", sendmsg(fd, &(struct msghdr){.msg_iov = two, .msg_iovlen = 2}, MSG_DONTWAIT), PAGE + 300);
	}
	return arg;
}

static void *receives(void *arg)
{
	while (!over && !wrong) {
		look("recv", recv(fd, memory + 100, PAGE, MSG_DONTWAIT), PAGE);
		look("peek", recv(fd, memory + PAGE - 50, PAGE, MSG_DONTWAIT | MSG_PEEK), PAGE);
	}
	return arg;
}

/* Whatever is still on its way, and then what is sent now, comes back. */
static bool still_works(void)
{
	static char buffer[1 << 16], end[] = "the end of it all";
	size_t sent = 0, matched = 0;
	ssize_t n = 1;
	while (matched < sizeof end - 1 && n) {
		struct pollfd p = {.fd = fd, .events = POLLIN | (sent < sizeof end - 1 ? POLLOUT : 0)};
		poll(&p, 1, -1);
		n = send(fd, end + sent, sizeof end - 1 - sent, MSG_DONTWAIT);
		sent += n > 0 ? n : 0;
		n = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN)
			return false;
		for (ssize_t i = 0; i < n; i++)
			matched = buffer[i] == end[matched] ? matched + 1 : 0;
	}
	return matched == sizeof end - 1;
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(argc > 2 ? atoi(argv[2]) : 0)};
	pthread_t taker, sender, receiver;
	char hello[5];
	fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){PAGE}, sizeof(int));
	memory = mmap(NULL, (PAGES + 1) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (argc < 3 || inet_pton(AF_INET, argv[1], &a.sin_addr) != 1 || connect(fd, (void *)&a, sizeof a) || recv(fd, hello, sizeof hello, MSG_WAITALL) != sizeof hello)
		return 2;
	pthread_create(&taker, NULL, take_away, NULL);
	pthread_create(&receiver, NULL, receives, NULL);
	pthread_create(&sender, NULL, sends, NULL);
	pthread_join(sender, NULL);
	over = true;
	pthread_join(taker, NULL);
	pthread_join(receiver, NULL);
	printf("%s\n", wrong ? "wrong" : still_works() ? "the connection works" : "the connection does not work");
	return 0;
}
