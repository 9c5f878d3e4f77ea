/*
 * sendfile and splice that are left while they wait, by cancellation or by a handler that jumps away: prints for each
 * how often that went as it should, how many descriptors stayed behind, and whether the thread may still be cancelled.
 * copy_kinds_test.sh compares natively and under finesse, whose engine carries the connections.
 *
 *     copy_left ADDRESS PORT      a server that echoes
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LOW_NUMBERS 512
#define TIMES       20
#define PATIENCE_S  10
#define PIPE_BYTES  65536

static int device, file, connection, empty_pipe[2], full_pipe[2];
static sigjmp_buf out;
static _Atomic int sleeper; /* its thread id; 0: not yet */

static void from_pipe(void)
{
	splice(empty_pipe[0], NULL, connection, NULL, 9, 0);
}

static void to_full_pipe(void)
{
	splice(connection, NULL, full_pipe[1], NULL, 9, 0);
}

static void to_pipe(void)
{
	splice(connection, NULL, empty_pipe[1], NULL, 9, 0);
}

static void send_from(int fd)
{
	for (off_t start = 0;; start = 0)
		sendfile(connection, fd, &start, 1 << 20);
}

static void send_device(void)
{
	send_from(device);
}

static void send_file(void)
{
	send_from(file);
}

static const struct way {
	const char *name;
	void (*call)(void);
	bool is_cancelled; /* libc's sendfile is no cancellation point */
} ways[] = {
    {"splice from an empty pipe", from_pipe, true},
    {"splice into a full pipe", to_full_pipe, true},
    {"splice of nothing", to_pipe, true},
    {"sendfile of a device", send_device, false},
    {"sendfile of a file", send_file, false},
};

/* Of the program's: what an engine has for itself lies higher. */
static int descriptors(void)
{
	int n = 0;
	for (int fd = 0; fd < LOW_NUMBERS; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void jump(int sig)
{
	(void)sig;
	siglongjmp(out, 1);
}

static void *calls(void *arg)
{
	const struct way *way = arg;
	sleeper = (int)syscall(SYS_gettid);
	way->call();
	return NULL;
}

static void *calls_until_jump(void *arg)
{
	const struct way *way = arg;
	int state;
	if (!sigsetjmp(out, 1)) {
		sleeper = (int)syscall(SYS_gettid);
		way->call();
		return "returned";
	}
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
	return state == PTHREAD_CANCEL_ENABLE ? NULL : "cannot be cancelled";
}

/* Until the thread sleeps: in its call, or on its way there, where it is as good. */
static void await_sleep(void)
{
	char name[64], line[256], *state = NULL;
	while (!sleeper)
		sched_yield();
	snprintf(name, sizeof name, "/proc/self/task/%d/stat", sleeper);
	do {
		FILE *f = fopen(name, "r");
		state = f && fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
		if (f)
			fclose(f);
		sched_yield();
	} while (state && state[2] != 'S');
}

/* What its thread says; what it should: `right`. */
static const char *leave(const struct way *way, bool by_cancel)
{
	pthread_t thread;
	void *said;
	struct timespec end;
	sleeper = 0;
	pthread_create(&thread, NULL, by_cancel ? calls : calls_until_jump, (void *)way);
	await_sleep();
	if (by_cancel)
		pthread_cancel(thread);
	else
		pthread_kill(thread, SIGUSR1);
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += PATIENCE_S;
	if (pthread_timedjoin_np(thread, &said, &end)) {
		printf("%s: it is not left\n", way->name);
		exit(1);
	}
	if (by_cancel)
		return said == PTHREAD_CANCELED ? NULL : "not cancelled";
	return said;
}

static void look_at(const struct way *way, bool by_cancel)
{
	int before = 0;
	const char *wrong = NULL;
	for (int i = 0; i < TIMES && !wrong; i++) {
		wrong = leave(way, by_cancel);
		if (i == 0) /* what is made once */
			before = descriptors();
	}
	printf("%s, left by %s: %s, %d descriptors stay\n", way->name, by_cancel ? "cancellation" : "a jump", wrong ? wrong : "as it should", descriptors() - before);
	fflush(stdout);
}

static void begin(const struct sockaddr_in *server)
{
	char some[PIPE_BYTES] = "";
	connection = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(connection, (void *)server, sizeof *server) || pipe(empty_pipe) || pipe(full_pipe) || write(full_pipe[1], some, sizeof some) < 0) {
		perror("begin");
		exit(1);
	}
}

static void end(void)
{
	close(connection);
	for (int i = 0; i < 2; i++) {
		close(empty_pipe[i]);
		close(full_pipe[i]);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(argc > 2 ? atoi(argv[2]) : 0)};
	if (argc < 3 || inet_pton(AF_INET, argv[1], &server.sin_addr) != 1)
		return 2;
	signal(SIGUSR1, jump);
	device = open("/dev/zero", O_RDONLY);
	file = open("/proc/self/exe", O_RDONLY);
	for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
		for (int by_cancel = 0; by_cancel < (ways[i].is_cancelled ? 2 : 1); by_cancel++) {
			begin(&server);
			look_at(&ways[i], by_cancel);
			end();
		}
	}
	puts("# end");
	return 0;
}
