#include "kernel/lsm.h"

#include "base/fd.h"
#include "base/sockopt.h"
#include "base/sys.h"
#include "kernel/procfile.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#define NOBODYS_PORT 1 /* tcpmux */

static int askers[2] = {-1, -1}; /* IPv4, IPv6 */

/*
 * AppArmor's word, with a newline, and nothing else: SELinux's labels begin with a user of that name, also of who is
 * confined.
 */
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

/*
 * Bound to an address that nobody can have, so that no route leads from it: connect fails (EINVAL, EAFNOSUPPORT), and
 * nothing is sent. One of IPv6 is bound to that of IPv4, since Linux lets any source address of IPv6 pass. No port is
 * taken.
 */
static int asker_make(int family)
{
	const struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(1)};
	const struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr.s6_addr = {[10] = 0xff, 0xff, 0, 0, 0, 1}};
	bool is_v6 = family == AF_INET6;
	int fd = sys_socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
	if (fd < 0)
		return fd;
	int err = sockopt_set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	if (!err)
		err = is_v6 ? sockopt_set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0) : 0;
	if (!err)
		err = is_v6 ? sockopt_set_int(fd, IPPROTO_IPV6, IPV6_FREEBIND, 1) : sockopt_set_int(fd, IPPROTO_IP, IP_FREEBIND, 1);
	if (!err)
		err = is_v6 ? sys_bind(fd, &v6, sizeof v6) : sys_bind(fd, &v4, sizeof v4);
	if (!err)
		return fd_move_high(fd);
	sys_close(fd);
	return err;
}

static bool is_refusal(int err)
{
	return err == -EACCES || err == -EPERM;
}

/* 0, and *asker is a socket, or -1 where none can be made. -EACCES, -EPERM: the modules refuse even that. */
static int asker_of(int family, int *asker)
{
	int *known = &askers[family == AF_INET6], err = 0;
	if (*known < 0) {
		int made = asker_make(family);
		err = is_refusal(made) ? made : 0;
		*known = made >= 0 ? made : -1;
	}
	*asker = *known;
	return err;
}

int lsm_connect(const struct sockaddr *addr, socklen_t len)
{
	if (!lsm_may_judge())
		return 0;
	int asker, err = asker_of(addr->sa_family, &asker);
	if (err || asker < 0)
		return err;
	err = sys_connect(asker, addr, len);
	return is_refusal(err) ? err : 0;
}

int lsm_bars(void)
{
	static bool asked;
	static int answer;
	const struct sockaddr_in nobodys = {.sin_family = AF_INET, .sin_port = htons(NOBODYS_PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (!asked)
		answer = lsm_connect((const struct sockaddr *)&nobodys, sizeof nobodys);
	asked = true;
	return answer;
}
