/*
 * Epolls in messages (SCM_RIGHTS).
 *
 * A process that passes an epoll on may get it back itself, under another number, after it has closed all that it had:
 * a supervisor to its thread, a library to its other half. It is the same epoll then, with the same sockets in it. So
 * the file of an epoll that goes into a message is held here, until it comes, or until PASSED_MAX others have gone
 * after it: nobody can tell whether a message was read elsewhere. Whose last number is closed meanwhile keeps the
 * kernel's epoll open by an internal fd.
 *
 * Another process that gets the message has the kernel's epoll only, with the kernel's fds in it.
 */
#include "shim.h"

#include <linux/kcmp.h>

#define PASSED_MAX 16

static _Atomic(struct file *) passed[PASSED_MAX]; /* each with a reference */
static _Atomic unsigned n_passed;

void epoll_passed(int fd)
{
	struct file *f = fdtable_get(fd);
	if (!f)
		return;
	if (f->kind == FILE_EPOLL)
		f = atomic_exchange(&passed[atomic_fetch_add(&n_passed, 1) % PASSED_MAX], f);
	if (f)
		file_put(f);
}

static bool is_same(int fd, int other)
{
	int pid = sys_getpid();
	return other >= 0 && sys_call(SYS_kcmp, pid, pid, KCMP_FILE, fd, other, 0) == 0;
}

/*
 * `fd` becomes a number of `f`, and has the reference. While it is seized nobody closes the number that it is compared
 * with.
 */
static bool take_number(int fd, struct file *f)
{
	file_seize_to_copy(f);
	bool same = is_same(fd, f->numbers > 0 ? f->fd : f->parked_fd);
	if (same)
		file_gets_number(f, fd);
	file_unseize(f);
	return same;
}

bool epoll_received(int fd)
{
	for (unsigned i = 0; i < PASSED_MAX && atomic_load_explicit(&n_passed, memory_order_relaxed); i++) {
		struct file *f = atomic_load_explicit(&passed[i], memory_order_relaxed) ? atomic_exchange(&passed[i], NULL) : NULL;
		if (!f)
			continue;
		if (take_number(fd, f))
			return true;
		f = atomic_exchange(&passed[i], f);
		if (f) /* that went meanwhile */
			file_put(f);
	}
	return false;
}

void passed_after_fork(void)
{
	for (unsigned i = 0; i < PASSED_MAX; i++)
		passed[i] = NULL;
	n_passed = 0;
}
