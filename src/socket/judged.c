/*
 * The host's firewall and the engine: who may be served, and how SYNs come here that the host has judged.
 *
 * Where no rule of the host could concern TCP, this costs one look. Where one could, the setting `firewall` decides.
 * `judged`: the kernel's own listening socket gets the judge's filter (kernel/judge.h), SYNs climb the kernel's stack,
 * and those that every rule accepted come here by the judge's ring. What the engine then sends and takes passes no
 * rule; that none could touch it is proved first, of the listener (for some peer) and of each connection (for its own).
 * What cannot be proved is the kernel's, with the rule named.
 *
 * What climbs costs. So the host is asked about a SYN only where it has to be: not for a port that the rules, as they
 * are, provably open to whoever sends it (firewall_opens). There the SYN is taken from the wire, as on a host without
 * rules; but about sources that a rule names (who is banned, say) the host is asked. What is of no connection is the
 * host's to answer all the same: so a port may be opened and closed while it is served. That is decided when a listener
 * begins, when rules change and when an interface comes. What the proof does not speak of is asked about: SYNs with
 * other flags. And a source that Linux might refuse before any rule is the kernel's (way_back.c).
 *
 * What follows a SYN meets no rule. The classifier takes it by a count of the engine's connections, in memory that both
 * have, so that none costs a system call or a look into a table; a group's connections have entries, since they tell
 * the members apart. The count is by a hash: judged_leaves_stray has what it takes wrongly.
 *
 * A connection for which the proof fails although the host accepted its SYN becomes an exception, and the kernel gets
 * its SYN once more, from here. Without the right to a raw socket the client's repetition after a second does the same.
 */
#include "socket/engine.h"
#include "socket/process_ops.h"
#include "socket/listener.h"

#include "base/log.h"
#include "kernel/firewall.h"
#include "kernel/judge.h"
#include "kernel/named.h"
#include "kernel/peer_packet.h"
#include "wire/tcp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct firewall_flow flow_over(const struct iface *i, bool v6, const struct flow_key *key)
{
	const struct link_info *info = iface_info(i);
	return (struct firewall_flow){.ifindex = info->ifindex, .ifname = info->ifname, .v6 = v6, .key = *key};
}

/* ---- coming up ---- */

int firewall_admits(struct engine *e, int ifindex, char *why, size_t why_len)
{
	if (e->settings.firewall == FIREWALL_BYPASS)
		return 0;
	if (e->settings.firewall == FIREWALL_KERNEL) {
		int err = firewall_check(0, ifindex, why, why_len);
		return err > 0 ? -EACCES : err;
	}
	return e->firewall ? 0 : firewall_read(&e->firewall, why, why_len);
}

/* Could a rule judge any SYN that comes by this interface? */
static bool is_judged(struct engine *e, const struct iface *i, char *why, size_t why_len)
{
	static const struct flow_key any;
	struct firewall_flow v4 = flow_over(i, false, &any), v6 = flow_over(i, true, &any);
	return firewall_judges(e->firewall, &v4, why, why_len) || firewall_judges(e->firewall, &v6, why, why_len);
}

static void judge_listener(struct engine *e, struct sock *l)
{
	char why[160];
	const struct listener *lst = l->lst;
	if (judged_refuses_listener(e, &lst->addr, lst->port, l->family == AF_INET6, l->v6only, why, sizeof why))
		listener_to_kernel(e, l, why);
	else if (judged_attach(e, l))
		listener_to_kernel(e, l, "the host's firewall could not be asked: no right to, or another filter is on the socket");
}

/* Those that were there before get their filters. SYNs that climbed without one are in the kernel's queue. */
static void judge_listeners(struct engine *e)
{
	list_for_each (pos, tmp, &e->listeners)
		judge_listener(e, container_of(pos, struct listener, node)->owner);
}

/*
 * To whoever of the family sends the SYN, by whichever interface: all members of a group, who may serve other
 * interfaces or addresses beside, come to the same answer. Who cannot hear that the rules change, or has heard it and
 * could not read them yet, proves nothing.
 */
