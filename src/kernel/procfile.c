#include "kernel/procfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/sys.h"

#define FIRST_BYTES 4096

int procfile_open(const char *path)
{
	return fd_move_high(sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0));
}

int procfile_open_if_there(const char *path)
{
	int err = sys_call(SYS_faccessat, AT_FDCWD, path, F_OK, 0, 0, 0);
	return err ? err : procfile_open(path);
}

int procfile_read_open(int fd, char **out)
{
	char *buf = NULL;
	size_t len = 0, cap = 0;
	ssize_t n = fd;

	while (n >= 0) {
		if (len + 1 >= cap) { /* files of /proc do not tell their size */
			size_t bigger = cap ? cap * 2 : FIRST_BYTES;
			char *p = bigger <= PROCFILE_BYTES_MAX ? realloc(buf, bigger) : NULL;
			if (!p) {
				n = bigger <= PROCFILE_BYTES_MAX ? -ENOMEM : -EFBIG;
				break;
			}
			buf = p;
			cap = bigger;
		}
		n = sys_call(SYS_pread64, fd, buf + len, cap - len - 1, len, 0, 0);
		if (n == -EINTR)
			n = 0; /* again */
		else if (n == 0)
			break;
		if (n > 0)
			len += n;
	}
	if (n < 0) {
		free(buf);
		return n;
	}
	buf[len] = '\0';
	*out = buf;
	return 0;
}

int procfile_read(const char *path, char **out)
{
	int fd = procfile_open(path);
	int err = procfile_read_open(fd, out);
	fd_close(fd);
	return err;
}
