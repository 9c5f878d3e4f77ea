/*
 * Which kinds of BPF programs are loaded on this host at all.
 *
 * What is attached to an interface, and where a link leads, the kernel tells under its lock of the network, which
 * whoever attaches a program to an interface holds for some 10 ms. Programs it tells without. A program has its number
 * before it is attached anywhere. So where no program of a kind is loaded, nobody needs to ask where one is.
 */
#include "kernel/firewall_internal.h"

#include <errno.h>
#include <string.h>

#include "base/apart.h"
#include "kernel/bpf_sys.h"

#define OWN_NAMES "finesse_" /* how the programs of every engine are called */

bool firewall_is_others_program(const char *name)
{
	return strncmp(name, OWN_NAMES, strlen(OWN_NAMES)) != 0;
}

/* False: it could not be looked at (the process may have no descriptor), and will be. */
static bool look_at_one(struct firewall_look *l, uint32_t id)
{
	char name[BPF_OBJ_NAME_LEN];
	int type = bpf_prog_name(id, name);
	if (type < 0)
		return type == -ENOENT; /* it went meanwhile */
	if (type == BPF_PROG_NETFILTER && !l->for_hooks)
		l->for_hooks = id;
	if (type == BPF_PROG_TYPE_SCHED_CLS && !l->for_tcx && firewall_is_others_program(name))
		l->for_tcx = id;
	return true;
}

static void look_at_new(void *arg)
{
	struct firewall_look *l = arg;
	for (int next; (next = bpf_prog_next(l->programs_seen)) > 0 && look_at_one(l, next); l->programs_seen = next)
		;
}

static bool is_gone(uint32_t id)
{
	return id && bpf_prog_next(id - 1) != (int)id;
}

bool firewall_look_at_programs(struct firewall_look *look)
{
	struct firewall_look l = *look;
	if (is_gone(l.for_hooks) || is_gone(l.for_tcx)) /* another one may be there from before */
		l.for_hooks = l.for_tcx = l.programs_seen = 0;
	if (bpf_prog_next(l.programs_seen) > 0)
		apart_call(look_at_new, &l);
	*look = l;
	return bpf_prog_next(l.programs_seen) <= 0;
}
