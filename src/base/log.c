#include "base/log.h"
#include "base/quiet.h"
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

static enum log_level log_threshold = LOG_LEVEL_WARN;
static char log_components[128]; /* comma-separated; empty: all */

static bool configured;
static struct stat standard_error; /* as it was then; st_ino 0: closed */

static void note_standard_error(void)
{
	configured = true;
	if (sys_fstat(STDERR_FILENO, &standard_error))
		memset(&standard_error, 0, sizeof standard_error);
}

/* /dev/null, where daemons put it. */
static bool is_null_device(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 3);
}

bool log_is_read(void)
{
	struct stat now;
	if (!configured)
		return true;
	if (sys_fstat(STDERR_FILENO, &now) || is_null_device(&now))
		return false;
	if (now.st_dev == standard_error.st_dev && now.st_ino == standard_error.st_ino)
		return true;
	return S_ISCHR(now.st_mode) || (S_ISREG(now.st_mode) && sys_fcntl(STDERR_FILENO, F_GETFL, 0) & O_APPEND);
}

static int level_from_name(const char *name, size_t len)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};
	for (int i = 0; i < 4; i++)
		if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0)
			return i;
	return -EINVAL;
}

int log_configure(const char *setting)
{
	note_standard_error();
	size_t len = strcspn(setting, ",");
	int level = level_from_name(setting, len);
	const char *rest = setting[len] ? setting + len + 1 : "";
	if (level < 0 || strlen(rest) >= sizeof log_components)
		return -EINVAL;
	log_threshold = level;
	strcpy(log_components, rest);
	return 0;
}

bool log_enabled(enum log_level level, const char *component)
{
	if (level > log_threshold)
		return false;
	if (!log_components[0] || level <= LOG_LEVEL_WARN)
		return true;
	size_t n = strlen(component);
	for (const char *p = log_components; *p;) {
		size_t len = strcspn(p, ",");
		if (len == n && memcmp(p, component, n) == 0)
			return true;
		p += len + (p[len] == ',');
	}
	return false;
}

bool log_notice_enabled(const char *component)
{
	struct termios t;
	return log_enabled(LOG_LEVEL_INFO, component) ||
	       (log_threshold == LOG_LEVEL_WARN && sys_ioctl(STDERR_FILENO, TCGETS, &t) == 0);
}

void log_write(enum log_level level, const char *component, const char *fmt, ...)
{
	(void)level;
	char line[512];
	va_list ap;
	int n = snprintf(line, sizeof line, "finesse: %s: ", component);
	va_start(ap, fmt);
	n += vsnprintf(line + n, sizeof line - n, fmt, ap);
	va_end(ap);
	if (n > (int)sizeof line - 2)
		n = sizeof line - 2;
	line[n++] = '\n';
	if (log_is_read())
		write_quietly(STDERR_FILENO, line, n);
}
