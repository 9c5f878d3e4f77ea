/* Calls that take any descriptor: fcntl, ioctl, dup, close, and those of files. */
#include "differential.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define HIGH_FD 200 /* duplicates go there */
#define INERT   0xee

static void call_ioctl(struct run *r, long request, long value)
{
	union {
		int i;
		char bytes[256];
		struct ifreq q;
	} arg;
	memset(&arg, INERT, sizeof arg);
	arg.i = value;
	long n = CALL(r, "ioctl", ioctl(r->fd, request, &arg));
	/* How much is queued depends on when the peer acknowledged. */
	if (n >= 0 && request != SIOCOUTQ && request != SIOCOUTQNSD)
		out(r, " %d", arg.i);
	if (request == FIONBIO || request == FIOASYNC)
		out(r, " fl=%x", fcntl(r->fd, F_GETFL));
	if (request == FIOCLEX || request == FIONCLEX)
		out(r, " fd=%x", fcntl(r->fd, F_GETFD));
}

static void call_ioctl_bad(struct run *r, long request, long unused)
{
	CALL(r, "ioctl", ioctl(r->fd, request, unmapped));
	CALL(r, "ioctl", ioctl(r->fd, request, NULL));
}

static void call_fcntl(struct run *r, long command, long value)
{
	long n = CALL(r, "fcntl", fcntl(r->fd, command, value));
	out(r, " fl=%x fd=%x", fcntl(r->fd, F_GETFL), fcntl(r->fd, F_GETFD));
	if (n >= HIGH_FD && (command == F_DUPFD || command == F_DUPFD_CLOEXEC)) {
		out(r, " copy=%x", fcntl(n, F_GETFD));
		close(n);
	}
}

static void call_fcntl_bad(struct run *r, long command, long unused)
{
	CALL(r, "fcntl", fcntl(r->fd, command, unmapped));
}

enum copying { DUP, DUP2, DUP2_SAME, DUP3_SAME, DUP3, DUP3_BAD, DUP2_ONTO, DUP_ONTO_IT, DUP2_NEGATIVE };

static void call_dup(struct run *r, long kind, long unused)
{
	char buffer[8];
	int copy = -1, other;
	if (kind == DUP)
		copy = FD_CALL(r, "dup", dup(r->fd));
	else if (kind == DUP2)
		copy = FD_CALL(r, "dup2", dup2(r->fd, HIGH_FD));
	else if (kind == DUP2_SAME)
		CALL(r, "dup2", dup2(r->fd, r->fd) - r->fd);
	else if (kind == DUP3_SAME)
		CALL(r, "dup3", dup3(r->fd, r->fd, 0));
	else if (kind == DUP3)
		copy = FD_CALL(r, "dup3", dup3(r->fd, HIGH_FD, O_CLOEXEC));
	else if (kind == DUP3_BAD)
		CALL(r, "dup3", dup3(r->fd, HIGH_FD, 1));
	else if (kind == DUP2_NEGATIVE)
		CALL(r, "dup2", dup2(r->fd, -1));
	else if (kind == DUP2_ONTO) { /* the number had a file of its own */
		other = fcntl(STDIN_FILENO, F_DUPFD, HIGH_FD);
		copy = FD_CALL(r, "dup2", dup2(r->fd, other));
	} else if (kind == DUP_ONTO_IT) { /* the socket's last descriptor is overwritten */
		CALL(r, "dup2", dup2(STDIN_FILENO, r->fd) - r->fd);
		CALL(r, "send", send(r->fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT));
		return;
	}
	if (copy < 0)
		return;
	out(r, " fd=%x", fcntl(copy, F_GETFD));
	CALL(r, "close", close(r->fd));
	CALL(r, "recv", recv(copy, buffer, 3, MSG_DONTWAIT));
	CALL(r, "send", send(copy, "copy", 4, MSG_NOSIGNAL | MSG_DONTWAIT));
	CALL(r, "recv", recv(r->fd, buffer, 3, MSG_DONTWAIT));
	r->fd = copy;
}

static void call_close(struct run *r, long times, long unused)
{
	for (long i = 0; i < times; i++)
		CALL(r, "close", close(r->fd));
	r->fd = -1;
}

static void call_close_range(struct run *r, long flags, long unused)
{
	CALL(r, "close_range", close_range(r->fd, r->fd, flags));
	out(r, " fd=%x", fcntl(r->fd, F_GETFD));
}

static void call_stat(struct run *r, long unused, long unused2)
{
	struct stat s;
	struct statfs fs;
	if (CALL(r, "fstat", fstat(r->fd, &s)) == 0)
		out(r, " mode=%o size=%ld links=%d", s.st_mode, (long)s.st_size, (int)s.st_nlink);
	if (CALL(r, "fstatfs", fstatfs(r->fd, &fs)) == 0)
		out(r, " type=%lx", (long)fs.f_type);
}

