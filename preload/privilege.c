/*
 * A program gives privilege away: setuid and its kin, capset, chroot, seccomp, Landlock.
 *
 * What the engine needs from a privileged process, a broker does for it afterwards (process/broker.h). Without one, a
 * process that has used TCP brings its engine up before the call, since it could not any more. setgid and setgroups
 * take nothing away that the engine needs: they are here for their signals.
 *
 * The helper thread is of the program, and must not keep what the program gave away. libc changes the users of all
 * threads itself, by a signal that the helper thread lets through. What the kernel changes for the calling thread alone
 * (capabilities, and everything that is called by its number) the helper thread follows by ending before and beginning
 * again after: a thread has what its maker has. Were it left behind, libc would even abort the program at the next
 * setuid, whose result would differ among its threads.
 *
 * seccomp: a filter may end the process for a call that the program did not make, be it the engine's own or a question
 * of the shim's (a browser's renderer ends for getsockopt). So what is served goes to the kernel before, the helper
 * thread ends for good, and the shim stands aside: from then on a wrapper makes the program's call and no other. With
 * the setting `strict` it does not, since listen and connect must fail then: no socket is taken, and the shim's
 * questions remain.
 *
 * Landlock: its rules for TCP judge bind and connect, by which a connection is handed to the kernel. So what is served
 * goes to the kernel before such rules hold, and no socket is taken any more. Rules for files alone change nothing.
 */
#include "shim.h"

#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include "base/user.h"
#include "process/privilege.h"

#define NEEDED (1u << CAP_NET_ADMIN | 1u << CAP_NET_RAW)

static bool may_matter(void)
{
	return shim_on() && shim_has_sockets;
}

static void before_drop(void)
{
	if (may_matter())
		privilege_before_drop(engine_of_process());
}

/* −1: as it is. Who becomes the superuser drops nothing. */
static void before_user(uid_t a, uid_t b)
{
	reuse_forget();
	bool drops_a = a != 0 && a != (uid_t)-1, drops_b = b != 0 && b != (uid_t)-1;
	if (drops_a || drops_b)
		before_drop();
}

/* ---- libc's calls: it changes all threads ---- */

#define OF_ALL_THREADS(call)                                                                                                               \
	({                                                                                                                                 \
		engine_setxid_begin();                                                                                                     \
		int r_ = (call);                                                                                                           \
		engine_setxid_end();                                                                                                       \
		r_;                                                                                                                        \
	})

int wrap_setuid(uid_t uid)
{
	before_user(uid, uid);
	return OF_ALL_THREADS(REAL(setuid)(uid));
}

int wrap_seteuid(uid_t uid)
{
	before_user(uid, uid);
	return OF_ALL_THREADS(REAL(seteuid)(uid));
}

int wrap_setreuid(uid_t real, uid_t effective)
{
	before_user(real, effective);
	return OF_ALL_THREADS(REAL(setreuid)(real, effective));
}

int wrap_setresuid(uid_t real, uid_t effective, uid_t saved)
{
	before_user(effective, effective);
	return OF_ALL_THREADS(REAL(setresuid)(real, effective, saved));
}

/*
 * Groups say nothing about privilege; but a socket has that of who made it, and so has the user that files are made as.
 */
int wrap_setgid(gid_t gid)
{
	reuse_forget();
	return OF_ALL_THREADS(REAL(setgid)(gid));
}

int wrap_setegid(gid_t gid)
{
	reuse_forget();
	return OF_ALL_THREADS(REAL(setegid)(gid));
}

int wrap_setregid(gid_t real, gid_t effective)
{
	reuse_forget();
	return OF_ALL_THREADS(REAL(setregid)(real, effective));
}

int wrap_setresgid(gid_t real, gid_t effective, gid_t saved)
{
	reuse_forget();
	return OF_ALL_THREADS(REAL(setresgid)(real, effective, saved));
}

int wrap_setgroups(size_t n, const gid_t *groups)
{
	reuse_forget();
	return OF_ALL_THREADS(REAL(setgroups)(n, groups));
}

/* libc's own calls setgroups by no name that can be replaced. */
int wrap_initgroups(const char *user, gid_t group)
{
	reuse_forget();
	return OF_ALL_THREADS(REAL(initgroups)(user, group));
}

/* Of the calling thread alone. */
int wrap_setfsuid(uid_t uid)
{
	reuse_forget();
	return REAL(setfsuid)(uid);
}

