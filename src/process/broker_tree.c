/*
 * Which processes of the tree live: those with the tree's token in the environment that they were started with.
 *
 * A program may overwrite that memory to show a title (setproctitle: nginx does). So a process that listens also has a
 * mark among its mappings, which forked children
 * inherit: broker_client_mark.
 *
 * Only who began after the broker is looked at: a process's mappings cost the kernel some 50 us, and a host may have
 * thousands of processes. All of the tree are forked later, but its first process, which the broker watches anyway.
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

#define READ_BYTES (256u << 10) /* of a process's environment, where ours is near the end, after what it inherited; and of its mappings */
#define START_FIELDS 20 /* of /proc/PID/stat, behind the name: the last one is when it began, in ticks */

/* The first `size` bytes of a file, as one string. Their number, or -errno. */
static ssize_t read_of(const char *path, char *buf, size_t size)
{
	size_t n = 0;
	int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	while (n < size) {
		ssize_t r = sys_read(fd, buf + n, size - n);
		if (r <= 0)
			break;
		n += r;
	}
	sys_close(fd);
	return n;
}

/* When a process began; 0: that cannot be said. */
static unsigned long long start_of(const char *pid)
{
	char path[40], text[1024];
	snprintf(path, sizeof path, "/proc/%s/stat", pid);
	ssize_t n = read_of(path, text, sizeof text - 1);
	text[n > 0 ? n : 0] = 0;
	const char *at = strrchr(text, ')'); /* the name may have anything */
	for (int i = 0; at && i < START_FIELDS; i++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at, NULL, 10) : 0;
}

static bool read_has(const char *pid, const char *file, const char *text, char *buf)
{
	char path[40];
	snprintf(path, sizeof path, "/proc/%s/%s", pid, file);
	ssize_t n = read_of(path, buf, READ_BYTES);
	return n > 0 && memmem(buf, n, text, strlen(text)) != NULL;
}

static bool is_ours(const char *pid, const char *variable, const char *mark, char *buf)
{
	return read_has(pid, "environ", variable, buf) || read_has(pid, "maps", mark, buf);
}

int broker_tree_find(const char *value)
{
	int found = -ENOENT;
	char variable[sizeof BROKER_VARIABLE + 1 + BROKER_VALUE_LEN];
	char *buf = malloc(READ_BYTES);
	DIR *proc = opendir("/proc");
	struct dirent *d;
	char mark[sizeof BROKER_MARK + BROKER_NAME_LEN];
	snprintf(variable, sizeof variable, "%s=%s", BROKER_VARIABLE, value);
	snprintf(mark, sizeof mark, "%s%.*s", BROKER_MARK, BROKER_NAME_LEN, value);
	unsigned long long since = start_of("self"), began;
	while (buf && proc && found < 0 && (d = readdir(proc))) {
		int pid = isdigit((unsigned char)d->d_name[0]) ? atoi(d->d_name) : 0;
		if (pid <= 0 || pid == sys_getpid() || ((began = start_of(d->d_name)) && began < since))
			continue;
		if (is_ours(d->d_name, variable, mark, buf))
			found = sys_call(SYS_pidfd_open, pid, 0, 0, 0, 0, 0);
	}
	if (proc)
		closedir(proc);
	free(buf);
	return found;
}
