/*
 * fork: the parent's engine goes on serving; the child inherits references, not the engine.
 *
 * At fork a control socket (SEQPACKET) is made for the child, and every socket with an fd gets one reference of that
 * child: close in one process sends no FIN while another holds one. In the child each such socket is
 * SOCK_KIND_INHERITED; its first use asks the parent
 *   ADOPT id    → the connection as a kernel socket (SCM_RIGHTS), or an error;
 *   DROP id     → the child closed it unused (no answer);
 *   FORK        → a control socket for a child of the child, with the same references (SCM_RIGHTS).
 * The end of file drops what is left. A parent that exits hands over first, unasked (GIVE id). The parent's helper
 * thread answers; a child waits for an answer with a bound.
 *
 * A listener needs no asking: the child has the kernel's listening socket. When it first wants to accept, it claims the
 * port by itself (process/claim.c), alone or with whoever serves it then. Its references only say that somebody may
 * accept what the parent leaves behind.
 */
#include "socket/engine.h"
#include "socket/fallback.h"
#include "socket/leaving.h"
#include "socket/process_ops.h"
#include "socket/trace.h"
#include "socket/unseen.h"
#include "socket/listener.h"
#include "socket/fastopen.h"

#include "base/fd.h"
#include "base/fd_pass.h"
#include "base/log.h"
#include "base/sys.h"
#include "ip/pieces.h"
#include "kernel/ended.h"
#include "kernel/living.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#define ANSWER_TIMEOUT_S 5 /* a parent that is stopped: the connection is lost for the child */
#define REFS_MAX         (POOL_MAX_BYTES / sizeof(struct sock *))

enum fork_op { FORK_ADOPT = 1, FORK_DROP, FORK_FORK, FORK_GIVE };

struct fork_msg {
	uint32_t op, id;
	int32_t result; /* 0 or -errno; a descriptor comes along when it says 0 */
};

/* A process forked from us. */
struct fork_child {
	struct list node; /* engine.children */
	struct control control;
	struct sock **refs; /* one reference each; NULL: dropped */
	unsigned n_refs;
	/*
	 * what it asks for cannot be given before the handshake is complete: its request is left where it is, and
	 * nobody looks for others
	 */
	struct sock *early;
};

/* Where inherited sockets come from. */
struct fork_parent {
	struct list node; /* parents */
	int fd;           /* -1: there is no asking */
	int child_fd;     /* between prepare and parent/child: a control socket for our child, or -1 */
	bool gone;        /* its end of file was seen */
	unsigned n_socks;
};

static struct list parents = {&parents, &parents};

void (*engine_on_handed_over)(struct sock *s, int kernel_fd);

/* Between prepare and parent/child. */
static struct fork_child *pending_child;
static int pending_child_fd = -1;

/* `fd` negative: none goes along. */
static int send_msg(int ctl, const struct fork_msg *m, int fd)
{
	return fd_pass_send(ctl, m, sizeof *m, &fd, fd >= 0, 0);
}

/* 1: a message, *fd its descriptor or -1. 0: end of file. -errno. */
static int recv_msg(int ctl, struct fork_msg *m, int *fd, int flags)
{
	unsigned n_fds = 1;
	*fd = -1;
	ssize_t n = fd_pass_receive(ctl, m, sizeof *m, fd, &n_fds, flags);
	return n > 0 ? 1 : (int)n;
}

/* ---- the parent's side ---- */

static void child_ref_drop(struct engine *e, struct sock *s)
{
	/*
	 * What is kept for children stays until the last reference: the shim, or a call in progress, may not have
	 * followed yet.
	 */
	if (--s->child_refs == 0) {
		if (s->closed && s->kind == SOCK_KIND_CONN)
			stream_close(e, s, false);
	}
	sock_put(e, s);
}

static struct sock **child_ref(struct fork_child *c, uint32_t id)
{
	for (unsigned i = 0; i < c->n_refs; i++)
		if (c->refs[i] && c->refs[i]->id == id)
			return &c->refs[i];
	return NULL;
}