static bool is_open_to_all(struct engine *e, bool v6, uint16_t port)
{
	const struct flow_key key = {.lport = port};
	struct iface *i;
	if (e->firewall_unknown || e->rejudge.unread_us || e->rejudge.late || !e->rejudge.on || e->rejudge.news.fd < 0)
		return false;
	ifaces_for_each(e, i) {
		struct firewall_flow f = flow_over(i, v6, &key);
		if (!firewall_opens(e->firewall, &f))
			return false;
	}
	return true;
}

#define ALL_PORTS 65536

/* A bit for each port. */
struct openings {
	uint8_t open[2][ALL_PORTS / 8]; /* by IPv6 */
	uint8_t coming[ALL_PORTS / 8];  /* they were judged, in one family at least */
};

static void mark(uint8_t *ports, uint16_t port)
{
	ports[port / 8] |= 1 << port % 8;
}

/* Was the host asked about somebody whom the rules do not name any more? */
static bool forgets_names(const struct engine *e)
{
	bool forgets = false;
	for (int v6 = 0; v6 < 2; v6++)
		forgets |= classifier_names_others(e->classifier, v6, firewall_named(e->firewall, v6));
	return forgets;
}

/* Before a port opens: of those whom the rules name nothing is proved. */
static void name_sources(struct engine *e, bool also)
{
	for (int v6 = 0; v6 < 2; v6++)
		classifier_name_sources(e->classifier, v6, firewall_named(e->firewall, v6), also);
}

static bool find_openings(struct engine *e, struct openings *o)
{
	bool come = false;
	list_for_each (pos, tmp, &e->listeners) { /* all proofs first: each may name more */
		uint16_t port = container_of(pos, struct listener, node)->port;
		for (int v6 = 0; v6 < 2; v6++)
			if (is_open_to_all(e, v6, port))
				mark(o->open[v6], port);
	}
	bool forgets = forgets_names(e);
	list_for_each (pos, tmp, &e->listeners) {
		uint16_t port = container_of(pos, struct listener, node)->port;
		for (int v6 = 0; v6 < 2; v6++) {
			if (!named_bit(o->open[v6], port) || (classifier_is_open(e->classifier, v6, port) && !forgets))
				continue;
			mark(o->coming, port);
			come = true;
		}
	}
	return come;
}

/*
 * A port of which a listener went is closed with it. While a port was judged, or a source, the kernel may have accepted
 * what nobody had asked about: a SYN of the same ends is still the kernel's.
 */
void judged_again(struct engine *e)
{
	static const struct openings none;
	if (!e->judged)
		return;
	struct openings *o = calloc(1, sizeof *o);
	if (o && find_openings(e, o) && listeners_except_kernels(e, o->coming))
		for (unsigned i = 0; i < ALL_PORTS / 8; i++) {
			o->open[0][i] &= ~o->coming[i];
			o->open[1][i] &= ~o->coming[i];
		}
	name_sources(e, true);
	for (int v6 = 0; v6 < 2; v6++)
		classifier_open_ports(e->classifier, v6, 0, ALL_PORTS, o ? o->open[v6] : none.open[v6]);
	if (o)
		name_sources(e, false);
	free(o);
}

bool judged_admits(struct engine *e, const struct tcp_segment *syn, const struct flow_key *key)
{
	if (!e->judged || e->judging)
		return true;
	bool is_open = classifier_is_open(e->classifier, !ip_addr_is_v4(&key->raddr), key->lport) && !classifier_names(e->classifier, &key->raddr);
	if (is_open && !(syn->flags & (SEG_FIN | SEG_PSH | SEG_URG)))
		return true;
	e->counters[SOCKC_JudgedLate]++;
	return false;
}

int judged_start(struct engine *e, char *why, size_t why_len)
{
	char rule[160];
	struct iface *i;
	bool judged = false;
	judged_again(e); /* there is one more interface */
	if (!e->firewall || e->judged)
		return 0;
	ifaces_for_each(e, i)
		judged = judged || is_judged(e, i, rule, sizeof rule);
	if (!judged)
		return 0;
	int err = judge_open(&e->judge, why, why_len);
	if (err)
		return err;
	time_waits_count(e, 1);
	err = classifier_set_judge(e->classifier, e->judge);
	if (err) {
		time_waits_count(e, -1);
		snprintf(why, why_len, "%s; the %s classifier cannot let the host judge", rule, classifier_backend(e->classifier));
		judge_close(e->judge);
		e->judge = NULL;
		return err;
	}
	e->judged = true;
	judged_again(e);
	judge_listeners(e);
	log_info("firewall", "the host judges who may connect (%s)", rule);
	return 0;
}

