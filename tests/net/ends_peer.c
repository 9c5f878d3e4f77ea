/* The peer of ends_walk: the kernel's TCP at the other host, which does what a line says and answers with a line. */
#include "tests/net/ends_walk.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

struct sockaddr_un socket_name(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	return a;
}

static void peer_receive(int fd, char *reply, size_t size)
{
	struct timeval wait = {.tv_sec = 300 * slower / 1000, .tv_usec = 300 * slower % 1000 * 1000};
	char bytes[64];
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
	ssize_t n = recv(fd, bytes, sizeof bytes - 1, 0);
	bytes[n > 0 ? n : 0] = 0;
	snprintf(reply, size, "%s", n < 0 ? strerrorname_np(errno) : n ? bytes : "end of file");
}

static int peer_connects(const char *ip, int port, char *reply, size_t size)
{
	struct sockaddr_in a = address(ip, port);
	struct timeval wait = {.tv_sec = 2 * slower};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
	snprintf(reply, size, "%s", connect(fd, (struct sockaddr *)&a, sizeof a) ? strerrorname_np(errno) : "connected");
	return fd;
}

static int peer_obeys(int listener, int fd, char *line, char *reply, size_t size)
{
	struct linger off = {1, 0};
	char word[16] = "", text[64] = "";
	int port = 0;
	sscanf(line, "%15s %63s %d", word, text, &port);
	snprintf(reply, size, "ok");
	if (!strcmp(word, "accept")) {
		close(fd);
		return accept(listener, NULL, NULL);
	}
	if (!strcmp(word, "connect")) {
		close(fd);
		return peer_connects(text, port, reply, size);
	}
	if (!strcmp(word, "slower"))
		slower = atoi(text);
	if (!strcmp(word, "send"))
		send(fd, text, strlen(text), MSG_NOSIGNAL);
	if (!strcmp(word, "urgent"))
		send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_OOB);
	if (!strcmp(word, "receive"))
		peer_receive(fd, reply, size);
	if (!strcmp(word, "keep")) /* open, and aside */
		return -1;
	if (!strcmp(word, "fin"))
		shutdown(fd, SHUT_WR);
	if (!strcmp(word, "reset")) {
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof off);
		close(fd);
		return -1;
	}
	return fd;
}

int be_peer(const char *path)
{
	struct sockaddr_un name = socket_name(path);
	struct sockaddr_in a = address("0.0.0.0", PEER_PORT);
	int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), control = socket(AF_UNIX, SOCK_STREAM, 0), fd = -1;
	char line[128], reply[128];
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, (struct sockaddr *)&a, sizeof a) || listen(listener, 64) || bind(control, (struct sockaddr *)&name, sizeof name) ||
	    listen(control, 4))
		return perror("peer"), 1;
	for (;;) {
		int c = accept(control, NULL, NULL);
		FILE *f = fdopen(c, "r+");
		setbuf(f, NULL);
		while (fgets(line, sizeof line, f)) {
			fd = peer_obeys(listener, fd, line, reply, sizeof reply);
			fprintf(f, "%s\n", reply);
		}
		fclose(f);
	}
}
