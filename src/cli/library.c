/* Where libfinesse.so is: next to this program in a build tree, or where it was installed. */
#include "cli/cli.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#define LIBRARY "libfinesse.so"

int cli_find_library(char *out, size_t size)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	if (n > 0) {
		self[n] = 0;
		*(strrchr(self, '/') + 1) = 0;
		if ((size_t)snprintf(out, size, "%s%s", self, LIBRARY) < size &&
		    access(out, R_OK) == 0)
			return 0;
	}
	if ((size_t)snprintf(out, size, "%s/%s", FINESSE_PKGLIBDIR, LIBRARY) < size &&
	    access(out, R_OK) == 0)
		return 0;
	return -ENOENT;
}
