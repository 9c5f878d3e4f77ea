/*
 * Settings: the table of settings.def, and one setter per entry. Defaults go through the same
 * setters. Nothing here keeps state; values are copied into the caller's struct. Every error is one
 * line that says which setting and what it takes.
 */
#include "base/settings.h"
#include "base/log.h"
#include "base/sys.h"
#include "base/time.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

/* A hold is never longer than Linux's TIME-WAIT, which it is to spare. */
#define CLOSE_HOLD_LIMIT_US (60 * USEC_PER_SEC)
#define SPIN_LIMIT_US       USEC_PER_SEC
#define CLIENT_BUDGET_LIMIT 1000000u
#define CLIENT_BUDGET_AUTO  4000u
#define MEMORY_LIMIT_MIN    (UINT64_C(4) << 20)
#define MEMORY_LIMIT_MAX    (UINT64_C(1) << 40)
#define FILE_LIMIT_BYTES    65536 /* of a settings file */

static const char variable_prefix[] = "FINESSE_";

/* Digits only, no sign, no space; the whole of `len`. */
static int parse_number(const char *text, size_t len, uint64_t max, uint64_t *out)
{
	uint64_t n = 0;
	if (len == 0 || len > 18)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		n = n * 10 + (uint64_t)(text[i] - '0');
	}
	if (n > max)
		return -EINVAL;
	*out = n;
	return 0;
}

/* "1s", "500ms", "20us", or a plain number of `plain_us` microseconds. */
static int parse_time(const char *text, int64_t plain_us, int64_t min_us, int64_t max_us,
		      int64_t *out)
{
	static const struct {
		const char *suffix;
		int64_t us;
	} units[] = {{"us", 1}, {"ms", USEC_PER_MSEC}, {"s", USEC_PER_SEC}};
	size_t digits = strspn(text, "0123456789");
	int64_t unit_us = text[digits] ? 0 : plain_us;
	uint64_t n;
	for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
		if (strcmp(text + digits, units[i].suffix) == 0)
			unit_us = units[i].us;
	if (unit_us == 0 || parse_number(text, digits, (uint64_t)(max_us / unit_us), &n) < 0)
		return -EINVAL;
	if ((int64_t)n * unit_us < min_us)
		return -EINVAL;
	*out = (int64_t)n * unit_us;
	return 0;
}

static int parse_flag(const char *text, bool *out)
{
	static const char *const on[] = {"on", "yes", "1"}, *const off[] = {"off", "no", "0"};
	for (size_t i = 0; i < 3; i++) {
		if (strcmp(text, on[i]) == 0 || strcmp(text, off[i]) == 0) {
			*out = strcmp(text, on[i]) == 0;
			return 0;
		}
	}
	return -EINVAL;
}

/* ---- one setter per setting ---- */

#define SETTER(ident)                                                                              \
	static int set_##ident(struct settings *s, const char *value, char *why, size_t why_len)

static bool is_interface_name(const char *name, size_t n)
{
	/* dev_valid_name() of Linux */
	return n > 0 && n < SETTINGS_INTERFACE_LEN && strcspn(name, "/: \t\n") >= n &&
	       !(name[0] == '.' && (n == 1 || (n == 2 && name[1] == '.')));
}

/* Is the name of `n` bytes at `name` there earlier in the list, too? */
static bool is_named_before(const char *list, const char *name, size_t n)
{
	for (const char *at = list; at < name; at += strcspn(at, ",") + 1)
		if (strcspn(at, ",") == n && memcmp(at, name, n) == 0)
			return true;
	return false;
}

