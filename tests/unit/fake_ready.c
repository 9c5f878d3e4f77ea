/*
 * The fake's readiness: a set has a second epoll with the hidden sockets of the fake engine, which is in the program's
 * epoll, or holds it.
 */
#include "fake_engine.h"

#include "ready/ready.h"
#include "base/fd.h"
#include "base/sys.h"
#include "socket/sock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* A registration of one of our sockets; the kernel's fds and undecided ones are in the program's epoll. */
struct reg {
	struct reg *next;
	struct epset *set;
	struct list *file, in_file;
	struct sock *s; /* NULL: undecided */
	int fd;
	struct epoll_event ev;
};

/* What a set is here: an epoll that holds the hidden fds, and is in the program's when that is polled, or holds it. */
struct hidden {
	struct hidden *next;
	struct epset *set;
	int fd;
	bool pollable;
};

static struct reg *regs;
static struct hidden *hiddens;
static pthread_mutex_t ready_lock = PTHREAD_MUTEX_INITIALIZER;

struct engine *engine_of_process(void)
{
	return NULL; /* a set of the fake's has none */
}

int sock_poll(struct sock_pollfd *fds, unsigned n, const struct timespec *timeout,
	      const sigset_t *mask)
{
	struct pollfd *p = calloc(n, sizeof *p);
	for (unsigned i = 0; i < n; i++)
		p[i] = (struct pollfd){fds[i].sock ? fds[i].sock->hidden : fds[i].fd, fds[i].events,
				       0};
	int r = sys_ppoll(p, n, timeout, mask);
	for (unsigned i = 0; i < n; i++)
		fds[i].revents = p[i].revents;
	free(p);
	return r;
}

static struct hidden *hidden_of(struct epset *set, bool make)
{
	for (struct hidden *h = hiddens; h; h = h->next)
		if (h->set == set)
			return h;
	if (!make)
		return NULL;
	struct hidden *h = calloc(1, sizeof *h);
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = set};
	*h = (struct hidden){.next = hiddens, .set = set, .fd = fd_move_high(sys_epoll_create1(EPOLL_CLOEXEC)), .pollable = set->polled};
	hiddens = h;
	if (h->pollable)
		sys_epoll_ctl(set->epfd, EPOLL_CTL_ADD, h->fd, &ev);
	else
		sys_epoll_ctl(h->fd, EPOLL_CTL_ADD, set->epfd, &ev);
	return h;
}

void epset_free(struct epset *set)
{
	pthread_mutex_lock(&ready_lock);
	for (struct reg **r = &regs; *r;)
		if ((*r)->set == set) {
			list_unlink(&(*r)->in_file);
			*r = (*r)->next;
		} else {
			r = &(*r)->next;
		}
	for (struct hidden **h = &hiddens; *h; h = &(*h)->next)
		if ((*h)->set == set) {
			fd_close((*h)->fd);
			*h = (*h)->next;
			break;
		}
	pthread_mutex_unlock(&ready_lock);
}

void epset_set_epfd(struct epset *set, int epfd)
{
	set->epfd = epfd;
}

void epset_note_kernel(struct epset *set)
{
}

int epset_probe(int epfd)
{
	int fd = sys_eventfd2(0, 0);
	int r = sys_epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL);
	sys_close(fd);
	return r == -ENOENT ? 0 : r;
}

void epset_note_polled(struct epset *set)
{
	/* epfd is in the hidden epoll already, so the hidden one cannot be in epfd: the fake swaps them round. */
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = set};
	pthread_mutex_lock(&ready_lock);
	struct hidden *h = hidden_of(set, false);
	set->polled = true;
	if (h && !h->pollable) {
		h->pollable = true;
		sys_epoll_ctl(h->fd, EPOLL_CTL_DEL, set->epfd, NULL);
		sys_epoll_ctl(set->epfd, EPOLL_CTL_ADD, h->fd, &ev);
	}
	pthread_mutex_unlock(&ready_lock);
}

/* Only the kernel's queue of a listener exists here. */
static int reg_ctl(struct reg *r, int op, struct epoll_event *ev)
{
	if (!r->s || r->s->listener)
		return sys_epoll_ctl(r->set->epfd, op, r->fd, ev);
	return sys_epoll_ctl(hidden_of(r->set, true)->fd, op, r->s->hidden, ev);
}

static void reg_free(struct reg *r)
{
	list_unlink(&r->in_file);
	for (struct reg **p = &regs; *p; p = &(*p)->next)
		if (*p == r) {
			*p = r->next;
			break;
		}
	if (r->s)
		__atomic_fetch_sub(&r->set->n_engine, 1, __ATOMIC_SEQ_CST);
	free(r);
}

static void reg_becomes(struct reg *r, struct sock *s)
{
	r->s = s;
	__atomic_fetch_add(&r->set->n_engine, 1, __ATOMIC_SEQ_CST);
}

static struct reg *reg_find(struct epset *set, struct list *file, int fd)
{
	for (struct reg *r = regs; r; r = r->next)
		if (r->set == set && r->file == file && r->fd == fd)
			return r;
	return NULL;
}

static struct reg *reg_new(struct epset *set, struct list *file, int fd, struct sock *s)
{
	struct reg *r = calloc(1, sizeof *r);
	*r = (struct reg){.next = regs, .set = set, .file = file, .fd = fd};
	list_push_back(file, &r->in_file);
	regs = r;
	if (s)
		reg_becomes(r, s);
	return r;
}

