/*
 * Memory that the program names: may be bad, and Linux says EFAULT then.
 *
 * The engine must not die of a bad pointer, with its lock held even less. So before it takes or gives bytes it touches
 * each page, by instructions whose faults are expected: the shim's handler of SIGSEGV and SIGBUS asks user_fix_up()
 * first. Another thread may unmap a page between the touch and the copy. So what reads or writes the bytes themselves
 * is guarded: a fault in it ends it there, and it says so. Where no such handler is installed a fault ends the program
 * as it would without us.
 *
 * Nor is a fault caught where the thread has the signal blocked: Linux ends the process then. There the kernel is asked
 * about each page, by system calls that read or write it and say EFAULT, which costs some 0.1 us. Only guarded work may
 * still meet a page there that another thread unmaps at that moment. What the thread blocks is asked once, and again
 * after it changed its mask. Otherwise a touch costs about a nanosecond, a guard three. Thread-safe; may be called with
 * the engine's lock held.
 */
#ifndef FINESSE_BASE_USER_H
#define FINESSE_BASE_USER_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

/* Can these n bytes be read; be written? Writing leaves them as they are. n may be 0. */
bool user_may_read(const void *p, size_t n);
bool user_may_write(const void *p, size_t n);
/*
 * Is it where a program's memory can be at all, mapped or not? What is beyond is EFAULT in Linux before a call looks at
 * anything else.
 */
bool user_has_addresses(const void *p, size_t n);
/* The first `bytes` bytes of these pieces, `skip` bytes in. */
bool user_iov_may_read(const struct iovec *iov, size_t count, size_t skip, size_t bytes);
bool user_iov_may_write(const struct iovec *iov, size_t count, size_t skip, size_t bytes);
/* This thread's signal mask may be another one now. Async-signal-safe. */
void user_mask_changed(void);
/* The process restricts its system calls: the kernel is asked nothing from now on. */
void user_ask_no_more(void);
/* Would a fault of this thread's end the process? Then guarded work is no question; ask as above. */
bool user_fault_is_fatal(void);
/* What works on the program's bytes: as memcpy. It holds nothing, and takes no lock. */
typedef void *user_work(void *to, const void *from, size_t n);
/* False: it met bad memory, and was left there. */
bool user_guarded(user_work *work, void *to, const void *from, size_t n);
/*
 * Around a handler of the program's, whose faults are its own: it may have come in the middle of guarded work. Returns
 * what was set before.
 */
void *user_guard_set(void *guard);
/*
 * In a handler: `context` is its ucontext_t. True: the fault was a touch's or a guarded one, which fails now; the
 * handler returns.
 */
bool user_fix_up(const siginfo_t *info, void *context);

#endif
