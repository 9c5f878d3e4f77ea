/*
 * The `finesse` command. It is never preloaded itself, so that it may use libc freely. Each command
 * is a function that returns the exit status.
 */
#ifndef FINESSE_CLI_CLI_H
#define FINESSE_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

/* Exit statuses. 126 and 127 are the shell's, as for env(1) and nohup(1). */
#define EXIT_OK         0
#define EXIT_NOTHING    1 /* nothing to show; something is missing; standard output cannot be written */
#define EXIT_USAGE      2 /* a bad setting or option, named on standard error */
#define EXIT_CANNOT_RUN 126
#define EXIT_NOT_FOUND  127

/* Of the setting `trace`: not a file of ours to open. */
#define TRACE_TO_STDERR "/dev/stderr"

int cli_run(int argc, char **argv); /* argv[0] is the command's name, here "run" or "trace" */
int cli_trace(int argc, char **argv);
int cli_stat(int argc, char **argv);
int cli_doctor(int argc, char **argv);

/* `command` NULL: the general help. */
void cli_help(FILE *out, const char *command);

/* "finesse COMMAND: text", on standard error. Returns EXIT_USAGE for convenience. */
int cli_usage_error(const char *command, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Will sockets be served with these settings, by what can be known before the program runs? If not,
 * standard error says why. */
struct settings;
bool doctor_allows(const struct settings *s);

/* The shared object next to this program (a build tree) or installed. 0; -ENOENT and what was
 * tried. */
int cli_find_library(char *out, size_t size);
/* Why LD_PRELOAD cannot name that path, in words behind it; NULL: it can. */
const char *cli_cannot_preload(const char *path);

#endif
