/*
 * A fake of src/socket for the shim's tests: every struct sock is a kernel socket on a hidden fd,
 * and each verb is the kernel's own call on it. So a program under the shim with this engine must
 * behave exactly as without: what differs is the shim's fault. Connections to and listeners on
 * ports FAKE_FIRST … are "ours".
 */
#include "fake_engine.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>

#include "base/fd.h"
#include "base/settings.h"
#include "base/sys.h"
#include "process/privilege.h"
#include "socket/options.h"
#include "socket/sock.h"

#define FAKE_FIRST 40000
#define FAKE_LAST  40999

void (*engine_on_handed_over)(struct sock *s, int kernel_fd);

static _Atomic bool exists;
static struct sock *all;
static long n_listen, n_connect, n_accept, n_handover, n_adopt, n_exit, n_close;

/* Tests read what the engine did from this file when the process ends. */
static void report(void)
{
	const char *path = getenv("FAKE_ENGINE_REPORT");
	char line[200];
	if (!path)
		return;
	int fd = sys_openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0644);
	int n = snprintf(
	    line, sizeof line,
	    "listen %ld connect %ld accept %ld handover %ld adopt %ld exit %ld close %ld\n",
	    n_listen, n_connect, n_accept, n_handover, n_adopt, n_exit, n_close);
	sys_write(fd, line, n);
	sys_close(fd);
}

static struct sock *fake_new(int hidden, bool listener, bool nonblock)
{
	struct sock *s = calloc(1, sizeof *s);
	s->refs = 1;
	s->hidden = hidden;
	s->listener = listener;
	s->nonblock = nonblock;
	s->next = all;
	all = s;
	exists = true;
	return s;
}

static bool port_is_ours(const struct sockaddr *addr, socklen_t len)
{
	int port = 0;
	if (addr->sa_family == AF_INET && len >= sizeof(struct sockaddr_in))
		port = ntohs(((const struct sockaddr_in *)addr)->sin_port);
	else if (addr->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6))
		port = ntohs(((const struct sockaddr_in6 *)addr)->sin6_port);
	return port >= FAKE_FIRST && port <= FAKE_LAST;
}

void engine_configure(const struct settings *s)
{
}

int sock_decide_listen(int kfd, const struct candidate *candidate, int backlog, struct sock **out)
{
	(void)candidate;
	struct sockaddr_storage a;
	socklen_t len = sizeof a;
	int r = sys_getsockname(kfd, &a, &len);
	if (r < 0 || !port_is_ours((struct sockaddr *)&a, len))
		return SOCK_KERNEL;
	r = sys_listen(kfd, backlog);
	if (r < 0)
		return r;
	int flags = sys_fcntl(kfd, F_GETFL, 0);
	/* The hidden fd is a dup: same queue. The application's fd is non-blocking from now on. */
	sys_fcntl(kfd, F_SETFL, flags | O_NONBLOCK);
	*out = fake_new(fd_move_high(sys_fcntl(kfd, F_DUPFD_CLOEXEC, 0)), true, flags & O_NONBLOCK);
	n_listen++;
	return 0;
}

/* Wait on the hidden fd as src/socket must: interruptible, by the counters. */
static int wait_for(struct sock *s, short events, unsigned run, unsigned norestart)
{
	struct timespec ts = {3600, 0};
	struct pollfd p = {s->hidden, events, 0};
	engine_wait_timeout = &ts;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	int r = engine_handlers.norestart != norestart ? -EINTR : 0;
	if (!r)
		sys_call(SYS_ppoll, &p, 1, &ts, NULL, 8, 0);
	engine_wait_timeout = NULL;
	return engine_handlers.norestart != norestart ? -EINTR : 0;
}

/* The body of a verb: try without waiting inside the "lock", wait outside. */
#define WAITING(s, flags, events, expr)                                                            \
	({                                                                                         \
		unsigned norestart_ = engine_handlers.norestart;                                   \
		long r_;                                                                           \
		for (;;) {                                                                         \
			engine_enter();                                                            \
			r_ = (s)->dead ? -EBADF : (expr);                                          \
			engine_leave();                                                            \
			if (r_ != -EAGAIN || (s)->nonblock || ((flags)&MSG_DONTWAIT))              \
				break;                                                             \
			if (wait_for(s, events, 0, norestart_) < 0) {                              \
				r_ = -EINTR;                                                       \
				break;                                                             \
			}                                                                          \
		}                                                                                  \
		r_;                                                                                \
	})

