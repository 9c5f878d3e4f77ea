/*
 * Which sockets the engine may take at all, whatever was asked of them: none while the program goes another way
 * (engine_keep_out), and none of another network namespace than the engine's.
 *
 * The engine lives in the namespace in which it first asked of the network. A thread may move to another one (unshare,
 * setns), and its sockets belong there: to serve one here would connect it to, or make it reachable from, a network
 * from which it is meant to be apart. So each is asked for its own namespace.
 */
#include "socket/own.h"

#include "base/sys.h"
#include "kernel/firewall.h"
#include "kernel/lsm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/stat.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* since Linux 5.14 */
#endif

static uint64_t inode_of(int fd)
{
	struct stat st;
	return sys_fstat(fd, &st) == 0 ? st.st_ino : 0;
}

/*
 * Names the network namespace of a socket, uniquely while it lives. 0: cannot be told. Two names of one kind only are
 * compared, since a kernel has always the same.
 */
static uint64_t netns_of(int socket)
{
	uint64_t name = 0;
	socklen_t len = sizeof name;
	if (sys_getsockopt(socket, SOL_SOCKET, SO_NETNS_COOKIE, &name, &len) == 0)
		return name;
	int fd = sys_ioctl(socket, SIOCGSKNS, NULL); /* older kernels; with CAP_NET_ADMIN */
	if (fd < 0)
		fd = sys_openat(AT_FDCWD, "/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return 0;
	name = inode_of(fd);
	sys_close(fd);
	return name;
}

void engine_note_netns(struct engine *e)
{
	int fd = sys_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	e->netns = fd < 0 ? 0 : netns_of(fd);
	if (fd >= 0)
		sys_close(fd);
}

bool engine_is_of_netns(const struct engine *e, int kfd)
{
	return netns_of(kfd) == e->netns;
}

const char *engine_refuses(const struct engine *e, int kfd)
{
	if (e->kept_out)
		return e->kept_out;
	if (e->up && !engine_is_of_netns(e, kfd))
		return "it belongs to another network namespace than the engine";
	if (e->up && lsm_bars()) /* before, nobody knows whether a filter allows the question (kernel/sandbox.h) */
		return "a security module (Landlock, SELinux, AppArmor) restricts the process's TCP";
	return NULL;
}

bool engine_sockets_are_watched(void)
{
	return own_mode(engine_of_process()) || firewall_watches_sockets();
}

void engine_keep_out(const char *why)
{
	struct engine *e = engine_of_process();
	engine_lock(e);
	e->kept_out = why;
	engine_unlock(e);
}

bool engine_is_strict(void)
{
	return engine_of_process()->settings.strict;
}
