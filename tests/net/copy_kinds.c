/*
 * Every kind of source and target × sendfile, splice, tee and copy_file_range, beside a connection: prints each result,
 * errno, the offset, the position and what the source still has. copy_kinds_test.sh compares natively and under
 * finesse, whose engine carries the connections.
 *
 *     copy_kinds ADDRESS PORT FILE      a server that echoes; a file to make
 *
 * Of files whose contents change the number of bytes is not told.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define FILE_BYTES 10000
#define BOUND_S    100
#define LAST_LIMIT 200 /* of descriptors */

static struct sockaddr_in server;
static int connection; /* what is sent there, and comes back, a thread reads */
static char *path;     /* a file of FILE_BYTES */

static int connect_server(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (void *)&server, sizeof server)) {
		perror("connect");
		exit(1);
	}
	return fd;
}

/* A connection with eight bytes to read. */
static int readable_connection(void)
{
	int fd = connect_server();
	char some[8];
	if (write(fd, "echoecho", 8) == 8)
		recv(fd, some, sizeof some, MSG_PEEK | MSG_WAITALL);
	return fd;
}

static void put(int fd, const char *text)
{
	if (write(fd, text, strlen(text)) < 0)
		perror("write");
}

/* ---- the kinds ---- */

static int opened(const char *name)
{
	return open(name, O_RDONLY | O_NONBLOCK);
}

static int file_read(const char *name)
{
	(void)name;
	return open(path, O_RDONLY);
}

static int file_both(const char *name)
{
	(void)name;
	return open(path, O_RDWR);
}

static int file_written(const char *name)
{
	(void)name;
	return open(path, O_WRONLY);
}

static int file_appended(const char *name)
{
	(void)name;
	return open(path, O_RDWR | O_APPEND);
}

static int file_at_end(const char *name)
{
	int fd = file_read(name);
	lseek(fd, 0, SEEK_END);
	return fd;
}

static int file_by_path(const char *name)
{
	(void)name;
	return open(path, O_PATH);
}

static int in_memory(const char *name)
{
	int fd = memfd_create(name, 0);
	put(fd, "0123456789");
	lseek(fd, 0, SEEK_SET);
	return fd;
}

static int device_both(const char *name)
{
	return open(name + 1, O_RDWR);
}

static int terminal(const char *name)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY);
	(void)name;
	grantpt(master);
	unlockpt(master);
	int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_NONBLOCK);
	put(master, "hello\n");
	return slave;
}

static int piped(int flags, bool reads, bool ends)
{
	int ends_of[2];
	if (pipe2(ends_of, flags))
		return -1;
	if (!reads)
		return ends_of[1];
	put(ends_of[1], "abc");
	put(ends_of[1], "defg");
	if (ends)
		close(ends_of[1]);
	return ends_of[0];
}

static int pipe_read(const char *name)
{
	(void)name;
	return piped(0, true, false);
}

static int pipe_ended(const char *name)
{
	(void)name;
	return piped(0, true, true);
}

static int pipe_of_packets(const char *name)
{
	(void)name;
	return piped(O_DIRECT, true, false);
}

static int pipe_written(const char *name)
{
	(void)name;
	return piped(0, false, false);
}

static int unix_stream(const char *name)
{
	int ends_of[2];
	(void)name;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends_of))
		return -1;
	put(ends_of[1], "abcdefghij");
	return ends_of[0];
}

static int datagrams(const char *name)
{
	(void)name;
	return socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
}

static int undecided(const char *name)
{
	(void)name;
	return socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
}

static int ours(const char *name)
{
	(void)name;
	return readable_connection();
}

static int listening(const char *name)
{
	int fd = undecided(name);
	listen(fd, 1);
	return fd;
}

static int counted(const char *name)
{
	(void)name;
	return eventfd(3, EFD_NONBLOCK);
}

static int timed(const char *name)
{
	(void)name;
	return timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
}

static int signalled(const char *name)
{
	sigset_t none;
	(void)name;
	sigemptyset(&none);
	return signalfd(-1, &none, SFD_NONBLOCK);
}

static int watched(const char *name)
{
	(void)name;
	return inotify_init1(IN_NONBLOCK);
}

static int polled(const char *name)
{
	(void)name;
	return epoll_create1(0);
}

static int nothing(const char *name)
{
	(void)name;
	return -1;
}

static const struct kind {
	const char *name;
	int (*make)(const char *name);
	bool changes; /* what it holds */
} kinds[] = {
	{"a file", file_read, false}, {"a file to read and write", file_both, false}, {"a file to write", file_written, false}, {"a file to append to", file_appended, false},
	{"a file's end", file_at_end, false}, {"a path", file_by_path, false}, {"memory", in_memory, false}, {"/tmp", opened, false},
	{"/proc/version", opened, false}, {"/proc/self/stat", opened, true}, {"/proc/self/maps", opened, true}, {"/proc/self/mem", opened, true}, {"/proc/net/dev", opened, true},
	{"/proc/self/cmdline", opened, true}, {"/proc/sys/kernel/ostype", opened, false}, {"/sys/class/net/lo/mtu", opened, false},
	{"/dev/null", opened, false}, {"/dev/zero", opened, false}, {"/dev/urandom", opened, false}, {"+/dev/null", device_both, false}, {"+/dev/zero", device_both, false},
	{"a terminal", terminal, false}, {"a pipe", pipe_read, false}, {"a pipe that ends", pipe_ended, false}, {"a pipe of packets", pipe_of_packets, false},
	{"a pipe to write", pipe_written, false}, {"a Unix socket", unix_stream, false}, {"a datagram socket", datagrams, false}, {"a TCP socket", undecided, false},
	{"a connection", ours, false}, {"a listener", listening, false}, {"an eventfd", counted, false}, {"a timerfd", timed, false}, {"a signalfd", signalled, false},
	{"an inotify", watched, false}, {"an epoll", polled, false}, {"nothing", nothing, false},
};

