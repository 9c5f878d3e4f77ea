/*
 * sendfile and splice with an engine socket at one end: copies through a buffer, with the offsets
 * and the partial results of the kernel's calls.
 *
 * Nothing may be taken from a source that could not be delivered. A file is read at a position that moves only by what
 * was sent: to where the connection keeps it until it is acknowledged, where that has room and the file is in memory;
 * else to the buffer. What is no plain file comes by the kernel's own sendfile into a pipe. A pipe is looked at through
 * tee(2) into a pipe of our own and drained by what was sent; a socket is looked at with MSG_PEEK and drained by what
 * the pipe took. SPLICE_F_NONBLOCK, or O_NONBLOCK of the pipe, concerns the pipe only, as in Linux: O_NONBLOCK of the
 * socket decides whether that is waited for. A pipe's room is waited for before the socket's text. Before an urgent
 * byte, read or not, splice stops for good, as Linux's does: only recv passes it.
 */
#include "shim.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/user.h"

#define COPY_BYTES     (128 * 1024)
#define PAGE_BYTES     4096
#define COPY_MAX_BYTES 0x7ffff000 /* of one call: Linux's MAX_RW_COUNT */

/* One buffer is kept for the next call; concurrent calls bring their own. */
static void *_Atomic spare_buffer;

/*
 * At a page's start, and a page longer than a piece: a file is read to where its bytes stand in their pages. A
 * processor that copies with `rep movsb` may be many times slower when the target, modulo 4096, is just behind the
 * source: 57 us for 100 KiB 16 bytes behind (malloc's place for it), 4 us at the same place (AMD EPYC).
 */
static void *buffer_take(void)
{
	void *b = atomic_exchange(&spare_buffer, NULL);
	return b || posix_memalign(&b, PAGE_BYTES, COPY_BYTES + PAGE_BYTES) == 0 ? b : NULL;
}

static void buffer_give(void *b)
{
	free(atomic_exchange(&spare_buffer, b));
}

static long sys_lseek(int fd, off_t offset, int whence)
{
	return sys_call(SYS_lseek, fd, offset, whence, 0, 0, 0);
}

static ssize_t sys_pread(int fd, void *buf, size_t n, off_t offset)
{
	return sys_call(SYS_pread64, fd, buf, n, offset, 0, 0);
}

static long make_pipe(void *fds)
{
	return sys_call(SYS_pipe2, fds, O_CLOEXEC, 0, 0, 0, 0);
}

/* What a call has while it copies. It waits meanwhile, and may be left then. */
struct copy {
	struct undo undo;
	char *buf;
	int pipe[2]; /* -1: none */
	int cancel;  /* the thread's cancel state, which is put back; -1: it is as it was */
};

static void copy_let_go(struct copy *copy)
{
	if (copy->pipe[0] >= 0) {
		sys_close(copy->pipe[0]);
		sys_close(copy->pipe[1]);
	}
	buffer_give(copy->buf);
	if (copy->cancel >= 0)
		pthread_setcancelstate(copy->cancel, NULL);
}

static void copy_undo(struct undo *u)
{
	copy_let_go(container_of(u, struct copy, undo));
}

enum copy_needs {
	COPY_PIPE = 1,  /* a pipe of its own */
	COPY_STAYS = 2, /* no cancellation point, as libc's sendfile is none */
};

/* No handler runs, and so none jumps away, before the undo is there. */
static int copy_begin(struct copy *copy, unsigned needs)
{
	engine_enter();
	copy->pipe[0] = copy->cancel = -1;
	copy->buf = buffer_take();
	int r = copy->buf ? 0 : -ENOMEM;
	if (copy->buf && (needs & COPY_PIPE))
		r = fd_make(make_pipe, copy->pipe);
	if (r < 0)
		buffer_give(copy->buf);
	else
		undo_push(&copy->undo, copy_undo);
	if (r >= 0 && (needs & COPY_STAYS))
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &copy->cancel);
	engine_leave();
	return r;
}

static void copy_end(struct copy *copy)
{
	engine_enter();
	undo_pop(&copy->undo);
	copy_let_go(copy);
	engine_leave();
}

