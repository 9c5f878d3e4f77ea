/*
 * The classifier's first backend: eBPF at tcx ingress and as the packet socket's filter (DESIGN
 * §4).
 *
 * Owns: its maps, a tcx link for each interface, a mapping of the ports map, and the programs, one
 * pair for each kind of link header: an interface more costs no verifier, and a process that dropped
 * its privilege since may attach them, though it may not load any. The decision's code is in
 * classifier_prog.c.
 *
 * Invariants: what a map says is said to both programs at once, since they share the maps: a frame
 * that the engine sees is one that the kernel does not, except around an update that falls between
 * tap and tcx of one frame (TCP retransmits). A port's byte is written after the listeners entry
 * that it points to, and cleared before it. An IPv4 wildcard claims IPv4 packets only, :: both
 * families.
 *
 * References: a tcx link lives as long as some process has an fd of it, and with it the drop.
 * That must be this process alone: a fork child that kept its copy would make a killed server's
 * ports black holes, dropped by tcx and read by nobody. So a link's fd is close-on-exec, and a
 * child calls classifier_forget before anything else. What the child keeps through its copy of the
 * packet socket (filter, maps) drops nothing. Who opens a classifier for another process (the
 * broker: classifier_ebpf_fds, classifier_ebpf_adopt) closes its own copies once they are sent.
 *
 * The ingress program attaches in front of whatever is there. A program that ends the chain
 * (TC_ACT_OK, as the classic ones do) would otherwise leave to the kernel what our tap took
 * already. Ours returns TCX_NEXT for everything else, so engines of other processes on the same
 * interface, and foreign programs, see all that is not ours.
 *
 * Limits: those below; an update beyond is -E2BIG, and the connection stays the kernel's. No
 * timers.
 */
#include "kernel/classifier_backend.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "base/sys.h"
#include "kernel/bpf_sys.h"
#include "kernel/classifier_group_internal.h"
#include "kernel/classifier_prog.h"
#include "kernel/judge_internal.h"

/* Addresses of the interfaces (old and new ones while they are replaced); (addr, port) of one
 * process. */
#define CLASSIFIER_ADDRS_MAX     8192
#define CLASSIFIER_LISTENERS_MAX 4096
/* 4-tuples of a set at first, and in the map that is added when they are full. Creating a map costs
   its buckets (16 B each, some 0.1 ms for a thousand), which a program with one connection should
   not pay for a program with many. */
#define CLASSIFIER_SET_FIRST 16384
#define CLASSIFIER_SET_MORE  262144
#define VERIFIER_LOG_BYTES   65536

/* TCX_NEXT and TCX_DROP of Linux 6.6's enum tcx_action_base. */
#define VERDICT_TCX_NEXT (-1)
#define VERDICT_TCX_DROP 2
/* A socket filter returns how many bytes to keep: all, or none. */
#define VERDICT_KEEP_ALL (-1)
#define VERDICT_IGNORE   0

struct programs {
	int tap, ingress; /* -1: not loaded */
};

struct attachment {
	int ifindex; /* 0: free */
	int link_fd;
};

struct ebpf {
	struct classifier base;
	struct classifier_maps maps;
	int more[CLASSIFIER_SETS]; /* a set's second map, or -1 */
	struct programs programs[2]; /* for interfaces without and with a link header */
	struct attachment at[CLASSIFIER_INTERFACES_MAX];
	struct classifier_ports *ports; /* shared with the programs */
};

static struct ebpf *ebpf_of(struct classifier *c)
{
	return container_of(c, struct ebpf, base);
}

static const uint8_t PRESENT = 1; /* value of the maps that are sets */

/* ---- opening ---- */

static int create_set(const char *name, uint32_t key_size, uint32_t max_entries)
{
	return fd_move_high(bpf_map_create(name, BPF_MAP_TYPE_HASH, key_size, sizeof PRESENT,
					   max_entries, BPF_F_NO_PREALLOC));
}

