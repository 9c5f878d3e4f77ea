/*
 * The broker's life: see broker.h.
 *
 * Owns: the listening socket, a pidfd of whom it waits for, an epoll instance, and for each member its connection and
 * its pidfd. One thread serves the requests, one after the other, and the slowest (a link, some 50 ms) is within what
 * members wait; others make links ahead (broker_spares.c). Nothing here trusts a member: one that does not speak the
 * protocol is dropped.
 *
 * Limits: MEMBERS_MAX connections of members; of those that did not show the token yet, STRANGERS_MAX, or as many as
 * there are numbers for, then the oldest is dropped.
 */
#include "process/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/list.h"
#include "base/settings.h"
#include "base/sockopt.h"
#include "base/sys.h"
#include "kernel/living.h"
#include "kernel/privileged.h"
#include "process/broker_spares.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* since Linux 6.5 */
#endif

#define MEMBERS_MAX   8192 /* connections: one that asks about cgroups has two */
#define STRANGERS_MAX 32
#define BACKLOG       128
#define LAST_WORDS    1024 /* messages: more than a connection holds */
#define IS_PROCESS    ((uintptr_t)1) /* in what epoll tells of a member: its pidfd */
#define LOOK_AGAIN_MS 100 /* a process that execs just now shows no environment */

struct member {
	struct list node; /* broker.members, or broker.strangers, the oldest first */
	int fd;
	bool is_member; /* it showed the token */
	bool said_bye;
	int table_fd;   /* of its connections; -1: none */
	struct broker_rings rings;
	struct broker_slots slots;
	struct broker_spent spent;
};

struct broker {
	struct broker_ops_config ops;
	char value[BROKER_VALUE_LEN + 1];
	uint8_t token[BROKER_TOKEN_BYTES];
	int listen_fd, epoll_fd;
	int alive_fd; /* pidfd of a process for whom it stays; -1: none */
	int ifindex; /* that the tree is told to serve; 0: the default route's */
	struct list members, strangers;
	unsigned n_members, n_strangers;
};

/* ---- members ---- */

static int watch(struct broker *b, int fd, void *who)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = who};
	return sys_epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, fd, &ev);
}

static void member_drop(struct broker *b, struct member *m)
{
	list_unlink(&m->node);
	if (m->is_member)
		b->n_members--;
	else
		b->n_strangers--;
	bool placed = m->spent.place.fd >= 0;
	broker_place_return(&m->spent.place, m->said_bye); /* first: from here on the kernel has its frames */
	if (m->table_fd >= 0) /* before who is in the slots is asked: end of file is not to be overtaken by a reset */
		broker_deaths_add(m->table_fd);
	broker_slots_end(&m->slots);
	broker_rings_end(&m->rings, placed);
	sys_close(m->fd);
	if (m->spent.pidfd >= 0)
		sys_close(m->spent.pidfd);
	free(m);
}

static void drop_oldest_stranger(struct broker *b)
{
	member_drop(b, container_of(list_first(&b->strangers), struct member, node));
}

static int accept_one(const struct broker *b)
{
	return sys_accept4(b->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

/*
 * Where there is no number left, the oldest stranger gives way; and where nobody can, who comes is sent away by the
 * number of standard input (leave_files): the broker would be told of him for ever.
 */
static int accept_or_refuse(struct broker *b)
{
	int fd = accept_one(b);
	if (fd != -EMFILE)
		return fd;
	if (b->n_strangers) {
		drop_oldest_stranger(b);
		return accept_one(b);
	}
	sys_close(STDIN_FILENO);
	fd = accept_one(b);
	if (fd >= 0)
		sys_close(fd);
	sys_dup3(STDOUT_FILENO, STDIN_FILENO, 0);
	return -EMFILE;
}

/*
 * Who connected, as a pidfd: a number may be another process's by now. -1: it is gone, or we are out of descriptors. A
 * kernel before 6.5 has only the number.
 */
static int pidfd_of(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof peer;
	int pidfd;
	socklen_t pidfd_len = sizeof pidfd;
	int err = sys_getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &pidfd_len);
	if (!err)
		return pidfd;
	if (err != -ENOPROTOOPT || sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) || peer.pid <= 0)
		return -1;
	pidfd = sys_call(SYS_pidfd_open, peer.pid, 0, 0, 0, 0, 0);
	return pidfd < 0 ? -1 : pidfd;
}

