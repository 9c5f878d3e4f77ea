/*
 * What the helper thread watches beside the engine itself: control sockets of fork children, claims of ports, readers
 * of `finesse stat`. One epoll instance for all of them, so their number has no ceiling. Made with the first of them; a
 * fork's child forgets the parent's.
 *
 * A handler may end its own watch and others. So events are fetched one at a time: none of them can be of a watch that
 * is gone.
 */
#include "socket/engine.h"

#include "base/fd.h"
#include "base/sys.h"

#include <errno.h>
#include <sys/epoll.h>

#define SERVED_AT_ONCE 64 /* then the engine has its turn again; the rest is still ready */

int control_add(struct engine *e, struct control *c, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = c};
	if (!e->control_fd) { /* zero: never made, or the parent's */
		int made = fd_move_high(sys_epoll_create1(EPOLL_CLOEXEC));
		if (made < 0)
			return made;
		e->control_fd = made;
		drive_helper_wake(&e->drive); /* to look at it, too */
	}
	c->fd = fd;
	return sys_epoll_ctl(e->control_fd, EPOLL_CTL_ADD, fd, &ev);
}

void control_del(struct engine *e, struct control *c)
{
	sys_epoll_ctl(e->control_fd, EPOLL_CTL_DEL, c->fd, NULL);
}

unsigned control_fds(struct engine *e, struct pollfd *out)
{
	out[0] = (struct pollfd){.fd = e->control_fd ? e->control_fd : -1, .events = POLLIN};
	return 1;
}

void control_serve(struct engine *e)
{
	struct epoll_event ev;
	for (int i = 0; e->control_fd && i < SERVED_AT_ONCE && sys_epoll_pwait(e->control_fd, &ev, 1, 0, NULL) == 1; i++) {
		struct control *c = ev.data.ptr;
		c->ready(e, c);
	}
}

void control_after_fork(struct engine *e)
{
	if (e->control_fd)
		fd_close(e->control_fd);
	e->control_fd = 0;
}