/* An array of maps with room for every group's; `like_fd` shows what they look like and is closed. */
static int create_groups(const char *name, uint32_t n, int like_fd)
{
	int fd = like_fd < 0 ? like_fd
			     : fd_move_high(bpf_map_create_array_of_maps(name, n, like_fd));
	fd_close(like_fd);
	return fd;
}

static const char *const set_names[CLASSIFIER_SETS] = {
    [SET_FLOWS] = "fin_flows", [SET_EXCEPTIONS] = "fin_exceptions"};

static int map_ports(struct ebpf *c)
{
	void *p = sys_mmap(NULL, sizeof *c->ports, PROT_READ | PROT_WRITE, MAP_SHARED, c->maps.ports, 0);
	if (sys_is_error(p))
		return (int)(long)p;
	c->ports = p;
	return 0;
}

static int open_maps(struct ebpf *c)
{
	struct classifier_maps *m = &c->maps;
	if ((m->addrs = create_set("fin_addrs", sizeof(struct ip_addr), CLASSIFIER_ADDRS_MAX)) < 0)
		return m->addrs;
	m->listeners = fd_move_high(bpf_map_create(
	    "fin_listeners", BPF_MAP_TYPE_HASH, sizeof(struct classifier_listener),
	    sizeof(struct classifier_listener_of), CLASSIFIER_LISTENERS_MAX, BPF_F_NO_PREALLOC));
	if (m->listeners < 0)
		return m->listeners;
	m->members = create_groups("fin_groups", CLASSIFIER_GROUPS_MAX, classifier_group_members_map());
	if (m->members < 0)
		return m->members;
	m->flows = create_groups("fin_groups_flows", CLASSIFIER_GROUPS_MAX, classifier_group_flows_map(1));
	if (m->flows < 0)
		return m->flows;
	for (int i = 0; i < CLASSIFIER_SETS; i++) {
		m->sets[i] =
		    create_set(set_names[i], sizeof(struct classifier_flow), CLASSIFIER_SET_FIRST);
		if (m->sets[i] < 0)
			return m->sets[i];
	}
	m->more =
	    fd_move_high(bpf_map_create_array_of_maps("fin_more", CLASSIFIER_SETS, m->sets[0]));
	if (m->more < 0)
		return m->more;
	m->asked = create_groups("fin_judges", CLASSIFIER_GROUPS_MAX + 1, judge_asked_map_like());
	if (m->asked < 0)
		return m->asked;
	m->ports = fd_move_high(bpf_map_create("fin_ports", BPF_MAP_TYPE_ARRAY, sizeof(uint32_t),
					       sizeof *c->ports, 1, BPF_F_MMAPABLE));
	if (m->ports < 0)
		return m->ports;
	return map_ports(c);
}

/* The program's fd, or -errno. */
static int load_program(const char *name, enum bpf_prog_type type,
			const struct classifier_maps *maps, bool has_eth,
			const struct classifier_verdicts *verdicts)
{
	struct bpf_asm a;
	char *log = log_enabled(LOG_LEVEL_DEBUG, "classifier") ? malloc(VERIFIER_LOG_BYTES) : NULL;
	int ret = classifier_assemble(&a, maps, has_eth, verdicts);
	if (ret > 0)
		ret = bpf_prog_load(name, type, a.insns, ret, log, VERIFIER_LOG_BYTES);
	if (ret < 0 && log)
		log_debug("classifier", "%s: %s", name, log);
	free(log);
	return ret;
}

static int load_tap(struct ebpf *c, bool has_eth)
{
	static const struct classifier_verdicts verdicts = {
	    .ours = VERDICT_KEEP_ALL, .copy = VERDICT_KEEP_ALL, .none = VERDICT_IGNORE};
	int *prog = &c->programs[has_eth].tap;
	if (*prog < 0)
		*prog = fd_move_high(load_program("finesse_tap", BPF_PROG_TYPE_SOCKET_FILTER,
						  &c->maps, has_eth, &verdicts));
	return *prog;
}

