/*
 * finesse run and trace: settings → environment, LD_PRELOAD, execve in our own pid.
 *
 * A setting comes from the file (--config), the environment, or the command line, the later the
 * stronger. All are checked before the program starts; the program's environment carries the
 * result, and its shim reads nothing else. Rules (only, except) of a stronger place replace those
 * of a weaker one; they travel in one variable, FINESSE_ONLY, so that their order is kept.
 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/reach.h"
#include "base/settings.h"
#include "process/broker.h"

#define WHY_BYTES   512
#define GIVEN_MAX   (4 * TRAFFIC_RULES_MAX)
#define RULES_BYTES 8192

extern char **environ;

static const char *command = "run"; /* or trace */

/* The settings of one place, in order. */
struct given {
	struct settings_visit visit;
	struct settings *settings; /* each is checked into it as it comes */
	unsigned n;
	bool rules; /* there are rules among them */
	struct {
		char *name, *value;
	} items[GIVEN_MAX];
};

static int given_add(struct settings_visit *v, const char *name, const char *value, char *why,
		     size_t why_len)
{
	struct given *g = (struct given *)v;
	if (g->n == GIVEN_MAX) {
		snprintf(why, why_len, "more than %d settings", GIVEN_MAX);
		return -EINVAL;
	}
	if (settings_is_rule(name) && !g->rules) {
		g->rules = true;
		g->settings->n_rules = 0;
	}
	int r = settings_set(g->settings, name, value, why, why_len);
	if (r < 0)
		return r;
	g->items[g->n].name = strdup(name);
	g->items[g->n++].value = strdup(value);
	return 0;
}

/* ---- the environment that the program gets ---- */

/* Adds one rule list to `out`, each rule with its own word. */
static void rules_append(char *out, size_t size, const char *word, const char *list)
{
	for (const char *p = list;; p++) {
		size_t n;
		p += strspn(p, " \t");
		n = strcspn(p, ",");
		bool has_word = strncmp(p, "only", 4) == 0 || strncmp(p, "except", 6) == 0;
		size_t used = strlen(out);
		snprintf(out + used, size - used, "%s%s%s%.*s", used ? "," : "",
			 has_word ? "" : word, has_word ? "" : " ", (int)n, p);
		p += n;
		if (*p == 0)
			return;
	}
}

/* `win`: over what the environment says already. */
static void given_export(const struct given *g, bool win)
{
	char variable[SETTINGS_VARIABLE_LEN], rules[RULES_BYTES] = "";
	for (unsigned i = 0; i < g->n; i++) {
		if (settings_is_rule(g->items[i].name))
			rules_append(rules, sizeof rules, g->items[i].name, g->items[i].value);
		else
			setenv(settings_variable(g->items[i].name, variable), g->items[i].value,
			       win);
	}
	if (g->rules && (win || (!getenv("FINESSE_ONLY") && !getenv("FINESSE_EXCEPT")))) {
		setenv("FINESSE_ONLY", rules, 1);
		unsetenv("FINESSE_EXCEPT");
	}
}

/* Ours comes after what is there: an address sanitizer must be the first, and others may wrap us.
 */
static void preload_export(const char *library)
{
	const char *old = getenv("LD_PRELOAD");
	char *both = NULL;
	if (!old || !old[0])
		setenv("LD_PRELOAD", library, 1);
	else if (!strstr(old, library) && asprintf(&both, "%s:%s", old, library) > 0)
		setenv("LD_PRELOAD", both, 1);
	free(both);
}

/* ---- the command line ---- */

struct arguments {
	const char *config;
	struct given given;
	char **program; /* and its arguments */
	int status;     /* when there is no program */
};

/* Is `name` a flag setting (which takes its value only behind '=')? −1: no setting. */
static int setting_is_flag(const char *name)
{
	for (size_t i = 0; settings_info(i); i++)
		if (strcmp(settings_info(i)->name, name) == 0)
			return settings_info(i)->flag;
	return -1;
}

