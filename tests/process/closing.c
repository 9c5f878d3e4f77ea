/*
 * A program that closes every descriptor it has, as daemons and ssh do, before its first socket and again between two
 * connections.
 *   closing HOW ADDRESS PORT     HOW: close_range, number, unshare, closefrom, loop, asked, listed
 * After each closing it counts the numbers from 3 on that do not look closed, by each of several calls, and prints the
 * counts. Then it connects, sends a byte, waits for one and closes. Natively all counts are 0.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIRST 3
#define LAST  2047 /* finesse keeps its own under 1024 */

static void close_listed(void)
{
	DIR *dir = opendir("/proc/self/fd");
	for (struct dirent *d; dir && (d = readdir(dir));) {
		int fd = atoi(d->d_name);
		if (fd >= FIRST && fd != dirfd(dir))
			close(fd);
	}
	if (dir)
		closedir(dir);
}

static void close_all(const char *how)
{
	if (!strcmp(how, "close_range"))
		close_range(FIRST, ~0U, 0);
	else if (!strcmp(how, "number"))
		syscall(SYS_close_range, FIRST, ~0U, 0);
	else if (!strcmp(how, "unshare"))
		close_range(FIRST, ~0U, CLOSE_RANGE_UNSHARE);
	else if (!strcmp(how, "closefrom"))
		closefrom(FIRST);
	else if (!strcmp(how, "listed"))
		close_listed();
	else
		for (int fd = FIRST; fd <= LAST; fd++)
			if (strcmp(how, "asked") || fcntl(fd, F_GETFD) >= 0)
				close(fd);
}

static bool is_polled(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return poll(&p, 1, 0) == 1 && !(p.revents & POLLNVAL);
}

/* How many of the numbers from 3 on look open, by what. */
static void count_open(const char *when)
{
	int by_fcntl = 0, by_fstat = 0, by_dup = 0, by_poll = 0, by_close = 0;
	struct stat st;
	for (int fd = FIRST; fd <= LAST; fd++) {
		by_fcntl += fcntl(fd, F_GETFD) >= 0;
		by_fstat += fstat(fd, &st) == 0;
		by_poll += is_polled(fd);
		int copy = dup(fd);
		by_dup += copy >= 0;
		if (copy >= 0)
			close(copy);
		by_close += close(fd) == 0 || errno != EBADF;
	}
	printf("%s: fcntl %d fstat %d poll %d dup %d close %d\n", when, by_fcntl, by_fstat, by_poll, by_dup, by_close);
}

static void talk(const char *address, const char *port)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
	char byte = 'x';
	inet_pton(AF_INET, address, &sin.sin_addr);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&sin, sizeof sin) || send(fd, &byte, 1, 0) != 1 || recv(fd, &byte, 1, 0) != 1)
		printf("the connection: %s\n", strerror(errno));
	printf("socket %d\n", fd);
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	close_all(argv[1]);
	count_open("first");
	talk(argv[2], argv[3]);
	close_all(argv[1]);
	count_open("then");
	talk(argv[2], argv[3]);
	fflush(stdout);
	return 0;
}
