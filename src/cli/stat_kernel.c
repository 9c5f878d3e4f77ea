/*
 * The TCP sockets of a process that the kernel carries, and why.
 *
 * The kernel's tables say which they are: the process's descriptors name inodes, /proc/PID/net/tcp and tcp6 have a line
 * for each. So no socket is missing that the shim never saw (inherited, passed, made by another way). The kernel's
 * listening socket that stands behind one of the engine's is left out. Why comes from the engine's document: what fell
 * back, what was handed over. Without an engine, only policy can be told.
 */
#include "cli/stat.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KERNEL_LISTEN 0x0A /* include/net/tcp_states.h, which /proc shows */
#define LISTED_MAX    4096 /* sockets of one process */

struct inodes {
	uint64_t *of;
	size_t n;
};

static int compare_inodes(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

/* Those of the process's sockets, sorted. */
static struct inodes inodes_of(long pid)
{
	struct inodes in = {0};
	size_t cap = 0;
	char path[64], target[64];
	snprintf(path, sizeof path, "/proc/%ld/fd", pid);
	DIR *dir = opendir(path);
	for (struct dirent *d; dir && (d = readdir(dir));) {
		ssize_t len = readlinkat(dirfd(dir), d->d_name, target, sizeof target - 1);
		uint64_t inode;
		target[len > 0 ? len : 0] = 0;
		if (sscanf(target, "socket:[%" SCNu64 "]", &inode) != 1)
			continue;
		if (in.n == cap) {
			uint64_t *more = realloc(in.of, (cap = cap * 2 + 64) * sizeof *more);
			if (!more)
				break;
			in.of = more;
		}
		in.of[in.n++] = inode;
	}
	if (dir)
		closedir(dir);
	if (in.n)
		qsort(in.of, in.n, sizeof *in.of, compare_inodes);
	return in;
}

struct end {
	char address[INET6_ADDRSTRLEN];
	unsigned port;
	bool loopback;
};

/* "0100007F:0050", or 32 digits: words of the address as this machine stores them. */
static bool end_parse(const char *hex, struct end *e)
{
	uint32_t w[4];
	int n = 0;
	if (strlen(hex) == 13 && sscanf(hex, "%8" SCNx32 ":%x", &w[0], &e->port) == 2)
		n = 1;
	else if (sscanf(hex, "%8" SCNx32 "%8" SCNx32 "%8" SCNx32 "%8" SCNx32 ":%x", &w[0], &w[1], &w[2], &w[3], &e->port) == 5)
		n = 4;
	bool mapped = n == 4 && !w[0] && !w[1] && w[2] == htonl(0xffff);
	const void *address = mapped ? &w[3] : w;
	if (!n || !inet_ntop(n == 1 || mapped ? AF_INET : AF_INET6, address, e->address, sizeof e->address))
		return false;
	e->loopback = strncmp(e->address, "127.", 4) == 0 || strcmp(e->address, "::1") == 0;
	return true;
}

static json_t *end_json(const struct end *e)
{
	return json_sprintf(strchr(e->address, ':') ? "[%s]:%u" : "%s:%u", e->address, e->port);
}

static const char *state_name(unsigned state)
{
	static const char *const names[] = {"",	     "ESTABLISHED", "SYN-SENT",	 "SYN-RECEIVED", "FIN-WAIT-1", "FIN-WAIT-2",
					    "TIME-WAIT", "CLOSED",	    "CLOSE-WAIT", "LAST-ACK",     "LISTEN",	"CLOSING"};
	return state < sizeof names / sizeof names[0] ? names[state] : "";
}

/* ---- why ---- */

static const char *member(json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));
	return s ? s : "";
}

/* Of the fall-back with this name. NULL: there is none, or several that differ. */
static const char *fallback_why(json_t *document, const char *what)
{
	const char *why = NULL;
	json_t *f;
	size_t i;
	json_array_foreach (json_object_get(document, "fallbacks"), i, f) {
		if (strcmp(member(f, "what"), what) != 0)
			continue;
		if (why)
			return NULL;
		why = member(f, "why");
	}
	return why;
}

static const char *handover_why(json_t *document, json_t *local, json_t *remote)
{
	json_t *h;
	size_t i;
	json_array_foreach (json_object_get(document, "handed_over"), i, h)
		if (json_equal(json_object_get(h, "local"), local) && json_equal(json_object_get(h, "remote"), remote))
			return member(h, "why");
	return NULL;
}

static bool engine_listens(json_t *document, const struct end *at)
{
	json_t *l;
	size_t i;
	json_array_foreach (json_object_get(document, "listeners"), i, l)
		if (json_integer_value(json_object_get(l, "port")) == at->port && strcmp(member(l, "address"), at->address) == 0)
			return true;
	return false;
}

