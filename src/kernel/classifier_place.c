/*
 * Places at an interface's tcx ingress: attachments whose program does nothing, until a classifier's is put there
 * (classifier_put).
 */
#include "kernel/classifier_backend.h"

#include <stdlib.h>

#include "base/fd.h"
#include "kernel/bpf_sys.h"

struct classifier_place {
	struct bpf_aside making;
	int prog;
};

static int load_idle(void)
{
	static const struct bpf_insn leave_all[] = {
	    {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = VERDICT_TCX_NEXT}, {.code = BPF_JMP | BPF_EXIT}};
	return fd_move_high(bpf_prog_load("finesse_idle", BPF_PROG_TYPE_SCHED_CLS, leave_all, 2, NULL, 0));
}

struct classifier_place *classifier_place_begin(int ifindex)
{
	struct classifier_place *p = malloc(sizeof *p);
	if (!p)
		return NULL;
	p->prog = load_idle();
	if (p->prog < 0) {
		free(p);
		return NULL;
	}
	bpf_link_tcx_ingress_begin(&p->making, p->prog, ifindex);
	return p;
}

bool classifier_place_is_made(const struct classifier_place *p)
{
	return aside_has_ended(&p->making.call);
}

int classifier_place_end(struct classifier_place *p)
{
	int fd = fd_move_high(bpf_link_tcx_ingress_end(&p->making));
	fd_close(p->prog);
	free(p);
	return fd;
}

int classifier_place_clear(int place)
{
	int idle = load_idle();
	int err = idle < 0 ? idle : bpf_link_update(place, idle);
	fd_close(idle);
	return err;
}
