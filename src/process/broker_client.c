/*
 * A member's side of the broker: one connection, made when something is asked for the first time; a request, and its
 * answer within BROKER_WAIT_MS.
 *
 * A broker whose connection is gone is not asked again. One that does not answer in time is busy, and left in peace for
 * SILENT_US. But who has no link without it, and would be the kernel's for good, asks anyway, and waits LINK_WAITS
 * times as long: its engine is not up yet, so no connection waits with it. Its connection stays, because its end says
 * that the member is dead: the broker would give the member's frames to the kernel, and reset what it has.
 *
 * All of it is under the engine's lock, but broker_client_configure (before there are threads), what is called in a
 * fork child, and client_look, whose question is asked every 400 ms: it has a connection of its own, and a broker that
 * is late then holds nobody up.
 */
#include "process/broker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/un.h>

#include "base/abstract.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "base/time.h"
#include "kernel/privileged.h"

#define SILENT_US (5 * USEC_PER_SEC)
#define LINK_WAITS 5
#define LOOK_CONNECT_MS 1 /* it is made under the lock: a broker with a full queue is late */
#define MARK_BYTES 4096 /* of addresses; nothing is ever touched there */

static struct {
	bool configured, gone;
	int fd; /* -1: not connected */
	int look_fd; /* a connection for questions without the lock; -1: none */
	int64_t silent_until_us; /* it did not answer in time: nothing is asked until then */
	bool look_refused;
	bool look_cut; /* nobody waits for the answer any more: that is no silence of the broker's */
	int64_t look_silent_until_us; /* the same of what is asked aside */
	uint32_t last_id;
	char name[BROKER_NAME_LEN + 1];
	uint8_t token[BROKER_TOKEN_BYTES];
} client = {.fd = -1, .look_fd = -1};

bool broker_client_has_broker(void)
{
	return client.configured && !client.gone;
}

static void give_up(const char *why, int err)
{
	log_info("broker", "%s (%s): it is not asked again", why, strerrordesc_np(-err));
	fd_close(client.fd);
	client.fd = -1;
	client.gone = true;
}

static bool is_silent(void)
{
	return clock_now_us() < client.silent_until_us;
}

static void note_failure(const char *what, int err)
{
	if (err != -EAGAIN && err != -EINTR) {
		give_up(what, err);
		return;
	}
	client.silent_until_us = clock_now_us() + SILENT_US;
	log_info("broker", "%s in time", what);
}

static struct timeval timeval_of_ms(unsigned ms)
{
	return (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
}

static int connect_to(int fd, unsigned connect_ms)
{
	const struct timeval wait = timeval_of_ms(BROKER_WAIT_MS), until_heard = timeval_of_ms(connect_ms);
	struct broker_request hello;
	struct sockaddr_un addr;
	socklen_t len = broker_address(client.name, &addr);
	sys_setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &until_heard, sizeof until_heard); /* connect's wait, too */
	sys_setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
	int err = sys_connect(fd, &addr, len);
	if (err)
		return err;
	if (!abstract_peer_is_trusted(fd)) /* not everybody who took the name is the broker */
		return -EACCES;
	memset(&hello, 0, sizeof hello);
	hello.op = BROKER_HELLO;
	memcpy(hello.token, client.token, sizeof hello.token);
	return broker_send(fd, &hello, sizeof hello, NULL, 0);
}

