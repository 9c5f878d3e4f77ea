/*
 * A library as a program loads it by dlopen: it uses the program's socket by each kind of reference that a linker
 * makes.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int (*const volatile by_address)(int, struct sockaddr *restrict, socklen_t *restrict) = (int (*)(int, struct sockaddr *restrict, socklen_t *restrict))getpeername;

/* A library goes while this one comes, as another thread may have it. */
__attribute__((constructor)) static void begin(void)
{
	const char *handle = getenv("PLUGIN_CLOSES");
	if (handle)
		dlclose((void *)strtoul(handle, NULL, 0));
}

int plugin_family(int fd)
{
	struct sockaddr_storage name;
	socklen_t len = sizeof name;
	return by_address(fd, (struct sockaddr *)&name, &len) ? -errno : (int)name.ss_family;
}

long plugin_send(int fd, const char *data, size_t n)
{
	long r = send(fd, data, n, 0);
	return r < 0 ? -errno : r;
}

long plugin_read(int fd, char *data, size_t n)
{
	long r = read(fd, data, n);
	return r < 0 ? -errno : r;
}

/* By its bare name: found where this library's RUNPATH says. */
int plugin_finds(const char *name, int mode)
{
	return dlopen(name, mode) ? 1 : 0;
}
