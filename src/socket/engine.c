/*
 * The engine: theory of operation.
 *
 * Owns: the interfaces' links (iface.c), the classifier, the kernel's view of the network, the TCP stack's
 * configuration, the demultiplexing table and every struct sock. One per process, made by the first socket that is
 * decided for it (engine_up), never unmade but by exit or fork (the child forgets it and may make its own).
 *
 * Invariants. Everything is touched under the drive's lock, and `engine_inside` counts the lock's holders of this
 * thread, so that the shim defers signal handlers while it is held. A turn (turn.c) is: time, frames in, timers, a
 * verb, segments out, transmit; payload that the link holds by reference never outlives the turn. A struct sock has one
 * reference per fd, per call in progress and per fork child, and one of the engine's while the protocol lives; the last
 * one frees it.
 *
 * Who drives: src/drive (a thread that waits; when all threads compute, the helper thread).
 */
#include "socket/engine.h"
#include "socket/fallback.h"
#include "socket/trace.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "base/thread.h"
#include "kernel/diag.h"
#include "kernel/procfile.h"
#include "kernel/sandbox.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

static struct engine engine = {.drive = DRIVE_BEFORE_INIT(&turn_ops), .stat_fd = -1}; /* the process's one; zero until engine_up */

struct engine *engine_of_process(void)
{
	return &engine;
}

void engine_lock(struct engine *e)
{
	drive_lock(&e->drive);
}

void engine_lock_only(struct engine *e)
{
	drive_lock_only(&e->drive);
}

void engine_unlock(struct engine *e)
{
	drive_unlock(&e->drive);
}

bool engine_exists(void)
{
	return __atomic_load_n(&engine.up, __ATOMIC_RELAXED) || engine.n_inherited;
}

bool engine_puts_off(void)
{
	return __atomic_load_n(&engine.drive.put_off_us, __ATOMIC_RELAXED);
}

void engine_say(void)
{
	engine_lock(&engine);
	engine_unlock(&engine);
}

void engine_configure(const struct settings *settings)
{
	engine.settings = *settings;
	engine.configured = true;
	trace_open(settings);
}

void *engine_alloc(struct engine *e, size_t size)
{
	void *p = pool_alloc(&e->pool, size);
	if (p)
		memset(p, 0, size);
	return p;
}

void engine_free(struct engine *e, void *p, size_t size)
{
	pool_free(&e->pool, p, size);
}

#define MEMORY_SHARE_MIN ((size_t)32 << 20)

static bool is_zero(const uint8_t *bytes, size_t n)
{
	while (n && !*bytes) {
		bytes++;
		n--;
	}
	return !n;
}

static int init_protocols(struct engine *e)
{
	uint8_t secret[64], local[16], cookie_secret[16];
	int err = host_secret(secret);
	if (err < 0)
		return err;
	if (err > 0 && !is_zero(e->host_secret, sizeof e->host_secret)) /* we may not read it, and the broker did */
		memcpy(secret, e->host_secret, sizeof secret);
	if (getrandom(local, sizeof local, 0) != sizeof local || getrandom(cookie_secret, sizeof cookie_secret, 0) != sizeof cookie_secret)
		return -EIO;
	memcpy(e->hash_secret, local, sizeof local);
	e->last_pair = e->last_net = (struct siphash_memo){0};
	err = ports_open(&e->ports, secret + 32);
	if (err)
		return err;
	flow_hasher_init(&e->flow_hasher, local);
	err = demux_init(&e->demux, &e->flow_hasher);
	if (!err)
		err = demux_init(&e->exceptions, &e->flow_hasher);
	if (!err)
		err = time_waits_init(&e->time_waits, &e->flow_hasher);
	if (err)
		return err;
	struct tcp_config config;
	tcp_config_default(&config);
	config.close_request = e->settings.close_request != CLOSE_REQUEST_OFF;
	tcp_stack_init(&e->tcp, &config, &e->pool.memory, secret);
	memcpy(&e->tcp.random, local, sizeof e->tcp.random);
	budget_init(&e->answers, local);
	syn_cookies_init(&e->cookies, cookie_secret);
	struct steer_config sc = {
		.kind = e->settings.close_policy == CLOSE_POLICY_OFF    ? STEER_OFF
			: e->settings.close_policy == CLOSE_POLICY_HOLD ? STEER_HOLD
									: STEER_ADAPTIVE,
		.hold_us = e->settings.close_hold_us,
		.hold_max_us = e->settings.close_hold_max_us,
		.client_budget = e->settings.close_client_budget,
		.budget_grows = e->settings.close_client_budget_grows,
		.budget_table = e->budget_table,
	};
	if (config.close_request)
		peers_open(&e->peers, NULL, secret + 48, e->netns); /* without memory for it everybody stays a stranger */
	e->steer = steer_new(&sc, secret + 48);
	return e->steer ? 0 : -ENOMEM;
}