static void on_connect(struct broker *b)
{
	int fd = accept_or_refuse(b);
	struct member *m = fd < 0 ? NULL : calloc(1, sizeof *m);
	if (!m) {
		if (fd >= 0)
			sys_close(fd);
		return;
	}
	m->fd = fd;
	m->table_fd = -1;
	m->spent.place.fd = -1;
	m->spent.pidfd = -1;
	list_push_back(&b->strangers, &m->node);
	b->n_strangers++;
	if (watch(b, fd, m))
		member_drop(b, m);
	else if (b->n_strangers > STRANGERS_MAX)
		drop_oldest_stranger(b);
}

static bool is_token(const struct broker *b, const uint8_t *token)
{
	uint8_t differs = 0;
	for (int i = 0; i < BROKER_TOKEN_BYTES; i++)
		differs |= token[i] ^ b->token[i];
	return !differs;
}

/* Its end is told by its connection; and by its pidfd, where a child of its has the connection, too. */
static void watch_process(struct broker *b, struct member *m)
{
	m->spent.pidfd = pidfd_of(m->fd);
	if (m->spent.pidfd >= 0)
		watch(b, m->spent.pidfd, (void *)((uintptr_t)m | IS_PROCESS));
}

/* False: it is no member. */
static bool hello(struct broker *b, struct member *m, const struct broker_request *r, long len)
{
	if (len != sizeof *r || r->op != BROKER_HELLO || !is_token(b, r->token) || b->n_members >= MEMBERS_MAX)
		return false;
	list_unlink(&m->node);
	list_push_back(&b->members, &m->node);
	m->is_member = true;
	b->n_strangers--;
	b->n_members++;
	watch_process(b, m);
	return true;
}

static void forget_table(struct member *m)
{
	if (m->table_fd >= 0)
		sys_close(m->table_fd);
	m->table_fd = -1;
}

static bool keep_table(struct member *m, struct broker_fds *in)
{
	if (in->n != 1 || !living_is_table(in->fd[0]))
		return false;
	forget_table(m);
	m->table_fd = in->fd[0];
	in->n = 0;
	return true;
}

static bool serve(struct broker *b, struct member *m, const struct broker_request *r, long len, struct broker_fds *in)
{
	struct broker_answer answer;
	struct broker_fds out;
	if (r->op == BROKER_TABLE)
		return keep_table(m, in);
	if (r->op == BROKER_RING)
		return len == sizeof *r && broker_rings_add(&m->rings, in);
	if (r->op == BROKER_PASSED)
		return len == sizeof *r && broker_passed_add(in);
	if (r->op == BROKER_JOINED)
		return len == sizeof *r && broker_slots_add(&m->slots, &r->joined, in);
	if (r->op == BROKER_BYE) {
		m->said_bye = true;
		forget_table(m);
		broker_rings_forget(&m->rings);
		return true;
	}
	if (!broker_ops_do(&b->ops, &m->spent, r, len, in, &answer, &out))
		return false;
	int err = broker_ops_is_answered(r) ? broker_send(m->fd, &answer, sizeof answer, &out, MSG_DONTWAIT) : 0;
	broker_ops_sent();
	return err == 0;
}

/* 1: a message was there; 0: none; -1: the member is dropped. */
static int on_member(struct broker *b, struct member *m)
{
	struct broker_request r;
	struct broker_fds in;
	memset(&r, 0, sizeof r);
	long len = broker_receive(m->fd, &r, sizeof r, &in, MSG_DONTWAIT);
	if (len == -EAGAIN)
		return 0;
	bool goes_on = len > 0 && (m->is_member ? serve(b, m, &r, len, &in) : hello(b, m, &r, len));
	for (int i = 0; i < in.n; i++)
		sys_close(in.fd[i]);
	if (!goes_on)
		member_drop(b, m);
	return goes_on ? 1 : -1;
}

