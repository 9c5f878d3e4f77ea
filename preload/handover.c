/*
 * Handover of a socket to the kernel, under all its fds at once.
 *
 * The file is seized meanwhile (fdtable.h). The order matters: the kernel socket exists; dup3 puts it
 * under every number; only then are epoll registrations made in the kernel, since it keys them by
 * file and number; last the table forgets the numbers. Calls in progress get -EBADF from their verb
 * and see, in call_end, that the kernel serves the fd now. A socket inherited over fork is adopted
 * the same way at its first use.
 */
#include "shim.h"

#include <fcntl.h>

void numbers_to_kernel(struct file *f, int kfd)
{
	fdtable_lock();
	for (int n = fdtable_next(0); n >= 0; n = fdtable_next(n + 1)) {
		if (fdtable_peek(n) != f)
			continue;
		int fd_flags = sys_fcntl(n, F_GETFD, 0);
		sys_dup3(kfd, n, fd_flags & FD_CLOEXEC ? O_CLOEXEC : 0);
	}
	fdtable_unlock();
}

/* Every number of `f` is an ordinary kernel fd from here on. */
static void numbers_forget(struct file *f)
{
	f->kind = FILE_KERNEL;
	for (int n = fdtable_next(0); n >= 0; n = fdtable_next(n + 1))
		if (fdtable_peek(n) == f && fdtable_swap(n, NULL, NULL) == f) {
			adopt_never(n);
			file_put(f); /* not the last: the caller has one */
		}
}

