/*
 * A process that the broker knows by its pidfd.
 *
 * What /proc says of a process is asked by number, and a number may be another process's as soon as the first has
 * ended. So whoever asks by number looks afterwards whether the process has ended: until then the number was its own.
 */
#include "process/broker.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "kernel/procfile.h"

/* Our /proc may be that of another namespace of processes than ours; a process that is not seen there has no number. */
int broker_process_pid(int pidfd)
{
	char path[40], *text;
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
	if (pidfd < 0 || procfile_read(path, &text))
		return -1;
	const char *at = strstr(text, "\nPid:");
	int pid = at ? atoi(at + strlen("\nPid:")) : -1;
	free(text);
	return pid > 0 ? pid : -1;
}

bool broker_process_ended(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	struct timespec now = {0};
	return sys_ppoll(&p, 1, &now, NULL) == 1;
}