void judged_stop(struct engine *e)
{
	judge_close(e->judge);
	firewall_free(e->firewall);
	e->judge = NULL;
	e->firewall = NULL;
	e->judged = false;
}

static bool is_unknown(const struct engine *e, char *why, size_t why_len)
{
	if (e->firewall_unknown)
		snprintf(why, why_len, "the host's firewall changed, and its rules could not be read again");
	return e->firewall_unknown;
}

/* ---- listeners ---- */

static bool refuses_family(struct engine *e, const struct iface *i, bool v6, const struct ip_addr *addr, uint16_t port, char *why, size_t why_len)
{
	struct flow_key key = {.lport = port};
	if (!ip_addr_is_any(addr))
		key.laddr = *addr;
	struct firewall_flow f = flow_over(i, v6, &key);
	return firewall_filters_server(e->firewall, &f, why, why_len);
}

bool judged_refuses_interface(struct engine *e, int ifindex, const char *ifname, uint16_t port, char *why, size_t why_len)
{
	struct firewall_flow f = {.ifindex = ifindex, .ifname = ifname, .key.lport = port};
	if (!e->firewall)
		return false;
	if (firewall_filters_server(e->firewall, &f, why, why_len))
		return true;
	f.v6 = true;
	return firewall_filters_server(e->firewall, &f, why, why_len);
}

/* Are all ways of this family the kernel's? */
static bool rules_refuse(struct engine *e, bool v6, char *why, size_t why_len)
{
	const char *rules = netstate_rules_why(e->net, v6);
	if (rules)
		snprintf(why, why_len, "%s", rules);
	return rules;
}

bool judged_refuses_listener(struct engine *e, const struct ip_addr *addr, uint16_t port, bool v6, bool v6only, char *why, size_t why_len)
{
	struct iface *i;
	if (is_unknown(e, why, why_len))
		return true;
	bool v4 = ip_addr_is_any(addr) ? !v6 || !v6only : ip_addr_is_v4(addr);
	bool six = ip_addr_is_any(addr) ? v6 : !ip_addr_is_v4(addr);
	if (!e->own && ((v4 && rules_refuse(e, false, why, why_len)) || (six && rules_refuse(e, true, why, why_len))))
		return true;
	if (!e->firewall)
		return false;
	ifaces_for_each(e, i)
		if ((v4 && refuses_family(e, i, false, addr, port, why, why_len)) || (six && refuses_family(e, i, true, addr, port, why, why_len)))
			return true;
	return false;
}

int judged_attach(struct engine *e, const struct sock *l)
{
	if (!e->judged)
		return 0;
	for (int v6 = 0; v6 < 2; v6++) {
		const uint8_t open = is_open_to_all(e, v6, l->lst->port);
		name_sources(e, true);
		classifier_open_ports(e->classifier, v6, l->lst->port, 1, &open);
	}
	return process_ops->is_shared(l) ? process_ops->attach_judge(l) : judge_attach(e->judge, l->lst->kfd);
}

/* ---- connections ---- */

static int no_room(struct engine *e, struct sock *s)
{
	sock_leave_demux(e, s);
	s->live = false;
	e->judged_full = true;
	return -E2BIG;
}

int judged_enter(struct engine *e, const struct sock *l, struct sock *s)
{
	if (!e->judging || !process_ops->is_shared(l)) /* the classifier takes its frames, since it is counted, or entered by the program */
		return 0;
	return process_ops->enter(l, &s->flow.key) ? no_room(e, s) : 0;
}

static bool has_way(const struct engine *e, const struct flow_key *key, struct firewall_flow *out)
{
	for (unsigned k = 0; k < e->n_addrs; k++) {
		if (!ip_addr_equal(&e->addrs[k], &key->laddr) || !e->addr_ifaces[k]->link)
			continue;
		*out = flow_over(e->addr_ifaces[k], !ip_addr_is_v4(&key->raddr), key);
		return true;
	}
	return false;
}

/* Is the way there one that the kernel alone can go? */
static bool route_refuses(struct engine *e, const struct flow_key *key, char *why, size_t why_len)
{
	struct route route;
	if (e->own || netstate_route(e->net, &key->raddr, &key->laddr, 0, 0, &route) || !route.kernels)
		return false;
	snprintf(why, why_len, "%s", route.kernels);
	return true;
}