/* ---- the calls ---- */

#define BEGINNING 0
#define THIRD     3
#define NEGATIVE  (-1)
#define FAR       0x7fffffffffffff00

enum verb { SENDFILE, SPLICE, TEE, COPY_FILE_RANGE };

static const struct call {
	const char *name;
	enum verb verb;
	bool from; /* … a connection to the kind; else from the kind to a connection */
	bool with_offset;
	off_t offset;
	size_t n;
} calls[] = {
	{"sendfile", SENDFILE, false, false, BEGINNING, 8}, {"sendfile at an offset", SENDFILE, false, true, THIRD, 8}, {"sendfile of nothing", SENDFILE, false, false, BEGINNING, 0},
	{"sendfile of nothing at an offset", SENDFILE, false, true, BEGINNING, 0}, {"sendfile of much", SENDFILE, false, true, BEGINNING, 5000},
	{"sendfile before the beginning", SENDFILE, false, true, NEGATIVE, 5}, {"sendfile far out", SENDFILE, false, true, FAR, 5},
	{"sendfile of a negative number", SENDFILE, false, false, BEGINNING, -5}, {"splice", SPLICE, false, false, BEGINNING, 8}, {"splice at an offset", SPLICE, false, true, BEGINNING, 8},
	{"splice of nothing", SPLICE, false, false, BEGINNING, 0}, {"tee", TEE, false, false, BEGINNING, 8}, {"copy_file_range", COPY_FILE_RANGE, false, false, BEGINNING, 8},
	{"sendfile from a connection", SENDFILE, true, false, BEGINNING, 4}, {"sendfile from a connection at an offset", SENDFILE, true, true, BEGINNING, 4},
	{"sendfile of nothing from a connection", SENDFILE, true, false, BEGINNING, 0}, {"sendfile of a negative number from a connection", SENDFILE, true, false, BEGINNING, -5},
	{"splice from a connection", SPLICE, true, false, BEGINNING, 4}, {"splice from a connection at an offset", SPLICE, true, true, BEGINNING, 4}, {"tee from a connection", TEE, true, false, BEGINNING, 4},
};

static long act(const struct call *c, int in, int out, off_t *offset)
{
	switch (c->verb) {
	case SENDFILE:
		return sendfile(out, in, offset, c->n);
	case SPLICE:
		return splice(in, offset, out, NULL, c->n, SPLICE_F_NONBLOCK);
	case TEE:
		return tee(in, out, c->n, SPLICE_F_NONBLOCK);
	default:
		return copy_file_range(in, NULL, out, NULL, c->n, 0);
	}
}

static const char *name_of(long r)
{
	return r < 0 ? strerrorname_np(errno) : "ok";
}

/* Its position, and what can be read of it. */
static void print_rest(int fd)
{
	char rest[64];
	printf(", position %ld", (long)lseek(fd, 0, SEEK_CUR));
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	long n = read(fd, rest, sizeof rest);
	printf(", then %ld %s", n, name_of(n));
}

static void try(const struct kind *k, const struct call *c)
{
	int fd = k->make(k->name), source = c->from ? readable_connection() : fd;
	off_t offset = c->offset;
	long r = act(c, source, c->from ? fd : connection, c->with_offset ? &offset : NULL);
	printf("%s, %s: %ld %s", c->name, k->name, k->changes && r > 0 ? 1 : r, name_of(r));
	if (!k->changes) {
		printf(", offset %lld", (long long)offset);
		print_rest(fd);
	}
	printf("\n");
	if (c->from)
		close(source);
	close(fd);
}

static void *reads_all(void *arg)
{
	char some[65536];
	(void)arg;
	while (read(connection, some, sizeof some) > 0)
		;
	return NULL;
}

/*
 * sendfile needs no number of its own: with none left it says the same. Last: the limit and the capability do not come
 * back.
 */
static void no_number_left(void)
{
	static const off_t places[] = {0, FILE_BYTES - 5, FILE_BYTES, FILE_BYTES + 5};
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];
	int fd = open(path, O_RDONLY);
	syscall(SYS_capget, &header, caps);
	caps[0].effective &= ~(1U << CAP_SYS_RESOURCE);
	caps[0].permitted &= ~(1U << CAP_SYS_RESOURCE);
	if (syscall(SYS_capset, &header, caps) || setrlimit(RLIMIT_NOFILE, &(struct rlimit){LAST_LIMIT, LAST_LIMIT}))
		perror("limit");
	while (dup(fd) >= 0)
		;
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		off_t at = places[i];
		long r = sendfile(connection, fd, &at, 8);
		printf("sendfile at %ld, no number left: %ld %s, offset %ld\n", (long)places[i], r, name_of(r), (long)at);
	}
}

int main(int argc, char **argv)
{
	static const char bytes[FILE_BYTES];
	pthread_t thread;
	if (argc != 4)
		return 2;
	path = argv[3];
	server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
	inet_pton(AF_INET, argv[1], &server.sin_addr);
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	alarm(BOUND_S);
	int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (write(file, bytes, sizeof bytes) != sizeof bytes)
		return 1;
	close(file);
	connection = connect_server();
	pthread_create(&thread, NULL, reads_all, NULL);
	for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
		for (size_t c = 0; c < sizeof calls / sizeof *calls; c++)
			try(&kinds[k], &calls[c]);
	no_number_left();
	puts("# end");
	return 0;
}
