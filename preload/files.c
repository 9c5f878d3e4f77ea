/*
 * The life of a file: seen at socket(), decided at listen or connect, dup'ed, closed.
 *
 * Owns: the placeholder, one AF_UNIX socketpair per process whose first half has a full send buffer. Dups of that half
 * are the fds of accepted connections: the kernel gives the lowest free number, EMFILE is right, fstat says socket, and
 * nothing polls ready. The second half stays open, or the first would be at its end. Order at a close: the table
 * forgets the number before the kernel frees it, or another thread could get the number in between and lose its new
 * entry. In between the number is on its way out (fdtable.h). While a wait in another thread still uses the last number
 * of an epoll, a dup in the high range stays open for it.
 */
#include "shim.h"

#include <fcntl.h>

#include "base/fd.h"

bool shim_in_child;
_Atomic bool shim_has_sockets;

static _Atomic int placeholder_fd = -1;

static int placeholder_make(void)
{
	static const char byte;
	int pair[2], small = 1;
	int r = sys_socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair);
	if (r < 0)
		return r;
	sys_setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
	while (sys_write(pair[0], &byte, 1) == 1)
		;
	fd_move_high(pair[1]); /* stays open: without it the first half would be at its end */
	placeholder_fd = fd_move_high(pair[0]);
	return placeholder_fd < 0 ? placeholder_fd : 0;
}

static int placeholder_get(void)
{
	int r = 0;
	if (placeholder_fd >= 0)
		return 0;
	fdtable_lock();
	if (placeholder_fd < 0)
		r = placeholder_make();
	fdtable_unlock();
	return r;
}

static void file_install(int fd, struct file *f)
{
	bool ok;
	if (!f)
		return;
	struct file *old = fdtable_swap(fd, f, &ok);
	if (old)
		file_put(old);
	if (!ok)
		file_put(f);
}

void file_note_candidate(int fd, int family, uint8_t kept)
{
	if (!shim_has_sockets) {
		shim_has_sockets = true;
		process_note_socket();
	}
	struct file *f = file_new(FILE_CANDIDATE);
	if (f) {
		f->candidate.family = family;
		f->kept = kept;
	} else {
		reuse_drop(kept);
	}
	file_install(fd, f);
}

void file_note_made(int fd, int family, uint8_t kept, bool nonblock, bool kernel_nonblock)
{
	struct call c;
	file_note_candidate(fd, family, kept);
	while (!undecided_hold(&c, fd))
		;
	if (!c.file)
		return;
	file_set_nonblock(c.file, kernel_nonblock);
	if (nonblock != kernel_nonblock && !undecided_set_nonblock(c.file, nonblock)) {
		kernel_fd_set_nonblock(fd, nonblock);
		file_set_nonblock(c.file, nonblock);
	}
	undecided_let_go(&c);
}

/* Once, though several threads may be here. */
static void lose_keeper(struct file *f)
{
	reuse_drop(__atomic_exchange_n(&f->kept, 0, __ATOMIC_ACQ_REL));
}

void file_used(struct file *f)
{
	if (f->kind == FILE_CANDIDATE) {
		undecided_settle(f);
		lose_keeper(f);
	}
	f->candidate.used = true;
}

void fd_used(int fd)
{
	struct call c;
	while (!undecided_hold(&c, fd))
		;
	if (c.file) {
		file_used(c.file);
		undecided_let_go(&c);
	} else if (call_hold(&c, fd)) {
		c.file->candidate.used = true;
		call_let_go(&c);
	}
}

void file_set_nonblock(struct file *f, bool on)
{
	f->candidate.nonblock_known = true;
	f->candidate.nonblock = f->candidate.kernel_nonblock = on;
}

static bool candidate_is_nonblock(const struct candidate *c, int fd)
{
	return c->nonblock_known && !c->shared ? c->nonblock : sys_fcntl(fd, F_GETFL, 0) & O_NONBLOCK;
}

