/*
 * Links made ahead: a short program should not wait for what the kernel needs some 10 ms for each time, an RCU grace period.
 *
 * There are two such waits in a link. Its ring: so a few sockets with rings, with filters and the classifier's programs, lie ready. They are not
 * bound to an interface, and cost no frame anything. And the attachment to the interface: so an attachment is not ended with its member. It becomes a
 * place (kernel/classifier.h), whose program leaves everything to the kernel, and the next member's program is put there. Neither keeps anything of
 * the member before: maps and rings are new ones.
 *
 *     want:     place begun ──(grace period)──▶ ready ──take──▶ a member's ──its end──▶ cleared, ready
 *               ring begun, programs made ──(grace period)──▶ ready ──take──▶ a member's, for good
 *
 * They are made one by one, while nobody asks for anything, unless there is none left: who finds none makes a link by himself, which takes him
 * longer. For each of the interfaces that members asked for lately there is one of each; and one more whenever a member came and found none, since
 * programs start faster than links are made then. An idle place costs every frame of the interface some 15 ns. So what nobody asked for during
 * SPARE_US is given up.
 */
#include "process/broker_spares.h"

#include <errno.h>
#include <linux/filter.h>
#include <stdio.h>

#include "base/late.h"
#include "base/sys.h"
#include "base/time.h"
#include "kernel/classifier.h"
#include "kernel/netstate.h"
#include "link/link.h"

#define SPARES_MAX 4
#define PLACES_MAX 8
#define WANTS_MAX  4
#define SPARE_US   (2 * USEC_PER_SEC)
#define GRACE_US   (25 * USEC_PER_MSEC) /* what the kernel makes is there by then: whoever needs it earlier waits for it */

/* Not attached and not bound. */
static struct spare {
	int ifindex; /* 0: none */
	struct link *link;
	struct classifier *classifier;
	int64_t due_us; /* its ring is there, then */
} spares[SPARES_MAX];

static struct place {
	int ifindex; /* 0: none */
	struct classifier_place *making; /* its end tells the fd; NULL: it was told */
	int fd;
	int64_t due_us; /* it is there, then */
} places[PLACES_MAX];

static struct want {
	int ifindex; /* 0: none */
	int n;
	bool veth;
	int64_t until_us;
} wants[WANTS_MAX];

/* ---- places ---- */

static struct place *place_of(int ifindex)
{
	struct place *found = NULL;
	for (int i = 0; i < PLACES_MAX; i++)
		if (places[i].ifindex == ifindex && (!found || places[i].due_us < found->due_us))
			found = &places[i];
	return found;
}

static int places_of(int ifindex)
{
	int n = 0;
	for (int i = 0; i < PLACES_MAX; i++)
		n += places[i].ifindex == ifindex;
	return n;
}

static void place_end(struct place *p)
{
	if (p->making) {
		p->fd = classifier_place_end(p->making);
		p->making = NULL;
	}
}

