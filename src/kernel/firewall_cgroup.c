/*
 * BPF programs on a process's cgroup (v2) and its ancestors: those that see packets, sockets or addresses.
 * The kernel answers with the effective set, so one question per kind covers the ancestors, also
 * those above a cgroup namespace. A user namespace has no right to ask; but what its processes send by
 * a packet socket of their own network namespace passes no cgroup's programs anyway, with us or
 * without: there is no hole that we could make.
 */
#include "kernel/firewall_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

#include "base/fd.h"
#include "base/sys.h"
#include "kernel/bpf_sys.h"
#include "kernel/procfile.h"

/* Mount system calls of Linux 5.2; older libcs have no names for them. */
#define FSCONFIG_CREATE 6 /* FSCONFIG_CMD_CREATE */

/* The directory of a cgroup2 hierarchy: where it is mounted … */
static int open_mounted(void)
{
	char *mounts, *save = NULL;
	int fd = procfile_read("/proc/self/mounts", &mounts);

	if (fd < 0)
		return fd;
	fd = -ENOENT;
	for (char *line = strtok_r(mounts, "\n", &save); line && fd < 0;
	     line = strtok_r(NULL, "\n", &save)) {
		char path[512], type[32];
		if (sscanf(line, "%*s %511s %31s", path, type) == 2 && strcmp(type, "cgroup2") == 0)
			fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	}
	free(mounts);
	return fd_move_high(fd);
}

static int mount_anew(void)
{
	int fs = fd_move_high(sys_call(SYS_fsopen, "cgroup2", 1 /* FSOPEN_CLOEXEC */, 0, 0, 0, 0));
	int ret = fs;

	if (ret >= 0)
		ret = sys_call(SYS_fsconfig, fs, FSCONFIG_CREATE, NULL, NULL, 0, 0);
	if (ret >= 0)
		ret = fd_move_high(sys_call(SYS_fsmount, fs, 1 /* FSMOUNT_CLOEXEC */, 0, 0, 0, 0));
	fd_close(fs);
	return ret;
}

/*
 * … or a mount of our own that nobody else sees. The kernel takes some 10 ms to make it and as long to end it, so it is
 * kept for the process's next question. (A process that closed all of its files, as the broker does, may have another
 * file there.)
 */
static int open_unmounted(void)
{
	static int kept = -1;
	struct statfs fs;
	if (kept < 0 || sys_call(SYS_fstatfs, kept, &fs, 0, 0, 0, 0) || fs.f_type != CGROUP2_SUPER_MAGIC)
		kept = mount_anew();
	return kept < 0 ? kept : fd_move_high(sys_fcntl(kept, F_DUPFD_CLOEXEC, 0));
}

/* A process's groups; 0: our own. */
static int open_groups(int pid)
{
	char path[40];
	if (!pid)
		return procfile_open("/proc/self/cgroup");
	snprintf(path, sizeof path, "/proc/%d/cgroup", pid);
	int fd = procfile_open(path);
	return fd == -ENOENT ? -ESRCH : fd;
}