static int load_ingress(struct ebpf *c, bool has_eth)
{
	static const struct classifier_verdicts verdicts = {
	    .ours = VERDICT_TCX_DROP, .copy = VERDICT_TCX_NEXT, .none = VERDICT_TCX_NEXT};
	int *prog = &c->programs[has_eth].ingress;
	if (*prog < 0)
		*prog = fd_move_high(load_program("finesse_ingress", BPF_PROG_TYPE_SCHED_CLS,
						  &c->maps, has_eth, &verdicts));
	return *prog;
}

static void explain(const char *step, int error, char *why, size_t why_len)
{
	if (error == -EPERM || error == -EACCES)
		snprintf(why, why_len,
			 "classifier: the kernel refuses eBPF (%s): needs root, or CAP_BPF, "
			 "CAP_NET_ADMIN "
			 "and CAP_NET_RAW in the initial user namespace",
			 step);
	else if (error == -ENOSYS)
		snprintf(why, why_len, "classifier: this kernel has no eBPF (CONFIG_BPF_SYSCALL)");
	else
		snprintf(why, why_len, "classifier: %s failed with error %d", step, -error);
}

static void ebpf_close(struct classifier *base);

static struct ebpf *ebpf_new(void)
{
	struct ebpf *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->base.ops = &classifier_ebpf_ops;
	for (int i = 0; i < 2; i++)
		c->programs[i] = (struct programs){.tap = -1, .ingress = -1};
	c->maps = (struct classifier_maps){
	    .addrs = -1, .ports = -1, .listeners = -1, .members = -1, .flows = -1, .sets = {-1, -1}, .more = -1, .asked = -1};
	for (int i = 0; i < CLASSIFIER_SETS; i++)
		c->more[i] = -1;
	return c;
}

/* The attachment to an interface; 0: a free one. NULL: there is none. */
static struct attachment *attachment_of(struct ebpf *c, int ifindex)
{
	for (int i = 0; i < CLASSIFIER_INTERFACES_MAX; i++)
		if (c->at[i].ifindex == ifindex)
			return &c->at[i];
	return NULL;
}

static int attach_filter(struct ebpf *c, int packet_fd, bool has_eth)
{
	int prog = load_tap(c, has_eth);
	return prog < 0 ? prog : sys_setsockopt(packet_fd, SOL_SOCKET, SO_ATTACH_BPF, &prog, sizeof prog);
}

/*
 * The frames of what is ours already are seen by the tap before tcx drops them. While nothing is ours, no order matters: the attachment, for which the kernel waits
 * long, is made while the other program is loaded, and the packet socket's ring.
 */
static int attach_programs(struct ebpf *c, int ifindex, int packet_fd, bool has_eth, const char **step)
{
	struct bpf_aside link;
	int err = c->base.n_addrs ? attach_filter(c, packet_fd, has_eth) : 0;
	*step = "attaching the packet socket's filter";
	if (err < 0)
		return err;
	*step = "loading a program for tcx";
	int ingress = load_ingress(c, has_eth);
	if (ingress < 0)
		return ingress;
	bpf_link_tcx_ingress_begin(&link, ingress, ifindex);
	if (!c->base.n_addrs)
		err = attach_filter(c, packet_fd, has_eth);
	int fd = fd_move_high(bpf_link_tcx_ingress_end(&link));
	*step = "attaching to the interface's tcx ingress";
	if (fd >= 0 && err == 0)
		return fd;
	fd_close(fd);
	if (fd >= 0)
		*step = "attaching the packet socket's filter";
	if (fd == -EINVAL) /* an attach type that this kernel does not know */
		return -EOPNOTSUPP;
	return fd < 0 ? fd : err;
}

