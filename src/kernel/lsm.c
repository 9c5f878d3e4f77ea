#include "kernel/lsm.h"

#include "base/fd.h"
#include "base/sys.h"
#include "kernel/procfile.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

static int askers[2] = {-1, -1}; /* IPv4, IPv6 */
static bool prepared;

/* Without a module that labels processes, the file cannot be read. */
static bool has_label(void)
{
	char *label;
	if (procfile_read("/proc/thread-self/attr/current", &label))
		return false;
	bool has = *label && strncmp(label, "unconfined", strlen("unconfined")) != 0;
	free(label);
	return has;
}

bool lsm_may_judge(void)
{
	static bool asked, may;
	if (!asked)
		may = sys_call(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0, 0) == 1 || has_label();
	asked = true;
	return may || prepared;
}

static int listener_on_loopback(int family, struct sockaddr_storage *at, socklen_t *len)
{
	const struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int fd = sys_socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), r;
	*len = family == AF_INET ? sizeof v4 : sizeof v6;
	memcpy(at, family == AF_INET ? (const void *)&v4 : &v6, *len);
	if (fd < 0)
		return fd;
	if ((r = sys_bind(fd, at, *len)) == 0 && (r = sys_listen(fd, 1)) == 0 && (r = sys_getsockname(fd, at, len)) == 0)
		return fd;
	sys_close(fd);
	return r;
}

/* Its close is a reset, so that neither end has a TIME-WAIT. */
static int connected_to(const struct sockaddr_storage *at, socklen_t len)
{
	const struct linger reset = {.l_onoff = 1};
	int fd = sys_socket(at->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	sys_setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	int r = sys_connect(fd, at, len);
	if (r == 0 || r == -EINPROGRESS)
		return fd;
	sys_close(fd);
	return r;
}

/* The accepted end of a connection over loopback that the other end resets. */
static int asker_make(int family)
{
	struct sockaddr_storage at;
	socklen_t len;
	int listener = listener_on_loopback(family, &at, &len);
	if (listener < 0)
		return listener;
	int client = connected_to(&at, len), asker = client < 0 ? client : sys_accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (client >= 0)
		sys_close(client);
	sys_close(listener);
	return fd_move_high(asker);
}

static int asker_of(int family)
{
	if (family != AF_INET && family != AF_INET6)
		return -EAFNOSUPPORT;
	int *asker = &askers[family == AF_INET6];
	if (*asker < 0)
		*asker = asker_make(family);
	return *asker;
}

void lsm_prepare(void)
{
	prepared = true;
	asker_of(AF_INET);
	asker_of(AF_INET6);
}

int lsm_connect(const struct sockaddr *addr, socklen_t len)
{
	int asker = asker_of(addr->sa_family);
	if (asker < 0)
		return asker;
	int r = sys_connect(asker, addr, len);
	return r == -EISCONN ? 0 : r;
}
