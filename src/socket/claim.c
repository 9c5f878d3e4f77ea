/*
 * The claim of a listening port: who may serve it by an engine, when several processes share the listener.
 *
 * Two engines that both take a port's SYNs reset each other's clients. Nothing that a process knows of others can prevent that: a parent may be gone and its
 * engine with it, or only slow to answer; a sibling may have claimed the port a moment ago. So the kernel keeps the claim, in two places:
 *
 *   the name   an abstract AF_UNIX datagram name per network namespace, address, family and port: finesse/listen/ADDRESS/PORT. Who binds it is the
 *              one engine of this port. The kernel gives it back on any death. A fork's child closes its copy.
 *   the mark   on the listening socket itself, which all who share it see, and which lives as long as it: several processes accept from here, so no engine
 *              may serve it any more. It is a value of SO_INCOMING_CPU, which means nothing on a listener that is in no group.
 *
 * A process that wants to accept from an inherited listener whose engine is gone binds the name. It succeeds and finds no mark: the port is its own. Otherwise
 * it sets the mark, sends a datagram to the name, and accepts from the kernel's queue, which all share. Whoever has the name releases the port when the
 * datagram comes. He looks for the mark after he bound the name, and the other one sends after he set the mark: one of them sees the other, whatever the order.
 */
#include "socket/engine.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef SO_INCOMING_CPU
#define SO_INCOMING_CPU 49
#endif
#define SHARED_MARK 0x66696e65 /* no CPU's number */

static socklen_t claim_name(const struct sock *l, struct sockaddr_un *sun)
{
	char addr[IP_ADDR_STRLEN];
	*sun = (struct sockaddr_un){.sun_family = AF_UNIX};
	int n = snprintf(sun->sun_path + 1, sizeof sun->sun_path - 1, "finesse/listen/%s%s/%u", ip_addr_format(&l->lst->addr, addr),
			 l->family == AF_INET ? "" : l->v6only ? "/6" : "/46", l->lst->port);
	return offsetof(struct sockaddr_un, sun_path) + 1 + n;
}

static bool is_marked(const struct listener *lst)
{
	int value = 0;
	socklen_t len = sizeof value;
	return sys_getsockopt(lst->kfd, SOL_SOCKET, SO_INCOMING_CPU, &value, &len) == 0 && value == SHARED_MARK;
}

/* Root, or who the engine runs as. */
static bool may_ask(struct msghdr *msg)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	struct ucred *who = c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS ? (void *)CMSG_DATA(c) : NULL;
	return who && (who->uid == 0 || who->uid == geteuid());
}

/* Another process wants to accept from the same listener. */
static void on_asked(struct engine *e, struct control *control)
{
	struct listener *lst = container_of(control, struct listener, claim);
	char byte;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	union {
		char buf[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} creds;
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = creds.buf, .msg_controllen = sizeof creds.buf};
	if (sys_recvmsg(control->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0 || !may_ask(&msg))
		return;
	engine_note_fallback("a listener shared by fork", "several processes accept from it");
	listener_release(e, lst->owner);
}

int claim_take(struct engine *e, struct sock *l)
{
	struct listener *lst = l->lst;
	struct sockaddr_un name;
	socklen_t len = claim_name(l, &name);
	int one = 1;
	if (is_marked(lst))
		return -EADDRINUSE;
	int fd = fd_move_high(sys_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	if (fd < 0)
		return fd;
	sys_setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof one);
	int err = sys_bind(fd, &name, len);
	if (!err && is_marked(lst)) /* set since we looked */
		err = -EADDRINUSE;
	lst->claim.ready = on_asked;
	if (!err)
		err = control_add(e, &lst->claim, fd, POLLIN);
	if (!err)
		return 0;
	lst->claim.fd = -1;
	fd_close(fd);
	return err;
}

void claim_drop(struct engine *e, struct listener *lst)
{
	if (lst->claim.fd < 0)
		return;
	control_del(e, &lst->claim);
	fd_close(lst->claim.fd);
	lst->claim.fd = -1;
}

void claim_refuse(struct sock *l)
{
	struct sockaddr_un name;
	socklen_t len = claim_name(l, &name);
	int mark = SHARED_MARK;
	if (is_marked(l->lst))
		return;
	int err = sys_setsockopt(l->lst->kfd, SOL_SOCKET, SO_INCOMING_CPU, &mark, sizeof mark);
	if (err)
		log_warn("claim", "a shared listener could not be marked (errno %d)", -err);
	int fd = sys_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	sys_sendto(fd, "", 1, MSG_NOSIGNAL, &name, len); /* nobody there: nobody serves it */
	sys_close(fd);
}
