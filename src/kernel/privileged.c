/* The broker's place in the kernel's room: see the header. */
#include "kernel/privileged.h"

#include <errno.h>
#include <linux/capability.h>

#include "base/sys.h"

const struct privileged_ops *privileged_ops;

bool privileged_has(uint32_t capabilities)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {{0}, {0}};
	return sys_call(SYS_capget, &h, d, 0, 0, 0, 0) == 0 && (d[0].effective & capabilities) == capabilities;
}

int privileged_open_link(int ifindex, bool only_spare, struct privileged_link *out, char *why, size_t why_len)
{
	return privileged_ops ? privileged_ops->open_link(ifindex, only_spare, out, why, why_len) : -EPERM;
}

int privileged_repair(int fd, const struct privileged_repair *r)
{
	return privileged_ops ? privileged_ops->repair(fd, r) : -EPERM;
}

int privileged_inject_fin(int fd, const void *packet, size_t len)
{
	return privileged_ops ? privileged_ops->inject_fin(fd, packet, len) : -EPERM;
}

int privileged_watch(int table_fd)
{
	return privileged_ops ? privileged_ops->watch(table_fd) : -EPERM;
}

int privileged_watch_ring(int rx_fd)
{
	return privileged_ops ? privileged_ops->watch_ring(rx_fd) : -EPERM;
}

int privileged_use_neighbour(int ifindex, const struct ip_addr *addr)
{
	return privileged_ops ? privileged_ops->use_neighbour(ifindex, addr) : -EPERM;
}

int privileged_end_time_wait(const struct flow_key *key, const uint32_t cookie[2], int ifindex)
{
	return privileged_ops ? privileged_ops->end_time_wait(key, cookie, ifindex) : -EPERM;
}

int privileged_make_group(int fds[CLASSIFIER_GROUP_FDS])
{
	return privileged_ops ? privileged_ops->make_group(fds) : -EPERM;
}

int privileged_enter_maps(const struct privileged_enter *maps, unsigned n)
{
	return privileged_ops && privileged_ops->enter_maps ? privileged_ops->enter_maps(maps, n) : -EPERM;
}

int privileged_read_firewall(void)
{
	return privileged_ops ? privileged_ops->read_firewall() : -EPERM;
}

int privileged_look_begin(void)
{
	return privileged_ops ? privileged_ops->look_begin() : -EPERM;
}

int privileged_look(int fd, uint32_t *generation)
{
	return privileged_ops ? privileged_ops->look(fd, generation) : -EPERM;
}

void privileged_look_cut(void)
{
	if (privileged_ops)
		privileged_ops->look_cut();
}

bool privileged_look_failed(void)
{
	return privileged_ops && privileged_ops->look_failed();
}

int privileged_establish(const struct flow_key *key, bool client)
{
	return privileged_ops ? privileged_ops->establish(key, client) : -EPERM;
}
