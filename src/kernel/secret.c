/*
 * The host's secret: 64 random bytes in a root-only file under /run, made once. Every process of
 * the host draws its port, ISN and timestamp keys from it, so that a new process on a released port
 * goes on where the host's clock of sequence numbers stands, and a server's TIME-WAIT does not meet
 * an unrelated one.
 *
 * Made atomically: the bytes are written to a private name first and linked to the real one, which
 * fails when another process was faster; whoever lost reads the winner's. Nobody ever sees a short
 * file, and nothing is ever overwritten.
 */
#include "kernel/ports.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/quiet.h"
#include "base/sys.h"

#define SECRET_DIR   "/run/finesse"
#define SECRET_NAME  "secret"
#define SECRET_BYTES 64
#define SECRET_TRIES 4 /* lost races; more means that somebody keeps removing the file */

static void random_bytes(void *out, size_t n)
{
	for (size_t done = 0; done < n;) {
		long got = sys_call(SYS_getrandom, (char *)out + done, n - done, 0, 0, 0, 0);
		if (got > 0)
			done += got;
	}
}

/* Only root (or whom we run as) may have written it, and nobody else may read it. */
static int check_owner(int fd, mode_t forbidden)
{
	struct stat st;
	uid_t self = sys_call(SYS_geteuid, 0, 0, 0, 0, 0, 0);
	if (sys_fstat(fd, &st) < 0)
		return -EIO;
	if (st.st_uid != self && st.st_uid != 0)
		return -EPERM;
	return st.st_mode & forbidden ? -EPERM : 0;
}

static int read_secret(int dir, uint8_t out[SECRET_BYTES])
{
	int fd = sys_openat(dir, SECRET_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	int ret = check_owner(fd, 077);
	if (ret == 0) {
		ssize_t n = sys_read(fd, out, SECRET_BYTES);
		if (n != SECRET_BYTES)
			ret = n < 0 ? n : -EBADMSG;
	}
	sys_close(fd);
	return ret;
}

static int make_secret(int dir)
{
	uint8_t bytes[SECRET_BYTES];
	uint64_t unique;
	char temp[48];
	random_bytes(&unique, sizeof unique);
	snprintf(temp, sizeof temp, SECRET_NAME ".%016llx", (unsigned long long)unique);
	int fd = sys_openat(dir, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return fd;
	random_bytes(bytes, sizeof bytes);
	ssize_t n = write_quietly(fd, bytes, sizeof bytes);
	sys_close(fd);
	int ret = n == sizeof bytes ? 0 : n < 0 ? n : -ENOSPC;
	if (ret == 0)
		ret = sys_call(SYS_linkat, dir, temp, dir, SECRET_NAME, 0, 0);
	sys_call(SYS_unlinkat, dir, temp, 0, 0, 0, 0);
	return ret == -EEXIST ? 0 : ret;
}

static int open_dir(const char *path)
{
	sys_call(SYS_mkdirat, AT_FDCWD, path, 0755, 0, 0, 0);
	int dir = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0);
	if (dir < 0)
		return dir;
	int ret = check_owner(dir, 022);
	if (ret == 0)
		return dir;
	sys_close(dir);
	return ret;
}

int host_secret_in(const char *path, uint8_t out[SECRET_BYTES])
{
	int dir = open_dir(path), ret = dir;
	if (dir >= 0) {
		ret = read_secret(dir, out);
		for (int i = 0; i < SECRET_TRIES && ret == -ENOENT; i++) {
			ret = make_secret(dir);
			if (ret == 0)
				ret = read_secret(dir, out);
		}
		sys_close(dir);
	}
	if (ret == 0)
		return 0;
	log_info("ports", "no host secret from %s (%s): random", path, strerrordesc_np(-ret));
	random_bytes(out, SECRET_BYTES);
	return 1;
}

int host_secret(uint8_t out[SECRET_BYTES])
{
	return host_secret_in(SECRET_DIR, out);
}