static int ebpf_attach(struct classifier *base, int ifindex, int packet_fd, bool has_eth, char *why,
		       size_t why_len)
{
	struct ebpf *c = ebpf_of(base);
	const char *step;
	struct attachment *at = attachment_of(c, 0);

	if (!at) {
		snprintf(why, why_len, "classifier: at most %d interfaces", CLASSIFIER_INTERFACES_MAX);
		return -E2BIG;
	}
	int fd = attach_programs(c, ifindex, packet_fd, has_eth, &step);
	if (fd == -EOPNOTSUPP) {
		snprintf(why, why_len, "classifier: needs Linux 6.6 or newer (tcx)");
		return fd;
	}
	if (fd < 0) {
		explain(step, fd, why, why_len);
		return fd;
	}
	*at = (struct attachment){.ifindex = ifindex, .link_fd = fd};
	return 0;
}

static int ebpf_take_attachment(struct classifier *base, int ifindex)
{
	struct attachment *at = attachment_of(ebpf_of(base), ifindex);
	int fd = at ? at->link_fd : -1;

	if (at)
		*at = (struct attachment){.ifindex = 0};
	return fd;
}

static void ebpf_detach(struct classifier *base, int ifindex)
{
	fd_close(ebpf_take_attachment(base, ifindex));
}

int classifier_ebpf_open(struct classifier **out, int ifindex, int packet_fd, bool has_eth, char *why,
			 size_t why_len)
{
	struct ebpf *c = ebpf_new();

	if (!c)
		return -ENOMEM;
	int ret = open_maps(c);
	if (ret < 0)
		explain("creating maps", ret, why, why_len);
	else
		ret = ebpf_attach(&c->base, ifindex, packet_fd, has_eth, why, why_len);
	if (ret < 0) {
		ebpf_close(&c->base);
		return ret;
	}
	*out = &c->base;
	return 0;
}

/* Where each of a classifier's fds is kept, in the order in which they are given away. It is attached to one interface, then. */
static void fd_places(struct ebpf *c, struct programs *programs, int *places[CLASSIFIER_FDS])
{
	int n = 0;
	places[n++] = &c->at[0].link_fd;
	places[n++] = &programs->tap;
	places[n++] = &programs->ingress;
	places[n++] = &c->maps.addrs;
	places[n++] = &c->maps.ports;
	places[n++] = &c->maps.listeners;
	places[n++] = &c->maps.members;
	places[n++] = &c->maps.flows;
	for (int i = 0; i < CLASSIFIER_SETS; i++)
		places[n++] = &c->maps.sets[i];
	places[n++] = &c->maps.more;
	places[n++] = &c->maps.asked;
}
_Static_assert(CLASSIFIER_FDS == 10 + CLASSIFIER_SETS, "as many as fd_places has");

int classifier_ebpf_fds(const struct classifier *c, int fds[CLASSIFIER_FDS])
{
	struct ebpf *e = ebpf_of((struct classifier *)c);
	int *places[CLASSIFIER_FDS];
	fd_places(e, &e->programs[e->programs[1].tap >= 0], places);
	for (int i = 0; i < CLASSIFIER_FDS; i++)
		fds[i] = *places[i];
	return 0;
}

int classifier_ebpf_adopt(struct classifier **out, const int fds[CLASSIFIER_FDS], int ifindex, bool has_eth)
{
	int *places[CLASSIFIER_FDS], err;
	struct ebpf *c = ebpf_new();
	if (!c) {
		for (int i = 0; i < CLASSIFIER_FDS; i++)
			fd_close(fds[i]);
		return -ENOMEM;
	}
	fd_places(c, &c->programs[has_eth], places);
	c->at[0].ifindex = ifindex;
	for (int i = 0; i < CLASSIFIER_FDS; i++)
		*places[i] = fds[i];
	err = map_ports(c);
	if (err) {
		ebpf_close(&c->base);
		return err;
	}
	*out = &c->base;
	return 0;
}