/* One option at argv[0]. How many elements it took; 0: there is nothing to run, a.status says what it was. */
static int parse_option(struct arguments *a, char **argv)
{
	char name[64], why[WHY_BYTES];
	const char *option = argv[0] + 2, *equals = strchr(option, '=');
	size_t n = equals ? (size_t)(equals - option) : strlen(option);
	int used = 1;
	snprintf(name, sizeof name, "%.*s", (int)n, option);
	if (strcmp(option, "help") == 0) {
		cli_help(stdout, command);
		a->status = EXIT_OK;
		return 0;
	}
	bool is_config = strcmp(name, "config") == 0;
	int flag = setting_is_flag(name);
	const char *value = equals ? equals + 1 : NULL;
	if (n >= sizeof name || (!is_config && flag < 0)) {
		a->status = cli_usage_error(command, "there is no setting '%.60s' (see finesse run --help)", name);
		return 0;
	}
	if (!value && flag == 1) {
		value = "on";
	} else if (!value) {
		value = argv[1] && strncmp(argv[1], "--", 2) != 0 ? argv[1] : ""; /* no value begins so */
		used = 2;
	}
	if (!value[0]) {
		a->status = cli_usage_error(command, "--%s needs a value (see finesse run --help)", name);
		return 0;
	}
	if (is_config) {
		a->config = value;
	} else if (given_add(&a->given.visit, name, value, why, sizeof why) < 0) {
		a->status = cli_usage_error(command, "%s", why);
		return 0;
	}
	return used;
}

static int parse_arguments(struct arguments *a, char **argv)
{
	char **p = argv + 1;
	while (*p && strncmp(*p, "--", 2) == 0 && (*p)[2]) {
		int used = parse_option(a, p);
		if (!used)
			return a->status;
		p += used;
	}
	if (*p && strcmp(*p, "--") == 0)
		p++;
	else if (*p && (*p)[0] == '-')
		return cli_usage_error(command, "there is no option '%s'%s (see finesse %s --help)", *p,
				       strncmp(*p, "-o", 2) == 0 ? " here: finesse trace -o FILE comes before the settings" : "", command);
	if (!*p)
		return cli_usage_error(command, "which program? (finesse %s [SETTING...] [--] PROGRAM [ARGUMENT...])", command);
	a->program = p;
	return EXIT_OK;
}

/*
 * 0 or -1 and errno. A named pipe is not opened: its reader would meet the end of file when we close it, before the
 * program writes.
 */
static int trace_try(const char *path)
{
	struct stat st;
	if (stat(path, &st) == 0 && S_ISFIFO(st.st_mode))
		return access(path, W_OK);
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0644);
	return fd < 0 ? -1 : close(fd);
}

/*
 * The trace's file as the program will find it, whatever its directory is then. What cannot be written is told before
 * the program starts.
 */
static int trace_prepare(const struct settings *s)
{
	char path[PATH_MAX], cwd[PATH_MAX];
	if (!s->trace[0] || strcmp(s->trace, TRACE_TO_STDERR) == 0)
		return EXIT_OK;
	if (s->trace[0] == '/' || !getcwd(cwd, sizeof cwd))
		snprintf(path, sizeof path, "%s", s->trace);
	else if (snprintf(path, sizeof path, "%s/%s", cwd, s->trace) >= (int)sizeof s->trace)
		return cli_usage_error(command, "trace: %s: beside its directory's name, at most %zu bytes", s->trace, sizeof s->trace - 1);
	if (trace_try(path) < 0)
		return cli_usage_error(command, "trace: %s: %s", path, strerror(errno));
	setenv("FINESSE_TRACE", path, 1);
	return EXIT_OK;
}

/* All three places into one, the later the stronger, and what they say together. */
static int settings_merge(const struct arguments *a, struct given *file, struct settings *s)
{
	char why[WHY_BYTES];
	settings_default(s);
	file->settings = s;
	file->visit.setting = given_add;
	if (a->config && settings_file_visit(a->config, &file->visit, why, sizeof why) < 0)
		return cli_usage_error(command, "%s", why);
	if (settings_from_environment(s, environ, why, sizeof why) < 0)
		return cli_usage_error(command, "%s", why);
	if (a->given.rules)
		s->n_rules = 0;
	for (unsigned i = 0; i < a->given.n; i++)
		if (settings_set(s, a->given.items[i].name, a->given.items[i].value, why,
				 sizeof why) < 0)
			return cli_usage_error(command, "%s", why);
	if (settings_check(s, why, sizeof why) < 0)
		return cli_usage_error(command, "%s", why);
	return EXIT_OK;
}

/* ---- the program ---- */

