/*
 * A handler closes a listener, and binds and listens at its port anew, whatever call on the listener it interrupts: as
 * a server does that starts again on a signal. Calls that do not wait. Prints for each call how many of the handlers
 * found the port taken; reopened_test.sh runs it natively and under finesse.
 *
 *     reopened ADDRESS
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RUNS    500   /* of the handler, for each call; about one in thirty met a call that held the listener */
#define LATE_NS 20000 /* the handler comes at most so long after the first call */
#define BOUND_S 60
#define PORT    21891

static struct sockaddr_in own;
static volatile int fd = -1;
static volatile int runs, taken;

static void anew(int sig)
{
	int error = errno;
	(void)sig;
	if (fd >= 0)
		close(fd);
	int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (bind(s, (void *)&own, sizeof own) || listen(s, 5)) {
		taken++;
		close(s);
		s = -1;
	}
	fd = s;
	runs++;
	errno = error;
}

static void do_accept(void)
{
	accept(fd, NULL, NULL);
}

static void do_accept4(void)
{
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	accept4(fd, (void *)&a, &len, SOCK_CLOEXEC);
}

static void do_getsockname(void)
{
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	getsockname(fd, (void *)&a, &len);
}

static void do_getsockopt(void)
{
	int value;
	socklen_t len = sizeof value;
	getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &len);
}

static void do_getfl(void)
{
	fcntl(fd, F_GETFL);
}

static const struct {
	const char *name;
	void (*act)(void);
} calls[] = {{"accept", do_accept}, {"accept4", do_accept4}, {"getsockname", do_getsockname}, {"getsockopt", do_getsockopt}, {"F_GETFL", do_getfl}};

int main(int argc, char **argv)
{
	timer_t timer;
	unsigned random = 1;
	if (argc != 2)
		return 2;
	alarm(BOUND_S);
	own = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(PORT)};
	inet_pton(AF_INET, argv[1], &own.sin_addr);
	sigaction(SIGUSR1, &(struct sigaction){.sa_handler = anew, .sa_flags = SA_RESTART}, NULL);
	if (timer_create(CLOCK_MONOTONIC, &(struct sigevent){.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1}, &timer))
		return 2;
	for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
		runs = taken = 0;
		raise(SIGUSR1);
		while (runs < RUNS) {
			int before = runs;
			random = random * 1103515245 + 12345;
			timer_settime(timer, 0, &(struct itimerspec){.it_value.tv_nsec = 1 + random / 65536 % LATE_NS}, NULL);
			while (runs == before)
				calls[i].act();
		}
		printf("%s: the port was taken %d times\n", calls[i].name, taken);
	}
	printf("# end\n");
	return 0;
}
