/*
 * The exec family: our sockets go to the kernel, then the real call. See process.c.
 *
 * A server that starts its successor with its listening sockets (nginx's binary upgrade) may do so with a clean
 * environment. The successor is the same service: it gets the variables that brought us here, where it has others of
 * that name or none. Programs that inherit no listener keep the environment that they are given.
 */
#include "shim.h"

#include <alloca.h>
#include <fcntl.h>
#include <string.h>

#include "process/spare_exec.h"

#define KEPT_BYTES 8192
#define KEPT_MAX   64

extern char **environ;
static char kept_text[KEPT_BYTES];
static char *kept[KEPT_MAX]; /* "NAME=value", in kept_text: a program may write over its first environment */
static unsigned n_kept;
static bool passes_listener;

void exec_keep_environment(char *const *env)
{
	size_t used = 0;
	for (; *env && n_kept < KEPT_MAX; env++) {
		size_t size = strlen(*env) + 1;
		if ((strncmp(*env, "FINESSE", 7) != 0 && strncmp(*env, "LD_PRELOAD=", 11) != 0) || used + size > KEPT_BYTES)
			continue;
		kept[n_kept++] = memcpy(kept_text + used, *env, size);
		used += size;
	}
}

static bool same_name(const char *a, const char *b)
{
	size_t n = strcspn(a, "=");
	return strncmp(a, b, n + 1) == 0;
}

static bool has_name(char *const *env, const char *variable)
{
	for (; env && *env; env++)
		if (same_name(variable, *env))
			return true;
	return false;
}

static size_t count_env(char *const *env)
{
	size_t n = 0;
	while (env && env[n])
		n++;
	return n;
}

/* `room`: for count_env(env) + n_kept + 2. */
static char *const *env_with_kept(char *const *env, char **room)
{
	size_t n = count_env(env);
	if (!passes_listener || !n_kept)
		return env;
	memcpy(room, env ? env : room, n * sizeof *room);
	for (unsigned i = 0; i < n_kept; i++)
		if (!has_name(env, kept[i]))
			room[n++] = kept[i];
	room[n] = (char *)spare_exec_variable();
	room[n + !!room[n]] = NULL;
	return room;
}
#define WITH_KEPT(env) env_with_kept(env, alloca((count_env(env) + n_kept + 2) * sizeof(char *)))

/* Whoever is here has not been executed. */
static int exec_returned(int r)
{
	int saved = errno;
	spare_exec_failed();
	signals_after_exec();
	if (shim_has_sockets && engine_exists())
		engine_after_failed_exec();
	errno = saved;
	return r;
}

static void before_exec(void)
{
	passes_listener = false;
	if (!engine_inside && shim_has_sockets && engine_exists())
		passes_listener = handover_for_exec();
	signals_before_exec();
}

/*
 * A file that cannot be executed: the real call says so, and nothing needs to be handed over. (A shim that stands aside
 * has nothing to hand over, and asks nothing.)
 */
static void before_exec_of(const char *path)
{
	if (shim_ready && sys_call(SYS_faccessat, AT_FDCWD, path, X_OK, 0, 0, 0) != 0)
		return;
	unreached_program(path);
	before_exec();
}

int wrap_execve(const char *path, char *const *argv, char *const *envp)
{
	before_exec_of(path);
	return exec_returned(REAL(execve)(path, argv, WITH_KEPT(envp)));
}

int wrap_execv(const char *path, char *const *argv)
{
	before_exec_of(path);
	return exec_returned(REAL(execve)(path, argv, WITH_KEPT(environ)));
}

int wrap_execvp(const char *file, char *const *argv)
{
	unreached_file(file);
	before_exec();
	return exec_returned(REAL(execvpe)(file, argv, WITH_KEPT(environ)));
}

int wrap_execvpe(const char *file, char *const *argv, char *const *envp)
{
	unreached_file(file);
	before_exec();
	return exec_returned(REAL(execvpe)(file, argv, WITH_KEPT(envp)));
}

int wrap_fexecve(int fd, char *const *argv, char *const *envp)
{
	unreached_program_at(fd, NULL);
	before_exec();
	return exec_returned(REAL(fexecve)(fd, argv, WITH_KEPT(envp)));
}

int wrap_execveat(int dir, const char *path, char *const *argv, char *const *envp, int flags)
{
	unreached_program_at(dir, path);
	before_exec();
	return exec_returned(REAL(execveat)(dir, path, argv, WITH_KEPT(envp), flags));
}

/* argv[] of a variadic call, on the caller's stack: its length, counted first. */
static size_t count_args(const char *first, va_list ap)
{
	size_t n = 1;
	for (const char *a = first; a; a = va_arg(ap, const char *))
		n++;
	return n;
}

#define COLLECT_ARGS(argv, first)                                                                  \
	va_list ap_;                                                                               \
	va_start(ap_, first);                                                                      \
	size_t n_ = count_args(first, ap_);                                                        \
	va_end(ap_);                                                                               \
	char **argv = alloca(n_ * sizeof *argv);                                                   \
	va_start(ap_, first);                                                                      \
	argv[0] = (char *)(first);                                                                 \
	for (size_t i_ = 1; i_ < n_; i_++)                                                         \
	argv[i_] = va_arg(ap_, char *)

int wrap_execl(const char *path, const char *arg, ...)
{
	COLLECT_ARGS(argv, arg);
	va_end(ap_);
	return wrap_execv(path, argv);
}

int wrap_execlp(const char *file, const char *arg, ...)
{
	COLLECT_ARGS(argv, arg);
	va_end(ap_);
	return wrap_execvp(file, argv);
}

int wrap_execle(const char *path, const char *arg, ...)
{
	COLLECT_ARGS(argv, arg);
	char *const *envp = va_arg(ap_, char *const *);
	va_end(ap_);
	return wrap_execve(path, argv, envp);
}
