/*
 * What the program said of an undecided socket, and the kernel's socket need not hear yet: O_NONBLOCK, and a bind to
 * one of our addresses without a port.
 *
 * When connect gives the connection to the engine, which is told both, the kernel's socket never hears of them. A
 * client that binds to an address for each connection, and makes each non-blocking, is spared the two calls, and its
 * kernel socket is good for another connection (reuse.c). Before anything else is done with the socket, the kernel is
 * told: undecided_settle. Until then the kernel chose no port for it, which only getsockname would show.
 *
 * All this is for a program that opens connection after connection (reuse_may_begin); others are not kept from the
 * kernel for the sake of a few calls.
 *
 * A bind that is told late fails where an address was taken from the host meanwhile: then the socket is as unbound, and
 * connect says why. Where there is no free port it is bound without one, as by IP_BIND_ADDRESS_NO_PORT.
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

/* False: somebody else may have told its kernel socket something. */
static bool is_sole(const struct file *f)
{
	const struct candidate *c = &f->candidate;
	return reuse_may_begin() && c->family && c->nonblock_known && !c->shared && !c->used;
}

bool undecided_set_nonblock(struct file *f, bool on)
{
	bool sole = is_sole(f);
	if (sole)
		f->candidate.nonblock = on;
	return sole;
}

int undecided_flags(const struct file *f)
{
	return is_sole(f) ? O_RDWR | (f->candidate.nonblock ? O_NONBLOCK : 0) : -EBADF;
}

bool undecided_bind(struct file *f, const struct sockaddr *addr, socklen_t len)
{
	struct candidate *c = &f->candidate;
	return user_may_read(addr, len) && is_sole(f) && !__atomic_load_n(&shim_left_netns, __ATOMIC_RELAXED) && !c->bound && !c->bind_late && !c->had_port &&
	       candidate_untouched(c) && sock_may_bind_late(c, addr, len);
}

/* ---- in one call's hands ---- */

bool undecided_hold_slow(struct call *c, int fd)
{
	if (!call_hold(c, fd)) {
		c->file = NULL;
		return true; /* closed: the kernel says so */
	}
	file_seize(c->file);
	if (c->file->kind == FILE_CANDIDATE && fdtable_peek(fd) == c->file)
		return true;
	undecided_let_go(c);
	return false;
}

void undecided_let_go(struct call *c)
{
	if (!c->file)
		return;
	file_unseize(c->file);
	call_let_go(c);
}

bool undecided_await(int fd)
{
	struct file *f;
	while ((f = fdtable_peek(fd)) && f->kind != FILE_SOCK && f->seized)
		file_await(f);
	return f && f->kind == FILE_SOCK;
}

/* ---- all of them ---- */

static void of_all(void (*act)(struct file *f))
{
	for (int fd = fdtable_next(0); fd >= 0; fd = fdtable_next(fd + 1)) {
		struct call c;
		struct file *f = call_hold(&c, fd);
		if (!f)
			continue;
		if (f->kind == FILE_CANDIDATE) {
			file_seize(f);
			if (f->kind == FILE_CANDIDATE)
				undecided_settle(f);
			act(f);
			file_unseize(f);
		} else {
			act(f);
		}
		call_let_go(&c);
	}
}

static void nothing_else(struct file *f)
{
	(void)f;
}

static void is_shared(struct file *f)
{
	f->candidate.shared = true;
}

void undecided_settle_all(void)
{
	of_all(nothing_else);
}

void files_shared(void)
{
	of_all(is_shared);
}