int engine_port_taken(int kfd, const struct sockaddr *addr, socklen_t len)
{
	(void)kfd, (void)addr, (void)len;
	return 0;
}

void engine_before_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	(void)fd, (void)addr, (void)len; /* no own addresses here */
}

static void set_reuse(int fd, int on)
{
	sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
}

/* `fd` connects from where the program bound `kfd`, which stays bound. */
static void bind_as(int fd, int kfd)
{
	struct sockaddr_storage at;
	socklen_t len = sizeof at, int_len = sizeof(int);
	int reuse = 0;
	sys_getsockopt(kfd, SOL_SOCKET, SO_REUSEADDR, &reuse, &int_len);
	set_reuse(kfd, 1);
	set_reuse(fd, 1);
	if (sys_getsockname(kfd, (struct sockaddr *)&at, &len) == 0)
		sys_bind(fd, (struct sockaddr *)&at, len);
	set_reuse(fd, reuse);
	set_reuse(kfd, reuse);
}

int sock_decide_connect(int kfd, const struct candidate *candidate, const struct sockaddr *addr,
			socklen_t len, bool nonblock, bool fastopen, struct sock **out)
{
	if (fastopen || kfd <= STDERR_FILENO) /* as the engine's plan_make */
		return SOCK_KERNEL;
	if (!addr || len < sizeof(sa_family_t) || !port_is_ours(addr, len))
		return SOCK_KERNEL;
	int fd = fd_move_high(sys_socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
	if (candidate->bound)
		bind_as(fd, kfd);
	int result = sys_connect(fd, addr, len);
	sys_fcntl(fd, F_SETFL, O_NONBLOCK);
	*out = fake_new(fd, false, nonblock);
	(*out)->result = nonblock && !result ? -EINPROGRESS : result;
	n_connect++;
	return 0;
}

struct sock *sock_ref(struct sock *s)
{
	s->refs++;
	return s;
}

void sock_unref(struct sock *s)
{
	if (--s->refs)
		return;
	fd_close(s->hidden);
	for (struct sock **p = &all; *p; p = &(*p)->next)
		if (*p == s) {
			*p = s->next;
			break;
		}
	free(s);
}

int sock_close(struct sock *s)
{
	n_close++;
	sock_unref(s);
	return 0;
}

bool sock_mode_changed(const struct sock *s)
{
	return s != NULL;
}

bool sock_is_listener(const struct sock *s)
{
	return s->listener &&
	       !s->inherited; /* as src/socket: inherited is another kind until adopted */
}

int sock_accept(struct sock *s, int flags, struct sockaddr *addr, socklen_t *len, struct sock **out,
		int *kernel_fd)
{
	if (!s->listener)
		return -EINVAL;
	/* A real engine needs no number of its own for a connection: give the fake one beyond the
	 * limit. */
	struct rlimit64 limit, more;
	sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit, 0, 0);
	more = (struct rlimit64){limit.rlim_max, limit.rlim_max};
	sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, &more, NULL, 0, 0);
	long fd =
	    WAITING(s, 0, POLLIN, sys_accept4(s->hidden, addr, len, SOCK_CLOEXEC | SOCK_NONBLOCK));
	sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, &limit, NULL, 0, 0);
	if (fd < 0)
		return fd;
	*out = fake_new(fd_move_high(fd), false, flags & SOCK_NONBLOCK);
	n_accept++;
	return 0;
}

/* The kernel's queue is the engine's here. */
int sock_accept_kernel(struct sock *s, int flags, struct sockaddr *addr, socklen_t *len,
		       int *kernel_fd)
{
	(void)s, (void)flags, (void)addr, (void)len, (void)kernel_fd;
	return -EMFILE;
}

int sock_connect(struct sock *s, const struct sockaddr *addr, socklen_t len, enum connect_how how,
		 bool *dissolve)
{
	*dissolve = !s->dead && len >= sizeof(sa_family_t) && addr->sa_family == AF_UNSPEC;
	if (s->dead || *dissolve)
		return s->dead ? -EBADF : 0;
	if (s->listener)
		return -EISCONN;
	if (how == CONNECT_ANEW)
		return sys_connect(s->hidden, addr, len);
	*dissolve = s->result < 0 && s->result != -EINPROGRESS;
	return s->result;
}

int sock_bind(struct sock *s, int fd, const struct sockaddr *addr, socklen_t len)
{
	(void)fd;
	return s->dead ? -EBADF : sys_bind(s->hidden, addr, len);
}