int epset_ctl(struct epset *set, int op, int fd, struct list *file, struct sock *s, struct epoll_event *ev)
{
	pthread_mutex_lock(&ready_lock);
	struct reg *r = reg_find(set, file, fd);
	int result = -EEXIST;
	if (op != EPOLL_CTL_ADD && op != EPOLL_CTL_MOD && op != EPOLL_CTL_DEL) {
		result = -EINVAL;
	} else if (!r && op != EPOLL_CTL_ADD) {
		result = -ENOENT;
	} else if (!r || op != EPOLL_CTL_ADD) {
		bool fresh = !r;
		if (fresh)
			r = reg_new(set, file, fd, s);
		result = reg_ctl(r, op, ev);
		r->ev = *ev;
		if ((fresh && result < 0) || op == EPOLL_CTL_DEL)
			reg_free(r);
	}
	bool kick = set->kernel_waiters && op != EPOLL_CTL_DEL && s;
	pthread_mutex_unlock(&ready_lock);
	if (kick) { /* threads in the kernel's wait look again */
		struct epoll_event mark = {.events = EPOLLIN | EPOLLET, .data.ptr = &regs};
		int event = fd_move_high(sys_eventfd2(1, 0));
		sys_epoll_ctl(set->epfd, EPOLL_CTL_ADD, event, &mark);
		while (set->kernel_waiters)
			sys_call(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
		fd_close(event);
	}
	return result;
}

static int hidden_wait(struct epset *set, struct epoll_event *evs, int max, const struct timespec *timeout, const sigset_t *mask)
{
	int ms = timeout ? timeout->tv_sec * 1000 + (timeout->tv_nsec + 999999) / 1000000 : -1;
	pthread_mutex_lock(&ready_lock);
	struct hidden *h = hidden_of(set, true);
	pthread_mutex_unlock(&ready_lock);
	int n = sys_epoll_pwait(h->pollable ? set->epfd : h->fd, evs, max, ms, mask);
	for (int i = 0; i < n; i++) {
		if (evs[i].data.ptr != set)
			continue;
		evs[i] = evs[--n];
		int more = sys_epoll_pwait(h->pollable ? h->fd : set->epfd, evs + n, max - n, 0, NULL);
		return n + (more > 0 ? more : 0);
	}
	return n;
}

int epset_wait(struct epset *set, int epfd, struct epoll_event *evs, int max, const struct timespec *timeout, const sigset_t *mask,
	       epset_kernel_wait *kernel_wait)
{
	if (epset_has_engine(set))
		return hidden_wait(set, evs, max, timeout, mask);
	__atomic_fetch_add(&set->kernel_waiters, 1, __ATOMIC_SEQ_CST);
	int n = epset_has_engine(set) ? 0 : kernel_wait(epfd, evs, max, timeout, mask);
	bool kicked = false;
	for (int i = 0; i < n; i++)
		kicked |= evs[i].data.ptr == (void *)&regs;
	__atomic_fetch_sub(&set->kernel_waiters, 1, __ATOMIC_SEQ_CST);
	return kicked || epset_has_engine(set) ? hidden_wait(set, evs, max, timeout, mask) : n;
}

/* ---- what happens to a registered file ---- */

#define EACH_OF(file, r)                                                                                                                   \
	list_for_each (pos_, tmp_, file)                                                                                                   \
		for (struct reg *r = container_of(pos_, struct reg, in_file); r; r = NULL)

bool registrations_are_stuck(struct list *file)
{
	return false;
}

void registrations_to_engine(struct list *file, struct sock *s)
{
	EACH_OF (file, r) {
		if (r->s)
			continue;
		reg_ctl(r, EPOLL_CTL_DEL, NULL);
		reg_becomes(r, s);
		reg_ctl(r, EPOLL_CTL_ADD, &r->ev);
	}
}

void registrations_to_kernel(struct list *file, int fd)
{
	EACH_OF (file, r) {
		if (r->s && !r->s->listener) {
			sys_epoll_ctl(hidden_of(r->set, true)->fd, EPOLL_CTL_DEL, r->s->hidden, NULL);
			sys_epoll_ctl(r->set->epfd, EPOLL_CTL_ADD, r->fd, &r->ev);
		}
		reg_free(r);
	}
}

void registrations_pass(struct list *file, int fd)
{
	registrations_to_kernel(file, fd);
}

void registrations_to_undecided(struct list *file, struct list *to, int fd)
{
	EACH_OF (file, r) {
		struct epset *set = r->set;
		struct epoll_event ev = r->ev;
		int number = r->fd;
		if (r->s && !r->s->listener)
			sys_epoll_ctl(hidden_of(set, true)->fd, EPOLL_CTL_DEL, r->s->hidden, NULL);
		else if (r->s)
			sys_epoll_ctl(set->epfd, EPOLL_CTL_DEL, r->fd, NULL);
		reg_free(r);
		epset_ctl(set, EPOLL_CTL_ADD, number, to, NULL, &ev);
	}
}

void registrations_number_moves(struct list *file, int fd, bool gone)
{
}

void registrations_drop(struct list *file)
{
	EACH_OF (file, r)
		reg_free(r);
}

struct kernel_wait *epset_handler_begins(void)
{
	return NULL;
}

void epset_handler_ends(struct kernel_wait *w)
{
	(void)w;
}

void ready_after_fork(void)
{
}

struct list *epset_inherited(struct epset *set)
{
	for (struct reg *r = regs; r; r = r->next)
		if (r->set == set && r->s && r->s->inherited)
			return r->file;
	return NULL;
}
