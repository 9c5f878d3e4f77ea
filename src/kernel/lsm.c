#include "kernel/lsm.h"

#include "base/fd.h"
#include "base/sys.h"
#include "kernel/procfile.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#define ACCEPT_US    200000
#define NOBODYS_PORT 1 /* tcpmux */

static int askers[2] = {-1, -1}; /* IPv4, IPv6 */

/* AppArmor's word, with a newline, and nothing else: SELinux's labels begin with a user of that name, also of who is confined. */
static bool is_unconfined(const char *label)
{
	return strcmp(label, "unconfined\n") == 0 || strcmp(label, "unconfined") == 0;
}

/* Without a module that labels processes, the file cannot be read. */
static bool has_label(void)
{
	char *label;
	if (procfile_read("/proc/thread-self/attr/current", &label))
		return false;
	bool has = *label && !is_unconfined(label);
	free(label);
	return has;
}

bool lsm_may_judge(void)
{
	static bool asked, may;
	if (!asked)
		may = sys_call(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0, 0) == 1 || has_label();
	asked = true;
	return may;
}

/* `mapped`: of IPv4, which a socket of IPv6 has also where IPv6 itself is switched off. */
static socklen_t loopback(int family, bool mapped, struct sockaddr_storage *at)
{
	const struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	if (mapped)
		v6.sin6_addr = (struct in6_addr){.s6_addr = {[10] = 0xff, 0xff, 127, 0, 0, 1}};
	socklen_t len = family == AF_INET ? sizeof v4 : sizeof v6;
	memcpy(at, family == AF_INET ? (const void *)&v4 : &v6, len);
	return len;
}

/* Its accept waits, but not for ever: the host may drop what comes by loopback. */
static int listener_on_loopback(int family, struct sockaddr_storage *at, socklen_t *len)
{
	const struct timeval patience = {.tv_usec = ACCEPT_US};
	int fd = sys_socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), r;
	if (fd < 0)
		return fd;
	sys_setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	*len = loopback(family, false, at);
	if ((r = sys_bind(fd, at, *len)) == -EADDRNOTAVAIL && family == AF_INET6) {
		*len = loopback(family, true, at);
		r = sys_bind(fd, at, *len);
	}
	if (r == 0 && (r = sys_listen(fd, 1)) == 0 && (r = sys_getsockname(fd, at, len)) == 0)
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

static bool is_refusal(int err)
{
	return err == -EACCES || err == -EPERM;
}

/* Where loopback is down, a refusal of a connection by it is the only one that can be seen. */
static int refusal_by_loopback(int family)
{
	struct sockaddr_storage at;
	socklen_t len = loopback(family, false, &at);
	((struct sockaddr_in *)&at)->sin_port = htons(NOBODYS_PORT); /* of both families it lies there */
	int fd = connected_to(&at, len);
	if (fd >= 0)
		sys_close(fd);
	return is_refusal(fd) ? fd : 0;
}

/* 0, and *asker is a socket, or -1 where none can be made. -EACCES, -EPERM: the modules refuse even that. */
static int asker_of(int family, int *asker)
{
	int *known = &askers[family == AF_INET6], err = 0;
	if (*known < 0) {
		int made = asker_make(family);
		err = made >= 0 ? 0 : is_refusal(made) ? made : refusal_by_loopback(family);
		*known = made >= 0 ? made : -1;
	}
	*asker = *known;
	return err;
}

int lsm_bars(void)
{
	int asker;
	return asker_of(AF_INET, &asker);
}

int lsm_connect(const struct sockaddr *addr, socklen_t len)
{
	int asker, err = asker_of(addr->sa_family, &asker);
	if (err || asker < 0)
		return err;
	err = sys_connect(asker, addr, len);
	return err == -EISCONN ? 0 : err;
}