static void child_free(struct engine *e, struct fork_child *c)
{
	for (unsigned i = 0; i < c->n_refs; i++)
		if (c->refs[i])
			child_ref_drop(e, c->refs[i]);
	list_unlink(&c->node);
	control_del(e, &c->control);
	fd_close(c->control.fd);
	if (c->refs)
		engine_free(e, c->refs, c->n_refs * sizeof *c->refs);
	engine_free(e, c, sizeof *c);
}

static void on_child(struct engine *e, struct control *control);

static bool has_fd(const struct sock *s)
{
	return (s->kind == SOCK_KIND_CONN || s->kind == SOCK_KIND_LISTENER) && !s->closed && !s->listener;
}

static long make_pair(void *fds)
{
	return sys_socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds);
}

/* References for a new child to what `like` holds, or to every socket with an fd. NULL: none, or no memory. */
static struct fork_child *child_new(struct engine *e, const struct fork_child *like, int *child_end)
{
	unsigned n = 0, i = 0;
	int fds[2];
	if (like)
		n = like->n_refs;
	else
		list_for_each (pos, tmp, &e->socks)
			n += has_fd(container_of(pos, struct sock, node));
	if (!n || n > REFS_MAX)
		return NULL;
	struct fork_child *c = engine_alloc(e, sizeof *c);
	if (!c)
		return NULL;
	c->refs = engine_alloc(e, n * sizeof *c->refs);
	if (!c->refs || fd_make(make_pair, fds)) {
		if (c->refs)
			engine_free(e, c->refs, n * sizeof *c->refs);
		engine_free(e, c, sizeof *c);
		return NULL;
	}
	c->n_refs = n;
	if (like) {
		memcpy(c->refs, like->refs, n * sizeof *c->refs);
	} else {
		list_for_each (pos, tmp, &e->socks)
			if (has_fd(container_of(pos, struct sock, node)))
				c->refs[i++] = container_of(pos, struct sock, node);
	}
	c->control.ready = on_child;
	int fd = fd_move_high(fds[0]);
	if (control_add(e, &c->control, fd, POLLIN)) {
		fd_close(fd);
		sys_close(fds[1]);
		engine_free(e, c->refs, n * sizeof *c->refs);
		engine_free(e, c, sizeof *c);
		return NULL;
	}
	*child_end = fd_move_high(fds[1]);
	for (i = 0; i < n; i++)
		if (c->refs[i]) {
			sock_ref(c->refs[i]);
			c->refs[i]->child_refs++;
			if (c->refs[i]->lst)
				c->refs[i]->lst->mode_shared = true;
		}
	list_push_back(&e->children, &c->node);
	return c;
}

/*
 * The mode is everybody's who has the socket. Who made it sets it, before anybody has it: a child may change it at
 * once, and this process's shim follows only later.
 */
static void give_mode(struct sock *s, int fd)
{
	int is = sys_fcntl(fd, F_GETFL, 0); /* one that is still connecting was made so that we need not wait for it */
	int wanted = s->nonblock ? is | O_NONBLOCK : is & ~O_NONBLOCK;
	if (wanted != is)
		sys_fcntl(fd, F_SETFL, wanted);
	s->nonblock_given = s->nonblock;
}

int sock_give_kernel(struct engine *e, struct sock *s, const char *why, int *fd)
{
	if (s->kind == SOCK_KIND_CONN) {
		turn_end(e);
		int made = conn_handover_alone(e, s, why);
		if (made < 0) {
			made = conn_end(e, s);
			turn_end(e); /* its RST leaves; and `dirty` is in one list at a time */
			sock_unqueue(s);
		}
		if (made < 0)
			return made;
		give_mode(s, made);
		s->kept_fd = fd_move_high(made);
		if (!s->closed)
			list_push_back(&e->handed_over, &sock_ref(s)->dirty); /* told when the lock is free: fork_tell_shim */
	}
	if (s->kept_fd < 0)
		return -ECONNRESET;
	*fd = s->kept_fd;
	return 0;
}

