/* Signals of shim_calls: handlers that interrupt calls, and a storm of them. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "shim_calls.h"

static volatile int handled, in_handler_result;
static int handler_fd;
static void on_alarm(int sig)
{
	handled++;
}
static void on_alarm_write(int sig)
{
	handled++;
	in_handler_result = write(handler_fd, "h", 1);
}

static void alarm_after_ms(int ms)
{
	struct itimerval it = {.it_value = {0, ms * 1000}};
	setitimer(ITIMER_REAL, &it, NULL);
}

/* … and again and again, until 0: one that comes before the call waits, on a busy machine, is not the last. */
static void alarms_after_ms(int ms)
{
	struct itimerval it = {.it_value = {0, ms * 1000}, .it_interval = {0, ms * 10000}};
	if (!ms)
		memset(&it, 0, sizeof it);
	setitimer(ITIMER_REAL, &it, NULL);
}

void signals(void)
{
	int c, s;
	char b;
	puts("# signals");
	pair(&c, &s);
	struct sigaction act = {.sa_handler = on_alarm}, old;
	SAY(sigaction(SIGALRM, &act, NULL));
	SAY(sigaction(SIGALRM, NULL, &old));
	SAY(old.sa_handler == on_alarm);
	SAY(old.sa_flags & (SA_RESTART | SA_SIGINFO));
	alarms_after_ms(30);
	SAY(recv(s, &b, 1, 0));
	alarms_after_ms(0);
	SAY(handled > 0);
	alarms_after_ms(30);
	struct pollfd p = {s, POLLIN, 0};
	SAY(poll(&p, 1, 30000));
	alarms_after_ms(0);
	act.sa_handler =
	    on_alarm_write; /* SA_RESTART: recv goes on, and gets what the handler wrote */
	act.sa_flags = SA_RESTART;
	handler_fd = c;
	SAY(sigaction(SIGALRM, &act, &old));
	SAY(old.sa_handler == on_alarm);
	alarm_after_ms(30);
	SAY(recv(s, &b, 1, 0));
	SAY(in_handler_result);
	SAY(signal(SIGALRM, SIG_DFL) == on_alarm_write);
	SAY(signal(SIGALRM, on_alarm) == SIG_DFL);
	SAY(siginterrupt(SIGALRM, 1));
	alarms_after_ms(30);
	SAY(recv(s, &b, 1, 0));
	alarms_after_ms(0);
	SAY(signal(SIGALRM, SIG_IGN) == on_alarm);
	SAY(sysv_signal(SIGUSR1, on_alarm) == SIG_DFL);
	int before = handled;
	raise(SIGUSR1);
	SAY(handled - before);
	SAY(signal(SIGUSR1, SIG_IGN) == SIG_DFL); /* it was reset */
	SAY(sigset(SIGUSR2, on_alarm) == SIG_DFL);
	raise(SIGUSR2);
	SAY(handled - before);
	SAY(sigignore(SIGUSR2));
	raise(SIGUSR2);
	SAY(signal(SIGUSR2, SIG_DFL) == SIG_IGN);
	SAY(sigignore(99));
	SAY(sigaction(99, &act, NULL));
	SAY(sigaction(SIGKILL, &act, NULL));
	close(c), close(s);
}

/* Signals in a storm while the thread is in and out of the engine: all arrive, none deadlocks, data
 * stays exact. */
static volatile int storm_hits;
static void on_storm(int sig)
{
	storm_hits++;
	struct pollfd p = {handler_fd, POLLOUT, 0};
	poll(&p, 1, 0); /* a verb from the handler */
}

void storm(void)
{
	int c, s;
	unsigned char b = 0, got;
	puts("# storm");
	pair(&c, &s);
	handler_fd = c;
	struct sigaction act = {.sa_handler = on_storm, .sa_flags = SA_RESTART};
	sigaction(SIGALRM, &act, NULL);
	struct itimerval it = {{0, 300}, {0, 300}}, stop = {{0, 0}, {0, 0}};
	setitimer(ITIMER_REAL, &it, NULL);
	int wrong = 0, rounds = 0;
	while (storm_hits < 100) {
		b++, rounds++;
		while (send(c, &b, 1, 0) < 0 && errno == EINTR)
			;
		while (recv(s, &got, 1, 0) < 0 && errno == EINTR)
			;
		wrong += got != b;
	}
	setitimer(ITIMER_REAL, &stop, NULL);
	SAY(wrong);
	close(c), close(s);
}
