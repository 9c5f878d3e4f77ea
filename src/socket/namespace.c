/*
 * The engine obeys the settings of its network namespace (kernel/sysctl.def): they become the TCP stack's
 * configuration, and the defaults of sockets.
 *
 * They are read when the engine comes up, and looked at again when a socket is decided: connect, listen, accept. As in
 * Linux, most of them hold from then on for connections that live, too; what a handshake has settled stays.
 */
#include "socket/engine.h"

#include "base/log.h"
#include "base/sys.h"
#include "tcp/cc.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#define CONGESTION_FALLBACK "cubic" /* where the namespace's default is one that the engine lacks */
#define CONGESTION_SYSTEM   "system"

/* What an untouched TCP socket of the kernel says of itself: another value was set by the application. */
static void read_default_options(struct engine *e)
{
	int fd = sys_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	int v;
	socklen_t len = sizeof v;
	if (sys_getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &v, &len) == 0)
		e->default_rcvbuf = v;
	if (sys_getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &v, &len) == 0)
		e->default_sndbuf = v;
	len = sizeof e->default_congestion - 1;
	memset(e->default_congestion, 0, sizeof e->default_congestion);
	if (sys_getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, e->default_congestion, &len))
		e->default_congestion[0] = 0;
	sys_close(fd);
}

static void configure_core(const struct sysctls *s, struct tcp_config *config)
{
#define CORE(name, member, unit, otherwise, least, most) config->member = sysctls_number(s, SYSCTL_##name) * (unit);
#define CORE_AT(name, column, member, unit, otherwise, least, most) config->member = sysctls_number(s, SYSCTL_##name##_##column) * (unit);
#define SYSCTL(name, otherwise, least, most)
#define UNHEEDED(name, otherwise, why)
#define SYSCTL_DIRECTORY(name)
#include "kernel/sysctl.def"
}

/* The setting `congestion`, else the namespace's default; a fresh socket's tells it where /proc does not. */
static void choose_congestion(struct engine *e)
{
	bool chosen = strcmp(e->settings.congestion, CONGESTION_SYSTEM) != 0;
	const char *name = chosen ? e->settings.congestion : e->default_congestion;
	const struct tcp_cc_ops *cc = tcp_cc_find(name);
	bool lacks = !cc && *name;
	if (lacks && !e->cc_is_not_ours)
		log_info("engine", "the namespace's congestion control is %s, which the engine lacks: it uses " CONGESTION_FALLBACK, name);
	e->cc_is_not_ours = lacks;
	e->default_cc = cc ? cc : tcp_cc_find(CONGESTION_FALLBACK);
}

static void obey(struct engine *e)
{
	configure_core(&e->sysctls, &e->tcp.config);
	read_default_options(e);
	choose_congestion(e);
	e->default_options_us = 0; /* keepalive's times and the like: asked for again */
	e->net_generation++;       /* destinations have the TTL */
}

void namespace_open(struct engine *e)
{
	sysctls_open(&e->sysctls);
	obey(e);
}

void namespace_close(struct engine *e)
{
	sysctls_close(&e->sysctls);
}

void namespace_refresh(struct engine *e, int64_t age_us)
{
	if (sysctls_refresh(&e->sysctls, e->now, age_us))
		obey(e);
}

int namespace_backlog(const struct engine *e, int backlog)
{
	int most = sysctls_number(&e->sysctls, SYSCTL_somaxconn);
	return backlog < 0 || backlog > most ? most : backlog;
}