/* A file's bytes from `at` on, by way of the buffer; *is_short: fewer than were read. */
static ssize_t send_read(struct call *c, char *buf, int in, off_t at, size_t want, off_t end, bool *is_short)
{
	struct iovec iov = {buf + at % PAGE_BYTES, want};
	ssize_t got = sys_pread(in, iov.iov_base, want, at);
	if (got <= 0)
		return got;
	iov.iov_len = got;
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	/* Who is told that more comes waits for it: at the file's end nothing does. */
	bool more = (size_t)got == want && at + got < end;
	ssize_t r = engine_send(c, &msg, more ? MSG_MORE : 0);
	*is_short = r < got;
	return r;
}

/*
 * From `in`, a file of `size` bytes, at *pos; *pos moves by what was sent. What is in memory goes straight to the
 * connection.
 */
static ssize_t send_file(struct call *c, int in, off_t *pos, size_t n, off_t size)
{
	struct copy copy;
	size_t sent = 0;
	off_t end = *pos + (off_t)n < size ? *pos + (off_t)n : size;
	bool is_short = false;
	ssize_t r = copy_begin(&copy, COPY_STAYS);
	if (r < 0)
		return r;
	while (sent < n && !is_short) {
		size_t want = n - sent < COPY_BYTES ? n - sent : COPY_BYTES;
		off_t there = end - *pos; /* it has grown since, where that is not all */
		r = there > 0 ? sock_send_file(c->sock, in, *pos, (off_t)want < there ? want : (size_t)there, end) : 0;
		if (!r)
			r = send_read(c, copy.buf, in, *pos, want, end, &is_short);
		if (r <= 0)
			break;
		sent += r;
		*pos += r;
	}
	copy_end(&copy);
	return sent ? (ssize_t)sent : r;
}

/* What lies in a pipe, however it was written (O_DIRECT: a read gets one piece). */
static ssize_t read_all(int fd, char *buf, size_t n)
{
	size_t done = 0;
	ssize_t r = 0;
	while (done < n && (r = sys_read(fd, buf + done, n - done)) > 0)
		done += r;
	return done ? (ssize_t)done : r;
}

/*
 * One piece by way of the pipe. Bytes sent, 0 at the end, or -errno; *is_short: less than was read. *pos moves as the
 * kernel moves it, but by no more than was sent.
 */
