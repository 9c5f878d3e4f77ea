/*
 * Who has an own address: the processes of one tree share it, each with an engine of its own, and one of them leads. It
 * claims the address on the link, announces and defends it, and answers ARP, solicitations and echo requests. The
 * others follow: they are silent, and hear from the leader which addresses may be used.
 *
 * A name in the abstract namespace is the door of the tree's leader; a name per address keeps other trees away. The
 * kernel gives both back on any death. Then each follower sees the end of file of its connection to the leader, and
 * tries to lead; whoever gets the door's name does, and the others connect to it. The address goes on meanwhile:
 * followers have its neighbours, and only who asks for it anew waits until there is a leader.
 *
 * The helper thread serves the door and the connections. A leader that is stopped (SIGSTOP, a debugger) answers nobody,
 * as a host would that is frozen.
 */
#include "socket/own.h"

#include "base/abstract.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#define DOOR_BACKLOG 128
#define TRIES        100 /* of 2 ms: somebody has a name and does not listen yet, or has just died */
#define NAP_NS       2000000

struct own_member {
	struct list node;
	struct control control;
	struct own_share *share;
};

static socklen_t door_name(const struct own_share *s, struct sockaddr_un *out)
{
	char text[IP_ADDR_STRLEN];
	const struct settings *set = &s->e->settings;
	return abstract_name(out, "finesse/own/%d/%s/%s", s->ifindex, ip_addr_format(&set->own[0].addr, text), set->tree);
}

static socklen_t address_name(const struct own_share *s, unsigned i, struct sockaddr_un *out)
{
	char text[IP_ADDR_STRLEN];
	return abstract_name(out, "finesse/address/%d/%s", s->ifindex, ip_addr_format(&s->e->settings.own[i].addr, text));
}

