/*
 * Programs that this process starts and that finesse does not reach (base/reach.h): somebody has to tell the user, and
 * they cannot. Squid's worker is one, because the process that executes it has two users.
 *
 * Told once for each reason, as warnings, but set-id programs and those with file capabilities: ping and sudo are
 * everywhere, and few of them serve anything. `strict`: errors. Called in children of vfork and fork: what is noted
 * here is their parent's, too.
 */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "base/reach.h"

static unsigned told_by_one; /* a bit for each enum reach_obstacle */
static unsigned *told = &told_by_one;

/* Most programs are executed by a child of fork, which lives for that alone: what it told, its parent has told. */
void unreached_before_fork(void)
{
	if (!shim_ready || told != &told_by_one)
		return;
	void *shared = sys_mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!sys_is_error(shared))
		told = memcpy(shared, &told_by_one, sizeof told_by_one);
}

static bool first_time(enum reach_obstacle why)
{
	return !(__atomic_fetch_or(told, 1u << why, __ATOMIC_RELAXED) & 1u << why);
}

static bool is_common(enum reach_obstacle why)
{
	return why == REACH_SET_USER || why == REACH_SET_GROUP || why == REACH_CAPABILITIES;
}

static void tell(const char *path)
{
	enum reach_obstacle why = reach_obstacle(path);
	if (!why || !log_is_read() || !first_time(why)) /* where the program's output is caught, the next one is told of */
		return;
	enum log_level level = is_common(why) ? LOG_LEVEL_INFO : LOG_LEVEL_WARN;
	if (engine_is_strict())
		level = LOG_LEVEL_ERROR;
	log_line(level, "fallback", "%s %s: its TCP is the kernel's", path, reach_words(why));
}

static bool may_be_executed(const char *path)
{
	return sys_call(SYS_faccessat, AT_FDCWD, path, X_OK, 0, 0, 0) == 0;
}

void unreached_program(const char *path)
{
	if (shim_ready && may_be_executed(path))
		tell(path);
}

/* As execvp finds it. */
void unreached_file(const char *file)
{
	char path[PATH_MAX];
	const char *dir = getenv("PATH");
	if (!shim_ready || strchr(file, '/')) {
		unreached_program(file);
		return;
	}
	for (dir = dir ? dir : "/bin:/usr/bin"; *dir;) {
		size_t n = strcspn(dir, ":");
		int len = snprintf(path, sizeof path, "%.*s%s%s", (int)n, dir, n ? "/" : "", file);
		if (len < (int)sizeof path && may_be_executed(path)) {
			tell(path);
			return;
		}
		dir += n + !!dir[n];
	}
}

/* fexecve and execveat: `path` in `dir`, or `dir` itself. */
void unreached_program_at(int dir, const char *path)
{
	char name[PATH_MAX];
	if (!shim_ready || (path && sys_call(SYS_faccessat, dir, path, F_OK, 0, 0, 0) == -EFAULT))
		return;
	bool by_itself = !path || !path[0];
	if (path && (path[0] == '/' || dir == AT_FDCWD)) {
		unreached_program(path);
		return;
	}
	int len = snprintf(name, sizeof name, "/proc/self/fd/%d%s%s", dir, by_itself ? "" : "/", by_itself ? "" : path);
	if (len < (int)sizeof name)
		unreached_program(name);
}
