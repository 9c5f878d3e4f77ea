/*
 * Programs that libc starts by itself: posix_spawn, system, popen, wordexp. libc makes the child, without any function
 * of ours.
 *
 * So what the child inherits goes to the kernel before: what is not close-on-exec, and what posix_spawn is to give it
 * under another number. Such actions may be prepared long before there is a connection at that number. libc keeps them
 * to itself, so the numbers are noted here.
 */
#include "shim.h"

#include <stdlib.h>

static void before_spawn(const char *why)
{
	undecided_settle_all();
	if (shim_on() && shim_has_sockets && engine_exists())
		handover_for_spawn(why);
}

/* ---- numbers that posix_spawn duplicates ---- */

struct source {
	struct source *next;
	const void *actions;
	int fd; /* -1: not a file of ours, but what an action before makes */
	int to;
};

static struct source *sources; /* the table's lock */

/* Lock held. */
static bool is_made_before(const void *actions, int fd)
{
	for (const struct source *s = sources; s; s = s->next)
		if (s->actions == actions && s->to == fd)
			return true;
	return false;
}

static int note_source(const void *actions, int fd, int to)
{
	struct source *s = malloc(sizeof *s);
	if (!s)
		return ENOMEM;
	fdtable_lock();
	*s = (struct source){.actions = actions, .fd = is_made_before(actions, fd) ? -1 : fd, .to = to};
	s->next = sources;
	sources = s;
	fdtable_unlock();
	return 0;
}

static void forget_sources(const void *actions)
{
	struct source *gone = NULL;
	fdtable_lock();
	for (struct source **at = &sources; *at;) {
		struct source *s = *at;
		if (s->actions != actions) {
			at = &s->next;
			continue;
		}
		*at = s->next;
		s->next = gone;
		gone = s;
	}
	fdtable_unlock();
	for (struct source *next; gone; gone = next) {
		next = gone->next;
		free(gone);
	}
}

/* One after the other: a handover takes the table's lock itself. */
static int source_at(const void *actions, unsigned place)
{
	int fd = -1;
	fdtable_lock();
	for (const struct source *s = sources; s && fd < 0; s = s->next)
		if (s->actions == actions && s->fd >= 0 && !place--)
			fd = s->fd;
	fdtable_unlock();
	return fd;
}

static void sources_to_kernel(const void *actions)
{
	int fd;
	for (unsigned i = 0; actions && (fd = source_at(actions, i)) >= 0; i++)
		fd_to_kernel(fd, "posix_spawn"); /* it may be close-on-exec */
}

/* ---- the calls ---- */

int wrap_posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr, char *const *argv,
		     char *const *envp)
{
	unreached_program(path);
	before_spawn("posix_spawn");
	sources_to_kernel(actions);
	signals_before_exec();
	int r = REAL(posix_spawn)(pid, path, actions, attr, argv, envp);
	signals_after_exec();
	return r;
}

int wrap_posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
		      char *const *argv, char *const *envp)
{
	unreached_file(file);
	before_spawn("posix_spawn");
	sources_to_kernel(actions);
	signals_before_exec();
	int r = REAL(posix_spawnp)(pid, file, actions, attr, argv, envp);
	signals_after_exec();
	return r;
}

/* The pointer may be that of another one, which ended unseen. */
int wrap_posix_spawn_file_actions_init(posix_spawn_file_actions_t *actions)
{
	forget_sources(actions);
	return REAL(posix_spawn_file_actions_init)(actions);
}

int wrap_posix_spawn_file_actions_destroy(posix_spawn_file_actions_t *actions)
{
	forget_sources(actions);
	return REAL(posix_spawn_file_actions_destroy)(actions);
}

int wrap_posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *actions, int fd, int to)
{
	int err = REAL(posix_spawn_file_actions_adddup2)(actions, fd, to);
	return err ? err : note_source(actions, fd, to);
}

int wrap_system(const char *command)
{
	if (command)
		before_spawn("system");
	return REAL(system)(command);
}

FILE *wrap_popen(const char *command, const char *mode)
{
	before_spawn("popen");
	signals_before_exec();
	FILE *f = REAL(popen)(command, mode);
	signals_after_exec();
	return f;
}

int wrap_wordexp(const char *words, wordexp_t *out, int flags)
{
	if (!(flags & WRDE_NOCMD))
		before_spawn("wordexp");
	return REAL(wordexp)(words, out, flags);
}
