/*
 * Programs that use io_uring themselves.
 *
 * What goes through a ring passes no function of libc: accept, recv, send, connect, poll and epoll_ctl by io_uring see the kernel's descriptor and never
 * the engine. So with a program's first ring its TCP goes to the kernel: what the engine serves is handed over, what comes later stays there,
 * and `finesse stat` says so. How a ring is noticed:
 * - liburing's functions that make one, and io_uring_setup by syscall(2), as libuv and the crates of Rust call it;
 * - where neither is called (a liburing that is linked statically makes the system call itself) by looking through /proc/self/fd before a socket is decided.
 *   The look takes some µs per descriptor, so it is taken at listen(2), and at connect(2) as often as costs LOOK_SHARE of the time at most.
 *
 * libuv makes two kinds of rings. One only batches epoll_ctl and has no SQPOLL: libuv is told that there is no such call, as in containers that forbid it, and
 * makes the calls one by one, which we see. The other does nothing but file operations and is SQPOLL: it is left alone. So node keeps the engine.
 */
#include "shim.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/time.h"

#define LOOK_SHARE   200 /* one part of so many */
#define FD_DIRECTORY "/proc/self/fd"

#define LIBUV_RINGS  16 /* beyond, libuv's are taken for the program's */

static const char why[] = "the program uses io_uring";
static _Atomic bool seen;
static _Atomic int libuv_rings[LIBUV_RINGS]; /* fd + 1 */

static void ring_seen(void)
{
	if (atomic_exchange(&seen, true))
		return;
	engine_keep_out(why);
	if (shim_on() && engine_exists())
		handover_all(why);
}

/* ---- a ring is made ---- */

static bool in_object_of(const void *code, const char *symbol)
{
	Dl_info of_code, of_symbol;
	void *at = dlsym(RTLD_DEFAULT, symbol);
	return at && dladdr(code, &of_code) && dladdr(at, &of_symbol) && of_code.dli_fbase == of_symbol.dli_fbase;
}

static void note_libuv_ring(long fd)
{
	for (int i = 0; fd >= 0 && i < LIBUV_RINGS; i++) {
		int none = 0;
		if (libuv_rings[i] == fd + 1 || atomic_compare_exchange_strong(&libuv_rings[i], &none, fd + 1))
			return;
	}
}

static bool is_libuv_ring(int fd)
{
	for (int i = 0; i < LIBUV_RINGS; i++)
		if (libuv_rings[i] == fd + 1)
			return true;
	return false;
}

long uring_setup(long entries, void *params, const void *caller)
{
	unsigned flags = 0;
	struct iovec to = {&flags, sizeof flags}, from = {params ? (char *)params + offsetof(struct io_uring_params, flags) : NULL, sizeof flags};
	bool libuv = false;
	bool readable = params && sys_call(SYS_process_vm_readv, sys_getpid(), &to, 1, &from, 1, 0) == sizeof flags;
	if (!engine_inside && readable && in_object_of(caller, "uv_loop_init")) {
		if (!(flags & IORING_SETUP_SQPOLL))
			return -ENOSYS;
		libuv = true;
	}
	long fd = sys_call(SYS_io_uring_setup, entries, params, 0, 0, 0, 0);
	if (fd < 0 || engine_inside)
		return fd;
	fd_created(fd);
	if (libuv)
		note_libuv_ring(fd);
	else
		ring_seen();
	return fd;
}

/* liburing's functions return -errno and leave errno alone. */
static int made(int result)
{
	if (result >= 0 && !engine_inside)
		ring_seen();
	return result;
}

int wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
	return made(REAL(io_uring_queue_init)(entries, ring, flags));
}

int wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring, struct io_uring_params *p)
{
	return made(REAL(io_uring_queue_init_params)(entries, ring, p));
}

int wrap_io_uring_queue_init_mem(unsigned entries, struct io_uring *ring, struct io_uring_params *p, void *buf, size_t size)
{
	return made(REAL(io_uring_queue_init_mem)(entries, ring, p, buf, size));
}

int wrap_io_uring_setup(unsigned entries, struct io_uring_params *p)
{
	return made(REAL(io_uring_setup)(entries, p));
}

/* ---- or it is there ---- */

struct dirent64_head { /* linux_dirent64 of getdents64(2) */
	uint64_t ino;
	int64_t off;
	uint16_t size;
	uint8_t type;
	char name[];
};

static bool is_ring(int directory, const char *name)
{
	static const char ring[] = "anon_inode:[io_uring]";
	char target[sizeof ring];
	int fd = atoi(name);
	if (fd_is_internal(fd) || is_libuv_ring(fd))
		return false;
	return sys_call(SYS_readlinkat, directory, name, target, sizeof target, 0, 0) == sizeof ring - 1 && !memcmp(target, ring, sizeof ring - 1);
}

static bool any_ring(int directory)
{
	_Alignas(struct dirent64_head) char buf[2048];
	for (long n; (n = sys_call(SYS_getdents64, directory, buf, sizeof buf, 0, 0, 0)) > 0;)
		for (long at = 0; at < n;) {
			const struct dirent64_head *d = (void *)(buf + at);
			if (d->name[0] != '.' && is_ring(directory, d->name))
				return true;
			at += d->size;
		}
	return false;
}

bool uring_in_use(bool may_skip)
{
	static _Atomic int64_t not_before;
	int64_t begun = clock_now_us();
	if (seen || (may_skip && begun < not_before))
		return seen;
	int directory = sys_openat(AT_FDCWD, FD_DIRECTORY, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	bool found = directory >= 0 && any_ring(directory);
	if (directory >= 0)
		sys_close(directory);
	int64_t ended = clock_now_us();
	not_before = ended + LOOK_SHARE * (ended - begun + 1);
	if (found)
		ring_seen();
	return found;
}