static void child_request(struct engine *e, struct fork_child *c, const struct fork_msg *m)
{
	struct fork_msg reply = {.op = m->op, .id = m->id};
	struct sock **ref = child_ref(c, m->id);
	int fd = -1, close_fd = -1;
	if (m->op == FORK_FORK) {
		struct fork_child *grandchild = child_new(e, c, &close_fd);
		reply.result = grandchild ? 0 : -ENOMEM;
		fd = close_fd;
	} else if (!ref) {
		reply.result = -ENOENT;
	} else if (m->op == FORK_ADOPT) {
		reply.result = sock_give_kernel(e, *ref, "a forked process uses it", &fd);
	}
	if (m->op != FORK_DROP)
		send_msg(c->control.fd, &reply, fd);
	fd_close(close_fd);
	if (ref && (m->op == FORK_DROP || m->op == FORK_ADOPT)) {
		struct sock *s = *ref;
		*ref = NULL;
		child_ref_drop(e, s);
	}
}

/* The kernel takes no connection whose handshake is not complete, and one of Fast Open is accepted before that. */
static bool asks_too_early(struct engine *e, struct fork_child *c)
{
	struct fork_msg m;
	int fd, r = recv_msg(c->control.fd, &m, &fd, MSG_DONTWAIT | MSG_PEEK); /* no descriptor comes with what is looked for */
	fd_close(fd);
	struct sock **ref = r > 0 && m.op == FORK_ADOPT ? child_ref(c, m.id) : NULL;
	if (!ref || !(*ref)->fastopen_of)
		return false;
	c->early = *ref;
	control_del(e, &c->control);
	return true;
}

void fork_not_early(struct engine *e, struct sock *s)
{
	list_for_each (pos, tmp, &e->children) {
		struct fork_child *c = container_of(pos, struct fork_child, node);
		if (c->early != s)
			continue;
		c->early = NULL;
		control_add(e, &c->control, c->control.fd, POLLIN);
	}
}

static void on_child(struct engine *e, struct control *control)
{
	struct fork_child *c = container_of(control, struct fork_child, control);
	struct fork_msg m;
	int fd, r;
	if (asks_too_early(e, c))
		return;
	r = recv_msg(control->fd, &m, &fd, MSG_DONTWAIT);
	if (r > 0)
		child_request(e, c, &m);
	else if (r != -EAGAIN)
		child_free(e, c);
}

void fork_tell_shim(struct engine *e)
{
	for (struct list *pos; e->handed_over.next && (pos = list_first(&e->handed_over));) {
		struct sock *s = container_of(pos, struct sock, dirty);
		list_unlink(pos);
		int fd = s->kept_fd;
		if (engine_on_handed_over && fd >= 0) {
			e->telling++;
			engine_unlock(e);
			engine_on_handed_over(s, fd);
			engine_lock(e);
			e->telling--;
		}
		sock_put(e, s);
	}
}

int sock_handed_over(struct sock *s)
{
	struct engine *e = s->engine;
	engine_lock(e);
	int fd = s->kind == SOCK_KIND_DEAD && s->kept_fd >= 0 ? fd_dup(s->kept_fd) : -EBADF;
	engine_unlock(e);
	return fd;
}

void fork_give_all(struct engine *e)
{
	list_for_each (pos, tmp, &e->children) {
		struct fork_child *c = container_of(pos, struct fork_child, node);
		for (unsigned i = 0; i < c->n_refs; i++) {
			struct sock *s = c->refs[i];
			int fd;
			if (!s || s->kind == SOCK_KIND_LISTENER || sock_give_kernel(e, s, "a forked process uses it", &fd))
				continue;
			struct fork_msg m = {.op = FORK_GIVE, .id = s->id};
			send_msg(c->control.fd, &m, fd);
		}
	}
}

