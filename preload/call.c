/*
 * A call in progress: what it holds, from its beginning to its end.
 *
 * Around a handler of the program that runs while a call waits. Linux's call has let go of its file by then. So the
 * socket's end, and the port's, is the handler's to see; the call keeps what is in memory. What is at the number
 * afterwards is the call's again if it is the same socket; else the call has lost it.
 */
#include "shim.h"

static struct file file_lost = {.kind = FILE_KERNEL, .fd = -1, .parked_fd = -1};

bool file_is_lost(const struct file *f)
{
	return f == &file_lost;
}

static void file_give_up(struct file **f, struct sock *s)
{
	struct file *held = *f;
	sock_ref(s);
	*f = &file_lost;
	file_put(held);
}

static void file_take_back(struct file **f, struct sock *s, int fd)
{
	struct file *now = fdtable_get(fd);
	if (now && now->kind == FILE_SOCK && now->sock == s) {
		*f = now;
		sock_unref(s);
	} else if (now) {
		file_put(now);
	}
}

bool file_around_handler(struct file **f, struct sock *s, int fd, bool begins)
{
	if (!begins)
		file_take_back(f, s, fd);
	else if (!file_is_lost(*f))
		file_give_up(f, s);
	return file_is_lost(*f);
}

void file_put_of_call(struct file *f, struct sock *s)
{
	if (file_is_lost(f))
		sock_unref(s);
	else
		file_put(f);
}

static void call_undo(struct undo *u)
{
	struct call *c = container_of(u, struct call, undo);
	file_put_of_call(c->file, c->sock);
}

static bool call_handler(struct undo *u, bool begins)
{
	struct call *c = container_of(u, struct call, undo);
	return file_around_handler(&c->file, c->sock, c->fd, begins);
}

/* An engine socket of its parent's, that this child has not used yet. */
static bool is_inherited(const struct file *f)
{
	return f->kind == FILE_SOCK && shim_in_child && sock_is_inherited(f->sock);
}

/* Of an inherited one: this call is the kernel's. */
static bool leaves_to_kernel(const struct file *f, enum call_use use)
{
	return f->listener && use == USE_PLAINLY;
}

/* The child's first use of a socket of its parent's. 0: look at the file's kind; -errno. */
static int use_inherited(struct file *f, enum call_use use)
{
	return f->listener && use == USE_STATUS ? 0 : file_adopt(f);
}

/*
 * No handler runs, and so none jumps away, between a reference and its undo. A number that is on its way out is waited
 * for outside.
 */
struct file *call_hold(struct call *c, int fd)
{
	struct file *f;
	bool leaving;
	do {
		fdtable_peek(fd);
		engine_enter();
		f = fdtable_get(fd);
		leaving = !f && fdtable_is_leaving(fd);
		if (f) {
			c->file = f;
			undo_push(&c->undo, call_undo);
		}
		engine_leave();
	} while (leaving && !engine_inside);
	return f;
}

void call_let_go(struct call *c)
{
	engine_enter();
	undo_pop(&c->undo);
	file_put_of_call(c->file, c->sock);
	engine_leave();
}

bool call_is_engines(int fd, enum call_use use)
{
	struct call c;
	if (!call_hold(&c, fd))
		return false;
	bool is = c.file->kind == FILE_SOCK && !(is_inherited(c.file) && leaves_to_kernel(c.file, use));
	call_let_go(&c);
	return is;
}

void call_begun(struct call *c, int fd)
{
	c->sock = c->file->sock;
	c->fd = fd;
	c->undo.handler = call_handler;
}

bool call_begin_engine(struct call *c, int fd, enum call_use use)
{
	struct file *f = call_hold(c, fd);
	if (!f)
		return false;
	c->error = 0;
	if (is_inherited(f)) {
		if (leaves_to_kernel(f, use)) {
			call_let_go(c);
			return false;
		}
		c->error = use_inherited(f, use);
	}
	if (f->kind == FILE_SOCK && sock_wants_kernel(f->sock))
		file_handover(f, "an option was set during the handshake that is not the engine's");
	if (f->kind != FILE_SOCK) {
		call_let_go(c);
		return false;
	}
	call_begun(c, fd);
	return true;
}

bool call_begin_at_once(struct call *c, int fd)
{
	struct file *f = shim_on() ? fdtable_peek(fd) : NULL;
	if (!f || !f->listener)
		return false;
	engine_enter();
	f = fdtable_get(fd);
	if (f && f->kind == FILE_SOCK && f->listener && !is_inherited(f)) {
		c->error = 0;
		c->file = f;
		undo_push(&c->undo, call_undo);
		call_begun(c, fd);
		return true;
	}
	if (f)
		file_put(f);
	engine_leave();
	return false;
}

bool call_end_at_once(struct call *c, long result)
{
	bool over = call_end(c, result);
	engine_leave();
	return over;
}

bool call_end(struct call *c, long result)
{
	bool again = result == -ERESTART;
	if (again)
		engine_handlers_at_call.lost = engine_handlers.lost;
	else if (result == -EBADF)
		again = file_is_lost(c->file) || file_follow(c->file);
	call_let_go(c);
	return !again;
}