/* The table's lock is held, and none is seized. */
void files_touched(void)
{
	for (int fd = fdtable_next(0); fd >= 0; fd = fdtable_next(fd + 1)) {
		struct file *f = fdtable_peek(fd);
		if (f && f->kind == FILE_CANDIDATE)
			undecided_settle(f);
		if (f)
			f->candidate.shared = true;
	}
}

void file_note_epoll(int fd)
{
	struct file *f = file_new(FILE_EPOLL);
	if (f)
		f->epset.epfd = fd;
	file_install(fd, f);
}

/* ---- numbers ---- */

/* An epset uses the kernel's epoll by its number. */
static void tell_kernel_fd(struct file *f, int fd)
{
	if (f->kind == FILE_EPOLL)
		epset_set_epfd(&f->epset, fd);
}

/*
 * The number loses its file, which is returned with the number's reference, and is on its way out; NULL: nothing was
 * there, and it is on its way only where `empty`. This thread is inside then, and the caller leaves.
 */
static struct file *number_take(int fd, bool empty, uintptr_t *mark)
{
	struct file *f, *busy;
	bool may_wait = !engine_inside; /* for a number that another thread has on its way; who may not finds nothing there */
	engine_enter();
	while (!(f = fdtable_take(fd, empty, mark, &busy)) && busy && (may_wait || !fdtable_is_mark(busy))) {
		engine_leave();
		if (fdtable_is_mark(busy))
			fdtable_peek(fd);
		else
			file_await(busy);
		engine_enter();
	}
	if (!f)
		return NULL;
	registrations_number_moves(&f->registrations, fd, true);
	if (f->numbers > 0) {
		tell_kernel_fd(f, f->fd);
	} else if (f->kind == FILE_EPOLL && f->refs > 1) {
		if (f->parked_fd < 0)
			f->parked_fd = fd_copy_high(fd);
		tell_kernel_fd(f, f->parked_fd);
	}
	return f;
}

/* The number has `old` again, which number_take took, or nothing: dup2 has failed. */
static void number_back(int fd, struct file *old)
{
	if (!old)
		return;
	registrations_number_moves(&old->registrations, fd, false);
	tell_kernel_fd(old, fd);
	file_install(fd, old);
}

static void ending_undo(struct undo *u)
{
	file_put(container_of(u, struct call, undo)->file);
}

/*
 * The last step of a close, within which no handler may jump away before it: what the number held goes. Where that
 * waits (SO_LINGER), handlers run meanwhile.
 */
static int number_end(struct file *f)
{
	struct call c = {.file = f};
	int r = 0;
	if (f && f->kind == FILE_SOCK && sock_lingers(f->sock)) {
		undo_push(&c.undo, ending_undo);
		engine_leave();
		undo_pop(&c.undo);
		return file_put(f);
	}
	if (f)
		r = file_put(f);
	engine_leave();
	return r;
}

int file_close(int fd)
{
	struct call undecided;
	if (!fdtable_peek(fd))
		return sys_close(fd);
	while (!undecided_hold(&undecided, fd))
		;
	uintptr_t mark;
	struct file *f = number_take(fd, false, &mark);
	int closed = sys_close(fd);
	fdtable_left(fd, mark);
	int released = number_end(f); /* may wait: the number is free by then, as with the kernel */
	undecided_let_go(&undecided);
	return closed < 0 || undecided.file ? closed : released;
}

int fd_created_slow(int fd)
{
	int saved = errno;
	struct file *f = fdtable_swap(fd, NULL, NULL);
	if (f) {
		tell_kernel_fd(f, f->numbers > 0 ? f->fd : -1);
		registrations_number_moves(&f->registrations, fd, true);
		file_put(f);
	}
	errno = saved;
	return fd;
}

