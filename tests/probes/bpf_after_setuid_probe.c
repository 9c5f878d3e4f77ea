/*
 * After setuid, map updates, SO_ATTACH_BPF and a new tcx link with a loaded program still work;
 * AF_PACKET and loading a program do not.
 */
#include "bpf_probe.h"

int main(void)
{
	int peer;
	uint32_t k = 1;
	uint8_t v = 1;
	enter_or_skip(&peer);

	int map = bpf_map_create("probe", BPF_MAP_TYPE_HASH, sizeof k, sizeof v, 16, BPF_F_NO_PREALLOC);
	int drop = constant_program(BPF_PROG_TYPE_SCHED_CLS, 2);
	int filter = constant_program(BPF_PROG_TYPE_SOCKET_FILTER, 0);
	int tap = packet_open("a"), ifindex = if_nametoindex("a");
	must(map >= 0 && drop >= 0 && filter >= 0);
	must(setresuid(65534, 65534, 65534) == 0);

	fact(bpf_map_update(map, &k, &v) == 0, "a map update still works");
	fact(bpf_map_delete(map, &k) == 0, "a deletion too");
	fact(setsockopt(tap, SOL_SOCKET, SO_ATTACH_BPF, &filter, sizeof filter) == 0, "SO_ATTACH_BPF still works");
	fact(bpf_link_tcx_ingress(drop, ifindex) >= 0, "a new tcx link with a loaded program still works");
	fact(socket(AF_PACKET, SOCK_RAW, 0) < 0 && errno == EPERM, "a new packet socket is EPERM");
	fact(constant_program(BPF_PROG_TYPE_SCHED_CLS, 2) == -EPERM, "loading a program is EPERM");
	return probe_end();
}
