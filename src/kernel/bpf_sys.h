/*
 * bpf(2) without libbpf. Every call returns 0/positive (an fd, close-on-exec) or -errno. Constants that the headers of
 * Linux 6.1 lack are defined here.
 */
#ifndef FINESSE_KERNEL_BPF_SYS_H
#define FINESSE_KERNEL_BPF_SYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/bpf.h>

#include "base/aside.h"

#ifndef BPF_F_BEFORE /* came with tcx in Linux 6.6; the enumerators themselves cannot be tested for */
#define BPF_F_BEFORE (1U << 3)
#endif
#define BPF_ATTACH_TCX_INGRESS 46 /* BPF_TCX_INGRESS of enum bpf_attach_type, Linux 6.6 */

/* A call for which the kernel waits for an RCU grace period: it is begun, and ended once. */
struct bpf_aside {
	struct aside call;
	union bpf_attr attr;
};

int bpf_map_create(const char *name, enum bpf_map_type type, uint32_t key_size, uint32_t value_size,
		   uint32_t max_entries, uint32_t flags);
/* An array of `n` slots that each hold a map like `like_fd`, or nothing yet. */
int bpf_map_create_array_of_maps(const char *name, uint32_t n, int like_fd);
/* Has this map this shape? Of what is no map the answer means nothing, and nothing can be done with it. */
bool bpf_map_is(int fd, enum bpf_map_type type, uint32_t key_size, uint32_t value_size);
int bpf_map_update(int map_fd, const void *key, const void *value);
/* The same where the value is a map: the kernel waits. Key and value stay until the end. */
void bpf_map_update_begin(struct bpf_aside *a, int map_fd, const void *key, const void *value);
int bpf_map_update_end(struct bpf_aside *a);
/*
 * Programs find `inner_fd` there from now on: a call that was begun waits for those that found the map before, and for
 * nothing else.
 */
bool bpf_map_holds(int map_fd, uint32_t key, int inner_fd);
int bpf_map_insert(int map_fd, const void *key, const void *value); /* -EEXIST: the key is there */
int bpf_map_lookup(int map_fd, const void *key, void *value);
int bpf_map_take(int map_fd, const void *key, void *value); /* looks up and deletes, as one */
int bpf_map_delete(int map_fd, const void *key);
/* Enters n keys in their order, with the values; *n says how many were entered. */
int bpf_map_update_batch(int map_fd, const void *keys, const void *values, uint32_t *n);
/*
 * Deletes the n keys in their order, up to the first that is not there: -ENOENT, and *n says how many went before it.
 */
int bpf_map_delete_batch(int map_fd, const void *keys, uint32_t *n);
/*
 * Up to *n elements of a hash; *n becomes how many. `from`: NULL at first, then what came back in `next`. -ENOENT:
 * these are the last.
 */
int bpf_map_lookup_batch(int map_fd, const uint32_t *from, uint32_t *next, void *keys, void *values, uint32_t *n);

/* A failed load says why in `log` (the verifier's words; may be NULL). */
int bpf_prog_load(const char *name, enum bpf_prog_type type, const struct bpf_insn *insns, size_t n,
		  char *log, size_t log_len);
/*
 * The same for a program that calls functions of the kernel itself, which serve programs only that anybody may also
 * have under the GPL.
 */
int bpf_prog_load_gpl(const char *name, enum bpf_prog_type type, const struct bpf_insn *insns, size_t n, char *log, size_t log_len);
/*
 * Attaches to the interface's tcx ingress, before programs that are there; the attachment lives as long as the returned
 * fd's file. The kernel waits.
 */
void bpf_link_tcx_ingress_begin(struct bpf_aside *a, int prog_fd, int ifindex);
int bpf_link_tcx_ingress_end(struct bpf_aside *a);
int bpf_link_tcx_ifindex(int link_fd); /* of the interface that it is attached to now; 0: of none any more */
static inline int bpf_link_tcx_ingress(int prog_fd, int ifindex)
{
	struct bpf_aside a;
	bpf_link_tcx_ingress_begin(&a, prog_fd, ifindex);
	return bpf_link_tcx_ingress_end(&a);
}
/*
 * Another program in the same place: the kernel waits for nothing. -ENOLINK: the interface is gone, or bpf_link_detach
 * came first.
 */
int bpf_link_update(int link_fd, int prog_fd);
/* It ends now, whoever has its file. */
int bpf_link_detach(int link_fd);

/* The next link's number behind this one; -ENOENT: there is none. -EPERM: CAP_SYS_ADMIN is missing. */
int bpf_link_next(uint32_t after);
int bpf_prog_next(uint32_t after); /* the same of programs */
/* Where a program is attached to netfilter (Linux 6.4). */
struct bpf_hook {
	uint32_t pf, hooknum; /* NFPROTO_…, NF_INET_… */
	int32_t priority;
	uint32_t flags;
};
int bpf_link_hook(uint32_t id, struct bpf_hook *out); /* of link `id`; -ENOENT: it is no such link, or none */
int bpf_link_netfilter(int prog_fd, const struct bpf_hook *at); /* -EBUSY: somebody of this namespace has that priority */
int bpf_prog_load_netfilter(const char *name, const struct bpf_insn *insns, size_t n);

#define BPF_QUERY_MAX 64
#define BPF_PROG_NETFILTER 32 /* BPF_PROG_TYPE_NETFILTER, Linux 6.4 */
/* How it was called when it was loaded. Its type, or -EPERM: CAP_SYS_ADMIN is missing. */
int bpf_prog_name(uint32_t id, char name[BPF_OBJ_NAME_LEN]);
/*
 * Ids of the programs attached to `target` (an interface index or a cgroup's fd). Returns how many there are, also
 * beyond BPF_QUERY_MAX.
 */
int bpf_prog_query(int target, uint32_t attach_type, uint32_t query_flags,
		   uint32_t ids[BPF_QUERY_MAX]);

#endif