static ssize_t send_piece(struct call *c, const struct copy *via, int in, off_t *pos, size_t n, bool *is_short)
{
	off_t before = pos ? *pos : sys_lseek(in, 0, SEEK_CUR);
	ssize_t got = sys_call(SYS_sendfile, via->pipe[1], in, pos, n, 0, 0);
	if (got <= 0)
		return got;
	off_t after = pos ? *pos : sys_lseek(in, 0, SEEK_CUR);
	struct iovec iov = {via->buf, read_all(via->pipe[0], via->buf, got)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t r = engine_send(c, &msg, 0);
	*is_short = r < got;
	if (!*is_short || after != before + got) /* it stays where it is at some devices */
		return r;
	if (pos)
		*pos = before + (r > 0 ? r : 0);
	else
		sys_lseek(in, before + (r > 0 ? r : 0), SEEK_SET);
	return r;
}

/*
 * From anything that is not just a file with bytes at that place: a device, /proc, an empty file, what cannot be read
 * at all. The kernel's sendfile into a pipe of ours says what is wrong with it, and how far it moves. That takes
 * sources without a place, too, where its sendfile to a socket refuses them: it is asked that one, and moves nothing.
 */
static ssize_t send_odd(struct call *c, int out, int in, off_t *pos, size_t n)
{
	struct copy via;
	off_t at = sys_lseek(in, 0, SEEK_CUR);
	if (at == -EBADF) /* or the pipe would be what is there */
		return at;
	if (at == -ESPIPE) {
		long r = sys_call(SYS_sendfile, out, in, pos, n, 0, 0);
		return r < 0 ? r : -EINVAL;
	}
	ssize_t sent = 0, r = copy_begin(&via, COPY_PIPE | COPY_STAYS);
	if (r < 0)
		return r;
	if (c->file->status & O_APPEND) {
		r = (ssize_t)n < 0 ? -EINVAL : sys_call(SYS_sendfile, via.pipe[1], in, pos, 0, 0, 0);
		r = r < 0 ? r : -EINVAL;
	} else {
		bool is_short = false;
		do {
			r = send_piece(c, &via, in, pos, n - sent, &is_short);
			sent += r > 0 ? r : 0;
		} while (r > 0 && !is_short && (size_t)sent < n && sent < COPY_MAX_BYTES);
	}
	copy_end(&via);
	return sent ? sent : r;
}

/*
 * Its size; 0: there may be more to say of it than how many bytes stand at `pos`. Programs ask for more until there is
 * none, so a file's end is no special case; but an empty file may be one of those that are made when they are read, and
 * a place far out more than its file system may have.
 */
static off_t plain_size(int in, off_t pos, size_t n)
{
	struct stat st;
	bool inside = n && (ssize_t)n >= 0 && pos >= 0 && n <= (size_t)(INT64_MAX - pos);
	return inside && sys_fstat(in, &st) == 0 && S_ISREG(st.st_mode) && (pos < st.st_size || pos < INT32_MAX) ? st.st_size : 0;
}

static ssize_t engine_sendfile(struct call *c, int out, int in, off_t *offset, size_t n)
{
	if (offset && !user_may_write(offset, sizeof *offset))
		return -EFAULT;
	off_t at = offset ? *offset : sys_lseek(in, 0, SEEK_CUR);
	off_t size = c->file->status & O_APPEND ? 0 : plain_size(in, at, n);
	if (!size) {
		ssize_t r = send_odd(c, out, in, offset ? &at : NULL, n);
		if (offset)
			*offset = at;
		return r;
	}
	ssize_t r = send_file(c, in, &at, n < COPY_MAX_BYTES ? n : COPY_MAX_BYTES, size);
	if (offset)
		*offset = at;
	else if (r > 0)
		sys_lseek(in, at, SEEK_SET);
	return r;
}

static ssize_t sendfile_from_sock(struct call *c, int out, const off_t *offset, size_t n);

/* -EBADF of the file must not be taken for "the socket moved": it does not, file_kind says so
 * (call_end). */
ssize_t wrap_sendfile(int out, int in, off_t *offset, size_t n)
{
	VIA_ENGINE(in, sendfile_from_sock(&c, out, offset, n));
	VIA_ENGINE(out, engine_sendfile(&c, out, in, offset, n));
	before_known(out);
	return send_tells_error(out, REAL(sendfile)(out, in, offset, n), 0);
}

/* ---- splice ---- */

/*
 * Until the program's pipe is ready: revents, or -EINTR. A cancellation point, by libc's own call. A handler with
 * SA_RESTART does not end it.
 */
static int pipe_await(int pipe_fd, short events)
{
	struct pollfd p = {.fd = pipe_fd, .events = events};
	struct unwind unwind;
	int saved = errno, r;
	do {
		if (engine_handlers.norestart != engine_handlers_at_call.norestart)
			return -EINTR;
		unwind_begin(&unwind, NULL, NULL);
		r = REAL(ppoll)(&p, 1, NULL, NULL);
		unwind_end(&unwind);
	} while (r < 0 && errno == EINTR);
	errno = saved;
	return r < 0 ? -ENOMEM : p.revents;
}

/* Moved, not read: whoever reads a piece of a pipe with O_DIRECT takes all of it. */
static void drain(int in, const struct copy *into, size_t n)
{
	ssize_t moved;
	for (; n && (moved = sys_call(SYS_splice, in, NULL, into->pipe[1], NULL, n, SPLICE_F_NONBLOCK)) > 0; n -= moved)
		read_all(into->pipe[0], into->buf, moved);
}

static bool has_bytes(int pipe_fd, size_t more_than)
{
	int filled;
	return sys_ioctl(pipe_fd, FIONREAD, &filled) == 0 && (size_t)filled > more_than;
}

/*
 * One piece, by way of `copy`, which is empty before and after. Bytes sent or -errno; *is_short: fewer than there were.
 */
static ssize_t splice_piece(struct call *c, int in, const struct copy *copy, size_t n, unsigned flags, bool *is_short)
{
	ssize_t there;
	int ready = 0;
	do
		there = sys_call(SYS_tee, in, copy->pipe[1], n < COPY_BYTES ? n : COPY_BYTES, SPLICE_F_NONBLOCK, 0, 0);
	while (there == -EAGAIN && !(flags & SPLICE_F_NONBLOCK) && (ready = pipe_await(in, POLLIN)) >= 0);
	if (there <= 0)
		return ready < 0 ? ready : there;
	ssize_t got = read_all(copy->pipe[0], copy->buf, there);
	if (got <= 0)
		return got;
	struct iovec iov = {copy->buf, got};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	bool more = (flags & SPLICE_F_MORE) || ((size_t)got < n && has_bytes(in, got));
	ssize_t sent = engine_send(c, &msg, more ? MSG_MORE : 0);
	if (sent > 0)
		drain(in, copy, sent);
	*is_short = sent < got;
	return sent;
}

/* All of it, as Linux does, until the pipe is empty. Only the first piece is waited for. */
static ssize_t pipe_to_sock(struct call *c, int in, const struct copy *copy, size_t n, unsigned flags)
{
	size_t sent = 0;
	bool is_short = false;
	ssize_t r;
	do {
		r = splice_piece(c, in, copy, n - sent, flags, &is_short);
		sent += r > 0 ? r : 0;
		flags |= SPLICE_F_NONBLOCK;
	} while (r > 0 && !is_short && sent < n && has_bytes(in, 0));
	return sent ? (ssize_t)sent : r;
}

/* Looks at what is there; waits for the first byte, whatever SO_RCVLOWAT says: Linux's splice does not heed it. */
static ssize_t peek_any(struct call *c, struct msghdr *msg)
{
	size_t n = msg->msg_iov->iov_len;
	ssize_t got = sock_recvmsg(c->sock, msg, MSG_PEEK | MSG_DONTWAIT);
	if (got != -EAGAIN || sock_get_nonblock(c->sock))
		return got;
	msg->msg_iov->iov_len = 1;
	got = sock_recvmsg(c->sock, msg, MSG_PEEK);
	msg->msg_iov->iov_len = n;
	return got <= 0 ? got : sock_recvmsg(c->sock, msg, MSG_PEEK | MSG_DONTWAIT);
}

/* revents, 0: there is none. */
static int has_room(int pipe_fd)
{
	struct pollfd room = {.fd = pipe_fd, .events = POLLOUT};
	struct timespec now = {0, 0};
	int r = sys_ppoll(&room, 1, &now, NULL);
	return r > 0 ? room.revents : r;
}

/*
 * What a pipe surely takes at once: an empty one all that it holds; one that polls writable has a page for PIPE_BUF
 * bytes.
 */
static size_t pipe_piece(int pipe_fd)
{
	int filled;
	long size = sys_ioctl(pipe_fd, FIONREAD, &filled) == 0 && filled == 0 ? sys_fcntl(pipe_fd, F_GETPIPE_SZ, 0) : 0;
	return size > PIPE_BUF ? size : PIPE_BUF;
}

static ssize_t broken_pipe(void)
{
	raise_sigpipe();
	return -EPIPE;
}

/* 0: there is. */
static ssize_t room_await(int pipe_fd, bool nonblock)
{
	int ready = has_room(pipe_fd);
	if (!ready && nonblock)
		return -EAGAIN;
	if (!ready)
		ready = pipe_await(pipe_fd, POLLOUT);
	if (ready < 0)
		return ready;
	return ready & POLLERR ? broken_pipe() : 0;
}

/*
 * The first piece has room, unless somebody else is faster; more goes in as long as there is room: who would empty it
 * may be the caller.
 */
static ssize_t fill_pipe(int pipe_fd, const char *buf, size_t n)
{
	size_t done = 0;
	ssize_t r;
	do {
		size_t piece = pipe_piece(pipe_fd);
		r = sys_write(pipe_fd, buf + done, piece < n - done ? piece : n - done);
		if (r <= 0)
			break;
		done += r;
	} while (done < n && has_room(pipe_fd) > 0);
	return done ? (ssize_t)done : r;
}

static ssize_t sock_to_pipe(struct call *c, int out, char *buf, size_t n, unsigned flags)
{
	struct iovec iov = {buf, n};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	bool nonblock = flags & SPLICE_F_NONBLOCK;
	ssize_t r = room_await(out, nonblock);
	if (r < 0)
		return r;
	ssize_t got = sock_splice_stops(c->sock);
	if (got <= 0)
		return got;
	got = peek_any(c, &msg);
	if (got <= 0)
		return got;
	r = room_await(out, nonblock);
	if (r < 0)
		return r;
	ssize_t put = fill_pipe(out, buf, got);
	if (put <= 0)
		return put == -EPIPE ? broken_pipe() : put;
	iov.iov_len = put;
	return sock_recvmsg(c->sock, &msg, MSG_DONTWAIT);
}

/* `sock_offset`, `pipe_offset`: given, and wrong each in its way. */
static ssize_t engine_splice(struct call *c, int pipe_fd, bool to_pipe, const off64_t *sock_offset,
			     const off64_t *pipe_offset, size_t n, unsigned flags)
{
	if (n == 0)
		return 0;
	if (flags & ~(SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT))
		return -EINVAL;
	int status = sys_fcntl(pipe_fd, F_GETFL, 0);
	if (status < 0 || (status & O_PATH))
		return -EBADF;
	bool is_pipe = sys_fcntl(pipe_fd, F_GETPIPE_SZ, 0) >= 0;
	if (is_pipe && pipe_offset)
		return -ESPIPE;
	if ((sock_offset && !user_may_read(sock_offset, sizeof *sock_offset)) || (pipe_offset && !user_may_read(pipe_offset, sizeof *pipe_offset)))
		return -EFAULT;
	if ((status & O_ACCMODE) == (to_pipe ? O_RDONLY : O_WRONLY))
		return -EBADF;
	if (!is_pipe || sock_offset || (!to_pipe && (c->file->status & O_APPEND)))
		return -EINVAL;
	if (status & O_NONBLOCK)
		flags |= SPLICE_F_NONBLOCK;
	struct copy copy;
	ssize_t r = copy_begin(&copy, to_pipe ? 0 : COPY_PIPE);
	if (r < 0)
		return r;
	r = to_pipe ? sock_to_pipe(c, pipe_fd, copy.buf, n < COPY_BYTES ? n : COPY_BYTES, flags)
		    : pipe_to_sock(c, pipe_fd, &copy, n < COPY_MAX_BYTES ? n : COPY_MAX_BYTES, flags);
	copy_end(&copy);
	return r;
}

/* To a pipe Linux splices; to anything else a socket is no source. */
static ssize_t sendfile_from_sock(struct call *c, int out, const off_t *offset, size_t n)
{
	if (offset)
		return user_may_write(offset, sizeof *offset) ? -ESPIPE : -EFAULT;
	if ((ssize_t)n < 0)
		return -EINVAL;
	int flags = sys_fcntl(out, F_GETFL, 0);
	if (flags < 0 || (flags & O_PATH) || (flags & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	if (sys_fcntl(out, F_GETPIPE_SZ, 0) < 0)
		return -EINVAL;
	return engine_splice(c, out, true, NULL, NULL, n, flags & O_NONBLOCK ? SPLICE_F_NONBLOCK : 0);
}

ssize_t wrap_splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t n,
		    unsigned flags)
{
	VIA_ENGINE_CANCELLED(in, engine_splice(&c, out, true, in_offset, out_offset, n, flags));
	VIA_ENGINE_CANCELLED(out, engine_splice(&c, in, false, out_offset, in_offset, n, flags));
	before_known(out);
	ssize_t r = tells_error(in, REAL(splice)(in, in_offset, out, out_offset, n, flags));
	return send_tells_error(out, r, 0);
}
