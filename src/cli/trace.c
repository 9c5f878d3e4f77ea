/* finesse trace: `finesse run` with the setting `trace`, by default to standard error. */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
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

/* A file that cannot be written is told before the program starts. O_NONBLOCK: a named pipe without a reader is an error, not a wait. */
static int check_writable(const char *file)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0644);
	if (fd < 0)
		return cli_usage_error("trace", "%s: %s", file, strerror(errno));
	close(fd);
	return EXIT_OK;
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
		if (check_writable(file) != EXIT_OK)
			return EXIT_USAGE;
		skip = 2;
	}
	setenv("FINESSE_TRACE", file, 1);
	return cli_run(argc - skip, argv + skip);
}
