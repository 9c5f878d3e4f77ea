/*
 * A program that lives for one connection: connects, sends a request, reads to the end, and ends.
 *
 *     short_client ADDRESS PORT            once
 *     short_client ADDRESS PORT TIMES      starts itself so often, one after the other, and prints how many microseconds each took from fork to its end
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char request[] = "GET / HTTP/1.0\r\n\r\n";

static int die(const char *what)
{
	perror(what);
	return 1;
}

static int talk(const char *address, const char *port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
	char buf[4096];
	ssize_t n;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (inet_pton(AF_INET, address, &to.sin_addr) != 1 || connect(fd, (void *)&to, sizeof to))
		return die("connect");
	if (write(fd, request, sizeof request - 1) != sizeof request - 1)
		return die("write");
	while ((n = read(fd, buf, sizeof buf)) > 0)
		;
	close(fd);
	return n < 0 ? die("read") : 0;
}

static long now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}

static int start_itself(char **argv)
{
	int status;
	char *once[] = {argv[0], argv[1], argv[2], NULL};
	long before = now_us();
	pid_t pid = fork();
	if (pid == 0) {
		execv("/proc/self/exe", once);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		return 1;
	printf("%ld\n", now_us() - before);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "short_client ADDRESS PORT [TIMES]\n");
		return 2;
	}
	if (argc == 3)
		return talk(argv[1], argv[2]);
	for (int i = atoi(argv[3]); i > 0; i--)
		if (start_itself(argv))
			return 1;
	return 0;
}