SETTER(interface)
{
	size_t n = strlen(value);
	if (strcmp(value, "auto") == 0) {
		s->interface[0] = 0;
		return 0;
	}
	if (n == 0)
		return -EINVAL;
	unsigned count = 0;
	for (const char *name = value;; name++) {
		size_t len = strcspn(name, ",");
		if (!is_interface_name(name, len))
			return -EINVAL;
		if (len == 4 && memcmp(name, "auto", 4) == 0) {
			snprintf(why, why_len, "auto stands alone, not '%s'", value);
			return -EINVAL;
		}
		if (is_named_before(value, name, len)) {
			snprintf(why, why_len, "each interface once, not '%s'", value);
			return -EINVAL;
		}
		count++;
		name += len;
		if (!*name)
			break;
	}
	if (count > SETTINGS_INTERFACES_MAX) {
		snprintf(why, why_len, "at most %d interfaces, not '%s'", SETTINGS_INTERFACES_MAX, value);
		return -EINVAL;
	}
	_Static_assert(sizeof s->interface >= SETTINGS_INTERFACES_MAX * SETTINGS_INTERFACE_LEN, "so many names, a comma or 0 behind each");
	memcpy(s->interface, value, n + 1);
	return 0;
}

bool settings_interface(const struct settings *s, unsigned nth, char name[SETTINGS_INTERFACE_LEN])
{
	const char *at = s->interface;
	for (; nth && *at; nth--) {
		at += strcspn(at, ",");
		at += *at == ',';
	}
	size_t n = strcspn(at, ",");
	if (!n)
		return false;
	memcpy(name, at, n);
	name[n] = 0;
	return true;
}

SETTER(address)
{
	return settings_parse_addresses(s, value, why, why_len);
}

SETTER(gateway)
{
	return settings_parse_gateways(s, value, why, why_len);
}

SETTER(except)
{
	return settings_add_rules(s, true, value, why, why_len);
}

SETTER(only)
{
	return settings_add_rules(s, false, value, why, why_len);
}

SETTER(firewall)
{
	static const char *const names[] = {
	    [FIREWALL_JUDGED] = "judged", [FIREWALL_KERNEL] = "kernel", [FIREWALL_BYPASS] = "bypass"};
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		if (strcmp(value, names[i]) == 0) {
			s->firewall = i;
			return 0;
		}
	}
	return -EINVAL;
}

SETTER(close_policy)
{
	if (strcmp(value, "off") == 0) {
		s->close_policy = CLOSE_POLICY_OFF;
	} else if (strcmp(value, "adaptive") == 0) {
		s->close_policy = CLOSE_POLICY_ADAPTIVE;
	} else if (strncmp(value, "hold:", 5) == 0) {
		int r = parse_time(value + 5, USEC_PER_MSEC, USEC_PER_MSEC, CLOSE_HOLD_LIMIT_US,
				   &s->close_hold_us);
		if (r < 0)
			return r;
		s->close_policy = CLOSE_POLICY_HOLD;
	} else {
		return -EINVAL;
	}
	return 0;
}

SETTER(close_hold_max)
{
	return parse_time(value, USEC_PER_MSEC, USEC_PER_MSEC, CLOSE_HOLD_LIMIT_US,
			  &s->close_hold_max_us);
}

SETTER(close_client_budget)
{
	uint64_t n = CLIENT_BUDGET_AUTO;
	bool grows = strcmp(value, "auto") == 0;
	int r = grows ? 0 : parse_number(value, strlen(value), CLIENT_BUDGET_LIMIT, &n);
	if (r == 0) {
		s->close_client_budget = (uint32_t)n;
		s->close_client_budget_grows = grows;
	}
	return r;
}

SETTER(close_request)
{
	bool on;
	if (strcmp(value, "always") == 0) {
		s->close_request = CLOSE_REQUEST_ALWAYS;
		return 0;
	}
	int r = parse_flag(value, &on);
	if (r == 0)
		s->close_request = on ? CLOSE_REQUEST_ON : CLOSE_REQUEST_OFF;
	return r;
}

SETTER(congestion)
{
	static const char *const names[] = {"system", "cubic", "reno", "newreno", "dctcp", "bbr"};
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(value, names[i]) == 0) {
			strcpy(s->congestion, value);
			return 0;
		}
	return -EINVAL;
}