static bool kernel_listens(json_t *sockets, unsigned port)
{
	char end[16];
	json_t *s;
	size_t i;
	snprintf(end, sizeof end, ":%u", port);
	json_array_foreach (sockets, i, s) {
		const char *local = member(s, "local");
		size_t n = strlen(local), m = strlen(end);
		if (strcmp(member(s, "state"), "LISTEN") == 0 && n > m && strcmp(local + n - m, end) == 0)
			return true;
	}
	return false;
}

static const char not_reached[] = "finesse does not reach this process";

/*
 * Without an engine: did the process restrict its system calls? Then it may not be able to tell, and is the kernel's if
 * it did that itself.
 */
static bool is_restricted(long pid)
{
	char path[64], line[128];
	unsigned mode = 0;
	snprintf(path, sizeof path, "/proc/%ld/status", pid);
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f) && sscanf(line, "Seccomp: %u", &mode) != 1)
		;
	if (f)
		fclose(f);
	return mode != 0;
}

static const char *listener_why(json_t *document, long pid, const struct end *local)
{
	char what[80];
	const char *why;
	if (json_object_get(document, "unreached"))
		return not_reached;
	snprintf(what, sizeof what, "listen %s:%u", local->address, local->port);
	if (local->loopback)
		return "loopback is the kernel's";
	if ((why = fallback_why(document, what)) || (why = fallback_why(document, "a listener")) ||
	    (why = fallback_why(document, "a listener shared by fork")) || (why = fallback_why(document, "a listener inherited by fork")))
		return why;
	if (json_object_get(document, "version"))
		return "this process does not accept from it, as another may; or the settings leave it to the kernel";
	return is_restricted(pid) ? "the process restricts its system calls (seccomp), or has not used it"
				  : "this process has not used it, or finesse could not serve it: then its log says why";
}

static const char *connection_why(json_t *document, json_t *socket, json_t *sockets, const struct end *local, const struct end *remote)
{
	char what[80];
	const char *why;
	if (json_object_get(document, "unreached"))
		return not_reached;
	snprintf(what, sizeof what, "connect %s:%u", remote->address, remote->port);
	if (local->loopback || remote->loopback)
		return "loopback is the kernel's";
	if ((why = handover_why(document, json_object_get(socket, "local"), json_object_get(socket, "remote"))) ||
	    (why = fallback_why(document, what)))
		return why;
	if (kernel_listens(sockets, local->port))
		return "a listener of the kernel's accepted it";
	return "left to the kernel by the settings, or made by another process";
}

/* ---- the list ---- */

/* One line of the table. */
static void add_line(json_t *document, json_t *sockets, const struct inodes *in, long pid, const char *line)
{
	char local_hex[48], remote_hex[48];
	unsigned state;
	uint64_t inode;
	struct end local, remote;
	if (sscanf(line, " %*u: %47s %47s %x %*s %*s %*s %*u %*u %" SCNu64, local_hex, remote_hex, &state, &inode) != 4 || !inode ||
	    !bsearch(&inode, in->of, in->n, sizeof inode, compare_inodes) || !end_parse(local_hex, &local) || !end_parse(remote_hex, &remote))
		return;
	bool listens = state == KERNEL_LISTEN;
	if (listens && engine_listens(document, &local))
		return;
	json_t *s = json_object();
	json_object_set_new(s, "local", end_json(&local));
	if (!listens)
		json_object_set_new(s, "remote", end_json(&remote));
	json_object_set_new(s, "state", json_string(state_name(state)));
	json_object_set_new(s, "carrier", json_string("kernel"));
	json_object_set_new(s, "why", json_string(listens ? listener_why(document, pid, &local) : connection_why(document, s, sockets, &local, &remote)));
	json_array_append_new(sockets, s);
}

/* The tables have listeners first. */
static void add_table(json_t *document, json_t *sockets, const struct inodes *in, long pid, const char *table)
{
	char path[64], line[512];
	snprintf(path, sizeof path, "/proc/%ld/net/%s", pid, table);
	FILE *f = fopen(path, "re");
	while (f && json_array_size(sockets) < LISTED_MAX && fgets(line, sizeof line, f))
		add_line(document, sockets, in, pid, line);
	if (f)
		fclose(f);
}

void kernel_sockets_add(json_t *document, long pid)
{
	json_t *sockets = json_array();
	struct inodes in = inodes_of(pid);
	add_table(document, sockets, &in, pid, "tcp");
	add_table(document, sockets, &in, pid, "tcp6");
	free(in.of);
	json_object_set_new(document, "kernel_sockets", sockets);
}
