/*
 * The broker's members and their pids, in a namespace of processes where this program may choose the next one. Run by
 * `finesse run`.
 *
 * A member ends while its parent has its connection, too. Then the broker knows that it is dead; and the process that
 * gets its pid is not taken for it. One line for each case; the status is 1 when one failed, 77 where a pid cannot be
 * chosen.
 */
#include <dirent.h>
#include <errno.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "process/broker.h"

#define BOUND_S 20
#define CLOSED  1000 /* the broker ended the connection */

static char name[BROKER_NAME_LEN + 1];
static uint8_t token[BROKER_TOKEN_BYTES];
static int failures;

static void expect(const char *what, int right, int found)
{
	printf("%s: %s: %d\n", right ? "ok" : "FAILED", what, found);
	failures += !right;
}

static struct broker_request request(enum broker_op op)
{
	struct broker_request r;
	memset(&r, 0, sizeof r);
	r.op = op;
	return r;
}

static int answer_of(int fd)
{
	struct broker_fds in = {.n = 0};
	struct broker_answer a;
	long got = broker_receive(fd, &a, sizeof a, &in, 0);
	if (got == 0 || got == -ECONNRESET)
		return CLOSED;
	return got == sizeof a ? a.result : got < 0 ? (int)got : -EBADMSG;
}

/* A process that became a member and waits. Its connection is ours, too. */
static pid_t start_member(int *fd)
{
	int pair[2];
	struct broker_fds got;
	char byte;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return -1;
	pid_t pid = fork();
	if (pid == 0) {
		struct timeval bound = {.tv_sec = BOUND_S};
		struct broker_request hello = request(BROKER_HELLO), question = request(BROKER_TIME_WAIT);
		struct sockaddr_un addr;
		socklen_t len = broker_address(name, &addr);
		int own = socket(AF_UNIX, SOCK_SEQPACKET, 0);
		struct broker_fds out = {.fd = {own}, .n = 1};
		setsockopt(own, SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof bound);
		memcpy(hello.token, token, sizeof token);
		if (connect(own, (struct sockaddr *)&addr, len) || broker_send(own, &hello, sizeof hello, NULL, 0) || broker_send(own, &question, sizeof question, NULL, 0) ||
		    answer_of(own) > 0) /* whatever it says: it is a member by then */
			_exit(1);
		broker_send(pair[1], "", 1, &out, 0);
		for (;;)
			pause();
	}
	close(pair[1]);
	*fd = broker_receive(pair[0], &byte, 1, &got, 0) == 1 && got.n == 1 ? got.fd[0] : -1;
	close(pair[0]);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* A process with this pid, which only waits. */
static pid_t start_as(pid_t pid)
{
	struct clone_args args = {.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1};
	pid_t made = syscall(SYS_clone3, &args, sizeof args);
	if (made == 0)
		for (;;)
			syscall(SYS_pause);
	return made;
}

static pid_t find_broker(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *d;
	pid_t found = -1;
	while (proc && found < 0 && (d = readdir(proc))) {
		char path[280], comm[32] = "";
		snprintf(path, sizeof path, "/proc/%s/comm", d->d_name);
		FILE *f = atoi(d->d_name) > 0 ? fopen(path, "r") : NULL;
		if (!f)
			continue;
		if (fgets(comm, sizeof comm, f) && strcmp(comm, "finesse-broker\n") == 0)
			found = atoi(d->d_name);
		fclose(f);
	}
	closedir(proc);
	return found;
}

static void death(void)
{
	int fd;
	pid_t pid = start_member(&fd);
	end(pid);
	expect("a member's end, while somebody else has its connection", answer_of(fd) == CLOSED, fd);
	close(fd);
}

/* The broker sees nothing of it before the pid is another's. */
static int reuse(void)
{
	int fd;
	struct broker_request question = request(BROKER_CGROUP);
	pid_t pid = start_member(&fd), broker = find_broker();
	if (fd < 0 || broker < 0)
		return 1;
	broker_send(fd, &question, sizeof question, NULL, 0);
	int before = answer_of(fd);
	expect("a member asks what programs its cgroup has", before >= 0 && before != CLOSED, before);
	kill(broker, SIGSTOP);
	end(pid);
	pid_t other = start_as(pid);
	int err = other < 0 ? errno : 0;
	if (!err)
		broker_send(fd, &question, sizeof question, NULL, 0);
	kill(broker, SIGCONT);
	if (err) {
		printf("skipped: no process can be given a pid (%s)\n", strerror(err));
		return 77;
	}
	int after = answer_of(fd);
	expect("another process has the pid, and is not taken for it", other == pid && (after == CLOSED || after == -ESRCH), after);
	end(other);
	close(fd);
	return 0;
}

int main(void)
{
	const char *value = getenv(BROKER_VARIABLE);
	if (!value || !broker_parse(value, name, token))
		return 2;
	int status = reuse();
	if (status)
		return status;
	death();
	return failures > 0;
}
