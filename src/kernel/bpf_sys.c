/* bpf(2) by number: one union per call, zeroed, so that fields that this kernel does not know stay
 * 0. */
#include "kernel/bpf_sys.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/sys.h"

static int bpf_call(int cmd, union bpf_attr *attr)
{
	int ret;
	do
		ret = sys_call(SYS_bpf, cmd, attr, sizeof *attr, 0, 0, 0);
	while (ret == -EAGAIN && cmd == BPF_PROG_LOAD); /* the verifier gave way to a signal */
	return ret;
}

static uint64_t ptr(const void *p)
{
	return (uint64_t)(uintptr_t)p;
}

static void set_name(char out[BPF_OBJ_NAME_LEN], const char *name)
{
	strncpy(out, name, BPF_OBJ_NAME_LEN - 1); /* attr is zeroed: terminated */
}

int bpf_map_create(const char *name, enum bpf_map_type type, uint32_t key_size, uint32_t value_size,
		   uint32_t max_entries, uint32_t flags)
{
	union bpf_attr attr;
	memset(&attr, 0, sizeof attr);
	attr.map_type = type;
	attr.key_size = key_size;
	attr.value_size = value_size;
	attr.max_entries = max_entries;
	attr.map_flags = flags;
	set_name(attr.map_name, name);
	return bpf_call(BPF_MAP_CREATE, &attr);
}

int bpf_map_create_array_of_maps(const char *name, uint32_t n, int like_fd)
{
	union bpf_attr attr;
	memset(&attr, 0, sizeof attr);
	attr.map_type = BPF_MAP_TYPE_ARRAY_OF_MAPS;
	attr.key_size = attr.value_size = sizeof(uint32_t);
	attr.max_entries = n;
	attr.inner_map_fd = like_fd;
	set_name(attr.map_name, name);
	return bpf_call(BPF_MAP_CREATE, &attr);
}

static int element_call(int cmd, int map_fd, const void *key, const void *value, uint64_t flags)
{
	union bpf_attr attr;
	memset(&attr, 0, sizeof attr);
	attr.map_fd = map_fd;
	attr.key = ptr(key);
	attr.value = ptr(value);
	attr.flags = flags;
	return bpf_call(cmd, &attr);
}

int bpf_map_update(int map_fd, const void *key, const void *value)
{
	return element_call(BPF_MAP_UPDATE_ELEM, map_fd, key, value, BPF_ANY);
}

void bpf_map_update_begin(struct bpf_aside *a, int map_fd, const void *key, const void *value)
{
	memset(&a->attr, 0, sizeof a->attr);
	a->attr.map_fd = map_fd;
	a->attr.key = ptr(key);
	a->attr.value = ptr(value);
	const long args[6] = {BPF_MAP_UPDATE_ELEM, (long)&a->attr, sizeof a->attr};
	aside_begin(&a->call, SYS_bpf, args);
}

int bpf_map_update_end(struct bpf_aside *a)
{
	return aside_wait(&a->call);
}

int bpf_map_insert(int map_fd, const void *key, const void *value)
{
	return element_call(BPF_MAP_UPDATE_ELEM, map_fd, key, value, BPF_NOEXIST);
}

int bpf_map_lookup(int map_fd, const void *key, void *value)
{
	return element_call(BPF_MAP_LOOKUP_ELEM, map_fd, key, value, 0);
}

int bpf_map_take(int map_fd, const void *key, void *value)
{
	return element_call(BPF_MAP_LOOKUP_AND_DELETE_ELEM, map_fd, key, value, 0);
}

int bpf_map_delete(int map_fd, const void *key)
{
	return element_call(BPF_MAP_DELETE_ELEM, map_fd, key, NULL, 0);
}

int bpf_map_lookup_batch(int map_fd, const uint32_t *from, uint32_t *next, void *keys, void *values, uint32_t *n)
{
	union bpf_attr attr;
	memset(&attr, 0, sizeof attr);
	attr.batch.map_fd = map_fd;
	attr.batch.in_batch = ptr(from);
	attr.batch.out_batch = ptr(next);
	attr.batch.keys = ptr(keys);
	attr.batch.values = ptr(values);
	attr.batch.count = *n;
	int ret = bpf_call(BPF_MAP_LOOKUP_BATCH, &attr);
	*n = ret == 0 || ret == -ENOENT ? attr.batch.count : 0;
	return ret;
}