void kernel_fd_set_nonblock(int fd, bool on)
{
	int flags = sys_fcntl(fd, F_GETFL, 0);
	sys_fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

void kernel_fd_set_status(int fd, int kept, bool nonblock)
{
	int flags = sys_fcntl(fd, F_GETFL, 0) & ~(STATUS_KEPT | O_NONBLOCK);
	sys_fcntl(fd, F_SETFL, flags | (kept & STATUS_KEPT) | (nonblock ? O_NONBLOCK : 0));
}

enum mode_told { MODE_UNTOLD, MODE_BLOCKS, MODE_NONBLOCK };

/*
 * A listener's kernel socket goes to somebody else, who must find it in the mode that the program gave it; the engine
 * had made it non-blocking. From then on the mode is everybody's who has the socket: another process may have changed
 * it since, and it is set again only when this one's program has changed it, too.
 */
static void tell_mode(struct file *f, int fd)
{
	bool nonblock = sock_get_nonblock(f->sock);
	enum mode_told now = nonblock ? MODE_NONBLOCK : MODE_BLOCKS;
	if (f->mode_told == now)
		return;
	f->mode_told = now;
	kernel_fd_set_nonblock(fd, nonblock);
}

/* Its fd is the kernel's listening socket as ever, also where the engine's part of it has ended. */
static int handover_listener(struct file *f, const char *why, bool inherited)
{
	int fd = f->fd;
	if (inherited)
		sock_share(f->sock); /* who serves it goes on */
	else
		sock_handover(f->sock, why, HANDOVER_IF_POSSIBLE);
	tell_mode(f, fd);
	registrations_to_kernel(&f->registrations, fd);
	numbers_forget(f);
	return 0;
}

/* `given`: another process has it, too, in the mode that the program gave it here, or has changed that since. */
static void connection_is_at(struct file *f, int kfd, bool given)
{
	if (!given || f->status & STATUS_KEPT)
		kernel_fd_set_status(kfd, f->status, given ? sys_fcntl(kfd, F_GETFL, 0) & O_NONBLOCK : sock_get_nonblock(f->sock));
	if (given && sock_mode_changed(f->sock))
		kernel_fd_set_nonblock(kfd, sock_get_nonblock(f->sock));
	numbers_to_kernel(f, kfd);
	registrations_to_kernel(&f->registrations, f->fd);
	numbers_forget(f);
}

static int handover_connection(struct file *f, const char *why, bool inherited, enum handover_how how)
{
	int kfd = sock_handed_over(f->sock); /* the engine did it by itself, and that was not followed yet */
	bool given = kfd >= 0 || inherited;
	if (kfd < 0)
		kfd = inherited ? sock_adopt(f->sock) : sock_handover(f->sock, why, how);
	if (kfd < 0)
		return kfd;
	connection_is_at(f, kfd, given);
	sys_close(kfd);
	return 0;
}

bool file_follow(struct file *f)
{
	file_seize(f);
	int kfd = f->kind == FILE_SOCK ? sock_handed_over(f->sock) : -EBADF;
	if (kfd >= 0) {
		connection_is_at(f, kfd, true);
		sys_close(kfd);
	}
	file_unseize(f);
	return f->kind != FILE_SOCK;
}

/*
 * The engine made a kernel socket of `s` on its own: a fork child of ours asked for the connection. Calls in progress
 * may have followed already.
 */
static void on_handed_over(struct sock *s, int kernel_fd)
{
	(void)kernel_fd;
	for (int n = fdtable_next(0); n >= 0; n = fdtable_next(n + 1)) {
		struct call c;
		struct file *f = call_hold(&c, n);
		if (!f)
			continue;
		bool is = f->kind == FILE_SOCK && f->sock == s;
		if (is)
			file_follow(f);
		call_let_go(&c);
		if (is)
			return;
	}
}

void shim_handover_init(void)
{
	engine_on_handed_over = on_handed_over;
}

/* A handover may wait for the handshake, and be left by a cancellation. */
struct seizure {
	struct undo undo;
	struct file *file;
};

static void seizure_undo(struct undo *u)
{
	file_unseize(container_of(u, struct seizure, undo)->file);
}

static int handover(struct file *f, const char *why, enum handover_how how)
{
	int r = 0;
	struct seizure seizure = {.file = f};
	file_seize(f);
	undo_push(&seizure.undo, seizure_undo);
	if (f->kind == FILE_SOCK) {
		bool inherited = shim_in_child && sock_is_inherited(f->sock);
		r = f->listener ? handover_listener(f, why, inherited)
				: handover_connection(f, why, inherited, how);
	}
	undo_pop(&seizure.undo);
	file_unseize(f);
	return r;
}

int file_handover(struct file *f, const char *why)
{
	return handover(f, why, HANDOVER_IF_POSSIBLE);
}

int file_adopt(struct file *f)
{
	int r = 0;
	file_seize(f);
	if (f->kind == FILE_SOCK && sock_is_inherited(f->sock))
		r = f->listener ? sock_adopt(f->sock) : handover_connection(f, "", true, HANDOVER_IF_POSSIBLE);
	file_unseize(f);
	return r;
}

/*
 * Somebody else gets the listening socket: a kernel socket that listens, in the mode that the program gave it. Here it
 * is served as before.
 */
static int listener_share(struct file *f)
{
	sock_share(f->sock);
	tell_mode(f, f->fd);
	return 0;
}

static int to_others(struct file *f, const char *why, enum handover_how how)
{
	return f->listener ? listener_share(f) : handover(f, why, how);
}

static int fd_handover_how(int fd, const char *why, enum handover_how how)
{
	if (!shim_on() || !fdtable_peek(fd))
		return 0;
	struct call c;
	struct file *f = call_hold(&c, fd);
	if (!f)
		return 0;
	int r = 0;
	if (f->kind == FILE_CANDIDATE)
		file_forget_candidate(fd);
	if (f->kind == FILE_SOCK) /* or another thread has just decided it */
		r = how == HANDOVER_IF_POSSIBLE ? handover(f, why, how) : to_others(f, why, how);
	f->candidate.used |= how != HANDOVER_IF_POSSIBLE; /* somebody else has its kernel socket, whatever came of that */
	call_let_go(&c);
	return r;
}

int fd_handover(int fd, const char *why)
{
	return fd_handover_how(fd, why, HANDOVER_IF_POSSIBLE);
}

int fd_to_kernel(int fd, const char *why)
{
	return fd_handover_how(fd, why, HANDOVER_SURELY);
}

int fd_to_message(int fd)
{
	return fd_handover_how(fd, "passed to another process (SCM_RIGHTS)", HANDOVER_OR_REFUSE);
}

void handover_all(const char *why)
{
	for (int n = fdtable_next(0); n >= 0; n = fdtable_next(n + 1)) {
		struct call c;
		struct file *f = call_hold(&c, n);
		if (!f)
			continue;
		if (f->kind == FILE_CANDIDATE)
			file_await(f); /* it may become the engine's */
		if (f->kind == FILE_SOCK)
			handover(f, why, HANDOVER_SURELY);
		call_let_go(&c);
	}
}

void leave_engine(const char *why)
{
	engine_keep_out(why);
	reuse_stop(); /* what is kept for later would reach the kernel's sockets unseen */
	undecided_settle_all();
	if (shim_on() && engine_exists())
		handover_all(why);
}

/*
 * Those that a program which is started now inherits: it finds no placeholder and no listener that the engine serves.
 */
void handover_for_spawn(const char *why)
{
	files_shared();
	for (int n = fdtable_next(0); n >= 0; n = fdtable_next(n + 1)) {
		struct call c;
		const struct file *f = fdtable_peek(n);
		if (!f || f->kind != FILE_SOCK || (sys_fcntl(n, F_GETFD, 0) & FD_CLOEXEC) || !call_hold(&c, n))
			continue;
		if (c.file->kind == FILE_SOCK)
			to_others(c.file, why, HANDOVER_SURELY);
		call_let_go(&c);
	}
}

/*
 * All sockets of our own go to the kernel, close-on-exec or not: the exec itself then closes them
 * as it should, and if it fails the program goes on with them. Inherited ones that exec
 * would close are the parent's business alone.
 */
static bool goes_to_kernel_at_exec(struct file *f, int fd)
{
	if (f->kind != FILE_SOCK)
		return false;
	if (!shim_in_child || !sock_is_inherited(f->sock))
		return true;
	return !(sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC);
}

static bool survives_exec(const struct file *f)
{
	bool survives = false;
	for (int n = fdtable_next(0); n >= 0; n = fdtable_next(n + 1))
		survives |= fdtable_peek(n) == f && !(sys_fcntl(n, F_GETFD, 0) & FD_CLOEXEC);
	return survives;
}

/*
 * The program that is executed accepts from it. So it stays as it is, until the engine's end gives to that program what
 * waits for accept.
 */
static void listener_passes(struct file *f)
{
	file_seize(f);
	if (f->kind == FILE_SOCK) {
		int fd = f->fd;
		if (sock_is_inherited(f->sock))
			sock_share(f->sock); /* who serves it goes on */
		sock_pass(f->sock);
		tell_mode(f, fd);
		registrations_pass(&f->registrations, fd);
		numbers_forget(f);
	}
	file_unseize(f);
}

bool handover_for_exec(void)
{
	bool listener = false;
	undecided_settle_all();
	for (int n = fdtable_next(0); n >= 0; n = fdtable_next(n + 1)) {
		struct call c;
		struct file *f = call_hold(&c, n);
		if (!f)
			continue;
		bool passes = f->kind == FILE_SOCK && f->listener && survives_exec(f);
		listener |= passes;
		if (passes)
			listener_passes(f);
		else if (goes_to_kernel_at_exec(f, n))
			handover(f, "exec", HANDOVER_SURELY);
		call_let_go(&c);
	}
	engine_on_exit(false, true); /* the exec may fail */
	return listener;
}