/* Its fd is another's, or closed. */
static void place_forget(struct place *p)
{
	*p = (struct place){.fd = -1};
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

static void place_give_up(struct place *p)
{
	place_end(p);
	close_late(p->fd);
	place_forget(p);
}

static void place_begin(int ifindex)
{
	struct place *p = place_of(0);
	struct classifier_place *making = p ? classifier_place_begin(ifindex) : NULL;
	if (making)
		*p = (struct place){.ifindex = ifindex, .making = making, .fd = -1, .due_us = clock_now_us() + GRACE_US};
}

void broker_place_return(struct broker_place *place)
{
	struct place *p = place_of(0);
	if (place->fd >= 0 && classifier_place_clear(place->fd) == 0 && p)
		*p = (struct place){.ifindex = place->ifindex, .fd = place->fd};
	else
		close_late(place->fd);
	*place = (struct broker_place){.fd = -1};
}

/* ---- links that are not attached ---- */

static struct spare *spare_of(int ifindex)
{
	struct spare *found = NULL;
	for (int i = 0; i < SPARES_MAX; i++)
		if (spares[i].ifindex == ifindex && (!found || spares[i].due_us < found->due_us))
			found = &spares[i];
	return found;
}

static int spares_of(int ifindex)
{
	int n = 0;
	for (int i = 0; i < SPARES_MAX; i++)
		n += spares[i].ifindex == ifindex;
	return n;
}

static void spare_give_up(struct spare *s)
{
	int fds[2];
	link_packet_fds(s->link, &fds[0], &fds[1]);
	int hold = late_hold(fds, 2);
	classifier_close(s->classifier);
	link_close(s->link);
	late_let_go(hold);
	*s = (struct spare){0};
}

static int open_packet(struct link **out, int ifindex)
{
	const struct link_config lc = {.ifindex = ifindex, .no_io_uring = true, .later = true};
	return link_open_packet(out, &lc);
}

static void spare_begin(int ifindex)
{
	struct spare *s = spare_of(0);
	if (!s || open_packet(&s->link, ifindex))
		return;
	s->ifindex = ifindex;
	s->due_us = clock_now_us() + GRACE_US;
	if (classifier_prepare(&s->classifier, link_info(s->link)->has_eth))
		spare_give_up(s);
}

/* A packet socket's filter, and where it is bound, anybody may change who has it. So what it receives is fixed: what the classifier's program lets through, or nothing. */
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

/* A spare in a place. `missed`: it had to be waited for, at least. -EAGAIN: there is none. */
static int take_spare(int ifindex, struct broker_link *out, bool *missed)
{
	struct spare *s = spare_of(ifindex);
	struct place *p = place_of(ifindex);
	*missed = !s || !p || clock_now_us() < (s->due_us > p->due_us ? s->due_us : p->due_us);
	if (!s || !p)
		return -EAGAIN;
	place_end(p);
	int err = p->fd < 0 ? p->fd : classifier_put(s->classifier, ifindex, p->fd, link_rx_fd(s->link), link_info(s->link)->has_eth);
	if (err) { /* an interface that is gone, most likely */
		place_give_up(p);
		spare_give_up(s);
		return -EAGAIN;
	}
	*out = (struct broker_link){s->link, s->classifier, false, {p->fd, ifindex}};
	place_forget(p);
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

static void note_want(int ifindex, bool missed);
static struct want *want_of(int ifindex);
static bool is_veth(int ifindex);

int broker_link_take(const struct broker_ops_config *c, int ifindex, bool only_spare, struct broker_link *out, char *why)
{
	enum classifier_choice choice = c->classifier == CLASSIFIER_AUTO ? CLASSIFIER_EBPF : c->classifier;
	*out = (struct broker_link){.place = {.fd = -1}};
	bool missed;
	int err = choice == CLASSIFIER_EBPF ? take_spare(ifindex, out, &missed) : -EAGAIN;
	if (choice == CLASSIFIER_EBPF)
		note_want(ifindex, missed);
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
			place_give_up(&places[i]);
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

static void note_want(int ifindex, bool missed)
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
	if (!w->n || (missed && w->n < SPARES_MAX))
		w->n++;
	w->until_us = clock_now_us() + SPARE_US;
}

void broker_spares_want(int ifindex)
{
	note_want(ifindex, false);
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
		if (wants[i].ifindex && wants[i].until_us < next)
			next = wants[i].until_us;
	}
	for (int i = 0; i < PLACES_MAX; i++) /* that came back late, or of more members than are usual now */
		if (places[i].ifindex && !places[i].making && (!want_of(places[i].ifindex) || places_of(places[i].ifindex) > SPARES_MAX))
			place_give_up(&places[i]);
	return next;
}

/* One of them; false: there is enough, or it cannot be made, which is tried again with the next request. */
static bool begin_one(const struct want *w)
{
	int n_places = places_of(w->ifindex), n_links = spares_of(w->ifindex);
	if (n_places < w->n && n_places <= n_links) /* first: it needs the kernel alone */
		place_begin(w->ifindex);
	else if (n_links < w->n)
		spare_begin(w->ifindex);
	return places_of(w->ifindex) > n_places || spares_of(w->ifindex) > n_links;
}

bool broker_spares_lack(void)
{
	bool lack = false;
	for (const struct want *w = wants; w < wants + WANTS_MAX; w++)
		lack = lack || (w->ifindex && (!places_of(w->ifindex) || !spares_of(w->ifindex)));
	return lack;
}

static bool begin_wanted(void)
{
	bool begun = false;
	for (struct want *w = wants; w < wants + WANTS_MAX && !begun; w++)
		begun = w->ifindex && begin_one(w);
	return begun;
}

int broker_spares_tend(void)
{
	int64_t now = clock_now_us(), next = give_up_old(now);
	if (begin_wanted()) /* a link takes some 5 ms of verifying programs: who asks meanwhile comes first */
		return 0;
	return next == TIME_NEVER ? -1 : next <= now ? 0 : (int)((next - now) / USEC_PER_MSEC) + 1;
}
