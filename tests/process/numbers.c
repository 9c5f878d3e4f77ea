/*
 * Which numbers a program's descriptors get while finesse works beside it: natively each is the lowest that is free.
 *
 * numbers ADDRESS PORT SECONDS: one thread sends a byte to the server and waits for one, so long; meanwhile another
 * makes a descriptor and closes it again, all the time. It always gets the same number, unless somebody else holds that
 * one. Prints "higher N", how often it got another one, and "answered" where the bytes came back.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct talk {
	int fd;
	time_t seconds;
	atomic_int over;
	int failed;
};

static time_t now_s(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static void *talk_main(void *arg)
{
	struct talk *t = arg;
	time_t end = now_s() + t->seconds;
	char byte = 'x';
	while (now_s() < end && !t->failed)
		t->failed = send(t->fd, &byte, 1, 0) != 1 || recv(t->fd, &byte, 1, 0) != 1;
	t->over = 1;
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
	struct talk talk = {.fd = socket(AF_INET, SOCK_STREAM, 0), .seconds = atoi(argv[3])};
	pthread_t talker;
	int lowest = dup(STDIN_FILENO), higher = 0;
	close(lowest);
	inet_pton(AF_INET, argv[1], &sin.sin_addr);
	if (connect(talk.fd, (struct sockaddr *)&sin, sizeof sin) || pthread_create(&talker, NULL, talk_main, &talk)) {
		perror("numbers");
		return 1;
	}
	while (!talk.over) {
		int fd = dup(STDIN_FILENO);
		higher += fd != lowest;
		close(fd);
	}
	pthread_join(talker, NULL);
	printf("higher %d\n%s\n", higher, talk.failed ? "not answered" : "answered");
	return 0;
}
