/* See host_table.h. */
#include "kernel/host_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/quiet.h"
#include "base/sys.h"

#define DIRECTORY "/run/finesse"

/*
 * An open file that only we or root may have written, with room for every word: a hole in a full file system would be a
 * SIGBUS.
 */
static int open_file(const char *dir, const char *name, size_t bytes)
{
	char path[128];
	struct stat st;
	snprintf(path, sizeof path, "%s/%s", dir, name);
	int fd = sys_openat(AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (fd < 0)
		return fd;
	uid_t self = sys_call(SYS_geteuid, 0, 0, 0, 0, 0, 0);
	if (sys_fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (st.st_uid != self && st.st_uid != 0) || (st.st_mode & 077) ||
	    allocate_quietly(fd, (off_t)bytes) < 0) {
		sys_close(fd);
		return -EPERM;
	}
	return fd;
}

int host_table_map(uint64_t **words, const char *dir, const char *name, size_t bytes)
{
	int fd = open_file(dir ? dir : DIRECTORY, name, bytes);
	void *found = fd >= 0 ? sys_mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : NULL;
	if (fd >= 0)
		sys_close(fd);
	bool shared = found && !sys_is_error(found);
	if (!shared)
		found = sys_mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (sys_is_error(found))
		return -ENOMEM;
	*words = found;
	return shared ? 0 : 1;
}
