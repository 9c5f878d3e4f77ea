/* finesse trace: `finesse run` with the setting `trace`, by default to standard error. */
#include "cli/cli.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The program may change its directory. */
static const char *absolute(const char *file, char out[PATH_MAX])
{
	char cwd[PATH_MAX];
	if (file[0] == '/' || !getcwd(cwd, sizeof cwd) || snprintf(out, PATH_MAX, "%s/%s", cwd, file) >= PATH_MAX)
		return file;
	return out;
}

int cli_trace(int argc, char **argv)
{
	char path[PATH_MAX];
	const char *file = "/dev/stderr";
	int skip = 0;
	if (argc > 1 && strcmp(argv[1], "-o") == 0) {
		if (argc < 3)
			return cli_usage_error("trace", "-o needs a file");
		file = absolute(argv[2], path);
		skip = 2;
	}
	setenv("FINESSE_TRACE", file, 1);
	return cli_run(argc - skip, argv + skip);
}
