/* What a socket is asked besides its options: ioctl, O_NONBLOCK, its two names. */
#include "socket/engine.h"

#include "base/sys.h"

#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>

static int conn_ioctl(struct sock *s, unsigned long request, int *arg)
{
	enum tcp_state state = tcp_state(&s->tcp);
	bool opening = state == TCPS_SYN_SENT || state == TCPS_SYN_RECEIVED; /* Linux counts nothing yet, also of Fast Open */
	switch (request) {
	case FIONREAD:
		*arg = opening ? 0 : tcp_readable_to_mark(&s->tcp);
		return 0;
	case SIOCATMARK:
		*arg = tcp_at_mark(&s->tcp);
		return 0;
	case SIOCOUTQ:
		*arg = opening ? 0 : tcp_outq(&s->tcp);
		return 0;
	case SIOCOUTQNSD:
		*arg = opening ? 0 : tcp_outq_unsent(&s->tcp);
		return 0;
	default:
		return -ENOTTY;
	}
}

int sock_ioctl(struct sock *s, unsigned long request, void *arg)
{
	struct engine *e = s->engine;
	int r;
	if (request == FIONBIO) {
		sock_set_nonblock(s, *(int *)arg);
		return 0;
	}
	turn_enter(e);
	if (s->kind == SOCK_KIND_LISTENER)
		r = request == FIONREAD ? -EINVAL : sys_ioctl(s->lst->kfd, request, arg);
	else
		r = s->kind == SOCK_KIND_CONN ? conn_ioctl(s, request, arg) : -EBADF;
	turn_leave(e);
	return r;
}

bool sock_get_nonblock(const struct sock *s)
{
	return s->nonblock;
}

void sock_set_nonblock(struct sock *s, bool on)
{
	s->nonblock = on;
}

bool sock_mode_changed(const struct sock *s)
{
	return s->nonblock != s->nonblock_given;
}

bool sock_is_listener(const struct sock *s)
{
	return s->kind == SOCK_KIND_LISTENER || (s->kind == SOCK_KIND_INHERITED && s->lst);
}

int sock_getsockname(struct sock *s, struct sockaddr *addr, socklen_t *len)
{
	struct engine *e = s->engine;
	int r = 0;
	engine_lock(e);
	if (s->kind == SOCK_KIND_LISTENER)
		r = sys_getsockname(s->lst->kfd, addr, len);
	else if (s->kind == SOCK_KIND_CONN && s->bound_again)
		r = sys_getsockname(s->port_fd, addr, len);
	else if (s->kind == SOCK_KIND_CONN)
		name_from_addr(s->engine, s->family, &s->flow.key.laddr, s->flow.key.lport, addr, len);
	else
		r = -EBADF;
	engine_unlock(e);
	return r;
}

void sock_note_client(const struct sock *s, struct candidate *c)
{
	c->was_client = true;
	c->client_addr = s->flow.key.laddr; /* neither changes */
	c->lost_port = s->flow.key.lport;
}

/* Linux's inet_getname. A reset that has arrived counts, so what is there is taken first. */
int sock_getpeername(struct sock *s, struct sockaddr *addr, socklen_t *len)
{
	struct engine *e = s->engine;
	int r = 0;
	turn_enter(e);
	enum tcp_state state = tcp_state(&s->tcp);
	if (s->kind != SOCK_KIND_CONN)
		r = s->kind == SOCK_KIND_LISTENER ? -ENOTCONN : -EBADF;
	else if (state == TCPS_SYN_SENT || state == TCPS_CLOSED || state == TCPS_TIME_WAIT)
		r = -ENOTCONN;
	else
		name_from_addr(s->engine, s->family, &s->flow.key.raddr, s->flow.key.rport, addr, len);
	turn_leave(e);
	return r;
}
