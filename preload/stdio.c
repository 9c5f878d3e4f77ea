/*
 * stdio works on its fd inside libc, where no wrapper sees it. So a stream never gets an engine
 * socket: fdopen hands it over to the kernel first; where that is impossible the stream is a cookie
 * over our wrappers (all but fileno works). dprintf formats here and writes through the wrapper.
 *
 * libc writes what streams still have after the last handler of exit, when the engine has ended. A stream that the
 * program writes by functions of its own (fopencookie) may lead to an engine socket. So those are written before.
 */
#include "shim.h"

#include <aio.h>
#include <stdlib.h>

#include "base/user.h"

static ssize_t cookie_read(void *cookie, char *buf, size_t n)
{
	return wrap_read((int)(intptr_t)cookie, buf, n);
}

static ssize_t cookie_write(void *cookie, const char *buf, size_t n)
{
	ssize_t r = wrap_write((int)(intptr_t)cookie, buf, n);
	return r < 0 ? 0 : r; /* stdio's convention for an error */
}

static int cookie_close(void *cookie)
{
	return wrap_close((int)(intptr_t)cookie);
}

FILE *wrap_fdopen(int fd, const char *mode)
{
	int r = fd_handover(fd, "a stdio stream");
	if (r == 0)
		return REAL(fdopen)(fd, mode);
	cookie_io_functions_t io = {
	    .read = cookie_read, .write = cookie_write, .close = cookie_close};
	return fopencookie((void *)(intptr_t)fd, mode, io);
}

/* ---- the end ---- */

/* libc's list of all streams, and its lock. */
extern FILE *_IO_list_all __attribute__((weak));
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));

/* As libc does it: a stream that another thread is in is not waited for. */
void stdio_flush_programs(void)
{
	if (!&_IO_list_all || !_IO_list_lock || !_IO_list_unlock)
		return;
	_IO_list_lock();
	for (FILE *f = _IO_list_all; f; f = f->_chain) {
		if (f->_fileno >= 0 || ftrylockfile(f))
			continue;
		if (f->_IO_write_ptr > f->_IO_write_base)
			fflush_unlocked(f);
		funlockfile(f);
	}
	_IO_list_unlock();
}

int number_for_stdio(int fd)
{
	int saved = errno;
	if (is_stdio_number(fd))
		connection_to_kernel(fd, "became a standard stream");
	errno = saved;
	return fd;
}

static FILE *stream_created(FILE *f)
{
	if (f && shim_on())
		fd_created(fileno(f));
	return f;
}

FILE *wrap_fopen(const char *path, const char *mode)
{
	return stream_created(REAL(fopen)(path, mode));
}

FILE *wrap_fopen64(const char *path, const char *mode)
{
	return stream_created(REAL(fopen64)(path, mode));
}

/* The stream's fd is closed or replaced inside libc: nothing of ours may still be at its number. */
static void before_freopen(FILE *stream)
{
	int fd = shim_on() && stream ? fileno(stream) : -1;
	if (fd >= 0)
		fd_to_kernel(fd, "a stdio stream");
}

FILE *wrap_freopen(const char *path, const char *mode, FILE *stream)
{
	before_freopen(stream);
	return stream_created(REAL(freopen)(path, mode, stream));
}

FILE *wrap_freopen64(const char *path, const char *mode, FILE *stream)
{
	before_freopen(stream);
	return stream_created(REAL(freopen64)(path, mode, stream));
}

/* Is this an engine socket? Then the wrappers below write it themselves. */
static bool is_engine_fd(int fd)
{
	struct call c;
	if (!call_begin(&c, fd))
		return false;
	call_end(&c, 0);
	return true;
}

static int print_to_engine(int fd, const char *format, va_list ap)
{
	char *text;
	int n = vasprintf(&text, format, ap);
	if (n < 0)
		return n;
	int done = 0;
	while (done < n) {
		ssize_t r = wrap_write(fd, text + done, n - done);
		if (r < 0)
			break;
		done += r;
	}
	int saved = errno;
	free(text);
	errno = saved;
	return done == n ? n : -1;
}

int wrap_vdprintf(int fd, const char *format, va_list ap)
{
	if (is_engine_fd(fd))
		return print_to_engine(fd, format, ap);
	return REAL(vdprintf)(fd, format, ap);
}

int wrap_dprintf(int fd, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	int r = wrap_vdprintf(fd, format, ap);
	va_end(ap);
	return r;
}

int wrap___vdprintf_chk(int fd, int flag, const char *format, va_list ap)
{
	if (is_engine_fd(fd))
		return print_to_engine(fd, format, ap);
	return REAL(__vdprintf_chk)(fd, flag, format, ap);
}

int wrap___dprintf_chk(int fd, int flag, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	int r = wrap___vdprintf_chk(fd, flag, format, ap);
	va_end(ap);
	return r;
}

/* ---- not stdio's, but as deep inside libc ---- */

void wrap_backtrace_symbols_fd(void *const *frames, int n, int fd)
{
	connection_to_kernel(fd, "backtrace_symbols_fd");
	REAL(backtrace_symbols_fd)(frames, n, fd);
}

/* POSIX's asynchronous I/O: threads of libc's own make the calls. */
static void aio_uses(const struct aiocb *cb)
{
	if (shim_on() && user_may_read(cb, sizeof *cb))
		connection_to_kernel(cb->aio_fildes, "aio");
}

int wrap_aio_read(struct aiocb *cb)
{
	aio_uses(cb);
	return REAL(aio_read)(cb);
}

int wrap_aio_write(struct aiocb *cb)
{
	aio_uses(cb);
	return REAL(aio_write)(cb);
}

int wrap_lio_listio(int mode, struct aiocb *const *list, int n, struct sigevent *event)
{
	for (int i = 0; i < n && shim_on() && user_may_read(list, n * sizeof *list); i++)
		if (list[i] && list[i]->aio_lio_opcode != LIO_NOP)
			aio_uses(list[i]);
	return REAL(lio_listio)(mode, list, n, event);
}