/*
 * As much as the kernel would give to TCP: tcp_mem[2], which only the first network namespace shows; else a share of
 * the memory as there.
 */
static size_t memory_share(const struct engine *e)
{
	size_t page = sysconf(_SC_PAGESIZE), pages = 0;
	char *text;
	if (e->settings.memory_limit_bytes)
		return e->settings.memory_limit_bytes;
	if (procfile_read("/proc/sys/net/ipv4/tcp_mem", &text) == 0) {
		if (sscanf(text, "%*u %*u %zu", &pages) != 1)
			pages = 0;
		free(text);
	}
	if (!pages)
		pages = (size_t)sysconf(_SC_PHYS_PAGES) / 32 * 3;
	return pages * page > MEMORY_SHARE_MIN ? pages * page : MEMORY_SHARE_MIN;
}

void engine_make_budget_table(struct engine *e)
{
	uint8_t secret[16];
	if (!e->budget_table && getrandom(secret, sizeof secret, 0) == sizeof secret)
		e->budget_table = steer_budget_table_new(secret);
}

void engine_init_tables(struct engine *e)
{
	if (e->pool.memory.alloc)
		return;
	pool_init(&e->pool, 0);
	pool_set_share(&e->pool, memory_share(e));
	timers_init(&e->timers);
	list_init(&e->socks);
	list_init(&e->listeners);
	list_init(&e->draining);
	list_init(&e->deferring);
	list_init(&e->claims);
	e->claims_us = TIME_NEVER;
	list_init(&e->dirty);
	list_init(&e->stamps_due);
	list_init(&e->stalled);
	list_init(&e->held);
	list_init(&e->time_waits.queue);
	list_init(&e->partings);
	list_init(&e->children);
	list_init(&e->handed_over);
	list_init(&e->exception_list);
	engine_make_budget_table(e);
	turn_init(e);
	drive_init(&e->drive, &e->pool);
	e->drive.spin_us = e->settings.spin_us;
	turn_now(e);
}

/* The one line at the start: a person sees what is served, and how to see what is not. */
static void tell_served(struct engine *e)
{
	const struct link_info *info = iface_info(iface_first(e));
	char address[IP_ADDR_STRLEN] = "no address yet", more[24] = "";
	if (e->n_addrs)
		ip_addr_format(&e->addrs[0], address);
	if (e->n_addrs > 1)
		snprintf(more, sizeof more, " and %u more", e->n_addrs - 1);
	log_notice("engine", "serving TCP of pid %d on %s (%s%s; classifier %s, transmit %s); finesse stat %d tells the rest", sys_getpid(),
		   info->ifname, address, more, classifier_backend(e->classifier), info->tx_backend, sys_getpid());
}

/*
 * What the kernel knows of the network can be asked from here on; of the namespace that the calling thread is in, while
 * the engine is not up.
 */
static int net_open(struct engine *e, char *why, size_t why_len)
{
	if (!fd_has_room()) {
		snprintf(why, why_len, "RLIMIT_NOFILE leaves the program too few numbers beside the engine's");
		return -EMFILE;
	}
	int err = thread_try(); /* before interfaces are attached: to give them back takes some 15 ms */
	if (err) {
		snprintf(why, why_len, "helper thread: %s", strerror(-err));
		return err;
	}
	err = sandbox_check(why, why_len);
	if (err)
		return err;
	err = netstate_open(&e->net);
	if (err) {
		snprintf(why, why_len, "netlink: %s", strerror(-err));
		return err;
	}
	engine_note_netns(e);
	return 0;
}

#define ROOM_BYTES (32u << 20) /* slabs for each size of what a few connections have */

/*
 * Under RLIMIT_AS an engine could come up and serve nobody, for want of memory, where the kernel's TCP needs none of
 * the process's.
 */