int wrap_setfsgid(gid_t gid)
{
	reuse_forget();
	return REAL(setfsgid)(gid);
}

int wrap_chroot(const char *path)
{
	before_drop(); /* /run and /proc are other ones afterwards */
	return REAL(chroot)(path);
}

/* ---- what the kernel changes for one thread ---- */

static long follow(long nr, const long *a)
{
	bool had = !engine_inside && shim_on() && engine_stop_thread();
	long r = sys_call6(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (had)
		engine_start_thread();
	return r;
}

/* What is given cannot be read: the kernel says so. */
static bool keeps_capabilities(const struct __user_cap_header_struct *h, const struct __user_cap_data_struct *d)
{
	return !h || !d || (d[0].effective & NEEDED) == NEEDED;
}

static long capset_raw(const long *a)
{
	if (!keeps_capabilities((void *)a[0], (void *)a[1]))
		before_drop();
	return follow(SYS_capset, a);
}

int wrap_capset(void *header, void *data)
{
	const long a[6] = {(long)header, (long)data};
	return edge(capset_raw(a));
}

/* The engine ends with it: nothing of ours makes a call from now on. */
static void end_engine(const char *why)
{
	leave_engine(why);
	if (!shim_on())
		return;
	engine_on_exit(false, true); /* what is closed and not yet said, too: nobody drives any more */
	engine_stop_thread();
	signals_give_back();
	shim_exit_done();
}

static void before_seccomp(void)
{
	static const char why[] = "the program restricts its system calls (seccomp)";
	if (engine_inside || !shim_ready)
		return;
	end_engine(why);
	if (shim_has_sockets)
		engine_note_fallback("what comes", why);
	if (!engine_is_strict())
		shim_stand_aside();
}

static long prctl_raw(const long *a)
{
	switch (a[0]) {
	case PR_SET_KEEPCAPS:
	case PR_SET_SECUREBITS:
		return follow(SYS_prctl, a);
	case PR_SET_SECCOMP:
		if (a[1] == SECCOMP_MODE_STRICT || (a[1] == SECCOMP_MODE_FILTER && a[2]))
			before_seccomp();
		break;
	}
	return sys_call6(SYS_prctl, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int wrap_prctl(int option, ...)
{
	long a[6] = {option};
	va_list ap;
	va_start(ap, option);
	for (int i = 1; i < 5; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	return edge(prctl_raw(a));
}

/* seccomp(2), which has no function in libc. */
static long seccomp_raw(const long *a)
{
	if (a[0] == SECCOMP_SET_MODE_STRICT || (a[0] == SECCOMP_SET_MODE_FILTER && a[2]))
		before_seccomp();
	return sys_call6(SYS_seccomp, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* struct landlock_ruleset_attr: the rights to files, then those to the network (Linux 6.7). */
#define LANDLOCK_WITH_NET 16

static _Atomic bool landlock_has_net; /* rules for TCP were begun */

static void landlock_created(const uint64_t *attr, size_t size)
{
	if (attr && size >= LANDLOCK_WITH_NET && user_may_read(attr, LANDLOCK_WITH_NET) && attr[1])
		landlock_has_net = true;
}

static void before_landlock(void)
{
	static const char why[] = "the program restricts its TCP (Landlock)";
	if (!engine_inside && landlock_has_net)
		end_engine(why);
}

bool privilege_by_number(long nr, const long *a, long *r)
{
	switch (nr) {
	case SYS_setuid:
		before_user(a[0], a[0]);
		break;
	case SYS_setreuid:
		before_user(a[0], a[1]);
		break;
	case SYS_setresuid:
		before_user(a[1], a[1]);
		break;
	case SYS_setgid:
	case SYS_setregid:
	case SYS_setresgid:
	case SYS_setfsuid:
	case SYS_setfsgid:
		reuse_forget();
		return false;
	case SYS_chroot:
		before_drop();
		return false;
	case SYS_capset:
		*r = edge(capset_raw(a));
		return true;
	case SYS_prctl:
		*r = edge(prctl_raw(a));
		return true;
#ifdef SYS_landlock_restrict_self
	case SYS_landlock_create_ruleset:
		landlock_created((const void *)a[0], a[1]);
		return false;
	case SYS_landlock_restrict_self:
		before_landlock();
		return false;
#endif
	case SYS_seccomp:
		*r = edge(seccomp_raw(a));
		return true;
	default:
		return false;
	}
	*r = edge(follow(nr, a));
	return true;
}
