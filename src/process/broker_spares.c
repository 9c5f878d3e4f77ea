/*
 * Links made ahead: a short program should not wait for what the kernel needs some 10 ms for each time, an RCU grace
 * period, nor for the verifying of the classifier's programs, some 5 ms.
 *
 * So a ring and the classifier's maps and programs lie ready. The packet socket is not bound, and costs no frame
 * anything. Each is made by a thread of its own, while the broker serves: who comes meanwhile takes one that is ready,
 * or waits for the oldest.
 *
 * The attachment to the interface is a place (kernel/classifier.h), which does not end with its member: the next link's
 * program is put there, and the kernel waits for nothing. It keeps nothing of the member before: maps and rings are new
 * ones. While a new place is made, the kernel's lock of the network is held, so that whoever begins waits, too. So none
 * is made within PLACE_AFTER_US of a link that was given: a short program gives its place back before.
 *
 *     want:     place begun ──(grace period)──▶ ready ──put──▶ a link's, and so a member's ──its end──▶ ready
 *               link begun (thread: ring, programs; a place, if one is ready) ──▶ ready ──take──▶ a member's, for good
 *
 * For each of the interfaces that members asked for lately there are two; and one more whenever a member came and found
 * none ready, since programs start faster than links are made then. An idle place costs every frame of the interface
 * some 15 ns. So what nobody asked for during SPARE_US is given up.
 */
#include "process/broker_spares.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "base/late.h"
#include "base/sys.h"
#include "base/thread.h"
#include "base/time.h"
#include "kernel/classifier.h"
#include "kernel/netstate.h"
#include "kernel/privileged.h"
#include "link/link.h"

#define SPARES_MAX 4
#define PLACES_MAX 8
#define WANTS_MAX  4
#define LEAST_IN_USE 2 /* where one was taken lately: servers have two workers, or more */
#define SPARE_US   (2 * USEC_PER_SEC)
#define PLACE_AFTER_US (5 * USEC_PER_MSEC)
#define LOOK_US (2 * USEC_PER_MSEC) /* while a place is made */

/* A link that is being made, is ready, or could not be made. Not bound. */
static struct spare {
	int ifindex; /* 0: none */
	uint64_t number; /* the least is the oldest */
	struct link *link;
	struct classifier *classifier;
	int place; /* -1: none yet */
	int err;   /* it could not be made */
	pthread_t maker;
	bool made_aside; /* by the thread `maker`, which has all of this until it is joined … */
	bool done;       /* … and says when it has ended; atomic */
	bool awaited;    /* somebody waits for it; atomic */
	int tid;         /* the thread's; atomic */
} spares[SPARES_MAX];

static struct place {
	int ifindex; /* 0: none */
	struct classifier_place *making; /* its end tells the fd; NULL: it was told */
	int fd; /* or -errno: it could not be made */
} places[PLACES_MAX];

static struct want {
	int ifindex; /* 0: none */
	int n;
	bool veth;
	int64_t until_us;
	int64_t places_us; /* none is made before */
} wants[WANTS_MAX];

/* ---- places ---- */

/* One that is ready, or else one that is being made; 0: a free one. */
static struct place *place_of(int ifindex)
{
	struct place *found = NULL;
	for (struct place *p = places; p < places + PLACES_MAX; p++)
		if (p->ifindex == ifindex && (!found || found->making))
			found = p;
	return found;
}

static int places_of(int ifindex)
{
	int n = 0;
	for (int i = 0; i < PLACES_MAX; i++)
		n += places[i].ifindex == ifindex;
	return n;
}

/* Its fd; it is the caller's now. */
static int place_take(struct place *p)
{
	int fd = p->making ? classifier_place_end(p->making) : p->fd;
	*p = (struct place){.ifindex = 0};
	return fd;
}

static void place_look(struct place *p)
{
	if (p->making && classifier_place_is_made(p->making)) {
		p->fd = classifier_place_end(p->making);
		p->making = NULL;
	}
}

/* Members wait for answers. */
static void close_late(int fd)
{
	if (fd < 0)
		return;
	int hold = late_hold(&fd, 1);
	sys_close(fd);
	late_let_go(hold);
}

