/*
 * Before others can know.
 *
 * A verb's output may wait for its thread's next wait, up to 1 ms (src/drive/putoff.c). The kernel's TCP would have
 * sent it within the call. Nobody can tell the difference but by something that happened after the call: the process
 * ends, and what waited is lost; or another process is told of the call, and looks. So what was put off is said first
 * wherever the program, by a call that passes here, ends itself or reaches another process: signals, abort, a fault
 * that it does not handle, and what it writes to anything but a regular file. Fork, exec and exit do it by themselves.
 *
 * A signal whose default action ends the process is death.c's. An end that comes from outside otherwise (SIGKILL, no
 * memory left) can still lose it. Nobody can tell that from an end that came 1 ms earlier, before the call. What does
 * not pass here is not heeded: shared memory, io_uring, the writes of stdio, whoever reads a log file at the same
 * moment.
 *
 * A log is written to a regular file for each request of some servers; for these, saying first would undo what putting
 * off is good for, and no other process waits for a regular file. So it is remembered by number what is one and what is
 * not. A number that was closed and opened again unseen may be taken for what it was: then output waits, or does not,
 * in vain. What it costs: a server that logs each request through a pipe sends each answer by itself (nginx, 64
 * connections, under strace: 1.0 sends for an answer instead of 0.74).
 */
#include "shim.h"

#define PLAIN 64 /* a power of 2 */

static _Atomic int plain[PLAIN]; /* fd + 1 of a regular file, its negative of something else */

static bool is_plain(int fd)
{
	struct stat st;
	_Atomic int *at = &plain[fd % PLAIN];
	if (fd < 0 || *at == fd + 1)
		return true;
	if (*at == -(fd + 1))
		return false;
	bool is = sys_fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
	*at = is ? fd + 1 : -(fd + 1);
	return is;
}

void known_forget(int fd)
{
	if (fd >= 0)
		plain[fd % PLAIN] = 0;
}

void known_soon(int fd)
{
	int saved = errno;
	if (fd == KNOWN_ANYWAY || !is_plain(fd))
		engine_say();
	errno = saved;
}

/* ---- calls that end a process, or reach one ---- */

int wrap_kill(pid_t pid, int sig)
{
	before_known(KNOWN_ANYWAY);
	return REAL(kill)(pid, sig);
}

int wrap_killpg(pid_t group, int sig)
{
	before_known(KNOWN_ANYWAY);
	return REAL(killpg)(group, sig);
}

int wrap_raise(int sig)
{
	before_known(KNOWN_ANYWAY);
	return REAL(raise)(sig);
}

int wrap_tgkill(pid_t pid, pid_t tid, int sig)
{
	before_known(KNOWN_ANYWAY);
	return REAL(tgkill)(pid, tid, sig);
}

int wrap_pthread_kill(pthread_t thread, int sig)
{
	before_known(KNOWN_ANYWAY);
	return REAL(pthread_kill)(thread, sig);
}

int wrap_sigqueue(pid_t pid, int sig, const union sigval value)
{
	before_known(KNOWN_ANYWAY);
	return REAL(sigqueue)(pid, sig, value);
}

void wrap_abort(void)
{
	before_known(KNOWN_ANYWAY);
	REAL(abort)();
}

void known_by_number(long nr)
{
	switch (nr) {
	case SYS_kill:
	case SYS_tkill:
	case SYS_tgkill:
	case SYS_rt_sigqueueinfo:
	case SYS_rt_tgsigqueueinfo:
#ifdef SYS_pidfd_send_signal
	case SYS_pidfd_send_signal:
#endif
		before_known(KNOWN_ANYWAY);
	}
}
