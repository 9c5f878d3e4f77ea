/*
 * The classifier's first backend: eBPF at tcx ingress and as the packet socket's filter.
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
#include "kernel/classifier_ebpf_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "kernel/bpf_sys.h"
#include "kernel/classifier_group_internal.h"
#include "kernel/judge_internal.h"
#include "kernel/privileged.h"

/* Addresses of the interfaces (old and new ones while they are replaced); (addr, port) of one
 * process. */
#define CLASSIFIER_ADDRS_MAX     8192
#define CLASSIFIER_LISTENERS_MAX 4096
#define VERIFIER_LOG_BYTES   65536

#define VERDICT_TCX_DROP 2 /* TCX_DROP */
/* A socket filter returns how many bytes to keep: all, or none. */
#define VERDICT_KEEP_ALL (-1)
#define VERDICT_IGNORE   0

/* ---- opening ---- */

/* An array of maps with room for every group's; `like_fd` shows what they look like and is closed. */
static int create_groups(const char *name, uint32_t n, int like_fd)
{
	int fd = like_fd < 0 ? like_fd
			     : fd_move_high(bpf_map_create_array_of_maps(name, n, like_fd));
	fd_close(like_fd);
	return fd;
}

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
	if ((m->addrs = ebpf_hash_of_keys("fin_addrs", sizeof(struct ip_addr), CLASSIFIER_ADDRS_MAX)) < 0)
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
	int err = ebpf_flows_open(c);
	if (err < 0)
		return err;
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
	struct bpf_asm *a = malloc(sizeof *a); /* too large for a thread's small stack */
	char *log = log_enabled(LOG_LEVEL_DEBUG, "classifier") ? malloc(VERIFIER_LOG_BYTES) : NULL;
	int ret = a ? classifier_assemble(a, maps, has_eth, verdicts) : -ENOMEM;
	if (ret > 0)
		ret = bpf_prog_load(name, type, a->insns, ret, log, VERIFIER_LOG_BYTES);
	if (ret < 0 && log)
		log_debug("classifier", "%s: %s", name, log);
	free(log);
	free(a);
	return ret;
}

static int load_tap_program(const struct ebpf *c, bool has_eth)
{
	static const struct classifier_verdicts verdicts = {
	    .ours = VERDICT_KEEP_ALL, .copy = VERDICT_KEEP_ALL, .none = VERDICT_IGNORE};
	return load_program("finesse_tap", BPF_PROG_TYPE_SOCKET_FILTER, &c->maps, has_eth, &verdicts);
}