/* ---- fork itself ---- */

static int ask(struct engine *e, struct fork_parent *p, const struct fork_msg *m, struct fork_msg *reply, int *fd);

/* A child would have the numbers of such a connection, and neither the engine's nor the kernel's socket behind them. */
static bool is_told(const struct engine *e)
{
	return !e->telling && (!e->handed_over.next || list_empty(&e->handed_over));
}

bool engine_fork_prepare(bool anyway)
{
	struct engine *e = engine_of_process();
	engine_lock(e);
	if (!anyway && !is_told(e)) {
		engine_unlock(e);
		return false;
	}
	bool used = e->pool.memory.alloc;
	if (used) {
		rejudge_pause(e); /* the child would have its descriptors, and half of what it writes */
		turn_begin(e);
		process_ops->before_fork(e);
		unseen_settle(e); /* the child has no way to it */
		turn_end(e);
	}
	engine_make_budget_table(e);
	fallback_fork_prepare(); /* not before: a turn may have to note something */
	if (!used)
		return true;
	if (e->up) {
		pending_child = child_new(e, NULL, &pending_child_fd);
		drive_helper_wake(&e->drive);
	}
	list_for_each (pos, tmp, &parents) { /* each of our own parents gives a control socket for our child */
		struct fork_parent *p = container_of(pos, struct fork_parent, node);
		struct fork_msg m = {.op = FORK_FORK}, reply;
		p->child_fd = -1;
		if (ask(e, p, &m, &reply, &p->child_fd) == 0)
			p->child_fd = fd_move_high(p->child_fd);
	}
	return true;
}

static void close_child_fds(void)
{
	fd_close(pending_child_fd);
	pending_child = NULL;
	pending_child_fd = -1;
	list_for_each (pos, tmp, &parents) {
		struct fork_parent *p = container_of(pos, struct fork_parent, node);
		fd_close(p->child_fd);
		p->child_fd = -1;
	}
}

void engine_fork_parent(pid_t child)
{
	struct engine *e = engine_of_process();
	if (child < 0 && pending_child)
		child_free(e, pending_child);
	close_child_fds();
	fallback_fork_done();
	engine_unlock(e);
}

static void forget_children(struct engine *e)
{
	list_for_each (pos, tmp, &e->children) {
		struct fork_child *c = container_of(pos, struct fork_child, node);
		list_unlink(pos);
		fd_close(c->control.fd);
	}
}

/* What the child keeps of a socket of the parent's engine: its name, and whom to ask. */
static void become_inherited(struct engine *e, struct sock *s, struct fork_parent *p)
{
	if (s->kind == SOCK_KIND_INHERITED) /* the grandparent's: its control socket is a new one */
		return;
	bool keep = has_fd(s) && (p || s->lst);
	sock_unqueue(s);
	list_unlink(&s->accept_node);
	watches_clear(&s->watches); /* those of threads that are not here */
	s->listener = s->fastopen_of = NULL;
	s->dest = NULL; /* forget_dests */
	s->live = s->in_demux = s->exact = false;
	s->living = 0;
	s->child_refs = 0;
	s->timer.index = 0;
	fd_close(s->port_fd);
	fd_close(s->kept_fd);
	s->port_fd = s->kept_fd = -1;
	if (s->lst) {
		kernel_tw_free(&s->lst->kernel_tw);
		fd_close(s->lst->queue_fd); /* an epoll is shared by both processes */
		s->lst->queue_fd = -1;
		s->lst->n_waiting = 0;
		s->lst->seen_us = 0;
		s->lst->claimed = s->lst->asleep = false;
		s->lst->from_elsewhere = true;
	}
	s->claim = NULL;
	s->in_group = false;
	if (keep) {
		s->kind = SOCK_KIND_INHERITED;
		s->parent = p;
		if (p)
			p->n_socks++;
		e->n_inherited++;
	} else {
		s->kind = SOCK_KIND_DEAD;
		list_unlink(&s->node);
		if (s->lst) {
			list_unlink(&s->lst->claim_node);
			s->lst->claim = NULL;
		}
	}
}

