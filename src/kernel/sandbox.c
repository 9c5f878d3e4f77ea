#include "kernel/sandbox.h"

#include <errno.h>
#include <limits.h>
#include <linux/prctl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/sys.h"
#include "kernel/procfile.h"

#define KERNEL_SIGSET 8 /* bytes of the kernel's sigset */

#define SANDBOXED(name, ...) #name,
#define SANDBOXED_HELPER SANDBOXED
static const char *const names[] = {
#include "kernel/sandbox.def"
};
#undef SANDBOXED
#undef SANDBOXED_HELPER
#define CALLS (int)(sizeof names / sizeof names[0])

#define SANDBOXED(...)
#define SANDBOXED_HELPER(...) +1
static const int helper_calls = 0
#include "kernel/sandbox.def"
    ;
#undef SANDBOXED
#undef SANDBOXED_HELPER

/* Does a filter look at this process's calls? */
static bool is_filtered(void)
{
	char *status;
	if (procfile_read("/proc/self/status", &status))
		return false;
	const char *line = strstr(status, "\nSeccomp:");
	bool filtered = line && atoi(line + strlen("\nSeccomp:")) != 0;
	free(status);
	return filtered;
}

/* The child: *at is the call that it makes. */
static void try_all(volatile int *at)
{
	const struct timespec at_once = {0};
#define SANDBOXED(name, ...)                                                                       \
	sys_call(SYS_##name, __VA_ARGS__);                                                         \
	++*at;
#define SANDBOXED_HELPER SANDBOXED
#include "kernel/sandbox.def"
#undef SANDBOXED
#undef SANDBOXED_HELPER
	for (;;)
		sys_call(SYS_exit_group, 0, 0, 0, 0, 0, 0);
}

/*
 * Which call ends the child: CALLS where none does, or -errno. Its end makes no SIGCHLD, and no wait of the program's
 * sees it.
 */
static int first_deadly(volatile int *at)
{
	int status;
	long ended, pid = sys_call(SYS_clone, 0, 0, 0, 0, 0, 0);
	if (pid == 0)
		try_all(at);
	if (pid < 0)
		return (int)pid;
	do
		ended = sys_call(SYS_wait4, pid, &status, __WALL, NULL, 0, 0);
	while (ended == -EINTR);
	return ended == pid ? *at : -ECHILD;
}

/* No handler of the program runs in the child. */
static int first_deadly_quietly(void)
{
	uint64_t all = ~UINT64_C(0), before;
	int *at = sys_mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sys_is_error(at))
		return (int)(long)at;
	sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, KERNEL_SIGSET, 0, 0);
	int deadly = first_deadly(at);
	sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, KERNEL_SIGSET, 0, 0);
	sys_munmap(at, sizeof *at);
	return deadly;
}

/* As first_deadly, asked once. */
static int deadly(void)
{
	static bool asked;
	static int answer = CALLS;
	if (!asked && is_filtered())
		answer = first_deadly_quietly();
	asked = true;
	return answer;
}

int sandbox_check(char *why, size_t why_len)
{
	int call = deadly();
	if (call == CALLS)
		return 0;
	if (call < 0)
		snprintf(why, why_len, "a filter of system calls is on the process, and what it allows could not be tried: %s", strerror(-call));
	else
		snprintf(why, why_len, "a filter of system calls (seccomp) would end the process for %s", names[call]);
	return -EPERM;
}

bool sandbox_lets_helper(void)
{
	return deadly() >= helper_calls;
}
