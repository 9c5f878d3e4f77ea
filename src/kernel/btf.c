/* Reads /sys/kernel/btf/vmlinux (Documentation/bpf/btf.rst): a header, the types one behind the other, the strings. */
#include "kernel/btf.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/sys.h"

#define BTF_FILE      "/sys/kernel/btf/vmlinux"
#define BTF_BYTES_MAX (64u << 20)

/* Bytes behind struct btf_type; -1: a kind that is not known here, so that what follows cannot be found. */
static long bytes_behind(uint32_t info)
{
	uint32_t n = BTF_INFO_VLEN(info);
	switch (BTF_INFO_KIND(info)) {
	case BTF_KIND_INT:
	case BTF_KIND_VAR:
	case BTF_KIND_DECL_TAG:
		return sizeof(uint32_t);
	case BTF_KIND_ARRAY:
		return sizeof(struct btf_array);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return n * sizeof(struct btf_member);
	case BTF_KIND_ENUM:
		return n * sizeof(struct btf_enum);
	case BTF_KIND_ENUM64:
		return n * sizeof(struct btf_enum64);
	case BTF_KIND_FUNC_PROTO:
		return n * sizeof(struct btf_param);
	case BTF_KIND_DATASEC:
		return n * sizeof(struct btf_var_secinfo);
	}
	return BTF_INFO_KIND(info) <= BTF_KIND_ENUM64 ? 0 : -1;
}

static bool is_named(const uint8_t *strings, uint32_t strings_len, uint32_t at, const char *name)
{
	size_t len = strlen(name) + 1;
	return at < strings_len && strings_len - at >= len && !memcmp(strings + at, name, len);
}

static int find_function(const uint8_t *btf, size_t len, const char *name)
{
	struct btf_header h;
	if (len < sizeof h)
		return -EINVAL;
	memcpy(&h, btf, sizeof h);
	size_t body = len - sizeof h;
	if (h.magic != BTF_MAGIC || h.hdr_len != sizeof h || h.type_off > body || h.type_len > body - h.type_off || h.str_off > body || h.str_len > body - h.str_off)
		return -EINVAL;
	const uint8_t *at = btf + sizeof h + h.type_off, *end = at + h.type_len;
	const uint8_t *strings = btf + sizeof h + h.str_off;
	struct btf_type t;
	for (int id = 1; (size_t)(end - at) >= sizeof t; id++) {
		memcpy(&t, at, sizeof t);
		if (BTF_INFO_KIND(t.info) == BTF_KIND_FUNC && is_named(strings, h.str_len, t.name_off, name))
			return id;
		long behind = bytes_behind(t.info);
		if (behind < 0 || end - at - (long)sizeof t < behind)
			return -EINVAL;
		at += sizeof t + behind;
	}
	return -ENOENT;
}

static long read_all(int fd, uint8_t *to, size_t len)
{
	size_t have = 0;
	while (have < len) {
		ssize_t n = sys_read(fd, to + have, len - have);
		if (n == -EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? n : (long)have;
		have += n;
	}
	return have;
}

/* Since Linux 6.16 the file can be mapped, which takes no time; before, all of it is copied. */
struct contents {
	uint8_t *bytes;
	size_t len;
	bool mapped;
};

static int contents_of(int fd, size_t size, struct contents *c)
{
	void *map = sys_mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (!sys_is_error(map)) {
		*c = (struct contents){map, size, true};
		return 0;
	}
	*c = (struct contents){.bytes = malloc(size)};
	if (!c->bytes)
		return -ENOMEM;
	long n = read_all(fd, c->bytes, size);
	c->len = n < 0 ? 0 : (size_t)n;
	return n < 0 ? (int)n : 0;
}

static void contents_free(struct contents *c)
{
	if (c->mapped)
		sys_munmap(c->bytes, c->len);
	else
		free(c->bytes);
}

int btf_kernel_function(const char *name)
{
	struct contents c = {0};
	int fd = sys_openat(AT_FDCWD, BTF_FILE, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	long size = sys_call(SYS_lseek, fd, 0, SEEK_END, 0, 0, 0);
	int ret = size <= 0 || size > (long)BTF_BYTES_MAX ? -EINVAL : (int)sys_call(SYS_lseek, fd, 0, SEEK_SET, 0, 0, 0);
	if (ret >= 0)
		ret = contents_of(fd, size, &c);
	if (ret >= 0)
		ret = find_function(c.bytes, c.len, name);
	contents_free(&c);
	sys_close(fd);
	return ret;
}
