/*
 * Where libfinesse.so is: next to this program in a build tree, beside it in an installed tree wherever that stands
 * (bin and lib/finesse), or where it was to be installed.
 */
#include "cli/cli.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIBRARY "libfinesse.so"

/* `out` holds PATH_MAX bytes at least. */
static bool is_there(const char *dir, const char *below, char *out, size_t size)
{
	char path[PATH_MAX];
	return (size_t)snprintf(path, sizeof path, "%s/%s" LIBRARY, dir, below) < sizeof path && access(path, R_OK) == 0 && size >= PATH_MAX && realpath(path, out);
}

int cli_find_library(char *out, size_t size)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	if (n > 0) {
		self[n] = 0;
		*strrchr(self, '/') = 0;
		if (is_there(self, "", out, size) || is_there(self, "../lib/finesse/", out, size))
			return 0;
	}
	return is_there(FINESSE_PKGLIBDIR, "", out, size) ? 0 : -ENOENT;
}

/* The dynamic linker takes either for the end of a path. */
const char *cli_cannot_preload(const char *path)
{
	return strpbrk(path, ": ") ? "a path with a colon or a space; install finesse elsewhere" : NULL;
}