int bpf_map_update_batch(int map_fd, const void *keys, const void *values, uint32_t *n)
{
	union bpf_attr attr;
	memset(&attr, 0, sizeof attr);
	attr.batch.map_fd = map_fd;
	attr.batch.keys = ptr(keys);
	attr.batch.values = ptr(values);
	attr.batch.count = *n;
	int ret = bpf_call(BPF_MAP_UPDATE_BATCH, &attr);
	bool went_through = ret == 0 || ret == -E2BIG || ret == -ENOMEM || ret == -EBUSY; /* then the kernel says how far it came */
	*n = went_through ? attr.batch.count : 0;
	return ret;
}

int bpf_map_delete_batch(int map_fd, const void *keys, uint32_t *n)
{
	union bpf_attr attr;
	memset(&attr, 0, sizeof attr);
	attr.batch.map_fd = map_fd;
	attr.batch.keys = ptr(keys);
	attr.batch.count = *n;
	int ret = bpf_call(BPF_MAP_DELETE_BATCH, &attr);
	*n = ret == 0 || ret == -ENOENT ? attr.batch.count : 0;
	return ret;
}

static int prog_load(const char *license, const char *name, enum bpf_prog_type type, const struct bpf_insn *insns, size_t n, char *log, size_t log_len)
{
	union bpf_attr attr;
	int ret;

	memset(&attr, 0, sizeof attr);
	attr.prog_type = type;
	attr.insns = ptr(insns);
	attr.insn_cnt = n;
	attr.license = ptr(license);
	set_name(attr.prog_name, name);
	ret = bpf_call(BPF_PROG_LOAD, &attr);
	if (ret >= 0 || !log || log_len == 0)
		return ret;
	log[0] = '\0';
	attr.log_level = 1;
	attr.log_buf = ptr(log);
	attr.log_size = log_len;
	return bpf_call(BPF_PROG_LOAD, &attr);
}

int bpf_prog_load(const char *name, enum bpf_prog_type type, const struct bpf_insn *insns, size_t n,
		  char *log, size_t log_len)
{
	return prog_load("BSD", name, type, insns, n, log, log_len); /* no GPL-only helper is called */
}

int bpf_prog_load_gpl(const char *name, enum bpf_prog_type type, const struct bpf_insn *insns, size_t n, char *log, size_t log_len)
{
	return prog_load("Dual BSD/GPL", name, type, insns, n, log, log_len);
}

void bpf_link_tcx_ingress_begin(struct bpf_aside *a, int prog_fd, int ifindex)
{
	memset(&a->attr, 0, sizeof a->attr);
	a->attr.link_create.prog_fd = prog_fd;
	a->attr.link_create.target_fd = ifindex; /* an interface index, for this attach type */
	a->attr.link_create.attach_type = BPF_ATTACH_TCX_INGRESS;
	a->attr.link_create.flags = BPF_F_BEFORE; /* before nobody in particular: first */
	const long args[6] = {BPF_LINK_CREATE, (long)&a->attr, sizeof a->attr};
	aside_begin(&a->call, SYS_bpf, args);
}

int bpf_link_tcx_ingress_end(struct bpf_aside *a)
{
	return aside_wait(&a->call);
}

static int object_info(int fd, void *info, uint32_t len)
{
	union bpf_attr attr;
	memset(&attr, 0, sizeof attr);
	attr.info.bpf_fd = fd;
	attr.info.info = ptr(info);
	attr.info.info_len = len;
	return bpf_call(BPF_OBJ_GET_INFO_BY_FD, &attr);
}

bool bpf_map_is(int fd, enum bpf_map_type type, uint32_t key_size, uint32_t value_size)
{
	struct bpf_map_info info = {0};
	return object_info(fd, &info, sizeof info) == 0 && info.type == type && info.key_size == key_size && info.value_size == value_size;
}

bool bpf_map_holds(int map_fd, uint32_t key, int inner_fd)
{
	struct bpf_map_info info = {0};
	uint32_t id = 0;
	return object_info(inner_fd, &info, sizeof info) == 0 && bpf_map_lookup(map_fd, &key, &id) == 0 && id == info.id;
}

/* The beginning of struct bpf_link_info, which has the index since Linux 6.6. */
struct tcx_link_info {
	uint32_t type, id, prog_id, zero, ifindex, attach_type;
};

int bpf_link_tcx_ifindex(int link_fd)
{
	struct tcx_link_info info = {.ifindex = 0};
	int ret = object_info(link_fd, &info, sizeof info);
	return ret < 0 ? ret : (int)info.ifindex;
}