/* `to` leads to the same as `fd`, which leads to `f`. False: it does not any more. */
static bool install_same(int fd, int to, struct file *f)
{
	struct file *now = fdtable_get(fd);
	if (now == f)
		file_install(to, f);
	else if (now)
		file_put(now);
	return now == f;
}

/* An epoll's: the number in the kernel's table leads to it already. */
void file_gets_number(struct file *f, int fd)
{
	file_install(fd, f);
	tell_kernel_fd(f, fd);
}

/* By the system call `nr`. -EAGAIN: `fd` leads elsewhere by now. `held` is let go. */
static int dup_held(struct call *held, int fd, long nr, long b, long c)
{
	struct file *f = held->file;
	file_seize_to_copy(f);
	int to = fdtable_peek(fd) == f ? sys_call(nr, fd, b, c, 0, 0, 0) : -EAGAIN;
	if (to >= 0 && !install_same(fd, to, f)) {
		if (nr != SYS_dup3)
			sys_close(to);
		to = -EAGAIN;
	}
	file_unseize(f);
	call_let_go(held);
	return to;
}

/*
 * A number for what `fd` leads to. Another thread that hands the file to the kernel meanwhile would not know the new
 * number, and leave the placeholder there; one that closes `fd` would let the copy be of something else: so the file is
 * seized. `fd` may be closed, and opened anew: then it is looked up again. -EAGAIN: `fd` is on its way out, and this
 * thread, which has a number of its own on the way, must not wait for it.
 */
int file_dup(int fd, long nr, long b, long c)
{
	struct call held;
	int to;
	do {
		while (call_hold(&held, fd))
			if ((to = dup_held(&held, fd, nr, b, c)) != -EAGAIN)
				return to;
		if (fdtable_is_leaving(fd) && engine_inside)
			return -EAGAIN;
	} while (fdtable_is_leaving(fd));
	to = sys_call(nr, fd, b, c, 0, 0, 0);
	if (to >= 0)
		adopt_duped(fd, fd_created(to));
	return to;
}

/*
 * What dup2 replaces, where its last close may wait: a socket of the kernel's that lingers, a device that drains. Linux
 * lets other threads use the number meanwhile, and the caller alone waits. So an internal descriptor keeps it until the
 * number is the new file's.
 *
 * A child has no part in it. But the child is not told whether its parent's close had begun when it was forked, which
 * frees the descriptor at once; so it looks what is there.
 */
struct replaced {
	struct list node; /* of `replaceds`; table's lock */
	int fd;           /* -1: nothing is kept */
	dev_t dev;
	ino_t ino;
};

static struct list replaceds = {&replaceds, &replaceds};

/*
 * Inside, until replaced_end: so no handler jumps away. Without a descriptor the number is on its way out until the
 * close is over.
 */
static void replaced_keep(struct replaced *r, int to)
{
	struct stat st;
	r->fd = -1;
	if (sys_fstat(to, &st) < 0 || !(S_ISSOCK(st.st_mode) || S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)))
		return;
	r->dev = st.st_dev;
	r->ino = st.st_ino;
	fdtable_lock();
	r->fd = fd_copy_high(to);
	if (r->fd >= 0)
		list_push_back(&replaceds, &r->node);
	fdtable_unlock();
}

static void replaced_end(struct replaced *r)
{
	if (r->fd < 0)
		return;
	/*
	 * a signal ends its wait, as with the kernel, and its handler runs when this thread leaves. The number is
	 * another descriptor's meanwhile
	 */
	fd_close(r->fd);
	fdtable_lock();
	list_unlink(&r->node);
	fdtable_unlock();
}

/* In the child; the table's lock is held. */
static void replaced_forget(struct replaced *r)
{
	struct stat st;
	if (sys_fstat(r->fd, &st) == 0 && st.st_dev == r->dev && st.st_ino == r->ino)
		fd_close(r->fd);
	list_unlink(&r->node);
}