bool judged_refuses(struct engine *e, const struct flow_key *key, bool client, char *why, size_t why_len)
{
	struct firewall_flow f;
	if (is_unknown(e, why, why_len))
		return true;
	if (!e->firewall || !has_way(e, key, &f))
		return false;
	return client ? firewall_filters_client(e->firewall, &f, why, why_len) : firewall_filters_server(e->firewall, &f, why, why_len);
}

/* What follows the SYN of an accepted connection. */
static bool may_be_touched(struct engine *e, const struct flow_key *key)
{
	char why[160];
	return route_refuses(e, key, why, sizeof why) || judged_refuses(e, key, false, why, sizeof why);
}

/* The host accepted its SYN, and rules may have come since. */
bool judged_admits_cookie(struct engine *e, const struct flow_key *key)
{
	return !e->judged || !may_be_touched(e, key);
}

/* ---- what it was not asked about ---- */

/*
 * The classifier's count is by a hash (classifier_count_conn), and while cookies are out each ACK may be one. So now
 * and then a segment of no connection comes, about which the host might have said otherwise: nothing answers it, and
 * when it comes again it is the kernel's.
 */
bool judged_leaves_stray(struct engine *e, const struct ip_input *in)
{
	if (!e->judged || e->judging || !listener_find(e, &in->key, 0) || partings_have(e, &in->key))
		return false;
	e->counters[SOCKC_JudgedStrays]++;
	if (e->n_shared_claims) /* an entry that was left goes */
		process_ops->flow_ends(e, &in->key);
	exception_add_for_stranger(e, &in->key);
	return true;
}

/* ---- what the host has accepted ---- */

/* Once only: a SYN that comes back here goes nowhere. */
static void give_to_kernel(struct engine *e, const struct judged_segment *seg)
{
	bool known = demux_find(&e->exceptions, &seg->key);
	e->counters[SOCKC_JudgedKernels]++;
	exception_add_for_stranger(e, &seg->key);
	if (!known && demux_find(&e->exceptions, &seg->key))
		peer_packet_repeat(&seg->key, seg->ttl, seg->tos, seg->tcp, seg->tcp_len, seg->ifindex);
}

static void input_one(struct engine *e, const struct judged_segment *seg)
{
	struct iface *i = iface_find(e, seg->ifindex);
	struct ip_input in = {.kind = IP_INPUT_TCP, .fate = IP_FATE_Delivered, .key = seg->key, .ttl = seg->ttl, .tos = seg->tos, .ecn = seg->tos & 3};
	bool parsed = tcp_parse(seg->tcp, seg->tcp_len, &in.seg) >= 0;
	/* the last as Linux: not answered */
	if (!i || !parsed || (in.seg.has & SEG_HAS_SIGNATURE) || (in.seg.flags & (SEG_SYN | SEG_FIN)) == (SEG_SYN | SEG_FIN))
		return;
	in.src_mac = iface_info(i)->has_eth ? seg->src_mac : NULL;
	in.seg.flags &= ~SEG_FIN; /* it stands behind what the ring does not have */
	e->counters[SOCKC_Judged]++;
	if (may_be_touched(e, &seg->key)) {
		give_to_kernel(e, seg);
		return;
	}
	e->judged_full = false;
	e->judging = true;
	input_packet(e, i, &in);
	e->judging = false;
	if (e->judged_full) {
		engine_note_fallback("a client", "the classifier's table of connections is full");
		give_to_kernel(e, seg);
	}
}

#define JUDGED_BUDGET 256 /* segments of one turn, as TURN_RX_BUDGET */

void judged_drain(struct engine *e)
{
	struct judged_segment seg;
	for (unsigned n = 0; n < JUDGED_BUDGET && judge_next(e->judge, &seg); n++) {
		input_one(e, &seg);
		judge_done(e->judge);
	}
}

const char *judged_how(const struct engine *e)
{
	if (e->settings.firewall == FIREWALL_BYPASS)
		return "bypass";
	return e->firewall_unknown ? "unknown" : e->judged ? "judges" : "none";
}

bool judged_pending(const struct engine *e)
{
	return e->judge && judge_pending(e->judge);
}