static void ebpf_close(struct classifier *base)
{
	struct ebpf *c = ebpf_of(base);
	for (int i = 0; i < CLASSIFIER_INTERFACES_MAX; i++) /* first: from here on the kernel has everything */
		if (c->at[i].ifindex)
			ebpf_detach(base, c->at[i].ifindex);
	for (int i = 0; i < 2; i++) {
		fd_close(c->programs[i].tap);
		fd_close(c->programs[i].ingress);
	}
	if (c->ports)
		sys_call(SYS_munmap, c->ports, sizeof *c->ports, 0, 0, 0, 0);
	fd_close(c->maps.addrs);
	fd_close(c->maps.ports);
	fd_close(c->maps.listeners);
	fd_close(c->maps.members);
	fd_close(c->maps.flows);
	for (int i = 0; i < CLASSIFIER_SETS; i++) {
		fd_close(c->maps.sets[i]);
		fd_close(c->more[i]);
	}
	fd_close(c->maps.more);
	fd_close(c->maps.asked);
	free(c);
}

/*
 * In a fork child, too, closing our copies is all that it takes, because nothing here detaches
 * explicitly. The parent's fd of the link then is the last one again, and the maps, which the child
 * could still have written to through the shared mapping, stay as the parent left them.
 */

/* ---- addresses ---- */

static int ebpf_set_addresses(struct classifier *base, const struct ip_addr *addrs, size_t n)
{
	struct ebpf *c = ebpf_of(base);
	for (size_t i = 0; i < n; i++) {
		int ret = bpf_map_update(c->maps.addrs, &addrs[i], &PRESENT);
		if (ret < 0)
			return ret; /* the old ones are all still there */
	}
	for (size_t i = 0; i < base->n_addrs; i++)
		if (!classifier_has_address(addrs, n, &base->addrs[i]))
			bpf_map_delete(c->maps.addrs, &base->addrs[i]);
	return 0;
}

/* ---- listeners ---- */

/* What one listener asks of its port's byte. */
static uint8_t port_bits(const struct ip_addr *addr)
{
	if (ip_addr_equal(addr, &classifier_any_v6only))
		return PORT_ANY_V6;
	if (!ip_addr_is_any(addr))
		return PORT_BY_ADDR;
	return ip_addr_is_v4(addr) ? PORT_ANY_V4 : PORT_ANY_V4 | PORT_ANY_V6;
}

static struct classifier_listener listener_key(const struct ip_addr *addr, uint16_t port)
{
	return (struct classifier_listener){.laddr = *addr, .lport_be = htons(port)};
}

static struct classifier_listener_of listener_of(const struct listener *l)
{
	if (!l->group)
		return (struct classifier_listener_of){.group = 0};
	return (struct classifier_listener_of){.own = group_own(l->group), .group = l->group->index + 1};
}

static int publish_listener(struct ebpf *c, const struct ip_addr *addr, const struct listener *l)
{
	struct classifier_listener key = listener_key(addr, l->port);
	struct classifier_listener_of value = listener_of(l);
	return bpf_map_update(c->maps.listeners, &key, &value);
}

/* The listener that gets the wildcard's packets of one family: of 0.0.0.0 and :: the former, as in
 * the kernel. */
static const struct listener *wildcard(const struct ebpf *c, uint16_t port, enum classifier_port family)
{
	const struct listener *found = NULL;
	for (size_t i = 0; i < c->base.n_listeners; i++) {
		const struct listener *l = &c->base.listeners[i];
		uint8_t bits = port_bits(&l->addr);
		if (l->port == port && (bits & family) && (!found || bits == family))
			found = l;
	}
	return found;
}

/* The wildcards of a port where groups are: the program finds them by the unspecified address of
 * the packet's family. */
static int publish_wildcards(struct ebpf *c, uint16_t port, bool groups)
{
	static const struct ip_addr any[] = {{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}}, {{0}}};
	static const enum classifier_port families[] = {PORT_ANY_V4, PORT_ANY_V6};

	for (int i = 0; i < 2; i++) {
		const struct listener *l = groups ? wildcard(c, port, families[i]) : NULL;
		struct classifier_listener key = listener_key(&any[i], port);
		int ret = l ? publish_listener(c, &any[i], l) : 0;
		if (ret < 0)
			return ret;
		if (!l)
			bpf_map_delete(c->maps.listeners, &key); /* mostly there is none */
	}
	return 0;
}