/* The file that execvp will open. 0 and its path; EXIT_NOT_FOUND or EXIT_CANNOT_RUN. */
static int program_find(const char *name, char *path, size_t size, const char **why)
{
	const char *list = getenv("PATH");
	int status = EXIT_NOT_FOUND;
	struct stat st;
	*why = strchr(name, '/') ? "there is no such file" : "it is in no directory of PATH";
	if (strchr(name, '/')) {
		snprintf(path, size, "%s", name);
		if (access(name, X_OK) == 0 && stat(name, &st) == 0 && S_ISREG(st.st_mode))
			return EXIT_OK;
		if (errno == ENOENT || errno == ENOTDIR)
			return EXIT_NOT_FOUND;
		*why = stat(name, &st) < 0 ? strerror(errno) : S_ISDIR(st.st_mode) ? "it is a directory" : !S_ISREG(st.st_mode) ? "it is no regular file" : "it may not be executed (see its mode: chmod +x)";
		return EXIT_CANNOT_RUN;
	}
	for (const char *dir = list ? list : "/bin:/usr/bin"; name[0];) {
		size_t n = strcspn(dir, ":");
		snprintf(path, size, "%.*s%s%s", (int)n, dir, n ? "/" : "", name);
		if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
			if (access(path, X_OK) == 0)
				return EXIT_OK;
			status = EXIT_CANNOT_RUN;
			*why = "of the files by that name in PATH none may be executed";
		}
		if (!dir[n])
			break;
		dir += n + 1;
	}
	return status;
}

/* Without privilege, or without a broker, the program does what it can by itself. */
static void broker_export(const struct settings *s)
{
	char value[BROKER_VALUE_LEN + 1];
	if (broker_start(s, value) == 0)
		setenv(BROKER_VARIABLE, value, 1);
	else
		unsetenv(BROKER_VARIABLE);
}

/* The processes of this tree share own addresses; others may not have them. */
static void tree_export(const struct settings *s)
{
	unsigned char id[SETTINGS_TREE_LEN / 2];
	char text[SETTINGS_TREE_LEN + 1];
	unsetenv(SETTINGS_TREE_VARIABLE);
	if (!s->n_own || getrandom(id, sizeof id, 0) != (ssize_t)sizeof id)
		return;
	for (size_t i = 0; i < sizeof id; i++)
		snprintf(text + 2 * i, 3, "%02x", id[i]);
	setenv(SETTINGS_TREE_VARIABLE, text, 1);
}

static int program_exec(char **program, const struct settings *s)
{
	char path[PATH_MAX], library[PATH_MAX];
	const char *why;
	int status = program_find(program[0], path, sizeof path, &why);
	if (status != EXIT_OK) {
		fprintf(stderr, "finesse %s: %s %s: %s\n", command, program[0], status == EXIT_NOT_FOUND ? "not found" : "cannot be executed", why);
		return status;
	}
	if (cli_find_library(library, sizeof library) < 0) {
		fprintf(stderr, "finesse %s: libfinesse.so is neither next to finesse, nor in ../lib/finesse from there, nor in %s\n", command,
			FINESSE_PKGLIBDIR);
		return EXIT_CANNOT_RUN;
	}
	const char *why_not = cli_cannot_preload(library);
	if (why_not)
		return cli_usage_error(command, "LD_PRELOAD cannot name %s: %s", library, why_not);
	const char *obstacle = reach_words(reach_obstacle(path));
	if (obstacle) {
		fprintf(stderr, "finesse %s: %s %s: it cannot be preloaded, and %s\n", command, path, obstacle,
			s->strict ? "--strict forbids to start it so" : "runs on the kernel's TCP");
		if (s->strict)
			return EXIT_CANNOT_RUN;
	}
	if (s->strict && !doctor_allows(s)) {
		fprintf(stderr,
			"finesse %s: %s would stay on the kernel's TCP: --strict forbids to start "
			"it so\n",
			command, program[0]);
		return EXIT_CANNOT_RUN;
	}
	preload_export(library);
	broker_export(s);
	tree_export(s);
	execvp(program[0], program);
	status = errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
	why = strerror(errno);
	if (status == EXIT_NOT_FOUND && access(path, F_OK) == 0) /* the file is there: what would load it is not */
		why = "the interpreter that its first line (or its ELF header) names does not exist; a script from Windows ends that line with a carriage return";
	fprintf(stderr, "finesse %s: %s: %s\n", command, program[0], why);
	return status;
}

int cli_run(int argc, char **argv)
{
	static struct settings command_line, merged; /* large; used once */
	static struct given file;
	static struct arguments a;
	(void)argc;
	settings_default(&command_line);
	a.given.settings = &command_line;
	a.given.visit.setting = given_add;
	command = argv[0];
	int status = parse_arguments(&a, argv);
	if (status != EXIT_OK || !a.program)
		return status;
	status = settings_merge(&a, &file, &merged);
	if (status != EXIT_OK)
		return status;
	given_export(&file, false);
	given_export(&a.given, true);
	status = trace_prepare(&merged);
	return status == EXIT_OK ? program_exec(a.program, &merged) : status;
}