static void forget_dests(struct engine *e)
{
	for (unsigned i = 0; i < DEST_BUCKETS; i++)
		for (struct dest *d; (d = e->dests[i]);) {
			e->dests[i] = d->hash_next;
			engine_free(e, d, sizeof *d);
		}
}

static void child_close_engine(struct engine *e)
{
	living_forget(e->living);
	e->living = NULL;
	e->living_tried = false;
	ifaces_forget(e);
	judged_stop(e);
	rejudge_forget(e);
	netstate_forget(e->net);
	namespace_close(e);
	ports_forget(e->ports);
	e->net = NULL;
	e->ports = NULL;
	e->steer = NULL;
	timers_fini(&e->timers);
	timers_init(&e->timers);
	list_init(&e->dirty);
	list_init(&e->stamps_due);
	list_init(&e->stalled);
	list_init(&e->held);
	time_waits_fini(&e->time_waits);
	partings_forget(e);
	pieces_free(e->pieces);
	e->pieces = NULL;
	taken_ports_forget(e);
	list_init(&e->exception_list);
	forget_dests(e);
	e->pmtus = NULL;
	fd_close(e->diag_fd > 0 ? e->diag_fd : -1);
	e->diag_fd = 0;
	memset(e->counters, 0, sizeof e->counters);
	memset(e->ip_fates, 0, sizeof e->ip_fates);
	e->n_conns = 0;
	e->up = false;
	e->up_failed_us = 0;
}

static struct fork_parent *parent_new(struct engine *e, int fd)
{
	struct fork_parent *p = fd >= 0 ? engine_alloc(e, sizeof *p) : NULL;
	if (!p) {
		fd_close(fd);
		return NULL;
	}
	p->fd = fd;
	p->child_fd = -1;
	list_push_back(&parents, &p->node);
	return p;
}

void engine_fork_child(void)
{
	struct engine *e = engine_of_process();
	fd_after_fork();
	trace_after_fork();
	if (!e->pool.memory.alloc) {
		fallback_fork_done();
		engine_unlock(e);
		return;
	}
	helper_after_fork(e);
	if (e->exiting) { /* the thread that ends the parent is not here */
		e->exiting = false;
		e->kept_out = e->kept_out == exit_kept_out ? NULL : e->kept_out;
	}
	forget_children(e);
	control_after_fork(e);
	/* Never the parent's own control sockets: it would lose its answers to us. */
	list_for_each (pos, tmp, &parents) {
		struct fork_parent *p = container_of(pos, struct fork_parent, node);
		fd_close(p->fd);
		p->fd = p->child_fd;
		p->child_fd = -1;
	}
	if (e->up) {
		struct fork_parent *p = parent_new(e, pending_child_fd);
		pending_child_fd = -1;
		list_for_each (pos, tmp, &e->socks)
			become_inherited(e, container_of(pos, struct sock, node), p);
		list_init(&e->listeners);
		list_init(&e->draining);
		list_init(&e->deferring);
		requeue_after_fork(e);
		child_close_engine(e);
	} else if (e->net) {
		netstate_forget(e->net);
		e->net = NULL;
	}
	process_ops->after_fork(e);
	close_child_fds();
	fallback_fork_done();
	engine_unlock(e);
}

/* ---- the child's side ---- */

bool sock_is_inherited(const struct sock *s)
{
	return s->kind == SOCK_KIND_INHERITED;
}