static int seqpacket(void)
{
	return fd_move_high(sys_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

static void nap(void)
{
	struct timespec ts = {0, NAP_NS};
	sys_ppoll(NULL, 0, &ts, NULL);
}

/* ---- the leader ---- */

static void close_names(struct own_share *s)
{
	for (unsigned i = 0; i < OWN_ADDRESSES_MAX; i++) {
		fd_close(s->names[i]);
		s->names[i] = -1;
	}
}

/* The names of the addresses. -EADDRINUSE: `which` is another tree's. */
static int take_names(struct own_share *s, unsigned *which)
{
	struct sockaddr_un name;
	for (unsigned i = 0; i < s->e->settings.n_own; i++) {
		*which = i;
		s->names[i] = seqpacket();
		int err = s->names[i];
		for (unsigned k = 0; err >= 0; k++) {
			err = sys_bind(s->names[i], &name, address_name(s, i, &name));
			if (err != -EADDRINUSE || k == TRIES)
				break;
			err = 0;
			nap();
		}
		if (err < 0)
			return err;
	}
	return 0;
}

static void member_leaves(struct own_share *s, struct own_member *m)
{
	list_unlink(&m->node);
	s->n_members--;
	fd_close(m->control.fd);
	engine_free(s->e, m, sizeof *m);
}

static void on_member(struct engine *e, struct control *c)
{
	struct own_member *m = container_of(c, struct own_member, control);
	struct own_share *s = m->share;
	const uint8_t died = OWN_MEMBER_DIED;
	control_del(e, c); /* it says nothing: this is its end */
	member_leaves(s, m);
	turn_begin(e);
	s->told(e, &died, 1); /* what it served may be served by somebody else */
	turn_end(e);
	list_for_each (pos, tmp, &s->members)
		sys_sendto(container_of(pos, struct own_member, node)->control.fd, &died, 1, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
	if (s->full)
		s->full = control_add(e, &s->door, s->door_fd, POLLIN) != 0;
}

static void tell(struct engine *e, const struct own_share *s, const struct own_member *m)
{
	uint8_t states[OWN_ADDRESSES_MAX];
	unsigned n = s->states(e, states);
	if (n)
		sys_sendto(m->control.fd, states, n, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
}

void own_share_tell(struct engine *e, struct own_share *s)
{
	list_for_each (pos, tmp, &s->members)
		tell(e, s, container_of(pos, struct own_member, node));
}

static void on_door(struct engine *e, struct control *c)
{
	struct own_share *s = container_of(c, struct own_share, door);
	int fd = fd_move_high(sys_accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
	struct own_member *m = fd >= 0 ? engine_alloc(e, sizeof *m) : NULL; /* whoever it is: it is told what the whole link can see */
	if (!m) {
		fd_close(fd);
		if (fd != -EAGAIN) { /* no descriptor, no memory: until a member leaves */
			control_del(e, c);
			s->full = true;
		}
		return;
	}
	m->share = s;
	m->control.ready = on_member;
	list_push_back(&s->members, &m->node);
	s->n_members++;
	if (control_add(e, &m->control, fd, POLLIN)) {
		m->control.fd = fd;
		member_leaves(s, m);
		return;
	}
	tell(e, s, m);
}

/* 0: we lead. -EAGAIN: somebody has the door. */
static int lead(struct engine *e, struct own_share *s, char *why, size_t why_len)
{
	struct sockaddr_un name;
	char text[IP_ADDR_STRLEN];
	unsigned which = 0;
	s->door_fd = seqpacket();
	int err = s->door_fd;
	if (err >= 0)
		err = sys_bind(s->door_fd, &name, door_name(s, &name));
	if (err == -EADDRINUSE)
		err = -EAGAIN;
	if (!err)
		err = take_names(s, &which);
	if (err == -EADDRINUSE)
		snprintf(why, why_len, "another program of this host has the address %s here", ip_addr_format(&e->settings.own[which].addr, text));
	if (!err)
		err = sys_listen(s->door_fd, DOOR_BACKLOG);
	if (!err)
		err = control_add(e, &s->door, s->door_fd, POLLIN);
	if (!err)
		return 0;
	close_names(s);
	fd_close(s->door_fd);
	s->door_fd = -1;
	return err;
}

/* ---- a follower ---- */

static void begin_anew(struct engine *e, struct own_share *s)
{
	char why[160] = "the processes that share it cannot be found";
	control_del(e, &s->up);
	fd_close(s->up_fd);
	s->up_fd = -1;
	if (own_share_open(e, s, why, sizeof why))
		s->lost(e, why);
}

static void on_up(struct engine *e, struct control *c)
{
	struct own_share *s = container_of(c, struct own_share, up);
	uint8_t states[OWN_ADDRESSES_MAX];
	ssize_t n = sys_recvfrom(c->fd, states, sizeof states, MSG_DONTWAIT, NULL, NULL);
	if (n == -EAGAIN || n == -EINTR)
		return;
	turn_begin(e);
	if (n > 0)
		s->told(e, states, n);
	else
		begin_anew(e, s);
	turn_end(e);
}

/* 0: we follow. -EAGAIN: nobody answers at the door. */
static int follow(struct engine *e, struct own_share *s)
{
	struct sockaddr_un name;
	int fd = seqpacket();
	int err = fd < 0 ? fd : sys_connect(fd, &name, door_name(s, &name));
	if (!err && !abstract_peer_is_trusted(fd))
		err = -EPERM;
	if (!err)
		err = control_add(e, &s->up, fd, POLLIN);
	if (!err) {
		s->up_fd = fd;
		return 0;
	}
	if (fd >= 0)
		fd_close(fd);
	return err == -ECONNREFUSED ? -EAGAIN : err;
}

int own_share_open(struct engine *e, struct own_share *s, char *why, size_t why_len)
{
	int err = -EAGAIN;
	s->door.ready = on_door;
	s->up.ready = on_up;
	for (unsigned k = 0; k < TRIES && err == -EAGAIN; k++) {
		if (k)
			nap();
		err = follow(e, s);
		if (err != -EAGAIN)
			break;
		err = lead(e, s, why, why_len);
		if (!err)
			s->leads(e);
	}
	if (err && err != -EADDRINUSE)
		snprintf(why, why_len, "own-address mode: the processes that share the address cannot be found (errno %d)", -err);
	return err;
}

void own_share_close(struct engine *e, struct own_share *s, bool forked)
{
	list_for_each (pos, tmp, &s->members) {
		struct own_member *m = container_of(pos, struct own_member, node);
		if (!forked)
			control_del(e, &m->control);
		member_leaves(s, m);
	}
	if (!forked && s->door_fd >= 0)
		control_del(e, &s->door);
	if (!forked && s->up_fd >= 0)
		control_del(e, &s->up);
	fd_close(s->door_fd);
	fd_close(s->up_fd);
	s->door_fd = s->up_fd = -1;
	close_names(s);
}