void sock_note_client(const struct sock *s, struct candidate *c)
{
	(void)s, (void)c;
}

bool sock_role_is_kept(const struct candidate *c)
{
	(void)c;
	return false;
}

void sock_put_error(struct sock *s, int error)
{
	(void)s, (void)error;
}

int sock_take_error(struct sock *s)
{
	int err = 0;
	socklen_t len = sizeof err;
	return sock_getsockopt(s, SOL_SOCKET, SO_ERROR, &err, &len) == 0 ? err : 0;
}

bool sock_message_is_kernels(struct sock *s, const struct msghdr *msg)
{
	(void)s, (void)msg;
	return false;
}

int sock_listener_to_kernel(struct sock *s, const char *why)
{
	(void)why;
	return s->dead ? -EBADF : 0;
}

int sock_disconnect(struct sock *s, enum disconnect why, int *error)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	*error = 0;
	if (s->dead)
		return -EBADF;
	s->dead = true;
	sys_connect(s->hidden, &none, sizeof none);
	return 0;
}

bool sock_ended_elsewhere(struct sock *s)
{
	(void)s;
	return false;
}

int sock_twin(struct sock *s, struct candidate *c)
{
	int family = AF_INET;
	socklen_t len = sizeof family;
	sys_getsockopt(s->hidden, SOL_SOCKET, SO_DOMAIN, &family, &len);
	*c = (struct candidate){.family = family};
	return sys_socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

int sock_listen_again(struct sock *s, int backlog)
{
	return s->dead ? -EBADF : sys_listen(s->hidden, backlog);
}

ssize_t sock_sendmsg(struct sock *s, const struct msghdr *msg, int flags, bool *dissolve)
{
	(void)dissolve;
	if (flags & MSG_FASTOPEN)
		return s->dead ? -EBADF : -EISCONN;
	struct msghdr m = *msg;
	struct iovec iov[1024];
	size_t total = 0, sent = 0;
	memcpy(iov, msg->msg_iov, msg->msg_iovlen * sizeof *iov);
	m.msg_iov = iov;
	for (size_t i = 0; i < m.msg_iovlen; i++)
		total += iov[i].iov_len;
	for (;;) {
		long r = WAITING(s, flags, POLLOUT,
				 sys_sendmsg(s->hidden, &m, flags | MSG_NOSIGNAL | MSG_DONTWAIT));
		if (r < 0)
			return sent ? (ssize_t)sent : r;
		sent += r;
		if (sent == total || s->nonblock || (flags & MSG_DONTWAIT))
			return sent;
		while (r > 0) {
			size_t step =
			    (size_t)r < m.msg_iov->iov_len ? (size_t)r : m.msg_iov->iov_len;
			m.msg_iov->iov_base = (char *)m.msg_iov->iov_base + step;
			m.msg_iov->iov_len -= step;
			r -= step;
			if (!m.msg_iov->iov_len) {
				m.msg_iov++;
				m.msg_iovlen--;
			}
		}
	}
}

static void setsockopt_rcvlowat(struct sock *s, int bytes)
{
	sys_setsockopt(s->hidden, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes);
}

/* MSG_WAITALL in the way of this fake: nothing is taken before all of it is there. */
static void wait_for_all(struct sock *s, const struct msghdr *msg)
{
	int have = 0, all_of_it = 0;
	for (size_t i = 0; i < msg->msg_iovlen; i++)
		all_of_it += msg->msg_iov[i].iov_len;
	setsockopt_rcvlowat(s, all_of_it);
	while (sys_ioctl(s->hidden, FIONREAD, &have) == 0 && have < all_of_it)
		wait_for(s, POLLIN, 0, engine_handlers.norestart);
	setsockopt_rcvlowat(s, 1);
}

ssize_t sock_send_file(struct sock *s, int fd, off_t at, size_t n, off_t end)
{
	(void)s, (void)fd, (void)at, (void)n, (void)end;
	return 0; /* not in this way */
}

ssize_t sock_splice_stops(struct sock *s)
{
	(void)s;
	return 1;
}

ssize_t sock_recvmsg(struct sock *s, struct msghdr *msg, int flags)
{
	if (flags & MSG_WAITALL)
		wait_for_all(s, msg);
	return WAITING(s, flags, POLLIN, sys_recvmsg(s->hidden, msg, flags | MSG_DONTWAIT));
}

int sock_shutdown(struct sock *s, int how)
{
	if (s->listener && !s->dead)
		return how == SHUT_WR ? 0 : SOCK_DISCONNECT;
	return s->dead ? -EBADF : sys_shutdown(s->hidden, how);
}

int sock_getsockopt(struct sock *s, int level, int name, void *val, socklen_t *len)
{
	return s->dead ? -EBADF : sys_getsockopt(s->hidden, level, name, val, len);
}

bool sock_wants_kernel(const struct sock *s)
{
	(void)s;
	return false;
}
int sock_setsockopt(struct sock *s, int level, int name, const void *val, socklen_t len)
{
	if (level == SOL_SOCKET && name == SO_MARK)
		return SOCK_KERNEL; /* an option that this engine lacks and the kernel has */
	return s->dead ? -EBADF : sys_setsockopt(s->hidden, level, name, val, len);
}

int sock_getsockname(struct sock *s, struct sockaddr *addr, socklen_t *len)
{
	return s->dead ? -EBADF : sys_getsockname(s->hidden, addr, len);
}

int sock_getpeername(struct sock *s, struct sockaddr *addr, socklen_t *len)
{
	return s->dead ? -EBADF : sys_getpeername(s->hidden, addr, len);
}

int sock_ioctl(struct sock *s, unsigned long request, void *arg)
{
	if (request == FIONBIO) {
		s->nonblock = *(int *)arg;
		return 0;
	}
	if (request == FIOCLEX || request == FIONCLEX) /* not the engine's */
		return -ENOTTY;
	return s->dead ? -EBADF : sys_ioctl(s->hidden, request, arg);
}

bool sock_lingers(const struct sock *s)
{
	(void)s;
	return false;
}

bool sock_get_nonblock(const struct sock *s)
{
	return s->nonblock;
}

void sock_set_nonblock(struct sock *s, bool on)
{
	s->nonblock = on;
}

bool engine_exists(void)
{
	return exists;
}

bool engine_sockets_are_watched(void)
{
	return true;
}

bool sock_may_bind_late(struct candidate *c, const struct sockaddr *addr, socklen_t len)
{
	(void)c, (void)addr, (void)len;
	return false;
}

void sock_late_name(const struct candidate *c, struct sockaddr *out, socklen_t *len)
{
	(void)c, (void)out, (void)len;
}

bool engine_puts_off(void)
{
	return false;
}

void engine_say(void)
{
}

int engine_before_death(struct engine *e)
{
	(void)e;
	return -ESRCH;
}

void engine_after_failed_exec(void)
{
}

void engine_main_leaves(bool (*last)(void))
{
	(void)last;
}

void engine_on_exit(bool for_good, bool hurries)
{
	(void)for_good;
	(void)hurries;
	n_exit++;
	report();
}

int sock_handover(struct sock *s, const char *why, enum handover_how how)
{
	if (s->dead)
		return -EBADF;
	n_handover++;
	s->dead = true;
	return s->listener ? 0 : sys_fcntl(s->hidden, F_DUPFD_CLOEXEC, 0);
}

int sock_handed_over(struct sock *s)
{
	return -EBADF;
}

bool engine_fork_prepare(bool anyway)
{
	(void)anyway;
	return true;
}

void engine_fork_parent(pid_t child)
{
}

void engine_fork_child(void)
{
	n_listen = n_connect = n_accept = n_handover = n_adopt = n_exit = n_close = 0;
	for (struct sock *s = all; s; s = s->next)
		s->inherited = true;
}

bool sock_is_inherited(const struct sock *s)
{
	return s->inherited;
}

int sock_decide_given(int kfd, const struct candidate *candidate, int backlog, struct sock **out)
{
	return SOCK_KERNEL;
}

void sock_share(struct sock *l)
{
	(void)l;
}

void sock_pass(struct sock *l)
{
	(void)l;
}

int sock_adopt(struct sock *s)
{
	n_adopt++;
	s->inherited = false;
	if (s->listener)
		return 0;
	s->dead = true;
	return sys_fcntl(s->hidden, F_DUPFD_CLOEXEC, 0);
}

bool engine_stop_thread(void)
{
	return false;
}

void engine_start_thread(void)
{
}

bool engine_is_strict(void)
{
	return false;
}

void engine_keep_out(const char *why)
{
}

void engine_note_netlink(void)
{
}

void engine_note_fallback(const char *what, const char *why)
{
}

void privilege_before_drop(struct engine *e)
{
}