/* The byte's upper half for a port whose listeners are wildcards of `g` and nothing else. */
static uint8_t quick_group(struct ebpf *c, const struct classifier_group *g)
{
	unsigned at = g ? g->index + 1 : 0;

	if (at == 0 || at >= CLASSIFIER_QUICK_GROUPS)
		return 0;
	__atomic_store_n(&c->ports->own[at], group_own(g), __ATOMIC_RELEASE);
	return at << PORT_GROUP_SHIFT;
}

/* What all listeners of a port ask of its byte. */
static uint8_t port_byte(struct ebpf *c, uint16_t port)
{
	const struct classifier_group *g = NULL;
	bool is_quick = true;
	uint8_t bits = 0;

	for (size_t i = 0; i < c->base.n_listeners; i++) {
		const struct listener *l = &c->base.listeners[i];
		if (l->port != port)
			continue;
		is_quick = is_quick && (bits == 0 || l->group == g) && classifier_is_wildcard(&l->addr);
		g = l->group;
		bits |= port_bits(&l->addr) | (g ? PORT_GROUPS : 0);
	}
	return is_quick ? bits | quick_group(c, g) : bits;
}

static int ebpf_add_listener(struct classifier *base, const struct ip_addr *addr, uint16_t port)
{
	struct ebpf *c = ebpf_of(base);
	uint8_t bits = port_byte(c, port);
	int ret = 0;

	if (!classifier_is_wildcard(addr))
		ret = publish_listener(c, addr, classifier_find_listener(base, addr, port));
	if (ret == 0 && (bits & PORT_GROUPS))
		ret = publish_wildcards(c, port, true);
	if (ret == 0)
		__atomic_store_n(&c->ports->bits[port], bits, __ATOMIC_RELEASE);
	return ret;
}

static int ebpf_del_listener(struct classifier *base, const struct ip_addr *addr, uint16_t port)
{
	struct ebpf *c = ebpf_of(base);
	struct classifier_listener key = listener_key(addr, port);
	uint8_t old = c->ports->bits[port], bits = port_byte(c, port);

	__atomic_store_n(&c->ports->bits[port], bits, __ATOMIC_RELEASE);
	if (old & PORT_GROUPS)
		publish_wildcards(c, port, bits & PORT_GROUPS);
	return classifier_is_wildcard(addr) ? 0 : bpf_map_delete(c->maps.listeners, &key);
}

/* ---- groups ---- */

static int ebpf_set_group(struct classifier *base, unsigned index, int members_fd, int flows_fd, int asked_fd)
{
	struct ebpf *c = ebpf_of(base);
	uint32_t key = index, judge = index + 1;
	int ret;

	if (members_fd < 0) {
		bpf_map_delete(c->maps.members, &key);
		bpf_map_delete(c->maps.asked, &judge);
		return bpf_map_delete(c->maps.flows, &key);
	}
	if (asked_fd >= 0 && (ret = bpf_map_update(c->maps.asked, &judge, &asked_fd)) < 0)
		return ret;
	ret = bpf_map_update(c->maps.flows, &key, &flows_fd);
	if (ret == 0 && (ret = bpf_map_update(c->maps.members, &key, &members_fd)) < 0)
		bpf_map_delete(c->maps.flows, &key);
	return ret;
}

/* ---- judged by the host ---- */

/* The map first: a SYN that climbs is one that was asked about. */
static int ebpf_set_judge(struct classifier *base, int asked_fd)
{
	struct ebpf *c = ebpf_of(base);
	uint32_t place = JUDGE_OWN;
	int ret = asked_fd < 0 ? 0 : bpf_map_update(c->maps.asked, &place, &asked_fd);
	if (ret == 0)
		__atomic_store_n(&c->ports->judged, asked_fd >= 0, __ATOMIC_RELEASE);
	return ret;
}

