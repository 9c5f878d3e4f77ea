#include "cli/cli.h"

#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
};

static const struct command commands[] = {
    {"run", cli_run},
    {"trace", cli_trace},
    {"stat", cli_stat},
    {"doctor", cli_doctor},
};

static const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

int cli_usage_error(const char *command, const char *fmt, ...)
{
	va_list ap;
	fprintf(stderr, "finesse%s%s: ", command ? " " : "", command ? command : "");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return EXIT_USAGE;
}

static bool is_help(const char *arg)
{
	return strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0;
}

/* `finesse help [COMMAND]` */
static int help(const char *name)
{
	if (name && !command_find(name))
		return cli_usage_error(NULL, "there is no command '%s'", name);
	cli_help(stdout, name);
	return EXIT_OK;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		cli_help(stderr, NULL);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--version") == 0) {
		puts("finesse " FINESSE_VERSION);
		return EXIT_OK;
	}
	if (is_help(argv[1]) || strcmp(argv[1], "help") == 0)
		return help(argc > 2 ? argv[2] : NULL);
	const struct command *c = command_find(argv[1]);
	if (!c)
		return cli_usage_error(NULL, "there is no command '%s' (see finesse --help)",
				       argv[1]);
	if (argc > 2 && is_help(argv[2]))
		return help(c->name);
	return c->run(argc - 1, argv + 1);
}