/*
 * dup3(fd, to) where the table knows one of them; flags as dup3. Two files are not seized at once: `to` loses its own
 * first, which nobody decides by that number then. `to` is on its way out until it is a copy. Two threads may copy two
 * numbers to each other: so who meets another number on its way out gives back its own, and waits.
 */
int file_dup_over(int fd, int to, int flags)
{
	int r;
	uintptr_t mark;
	struct file *old;
	struct replaced replaced;
	do {
		struct call undecided;
		fdtable_peek(fd);
		r = sys_fcntl(fd, F_GETFD, 0);
		if (r < 0)
			return r;
		while (!undecided_hold(&undecided, to))
			;
		old = number_take(to, true, &mark);
		undecided_let_go(&undecided);
		replaced_keep(&replaced, to);
		r = file_dup(fd, SYS_dup3, to, flags);
		if (r < 0) {
			number_back(to, old);
			old = NULL;
		}
		fdtable_left(to, mark);
		replaced_end(&replaced);
		if (r == -EAGAIN)
			engine_leave();
	} while (r == -EAGAIN);
	number_end(old);
	return r;
}

/* ---- the end ---- */

/* The socket last: a close that waits (SO_LINGER) may be left by a handler that jumps away. */
int file_release(struct file *f)
{
	struct sock *s = f->sock;
	registrations_drop(&f->registrations);
	reuse_end(f);
	if (f->kind == FILE_EPOLL)
		epset_free(&f->epset);
	fd_close(f->parked_fd);
	file_free(f);
	return s ? sock_close(s) : 0;
}

/* ---- deciding ---- */

static bool is_undecided(int fd)
{
	struct file *f = shim_on() ? fdtable_peek(fd) : NULL;
	return f && f->kind == FILE_CANDIDATE;
}

/* Flags that a socket keeps and does not heed. Where the program changed some, it did more than the shim notes. */
static int status_of(const struct candidate *c, int fd)
{
	return c->used || c->shared || c->adopted || !c->nonblock_known ? sys_fcntl(fd, F_GETFL, 0) & STATUS_KEPT : 0;
}

static void candidate_becomes(struct file *f, struct sock *s, int fd, bool listener)
{
	int status = status_of(&f->candidate, fd);
	fdtable_lock();
	f->status = status;
	f->sock = s;
	f->fd = fd;
	f->listener = listener;
	f->kind = FILE_SOCK;
	fdtable_unlock();
	registrations_to_engine(&f->registrations, s);
}

void file_forget(struct file *f)
{
	undecided_settle(f);
	f->kind = FILE_KERNEL;
	for (int n = fdtable_next(0); n >= 0; n = fdtable_next(n + 1))
		if (fdtable_peek(n) == f && fdtable_swap(n, NULL, NULL) == f) {
			adopt_never(n);
			file_put(f); /* not the last: the caller has one */
		}
}

void file_forget_candidate(int fd)
{
	struct call c;
	while (!undecided_hold(&c, fd))
		;
	if (c.file) {
		candidate_leaves_role(&c.file->candidate, fd);
		file_forget(c.file);
	}
	undecided_let_go(&c);
}

/* It is in an epoll by a number that was closed since: the kernel will go on reporting it there. */
static bool must_stay(struct file *f)
{
	if (!registrations_are_stuck(&f->registrations))
		return false;
	engine_note_fallback("a socket", "registered in an epoll under a number that was closed since");
	return true;
}

int file_listen(int fd, int backlog)
{
	struct call c;
	struct sock *s = NULL;
	if (is_undecided(fd))
		uring_in_use(false); /* sees to it that the engine refuses. Before the seizure: it may hand over all that there is */
	if (!undecided_hold_looked(&c, fd, USE_PLAINLY))
		return FILE_AGAIN;
	struct file *f = c.file;
	if (!f)
		return SOCK_KERNEL;
	undecided_settle(f);
	lose_keeper(f);
	int r = must_stay(f) ? SOCK_KERNEL : sock_decide_listen(fd, &f->candidate, backlog, &s);
	if (r == 0) {
		placeholder_get(); /* now: accept may come when the program has a single number left */
		candidate_becomes(f, s, fd, true);
	} else if (r == SOCK_KERNEL) {
		candidate_leaves_role(&f->candidate, fd);
		file_forget(f);
	}
	undecided_let_go(&c);
	return r;
}