static void ebpf_note_cookies(struct classifier *base, int64_t until_us)
{
	__atomic_store_n(&ebpf_of(base)->ports->cookies_until_ns, (uint64_t)until_us * 1000, __ATOMIC_RELAXED);
}

/* ---- exact flows ---- */

struct classifier_flow classifier_flow(const struct flow_key *key)
{
	return (struct classifier_flow){.raddr = key->raddr,
					.laddr = key->laddr,
					.rport_be = htons(key->rport),
					.lport_be = htons(key->lport)};
}

/* The set's second map, made when the first is full. After a program has dropped its privilege that
 * is refused: the set is full. */
static int grow(struct ebpf *c, enum classifier_set set)
{
	uint32_t slot = set;
	int fd, ret;

	if (c->more[set] >= 0)
		return 0;
	fd = create_set(set_names[set], sizeof(struct classifier_flow), CLASSIFIER_SET_MORE);
	if (fd < 0)
		return -E2BIG;
	ret = bpf_map_update(c->maps.more, &slot, &fd);
	if (ret < 0) {
		fd_close(fd);
		return ret;
	}
	c->more[set] = fd;
	return 0;
}

static int set_add(struct ebpf *c, enum classifier_set set, const struct flow_key *key)
{
	struct classifier_flow f = classifier_flow(key);
	int ret = bpf_map_update(c->maps.sets[set], &f, &PRESENT);

	if (ret != -E2BIG)
		return ret;
	ret = grow(c, set);
	return ret < 0 ? ret : bpf_map_update(c->more[set], &f, &PRESENT);
}

/* It may be in both: added to the second, and again when the first had room. */
static int set_del(struct ebpf *c, enum classifier_set set, const struct flow_key *key)
{
	struct classifier_flow f = classifier_flow(key);
	int first = bpf_map_delete(c->maps.sets[set], &f);
	int second = c->more[set] >= 0 ? bpf_map_delete(c->more[set], &f) : -ENOENT;

	return first == -ENOENT ? second : first;
}

static int ebpf_add_flow(struct classifier *c, enum classifier_set set, const struct flow_key *key)
{
	return set_add(ebpf_of(c), set, key);
}

static int ebpf_del_flow(struct classifier *c, enum classifier_set set, const struct flow_key *key)
{
	return set_del(ebpf_of(c), set, key);
}

#define DELETED_AT_ONCE 64

/* One system call for many. With a second map, or where the kernel has no such call, one by one. */
static void ebpf_del_flows(struct classifier *base, const struct flow_key *keys, size_t n)
{
	struct ebpf *c = ebpf_of(base);
	struct classifier_flow flows[DELETED_AT_ONCE];
	for (size_t i = 0; i < n;) {
		uint32_t count = n - i < DELETED_AT_ONCE ? n - i : DELETED_AT_ONCE;
		for (uint32_t k = 0; k < count; k++)
			flows[k] = classifier_flow(&keys[i + k]);
		int err = c->more[SET_FLOWS] < 0 ? bpf_map_delete_batch(c->maps.sets[SET_FLOWS], flows, &count) : -EINVAL;
		if (err == 0 || err == -ENOENT)
			i += count + (err != 0);
		else
			set_del(c, SET_FLOWS, &keys[i++]);
	}
}

const struct classifier_ops classifier_ebpf_ops = {
	.name = "ebpf-tcx",
	.is_exact = true,
	.attach = ebpf_attach,
	.detach = ebpf_detach,
	.take_attachment = ebpf_take_attachment,
	.close = ebpf_close,
	.set_addresses = ebpf_set_addresses,
	.add_listener = ebpf_add_listener,
	.del_listener = ebpf_del_listener,
	.add_flow = ebpf_add_flow,
	.del_flow = ebpf_del_flow,
	.del_flows = ebpf_del_flows,
	.set_group = ebpf_set_group,
	.set_judge = ebpf_set_judge,
	.note_cookies = ebpf_note_cookies,
};
