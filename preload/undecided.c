/*
 * What the program said of an undecided socket, and the kernel's socket need not hear yet: O_NONBLOCK, and a bind to one of our addresses without a port.
 *
 * When connect gives the connection to the engine, which is told both, the kernel's socket never hears of them. A client that binds to an address for each connection, and makes each
 * non-blocking, is spared the two calls, and its kernel socket is good for another connection (reuse.c). Before anything else is done with the
 * socket, the kernel is told: undecided_settle. Until then the kernel chose no port for it, which only getsockname would show.
 *
 * All this is for a program that opens connection after connection (reuse_may_begin); others are not kept from the kernel for the sake of a few calls.
 *
 * A bind that is told late fails where an address was taken from the host meanwhile: then the socket is as unbound, and connect says why. Where there is no free port
 * it is bound without one, as by IP_BIND_ADDRESS_NO_PORT.
 */
#include "shim.h"

#include <fcntl.h>
#include <netinet/in.h>

#include "base/user.h"

static void bind_now(struct file *f)
{
	struct candidate *c = &f->candidate;
	struct sockaddr_in6 name;
	socklen_t len = sizeof name;
	int on = 1, off = 0;
	if (!__atomic_exchange_n(&c->bind_late, false, __ATOMIC_ACQ_REL))
		return;
	sock_late_name(c, (struct sockaddr *)&name, &len);
	c->bound = true;
	if (sys_bind(f->fd, &name, len) != -EADDRINUSE)
		return;
	sys_setsockopt(f->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
	sys_bind(f->fd, &name, len);
	sys_setsockopt(f->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &off, sizeof off);
}

void undecided_settle(struct file *f)
{
	struct candidate *c = &f->candidate;
	if (f->fd < 0)
		return;
	if (c->nonblock_known && !c->shared && c->nonblock != c->kernel_nonblock) {
		c->kernel_nonblock = c->nonblock;
		kernel_fd_set_nonblock(f->fd, c->nonblock);
	}
	bind_now(f);
}

void undecided_settle_fd(int fd)
{
	struct file *f = shim_on() ? fdtable_peek(fd) : NULL;
	if (!f || f->kind != FILE_CANDIDATE || !(f = fdtable_get(fd)))
		return;
	if (f->kind == FILE_CANDIDATE)
		undecided_settle(f);
	file_put(f);
}

void undecided_settle_all(void)
{
	fdtable_lock(); /* or another thread could decide one meanwhile, close it, and its number be another socket's */
	for (int fd = fdtable_next(0); fd >= 0; fd = fdtable_next(fd + 1)) {
		struct file *f = fdtable_peek(fd);
		if (f && f->kind == FILE_CANDIDATE)
			undecided_settle(f);
	}
	fdtable_unlock();
}

/* With a reference; NULL: it is not, or somebody else may have told its kernel socket something. */
static struct file *sole(int fd)
{
	struct file *f = shim_on() ? fdtable_peek(fd) : NULL;
	if (!f || f->kind != FILE_CANDIDATE || !(f = fdtable_get(fd)))
		return NULL;
	const struct candidate *c = &f->candidate;
	if (f->kind == FILE_CANDIDATE && reuse_may_begin() && c->family && c->nonblock_known && !c->shared && !c->used)
		return f;
	file_put(f);
	return NULL;
}

bool undecided_set_nonblock(int fd, bool on)
{
	struct file *f = sole(fd);
	if (!f)
		return false;
	fdtable_lock(); /* or a fork in another thread could share it in between */
	bool still = !f->candidate.shared;
	if (still)
		f->candidate.nonblock = on;
	fdtable_unlock();
	file_put(f);
	return still;
}

int undecided_flags(int fd)
{
	struct file *f = sole(fd);
	if (!f)
		return -EBADF;
	int flags = O_RDWR | (f->candidate.nonblock ? O_NONBLOCK : 0);
	file_put(f);
	return flags;
}

bool undecided_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct file *f = user_may_read(addr, len) ? sole(fd) : NULL;
	if (!f)
		return false;
	struct candidate *c = &f->candidate;
	bool late = !__atomic_load_n(&shim_left_netns, __ATOMIC_RELAXED) && !c->bound && !c->bind_late && !c->had_port && candidate_untouched(c) && sock_may_bind_late(c, addr, len);
	file_put(f);
	return late;
}
