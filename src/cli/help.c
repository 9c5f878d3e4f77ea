/* --help, of the whole and of each command; the settings come from their table. man/finesse.1 says
 * the same in full. */
#include "cli/cli.h"

#include <string.h>

#include "base/settings.h"

#define OPTION_COLUMN 30

static void help_general(FILE *out)
{
	fputs("usage: finesse run [SETTING...] [--] PROGRAM [ARGUMENT...]\n"
	      "       finesse trace [-o FILE] [SETTING...] [--] PROGRAM [ARGUMENT...]\n"
	      "       finesse stat [PID] [--json]\n"
	      "       finesse doctor [--interface NAME,...] [--address ADDR/PREFIX,...]\n"
	      "                      [--server [ADDR:]PORT]... [--client [ADDR:]PORT]... [--json]\n"
	      "       finesse --version | --help | help COMMAND\n"
	      "\n"
	      "A user-space TCP for programs that were never written for one.\n"
	      "\n"
	      "  run      start a program whose TCP goes through finesse\n"
	      "  trace    the same, and each connection's opening and closing told in words\n"
	      "  stat     what programs under finesse do: sockets, closes, fall-backs, counters\n"
	      "  doctor   what this host and user let finesse do, and what is missing\n",
	      out);
}

static void help_setting(FILE *out, const struct setting_info *info)
{
	char option[64];
	int n = snprintf(option, sizeof option, "  --%s%s%s", info->name, info->arg ? " " : "",
			 info->arg ? info->arg : "");
	fprintf(out, "%-*s%s%s", OPTION_COLUMN, option, n >= OPTION_COLUMN ? " " : "", info->help);
	if (info->default_text && !info->flag)
		fprintf(out, " [%s]", info->default_text);
	fputc('\n', out);
}

static void help_run(FILE *out)
{
	fputs("usage: finesse run [SETTING...] [--] PROGRAM [ARGUMENT...]\n"
	      "\n"
	      "Starts PROGRAM in this process, with libfinesse.so preloaded.\n"
	      "\n"
	      "Settings, with their defaults in brackets:\n",
	      out);
	for (size_t i = 0; settings_info(i); i++)
		help_setting(out, settings_info(i));
	fprintf(out, "%-*s%s\n", OPTION_COLUMN, "  --config FILE",
		"lines of SETTING = VALUE; the environment and the command line win");
	fputs("\n"
	      "In the environment --close-policy is FINESSE_CLOSE_POLICY, and so on. A flag may be "
	      "given a value: --strict=off.\n"
	      "Exit status: 2 for a bad setting, 126 when PROGRAM cannot be executed, 127 when it "
	      "is not found, else PROGRAM's.\n",
	      out);
}

static void help_trace(FILE *out)
{
	fputs("usage: finesse trace [-o FILE] [SETTING...] [--] PROGRAM [ARGUMENT...]\n"
	      "\n"
	      "As finesse run; and tells of each connection, a line per event: its opening (sequence numbers, options,\n"
	      "round trip), what becomes of our FIN when the program closes, whose FIN was the first and why; and one line\n"
	      "that sums it up: who closed first, and who holds the TIME-WAIT. Times are seconds since the program's start.\n"
	      "\n"
	      "  -o FILE   append to FILE; else to standard error\n",
	      out);
}

static void help_stat(FILE *out)
{
	fputs("usage: finesse stat [PID] [--json]\n"
	      "\n"
	      "Lists every process that runs under finesse in this network namespace, or PID in whichever: its TCP\n"
	      "sockets, whether finesse or the kernel carries them, and why the kernel does.\n"
	      "\n"
	      "  --json   an array with one document for each process\n"
	      "\n"
	      "Exit status: 0; 1 when there is none, or one did not answer; 2 for a bad option.\n",
	      out);
}

static void help_doctor(FILE *out)
{
	fputs("usage: finesse doctor [--interface NAME,...] [--address ADDR/PREFIX,...] [--server [ADDR:]PORT]... [--client [ADDR:]PORT]... [--json]\n"
	      "\n"
	      "Tries what the engine needs, one line each: ok, note (it works, with a limit) or missing, and what that means.\n"
	      "\n"
	      "  --interface NAME          the interfaces to serve, if not all that have an address\n"
	      "  --address ADDR/PREFIX,... in own-address mode, with these addresses\n"
	      "  --server [ADDR:]PORT      would a server there be carried, and by whose judgement? As often as wanted\n"
	      "  --client [ADDR:]PORT      would a connection to there be carried? As often as wanted\n"
	      "  --json                    {served, checks: [{check, finding, text, command}]}\n"
	      "\n"
	      "Exit status: 0 when sockets will be served, 1 when they will stay on the kernel's "
	      "TCP, 2 for a bad option.\n",
	      out);
}

void cli_help(FILE *out, const char *command)
{
	if (!command)
		help_general(out);
	else if (strcmp(command, "run") == 0)
		help_run(out);
	else if (strcmp(command, "trace") == 0)
		help_trace(out);
	else if (strcmp(command, "stat") == 0)
		help_stat(out);
	else
		help_doctor(out);
}