/* What it said before it ended comes first: BROKER_BYE, most of all. */
static void on_death(struct broker *b, struct member *m)
{
	int ret = 1;
	for (int i = 0; i < LAST_WORDS && ret > 0; i++)
		ret = on_member(b, m);
	if (ret >= 0)
		member_drop(b, m);
}

/* ---- its end ---- */

/* Somebody of the tree lives, and is watched from now on. */
static bool find_alive(struct broker *b)
{
	b->alive_fd = broker_tree_find(b->value);
	if (b->alive_fd < 0) {
		struct timespec wait = {.tv_nsec = LOOK_AGAIN_MS * 1000000L};
		sys_ppoll(NULL, 0, &wait, NULL);
		b->alive_fd = broker_tree_find(b->value);
	}
	if (b->alive_fd < 0)
		return false;
	watch(b, b->alive_fd, &b->alive_fd);
	return true;
}

static void forget_ended(struct broker *b)
{
	if (b->alive_fd < 0 || !broker_process_ended(b->alive_fd))
		return;
	sys_close(b->alive_fd);
	b->alive_fd = -1;
}

/* Is there anybody who may ask? */
static bool is_needed(struct broker *b)
{
	forget_ended(b);
	return b->alive_fd >= 0 || b->n_members || find_alive(b);
}

/* False: nobody came so long. */
static bool serve_next(struct broker *b, int wait_ms)
{
	struct epoll_event ev;
	if (sys_epoll_pwait(b->epoll_fd, &ev, 1, wait_ms, NULL) != 1)
		return false;
	if (ev.data.ptr == &b->listen_fd)
		on_connect(b);
	else if (ev.data.ptr == &b->alive_fd)
		forget_ended(b);
	else if (ev.data.u64 & IS_PROCESS)
		on_death(b, (struct member *)((uintptr_t)ev.data.ptr & ~IS_PROCESS));
	else
		on_member(b, ev.data.ptr);
	return true;
}

static void run(struct broker *b)
{
	for (bool over = false; !over;) {
		int wait_ms = broker_deaths_serve();
		over = wait_ms < 0 && !is_needed(b);
		if (wait_ms < 0 && !over && broker_spares_lack())
			broker_spares_tend();
		if (serve_next(b, 0)) /* also a member that has come and died meanwhile */
			over = false;
		else if (!over)
			serve_next(b, wait_ms < 0 ? broker_spares_tend() : wait_ms);
	}
}

/* ---- its beginning ---- */

/* The kernel's struct sigaction. */
struct kernel_sigaction {
	void (*handler)(int);
	unsigned long flags;
	void (*restorer)(void);
	uint64_t mask;
};

static void ignore(int sig)
{
	struct kernel_sigaction sa = {.handler = SIG_IGN};
	sys_call(SYS_rt_sigaction, sig, &sa, NULL, sizeof sa.mask, 0, 0);
}

/* Nothing of the program's is left: a pipe that it held open would keep its reader waiting. */
static void leave_files(struct broker *b)
{
	enum { FIRST_KEPT = 3 };
	int keep[] = {b->listen_fd, b->alive_fd};
	for (int i = 0; i < 2; i++) { /* beyond where they are put below */
		int copy = sys_fcntl(keep[i], F_DUPFD_CLOEXEC, FIRST_KEPT + 2);
		keep[i] = copy;
	}
	for (int i = 0; i < 2; i++)
		sys_dup3(keep[i], FIRST_KEPT + i, O_CLOEXEC);
	b->listen_fd = FIRST_KEPT;
	b->alive_fd = FIRST_KEPT + 1;
	sys_call(SYS_close_range, FIRST_KEPT + 2, ~0u, 0, 0, 0, 0);
	int null = sys_openat(AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0);
	for (int fd = 0; fd < FIRST_KEPT; fd++) {
		sys_close(fd);
		if (null >= 0)
			sys_dup3(null, fd, 0);
	}
	if (null >= 0)
		sys_close(null);
}

