/* finesse trace: `finesse run` with the setting `trace`, by default to standard error. */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

int cli_trace(int argc, char **argv)
{
	const char *file = TRACE_TO_STDERR;
	char *name = argv[0];
	int skip = 0;
	if (argc > 1 && strcmp(argv[1], "-o") == 0) {
		if (argc < 3 || !argv[2][0])
			return cli_usage_error("trace", "-o needs a file");
		file = argv[2];
		skip = 2;
	}
	setenv("FINESSE_TRACE", file, 1);
	argv[skip] = name;
	return cli_run(argc - skip, argv + skip);
}