/* The cgroup's directory, of what its file in /proc says. -ENOENT: no cgroup v2 in this kernel. */
static int open_cgroup(const char *groups, bool mounts_nothing)
{
	const char *own = strncmp(groups, "0::/", 4) == 0 ? groups : strstr(groups, "\n0::/");
	if (!own)
		return -ENOENT;
	own = strchr(own, '/') + 1;
	char *path = strndup(own, strcspn(own, "\n"));
	if (!path)
		return -ENOMEM;
	int root = open_mounted();
	if (root < 0)
		root = mounts_nothing ? -EREMOTE : open_unmounted();
	int fd = root;
	if (root >= 0)
		fd = fd_move_high(sys_openat(root, path[0] ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
	fd_close(root);
	free(path);
	return fd == -ENOENT ? -ESTALE : fd; /* there is one, but not where we can look */
}

static void forget_cgroup(struct firewall_look *look)
{
	fd_close(look->groups_fd);
	fd_close(look->cgroup_fd);
	free(look->groups);
	look->groups_fd = look->cgroup_fd = -1;
	look->groups = NULL;
}

void firewall_look_close(struct firewall_look *look)
{
	forget_cgroup(look);
	firewall_unheard_close(look);
	fd_close(look->route_fd);
	look->route_fd = -1;
}

static bool in_user_namespace(struct firewall_look *look)
{
	if (look->in_user_namespace < 0)
		look->in_user_namespace = firewall_in_user_namespace();
	return look->in_user_namespace;
}

static bool is_refused(int err, struct firewall_look *look)
{
	return (err == -EPERM || err == -EACCES) && in_user_namespace(look);
}

/*
 * The cgroup's directory, the one that is kept while the process stays in it. What may change is tried again the next
 * time.
 */
static int cgroup_of(struct firewall_look *look)
{
	char *groups;
	if (look->groups_fd < 0)
		look->groups_fd = open_groups(look->pid);
	int err = procfile_read_open(look->groups_fd, &groups);
	if (err < 0) {
		forget_cgroup(look);
		return err;
	}
	if (look->groups && strcmp(groups, look->groups) == 0) {
		free(groups);
		return look->cgroup_fd;
	}
	fd_close(look->cgroup_fd);
	free(look->groups);
	look->groups = groups;
	int fd = look->cgroup_fd = open_cgroup(groups, look->mounts_nothing);
	if (fd < 0 && fd != -ENOENT && fd != -EREMOTE && !is_refused(fd, look))
		forget_cgroup(look);
	return fd;
}

void firewall_look_alone(struct firewall_look *look)
{
	look->mounts_nothing = false;
	forget_cgroup(look);
}

void firewall_look_open(struct firewall_look *look)
{
	struct firewall_unheard unused;
	cgroup_of(look);
	firewall_read_unheard(&unused, look);
	firewall_open_route(look);
}

/*
 * sock_create and bind programs have had their say: the kernel's own socket was created and bound by the kernel. Where
 * there is one, each socket is.
 */
int firewall_read_cgroup(struct firewall_cgroup *out, struct firewall_look *look)
{
	const struct {
		uint32_t type;
		bool *where;
	} kinds[] = {
	    {BPF_CGROUP_INET_INGRESS, &out->ingress},
	    {BPF_CGROUP_INET_EGRESS, &out->egress},
	    {BPF_CGROUP_INET4_CONNECT, &out->connect},
	    {BPF_CGROUP_INET6_CONNECT, &out->connect},
	    {BPF_CGROUP_INET_SOCK_CREATE, &out->sockets},
	    {BPF_CGROUP_INET_SOCK_RELEASE, &out->sockets},
	    {BPF_CGROUP_INET4_BIND, &out->sockets},
	    {BPF_CGROUP_INET6_BIND, &out->sockets},
	    {BPF_CGROUP_INET4_POST_BIND, &out->sockets},
	    {BPF_CGROUP_INET6_POST_BIND, &out->sockets},
	};
	uint32_t ids[BPF_QUERY_MAX];
	int fd = cgroup_of(look), ret = 0;

	*out = (struct firewall_cgroup){.ingress = false};
	if (fd == -EREMOTE)
		return -EPERM;
	if (fd < 0)
		return fd == -ENOENT || is_refused(fd, look) ? 0 : fd;
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && ret >= 0; i++) {
		ret = bpf_prog_query(fd, kinds[i].type, BPF_F_QUERY_EFFECTIVE, ids);
		if (ret > 0)
			*kinds[i].where = true;
		else if (ret == -EINVAL || ret == -ENOSYS)
			ret = 0; /* a kernel without cgroup BPF */
	}
	if (ret < 0 && ret != -EPERM) /* the cgroup may be gone */
		forget_cgroup(look);
	return ret < 0 && !is_refused(ret, look) ? ret : 0;
}