int file_given(int fd, int backlog)
{
	struct call c;
	struct sock *s = NULL;
	if (!undecided_hold(&c, fd))
		return FILE_AGAIN;
	struct file *f = c.file;
	if (!f)
		return SOCK_KERNEL;
	undecided_settle(f);
	lose_keeper(f);
	int r = sock_decide_given(fd, &f->candidate, backlog, &s);
	if (r == 0)
		candidate_becomes(f, s, fd, true);
	undecided_let_go(&c);
	return r;
}

/* The file is seized. */
static int decide_connect(struct file *f, int fd, const struct sockaddr *addr, socklen_t len, bool fastopen, bool nonblock)
{
	struct sock *s = NULL;
	if (must_stay(f)) {
		file_forget(f);
		return SOCK_KERNEL;
	}
	f->candidate.home = f->candidate.family && !f->candidate.adopted && !f->candidate.shared && !__atomic_load_n(&shim_left_netns, __ATOMIC_RELAXED);
	int r = sock_decide_connect(fd, &f->candidate, addr, len, nonblock, fastopen, &s);
	if (r == 0)
		candidate_becomes(f, s, fd, false);
	return r;
}

int file_connect(struct call *c, int fd, const struct sockaddr *addr, socklen_t len, bool fastopen, bool *nonblock)
{
	if (is_undecided(fd))
		uring_in_use(true); /* before the seizure, as in file_listen */
	if (!undecided_hold_looked(c, fd, USE_PLAINLY))
		return FILE_AGAIN;
	if (!c->file)
		return SOCK_KERNEL;
	*nonblock = candidate_is_nonblock(&c->file->candidate, fd);
	struct candidate *known = &c->file->candidate;
	int r = known->kernel_connects ? SOCK_KERNEL : decide_connect(c->file, fd, addr, len, fastopen, *nonblock);
	if (r == SOCK_KERNEL)
		known->kernel_connects++; /* kernel_connects follows */
	if (r != 0) {
		undecided_let_go(c);
		return r;
	}
	c->error = 0;
	call_begun(c, fd);
	file_unseize(c->file);
	return 0;
}

/*
 * The number that accept took before it waited, and who came: a socket of the engine's or one of the kernel's.
 *
 * Linux keeps such a number for this process alone: it is free in a child, and after exec. So while accept may wait it
 * is close-on-exec, and on a list.
 */
struct taken {
	struct undo undo;
	struct list node; /* of `takens`; table's lock */
	const void *thread;
	int fd, kernel_fd;
	bool waits;
	bool gone; /* a handler ran, for which the number is free, as in Linux: the call is over, or takes one again */
	struct sock *sock;
};

static struct list takens = {&takens, &takens};

/* The number is nobody's any more, or the program's. */
static void taken_forget(struct taken *t, bool close)
{
	if (t->gone)
		return;
	t->gone = true;
	if (t->waits)
		fdtable_lock();
	if (close)
		sys_close(t->fd);
	if (t->waits) {
		list_unlink(&t->node);
		fdtable_unlock();
	}
}

static void taken_undo(struct undo *u)
{
	struct taken *t = container_of(u, struct taken, undo);
	if (t->sock)
		sock_close(t->sock);
	fd_close(t->kernel_fd);
	taken_forget(t, true);
}

static bool taken_handler(struct undo *u, bool begins)
{
	if (begins)
		taken_forget(container_of(u, struct taken, undo), true);
	return true;
}

