/*
 * Which processes run under finesse.
 *
 * A process that decided about a socket has a stat socket, and /proc/net/unix names it by the pid. A process that did
 * not yet has nothing but the shared object in its memory, because a program without TCP pays nothing; its maps show
 * that. A process that belongs to them and has not even that is one that the preload does not reach: the environment
 * with which it was executed has our variables, or its parent is one of them.
 */
#include "cli/stat.h"

#include <ctype.h>
#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/reach.h"
#include "finesse/stat.h"
#include "process/broker.h"

#define LIBRARY	   "/libfinesse.so"
#define BROKER_COMM	   "finesse-broker"
#define ENVIRONMENT_MAX (1u << 20)
#define AUXV_MAX	   64

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

/* ---- who is not reached ---- */

/* All of a file in /proc/PID, with a zero behind it. NULL: it cannot be read. */
static char *process_file(long pid, const char *name, size_t max, size_t *len)
{
	char path[64], *text = malloc(max + 1);
	ssize_t n = 0;
	snprintf(path, sizeof path, "/proc/%ld/%s", pid, name);
	int fd = text ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	for (*len = 0; fd >= 0 && *len < max && (n = read(fd, text + *len, max - *len)) > 0;)
		*len += n;
	if (fd >= 0)
		close(fd);
	if (fd < 0 || n < 0) {
		free(text);
		return NULL;
	}
	text[*len] = 0;
	return text;
}

/* What it was executed with: our broker's variable, and LD_PRELOAD with our library. */
static void environment_look(long pid, bool *broker, bool *preload)
{
	size_t len;
	char *text = process_file(pid, "environ", ENVIRONMENT_MAX, &len);
	*broker = *preload = false;
	for (char *at = text; at && at < text + len; at += strlen(at) + 1) {
		*broker |= strncmp(at, BROKER_VARIABLE "=", strlen(BROKER_VARIABLE) + 1) == 0;
		*preload |= strncmp(at, "LD_PRELOAD=", strlen("LD_PRELOAD=")) == 0 && strstr(at, LIBRARY);
	}
	free(text);
}

static bool is_secure(long pid)
{
	size_t len;
	bool secure = false;
	char *text = process_file(pid, "auxv", AUXV_MAX * sizeof(ElfW(auxv_t)), &len);
	for (size_t at = 0; text && at + sizeof(ElfW(auxv_t)) <= len; at += sizeof(ElfW(auxv_t))) {
		ElfW(auxv_t) a;
		memcpy(&a, text + at, sizeof a);
		secure |= a.a_type == AT_SECURE && a.a_un.a_val;
	}
	free(text);
	return secure;
}

static long parent_of(long pid)
{
	size_t len;
	long parent = 0;
	char *text = process_file(pid, "stat", 512, &len), *end = text ? strrchr(text, ')') : NULL;
	if (end)
		sscanf(end, ") %*c %ld", &parent);
	free(text);
	return parent;
}

const char *process_unreached(long pid)
{
	char path[64], name[32];
	bool broker, preload;
	process_name(pid, name, sizeof name);
	if (process_is_ours(pid) || strcmp(name, BROKER_COMM) == 0)
		return NULL;
	environment_look(pid, &broker, &preload);
	if (!broker && !preload && !process_is_ours(parent_of(pid)))
		return NULL;
	snprintf(path, sizeof path, "/proc/%ld/exe", pid);
	const char *why = reach_words(reach_obstacle_of_file(path));
	if (why)
		return why;
	if (is_secure(pid))
		return "was executed with the privilege of its file, or by a process whose real and effective users differ, and the dynamic linker preloads nothing then";
	return preload ? "has libfinesse.so in LD_PRELOAD, and not in its memory" : "was executed without libfinesse.so in LD_PRELOAD";
}

/* ---- all of them ---- */

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
		if (pid > 0 && pid != getpid() && is_in_our_namespace(pid) && (process_is_ours(pid) || process_unreached(pid)))
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

bool process_is_stopped(long pid)
{
	char state = process_state(pid);
	return state == 'T' || state == 't';
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
