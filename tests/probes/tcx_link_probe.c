/*
 * A tcx link dies with its last reference, also by SIGKILL; a copy of its fd in a fork child keeps the drop
 * alive (so a child must close it); a copy of the packet socket does not.
 */
#include <signal.h>
#include <sys/wait.h>

#include "bpf_probe.h"

static int programs(void)
{
	uint32_t ids[BPF_QUERY_MAX];
	return bpf_prog_query(if_nametoindex("a"), BPF_ATTACH_TCX_INGRESS, 0, ids);
}

static int attach_drop(void)
{
	int prog = constant_program(BPF_PROG_TYPE_SCHED_CLS, 2);
	int link = bpf_link_tcx_ingress(prog, if_nametoindex("a"));
	close(prog);
	return link;
}

int main(void)
{
	int peer, up[2], down[2];
	char c;
	enter_or_skip(&peer);

	int link = attach_drop(), copy = dup(link);
	fact(programs() == 1, "a link attaches its program, and needs no fd of it");
	close(link);
	fact(programs() == 1, "one of two references goes: the program stays");
	close(copy);
	fact(programs() == 0, "the last reference goes: the program too");
	send_syn(peer, 81);
	fact(is_answered(peer, 2000) == 81, "and the kernel answers again");

	must(pipe(up) == 0 && pipe(down) == 0);
	link = attach_drop();
	pid_t child = fork();
	if (child == 0) {
		close(down[1]);
		_exit(read(down[0], &c, 1) != 0); /* keeps its copy until told */
	}
	close(link);
	fact(programs() == 1, "a fork child's copy keeps the drop alive");
	close(down[1]);
	waitpid(child, NULL, 0);
	fact(programs() == 0, "until it exits");

	child = fork();
	if (child == 0) {
		attach_drop();
		if (write(up[1], "x", 1) == 1)
			for (;;)
				pause();
		_exit(1);
	}
	fact(read(up[0], &c, 1) == 1 && programs() == 1, "another process attaches");
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	fact(programs() == 0, "SIGKILL leaves no program behind");
	send_syn(peer, 82);
	fact(is_answered(peer, 2000) == 82, "and the kernel answers at once");
	return probe_end();
}