static struct place *place_begin(int ifindex)
{
	struct place *p = place_of(0);
	struct classifier_place *making = p ? classifier_place_begin(ifindex) : NULL;
	if (!making)
		return NULL;
	*p = (struct place){.ifindex = ifindex, .making = making};
	return p;
}

void broker_place_return(struct broker_place *place, bool in_order)
{
	struct place *p = place_of(0);
	bool good = place->fd >= 0 && (in_order || classifier_place_clear(place->fd) == 0);
	if (good && p)
		*p = (struct place){.ifindex = place->ifindex, .fd = place->fd};
	else
		close_late(place->fd);
	*place = (struct broker_place){.fd = -1};
}

/* ---- links ---- */

static int open_packet(struct link **out, int ifindex)
{
	const struct link_config lc = {.ifindex = ifindex, .no_io_uring = true, .later = true};
	return link_open_packet(out, &lc);
}

/*
 * The verifying computes for some 5 ms within the kernel, while the program that took the link before is starting. So
 * it has what CPU time nobody else wants, until somebody waits for it. Who could not take that back is left alone, and
 * so is who is under a filter of system calls, which might end the broker for this one.
 */
static void set_policy(int tid, int policy)
{
	const struct sched_param none = {0};
	sys_call(SYS_sched_setscheduler, tid, policy, &none, 0, 0, 0);
}

static void step_aside(struct spare *s)
{
	if (!s->made_aside || !privileged_has(1u << CAP_SYS_NICE) || sys_call(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0, 0) != 0)
		return;
	set_policy(0, SCHED_IDLE);
	__atomic_store_n(&s->tid, (int)sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0), __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&s->awaited, __ATOMIC_SEQ_CST))
		set_policy(0, SCHED_OTHER);
}

static void step_back(struct spare *s)
{
	if (__atomic_exchange_n(&s->tid, 0, __ATOMIC_SEQ_CST))
		set_policy(0, SCHED_OTHER);
}

static void hurry(struct spare *s)
{
	__atomic_store_n(&s->awaited, true, __ATOMIC_SEQ_CST);
	int tid = __atomic_load_n(&s->tid, __ATOMIC_SEQ_CST);
	if (tid)
		set_policy(tid, SCHED_OTHER);
}

static int prepare(struct spare *s)
{
	step_aside(s);
	int err = classifier_prepare(&s->classifier, link_info(s->link)->has_eth);
	step_back(s);
	return err;
}

static int put(struct spare *s)
{
	return classifier_put(s->classifier, s->ifindex, s->place, link_rx_fd(s->link), link_info(s->link)->has_eth);
}

/* The kernel makes the ring while it verifies the programs. */
static int make(struct spare *s)
{
	int err = open_packet(&s->link, s->ifindex);
	if (!err)
		err = prepare(s);
	return err || s->place < 0 ? err : put(s);
}

