/*
 * A program under a filter of system calls that ends the process for one of them.
 *
 *   sandboxed list               names the calls that the engine knows it needs
 *   sandboxed under CALL COMMAND…  runs the command under a filter that lets all calls pass but this one; "nothing": lets all pass
 *   sandboxed listen             listens, looks for a client, and ends with 0
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct {
	const char *name;
	int number;
} calls[] = {
#define SANDBOXED(name, ...) {#name, SYS_##name},
#define SANDBOXED_HELPER     SANDBOXED
#include "kernel/sandbox.def"
};
#define CALLS (sizeof calls / sizeof calls[0])

static int list(void)
{
	for (size_t i = 0; i < CALLS; i++)
		puts(calls[i].name);
	return 0;
}

static int number_of(const char *name)
{
	for (size_t i = 0; i < CALLS; i++)
		if (strcmp(calls[i].name, name) == 0)
			return calls[i].number;
	return strcmp(name, "fgetxattr") == 0 ? SYS_fgetxattr : -1; /* what might be asked about a file */
}

static int under(const char *name, char **command)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number_of(name), 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = {.len = sizeof code / sizeof code[0], .filter = code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
		return perror("seccomp"), 1;
	execvp(command[0], command);
	return perror(command[0]), 1;
}

static int listens(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET};
	struct pollfd p = {.fd = socket(AF_INET, SOCK_STREAM, 0), .events = POLLIN};
	if (bind(p.fd, (struct sockaddr *)&any, sizeof any) || listen(p.fd, 1))
		return perror("listen"), 1;
	return poll(&p, 1, 0) != 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "list") == 0)
		return list();
	if (argc == 2 && strcmp(argv[1], "listen") == 0)
		return listens();
	if (argc > 3 && strcmp(argv[1], "under") == 0)
		return under(argv[2], argv + 3);
	return 2;
}
