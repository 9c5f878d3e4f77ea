#include "base/fd.h"

#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/resource.h>

#define FD_TABLE_SIZE 65536 /* numbers; 8 KiB of bits. A descriptor beyond it cannot be internal   \
			     */
#define FD_HIGH_END 1024    /* FD_SETSIZE: a program that uses select() looks no higher */
#define FD_HIGH_ROOM 128    /* numbers below the end, more than an engine keeps when little goes on */
#define FD_LOW_KEPT  64 /* with a tiny RLIMIT_NOFILE, do not fight for the program's first ones */

#define FD_WORD_BITS 64
static _Atomic uint64_t fd_table[FD_TABLE_SIZE / FD_WORD_BITS];

static void fd_mark(int fd)
{
	atomic_fetch_or_explicit(&fd_table[fd / FD_WORD_BITS], UINT64_C(1) << fd % FD_WORD_BITS,
				 memory_order_relaxed);
}

void fd_unmark(int fd)
{
	if (fd >= 0 && fd < FD_TABLE_SIZE)
		atomic_fetch_and_explicit(&fd_table[fd / FD_WORD_BITS],
					  ~(UINT64_C(1) << fd % FD_WORD_BITS),
					  memory_order_relaxed);
}

bool fd_is_internal(int fd)
{
	if (fd < 0 || fd >= FD_TABLE_SIZE)
		return false;
	uint64_t word = atomic_load_explicit(&fd_table[fd / FD_WORD_BITS], memory_order_relaxed);
	return word >> fd % FD_WORD_BITS & 1;
}

static int fd_high_end(void)
{
	struct rlimit64 lim;
	if (sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &lim, 0, 0) < 0 ||
	    lim.rlim_cur > FD_HIGH_END)
		return FD_HIGH_END;
	return lim.rlim_cur;
}

/*
 * One system call: the lowest free number from just below the end on, or beyond it, out of the program's way even more. -errno. Not beyond
 * before there is need: with several threads the kernel lets who makes its table larger than the end wait for an RCU grace period, 10 ms.
 */
static int fd_dup_high(int fd)
{
	int end = fd_high_end();
	int low = end - FD_HIGH_ROOM > FD_LOW_KEPT ? end - FD_HIGH_ROOM : FD_LOW_KEPT;
	if (fd >= low) /* is there */
		return -EMFILE;
	int high = sys_fcntl(fd, F_DUPFD_CLOEXEC, low);
	if (high < FD_TABLE_SIZE)
		return high;
	sys_close(high);
	return -EMFILE;
}

int fd_move_high(int fd)
{
	if (fd < 0)
		return fd;
	int high = fd_dup_high(fd);
	if (high >= 0) {
		sys_close(fd);
		fd = high;
	} else if (fd >= FD_TABLE_SIZE) {
		sys_close(fd);
		return -EMFILE;
	} else {
		sys_fcntl(fd, F_SETFD, FD_CLOEXEC);
	}
	fd_mark(fd);
	return fd;
}

int fd_copy_high(int fd)
{
	int high = fd_dup_high(fd);
	if (high < 0)
		return fd_move_high(sys_fcntl(fd, F_DUPFD_CLOEXEC, 0));
	fd_mark(high);
	return high;
}

void fd_close(int fd)
{
	if (fd < 0)
		return;
	fd_unmark(fd);
	sys_close(fd);
}
