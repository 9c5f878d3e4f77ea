/*
 * Listening sockets that came from elsewhere: over exec (LISTEN_FDS, inetd, a server that starts its successor) or by
 * SCM_RIGHTS.
 *
 * The shim has not seen them being made. So the first accept or epoll_ctl that names a number which is not in the table
 * asks the kernel once what is there. A TCP socket that listens is decided as if the program had called listen now,
 * with the backlog that it has. Every other way to a new listening socket passes the shim, so a number is never asked
 * about twice; SCM_RIGHTS brings new ones under old numbers (adopt_ask_again). What was decided to be the kernel's
 * stays so (adopt_never).
 *
 * A question is a system call that the program did not make, and a sandbox (seccomp) may end the process for it: sshd
 * polls its connection in one. So poll and select ask only about what LISTEN_FDS announces, SCM_RIGHTS brought, or a
 * program under us passed by exec, which says so (process/spare_exec.h). Who polls another listener is served from its
 * first accept on.
 *
 * A program that only starts workers, which accept, never asks. So before its first fork the first numbers are looked
 * at: what is there becomes an inherited listener, and the children share what clients wait in from the start (the
 * spare queue).
 */
#include "shim.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>

#include "base/sockopt.h"

#define FIRST_NUMBERS 64 /* a program is given its listeners under these */
#define NUMBERS 4096 /* what comes over exec, or is passed to a server, has a low number */

#define LISTEN_FDS_START 3 /* sd_listen_fds(3) */

static _Atomic uint64_t asked[NUMBERS / 64], passed[NUMBERS / 64];

/* Linux says it of a listening socket in a field with another name. */
static int backlog_of(int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof info;
	return sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) ? SOMAXCONN : (int)info.tcpi_sacked;
}

static bool is_listener(int fd, int *family)
{
	if (sockopt_int(fd, SOL_SOCKET, SO_ACCEPTCONN) != 1 || sockopt_int(fd, SOL_SOCKET, SO_PROTOCOL) != IPPROTO_TCP)
		return false;
	*family = sockopt_int(fd, SOL_SOCKET, SO_DOMAIN);
	return *family == AF_INET || *family == AF_INET6;
}

void adopt_never(int fd)
{
	if (fd >= 0 && fd < NUMBERS)
		atomic_fetch_or_explicit(&asked[fd / 64], UINT64_C(1) << fd % 64, memory_order_relaxed);
}

static bool look(int fd, int (*decide)(int, int))
{
	int family;
	adopt_never(fd);
	if (!is_listener(fd, &family))
		return false;
	int backlog = backlog_of(fd);
	file_note_candidate(fd, family, 0);
	struct call c;
	if (!call_hold(&c, fd))
		return false;
	c.file->candidate.shared = c.file->candidate.adopted = true;
	call_let_go(&c);
	if (decide(fd, backlog) == 0)
		return true;
	file_forget_candidate(fd);
	return false;
}

bool adopt_look(int fd)
{
	return look(fd, file_listen);
}

void adopt_before_fork(void)
{
	static _Atomic bool done;
	if (!shim_ready || engine_inside || atomic_exchange(&done, true))
		return;
	for (int fd = 0; fd < FIRST_NUMBERS; fd++)
		if (adopt_may(fd) && look(fd, file_given))
			shim_in_child = true; /* such a socket may exist */
}

bool adopt_may(int fd)
{
	return fd >= 0 && fd < NUMBERS && shim_ready && !engine_inside &&
	       !(atomic_load_explicit(&asked[fd / 64], memory_order_relaxed) >> fd % 64 & 1) && !fdtable_peek(fd);
}

static int n_listen_fds(void)
{
	static _Atomic int n = -1;
	int known = atomic_load_explicit(&n, memory_order_relaxed);
	if (known < 0) {
		const char *text = getenv("LISTEN_FDS");
		known = text ? atoi(text) : 0;
		known = known < 0 || known > NUMBERS ? 0 : known;
		atomic_store_explicit(&n, known, memory_order_relaxed);
	}
	return known;
}

bool adopt_is_announced(int fd)
{
	return (fd >= LISTEN_FDS_START && fd < LISTEN_FDS_START + n_listen_fds()) ||
	       (atomic_load_explicit(&passed[fd / 64], memory_order_relaxed) >> fd % 64 & 1);
}

void adopt_were_passed(void)
{
	for (int fd = 0; fd < FIRST_NUMBERS; fd++)
		adopt_ask_again(fd);
}

void adopt_duped(int fd, int to)
{
	if (fd >= 0 && fd < NUMBERS && (atomic_load_explicit(&asked[fd / 64], memory_order_relaxed) >> fd % 64 & 1))
		adopt_never(to);
}

void adopt_ask_again(int fd)
{
	if (fd < 0 || fd >= NUMBERS)
		return;
	atomic_fetch_and_explicit(&asked[fd / 64], ~(UINT64_C(1) << fd % 64), memory_order_relaxed);
	atomic_fetch_or_explicit(&passed[fd / 64], UINT64_C(1) << fd % 64, memory_order_relaxed);
}
