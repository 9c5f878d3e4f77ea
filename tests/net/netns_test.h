/* For libcheck programs that need root and network namespaces of their own. */
#ifndef FINESSE_TESTS_NETNS_TEST_H
#define FINESSE_TESTS_NETNS_TEST_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEST_SKIP 77

/* This process into a network namespace of its own, loopback up. False without the privilege. */
static inline bool netns_enter(void)
{
	return unshare(CLONE_NEWNET) == 0 && system("ip link set lo up") == 0;
}

/* /run as an empty tmpfs that only this process sees. */
static inline bool private_run(void)
{
	return unshare(CLONE_NEWNS) == 0 &&
	       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("none", "/run", "tmpfs", 0, "mode=755") == 0;
}

/* Whoever needs root calls it first in main. */
static inline void skip_without_netns(void)
{
	pid_t pid = fork();
	int status = 1;
	if (pid == 0)
		_exit(netns_enter() && private_run() ? 0 : 1);
	waitpid(pid, &status, 0);
	if (status != 0) {
		fprintf(stderr, "skipped: needs root (network and mount namespaces)\n");
		exit(TEST_SKIP);
	}
}

/* A shell command that must succeed. */
__attribute__((format(printf, 1, 2))) static inline void sh(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(cmd, sizeof cmd, fmt, ap);
	va_end(ap);
	int status = system(cmd);
	if (status != 0)
		ck_abort_msg("%s: status %d", cmd, status);
}

/* A second namespace: a child that sits in it until we die or say so. */
struct netns_peer {
	pid_t pid;
};

static inline struct netns_peer netns_peer_start(void)
{
	int ready[2];
	char ok = 0;
	ck_assert_int_eq(pipe(ready), 0);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ok = netns_enter();
		_exit(write(ready[1], &ok, 1) == 1 ? pause() : 1);
	}
	close(ready[1]);
	ck_assert_int_eq(read(ready[0], &ok, 1), 1);
	ck_assert_int_eq(ok, 1);
	close(ready[0]);
	return (struct netns_peer){pid};
}

static inline void netns_peer_stop(struct netns_peer *p)
{
	kill(p->pid, SIGKILL);
	waitpid(p->pid, NULL, 0);
}

#endif