static int load_tap(struct ebpf *c, bool has_eth)
{
	int *prog = &c->programs[has_eth].tap;
	if (*prog < 0)
		*prog = fd_move_high(load_tap_program(c, has_eth));
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

/*
 * The program is on the interface already: it went to another namespace with it, and is back. So the kernel never
 * answered for what is ours meanwhile. Its attachment's fd leaves its place; -EEXIST: it is none of ours.
 */
static int take_over(struct ebpf *c, int ifindex)
{
	for (int i = 0; i < CLASSIFIER_INTERFACES_MAX; i++) {
		struct attachment *at = &c->at[i];
		if (!at->ifindex || bpf_link_tcx_ifindex(at->link_fd) != ifindex)
			continue;
		int fd = at->link_fd;
		*at = (struct attachment){.ifindex = 0};
		return fd;
	}
	return -EEXIST;
}

static int attach_filter(struct ebpf *c, int packet_fd, bool has_eth)
{
	int prog = load_tap(c, has_eth);
	return prog < 0 ? prog : sys_setsockopt(packet_fd, SOL_SOCKET, SO_ATTACH_BPF, &prog, sizeof prog);
}

/*
 * The frames of what is ours already are seen by the tap before tcx drops them. While nothing is ours, no order
 * matters: the attachment, for which the kernel waits long, is made while the other program is loaded, and the packet
 * socket's ring.
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
	if (fd == -EEXIST)
		fd = take_over(c, ifindex);
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

/* ---- in two steps ---- */

int classifier_prepare(struct classifier **out, bool has_eth)
{
	struct ebpf *c = ebpf_new();
	if (!c)
		return -ENOMEM;
	int err = open_maps(c), tap = 0;
	if (!err)
		err = load_ingress(c, has_eth);
	if (err >= 0)
		tap = load_tap(c, has_eth);
	if (err < 0 || tap < 0) {
		ebpf_close(&c->base);
		return err < 0 ? err : tap;
	}
	*out = &c->base;
	return 0;
}

int classifier_ebpf_put(struct classifier *base, int ifindex, int place, int packet_fd, bool has_eth)
{
	struct ebpf *c = ebpf_of(base);
	int err = attach_filter(c, packet_fd, has_eth);
	if (err)
		return err;
	int copy = fd_move_high(sys_fcntl(place, F_DUPFD_CLOEXEC, 0));
	if (copy < 0)
		return copy;
	err = bpf_link_update(copy, load_ingress(c, has_eth));
	if (err) {
		fd_close(copy);
		return err;
	}
	c->at[0] = (struct attachment){.ifindex = ifindex, .link_fd = copy};
	return 0;
}

/* ---- the end of an attachment ---- */

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
	struct attachment *at = attachment_of(ebpf_of(base), ifindex);
	if (at && at->shared)
		bpf_link_detach(at->link_fd); /* the other process's file would keep it */
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

/*
 * Where each of a classifier's fds is kept, in the order in which they are given away. It is attached to one interface,
 * then.
 */
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
	c->at[0].shared = true;
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
 * In a fork child closing our copies is all that it takes. The parent's fd of the link then is the last one again (or
 * the broker's and the parent's), and the maps, which the child could still have written to through the shared mapping,
 * stay as the parent left them.
 */
static void ebpf_forget(struct classifier *base)
{
	struct ebpf *c = ebpf_of(base);
	for (int i = 0; i < CLASSIFIER_INTERFACES_MAX; i++)
		c->at[i].shared = false; /* the parent's attachment goes on */
	ebpf_close(base);
}

/* ---- addresses ---- */

/* One of each family, where there is one, stands where the programs look first. */
static void quick_addrs_leave(struct ebpf *c, const struct ip_addr *addrs, size_t n)
{
	for (int i = 0; i < CLASSIFIER_QUICK_ADDRS; i++) {
		struct classifier_quick_addr *q = &c->ports->addrs[i];
		if (!classifier_has_address(addrs, n, &q->addr))
			__atomic_store_n(&q->used, 0, __ATOMIC_RELEASE);
	}
}

static void quick_addrs_come(struct ebpf *c, const struct ip_addr *addrs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct classifier_quick_addr *q = &c->ports->addrs[!ip_addr_is_v4(&addrs[i])];
		if (q->used)
			continue;
		q->addr = addrs[i];
		__atomic_store_n(&q->used, 1, __ATOMIC_RELEASE);
	}
}

