/* A port's group: entering, answering, leaving. The protocol and its picture are in group.h. */
#include "process/group.h"

#include "process/broker.h"

#include "base/abstract.h"
#include "base/fd.h"
#include "base/fd_pass.h"
#include "base/log.h"
#include "base/sys.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ENTER_TIME_US (2 * USEC_PER_SEC) /* then whoever has the port is stopped, or it is not ours to ask */
#define AGAIN_TIME_US (40 * USEC_PER_MSEC) /* … of one who did not answer before: he is not waited for again */
#define ANSWER_LOOK_NS 1000000L /* meanwhile those are answered who wait for us */
#define NAP_NS        200000L
#define GROUP_BACKLOG 1024
_Static_assert(GROUP_FDS <= FD_PASS_MAX, "one message admits a member");
#define SERVED_AT_ONCE 64

bool group_place_equal(const struct group_place *a, const struct group_place *b)
{
	return a->port == b->port && a->family == b->family && a->v6only == b->v6only && ip_addr_equal(&a->addr, &b->addr);
}

void group_init(struct group *g, struct group_host *host, const struct group_place *place)
{
	*g = (struct group){.host = host, .place = *place, .name_fd = -1, .door_fd = -1, .slot_fd = -1, .spare = {-1, -1}};
}

/* ---- the door ---- */

static int door_watch(struct group *g, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
	return sys_epoll_ctl(g->door_fd, EPOLL_CTL_ADD, fd, &ev);
}

static int door_open(struct group *g)
{
	g->door_fd = fd_move_high(sys_epoll_create1(EPOLL_CLOEXEC));
	return g->door_fd < 0 ? g->door_fd : door_watch(g, g->name_fd);
}

static void close_one(int *fd)
{
	fd_close(*fd);
	*fd = -1;
}

static void door_close(struct group *g)
{
	for (unsigned i = 0; i < g->n_guests; i++)
		fd_close(g->guests[i]);
	g->n_guests = 0;
	close_one(&g->door_fd);
	close_one(&g->name_fd);
}

/* ---- slots ---- */

static int slot_bind(struct group *g, unsigned slot)
{
	struct sockaddr_un name;
	unsigned len = group_slot_name(g->id, slot, &name);
	int fd = sys_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int err = fd < 0 ? fd : sys_bind(fd, &name, len);
	if (err && fd >= 0)
		sys_close(fd);
	return err ? err : fd;
}

static void tell_broker(const struct group *g)
{
	int fds[CLASSIFIER_GROUP_FDS];
	if (classifier_group_fds(g->maps, fds) < CLASSIFIER_GROUP_FDS) /* no maps: the members see for themselves who has died */
		return;
	broker_client_joined(&(struct broker_slot){g->id, g->slot, classifier_group_generation(g->maps)}, fds[0], fds[1]);
}

static int slot_take(struct group *g)
{
	for (unsigned slot = 0; slot < CLASSIFIER_GROUP_SLOTS; slot++) {
		int fd = slot_bind(g, slot);
		if (fd == -EADDRINUSE)
			continue;
		if (fd < 0)
			return fd;
		g->slot_fd = fd_move_high(fd);
		g->slot = slot;
		int err = g->slot_fd < 0 ? g->slot_fd : classifier_group_take_slot(g->maps, slot);
		if (!err)
			tell_broker(g);
		return err;
	}
	return -EUSERS;
}

unsigned group_bury_dead(struct group *g)
{
	unsigned n = 0;
	if (g->state != GROUP_SHARED)
		return 0;
	for (unsigned slot = 0; slot < CLASSIFIER_GROUP_SLOTS; slot++) {
		if (slot == g->slot || !classifier_group_slot_is_taken(g->maps, slot))
			continue;
		int fd = slot_bind(g, slot);
		if (fd < 0)
			continue;
		classifier_group_reap_slot(g->maps, slot); /* while the name is ours: nobody can take it */
		sys_close(fd);
		n++;
	}
	return n;
}

/* ---- entering ---- */

static void nap(void)
{
	struct timespec ts = {0, NAP_NS};
	sys_ppoll(NULL, 0, &ts, NULL);
}

