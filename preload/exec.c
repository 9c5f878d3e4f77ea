/* The exec family: our sockets go to the kernel, then the real call. See process.c. */
#include "shim.h"

#include <alloca.h>
#include <fcntl.h>
#include <string.h>

static void before_exec(void)
{
	if (!engine_inside && shim_has_sockets && engine_exists())
		handover_for_exec();
}

/* A file that cannot be executed: the real call says so, and nothing needs to be handed over. */
static void before_exec_of(int dir, const char *path)
{
	if (sys_call(SYS_faccessat, dir, path, X_OK, 0, 0, 0) == 0)
		before_exec();
}

int wrap_execve(const char *path, char *const *argv, char *const *envp)
{
	before_exec_of(AT_FDCWD, path);
	return REAL(execve)(path, argv, envp);
}

int wrap_execv(const char *path, char *const *argv)
{
	before_exec_of(AT_FDCWD, path);
	return REAL(execv)(path, argv);
}

int wrap_execvp(const char *file, char *const *argv)
{
	before_exec();
	return REAL(execvp)(file, argv);
}

int wrap_execvpe(const char *file, char *const *argv, char *const *envp)
{
	before_exec();
	return REAL(execvpe)(file, argv, envp);
}

int wrap_fexecve(int fd, char *const *argv, char *const *envp)
{
	before_exec();
	return REAL(fexecve)(fd, argv, envp);
}

int wrap_execveat(int dir, const char *path, char *const *argv, char *const *envp, int flags)
{
	before_exec();
	return REAL(execveat)(dir, path, argv, envp, flags);
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
