/* Files and the sockets of shim_calls: sendfile, splice and other copies, and stdio. */
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "shim_calls.h"

/* A file that cannot be read, and what else may be wrong: which comes first. */
static void unreadable(int c)
{
	off_t at = 2, before = -2;
	int files[] = {-1, 9999, open("/dev/null", O_WRONLY), open("/dev/null", O_PATH), open("/", O_RDONLY)};
	for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
		SAY(sendfile(c, files[i], &at, 4));
		SAY(sendfile(c, files[i], &before, 4));
		SAY(sendfile(c, files[i], &at, 0));
		SAY(sendfile(c, files[i], (off_t *)8, 4));
		SAY(sendfile(c, files[i], NULL, 4));
		close(files[i]);
	}
	SAY(at);
	SAY(before);
}

/* Behind the largest offset of the file's file system, and of all. */
static void far_offsets(int c)
{
	static const off_t far[] = {100, INT32_MAX, 1L << 60, 1L << 62, INT64_MAX, INT64_MAX - 4};
	int files[] = {open("/proc/self/exe", O_RDONLY), memfd_create("f", 0), open("/dev/null", O_WRONLY)};
	for (unsigned f = 0; f < 3; f++) {
		for (unsigned i = f ? 0 : 2; i < sizeof far / sizeof *far; i++) {
			off_t at = far[i];
			SAY(sendfile(c, files[f], &at, 5));
			SAY(sendfile(c, files[f], &at, 0));
			SAY(at == far[i]);
		}
		SAY(sendfile(c, files[f], &(off_t){5}, INT64_MAX));
		close(files[f]);
	}
}

void copies(void)
{
	int c, s, fds[2];
	char buf[16] = {0};
	off_t at = 2;
	loff_t none = 0;
	puts("# copies");
	pair(&c, &s);
	int file = memfd_create("f", 0);
	write(file, "0123456789", 10);
	SAY(sendfile(c, file, &at, 4));
	SAY(at);
	SAY(lseek(file, 0, SEEK_CUR));
	wait_readable(s);
	SAY(read(s, buf, 16));
	printf("%.4s\n", buf);
	lseek(file, 7, SEEK_SET);
	SAY(sendfile(c, file, NULL, 100));
	SAY(lseek(file, 0, SEEK_CUR));
	SAY(sendfile(c, file, NULL, 100));
	SAY(sendfile(file, s, NULL, 10));
	SAY(sendfile(c, -1, NULL, 10));
	unreadable(c);
	int fifo[2], out_only = open("/dev/null", O_WRONLY);
	static const off_t offsets[] = {0, 3, -1};
	for (size_t i = 0; i < 3; i++)
		for (size_t n = 0; n < 2; n++) {
			at = offsets[i];
			printf("from %d, %d\n", (int)at, (int)n);
			SAY(sendfile(c, -1, &at, n));
			SAY(sendfile(c, out_only, &at, n));
		}
	at = 0;
	SAY(pipe(fifo));
	SAY(sendfile(c, fifo[0], &at, 1));
	SAY(sendfile(c, fifo[1], &at, 1));
	close(fifo[0]), close(fifo[1]), close(out_only);
	SAY(pipe(fds));
	wait_readable(s);
	SAY(splice(s, NULL, fds[1], NULL, 100, 0));
	SAY(read(fds[0], buf, 16));
	printf("%.3s\n", buf);
	fcntl(s, F_SETFL, O_NONBLOCK);
	SAY(splice(s, NULL, fds[1], NULL, 100, SPLICE_F_NONBLOCK));
	fcntl(s, F_SETFL, 0);
	write(fds[1], "pipe", 4);
	SAY(splice(fds[0], NULL, c, NULL, 100, 0));
	wait_readable(s);
	SAY(read(s, buf, 16));
	printf("%.4s\n", buf);
	int low = 10;
	SAY(setsockopt(s, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low));
	SAY(write(c, "below", 5));
	SAY(recv(s, buf, 5, MSG_PEEK)); /* all of it is there */
	SAY(splice(s, NULL, fds[1], NULL, 100, 0)); /* which does not heed it */
	low = 1;
	SAY(setsockopt(s, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low));
	SAY(splice(s, NULL, c, NULL, 1, 0));
	SAY(splice(s, NULL, -1, NULL, 1, 0));
	SAY(splice(999, NULL, c, NULL, 1, 0));
	SAY(splice(s, &none, fds[1], NULL, 1, 0));
	SAY(splice(fds[0], NULL, c, NULL, 1, SPLICE_F_NONBLOCK));
	SAY(copy_file_range(file, NULL, c, NULL, 1, 0));
	SAY(splice(s, (loff_t *)8, fds[1], NULL, 1, 0));
	SAY(splice(s, (loff_t *)8, file, NULL, 1, 0));
	SAY(splice(fds[0], NULL, c, (loff_t *)8, 1, 0));
	SAY(splice(fds[0], (loff_t *)8, c, (loff_t *)8, 1, 0));
	SAY(splice(s, &none, fds[0], NULL, 1, 0));
	SAY(splice(fds[1], NULL, c, &none, 1, 0));
	int path = open("/dev/null", O_PATH);
	SAY(splice(s, NULL, path, NULL, 1, 0));
	SAY(splice(path, NULL, c, NULL, 1, 0));
	close(path);
	far_offsets(c);
	SAY(fcntl(c, F_SETFL, O_APPEND));
	SAY(sendfile(c, file, &(off_t){0}, 4));
	SAY(sendfile(c, file, NULL, 4));
	SAY(sendfile(c, file, NULL, 0));
	SAY(sendfile(c, 9999, &(off_t){0}, 4));
	SAY(write(fds[1], "left", 4));
	SAY(splice(fds[0], NULL, c, NULL, 4, 0));
	SAY(read(fds[0], buf, 16));
	SAY(write(c, "a", 1));
	SAY(read(s, buf, 16));
	close(fds[0]), close(fds[1]), close(c), close(s), close(file);
}

