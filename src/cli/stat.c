/*
 * finesse stat: finds the processes that run under finesse, asks the engine of each for its document, adds what the
 * kernel carries, prints it. An engine listens on the abstract AF_UNIX name finesse/stat/PID of its network namespace,
 * writes one JSON document to who connects, and closes. A process that has no engine yet is listed, too: its document
 * says so ("engine": false). So is one with TCP sockets that finesse does not reach ("unreached": why).
 */
#include "finesse/stat.h"
#include "cli/cli.h"
#include "cli/stat.h"
#include "base/abstract.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <jansson.h>

#define TIMEOUT_S      5 /* an engine that is stopped does not answer */
#define GONE_TIMEOUT_S 1 /* nor does one that is gone, unless it lives in a pid namespace that we do not see */
#define STOPPED_TIMEOUT_US 100000 /* of one that is seen to be stopped: a debugger may let it go on at once, and many may be stopped */
#define DOCUMENT_LIMIT (256u << 20)
#define PROCESSES_MAX    4096
#define PID_DIGITS       9 /* PID_MAX_LIMIT of Linux is 2^22 */

/* ---- asking one engine ---- */

/* Connected, or -errno. */
static int engine_connect(long pid)
{
	struct sockaddr_un sun;
	struct timeval tv = {.tv_sec = process_lives(pid) ? TIMEOUT_S : GONE_TIMEOUT_S};
	if (process_is_stopped(pid))
		tv = (struct timeval){.tv_usec = STOPPED_TIMEOUT_US};
	socklen_t len = abstract_name(&sun, FINESSE_STAT_PREFIX "%ld", pid);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
	if (connect(fd, (struct sockaddr *)&sun, len) < 0) {
		int err = errno;
		close(fd);
		return -err;
	}
	return fd;
}

/* All that comes until the end. NULL and *err. */
static char *read_all(int fd, size_t *len, int *err)
{
	size_t size = 65536;
	char *buf = malloc(size);
	*len = 0;
	for (ssize_t n = 1; buf && n != 0;) {
		if (*len == size) {
			char *more = size < DOCUMENT_LIMIT ? realloc(buf, size * 2) : NULL;
			if (!more)
				break;
			buf = more;
			size *= 2;
		}
		n = read(fd, buf + *len, size - *len);
		if (n == 0)
			return buf;
		if (n < 0 && errno != EINTR) {
			*err = errno;
			free(buf);
			return NULL;
		}
		*len += n > 0 ? (size_t)n : 0;
	}
	*err = ENOMEM;
	free(buf);
	return NULL;
}

/* Nobody listens there: of a process that has loaded the library, or should have, what can be known from outside. */
static json_t *without_engine(long pid)
{
	char name[32];
	const char *why = process_unreached(pid);
	if (!why && !process_is_ours(pid))
		return NULL;
	process_name(pid, name, sizeof name);
	json_t *d = json_pack("{s:I,s:s,s:b}", "pid", (json_int_t)pid, "comm", name, "engine", 0);
	if (why)
		json_object_set_new(d, "unreached", json_string(why));
	return d;
}

/*
 * The document of one process; NULL. *failed: it should have one, and why not is on standard error. `listed`: it was
 * found in a list, and may have ended since.
 */
static json_t *process_ask(long pid, bool listed, bool *failed)
{
	json_error_t error;
	size_t len;
	int err, fd = engine_connect(pid);
	*failed = false;
	if (fd == -ECONNREFUSED) {
		json_t *document = without_engine(pid);
		*failed = !document && !(listed && !process_lives(pid));
		if (*failed)
			fprintf(stderr, "finesse stat: pid %ld: does not run under finesse\n", pid);
		return document;
	}
	*failed = true;
	if (fd < 0) {
		fprintf(stderr, "finesse stat: pid %ld: %s\n", pid, strerror(-fd));
		return NULL;
	}
	char *text = read_all(fd, &len, &err);
	close(fd);
	if (!text && !process_lives(pid)) { /* it ended meanwhile, or a copy of its socket outlives it */
		*failed = !listed;
		if (!listed)
			fprintf(stderr, "finesse stat: pid %ld: has exited\n", pid);
		return NULL;
	}
	if (!text) {
		fprintf(stderr, "finesse stat: pid %ld: %s\n", pid,
			err != EAGAIN ? strerror(err) : process_is_stopped(pid) ? "is stopped, and does not answer" : "does not answer");
		return NULL;
	}
	json_t *document = len ? json_loadb(text, len, 0, &error) : NULL;
	if (!len)
		fprintf(stderr, "finesse stat: pid %ld: runs as another user: ask as that user, or as root\n", pid);
	else if (!document)
		fprintf(stderr, "finesse stat: pid %ld: not a document: %s at byte %d\n", pid,
			error.text, error.position);
	else if (!json_is_object(document))
		json_decref(document), document = NULL;
	free(text);
	*failed = !document;
	return document;
}