static void call_file(struct run *r, long kind, long unused)
{
	char buffer[64];
	switch (kind) {
	case 0:
		CALL(r, "lseek", lseek(r->fd, 0, SEEK_CUR));
		CALL(r, "lseek", lseek(r->fd, 0, 99));
		break;
	case 1:
		CALL(r, "fsync", fsync(r->fd));
		CALL(r, "fdatasync", fdatasync(r->fd));
		break;
	case 2:
		CALL(r, "ftruncate", ftruncate(r->fd, 0));
		CALL(r, "fallocate", fallocate(r->fd, 0, 0, 10));
		break;
	case 3:
		CALL(r, "mmap", mmap(NULL, 4096, PROT_READ, MAP_SHARED, r->fd, 0) == MAP_FAILED ? -1 : 0);
		break;
	case 4:
		CALL(r, "fchmod", fchmod(r->fd, 0600));
		CALL(r, "fchdir", fchdir(r->fd));
		break;
	case 5:
		CALL(r, "flock", flock(r->fd, LOCK_SH | LOCK_NB));
		CALL(r, "flock", flock(r->fd, LOCK_UN));
		break;
	case 6:
		CALL(r, "posix_fadvise", posix_fadvise(r->fd, 0, 10, POSIX_FADV_NORMAL));
		CALL(r, "readahead", readahead(r->fd, 0, 10));
		break;
	case 7:
		CALL(r, "isatty", isatty(r->fd));
		CALL(r, "getdents64", getdents64(r->fd, buffer, sizeof buffer));
		break;
	case 8:
		CALL(r, "fgetxattr", fgetxattr(r->fd, "user.x", buffer, sizeof buffer));
		CALL(r, "sync_file_range", sync_file_range(r->fd, 0, 1, 0));
		CALL(r, "syncfs", syncfs(r->fd));
		break;
	}
}

static volatile sig_atomic_t signals;

static void on_signal(int number)
{
	signals++;
}

/* A signal for whoever owns the socket: SIGURG; with O_ASYNC SIGIO, of which there may be more than one. */
static void call_owner(struct run *r, long number, long ending)
{
	struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, before;
	sigaction(number, &act, &before);
	signals = 0;
	CALL(r, "SETOWN", fcntl(r->fd, F_SETOWN, getpid()));
	out(r, " owned=%d", fcntl(r->fd, F_GETOWN) == getpid());
	if (number == SIGIO)
		CALL(r, "SETFL", fcntl(r->fd, F_SETFL, fcntl(r->fd, F_GETFL) | O_ASYNC));
	if (r->peer_has)
		peer_does(r, PEER_END, ending, 0);
	settle();
	out(r, " signals=%d fl=%x", signals > 0, fcntl(r->fd, F_GETFL));
	fcntl(r->fd, F_SETOWN, 0);
	sigaction(number, &before, NULL);
}