/* A connection that the parent gave unasked, because it exits. */
static void on_given(struct engine *e, const struct fork_msg *m, int fd)
{
	list_for_each (pos, tmp, &e->socks) {
		struct sock *s = container_of(pos, struct sock, node);
		if (s->kind == SOCK_KIND_INHERITED && s->id == m->id && s->kept_fd < 0) {
			s->kept_fd = fd_move_high(fd);
			return;
		}
	}
	if (fd >= 0)
		sys_close(fd);
}

/* As recv_msg; waits for ANSWER_TIMEOUT_S. What comes must not be lost for want of a number. */
static int await_msg(int ctl, struct fork_msg *m, int *fd)
{
	struct timespec wait = {.tv_sec = ANSWER_TIMEOUT_S};
	struct pollfd p = {.fd = ctl, .events = POLLIN};
	unsigned n_fds = 1;
	*fd = -1;
	while (sys_ppoll(&p, 1, &wait, NULL) == -EINTR)
		;
	ssize_t n = fd_pass_receive_surely(ctl, m, sizeof *m, fd, &n_fds, MSG_DONTWAIT);
	return n > 0 ? 1 : (int)n;
}

/*
 * Sends and waits for the answer; what was given meanwhile is put aside. 0, or -errno: the parent is gone, or does not
 * answer.
 */
static int ask(struct engine *e, struct fork_parent *p, const struct fork_msg *m, struct fork_msg *reply, int *fd)
{
	*fd = -1;
	if (p->fd < 0)
		return p->gone ? -ECONNRESET : -ETIMEDOUT;
	int err = send_msg(p->fd, m, -1);
	(void)err; /* a parent that is gone may have left messages */
	for (;;) {
		int r = await_msg(p->fd, reply, fd);
		p->gone = r == 0 || r == -ECONNRESET;
		if (r <= 0)
			return r < 0 ? r : -ECONNRESET;
		if (reply->op == m->op && reply->id == m->id)
			return 0;
		if (reply->op == FORK_GIVE)
			on_given(e, reply, *fd);
		else if (*fd >= 0)
			sys_close(*fd);
	}
}

/* It is no longer the parent's; with the last one the control socket goes. */
static void leave_parent(struct engine *e, struct sock *s)
{
	struct fork_parent *p = s->parent;
	s->parent = NULL;
	e->n_inherited--;
	if (p && --p->n_socks == 0) {
		list_unlink(&p->node);
		fd_close(p->fd);
		engine_free(e, p, sizeof *p);
	}
}

static void inherited_end(struct engine *e, struct sock *s)
{
	leave_parent(e, s);
	s->kind = SOCK_KIND_DEAD;
	sock_put(e, s); /* the engine's reference, as sock_retire would */
}

static int adopt_conn(struct engine *e, struct sock *s)
{
	struct fork_msg m = {.op = FORK_ADOPT, .id = s->id}, reply;
	static const struct iovec nothing[2];
	int fd = -1;
	if (s->kept_fd < 0)
		ask(e, s->parent, &m, &reply, &fd);
	if (s->kept_fd >= 0) { /* given before, or while we asked */
		if (fd >= 0)
			sys_close(fd);
		fd = fd_dup(s->kept_fd);
	} else if (fd < 0) { /* the parent is gone and its connections with it, or it does not answer */
		fd = ended_socket(s->family, nothing, ECONNRESET);
		if (fd >= 0)
			give_mode(s, fd);
	}
	s->nonblock_given = s->nonblock; /* what this process remembers is from before the fork */
	handover_remember(&s->flow.key, "a process made it that forked this one");
	inherited_end(e, s);
	return fd;
}

/*
 * The parent need not know who accepts from its socket, but that one less may. Told last: until this process is a
 * member, what the parent leaves must be for somebody.
 */
static void leave_parents_listener(struct engine *e, struct sock *s)
{
	struct fork_msg m = {.op = FORK_DROP, .id = s->id};
	if (s->parent && s->parent->fd >= 0)
		send_msg(s->parent->fd, &m, -1);
	leave_parent(e, s);
}