static int ebpf_set_addresses(struct classifier *base, const struct ip_addr *addrs, size_t n)
{
	struct ebpf *c = ebpf_of(base);
	quick_addrs_leave(c, addrs, n);
	for (size_t i = 0; i < n; i++) {
		int ret = bpf_map_update(c->maps.addrs, &addrs[i], &ebpf_present);
		if (ret < 0)
			return ret; /* the old ones are all still there */
	}
	for (size_t i = 0; i < base->n_addrs; i++)
		if (!classifier_has_address(addrs, n, &base->addrs[i]))
			bpf_map_delete(c->maps.addrs, &base->addrs[i]);
	quick_addrs_come(c, addrs, n);
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

/*
 * For each change of a map of maps the kernel waits for an RCU grace period, some 10 ms. So the broker is asked first,
 * which does not wait for it; else all three are entered at once. And a group that ends is left there, since a server's
 * worker ends with it, mostly: no listener leads to it, and the next group of this index replaces it. Of too many the
 * large map is taken out.
 */
static int leave_group(struct ebpf *c, uint32_t index)
{
	if (c->n_left >= EBPF_LEFT_MAX)
		return bpf_map_delete(c->maps.flows, &index);
	c->n_left++;
	c->left[index] = true;
	return 0;
}

static void replaces_left(struct ebpf *c, uint32_t index)
{
	c->n_left -= c->left[index];
	c->left[index] = false;
}

/* 0 or the first -errno. *flows_err: of the second. */
static int enter_here(const struct privileged_enter *maps, unsigned n, int *flows_err)
{
	struct bpf_aside begun[PRIVILEGED_ENTER_MAX];
	int err = 0, flows = 0;
	for (unsigned i = 1; i < n; i++)
		bpf_map_update_begin(&begun[i], maps[i].map_fd, &maps[i].key, &maps[i].inner_fd);
	err = bpf_map_update(maps[0].map_fd, &maps[0].key, &maps[0].inner_fd);
	for (unsigned i = 1; i < n; i++) {
		int one = bpf_map_update_end(&begun[i]);
		flows = i == 1 ? one : flows;
		err = err < 0 ? err : one;
	}
	*flows_err = flows;
	return err;
}

static int ebpf_set_group(struct classifier *base, unsigned index, int members_fd, int flows_fd, int asked_fd)
{
	struct ebpf *c = ebpf_of(base);
	const struct privileged_enter maps[PRIVILEGED_ENTER_MAX] = {
	    {c->maps.members, index, members_fd}, {c->maps.flows, index, flows_fd}, {c->maps.asked, index + 1, asked_fd}};
	unsigned n = asked_fd < 0 ? 2 : 3;
	int flows_err = 0;

	if (members_fd < 0)
		return leave_group(c, index);
	int err = privileged_enter_maps(maps, n);
	if (err < 0)
		err = enter_here(maps, n, &flows_err);
	if (flows_err == 0) {
		replaces_left(c, index);
		if (err < 0)
			leave_group(c, index);
	}
	return err;
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

static void ebpf_open_ports(struct classifier *base, bool v6, uint16_t first, unsigned n, const uint8_t *bits)
{
	uint8_t *open = ebpf_of(base)->ports->open[v6];
	for (unsigned port = first; port < first + n; port++) {
		uint8_t bit = 1u << port % 8;
		bool opens = bits[(port - first) / 8] >> (port - first) % 8 & 1;
		if (opens)
			__atomic_fetch_or(&open[port / 8], bit, __ATOMIC_RELEASE);
		else if (open[port / 8] & bit)
			__atomic_fetch_and(&open[port / 8], (uint8_t)~bit, __ATOMIC_RELEASE);
	}
}

static bool ebpf_is_open(const struct classifier *base, bool v6, uint16_t port)
{
	return ebpf_of((struct classifier *)base)->ports->open[v6][port / 8] >> port % 8 & 1;
}

static struct named_sources *ebpf_named(const struct classifier *base, bool v6)
{
	return &ebpf_of((struct classifier *)base)->ports->named[v6];
}

static void ebpf_note_cookies(struct classifier *base, int64_t until_us)
{
	__atomic_store_n(&ebpf_of(base)->ports->cookies_until_ns, (uint64_t)until_us * 1000, __ATOMIC_RELAXED);
}

const struct classifier_ops classifier_ebpf_ops = {
	.name = "ebpf-tcx",
	.is_exact = true,
	.attach = ebpf_attach,
	.detach = ebpf_detach,
	.take_attachment = ebpf_take_attachment,
	.close = ebpf_close,
	.forget = ebpf_forget,
	.set_addresses = ebpf_set_addresses,
	.add_listener = ebpf_add_listener,
	.del_listener = ebpf_del_listener,
	.add_flow = ebpf_add_flow,
	.del_flow = ebpf_del_flow,
	.del_flows = ebpf_del_flows,
	.flows_stay = ebpf_flows_stay,
	.set_group = ebpf_set_group,
	.set_judge = ebpf_set_judge,
	.open_ports = ebpf_open_ports,
	.is_open = ebpf_is_open,
	.named = ebpf_named,
	.note_cookies = ebpf_note_cookies,
	.looked = ebpf_looked,
	.has_given = ebpf_has_given,
	.visit_given = ebpf_visit_given,
	.count_conn = ebpf_count_conn,
};
