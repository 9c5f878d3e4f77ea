#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	bool prints; /* its own text; else it becomes the program */
};

static const struct command commands[] = {
    {"run", cli_run, false},
    {"trace", cli_trace, false},
    {"stat", cli_stat, true},
    {"doctor", cli_doctor, true},
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

/*
 * What was not written is a failure, whatever the command found. A reader that went away ends us by SIGPIPE before
 * that.
 */
static int finish(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	fprintf(stderr, "finesse: standard output: %s\n", strerror(errno));
	return status == EXIT_OK ? EXIT_NOTHING : status;
}

/* `finesse help [COMMAND]` */
static int help(const char *name)
{
	if (name && !command_find(name))
		return cli_usage_error(NULL, "there is no command '%s'", name);
	cli_help(stdout, name);
	return finish(EXIT_OK);
}

/*
 * A command whose standard output or error was closed must not open a file of its own under that number. Read-only:
 * what is written there fails.
 */
static void standard_files_open(void)
{
	int fd;
	do
		fd = open("/dev/null", O_RDONLY);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		cli_help(stderr, NULL);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--version") == 0) {
		if (argc > 2)
			return cli_usage_error(NULL, "--version takes nothing, not '%s'", argv[2]);
		puts("finesse " FINESSE_VERSION);
		return finish(EXIT_OK);
	}
	if (is_help(argv[1]) || strcmp(argv[1], "help") == 0)
		return argc > 3 ? cli_usage_error(NULL, "help is of one command, not of '%s', too", argv[3]) : help(argc > 2 ? argv[2] : NULL);
	const struct command *c = command_find(argv[1]);
	if (!c)
		return cli_usage_error(NULL, "there is no command '%s' (see finesse --help)",
				       argv[1]);
	if (argc > 2 && is_help(argv[2]))
		return help(c->name);
	if (c->prints)
		standard_files_open();
	return finish(c->run(argc - 1, argv + 1));
}
