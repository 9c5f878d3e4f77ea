/*
 * Others' programs where frames come in, behind the packet socket's tap and behind our own program: filters of tc, and
 * programs at tcx. What is ours never reaches them, so what they would drop, limit or send elsewhere is not for us to
 * serve.
 *
 * The kernel tells everybody of tc's filters, and who may of tcx (CAP_NET_ADMIN; CAP_SYS_ADMIN, whose a program is).
 * Where it does not, no program is taken for another's: the engines of other processes are there as well.
 */
#include "kernel/firewall_internal.h"

#include <errno.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include <libmnl/libmnl.h>

#include "base/apart.h"
#include "base/fd.h"
#include "base/sys.h"
#include "kernel/bpf_sys.h"
#include "kernel/firewall.h"
#include "kernel/netlink.h"

static int on_filter(const struct nlmsghdr *h, void *ctx)
{
	bool *found = ctx;
	*found |= h->nlmsg_type == RTM_NEWTFILTER;
	return *found;
}

static int ask(struct nlmsghdr *h, bool *found)
{
	int fd = netlink_open(NETLINK_ROUTE);
	int err = fd < 0 ? fd : netlink_talk(fd, h, on_filter, found);
	if (fd >= 0)
		sys_close(fd);
	return err;
}

int firewall_open_route(struct firewall_look *look)
{
	if (look->route_fd < 0)
		look->route_fd = fd_move_high(netlink_open(NETLINK_ROUTE));
	return look->route_fd;
}

/* A socket that failed may have an answer left. */
static int ask_kept(struct firewall_look *look, struct nlmsghdr *h, bool *found)
{
	int fd = firewall_open_route(look);
	int err = fd < 0 ? fd : netlink_talk(fd, h, on_filter, found);
	if (err < 0 && err != -EOPNOTSUPP && err != -EINVAL && err != -ENOENT) { /* … which are whole answers */
		fd_close(fd);
		look->route_fd = -1;
	}
	return err;
}

#define ANY_FILTER TC_H_MAKE(1u << 16, 0) /* of priority 1, and no protocol: there is none */

static int ask_filters(int ifindex, bool all, bool *found, struct firewall_look *look)
{
	char buf[64];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	h->nlmsg_type = RTM_GETTFILTER;
	h->nlmsg_flags = NLM_F_REQUEST | (all ? NLM_F_DUMP : NLM_F_ACK);
	struct tcmsg *t = mnl_nlmsg_put_extra_header(h, sizeof *t);
	t->tcm_ifindex = ifindex;
	t->tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);
	t->tcm_info = all ? 0 : ANY_FILTER;
	return look ? ask_kept(look, h, found) : ask(h, found);
}

/*
 * All filters of an interface the kernel tells under its lock of the network, for which who asks may have to wait. One
 * it tells without, and that there is nothing that could have filters: most interfaces' answer.
 */
static int read_filters(int ifindex, bool *found, struct firewall_look *look)
{
	int err = ask_filters(ifindex, false, found, look);
	return err == -EINVAL ? 0 : ask_filters(ifindex, true, found, look);
}

static bool is_others(uint32_t id)
{
	char name[BPF_OBJ_NAME_LEN];
	return bpf_prog_name(id, name) >= 0 && firewall_is_others_program(name);
}

/* Of the programs at tcx: which they are, as one number. */
static int query_tcx(int ifindex, uint32_t ids[BPF_QUERY_MAX], uint64_t *sum)
{
	int n = bpf_prog_query(ifindex, BPF_ATTACH_TCX_INGRESS, 0, ids);
	*sum = 0;
	n = n < 0 ? 0 : n > BPF_QUERY_MAX ? BPF_QUERY_MAX : n;
	for (int i = 0; i < n; i++)
		*sum = (*sum ^ ids[i]) * 0x100000001b3ull; /* FNV-1 */
	return n;
}

struct programs {
	uint32_t ids[BPF_QUERY_MAX];
	int n;
	bool others;
};

static void look_for_others(void *arg)
{
	struct programs *p = arg;
	for (int i = 0; i < p->n && !p->others; i++)
		p->others = is_others(p->ids[i]);
}

/* A program's number and name are its own for life, so the answer for a set of them holds, at whatever interface. */
static bool is_known(const struct firewall_look *look, uint64_t sum, bool *others)
{
	for (unsigned i = 0; i < FIREWALL_LOOK_SETS; i++)
		if (look->sets[i].sum == sum) {
			*others = look->sets[i].others;
			return true;
		}
	return false;
}

static void note_known(struct firewall_look *look, uint64_t sum, bool others)
{
	look->sets[look->next_set].sum = sum;
	look->sets[look->next_set].others = others;
	look->next_set = (look->next_set + 1) % FIREWALL_LOOK_SETS;
}

static bool has_others(int ifindex, struct firewall_look *look)
{
	struct programs p = {.others = false};
	uint64_t sum;
	p.n = query_tcx(ifindex, p.ids, &sum);
	if (p.n > 0 && !is_known(look, sum, &p.others)) {
		apart_call(look_for_others, &p);
		note_known(look, sum, p.others);
	}
	return p.others;
}

void firewall_read_tc(int ifindex, struct firewall_tc *out, struct firewall_look *look)
{
	struct firewall_look once = FIREWALL_LOOK_NONE, *l = look ? look : &once;
	*out = (struct firewall_tc){.ifindex = ifindex};
	read_filters(ifindex, &out->filters, look); /* a kernel that cannot say has no tc */
	firewall_look_at_programs(l);
	out->programs = l->for_tcx && has_others(ifindex, l);
}