#define BIG_BYTES 700001

static unsigned char byte_at(size_t at)
{
	return at * 2654435761u >> 21;
}

/* The file from `at` on, by both ends in turn: how many bytes came, or how many before a wrong one. */
static size_t file_arrives(int c, int s, int file, off_t at)
{
	static unsigned char got[65536];
	size_t from = at, have = 0;
	while (from + have < BIG_BYTES) {
		sendfile(c, file, &at, BIG_BYTES);
		struct pollfd p = {s, POLLIN, 0};
		ssize_t n = poll(&p, 1, 5000) == 1 ? read(s, got, sizeof got) : 0;
		if (n <= 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			if (got[i] != byte_at(from + have + i))
				return have + i;
		have += n;
	}
	return have;
}

/* More than a piece of any copy, from all sorts of places, with room in the send buffer for a part each time. */
void big_file(void)
{
	static const off_t from[] = {0, 1, 31, 4095, 4096, 131071, 200003};
	static unsigned char bytes[BIG_BYTES];
	int c, s, file = memfd_create("big", 0);
	puts("# a big file");
	for (size_t i = 0; i < BIG_BYTES; i++)
		bytes[i] = byte_at(i);
	SAY(write(file, bytes, BIG_BYTES));
	pair(&c, &s);
	fcntl(c, F_SETFL, O_NONBLOCK);
	for (size_t i = 0; i < sizeof from / sizeof from[0]; i++)
		SAY(file_arrives(c, s, file, from[i]));
	close(c), close(s), close(file);
}

void stdios(void)
{
	int c, s;
	char line[64];
	puts("# stdio");
	pair(&c, &s);
	SAY(dprintf(s, "%d %s\n", 42, "dprintf"));
	FILE *f = fdopen(c, "r+");
	SAY(fileno(f) == c);
	printf("%s", fgets(line, sizeof line, f));
	fprintf(f, "through stdio\n");
	SAY(fflush(f));
	wait_readable(s);
	ssize_t n = read(s, line, sizeof line);
	printf("%.*s", (int)n, line);
	SAY(shutdown(s, SHUT_WR));
	SAY(fgets(line, sizeof line, f) == NULL);
	SAY(fclose(f));
	SAY(read(s, line, 1));
	close(s);
}