static void become_broker(struct broker *b)
{
	static const int ignored[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2};
	struct rlimit files;
	uint64_t none = 0;
	for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
		ignore(ignored[i]);
	sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none, 0, 0);
	sys_call(SYS_setsid, 0, 0, 0, 0, 0, 0);
	sys_call(SYS_chdir, "/", 0, 0, 0, 0, 0);
	sys_call(SYS_prctl, PR_SET_NAME, "finesse-broker", 0, 0, 0, 0);
	sys_call(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0, 0);
	if (sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &files, 0, 0) == 0) {
		files.rlim_cur = files.rlim_max;
		sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, &files, NULL, 0, 0);
	}
	leave_files(b);
	broker_ops_prepare(&b->ops, b->ifindex);
	b->epoll_fd = sys_epoll_create1(EPOLL_CLOEXEC);
	if (b->epoll_fd >= 0 && watch(b, b->listen_fd, &b->listen_fd) == 0 && watch(b, b->alive_fd, &b->alive_fd) == 0)
		run(b);
	for (;;)
		sys_call(SYS_exit_group, 0, 0, 0, 0, 0, 0);
}

static void random_digits(char *out, size_t n)
{
	uint8_t bytes[BROKER_VALUE_LEN / 2];
	sys_call(SYS_getrandom, bytes, n / 2, 0, 0, 0, 0);
	for (size_t i = 0; i < n / 2; i++)
		sprintf(out + 2 * i, "%02x", bytes[i]);
}

static int open_listener(const char *name)
{
	struct sockaddr_un addr;
	socklen_t len = broker_address(name, &addr);
	int fd = sys_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	int err = sys_bind(fd, &addr, len);
	if (!err)
		err = sys_listen(fd, BACKLOG);
	if (!err)
		return fd;
	sys_close(fd);
	return err;
}

/*
 * The broker, of whom no wait() of the program's must hear. It is the child of a process that ends at once, and so of
 * init or whoever adopts orphans here. Where that is the program itself (it is the first process of a container), the
 * broker is its child, but without an exit signal: only a wait with __WALL or __WCLONE sees it.
 */
static long make_process(struct broker *b)
{
	bool adopts = sys_getpid() == 1;
	long pid = sys_call(SYS_clone, 0, 0, 0, 0, 0, 0);
	if (pid == 0) {
		if (adopts || sys_call(SYS_clone, 0, 0, 0, 0, 0, 0) == 0)
			become_broker(b);
		for (;;)
			sys_call(SYS_exit_group, 0, 0, 0, 0, 0, 0);
	}
	if (pid > 0 && !adopts)
		sys_call(SYS_wait4, pid, NULL, __WALL, NULL, 0, 0);
	return pid;
}

int broker_start(const struct settings *settings, char value[BROKER_VALUE_LEN + 1])
{
	static struct broker b;
	char name[BROKER_NAME_LEN + 1], first[SETTINGS_INTERFACE_LEN];
	uint32_t needed = settings->classifier == CLASSIFIER_SOCKET ? 1u << CAP_NET_RAW : 1u << CAP_NET_ADMIN | 1u << CAP_NET_RAW;
	if (!privileged_has(needed))
		return -EPERM;
	list_init(&b.members);
	list_init(&b.strangers);
	random_digits(b.value, BROKER_VALUE_LEN);
	broker_parse(b.value, name, b.token);
	b.listen_fd = open_listener(name);
	if (b.listen_fd < 0)
		return b.listen_fd;
	b.ops = (struct broker_ops_config){settings->classifier, settings->firewall == FIREWALL_BYPASS, broker_netns_of(b.listen_fd)};
	b.ifindex = settings_interface(settings, 0, first) ? (int)if_nametoindex(first) : 0;
	b.alive_fd = sys_call(SYS_pidfd_open, sys_getpid(), 0, 0, 0, 0, 0);
	long pid = b.alive_fd < 0 ? b.alive_fd : make_process(&b);
	if (b.alive_fd >= 0)
		sys_close(b.alive_fd);
	sys_close(b.listen_fd);
	memcpy(value, b.value, BROKER_VALUE_LEN + 1);
	return pid < 0 ? (int)pid : 0;
}
