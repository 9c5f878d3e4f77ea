/*
 * Children of shim_calls: fork, vfork, clone, exec, posix_spawn, system, popen, daemon.
 * Each part shows who inherits a connection or a listener, and whose close ends it.
 */
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/sched.h>

#include "shim_calls.h"

static int child_status(pid_t pid)
{
	int status = -1;
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void read_all(int fd)
{
	char buf[256];
	size_t n = 0;
	ssize_t r;
	while (n < sizeof buf - 1 && (r = read(fd, buf + n, sizeof buf - 1 - n)) > 0)
		n += r;
	buf[n] = 0;
	printf("[%s]\n", buf);
	fflush(stdout);
}

/* The server's end goes, the client reads what is left, the child ends. */
static void child_ends(pid_t pid, int c)
{
	read_all(c);
	SAY(child_status(pid));
	close(c);
}

/* After accept, fork and close the child serves: the parent's close is not an end. */
static void child_serves(void)
{
	int port, l = listener(&port), c = client(port), s = accept(l, NULL, NULL);
	pid_t pid = fork();
	if (pid == 0) {
		char b[4];
		close(l);
		ssize_t n = read(s, b, 4);
		write(s, b, n);
		_exit(7);
	}
	close(l);
	SAY(close(s));
	SAY(write(c, "ping", 4));
	child_ends(pid, c);
}

/* The shim handles memory faults once there is a socket. Ignored signals stay ignored across exec nonetheless. */
static void ignored_signals(void)
{
	signal(SIGSEGV, SIG_IGN);
	signal(SIGBUS, SIG_IGN);
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		execl("/bin/grep", "grep", "SigIgn", "/proc/self/status", NULL);
		_exit(127);
	}
	SAY(child_status(pid));
	pid_t spawned;
	fflush(stdout); /* it prints at once */
	int spawn_error = posix_spawn(&spawned, "/bin/grep", NULL, NULL, (char *[]){"grep", "SigIgn", "/proc/self/status", NULL}, environ);
	SAY(child_status(spawned));
	SAY(spawn_error);
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
}

static void child_closes_its_copy(void)
{
	int c, s;
	pair(&c, &s);
	pid_t pid = fork();
	if (pid == 0) {
		close(s);
		close(c);
		_exit(0);
	}
	SAY(child_status(pid));
	SAY(write(s, "still", 5));
	SAY(close(s));
	read_all(c);
	close(c);
}

static void child_accepts(void)
{
	int port, l = listener(&port);
	pid_t pid = fork();
	if (pid == 0) {
		int s = accept(l, NULL, NULL);
		write(s, "forked", 6);
		_exit(0);
	}
	child_ends(pid, client(port));
	close(l);
}

/* A worker has an epoll of its own, and execs with the listener open. */
static void worker_waits_and_execs(void)
{
	int port, l = listener(&port);
	pid_t pid = fork();
	if (pid == 0) {
		int ep = epoll_create1(0);
		if (ctl(ep, EPOLL_CTL_ADD, l, EPOLLIN, 1) < 0)
			_exit(20);
		if (ready(ep, 5000) != 1001)
			_exit(21);
		int s = accept(l, NULL, NULL);
		if (ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 2) < 0 || ready(ep, 5000) != 2001)
			_exit(22);
		dup2(s, 0);
		dup2(s, 1);
		execlp("cat", "cat", NULL);
		_exit(23);
	}
	int c = client(port);
	SAY(write(c, "worker", 6));
	SAY(shutdown(c, SHUT_WR));
	child_ends(pid, c);
	close(l);
}

static void exec_with_stdout(void)
{
	int c, s;
	pair(&c, &s);
	pid_t pid = fork();
	if (pid == 0) {
		dup2(s, 1);
		execl("/bin/sh", "sh", "-c", "echo from exec", NULL);
		_exit(9);
	}
	close(s);
	child_ends(pid, c);
}

static void vfork_after_a_failed_exec(void)
{
	int c, s;
	pair(&c, &s);
	pid_t pid = vfork();
	if (pid == 0) {
		dup2(s, 1);
		execlp("no-such-program-here", "x", NULL);
		char *argv[] = {"sh", "-c", "echo vforked", NULL};
		execvp("sh", argv);
		_exit(9);
	}
	SAY(close(s));
	child_ends(pid, c);
}