int bpf_link_update(int link_fd, int prog_fd)
{
	union bpf_attr attr;
	memset(&attr, 0, sizeof attr);
	attr.link_update.link_fd = link_fd;
	attr.link_update.new_prog_fd = prog_fd;
	return bpf_call(BPF_LINK_UPDATE, &attr);
}

int bpf_link_detach(int link_fd)
{
	union bpf_attr attr;
	memset(&attr, 0, sizeof attr);
	attr.link_detach.link_fd = link_fd;
	return bpf_call(BPF_LINK_DETACH, &attr);
}

/*
 * What the kernel says of the object with that number; `get_fd`: BPF_PROG_GET_FD_BY_ID, or that of links, whose number
 * stands at the same place.
 */
static int info_by_id(int get_fd, uint32_t id, void *info, uint32_t len)
{
	union bpf_attr attr;
	memset(&attr, 0, sizeof attr);
	memset(info, 0, len);
	attr.prog_id = id;
	_Static_assert(offsetof(union bpf_attr, prog_id) == offsetof(union bpf_attr, link_id), "one place");
	int fd = bpf_call(get_fd, &attr);
	if (fd < 0)
		return fd;
	int ret = object_info(fd, info, len);
	sys_close(fd);
	return ret;
}

int bpf_prog_name(uint32_t id, char name[BPF_OBJ_NAME_LEN])
{
	struct bpf_prog_info info;
	int ret = info_by_id(BPF_PROG_GET_FD_BY_ID, id, &info, sizeof info);
	memcpy(name, info.name, BPF_OBJ_NAME_LEN);
	return ret < 0 ? ret : (int)info.type;
}

int bpf_prog_query(int target, uint32_t attach_type, uint32_t query_flags,
		   uint32_t ids[BPF_QUERY_MAX])
{
	union bpf_attr attr;
	int ret;

	memset(&attr, 0, sizeof attr);
	attr.query.target_fd = target;
	attr.query.attach_type = attach_type;
	attr.query.query_flags = query_flags;
	attr.query.prog_ids = ptr(ids);
	attr.query.prog_cnt = BPF_QUERY_MAX;
	ret = bpf_call(BPF_PROG_QUERY, &attr);
	return ret == 0 || ret == -ENOSPC ? (int)attr.query.prog_cnt : ret;
}

static int next_id(int cmd, uint32_t after)
{
	union bpf_attr attr;
	memset(&attr, 0, sizeof attr);
	attr.start_id = after;
	int ret = bpf_call(cmd, &attr);
	return ret < 0 ? ret : (int)attr.next_id;
}

int bpf_link_next(uint32_t after)
{
	return next_id(BPF_LINK_GET_NEXT_ID, after);
}

int bpf_prog_next(uint32_t after)
{
	return next_id(BPF_PROG_GET_NEXT_ID, after);
}

/* Of Linux 6.4: struct bpf_link_info, and what belongs to BPF_LINK_CREATE. */
#define LINK_TYPE_NETFILTER 10
#define ATTACH_NETFILTER    45
struct netfilter_link_info {
	uint32_t type, id, prog_id, zero;
	struct bpf_hook hook;
};
struct netfilter_link_attr {
	uint32_t prog_fd, target_fd, attach_type, flags;
	struct bpf_hook hook;
};

int bpf_link_hook(uint32_t id, struct bpf_hook *out)
{
	struct netfilter_link_info info;
	int ret = info_by_id(BPF_LINK_GET_FD_BY_ID, id, &info, sizeof info);
	*out = info.hook;
	return ret < 0 ? ret : info.type == LINK_TYPE_NETFILTER ? 0 : -ENOENT;
}

int bpf_link_netfilter(int prog_fd, const struct bpf_hook *at)
{
	union bpf_attr attr;
	const struct netfilter_link_attr create = {.prog_fd = prog_fd, .attach_type = ATTACH_NETFILTER, .hook = {.pf = at->pf, .hooknum = at->hooknum, .priority = at->priority}};
	memset(&attr, 0, sizeof attr);
	memcpy(&attr, &create, sizeof create);
	return bpf_call(BPF_LINK_CREATE, &attr);
}

int bpf_prog_load_netfilter(const char *name, const struct bpf_insn *insns, size_t n)
{
	union bpf_attr attr;
	memset(&attr, 0, sizeof attr);
	attr.prog_type = BPF_PROG_NETFILTER;
	attr.expected_attach_type = ATTACH_NETFILTER;
	attr.insns = ptr(insns);
	attr.insn_cnt = n;
	attr.license = ptr("GPL");
	set_name(attr.prog_name, name);
	return bpf_call(BPF_PROG_LOAD, &attr);
}
