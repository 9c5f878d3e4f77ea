/*
 * Programs that use io_uring themselves.
 *
 * What goes through a ring passes no function of libc: accept, recv, send, connect, poll and epoll_ctl by io_uring see
 * the kernel's descriptor and never the engine. So with a program's first ring its TCP goes to the kernel: what the
 * engine serves is handed over, what comes later stays there, and `finesse stat` says so. Clients that wait for accept
 * go to the queue of the kernel's listener (socket/requeue.c).
 *
 * But for a ring that does nothing but file operations (databases: mariadb). One that liburing makes is looked at
 * whenever what is in its queue is submitted, and its files when they are registered: operations on files by number,
 * none of which is a socket that the shim knows, leave the engine where it is. The first other operation makes it a
 * ring as above, before the kernel sees it.
 *
 * How a ring is noticed:
 * - liburing's functions that make one, and io_uring_setup by syscall(2), as libuv and the crates of Rust call it;
 * - where neither is called (a liburing that is linked statically makes the system call itself) by looking through
 *   /proc/self/fd before a socket is decided.
 *   The look takes some µs per descriptor, so it is taken at listen(2), and at connect(2) as often as costs LOOK_SHARE
 *   of the time at most.
 *
 * libuv makes two kinds of rings. One only batches epoll_ctl and has no SQPOLL: libuv is told that there is no such
 * call, as in containers that forbid it, and makes the calls one by one, which we see. The other does nothing but file
 * operations and is SQPOLL: it is left alone. So node keeps the engine.
 */
#include "shim.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/time.h"

#define LOOK_SHARE   200 /* one part of so many */
#define FD_DIRECTORY "/proc/self/fd"

#define RINGS_MAX    16 /* of libuv, and with files only; beyond, they are taken for others */
#define FILES_AT_ONCE 64

static const char why[] = "the program uses io_uring";
static _Atomic bool seen;
/* Rings that are left alone: fd + 1. */
static _Atomic int libuv_rings[RINGS_MAX], file_rings[RINGS_MAX];

static void ring_seen(void)
{
	if (!atomic_exchange(&seen, true))
		leave_engine(why);
}

/* ---- a ring is made ---- */

static bool in_object_of(const void *code, const char *symbol)
{
	Dl_info of_code, of_symbol;
	void *at = dlsym(RTLD_DEFAULT, symbol);
	return at && dladdr(code, &of_code) && dladdr(at, &of_symbol) && of_code.dli_fbase == of_symbol.dli_fbase;
}

/* False: there is no room. */
static bool note_ring(_Atomic int rings[RINGS_MAX], long fd)
{
	for (int i = 0; fd >= 0 && i < RINGS_MAX; i++) {
		int none = 0;
		if (rings[i] == fd + 1 || atomic_compare_exchange_strong(&rings[i], &none, fd + 1))
			return true;
	}
	return false;
}

static bool is_noted(_Atomic int rings[RINGS_MAX], int fd)
{
	for (int i = 0; i < RINGS_MAX; i++)
		if (rings[i] == fd + 1)
			return true;
	return false;
}

static void forget_ring(_Atomic int rings[RINGS_MAX], int fd)
{
	for (int i = 0; i < RINGS_MAX; i++) {
		int it = fd + 1;
		atomic_compare_exchange_strong(&rings[i], &it, 0);
	}
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
		note_ring(libuv_rings, fd);
	else
		ring_seen();
	return fd;
}

/* What changes the form of the queue's entries, or leaves the ring without a number of its own, is not known here. */
#define FORMS_KNOWN                                                                                                                                        \
	(IORING_SETUP_IOPOLL | IORING_SETUP_SQPOLL | IORING_SETUP_SQ_AFF | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_ATTACH_WQ |              \
	 IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG)

/* liburing's functions return -errno and leave errno alone. */
static int made(int result, const struct io_uring *ring)
{
	if (result < 0 || engine_inside)
		return result;
	if (!ring || (ring->flags & ~FORMS_KNOWN) || !note_ring(file_rings, ring->ring_fd))
		ring_seen();
	return result;
}

int wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
	return made(REAL(io_uring_queue_init)(entries, ring, flags), ring);
}

int wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring, struct io_uring_params *p)
{
	return made(REAL(io_uring_queue_init_params)(entries, ring, p), ring);
}

int wrap_io_uring_queue_init_mem(unsigned entries, struct io_uring *ring, struct io_uring_params *p, void *buf, size_t size)
{
	return made(REAL(io_uring_queue_init_mem)(entries, ring, p, buf, size), NULL);
}

int wrap_io_uring_setup(unsigned entries, struct io_uring_params *p)
{
	return made(REAL(io_uring_setup)(entries, p), NULL);
}

void wrap_io_uring_queue_exit(struct io_uring *ring)
{
	if (!engine_inside)
		forget_ring(file_rings, ring->ring_fd);
	REAL(io_uring_queue_exit)(ring);
}

/* ---- what goes through it ---- */