/* An internal descriptor, or -errno: -EAGAIN where the broker has not listened for so long. */
static int connect_new(unsigned connect_ms)
{
	int fd = fd_move_high(sys_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
	if (fd < 0)
		return fd;
	int err = connect_to(fd, connect_ms);
	if (err)
		fd_close(fd);
	return err ? err : fd;
}

/*
 * Of numbers or memory, for now; or too many descriptors of the user's are under way, whoever sent them. The broker is
 * there.
 */
static bool is_short(int err)
{
	return err == -EMFILE || err == -ENFILE || err == -ENOMEM || err == -ENOBUFS || err == -ETOOMANYREFS;
}

static int be_connected(void)
{
	if (!broker_client_has_broker())
		return -EPERM;
	if (client.fd >= 0)
		return 0;
	int fd = connect_new(BROKER_WAIT_MS);
	if (is_short(fd))
		return fd;
	if (fd < 0) {
		note_failure("the broker cannot be reached", fd);
		return -EPERM;
	}
	client.fd = fd;
	return 0;
}

static void keep_high(struct broker_fds *fds)
{
	for (int i = 0; i < fds->n; i++)
		fds->fd[i] = fd_move_high(fds->fd[i]);
}

static void drop(struct broker_fds *fds)
{
	for (int i = 0; i < fds->n; i++)
		fd_close(fds->fd[i]);
	fds->n = 0;
}

/*
 * The answer to request `id`, for which it waits so often. What an earlier request, given up, was answered is skipped.
 */
static int answer_to(uint32_t id, struct broker_answer *a, struct broker_fds *in, unsigned waits)
{
	for (;;) {
		long n = broker_receive(client.fd, a, sizeof *a, in, 0);
		if (n == -EAGAIN && --waits)
			continue;
		if (n < 0)
			return n;
		if (n != sizeof *a)
			return n == 0 ? -ECONNRESET : -EBADMSG;
		keep_high(in);
		if (a->id == id)
			return 0;
		drop(in);
	}
}

/* -EPERM when there is nobody to ask: as if there were no broker. `in` NULL: nothing comes along. */
static int ask_with(struct broker_request *r, const struct broker_fds *out, struct broker_answer *a, struct broker_fds *in, unsigned waits)
{
	struct broker_fds none;
	int err = waits == 1 && is_silent() ? -EPERM : be_connected();
	if (err)
		return err;
	if (!in)
		in = &none;
	r->id = ++client.last_id;
	err = broker_send(client.fd, r, sizeof *r, out, 0);
	if (is_short(err))
		return err;
	if (!err)
		err = answer_to(r->id, a, in, waits);
	if (err) {
		note_failure("the broker does not answer", err);
		return -EPERM;
	}
	if (in == &none)
		drop(in);
	return a->result;
}

static int ask_for(struct broker_request *r, int passed, struct broker_answer *a, struct broker_fds *in, unsigned waits)
{
	return ask_with(r, &(struct broker_fds){.fd = {passed}, .n = passed >= 0}, a, in, waits);
}

static int ask(struct broker_request *r, int passed, struct broker_answer *a, struct broker_fds *in)
{
	return ask_for(r, passed, a, in, 1);
}

static void begin(struct broker_request *r, enum broker_op op)
{
	memset(r, 0, sizeof *r);
	r->op = op;
}

static int client_open_link(int ifindex, bool only_spare, struct privileged_link *out, char *why, size_t why_len)
{
	struct broker_request r;
	struct broker_answer a;
	struct broker_fds in = {.n = 0};
	begin(&r, BROKER_LINK);
	r.link.ifindex = ifindex;
	r.link.only_spare = only_spare;
	a.why[0] = 0;
	int err = ask_for(&r, -1, &a, &in, only_spare ? 1 : LINK_WAITS);
	if (err >= 0 && in.n != BROKER_FDS_MAX && in.n != 2)
		err = -EBADMSG;
	if (err < 0) {
		drop(&in);
		if (a.why[0])
			snprintf(why, why_len, "%.*s", (int)sizeof a.why, a.why);
		return err;
	}
	out->rx_fd = in.fd[0];
	out->tx_fd = in.fd[1];
	for (int i = 0; i < CLASSIFIER_FDS; i++)
		out->classifier[i] = in.n == 2 ? -1 : in.fd[2 + i];
	out->veth = a.veth;
	memcpy(out->secret, a.secret, sizeof out->secret);
	out->sysctls = a.sysctls;
	return 0;
}

static int client_repair(int fd, const struct privileged_repair *p)
{
	struct broker_request r;
	struct broker_answer a;
	begin(&r, BROKER_REPAIR);
	if (p->addr_len > sizeof r.repair.addr)
		return -EMSGSIZE;
	r.repair.value = p->value;
	r.repair.rcvbuf = p->rcvbuf;
	r.repair.sndbuf = p->sndbuf;
	if (p->addr) {
		r.repair.addr_len = p->addr_len;
		memcpy(r.repair.addr, p->addr, p->addr_len);
	}
	return ask(&r, fd, &a, NULL);
}

static int client_inject_fin(int fd, const void *packet, size_t len)
{
	struct broker_request r;
	struct broker_answer a;
	begin(&r, BROKER_FIN);
	if (len > sizeof r.data.bytes)
		return -EMSGSIZE;
	r.data.len = len;
	memcpy(r.data.bytes, packet, len);
	return ask(&r, fd, &a, NULL);
}

/* Without an answer. */
static int tell_with(struct broker_request *r, const struct broker_fds *out)
{
	int err = client.fd < 0 && is_silent() ? -EPERM : be_connected();
	if (err)
		return err;
	err = broker_send(client.fd, r, sizeof *r, out, MSG_DONTWAIT);
	if (err && err != -EAGAIN && !is_short(err)) {
		give_up("the broker is gone", err);
		return -EPERM;
	}
	return err;
}

static int tell(struct broker_request *r, int passed)
{
	return tell_with(r, &(struct broker_fds){.fd = {passed}, .n = passed >= 0});
}

static int client_use_neighbour(int ifindex, const struct ip_addr *addr)
{
	struct broker_request r;
	begin(&r, BROKER_NEIGHBOUR);
	r.neighbour.ifindex = ifindex;
	r.neighbour.addr = *addr;
	int err = tell(&r, -1);
	return err == -EAGAIN ? 0 : err; /* busy: the next use asks again */
}

static int client_watch(int table_fd)
{
	struct broker_request r;
	begin(&r, BROKER_TABLE);
	return tell(&r, table_fd);
}

static int client_watch_ring(int rx_fd)
{
	struct broker_request r;
	begin(&r, BROKER_RING);
	return tell(&r, rx_fd);
}

void broker_client_joined(const struct broker_slot *slot, int members_fd, int flows_fd)
{
	struct broker_request r;
	begin(&r, BROKER_JOINED);
	r.joined = *slot;
	tell_with(&r, &(struct broker_fds){.fd = {members_fd, flows_fd}, .n = 2});
}

void broker_client_passes(int listening_fd, const int spare[2])
{
	struct broker_request r;
	begin(&r, BROKER_PASSED);
	tell_with(&r, &(struct broker_fds){.fd = {listening_fd, spare[0], spare[1]}, .n = 3});
}

int broker_client_spare(int listening_fd, int spare[2])
{
	struct broker_request r;
	struct broker_answer a;
	struct broker_fds in = {.n = 0};
	begin(&r, BROKER_SPARE);
	int err = ask(&r, listening_fd, &a, &in);
	if (err >= 0 && in.n != 2)
		err = -EBADMSG;
	if (err < 0)
		drop(&in);
	else
		memcpy(spare, in.fd, 2 * sizeof spare[0]);
	return err;
}

static int client_end_time_wait(const struct flow_key *key, const uint32_t cookie[2], int ifindex)
{
	struct broker_request r;
	struct broker_answer a;
	begin(&r, BROKER_TIME_WAIT);
	r.time_wait.ifindex = ifindex;
	r.time_wait.key = *key;
	memcpy(r.time_wait.cookie, cookie, sizeof r.time_wait.cookie);
	return ask(&r, -1, &a, NULL);
}

static int client_read_firewall(void)
{
	struct broker_request r;
	struct broker_answer a;
	struct broker_fds in = {.n = 0};
	begin(&r, BROKER_FIREWALL);
	int err = ask(&r, -1, &a, &in);
	if (err >= 0 && in.n == 1)
		return in.fd[0];
	drop(&in);
	if (err == -EPERM && client.fd >= 0 && is_silent())
		return -EAGAIN;
	return err < 0 ? err : -EBADMSG;
}

/*
 * The connection of the other questions stands for the process at the broker's, and is not given up for this one: the
 * name may be out of this thread's reach (Landlock, setns).
 */
static void look_is_silent(void)
{
	client.look_fd = -1;
	client.look_silent_until_us = client.look_cut ? 0 : clock_now_us() + SILENT_US;
	client.look_cut = false;
}

static int client_look_begin(void)
{
	if (client.look_fd >= 0)
		return client.look_fd;
	if (!broker_client_has_broker() || is_silent() || clock_now_us() < client.look_silent_until_us)
		return -EPERM;
	client.look_fd = connect_new(LOOK_CONNECT_MS);
	int err = client.look_fd;
	client.look_refused = err < 0 && err != -EAGAIN && err != -EINTR && !is_short(err);
	if (err >= 0)
		return err;
	look_is_silent();
	return -EPERM;
}

/* Nothing here but the descriptor is the lock's. */
static int client_look(int fd, uint32_t *generation)
{
	struct broker_request r;
	struct broker_answer a;
	struct broker_fds in = {.n = 0};
	begin(&r, BROKER_CGROUP);
	if (broker_send(fd, &r, sizeof r, NULL, 0) || broker_receive(fd, &a, sizeof a, &in, 0) != sizeof a)
		return -EPERM;
	if (a.result >= 0)
		*generation = a.generation;
	return a.result;
}

/* The connection stays until its thread has seen that: the number is not another's before. */
static void client_look_cut(void)
{
	client.look_cut = client.look_fd >= 0;
	sys_call(SYS_shutdown, client.look_fd, SHUT_RDWR, 0, 0, 0, 0);
}

/* An answer may still come: who asks again has another connection. */
static bool client_look_failed(void)
{
	if (client.look_fd >= 0) { /* otherwise the silence has begun already, and would never end */
		fd_close(client.look_fd);
		look_is_silent();
	}
	return broker_client_has_broker() && !client.look_refused;
}

static int client_make_group(int fds[CLASSIFIER_GROUP_FDS])
{
	struct broker_request r;
	struct broker_answer a;
	struct broker_fds in = {.n = 0};
	begin(&r, BROKER_GROUP);
	int err = ask(&r, -1, &a, &in);
	if (err >= 0 && in.n != CLASSIFIER_GROUP_FDS)
		err = -EBADMSG;
	if (err < 0)
		drop(&in);
	else
		memcpy(fds, in.fd, CLASSIFIER_GROUP_FDS * sizeof fds[0]);
	return err;
}

static int client_enter_maps(const struct privileged_enter *maps, unsigned n)
{
	struct broker_request r;
	struct broker_answer a;
	struct broker_fds out = {.n = 0};
	begin(&r, BROKER_ENTER);
	for (unsigned i = 0; i < n && i < PRIVILEGED_ENTER_MAX; i++) {
		r.enter.key[i] = maps[i].key;
		out.fd[out.n++] = maps[i].map_fd;
		out.fd[out.n++] = maps[i].inner_fd;
	}
	r.enter.n = n;
	r.enter.until_us = clock_now_us() + BROKER_WAIT_MS * USEC_PER_MSEC;
	return ask_with(&r, &out, &a, NULL, 1);
}

static int client_establish(const struct flow_key *key, bool opened_here)
{
	struct broker_request r;
	struct broker_answer a;
	begin(&r, BROKER_ESTABLISH);
	r.establish.key = *key;
	r.establish.client = opened_here;
	return ask(&r, -1, &a, NULL);
}

static const struct privileged_ops client_ops = {
	.open_link = client_open_link,
	.repair = client_repair,
	.inject_fin = client_inject_fin,
	.watch = client_watch,
	.watch_ring = client_watch_ring,
	.use_neighbour = client_use_neighbour,
	.end_time_wait = client_end_time_wait,
	.make_group = client_make_group,
	.enter_maps = client_enter_maps,
	.read_firewall = client_read_firewall,
	.look_begin = client_look_begin,
	.look = client_look,
	.look_cut = client_look_cut,
	.look_failed = client_look_failed,
	.establish = client_establish,
};

void broker_client_configure(const char *value)
{
	client.configured = broker_parse(value, client.name, client.token);
	privileged_ops = client.configured ? &client_ops : NULL;
}

void broker_client_mark(void)
{
	static bool marked; /* forked children have it, too */
	char name[sizeof BROKER_MARK + BROKER_NAME_LEN];
	if (marked || !client.configured)
		return;
	snprintf(name, sizeof name, "%s%s", BROKER_MARK, client.name);
	long fd = sys_call(SYS_memfd_create, (long)name, MFD_CLOEXEC, 0, 0, 0, 0);
	if (fd < 0)
		return;
	marked = !sys_is_error(sys_mmap(NULL, MARK_BYTES, PROT_READ, MAP_SHARED, fd, 0));
	sys_close(fd);
}

void broker_client_after_fork(void)
{
	fd_close(client.fd);
	fd_close(client.look_fd);
	client.fd = client.look_fd = -1;
	client.look_silent_until_us = 0;
	client.look_refused = client.look_cut = false;
	client.silent_until_us = 0; /* the child has things to tell that are told once */
}

void broker_client_bye(void)
{
	struct broker_request r;
	if (client.fd < 0)
		return;
	begin(&r, BROKER_BYE);
	broker_send(client.fd, &r, sizeof r, NULL, MSG_DONTWAIT);
}
