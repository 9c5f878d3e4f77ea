/*
 * Which processes of the tree live: those with the tree's token in the environment that they were started with.
 *
 * A program may overwrite that memory to show a title (setproctitle). Such a one is a server, and a member by then.
 */
#include "process/broker.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"

#define ENVIRON_BYTES (256u << 10) /* of a process's environment; ours is near its end, after what it inherited */

static bool has_value(int pid, const char *value, char *buf)
{
	char path[32];
	size_t n = 0;
	snprintf(path, sizeof path, "/proc/%d/environ", pid);
	int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return false;
	while (n < ENVIRON_BYTES) {
		ssize_t r = sys_read(fd, buf + n, ENVIRON_BYTES - n);
		if (r <= 0)
			break;
		n += r;
	}
	sys_close(fd);
	return memmem(buf, n, value, strlen(value)) != NULL;
}

int broker_tree_find(const char *value)
{
	int found = -ENOENT;
	char variable[sizeof BROKER_VARIABLE + 1 + BROKER_VALUE_LEN];
	char *buf = malloc(ENVIRON_BYTES);
	DIR *proc = opendir("/proc");
	struct dirent *d;
	snprintf(variable, sizeof variable, "%s=%s", BROKER_VARIABLE, value);
	while (buf && proc && found < 0 && (d = readdir(proc))) {
		int pid = isdigit((unsigned char)d->d_name[0]) ? atoi(d->d_name) : 0;
		if (pid > 0 && pid != sys_getpid() && has_value(pid, variable, buf))
			found = sys_call(SYS_pidfd_open, pid, 0, 0, 0, 0, 0);
	}
	if (proc)
		closedir(proc);
	free(buf);
	return found;
}
