/*
 * clone(2) in its forms: the libc function, and clone, clone3, fork, vfork by their numbers.
 *
 * What matters is whether the child has memory of its own (no CLONE_VM).
 * - It has: that is fork, whatever it is called. The child's copy of the engine must become the parent's inherited one.
 * - It shares memory and descriptors (CLONE_FILES), or is a thread: it shares the engine rightly. Nothing is done.
 * - It shares memory and waits to exec (CLONE_VFORK): the shim's table would follow what the child does to its own
 *   descriptors. It gets memory of its own,
 *   as vfork does (process.c).
 * A child that shares descriptors but no memory is left alone: closing what the engine keeps for itself would close it
 * for the parent.
 *
 * By number the child returns from the same frame, so this is only done where it keeps the parent's stack. With another
 * stack the caller has code of its own around the call, and the call is made as it is.
 */
#include "shim.h"

#include <linux/sched.h>
#include <sched.h>
#include <string.h>

#ifndef CLONE_ARGS_SIZE_VER0
#define CLONE_ARGS_SIZE_VER0 64
#endif

/* Shares nothing that the shim minds: memory and descriptors are the child's own. */
static bool is_fork(uint64_t flags)
{
	return !(flags & (CLONE_VM | CLONE_FILES));
}

/* As vfork: borrows the memory until it execs. */
static bool is_vfork(uint64_t flags)
{
	return (flags & CLONE_VM) && (flags & CLONE_VFORK) && !(flags & (CLONE_FILES | CLONE_THREAD | CLONE_SIGHAND));
}

/* ---- the function ---- */

struct child_start {
	int (*start)(void *);
	void *arg;
};

/* `p` is on the parent's stack, of which the child has a copy. */
static int child_main(void *p)
{
	struct child_start s = *(struct child_start *)p;
	fork_after_in_child();
	int status = s.start(s.arg);
	shim_exit(); /* libc ends the child without any function of ours */
	return status;
}

int wrap_clone(int (*start)(void *), void *stack, int flags, void *arg, ...)
{
	struct child_start s = {start, arg};
	va_list ap;
	va_start(ap, arg);
	void *parent_tid = va_arg(ap, void *);
	void *tls = va_arg(ap, void *);
	void *child_tid = va_arg(ap, void *);
	va_end(ap);
	netns_may_change(flags);
	if (shim_on() && is_vfork(flags))
		flags &= ~(CLONE_VM | CLONE_VFORK);
	if (!fork_is_bracketed() || !is_fork(flags) || !start || !stack)
		return REAL(clone)(start, stack, flags, arg, parent_tid, tls, child_tid);
	fork_before();
	int pid = REAL(clone)(child_main, stack, flags, &s, parent_tid, tls, child_tid);
	int saved = errno;
	fork_after_in_parent(pid);
	errno = saved;
	return pid;
}

/* ---- by number ---- */

static long bracketed(long nr, const long *a)
{
	if (!fork_is_bracketed())
		return sys_call6(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	fork_before();
	long pid = sys_call6(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (pid == 0)
		fork_after_in_child();
	else
		fork_after_in_parent(pid);
	return pid;
}

static long clone_by_flags(const long *a)
{
	long b[6];
	memcpy(b, a, sizeof b);
	netns_may_change(b[0]);
	if (a[1]) /* a stack of its own */
		return sys_call6(SYS_clone, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (is_vfork(b[0]))
		b[0] &= ~(long)(CLONE_VM | CLONE_VFORK);
	return is_fork(b[0]) ? bracketed(SYS_clone, b) : sys_call6(SYS_clone, a[0], a[1], a[2], a[3], a[4], a[5]);
}

#ifdef SYS_clone3
static long clone_by_struct(const long *a)
{
	const struct clone_args *given = (const void *)a[0];
	struct clone_args mine;
	long b[6] = {(long)&mine, a[1]};
	netns_may_change(given && (size_t)a[1] >= CLONE_ARGS_SIZE_VER0 ? given->flags : CLONE_NEWNET);
	if (!given || (size_t)a[1] < CLONE_ARGS_SIZE_VER0 || (size_t)a[1] > sizeof mine || given->stack)
		return sys_call6(SYS_clone3, a[0], a[1], 0, 0, 0, 0);
	memset(&mine, 0, sizeof mine);
	memcpy(&mine, given, a[1]);
	if (is_vfork(mine.flags))
		mine.flags &= ~(uint64_t)(CLONE_VM | CLONE_VFORK);
	return is_fork(mine.flags) ? bracketed(SYS_clone3, b) : sys_call6(SYS_clone3, a[0], a[1], 0, 0, 0, 0);
}
#endif

long clone_by_number(long nr, const long *a)
{
	static const long plain_fork[6] = {SIGCHLD};
	switch (nr) {
	case SYS_clone:
		return clone_by_flags(a);
#ifdef SYS_clone3
	case SYS_clone3:
		return clone_by_struct(a);
#endif
	}
	/* fork; and vfork, whose child could not return from here and leave the frame to its parent. */
	return bracketed(SYS_clone, plain_fork);
}
