#include "base/user.h"

#include <stdint.h>
#include <ucontext.h>

/* The smallest page of any Linux that we build for. */
#define PAGE_BYTES 4096

/*
 * Leaf functions without a frame: 0, or by user_fix_up at user_touch_fault, where the stack is as at the entry, 1. The write is an atomic "or" of nothing, so
 * that another thread's store is not lost.
 */
int user_touch_read(const void *p) __attribute__((visibility("hidden")));
int user_touch_write(const void *p) __attribute__((visibility("hidden")));
extern const char user_touch_begin[] __attribute__((visibility("hidden")));
extern const char user_touch_fault[] __attribute__((visibility("hidden")));

#if defined(__x86_64__)
__asm__(".text\n"
	".hidden user_touch_begin, user_touch_fault, user_touch_read, user_touch_write\n"
	".globl user_touch_begin, user_touch_fault, user_touch_read, user_touch_write\n"
	".type user_touch_read, @function\n"
	".type user_touch_write, @function\n"
	"user_touch_begin:\n"
	"user_touch_read:\n"
	"	.cfi_startproc\n"
	"	movb (%rdi), %al\n"
	"	xorl %eax, %eax\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size user_touch_read, .-user_touch_read\n"
	"user_touch_write:\n"
	"	.cfi_startproc\n"
	"	lock orb $0, (%rdi)\n"
	"	xorl %eax, %eax\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size user_touch_write, .-user_touch_write\n"
	"user_touch_fault:\n"
	"	movl $1, %eax\n"
	"	ret\n");
#elif defined(__aarch64__)
__asm__(".text\n"
	".hidden user_touch_begin, user_touch_fault, user_touch_read, user_touch_write\n"
	".globl user_touch_begin, user_touch_fault, user_touch_read, user_touch_write\n"
	".type user_touch_read, %function\n"
	".type user_touch_write, %function\n"
	"user_touch_begin:\n"
	"user_touch_read:\n"
	"	ldrb w1, [x0]\n"
	"	mov w0, #0\n"
	"	ret\n"
	".size user_touch_read, .-user_touch_read\n"
	"user_touch_write:\n"
	"1:	ldxrb w1, [x0]\n"
	"	stxrb w2, w1, [x0]\n"
	"	cbnz w2, 1b\n"
	"	mov w0, #0\n"
	"	ret\n"
	".size user_touch_write, .-user_touch_write\n"
	"user_touch_fault:\n"
	"	mov w0, #1\n"
	"	ret\n");
#else
#error "user_touch: port me to this architecture"
#endif

static bool touch(const void *p, size_t n, int (*touch_one)(const void *))
{
	uintptr_t at = (uintptr_t)p, last = at + n - 1;
	if (!n)
		return true;
	if (last < at)
		return false;
	for (; at <= last; at = (at | (PAGE_BYTES - 1)) + 1) {
		if (touch_one((const void *)at))
			return false;
		if ((at | (PAGE_BYTES - 1)) == UINTPTR_MAX)
			break;
	}
	return true;
}

bool user_may_read(const void *p, size_t n)
{
	return touch(p, n, user_touch_read);
}

bool user_may_write(const void *p, size_t n)
{
	return touch(p, n, user_touch_write);
}

static bool touch_iov(const struct iovec *iov, size_t count, size_t skip, size_t bytes, int (*touch_one)(const void *))
{
	for (size_t i = 0; i < count && bytes; i++) {
		size_t off = skip < iov[i].iov_len ? skip : iov[i].iov_len;
		size_t n = iov[i].iov_len - off < bytes ? iov[i].iov_len - off : bytes;
		if (!touch((const char *)iov[i].iov_base + off, n, touch_one))
			return false;
		skip -= off;
		bytes -= n;
	}
	return true;
}

bool user_iov_may_read(const struct iovec *iov, size_t count, size_t skip, size_t bytes)
{
	return touch_iov(iov, count, skip, bytes, user_touch_read);
}

bool user_iov_may_write(const struct iovec *iov, size_t count, size_t skip, size_t bytes)
{
	return touch_iov(iov, count, skip, bytes, user_touch_write);
}

bool user_fix_up(void *context)
{
	ucontext_t *u = context;
#if defined(__x86_64__)
	uintptr_t pc = u->uc_mcontext.gregs[REG_RIP];
#else
	uintptr_t pc = u->uc_mcontext.pc;
#endif
	if (pc < (uintptr_t)user_touch_begin || pc >= (uintptr_t)user_touch_fault)
		return false;
#if defined(__x86_64__)
	u->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)user_touch_fault;
#else
	u->uc_mcontext.pc = (uintptr_t)user_touch_fault;
#endif
	return true;
}