static void spawn_with_stdout(void)
{
	int c, s;
	pid_t pid;
	posix_spawn_file_actions_t fa;
	char *argv[] = {"sh", "-c", "echo spawned", NULL};
	pair(&c, &s);
	posix_spawn_file_actions_init(&fa);
	SAY(posix_spawn_file_actions_adddup2(&fa, s, 1));
	SAY(posix_spawn(&pid, "/bin/sh", &fa, NULL, argv, environ));
	posix_spawn_file_actions_destroy(&fa);
	SAY(write(s, "", 0));
	SAY(close(s));
	child_ends(pid, c);
}

static void shells(void)
{
	char line[32];
	SAY(system("exit 5") >> 8);
	FILE *p = popen("echo popen", "r");
	printf("%s", fgets(line, sizeof line, p));
	SAY(pclose(p));
}

static void failed_exec_leaves_the_connection(void)
{
	int c, s;
	pair(&c, &s);
	SAY(execl("/nonexistent", "x", NULL));
	SAY(execl("/etc/passwd", "x", NULL));
	SAY(write(c, "on", 2));
	close(c);
	read_all(s);
	close(s);
}

static void terminal_and_daemon(void)
{
	int master, c, s;
	fflush(stdout);
	pid_t pid = forkpty(&master, NULL, NULL, NULL);
	if (pid == 0)
		_exit(isatty(0) ? 3 : 4);
	SAY(child_status(pid));
	close(master);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		pair(&c, &s);
		_exit(daemon(1, 1) < 0);
	}
	SAY(child_status(pid));
}

void processes(void)
{
	puts("# processes");
	fflush(stdout);
	child_serves();
	ignored_signals();
	child_closes_its_copy();
	child_accepts();
	worker_waits_and_execs();
	exec_with_stdout();
	vfork_after_a_failed_exec();
	spawn_with_stdout();
	shells();
	failed_exec_leaves_the_connection();
	terminal_and_daemon();
}

/* Children that are made by another name than fork: each serves `s` and ends with 7. */
static int serve_child(void *arg)
{
	int s = *(int *)arg;
	char b[4];
	ssize_t n = read(s, b, 4);
	write(s, b, n);
	_exit(7);
}

enum { BY_CLONE, BY_NUMBER, BY_CLONE3, BY_SYS_FORK, WAYS };

static pid_t child_by(int way, int *s)
{
	static char stack[65536] __attribute__((aligned(16)));
	struct clone_args args = {.exit_signal = SIGCHLD};
	pid_t pid = -1;
	switch (way) {
	case BY_CLONE:
		return clone(serve_child, stack + sizeof stack, SIGCHLD, s);
	case BY_NUMBER:
		pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		break;
	case BY_CLONE3:
		pid = syscall(SYS_clone3, &args, sizeof args);
		break;
#ifdef SYS_fork
	case BY_SYS_FORK:
		pid = syscall(SYS_fork);
		break;
#endif
	default:
		pid = fork();
	}
	if (pid == 0)
		serve_child(s);
	return pid;
}

static int leave_with(void *status)
{
	return *(int *)status;
}

void clones(void)
{
	int c, s, status = 6;
	static char stack[65536] __attribute__((aligned(16)));
	puts("# clones");
	for (int way = 0; way < WAYS; way++) {
		fflush(stdout);
		pair(&c, &s);
		pid_t pid = child_by(way, &s);
		SAY(pid > 0);
		SAY(close(s));
		SAY(write(c, "ping", 4));
		read_all(c);
		SAY(child_status(pid));
		close(c);
	}
	/*
	 * Its function's result is its status; a child that execs while its parent waits; a thread's memory is shared.
	 */
	pair(&c, &s);
	SAY(child_status(clone(leave_with, stack + sizeof stack, SIGCHLD, &status)));
	SAY(child_status(clone(leave_with, stack + sizeof stack, SIGCHLD | CLONE_VM | CLONE_VFORK, &status)));
	SAY(write(s, "kept", 4));
	SAY(close(s));
	read_all(c);
	close(c);
	SAY(clone(leave_with, NULL, SIGCHLD, &status));
	SAY(syscall(SYS_clone3, NULL, 64));
	SAY(syscall(SYS_clone3, &status, 1));
}