static void *make_aside(void *arg)
{
	struct spare *s = arg;
	s->err = make(s);
	__atomic_store_n(&s->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static bool spare_is_ready(struct spare *s)
{
	return __atomic_load_n(&s->done, __ATOMIC_ACQUIRE);
}

/* One that is ready, or else the oldest. */
static struct spare *spare_of(int ifindex)
{
	struct spare *found = NULL;
	for (struct spare *s = spares; s < spares + SPARES_MAX; s++) {
		if (s->ifindex != ifindex)
			continue;
		bool better = !found || (spare_is_ready(s) == spare_is_ready(found) ? s->number < found->number : spare_is_ready(s));
		found = better ? s : found;
	}
	return found;
}

static int spares_of(int ifindex)
{
	int n = 0;
	for (int i = 0; i < SPARES_MAX; i++)
		n += spares[i].ifindex == ifindex;
	return n;
}

static void spare_begin(int ifindex)
{
	static uint64_t number;
	struct spare *s = spare_of(0);
	struct place *p = place_of(ifindex);
	if (!s)
		return;
	number++;
	*s = (struct spare){.ifindex = ifindex, .number = number, .place = p && !p->making && p->fd >= 0 ? place_take(p) : -1};
	s->made_aside = true;
	if (thread_start(&s->maker, make_aside, s) == 0)
		return;
	s->made_aside = false;
	make_aside(s);
}

/* It is made, or failed. */
static void spare_await(struct spare *s)
{
	if (s->made_aside) {
		hurry(s);
		thread_join(s->maker);
	}
	s->made_aside = false;
}

static void spare_give_up(struct spare *s)
{
	int fds[2];
	spare_await(s);
	if (s->link) {
		link_packet_fds(s->link, &fds[0], &fds[1]);
		int hold = late_hold(fds, 2);
		classifier_close(s->classifier);
		link_close(s->link);
		late_let_go(hold);
	}
	close_late(s->place);
	*s = (struct spare){0};
}

/*
 * A packet socket's filter, and where it is bound, anybody may change who has it. So what it receives is fixed: what
 * the classifier's program lets through, or nothing.
 */
static int lock_filters(const struct link *l)
{
	struct sock_filter none[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
	struct sock_fprog prog = {.len = 1, .filter = none};
	int rx, tx, on = 1;
	link_packet_fds(l, &rx, &tx);
	int err = sys_setsockopt(tx, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog);
	if (!err)
		err = sys_setsockopt(tx, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof on);
	return err ? err : sys_setsockopt(rx, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof on);
}

/* ---- giving away ---- */


void broker_link_close(struct broker_link *l)
{
	classifier_close(l->classifier);
	link_close(l->link);
	l->classifier = NULL;
	l->link = NULL;
}

/* It has a place from now on. */
static int give_place(struct spare *s, bool *missed)
{
	struct place *p = place_of(s->ifindex);
	*missed = *missed || !p || p->making;
	if (!p)
		p = place_begin(s->ifindex);
	s->place = p ? place_take(p) : -ENOMEM;
	return s->place < 0 ? s->place : put(s);
}

/* `missed`: it had to be waited for, at least. -EAGAIN: there is none. */
static int take_spare(int ifindex, struct broker_link *out, bool *missed)
{
	struct spare *s = spare_of(ifindex);
	*missed = !s || !spare_is_ready(s);
	if (!s)
		return -EAGAIN;
	spare_await(s);
	if (!s->err && s->place < 0)
		s->err = give_place(s, missed);
	if (s->err) { /* an interface that is gone, most likely */
		spare_give_up(s);
		return -EAGAIN;
	}
	*out = (struct broker_link){s->link, s->classifier, false, {s->place, ifindex}};
	*s = (struct spare){0};
	return link_complete(out->link);
}

static int open_new(enum classifier_choice choice, int ifindex, struct broker_link *out, char *why)
{
	if (choice == CLASSIFIER_NFTABLES) {
		snprintf(why, BROKER_WHY_BYTES, "the broker: an nftables classifier cannot be given to another process");
		return -EOPNOTSUPP;
	}
	int err = open_packet(&out->link, ifindex);
	if (err) {
		snprintf(why, BROKER_WHY_BYTES, "the broker: packet socket on interface %d: error %d", ifindex, -err);
		return err;
	}
	err = classifier_open(&out->classifier, choice, ifindex, link_rx_fd(out->link), link_info(out->link)->has_eth, why, BROKER_WHY_BYTES);
	return err ? err : link_complete(out->link);
}

static void note_want(int ifindex, int least, bool missed);
static struct want *want_of(int ifindex);
static bool is_veth(int ifindex);

int broker_link_take(const struct broker_ops_config *c, int ifindex, bool only_spare, struct broker_link *out, char *why)
{
	enum classifier_choice choice = c->classifier == CLASSIFIER_AUTO ? CLASSIFIER_EBPF : c->classifier;
	*out = (struct broker_link){.place = {.fd = -1}};
	bool missed;
	int err = choice == CLASSIFIER_EBPF ? take_spare(ifindex, out, &missed) : -EAGAIN;
	if (choice == CLASSIFIER_EBPF)
		note_want(ifindex, LEAST_IN_USE, missed);
	if (err == -EAGAIN && !only_spare)
		err = open_new(choice, ifindex, out, why);
	if (err)
		return err;
	const struct want *w = want_of(ifindex);
	out->veth = w ? w->veth : is_veth(ifindex);
	return lock_filters(out->link);
}

/* ---- what is wanted ---- */

static void want_no_more(struct want *w)
{
	for (int i = 0; i < PLACES_MAX; i++)
		if (w->ifindex && places[i].ifindex == w->ifindex)
			close_late(place_take(&places[i]));
	for (int i = 0; i < SPARES_MAX; i++)
		if (w->ifindex && spares[i].ifindex == w->ifindex)
			spare_give_up(&spares[i]);
	*w = (struct want){0};
}

/* Asked before anything is made: the kernel's lock of the network is free then, mostly. */
static bool is_veth(int ifindex)
{
	struct netstate *net;
	if (netstate_open(&net))
		return false;
	bool veth = netstate_is_veth(net, ifindex);
	netstate_close(net);
	return veth;
}

static void note_want(int ifindex, int least, bool missed)
{
	struct want *w = &wants[0];
	for (int i = 0; i < WANTS_MAX && w->ifindex != ifindex; i++)
		if (wants[i].ifindex == ifindex || wants[i].until_us < w->until_us)
			w = &wants[i];
	if (w->ifindex != ifindex) {
		want_no_more(w);
		w->ifindex = ifindex;
		w->veth = is_veth(ifindex);
	}
	if (w->n < least)
		w->n = least;
	else if (missed && w->n < SPARES_MAX)
		w->n++;
	int64_t now = clock_now_us();
	w->until_us = now + SPARE_US;
	if (least == LEAST_IN_USE)
		w->places_us = now + PLACE_AFTER_US;
}

void broker_spares_want(int ifindex)
{
	note_want(ifindex, 1, false);
}

static struct want *want_of(int ifindex)
{
	for (int i = 0; i < WANTS_MAX; i++)
		if (wants[i].ifindex == ifindex)
			return &wants[i];
	return NULL;
}

/* The time when something is due, or TIME_NEVER. */
static int64_t give_up_old(int64_t now)
{
	int64_t next = TIME_NEVER;
	for (int i = 0; i < WANTS_MAX; i++) {
		if (wants[i].ifindex && now >= wants[i].until_us)
			want_no_more(&wants[i]);
		int64_t due = wants[i].places_us > now ? wants[i].places_us : wants[i].until_us;
		if (wants[i].ifindex && due < next)
			next = due;
	}
	for (int i = 0; i < PLACES_MAX; i++) /* that came back late, or of more members than are usual now */
		if (places[i].ifindex && !places[i].making && (!want_of(places[i].ifindex) || places_of(places[i].ifindex) > SPARES_MAX))
			close_late(place_take(&places[i]));
	return next;
}

/* The time when it is to be looked again at those that are being made, or TIME_NEVER. */
static int64_t look_at_places(int64_t now)
{
	int64_t next = TIME_NEVER;
	for (struct place *p = places; p < places + PLACES_MAX; p++) {
		place_look(p);
		if (p->making)
			next = now + LOOK_US;
	}
	return next;
}

/* Ready, being made, or of links that lie ready. */
static int all_places_of(int ifindex)
{
	int n = places_of(ifindex);
	for (int i = 0; i < SPARES_MAX; i++)
		n += spares[i].ifindex == ifindex && spares[i].place >= 0;
	return n;
}

static bool is_making_place(int ifindex)
{
	struct place *p = place_of(ifindex);
	return p && p->making;
}

/* One of them; false: there is enough, or it is not time. What cannot be made is tried again with the next request. */
static bool begin_one(const struct want *w, int64_t now)
{
	bool lacks_place = all_places_of(w->ifindex) < w->n && now >= w->places_us && !is_making_place(w->ifindex);
	if (lacks_place && place_begin(w->ifindex)) /* first: it needs the kernel alone */
		return true;
	int n_links = spares_of(w->ifindex);
	if (n_links < w->n)
		spare_begin(w->ifindex);
	return spares_of(w->ifindex) > n_links;
}

bool broker_spares_lack(void)
{
	bool lack = false;
	for (const struct want *w = wants; w < wants + WANTS_MAX; w++)
		lack = lack || (w->ifindex && !spares_of(w->ifindex));
	return lack;
}

static bool begin_wanted(int64_t now)
{
	bool begun = false;
	for (struct want *w = wants; w < wants + WANTS_MAX && !begun; w++)
		begun = w->ifindex && begin_one(w, now);
	return begun;
}

int broker_spares_tend(void)
{
	int64_t now = clock_now_us(), next = give_up_old(now), look = look_at_places(now);
	if (begin_wanted(now))
		return 0;
	next = look < next ? look : next;
	return next == TIME_NEVER ? -1 : next <= now ? 0 : (int)((next - now) / USEC_PER_MSEC) + 1;
}