static int name_bind(struct group *g)
{
	struct sockaddr_un name;
	unsigned len = group_listen_name(&g->place, &name);
	int fd = fd_move_high(sys_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	int err = fd < 0 ? fd : sys_bind(fd, &name, len);
	if (!err)
		err = sys_listen(fd, GROUP_BACKLOG);
	g->name_fd = fd;
	if (!err)
		err = door_open(g);
	if (err)
		door_close(g);
	else
		g->state = GROUP_ALONE;
	return err;
}

static void close_all(int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (fds[i] >= 0)
			sys_close(fds[i]);
}

/* fds: name, spare, maps. All are taken or closed. */
static int take_what_was_sent(struct group *g, const struct group_admit *a, int *fds, unsigned n)
{
	int spare[2] = {fd_move_high(fds[1]), fd_move_high(fds[2])};
	fds[1] = fds[2] = -1;
	close_one(&g->spare[0]); /* from the parent; the same one */
	close_one(&g->spare[1]);
	memcpy(g->spare, spare, sizeof spare);
	g->host->has_spare(g->host);
	if (n < 4) { /* no maps */
		close_all(fds, n);
		return -EADDRINUSE;
	}
	g->id = a->id;
	g->name_fd = fd_move_high(fds[0]);
	int err = classifier_group_open(g->classifier, fds + 3, n - 3, &g->maps);
	if (!err)
		err = slot_take(g);
	if (!err)
		err = door_open(g);
	g->state = GROUP_SHARED;
	if (err) {
		log_info("group", "a group could not be joined (errno %d)", -err);
		group_leave(g);
		return -EADDRINUSE;
	}
	return 0;
}

static int receive_answer(struct group *g, int fd)
{
	struct group_admit a = {0};
	int fds[GROUP_FDS];
	unsigned n = GROUP_FDS;
	int r = fd_pass_receive(fd, &a, sizeof a, fds, &n, MSG_DONTWAIT);
	if (r == -EAGAIN)
		return -EINPROGRESS;
	if (r == 0 || r == -ECONNRESET) /* whoever had accepted us is gone; others may be there */
		return -EAGAIN;
	g->others_serve = a.result != -EOPNOTSUPP; /* otherwise the kernel does, for all */
	if (r == (int)sizeof a && a.magic == GROUP_MAGIC && a.result == 0 && n >= 3)
		return take_what_was_sent(g, &a, fds, n);
	close_all(fds, n);
	if (r < 0)
		return r;
	return r == (int)sizeof a && a.magic == GROUP_MAGIC && a.result < 0 ? -EADDRINUSE : -EPROTO;
}

/* Two processes may wait for each other, each with its engine's lock: so each answers while it waits. */
static int await_answer(struct group *g, int fd, int64_t end)
{
	int r;
	while ((r = receive_answer(g, fd)) == -EINPROGRESS) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		struct timespec look = {0, ANSWER_LOOK_NS};
		if (clock_now_us() >= end)
			return -ETIMEDOUT;
		sys_ppoll(&p, 1, &look, NULL);
		g->host->attends(g->host);
	}
	return r;
}

/* -EAGAIN: nobody has the name any more, or not quite yet. */
static int join(struct group *g, int kfd, int64_t end)
{
	struct group_join m = {.magic = GROUP_MAGIC, .spare_only = !g->classifier};
	struct sockaddr_un name;
	unsigned len = group_listen_name(&g->place, &name);
	int fd = sys_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	int r = sys_connect(fd, &name, len);
	if (r == -ECONNREFUSED)
		r = -EAGAIN;
	if (!r && !abstract_peer_is_trusted(fd)) /* of another's maps a port of ours could be starved */
		r = -EPERM;
	if (!r)
		r = fd_pass_send(fd, &m, sizeof m, &kfd, 1, MSG_DONTWAIT);
	if (r == -EPIPE || r == -ECONNRESET)
		r = -EAGAIN;
	if (!r)
		r = await_answer(g, fd, end);
	sys_close(fd);
	return r;
}

static int enter(struct group *g, struct classifier *classifier, int kfd)
{
	int64_t end = clock_now_us() + (g->in_vain ? AGAIN_TIME_US : ENTER_TIME_US);
	int r;
	g->classifier = classifier;
	g->refuses = g->others_serve = false;
	for (;;) {
		r = classifier ? name_bind(g) : -EADDRINUSE;
		if (r != -EADDRINUSE)
			return r;
		r = join(g, kfd, end);
		if (r == -ETIMEDOUT) /* it may be stopped: nobody serves then */
			g->others_serve = false;
		if (r != -EAGAIN)
			return r;
		if (!classifier)
			return -ENOENT;
		g->others_serve = true; /* unless one says otherwise */
		if (clock_now_us() >= end)
			return -ETIMEDOUT;
		nap();
		g->host->attends(g->host);
	}
}