/* Into the network namespace of `pid`, if that is another one. 0 or -errno. */
static int enter_namespace_of(long pid)
{
	char path[64];
	struct stat ours, its;
	int r = 0;
	snprintf(path, sizeof path, "/proc/%ld/ns/net", pid);
	if (stat("/proc/self/ns/net", &ours) == 0 && stat(path, &its) == 0 &&
	    ours.st_ino == its.st_ino)
		return 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (setns(fd, CLONE_NEWNET) < 0)
		r = -errno;
	close(fd);
	return r;
}

/* ---- the command ---- */

static void print_documents(json_t **documents, size_t n, bool json)
{
	if (!json) {
		for (size_t i = 0; i < n; i++) {
			if (i)
				putchar('\n');
			stat_render(stdout, documents[i]);
		}
	} else {
		json_t *array = json_array();
		for (size_t i = 0; i < n; i++)
			json_array_append(array, documents[i]);
		json_dumpf(array, stdout, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
		putchar('\n');
		json_decref(array);
	}
}

static int stat_processes(const long *pids, size_t n, bool listed, bool json)
{
	json_t **documents = calloc(n ? n : 1, sizeof *documents);
	size_t got = 0;
	bool failed, any_failed = !documents;
	for (size_t i = 0; documents && i < n; i++) {
		documents[got] = process_ask(pids[i], listed, &failed);
		any_failed |= failed;
		if (!documents[got])
			continue;
		bool unreached = json_object_get(documents[got], "unreached");
		if (unreached || process_is_ours(pids[i])) /* it counts as we do: no other pid namespace's */
			kernel_sockets_add(documents[got], pids[i]);
		if (listed && unreached && !json_array_size(json_object_get(documents[got], "kernel_sockets")))
			json_decref(documents[got]); /* there is nothing that finesse might have served */
		else
			got++;
	}
	if (listed && !got && !any_failed)
		fputs("finesse stat: no program runs under finesse in this network namespace\n", stderr);
	if (documents && (got || json))
		print_documents(documents, got, json);
	for (size_t i = 0; i < got; i++)
		json_decref(documents[i]);
	free(documents);
	return got && !any_failed ? EXIT_OK : EXIT_NOTHING;
}

/* Digits alone; 0: it is none that a process can have. */
static long parse_pid(const char *text)
{
	size_t n = strspn(text, "0123456789");
	return n && n <= PID_DIGITS && !text[n] ? strtol(text, NULL, 10) : 0;
}

int cli_stat(int argc, char **argv)
{
	static long pids[PROCESSES_MAX];
	bool json = false;
	long pid = 0;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--") == 0)
			continue;
		if (strcmp(argv[i], "--json") == 0) {
			json = true;
			continue;
		}
		if (argv[i][0] == '-')
			return cli_usage_error(
			    "stat", "there is no option '%s' (finesse stat [PID] [--json])",
			    argv[i]);
		if (pid)
			return cli_usage_error("stat", "one PID at most, or none for all");
		pid = parse_pid(argv[i]);
		if (pid <= 0)
			return cli_usage_error("stat", "PID takes a process number, not '%s'",
					       argv[i]);
	}
	if (pid) {
		int r = enter_namespace_of(pid);
		if (r < 0) {
			fprintf(stderr, "finesse stat: pid %ld: %s\n", pid,
				r == -ENOENT ? "no such process" : r == -EACCES || r == -EPERM ? "runs as another user, or in a network namespace that only root may enter: ask as root" : strerror(-r));
			return EXIT_NOTHING;
		}
		return stat_processes(&pid, 1, false, json);
	}
	return stat_processes(pids, processes_find(pids, PROCESSES_MAX), true, json);
}