static bool has_room(void)
{
	void *at = sys_mmap(NULL, ROOM_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (sys_is_error(at))
		return false;
	sys_munmap(at, ROOM_BYTES);
	return true;
}

static int bring_up(struct engine *e, int ifindex, char *why, size_t why_len)
{
	if (!e->settings.n_own)
		rejudge_start(e); /* before the rules are read for the first time */
	int err = ifaces_open(e, ifindex, why, why_len);
	if (err)
		goto fail_firewall;
	if (!has_room()) {
		snprintf(why, why_len, "the address space has no %u MiB left for connections (RLIMIT_AS)", ROOM_BYTES >> 20);
		err = -ENOMEM;
		goto fail_link;
	}
	err = init_protocols(e);
	if (err) {
		snprintf(why, why_len, "starting TCP: %s", strerror(-err));
		goto fail_link;
	}
	namespace_open(e);
	err = helper_start(e);
	if (err) {
		snprintf(why, why_len, "helper thread: %s", strerror(-err));
		goto fail_protocols;
	}
	if (!e->settings.n_own && e->diag_fd <= 0)
		e->diag_fd = diag_open(); /* not by the helper, beside a call of the program's, when the first unknown segment comes */
	__atomic_store_n(&e->up, true, __ATOMIC_RELEASE);
	drive_came_up(&e->drive);
	rejudge_begin(e);
	tell_served(e);
	return 0;

fail_protocols:
	namespace_close(e);
	steer_free(e->steer);
	demux_fini(&e->demux);
	demux_fini(&e->exceptions);
	time_waits_fini(&e->time_waits);
	ports_close(e->ports);
fail_link:
	ifaces_close(e);
fail_firewall:
	rejudge_stop(e);
	judged_stop(e);
	return err;
}

/* An attempt that failed is not repeated for every socket of a busy program. */
#define UP_RETRY_US USEC_PER_SEC

int engine_net(struct engine *e, int kfd, char *why, size_t why_len)
{
	int cancel_state;
	if (!e->configured) {
		snprintf(why, why_len, "the settings were not read");
		return -EINVAL;
	}
	engine_init_tables(e);
	if (e->net && !e->up && kfd >= 0 && !engine_is_of_netns(e, kfd)) { /* the thread may have moved */
		netstate_close(e->net);
		e->net = NULL;
	}
	if (e->net)
		return 0;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	int err = net_open(e, why, why_len);
	pthread_setcancelstate(cancel_state, NULL);
	return err;
}

int engine_up(struct engine *e, int ifindex, char *why, size_t why_len)
{
	*why = 0;
	if (e->up)
		return !ifindex || iface_serve(e, ifindex, why, why_len) ? 0 : -ENETUNREACH;
	int64_t now = clock_now_us();
	if (e->up_failed_us && e->up_failed_ifindex == ifindex && now - e->up_failed_us < UP_RETRY_US) {
		snprintf(why, why_len, "%s", e->up_why);
		return -EAGAIN;
	}
	/* getrandom and if_nametoindex are cancellation points, and we hold the lock. */
	int cancel_state;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	e->up_why[0] = 0;
	int err = bring_up(e, ifindex, e->up_why, sizeof e->up_why);
	pthread_setcancelstate(cancel_state, NULL);
	if (err) {
		e->up_failed_us = clock_now_us(); /* the attempt may have taken seconds */
		e->up_failed_ifindex = ifindex;
		snprintf(why, why_len, "%s", e->up_why);
		log_info("engine", "TCP stays with the kernel: %s", why); /* the socket's fall-back warns, with the same reason */
	}
	return err;
}

int engine_refusal(const struct engine *e, unsigned noted)
{
	return e->settings.strict && noted != fallbacks_noted ? -ENETDOWN : SOCK_KERNEL;
}

/* The kernel's news: addresses for the classifier, routes and neighbours for who waits. */
void turn_net_changed(struct engine *e)
{
	unsigned what = netstate_on_readable(e->net);
	e->net_looked_us = e->now;
	if (e->up)
		ifaces_changed(e, what);
	if (what)
		turn_ways_changed(e);
}

void turn_ways_changed(struct engine *e)
{
	e->net_generation++;
	list_for_each (pos, tmp, &e->stalled)
		sock_mark_dirty(e, container_of(pos, struct sock, dirty));
}

/*
 * A change that happened before the program's call must count, and it takes far more than this until a program has
 * heard of another's; its own are another matter.
 */
#define NET_NEWS_AGE_US 100

void turn_net_look(struct engine *e)
{
	if (e->own_netlink || e->now - e->net_looked_us >= NET_NEWS_AGE_US)
		turn_net_changed(e);
}

void engine_note_netlink(void)
{
	__atomic_store_n(&engine_of_process()->own_netlink, true, __ATOMIC_RELAXED);
}

void turn_enter(struct engine *e)
{
	drive_enter(&e->drive);
}

void turn_leave(struct engine *e)
{
	drive_leave(&e->drive);
}

void turn_enter_verb(struct engine *e)
{
	drive_enter_verb(&e->drive);
}

void turn_enter_look(struct engine *e)
{
	drive_enter_look(&e->drive);
}

void turn_leave_verb(struct engine *e)
{
	drive_leave_verb(&e->drive);
}

void turn_leave_empty(struct engine *e)
{
	drive_leave_empty(&e->drive);
}

void turn_enter_wait(struct engine *e)
{
	drive_enter_wait(&e->drive);
}