int group_enter(struct group *g, struct classifier *classifier, int kfd)
{
	int r = enter(g, classifier, kfd);
	g->in_vain = classifier && r == -ETIMEDOUT;
	return r;
}

/* ---- answering ---- */

int group_prepare(struct group *g)
{
	return g->maps || !g->classifier ? 0 : classifier_group_new(g->classifier, &g->maps);
}

int group_begin(struct group *g)
{
	if (g->state == GROUP_SHARED)
		return 0;
	int err = group_prepare(g);
	if (!err && getrandom(&g->id, sizeof g->id, 0) != sizeof g->id)
		err = -EIO;
	if (!err)
		err = slot_take(g);
	if (!err)
		err = group_spare_make(g);
	if (!err) {
		g->state = GROUP_SHARED;
		err = g->host->begins(g->host);
	}
	if (!err)
		return 0;
	log_info("group", "port %u cannot be shared (errno %d)", g->place.port, -err);
	g->state = GROUP_ALONE;
	close_one(&g->slot_fd);
	if (g->maps)
		classifier_group_free(g->maps);
	g->maps = NULL;
	return err;
}

static void answer(struct group *g, int fd, const struct group_join *m, int kfd)
{
	struct group_admit a = {.magic = GROUP_MAGIC, .result = -EADDRINUSE};
	int fds[GROUP_FDS];
	if (m->magic == GROUP_MAGIC && kfd >= 0 && g->host->admits(g->host, kfd))
		a.result = g->refuses ? -EOPNOTSUPP : 0;
	if (!a.result && g->state == GROUP_ALONE) {
		a.result = group_begin(g);
		if (a.result) {
			a.result = -EOPNOTSUPP;
			g->refuses = true;
			g->host->gives_up(g->host);
		}
	}
	if (!a.result) {
		a.id = g->id;
		fds[0] = g->name_fd;
		fds[1] = g->spare[0];
		fds[2] = g->spare[1];
		unsigned n_maps = classifier_group_fds(g->maps, fds + 3);
		a.n_fds = m->spare_only ? 3 : 3 + n_maps;
	}
	fd_pass_send(fd, &a, sizeof a, fds, a.n_fds, MSG_DONTWAIT);
	if (!a.result && m->spare_only)
		g->host->has_engineless(g->host);
}

static void guest_forget(struct group *g, int fd)
{
	for (unsigned i = 0; i < g->n_guests; i++)
		if (g->guests[i] == fd) {
			g->guests[i] = g->guests[--g->n_guests];
			break;
		}
	fd_close(fd); /* which takes it out of the epoll, too */
}

static void guest_comes(struct group *g)
{
	int fd = fd_move_high(sys_accept4(g->name_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
	if (fd < 0) /* another member was quicker */
		return;
	if (g->n_guests == GROUP_GUESTS_MAX) /* he had time enough; an honest one comes again */
		guest_forget(g, g->guests[0]);
	if (door_watch(g, fd)) {
		fd_close(fd);
		return;
	}
	g->guests[g->n_guests++] = fd;
}

static void guest_asks(struct group *g, int fd)
{
	struct group_join m = {0};
	int kfd = -1;
	unsigned n = 1;
	int r = fd_pass_receive(fd, &m, sizeof m, &kfd, &n, MSG_DONTWAIT);
	if (r == -EAGAIN)
		return;
	if (r == (int)sizeof m)
		answer(g, fd, &m, n ? kfd : -1);
	if (n)
		sys_close(kfd);
	guest_forget(g, fd);
}

void group_serve(struct group *g)
{
	struct epoll_event ev;
	for (int i = 0; g->door_fd >= 0 && i < SERVED_AT_ONCE && sys_epoll_pwait(g->door_fd, &ev, 1, 0, NULL) == 1; i++) {
		if (ev.data.fd == g->name_fd)
			guest_comes(g);
		else
			guest_asks(g, ev.data.fd);
	}
}

/* ---- leaving ---- */

void group_leave(struct group *g)
{
	if (g->maps)
		classifier_group_free(g->maps);
	g->maps = NULL;
	close_one(&g->slot_fd);
	door_close(g);
	g->state = GROUP_OUT;
}

void group_fini(struct group *g)
{
	group_leave(g);
	close_one(&g->spare[0]);
	close_one(&g->spare[1]);
}

void group_after_fork(struct group *g)
{
	g->maps = NULL; /* classifier_forget closes them */
	close_one(&g->slot_fd);
	door_close(g);
	g->state = GROUP_OUT;
	g->in_vain = false;
	g->classifier = NULL;
}
