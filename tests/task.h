/* What /proc tells of a thread, for tests that wait until one sleeps, or is in a call. No malloc. */
#ifndef FINESSE_TESTS_TASK_H
#define FINESSE_TESTS_TASK_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static inline void task_read(pid_t process, pid_t thread, const char *file, char *text, size_t size)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/task/%d/%s", process, thread, file);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);
	text[n > 0 ? n : 0] = 0;
	if (fd >= 0)
		close(fd);
}

/* 'S': it sleeps; 'Z': it has ended; 0: there is none. */
static inline char task_state(pid_t process, pid_t thread)
{
	char text[512];
	task_read(process, thread, "stat", text, sizeof text);
	const char *name_ends = strrchr(text, ')');
	return name_ends && name_ends[1] ? name_ends[2] : 0;
}

/* The number of the system call that it is blocked in; -1: it runs, or there is none. */
static inline long task_call(pid_t process, pid_t thread)
{
	char text[256], *end;
	task_read(process, thread, "syscall", text, sizeof text);
	long nr = strtol(text, &end, 10);
	return end == text ? -1 : nr;
}

#endif