static void becomes_listener(struct engine *e, struct sock *s)
{
	struct listener *lst = s->lst;
	s->kind = SOCK_KIND_LISTENER;
	list_init(&lst->accept_queue);
	list_init(&lst->embryos);
	list_init(&lst->deferred);
	list_init(&lst->defers);
	list_init(&lst->node);
	lst->n_accept = lst->n_embryonic = lst->fastopen.pending = 0;
	lst->policy = NULL;
	lst->defer_us = kernel_int(lst->kfd, IPPROTO_TCP, TCP_DEFER_ACCEPT) * USEC_PER_SEC; /* where it stays the kernel's, too */
	process_ops->adopts(e, s);
}

void listener_stays_kernels(struct engine *e, struct sock *s)
{
	becomes_listener(e, s);
	process_ops->shares(e, s); /* who serves it must not be alone any more */
	leave_parents_listener(e, s);
}

static void serve_listener(struct engine *e, struct sock *s)
{
	char why[160];
	struct listener *lst = s->lst;
	lst->candidate.shared = true; /* both processes may have set options since */
	int err = listener_serve(e, lst->kfd, &lst->candidate, &lst->addr, lst->port, why, sizeof why);
	if (err) {
		engine_note_fallback("a listener inherited by fork", why);
		process_ops->shares(e, s);
		return;
	}
	if (lst->candidate.adopted && options_refused_listener(e, lst->kfd, &lst->candidate, why, sizeof why)) {
		engine_note_fallback("a listener from elsewhere", why);
		process_ops->shares(e, s);
		return;
	}
	lst->policy = steer_listener_new(e->steer, lst->port);
	err = lst->policy ? options_take(e, lst->kfd, &lst->candidate, s, &lst->options) : -ENOMEM;
	if (!err)
		err = options_for_accepted(s);
	fastopen_listen(e, s, lst->kfd);
	if (!err)
		err = listener_claim(e, s);
	if (err)
		listener_note_fallback(s, err);
}

static int adopt_listener(struct engine *e, struct sock *s)
{
	becomes_listener(e, s);
	serve_listener(e, s);
	leave_parents_listener(e, s);
	return 0;
}

void listeners_adopt(struct engine *e)
{
	list_for_each (pos, tmp, &e->socks) {
		struct sock *s = container_of(pos, struct sock, node);
		if (s->kind == SOCK_KIND_INHERITED && s->lst)
			adopt_listener(e, s);
	}
}

void sock_share(struct sock *l)
{
	struct engine *e = l->engine;
	turn_enter(e);
	turn_end(e); /* what is due goes out before connections are given away */
	if (l->kind == SOCK_KIND_LISTENER || (l->kind == SOCK_KIND_INHERITED && l->lst))
		process_ops->shares(e, l);
	turn_leave(e);
}

void sock_pass(struct sock *l)
{
	struct engine *e = l->engine;
	turn_enter(e);
	if (l->lst && (l->kind == SOCK_KIND_LISTENER || l->kind == SOCK_KIND_INHERITED))
		process_ops->passes(e, l);
	turn_leave(e);
}

int sock_adopt(struct sock *s)
{
	struct engine *e = s->engine;
	int r;
	engine_lock(e);
	turn_begin(e);
	if (s->kind != SOCK_KIND_INHERITED)
		r = s->kind == SOCK_KIND_LISTENER ? 0 : -EBADF;
	else
		r = s->lst ? adopt_listener(e, s) : adopt_conn(e, s);
	turn_end(e);
	engine_unlock(e);
	return r;
}

/* close of an inherited socket that was never used. */
void inherited_close(struct engine *e, struct sock *s)
{
	struct fork_msg m = {.op = FORK_DROP, .id = s->id};
	if (s->parent && s->parent->fd >= 0)
		send_msg(s->parent->fd, &m, -1);
	if (s->lst) {
		fd_close(s->lst->kfd);
		process_ops->detach(e, s);
	}
	inherited_end(e, s);
}
