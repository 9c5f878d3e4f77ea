/*
 * Spare queues over exec. A server that executes itself, or its successor, with its listening sockets must not lose who
 * waits for accept: with the kernel's TCP they wait at the socket. So the spare queue of each listener that is passed
 * stays open, too, and a variable tells where it is:
 *
 *   FINESSE__SPARE=NAME=FD.COOKIE,FD.COOKIE;…      NAME: of the port's claim; to send to, to receive from; the cookies are the kernel's for these sockets
 *
 * The executed program takes them when it is loaded. A number whose socket has another cookie is somebody else's: an
 * environment may be old. Thread-safety: the functions on groups are called under the engine's lock, the others by the
 * one thread that executes, or loads.
 */
#include "process/spare_exec.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/sockopt.h"
#include "base/sys.h"
#include "process/group.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define PASSED_MAX 32 /* ports; some 100 bytes of the environment each */

struct passed {
	char name[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int fds[2];
};

static struct passed passed[PASSED_MAX], given[PASSED_MAX];
static unsigned n_passed, n_given;

static void name_of(const struct group_place *place, char out[sizeof passed->name])
{
	struct sockaddr_un name;
	unsigned len = group_listen_name(place, &name) - offsetof(struct sockaddr_un, sun_path) - 1;
	memcpy(out, name.sun_path + 1, len);
	out[len] = 0;
}

static struct passed *find(struct passed *list, unsigned n, const struct group_place *place)
{
	char name[sizeof passed->name];
	name_of(place, name);
	for (unsigned i = 0; i < n; i++)
		if (strcmp(list[i].name, name) == 0)
			return &list[i];
	return NULL;
}

/* ---- who executes ---- */

void spare_exec_pass(const struct group *g)
{
	struct passed *p = &passed[n_passed];
	if (g->spare[0] < 0 || find(passed, n_passed, &g->place))
		return;
	if (n_passed == PASSED_MAX) {
		log_warn("group", "who waits for accept at port %u is lost by exec: too many ports", g->place.port);
		return;
	}
	p->fds[0] = fd_copy_high(g->spare[0]);
	p->fds[1] = fd_copy_high(g->spare[1]);
	if (p->fds[0] < 0 || p->fds[1] < 0) {
		fd_close(p->fds[0]);
		fd_close(p->fds[1]);
		return;
	}
	name_of(&g->place, p->name);
	n_passed++;
}

const char *spare_exec_variable(void)
{
	static char text[sizeof SPARE_VARIABLE + PASSED_MAX * (sizeof passed->name + 64)];
	size_t n = snprintf(text, sizeof text, "%s=", SPARE_VARIABLE);
	for (unsigned i = 0; i < n_passed; i++) {
		const struct passed *p = &passed[i];
		n += snprintf(text + n, sizeof text - n, "%s=%d.%" PRIu64 ",%d.%" PRIu64 ";", p->name, p->fds[0], sockopt_cookie(p->fds[0]), p->fds[1], sockopt_cookie(p->fds[1]));
		sys_fcntl(p->fds[0], F_SETFD, 0);
		sys_fcntl(p->fds[1], F_SETFD, 0);
	}
	return n_passed ? text : NULL;
}

void spare_exec_failed(void)
{
	for (; n_passed; n_passed--) {
		fd_close(passed[n_passed - 1].fds[0]);
		fd_close(passed[n_passed - 1].fds[1]);
	}
}

/* ---- who was executed ---- */

static void take(const char *entry)
{
	struct passed *p = &given[n_given];
	uint64_t cookies[2];
	if (n_given == PASSED_MAX ||
	    sscanf(entry, "%107[^=]=%d.%" SCNu64 ",%d.%" SCNu64, p->name, &p->fds[0], &cookies[0], &p->fds[1], &cookies[1]) != 5)
		return;
	for (int i = 0; i < 2; i++)
		if (!cookies[i] || sockopt_cookie(p->fds[i]) != cookies[i])
			return;
	p->fds[0] = fd_move_high(p->fds[0]);
	p->fds[1] = fd_move_high(p->fds[1]);
	n_given++;
}

bool spare_exec_given(const char *value)
{
	for (; value && *value; value += strcspn(value, ";"), value += *value == ';')
		take(value);
	return n_given;
}

void spare_exec_find(struct group *g)
{
	struct passed *p = find(given, n_given, &g->place);
	if (!p)
		return;
	memcpy(g->spare, p->fds, sizeof g->spare);
	*p = given[--n_given];
}