static bool is_file_operation(const struct io_uring_sqe *sqe)
{
	switch (sqe->opcode) {
	case IORING_OP_NOP:
	case IORING_OP_TIMEOUT:
	case IORING_OP_TIMEOUT_REMOVE:
	case IORING_OP_ASYNC_CANCEL:
	case IORING_OP_LINK_TIMEOUT:
	case IORING_OP_OPENAT:
	case IORING_OP_OPENAT2:
	case IORING_OP_STATX:
	case IORING_OP_RENAMEAT:
	case IORING_OP_UNLINKAT:
	case IORING_OP_MKDIRAT:
	case IORING_OP_MADVISE:
		return true;
	case IORING_OP_READV:
	case IORING_OP_WRITEV:
	case IORING_OP_READ:
	case IORING_OP_WRITE:
	case IORING_OP_READ_FIXED:
	case IORING_OP_WRITE_FIXED:
	case IORING_OP_FSYNC:
	case IORING_OP_SYNC_FILE_RANGE:
	case IORING_OP_FALLOCATE:
	case IORING_OP_FADVISE:
	case IORING_OP_CLOSE:
		return (sqe->flags & IOSQE_FIXED_FILE) || !fdtable_peek(sqe->fd); /* the registered ones were looked at before */
	}
	return false;
}

static void look_at_queue(const struct io_uring *ring)
{
	const struct io_uring_sq *sq = &ring->sq;
	if (engine_inside || seen || !is_noted(file_rings, ring->ring_fd))
		return;
	for (unsigned i = sq->sqe_head; i != sq->sqe_tail; i++)
		if (!is_file_operation(&sq->sqes[i & *sq->kring_mask])) {
			ring_seen();
			return;
		}
}

/* `files` is the program's, and may be anything. */
static void look_at_files(const int *files, unsigned n)
{
	int some[FILES_AT_ONCE];
	for (unsigned at = 0; !engine_inside && !seen && at < n; at += FILES_AT_ONCE) {
		unsigned now = n - at < FILES_AT_ONCE ? n - at : FILES_AT_ONCE;
		struct iovec to = {some, now * sizeof *some}, from = {(void *)(files + at), now * sizeof *some};
		if (sys_call(SYS_process_vm_readv, sys_getpid(), &to, 1, &from, 1, 0) != (long)to.iov_len)
			return;
		for (unsigned i = 0; i < now; i++)
			if (fdtable_peek(some[i]))
				ring_seen();
	}
}

int wrap_io_uring_submit(struct io_uring *ring)
{
	look_at_queue(ring);
	return REAL(io_uring_submit)(ring);
}

int wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned n)
{
	look_at_queue(ring);
	return REAL(io_uring_submit_and_wait)(ring, n);
}

int wrap_io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned n, struct __kernel_timespec *ts, sigset_t *mask)
{
	look_at_queue(ring);
	return REAL(io_uring_submit_and_wait_timeout)(ring, cqe, n, ts, mask);
}

int wrap_io_uring_submit_and_get_events(struct io_uring *ring)
{
	look_at_queue(ring);
	return REAL(io_uring_submit_and_get_events)(ring);
}

/* On old kernels these two submit what is in the queue. */
int wrap_io_uring_wait_cqes(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned n, struct __kernel_timespec *ts, sigset_t *mask)
{
	look_at_queue(ring);
	return REAL(io_uring_wait_cqes)(ring, cqe, n, ts, mask);
}

int wrap_io_uring_wait_cqe_timeout(struct io_uring *ring, struct io_uring_cqe **cqe, struct __kernel_timespec *ts)
{
	look_at_queue(ring);
	return REAL(io_uring_wait_cqe_timeout)(ring, cqe, ts);
}

int wrap_io_uring_register_files(struct io_uring *ring, const int *files, unsigned n)
{
	look_at_files(files, n);
	return REAL(io_uring_register_files)(ring, files, n);
}

int wrap_io_uring_register_files_tags(struct io_uring *ring, const int *files, const __u64 *tags, unsigned n)
{
	look_at_files(files, n);
	return REAL(io_uring_register_files_tags)(ring, files, tags, n);
}

int wrap_io_uring_register_files_update(struct io_uring *ring, unsigned off, const int *files, unsigned n)
{
	look_at_files(files, n);
	return REAL(io_uring_register_files_update)(ring, off, files, n);
}

int wrap_io_uring_register_files_update_tag(struct io_uring *ring, unsigned off, const int *files, const __u64 *tags, unsigned n)
{
	look_at_files(files, n);
	return REAL(io_uring_register_files_update_tag)(ring, off, files, tags, n);
}

/* Past liburing's queue: by its number, or by a function that is that system call. */
void uring_entered(int fd)
{
	if (!engine_inside && is_noted(file_rings, fd))
		ring_seen();
}

int wrap_io_uring_enter(unsigned fd, unsigned submit, unsigned wait, unsigned flags, sigset_t *mask)
{
	uring_entered((int)fd);
	return REAL(io_uring_enter)(fd, submit, wait, flags, mask);
}

int wrap_io_uring_enter2(unsigned fd, unsigned submit, unsigned wait, unsigned flags, sigset_t *mask, size_t size)
{
	uring_entered((int)fd);
	return REAL(io_uring_enter2)(fd, submit, wait, flags, mask, size);
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
	if (fd_is_internal(fd) || is_noted(libuv_rings, fd) || is_noted(file_rings, fd))
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