SETTER(classifier)
{
	static const char *const names[] = {
	    [CLASSIFIER_AUTO] = "auto", [CLASSIFIER_EBPF] = "ebpf", [CLASSIFIER_NFTABLES] = "nftables", [CLASSIFIER_SOCKET] = "socket"};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		if (strcmp(value, names[i]) == 0) {
			s->classifier = (enum classifier_choice)i;
			return 0;
		}
	}
	return -EINVAL;
}

SETTER(memory_limit)
{
	static const char units[] = "KMGT";
	size_t len = strlen(value);
	const char *unit = len ? strchr(units, value[len - 1]) : NULL;
	unsigned shift = unit && *unit ? 10 * (unsigned)(unit - units + 1) : 0;
	uint64_t n;
	if (strcmp(value, "auto") == 0) {
		s->memory_limit_bytes = 0;
		return 0;
	}
	int r = parse_number(value, len - (shift != 0), MEMORY_LIMIT_MAX >> shift, &n);
	if (r == 0 && n << shift < MEMORY_LIMIT_MIN)
		r = -EINVAL;
	if (r == 0)
		s->memory_limit_bytes = n << shift;
	return r;
}

SETTER(spin)
{
	int64_t us;
	int r = parse_time(value, 1, 0, SPIN_LIMIT_US, &us);
	if (r == 0)
		s->spin_us = (uint32_t)us;
	return r;
}

SETTER(trace)
{
	size_t n = strlen(value);
	if (n == 0 || n >= sizeof s->trace)
		return -EINVAL;
	memcpy(s->trace, value, n + 1);
	return 0;
}

static bool is_component(const char *name, size_t n)
{
	for (const char *p = LOG_COMPONENTS; *p;) {
		size_t len = strcspn(p, ",");
		if (n && len == n && memcmp(p, name, n) == 0)
			return true;
		p += len;
		p += strspn(p, ", ");
	}
	return false;
}

SETTER(log)
{
	static const char *const levels[] = {"error", "warn", "info", "debug"};
	size_t len = strcspn(value, ",");
	bool known = false;
	for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++)
		known |= strlen(levels[i]) == len && memcmp(levels[i], value, len) == 0;
	if (!known)
		return -EINVAL;
	for (const char *p = value + len; *p;) {
		size_t n = strcspn(++p, ","); /* p was at a comma */
		if (!is_component(p, n)) {
			snprintf(why, why_len, "components are " LOG_COMPONENTS ", not '%.*s'", (int)(n < 40 ? n : 40), p);
			return -EINVAL;
		}
		p += n;
	}
	if (strlen(value) >= sizeof s->log)
		return -EINVAL;
	strcpy(s->log, value);
	return 0;
}

SETTER(strict)
{
	return parse_flag(value, &s->strict);
}

/* ---- the table ---- */