/* No handler runs, and so none jumps away, between the number and its undo. -errno; else the number. */
static int taken_begin(struct taken *t, int cloexec, bool waits)
{
	*t = (struct taken){.kernel_fd = -1, .waits = waits, .thread = &engine_inside};
	engine_enter();
	if (waits)
		fdtable_lock();
	t->fd = sys_fcntl(placeholder_fd, cloexec || waits ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
	if (t->fd >= 0) {
		undo_push(&t->undo, taken_undo);
		t->undo.handler = taken_handler;
	}
	if (waits) {
		if (t->fd >= 0)
			list_push_back(&takens, &t->node);
		fdtable_unlock();
	}
	engine_leave();
	return t->fd;
}

/* The same of what becomes of the number, and the undo's end. `r`: sock_accept's; true: the number is the program's. */
static bool taken_end(struct taken *t, int cloexec, int r)
{
	engine_enter();
	struct file *f = t->sock ? file_new(FILE_SOCK) : NULL;
	if (f) {
		f->sock = t->sock;
		if (t->waits && !cloexec)
			sys_fcntl(t->fd, F_SETFD, 0);
		file_install(t->fd, f);
	} else if (r == 1) {
		sys_dup3(t->kernel_fd, t->fd, cloexec ? O_CLOEXEC : 0);
		sys_close(t->kernel_fd);
	}
	taken_forget(t, !f && r != 1);
	undo_pop(&t->undo);
	engine_leave();
	return f || r == 1;
}

/* In the child; the table's lock is held. This thread's own: a handler forked, and its accept goes on. */
void files_after_fork(void)
{
	list_for_each (pos, tmp, &takens) {
		struct taken *t = container_of(pos, struct taken, node);
		if (t->thread == &engine_inside)
			continue;
		list_unlink(pos);
		if (!fdtable_peek(t->fd)) /* accept was not yet over */
			sys_close(t->fd);
	}
	list_for_each (pos, tmp, &replaceds)
		replaced_forget(container_of(pos, struct replaced, node));
}

/* Who came by another way, when the number that accept took was the program's last one: the kernel takes it itself. */
static int accept_last_number(struct call *c, int flags, struct sockaddr *addr, socklen_t *len)
{
	int kernel_fd = -1;
	int r = sock_accept_kernel(c->sock, flags, addr, len, &kernel_fd);
	return r == 1 ? fd_created(kernel_fd) : r;
}

/* accept4(2) on an engine listener: the new fd, or -errno. The number is taken first, as the kernel
 * does: EMFILE costs no connection. */
static int accept_try(struct call *c, int flags, struct sockaddr *addr, socklen_t *len, bool *again)
{
	if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC | SOCK_ACCEPT_AT_ONCE))
		return -EINVAL;
	int r = placeholder_get();
	if (r < 0)
		return r;
	int cloexec = flags & SOCK_CLOEXEC;
	struct taken taken;
	int fd = taken_begin(&taken, cloexec, !sock_get_nonblock(c->sock));
	if (fd < 0)
		return fd;
	r = sock_accept(c->sock, flags, addr, len, &taken.sock, &taken.kernel_fd);
	if (taken_end(&taken, cloexec, r))
		return r ? fd_created(fd) : fd;
	if (r == 0) {
		sock_close(taken.sock);
		return -ENOMEM;
	}
	if (r == -EMFILE) {
		r = accept_last_number(c, flags & ~SOCK_ACCEPT_AT_ONCE, addr, len);
		*again = r == -EAGAIN && !(flags & SOCK_ACCEPT_AT_ONCE) && !sock_get_nonblock(c->sock); /* another thread was faster */
	}
	return r;
}

int file_accept(struct call *c, int flags, struct sockaddr *addr, socklen_t *len)
{
	int r;
	bool again;
	do {
		again = false;
		r = accept_try(c, flags, addr, len, &again);
	} while (again);
	return r == -EINVAL && !file_is_lost(c->file) && file_ended_elsewhere(c->file) ? -EBADF : r;
}
