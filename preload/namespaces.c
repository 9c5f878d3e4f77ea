/*
 * unshare and setns: the helper thread must not be in their way, and not left behind.
 *
 * A user namespace can only be entered by a process with one thread, a mount namespace by setns only by one that shares
 * its directories with nobody: the program has one thread, as far as it knows, and would get EINVAL. So the helper
 * thread ends before such a call and begins again after it. If the program has other threads the kernel's EINVAL is
 * right.
 *
 * Where a process leaves its network namespace together with the user namespace that owns it, it can hand nothing over
 * any more. What the engine serves goes to the kernel before. Without that, the engine stays where it is, and so does
 * the helper thread; sockets of the other namespace are the kernel's (socket/admit.c). While no thread ever left, that
 * needs no asking: shim_left_netns. (A system call past libc is not seen.)
 *
 * With a descriptor table of its own (unshare of CLONE_FILES, CLOSE_RANGE_UNSHARE) the helper thread would keep the old
 * table, and open in it what the program closes. So it ends and begins again, too. Where other threads of the program
 * stay with the old table, one number means two files from then on. The shim's table knows one, so all goes to the
 * kernel before.
 */
#include "shim.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>

#include "base/sys.h"

#include "process/privilege.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

static bool unshare_needs_one_thread(int flags)
{
	return flags & (CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM | CLONE_FILES);
}

/* 0: the fd says which. */
static bool setns_needs_one_thread(int type)
{
	return !type || (type & (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWTIME));
}

bool shim_left_netns;

static bool leaves_for_good(int flags)
{
	return (flags & CLONE_NEWUSER) && (flags & CLONE_NEWNET);
}

/* Capabilities in a new user namespace say nothing about the old one's network. */
static void before_new_user(int flags)
{
	if ((flags & CLONE_NEWUSER) && shim_on() && shim_has_sockets)
		privilege_before_drop(engine_of_process());
}

/* The kernel refuses CLONE_VM to a process with more than one thread, and does nothing for others (unshare(2)). */
static bool has_one_thread(void)
{
	return sys_call(SYS_unshare, CLONE_VM, 0, 0, 0, 0, 0) == 0;
}

#define END_TRIES  50
#define END_NAP_NS 200000

/*
 * A thread that was joined is still the kernel's for a moment. Where the program has others the kernel says no in any
 * case.
 */
static void await_ends(void)
{
	struct timespec nap = {.tv_nsec = END_NAP_NS};
	for (int i = 0; i < END_TRIES && !has_one_thread(); i++)
		sys_ppoll(NULL, 0, &nap, NULL);
}

static int alone(int (*call)(int, int), int a, int b, int flags)
{
	if (leaves_for_good(flags) && shim_on() && engine_exists())
		handover_all("the program leaves its network namespace");
	bool had = engine_stop_thread();
	if (engine_exists())
		await_ends();
	bool parts = (flags & CLONE_FILES) && !has_one_thread();
	if (parts && had) {
		engine_start_thread(); /* it stays with those who have the old table */
		had = false;
	}
	if (parts)
		leave_engine("the program's threads have descriptor tables of their own");
	int r = call(a, b);
	int saved = errno;
	if (had)
		engine_start_thread();
	errno = saved;
	return r;
}

static int real_unshare(int flags, int nothing)
{
	(void)nothing;
	return REAL(unshare)(flags);
}

static int real_setns(int fd, int type)
{
	return REAL(setns)(fd, type);
}

int wrap_unshare(int flags)
{
	netns_may_change(flags);
	if (!shim_ready || engine_inside || !unshare_needs_one_thread(flags))
		return REAL(unshare)(flags);
	before_new_user(flags);
	return alone(real_unshare, flags, 0, flags);
}

int wrap_setns(int fd, int type)
{
	netns_may_change(type ? type : CLONE_NEWNET);
	if (!shim_ready || engine_inside || !setns_needs_one_thread(type))
		return REAL(setns)(fd, type);
	return alone(real_setns, fd, type, type);
}