static const struct setting {
	struct setting_info info;
	const char *takes;
	int (*set)(struct settings *s, const char *value, char *why, size_t why_len);
} settings_table[] = {
#define SETTING(ident, name, argument, default_text, takes, help)                                  \
	{{name, argument, default_text, help, (argument) == NULL}, takes, set_##ident},
#include "base/settings.def"
#undef SETTING
};
#define N_SETTINGS (sizeof settings_table / sizeof settings_table[0])

static const struct setting *setting_find(const char *name)
{
	for (size_t i = 0; i < N_SETTINGS; i++)
		if (strcmp(settings_table[i].info.name, name) == 0)
			return &settings_table[i];
	return NULL;
}

const struct setting_info *settings_info(size_t i)
{
	return i < N_SETTINGS ? &settings_table[i].info : NULL;
}

void settings_default(struct settings *s)
{
	char why[256];
	memset(s, 0, sizeof *s);
	for (size_t i = 0; i < N_SETTINGS; i++) {
		const struct setting *t = &settings_table[i];
		int r = t->info.default_text ? t->set(s, t->info.default_text, why, sizeof why) : 0;
		assert(r == 0);
		(void)r;
	}
}

/* `shown`: the name as the user wrote it. */
static int setting_apply(struct settings *s, const struct setting *t, const char *shown,
			 const char *value, char *why, size_t why_len)
{
	char detail[256] = "";
	int r = t->set(s, value, detail, sizeof detail);
	if (r < 0 && detail[0])
		snprintf(why, why_len, "%s: %s", shown, detail);
	else if (r < 0)
		snprintf(why, why_len, "%s takes %s, not '%s'", shown, t->takes, value);
	return r;
}

int settings_set(struct settings *s, const char *name, const char *value, char *why, size_t why_len)
{
	const struct setting *t = setting_find(name);
	if (!t) {
		snprintf(why, why_len, "there is no setting '%s'", name);
		return -ENOENT;
	}
	return setting_apply(s, t, name, value, why, why_len);
}

bool settings_is_rule(const char *name)
{
	return strcmp(name, "only") == 0 || strcmp(name, "except") == 0;
}

/* ---- the environment ---- */

const char *settings_variable(const char *name, char *out)
{
	size_t n = sizeof variable_prefix - 1, i = 0;
	memcpy(out, variable_prefix, n);
	for (; name[i] && n + i + 1 < SETTINGS_VARIABLE_LEN; i++) {
		char ch = name[i];
		out[n + i] = ch == '-' ? '_' : ch >= 'a' && ch <= 'z' ? (char)(ch - 'a' + 'A') : ch;
	}
	out[n + i] = 0;
	return out;
}

/* The value in "NAME=value", or NULL when it is another variable. */
static const char *variable_value(const char *entry, const char *variable)
{
	size_t n = strlen(variable);
	return strncmp(entry, variable, n) == 0 && entry[n] == '=' ? entry + n + 1 : NULL;
}

static bool variable_is_known(const char *entry)
{
	char variable[SETTINGS_VARIABLE_LEN];
	if (entry[sizeof variable_prefix - 1] == '_')
		return true; /* FINESSE__…: between our own parts */
	for (size_t i = 0; i < N_SETTINGS; i++)
		if (variable_value(entry, settings_variable(settings_table[i].info.name, variable)))
			return true;
	return false;
}

/* Anything else than what `finesse run` makes names no tree. */
static void take_tree(struct settings *s, char *const *environ_)
{
	const char *value = NULL;
	for (char *const *e = environ_; *e && !value; e++)
		value = variable_value(*e, SETTINGS_TREE_VARIABLE);
	if (value && strlen(value) == SETTINGS_TREE_LEN && strspn(value, "0123456789abcdef") == SETTINGS_TREE_LEN)
		strcpy(s->tree, value);
}

int settings_from_environment(struct settings *s, char *const *environ_, char *why, size_t why_len)
{
	bool rules_seen = false;
	take_tree(s, environ_);
	for (char *const *e = environ_; *e; e++) {
		if (strncmp(*e, variable_prefix, sizeof variable_prefix - 1) == 0 &&
		    !variable_is_known(*e)) {
			snprintf(why, why_len,
				 "%.*s is not a variable of finesse ('finesse run --help' lists "
				 "the settings)",
				 (int)strcspn(*e, "="), *e);
			return -EINVAL;
		}
	}
	for (size_t i = 0; i < N_SETTINGS; i++) {
		const struct setting *t = &settings_table[i];
		char variable[SETTINGS_VARIABLE_LEN];
		const char *value = NULL;
		settings_variable(t->info.name, variable);
		for (char *const *e = environ_; *e && !value; e++)
			value = variable_value(*e, variable);
		if (!value)
			continue;
		if (settings_is_rule(t->info.name) && !rules_seen) {
			rules_seen = true;
			s->n_rules = 0;
		}
		int r = setting_apply(s, t, variable, value, why, why_len);
		if (r < 0)
			return r;
	}
	return 0;
}

int settings_check(const struct settings *s, char *why, size_t why_len)
{
	if (s->close_policy == CLOSE_POLICY_HOLD && s->close_hold_us > s->close_hold_max_us) {
		snprintf(why, why_len, "close-policy holds for %lld ms, but close-hold-max is %lld ms", (long long)s->close_hold_us / USEC_PER_MSEC,
			 (long long)s->close_hold_max_us / USEC_PER_MSEC);
		return -EINVAL;
	}
	return settings_check_gateways(s, why, why_len);
}

/* ---- files ---- */

/* Reads all of it, with a final 0. The length, or -errno. */
static ssize_t file_read(const char *path, char *buf, size_t size)
{
	size_t n = 0;
	ssize_t r;
	int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	while ((r = sys_read(fd, buf + n, size - n)) > 0 && (n += (size_t)r) < size)
		;
	sys_close(fd);
	if (r < 0)
		return r;
	if (n == size)
		return -EFBIG;
	buf[n] = 0;
	return (ssize_t)n;
}

/* Cuts white space off both ends, in place. */
static char *trim(char *text)
{
	text += strspn(text, " \t\r");
	for (size_t n = strlen(text); n > 0 && strchr(" \t\r", text[n - 1]); n--)
		text[n - 1] = 0;
	return text;
}

/* One line "name = value"; blank lines and lines that begin with # say nothing. */
static int file_line(char *line, struct settings_visit *v, unsigned number, unsigned seen[N_SETTINGS], char *why, size_t why_len)
{
	char *name = trim(line), *equals = strchr(name, '=');
	if (name[0] == 0 || name[0] == '#')
		return 0;
	if (!equals) {
		snprintf(why, why_len, "a line is NAME = VALUE, not '%s'", name);
		return -EINVAL;
	}
	*equals = 0;
	name = trim(name);
	const struct setting *t = setting_find(name);
	if (t && seen[t - settings_table] && !settings_is_rule(name)) {
		snprintf(why, why_len, "%s is set in line %u already", name, seen[t - settings_table]);
		return -EINVAL;
	}
	if (t)
		seen[t - settings_table] = number;
	return v->setting(v, name, trim(equals + 1), why, why_len);
}

static int file_lines(const char *path, char *text, struct settings_visit *v, char *why,
		      size_t why_len)
{
	unsigned number = 0, seen[N_SETTINGS] = {0}; /* in which line */
	if (strncmp(text, "\xef\xbb\xbf", 3) == 0)
		text += 3; /* an editor's byte order mark */
	for (char *line = text, *next; line; line = next) {
		char reason[384] = "";
		if ((next = strchr(line, '\n')))
			*next++ = 0;
		number++;
		if (file_line(line, v, number, seen, reason, sizeof reason) < 0) {
			snprintf(why, why_len, "%s:%u: %s", path, number, reason);
			return -EINVAL;
		}
	}
	return 0;
}

int settings_file_visit(const char *path, struct settings_visit *v, char *why, size_t why_len)
{
	char *text = malloc(FILE_LIMIT_BYTES);
	ssize_t n = text ? file_read(path, text, FILE_LIMIT_BYTES) : -ENOMEM;
	int r = 0;
	if (n == -EFBIG) {
		snprintf(why, why_len, "%s: a settings file has less than %d bytes", path, FILE_LIMIT_BYTES);
		r = (int)n;
	} else if (n < 0) {
		snprintf(why, why_len, "%s: %s", path, strerrordesc_np((int)-n));
		r = (int)n;
	} else if (strlen(text) != (size_t)n) {
		snprintf(why, why_len, "%s: not a text file", path);
		r = -EINVAL;
	} else {
		r = file_lines(path, text, v, why, why_len);
	}
	free(text);
	return r;
}

struct file_into {
	struct settings_visit visit;
	struct settings *settings;
	bool rules_seen;
};

static int file_setting(struct settings_visit *v, const char *name, const char *value, char *why,
			size_t why_len)
{
	struct file_into *into = (struct file_into *)v;
	if (settings_is_rule(name) && !into->rules_seen) {
		into->rules_seen = true;
		into->settings->n_rules = 0;
	}
	return settings_set(into->settings, name, value, why, why_len);
}

int settings_from_file(struct settings *s, const char *path, char *why, size_t why_len)
{
	struct file_into into = {{file_setting}, s, false};
	return settings_file_visit(path, &into.visit, why, why_len);
}
