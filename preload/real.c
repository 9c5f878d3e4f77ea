/*
 * The real functions, by dlsym(RTLD_NEXT): all of them in the constructor, so that no wrapper
 * resolves in a signal handler; on demand for calls that come before it (constructors of other
 * libraries). dlsym itself may end up in a wrapper (a malloc that opens a file): those few calls go
 * to the kernel directly.
 */
#include "shim.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <gnu/lib-names.h>
#include <string.h>

#include "base/time.h"

struct real_calls real_calls;

static ENGINE_THREAD bool finding;

static long not_available(void)
{
	errno = ENOSYS;
	return -1;
}

static int early_open(const char *path, int flags, mode_t mode)
{
	return edge(sys_openat(AT_FDCWD, path, flags, mode));
}
static int early_openat(int dir, const char *path, int flags, mode_t mode)
{
	return edge(sys_openat(dir, path, flags, mode));
}
static ssize_t early_read(int fd, void *buf, size_t n)
{
	return edge(sys_read(fd, buf, n));
}
static ssize_t early_write(int fd, const void *buf, size_t n)
{
	return edge(sys_write(fd, buf, n));
}
static int early_close(int fd)
{
	return edge(sys_close(fd));
}

static const struct {
	const char *name;
	void *fn;
} early[] = {
    {"open", early_open},   {"openat", early_openat}, {"read", early_read},
    {"write", early_write}, {"close", early_close},
};

void *real_find(const char *name)
{
	if (!finding) {
		int saved = errno;
		finding = true;
		void *fn = dlsym(RTLD_NEXT, name);
		finding = false;
		errno = saved;
		return fn ? fn : (void *)not_available;
	}
	for (size_t i = 0; i < sizeof early / sizeof *early; i++)
		if (strcmp(early[i].name, name) == 0)
			return early[i].fn;
	return not_available;
}

/* libc's own, whoever stands before it. */
static void find_clock(void)
{
	void *libc = dlopen(LIBC_SO, RTLD_LAZY | RTLD_NOLOAD);
	void *fn = libc ? dlsym(libc, "clock_gettime") : NULL;
	if (fn)
		clock_use((int (*)(clockid_t, struct timespec *))fn);
}

void real_find_all(void)
{
	find_clock();
#define CALL(name, ret, ...) real_calls.name = (__typeof__(real_calls.name))real_find(#name);
#define ALIAS(name, target)
#include "calls.def"
#undef CALL
#undef ALIAS
}
