/*
 * Files sent whole and in parts by sendfile, to sockets that wait and that do not, from memory and from the disk,
 * behind other bytes: prints for each how much was sent, the offset, and whether the bytes came back as they stand in
 * the file; and whether who asks for more than there is was short of room. copy_kinds_test.sh compares natively and
 * under finesse, whose engine carries the connections.
 *
 *     copy_file ADDRESS PORT FILE      a server that echoes; FILE is made
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#define FILE_BYTES 3000017

static const struct {
	off_t at;
	size_t n, before; /* bytes; of them written before the file's */
	bool nonblock, evicted, cork;
} cases[] = {
	{0, FILE_BYTES, 0, false, false, false}, {0, FILE_BYTES, 0, true, false, false}, {0, FILE_BYTES, 0, false, true, false}, {0, FILE_BYTES, 0, true, true, false},
	{1, 1, 0, false, false, false}, {4095, 2, 7, false, false, true}, {17, 131072, 250, true, false, true}, {131071, 131074, 4097, false, false, false},
	{FILE_BYTES - 100, 1000, 3, false, false, true}, {5, 400000, 1, true, true, false}, {0, 2000000, 16, true, false, false}, {4000, 700001, 33, false, true, true},
	{FILE_BYTES, 10, 1, false, false, false}, {FILE_BYTES + 10, 10, 1, false, false, false},
};

static int connection, file;
static bool right;

static char file_byte(off_t at)
{
	return at * 7 + (at >> 8) + (at >> 17);
}

static void *read_back(void *arg)
{
	size_t k = *(size_t *)arg, before = cases[k].before, file_has = cases[k].at < FILE_BYTES ? FILE_BYTES - cases[k].at : 0, want = before + (cases[k].n < file_has ? cases[k].n : file_has);
	static char buf[65536];
	struct pollfd p = {.fd = connection, .events = POLLIN};
	right = true;
	for (size_t got = 0; got < want;) {
		ssize_t r = recv(connection, buf, want - got < sizeof buf ? want - got : sizeof buf, 0);
		if (r < 0 && errno == EAGAIN)
			poll(&p, 1, -1);
		else if (r <= 0)
			return right = false, NULL;
		for (ssize_t i = 0; i < r; i++, got++)
			right = right && buf[i] == (got < before ? 'b' : file_byte(cases[k].at + (off_t)(got - before)));
	}
	return NULL;
}

static bool send_before(size_t n)
{
	char bytes[8192];
	memset(bytes, 'b', sizeof bytes);
	return !n || send(connection, bytes, n, 0) == (ssize_t)n;
}

/* All of it, however often the call has to be made. */
static size_t send_all(size_t k, off_t *at)
{
	struct pollfd p = {.fd = connection, .events = POLLOUT};
	size_t sent = 0;
	while (sent < cases[k].n) {
		ssize_t r = sendfile(connection, file, at, cases[k].n - sent);
		if (r > 0)
			sent += r;
		else if (r < 0 && errno == EAGAIN)
			poll(&p, 1, -1);
		else
			break;
	}
	return sent;
}

static void try(size_t k)
{
	pthread_t reader;
	off_t at = cases[k].at;
	int on = cases[k].cork, flags = fcntl(connection, F_GETFL);
	fcntl(connection, F_SETFL, cases[k].nonblock ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
	if (cases[k].evicted)
		posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
	pthread_create(&reader, NULL, read_back, &k);
	setsockopt(connection, IPPROTO_TCP, TCP_CORK, &on, sizeof on);
	bool sent_before = send_before(cases[k].before);
	size_t sent = send_all(k, &at);
	on = 0;
	setsockopt(connection, IPPROTO_TCP, TCP_CORK, &on, sizeof on);
	pthread_join(reader, NULL);
	printf("%zu: %s, sent %zu, offset %ld, %s\n", k, sent_before ? "begun" : "not begun", sent, (long)at, right ? "right" : "wrong");
}

/*
 * Who was short of room hears when there is some again. That was so before the last byte came back, which acknowledges
 * the bytes.
 */
static void ask_for_more_than_there_is(size_t n, size_t there)
{
	struct epoll_event event = {.events = EPOLLOUT | EPOLLET};
	char bytes[64];
	off_t at = FILE_BYTES - there;
	int ep = epoll_create1(0), before, after;
	epoll_ctl(ep, EPOLL_CTL_ADD, connection, &event);
	before = epoll_wait(ep, &event, 1, 0);
	ssize_t sent = sendfile(connection, file, &at, n), back = recv(connection, bytes, there, MSG_WAITALL);
	after = epoll_wait(ep, &event, 1, 0);
	printf("%zu of %zu: sent %zd, %zd back; writable %d, then %d\n", n, there, sent, back, before, after);
	close(ep);
}

static bool make_file(const char *name)
{
	char *bytes = malloc(FILE_BYTES);
	for (off_t i = 0; i < FILE_BYTES; i++)
		bytes[i] = file_byte(i);
	file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	bool made = file >= 0 && write(file, bytes, FILE_BYTES) == FILE_BYTES && fsync(file) == 0;
	free(bytes);
	return made;
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(argc > 2 ? atoi(argv[2]) : 0)};
	connection = socket(AF_INET, SOCK_STREAM, 0);
	if (argc < 4 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1 || connect(connection, (struct sockaddr *)&to, sizeof to) || !make_file(argv[3]))
		return perror("copy_file"), 1;
	ask_for_more_than_there_is(10, 10);
	ask_for_more_than_there_is(11, 10);
	ask_for_more_than_there_is(1 << 30, 10);
	for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
		try(k);
	puts("# end");
	return 0;
}