static const struct call calls[] = {
	{"owner.urgent", call_owner, SIGURG, END_OOB, 0},
	{"owner.data", call_owner, SIGURG, END_DATA, 0},
	{"owner.async", call_owner, SIGIO, END_DATA, 0},
	{"ioctl.FIONREAD", call_ioctl, FIONREAD, 0, CALL_SECOND},
	{"ioctl.SIOCOUTQ", call_ioctl, SIOCOUTQ, 0, 0},
	{"ioctl.SIOCOUTQNSD", call_ioctl, SIOCOUTQNSD, 0, 0},
	{"ioctl.SIOCATMARK", call_ioctl, SIOCATMARK, 0, CALL_SECOND},
	{"ioctl.FIONBIO.1", call_ioctl, FIONBIO, 1, 0},
	{"ioctl.FIONBIO.0", call_ioctl, FIONBIO, 0, 0},
	{"ioctl.FIOASYNC", call_ioctl, FIOASYNC, 1, 0},
	{"ioctl.FIOASYNC.0", call_ioctl, FIOASYNC, 0, 0},
	{"ioctl.FIOCLEX", call_ioctl, FIOCLEX, 0, 0},
	{"ioctl.FIONCLEX", call_ioctl, FIONCLEX, 0, 0},
	{"ioctl.FIOQSIZE", call_ioctl, 0x5460, 0, 0},
	{"ioctl.FIGETBSZ", call_ioctl, 2, 0, 0},
	{"ioctl.FIOSETOWN", call_ioctl, 0x8901, 0, 0},
	{"ioctl.FIOGETOWN", call_ioctl, 0x8903, 0, 0},
	{"ioctl.SIOCGPGRP", call_ioctl, 0x8904, 0, 0},
	{"ioctl.SIOCGSTAMP", call_ioctl, 0x8906, 0, 0},
	{"ioctl.SIOCGIFCONF", call_ioctl, SIOCGIFFLAGS, 0, 0},
	{"ioctl.TCGETS", call_ioctl, 0x5401, 0, 0},
	{"ioctl.TIOCGWINSZ", call_ioctl, 0x5413, 0, 0},
	{"ioctl.bogus", call_ioctl, 0x12345678, 0, 0},
	{"ioctl.0", call_ioctl, 0, 0, 0},
	{"ioctl.FIONREAD.bad", call_ioctl_bad, FIONREAD, 0, 0},
	{"ioctl.SIOCOUTQ.bad", call_ioctl_bad, SIOCOUTQ, 0, 0},
	{"ioctl.SIOCATMARK.bad", call_ioctl_bad, SIOCATMARK, 0, 0},
	{"ioctl.FIONBIO.bad", call_ioctl_bad, FIONBIO, 0, 0},
	{"ioctl.FIOASYNC.bad", call_ioctl_bad, FIOASYNC, 0, 0},
	{"fcntl.GETFL", call_fcntl, F_GETFL, 0, 0},
	{"fcntl.SETFL.nonblock", call_fcntl, F_SETFL, O_NONBLOCK, CALL_FIRST},
	{"fcntl.SETFL.0", call_fcntl, F_SETFL, 0, CALL_FIRST},
	{"fcntl.SETFL.append", call_fcntl, F_SETFL, O_RDWR | O_APPEND, 0},
	{"fcntl.SETFL.async", call_fcntl, F_SETFL, O_RDWR | O_ASYNC, 0},
	{"fcntl.SETFL.direct", call_fcntl, F_SETFL, O_RDWR | O_DIRECT, 0},
	{"fcntl.SETFL.all", call_fcntl, F_SETFL, -1 & ~O_DIRECT & ~O_ASYNC, 0},
	{"fcntl.GETFD", call_fcntl, F_GETFD, 0, 0},
	{"fcntl.SETFD", call_fcntl, F_SETFD, FD_CLOEXEC, 0},
	{"fcntl.SETFD.0", call_fcntl, F_SETFD, 0, 0},
	{"fcntl.DUPFD", call_fcntl, F_DUPFD, HIGH_FD, 0},
	{"fcntl.DUPFD_CLOEXEC", call_fcntl, F_DUPFD_CLOEXEC, HIGH_FD, 0},
	{"fcntl.DUPFD.negative", call_fcntl, F_DUPFD, -1, 0},
	{"fcntl.DUPFD.huge", call_fcntl, F_DUPFD, 1 << 30, 0},
	{"fcntl.GETOWN", call_fcntl, F_GETOWN, 0, 0},
	{"fcntl.SETOWN.0", call_fcntl, F_SETOWN, 0, 0},
	{"fcntl.GETSIG", call_fcntl, F_GETSIG, 0, 0},
	{"fcntl.SETSIG", call_fcntl, F_SETSIG, 10, 0},
	{"fcntl.SETSIG.bad", call_fcntl, F_SETSIG, 999, 0},
	{"fcntl.GETPIPE_SZ", call_fcntl, F_GETPIPE_SZ, 0, 0},
	{"fcntl.GET_SEALS", call_fcntl, 1034, 0, 0},
	{"fcntl.GETLEASE", call_fcntl, F_GETLEASE, 0, 0},
	{"fcntl.SETLEASE", call_fcntl, F_SETLEASE, F_RDLCK, 0},
	{"fcntl.NOTIFY", call_fcntl, F_NOTIFY, 1, 0},
	{"fcntl.bogus", call_fcntl, 4711, 0, 0},
	{"fcntl.GETLK.bad", call_fcntl_bad, F_GETLK, 0, 0},
	{"fcntl.SETOWN_EX.bad", call_fcntl_bad, F_SETOWN_EX, 0, 0},
	{"fcntl.GETOWN_EX.bad", call_fcntl_bad, F_GETOWN_EX, 0, 0},
	{"dup", call_dup, DUP, 0, 0},
	{"dup2", call_dup, DUP2, 0, 0},
	{"dup2.same", call_dup, DUP2_SAME, 0, 0},
	{"dup3.same", call_dup, DUP3_SAME, 0, 0},
	{"dup3", call_dup, DUP3, 0, 0},
	{"dup3.flags-bad", call_dup, DUP3_BAD, 0, 0},
	{"dup2.onto", call_dup, DUP2_ONTO, 0, 0},
	{"dup2.onto-it", call_dup, DUP_ONTO_IT, 0, 0},
	{"dup2.negative", call_dup, DUP2_NEGATIVE, 0, 0},
	{"close", call_close, 1, 0, 0},
	{"close.twice", call_close, 2, 0, 0},
	{"close_range", call_close_range, 0, 0, 0},
	{"close_range.cloexec", call_close_range, 4, 0, 0},
	{"close_range.bad", call_close_range, 8, 0, 0},
	{"fstat", call_stat, 0, 0, 0},
	{"lseek", call_file, 0, 0, 0},
	{"fsync", call_file, 1, 0, 0},
	{"ftruncate", call_file, 2, 0, 0},
	{"mmap", call_file, 3, 0, 0},
	{"fchmod", call_file, 4, 0, 0},
	{"flock", call_file, 5, 0, 0},
	{"fadvise", call_file, 6, 0, 0},
	{"isatty", call_file, 7, 0, 0},
	{"xattr", call_file, 8, 0, 0},
};
const struct call_table file_calls = {calls, sizeof calls / sizeof *calls};
