/*
 * Which processes run under finesse.
 *
 * A process that decided about a socket has a stat socket, and /proc/net/unix names it by the pid. A process that did not yet has nothing
 * but the shared object in its memory, because a program without TCP pays nothing; its maps show that.
 */
#include "cli/stat.h"

#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "finesse/stat.h"

#define LIBRARY "/libfinesse.so"

static int compare_pids(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;
	return (x > y) - (x < y);
}

static size_t engines_find(long *pids, size_t max)
{
	char line[512];
	size_t n = 0;
	FILE *f = fopen("/proc/net/unix", "re");
	while (f && fgets(line, sizeof line, f)) {
		char *name = strstr(line, "@" FINESSE_STAT_PREFIX), *end;
		if (!name || n == max)
			continue;
		long pid = strtol(name + strlen("@" FINESSE_STAT_PREFIX), &end, 10);
		if (pid > 0 && *end == '\n')
			pids[n++] = pid;
	}
	if (f)
		fclose(f);
	return n;
}

bool process_is_ours(long pid)
{
	char path[64], line[4352]; /* a path and the columns before it */
	bool found = false;
	snprintf(path, sizeof path, "/proc/%ld/maps", pid);
	FILE *f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof line, f)) {
		char *name = strstr(line, LIBRARY);
		found = name && !isalnum((unsigned char)name[strlen(LIBRARY)]);
	}
	if (f)
		fclose(f);
	return found;
}

static bool is_in_our_namespace(long pid)
{
	char path[64];
	struct stat ours, its;
	snprintf(path, sizeof path, "/proc/%ld/ns/net", pid);
	return stat("/proc/self/ns/net", &ours) == 0 && stat(path, &its) == 0 && ours.st_ino == its.st_ino;
}

static size_t loaded_find(long *pids, size_t max)
{
	size_t n = 0;
	DIR *proc = opendir("/proc");
	for (struct dirent *d; proc && n < max && (d = readdir(proc));) {
		long pid = strtol(d->d_name, NULL, 10);
		if (pid > 0 && pid != getpid() && is_in_our_namespace(pid) && process_is_ours(pid))
			pids[n++] = pid;
	}
	if (proc)
		closedir(proc);
	return n;
}

size_t processes_find(long *pids, size_t max)
{
	size_t unique = 0, n = engines_find(pids, max);
	n += loaded_find(pids + n, max - n);
	qsort(pids, n, sizeof *pids, compare_pids);
	for (size_t i = 0; i < n; i++)
		if (unique == 0 || pids[unique - 1] != pids[i])
			pids[unique++] = pids[i];
	return unique;
}

/* The field behind the last parenthesis of /proc/PID/stat; 0: no process. */
static char process_state(long pid)
{
	char path[64], line[512] = "";
	snprintf(path, sizeof path, "/proc/%ld/stat", pid);
	FILE *f = fopen(path, "re");
	if (!f)
		return 0;
	if (!fgets(line, sizeof line, f))
		line[0] = 0;
	fclose(f);
	const char *end = strrchr(line, ')');
	return end && end[1] ? end[2] : 0;
}

bool process_lives(long pid)
{
	char state = process_state(pid);
	return state && state != 'Z' && state != 'X';
}

void process_name(long pid, char *out, size_t size)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%ld/comm", pid);
	FILE *f = fopen(path, "re");
	out[0] = 0;
	if (!f)
		return;
	if (fgets(out, (int)size, f))
		out[strcspn(out, "\n")] = 0;
	fclose(f);
}
