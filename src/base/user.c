#include "base/user.h"

#include "base/sys.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <ucontext.h>

/* The smallest page of any Linux that we build for. */
#define PAGE_BYTES 4096

/*
 * Leaf functions without a frame: 0, or by user_fix_up at user_touch_fault, where the stack is as at the entry, 1. The
 * write is an atomic "or" of nothing, so that another thread's store is not lost.
 */
int user_touch_read(const void *p) __attribute__((visibility("hidden")));
int user_touch_write(const void *p) __attribute__((visibility("hidden")));
extern const char user_touch_begin[] __attribute__((visibility("hidden")));
extern const char user_touch_fault[] __attribute__((visibility("hidden")));

/*
 * Calls `work`, and keeps in *guard where the stack is meanwhile: 0. By user_fix_up at user_guard_fault, with that
 * stack, 1. So whatever `work` had on the stack and in registers is left, and the caller has its own back.
 */
int user_guard(void *to, const void *from, size_t n, user_work *work, void **guard) __attribute__((visibility("hidden")));
extern const char user_guard_fault[] __attribute__((visibility("hidden")));

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

__asm__(".text\n"
	".hidden user_guard, user_guard_fault\n"
	".globl user_guard, user_guard_fault\n"
	".type user_guard, @function\n"
	"user_guard:\n"
	"	.cfi_startproc\n"
	"	pushq %rbp\n"
	"	.cfi_def_cfa_offset 16\n"
	"	.cfi_offset %rbp, -16\n"
	"	movq %rsp, %rbp\n"
	"	.cfi_def_cfa_register %rbp\n"
	"	pushq %rbx\n"
	"	pushq %r12\n"
	"	pushq %r13\n"
	"	pushq %r14\n"
	"	pushq %r15\n"
	"	pushq %r8\n"
	"	movq %rsp, (%r8)\n"
	"	call *%rcx\n"
	"	xorl %eax, %eax\n"
	"1:	popq %r8\n"
	"	movq $0, (%r8)\n"
	"	popq %r15\n"
	"	popq %r14\n"
	"	popq %r13\n"
	"	popq %r12\n"
	"	popq %rbx\n"
	"	popq %rbp\n"
	"	.cfi_def_cfa %rsp, 8\n"
	"	ret\n"
	"user_guard_fault:\n"
	"	movl $1, %eax\n"
	"	jmp 1b\n"
	"	.cfi_endproc\n"
	".size user_guard, .-user_guard\n");
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

__asm__(".text\n"
	".hidden user_guard, user_guard_fault\n"
	".globl user_guard, user_guard_fault\n"
	".type user_guard, %function\n"
	"user_guard:\n"
	"	stp x29, x30, [sp, #-176]!\n"
	"	mov x29, sp\n"
	"	stp x19, x20, [sp, #16]\n"
	"	stp x21, x22, [sp, #32]\n"
	"	stp x23, x24, [sp, #48]\n"
	"	stp x25, x26, [sp, #64]\n"
	"	stp x27, x28, [sp, #80]\n"
	"	stp d8, d9, [sp, #96]\n"
	"	stp d10, d11, [sp, #112]\n"
	"	stp d12, d13, [sp, #128]\n"
	"	stp d14, d15, [sp, #144]\n"
	"	str x4, [sp, #160]\n"
	"	str x29, [x4]\n"
	"	blr x3\n"
	"	mov w0, #0\n"
	"1:	ldr x4, [sp, #160]\n"
	"	str xzr, [x4]\n"
	"	ldp d14, d15, [sp, #144]\n"
	"	ldp d12, d13, [sp, #128]\n"
	"	ldp d10, d11, [sp, #112]\n"
	"	ldp d8, d9, [sp, #96]\n"
	"	ldp x27, x28, [sp, #80]\n"
	"	ldp x25, x26, [sp, #64]\n"
	"	ldp x23, x24, [sp, #48]\n"
	"	ldp x21, x22, [sp, #32]\n"
	"	ldp x19, x20, [sp, #16]\n"
	"	ldp x29, x30, [sp], #176\n"
	"	ret\n"
	"user_guard_fault:\n"
	"	mov w0, #1\n"
	"	b 1b\n"
	".size user_guard, .-user_guard\n");
#else
#error "user_touch: port me to this architecture"
#endif

/* ---- where no fault is caught ---- */

#ifndef MADV_POPULATE_READ /* Linux 5.14 */
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif
#define MANY_PAGES 4 /* so many pages are asked about by one call first */

enum faults { FAULTS_UNKNOWN, FAULTS_CAUGHT, FAULTS_FATAL };

static _Thread_local __attribute__((tls_model("initial-exec"))) uint8_t faults;

void user_mask_changed(void)
{
	faults = FAULTS_UNKNOWN;
}

static bool may_not_ask;

void user_ask_no_more(void)
{
	may_not_ask = true;
}

static bool ask_mask(void)
{
	uint64_t mask = 0;
	sys_call(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, sizeof mask, 0, 0);
	faults = mask & (UINT64_C(1) << (SIGSEGV - 1) | UINT64_C(1) << (SIGBUS - 1)) ? FAULTS_FATAL : FAULTS_CAUGHT;
	return faults == FAULTS_FATAL;
}

bool user_fault_is_fatal(void)
{
	return __builtin_expect(faults != FAULTS_CAUGHT, 0) && !may_not_ask && (faults == FAULTS_FATAL || ask_mask());
}

/* The kernel reads a set of signals there, and then refuses what it is to do with it. */
static bool kernel_reads(uintptr_t at)
{
	return sys_call(SYS_rt_sigprocmask, -1, at & -sizeof(uint64_t), NULL, sizeof(uint64_t), 0, 0) != -EFAULT;
}

/*
 * The kernel's atomic "or" of nothing. A thread that waits for a futex there may be woken; it has to look again anyway.
 */
static bool kernel_writes(uintptr_t at)
{
	static uint32_t nobody_waits;
	return sys_call(SYS_futex, &nobody_waits, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, 0, at & -sizeof(uint32_t), FUTEX_OP(FUTEX_OP_OR, 0, FUTEX_OP_CMP_EQ, 0)) != -EFAULT;
}

static bool kernel_may(uintptr_t at, uintptr_t last, bool write)
{
	uintptr_t first_page = at & -(uintptr_t)PAGE_BYTES, last_page = last & -(uintptr_t)PAGE_BYTES;
	if (last_page - first_page >= MANY_PAGES * PAGE_BYTES &&
	    sys_call(SYS_madvise, first_page, last_page - first_page + PAGE_BYTES, write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ, 0, 0, 0) == 0)
		return true;
	for (uintptr_t page = first_page;; page += PAGE_BYTES) {
		if (!(write ? kernel_writes(page) : kernel_reads(page)))
			return false;
		if (page == last_page)
			return true;
	}
}

static bool touch(const void *p, size_t n, int (*touch_one)(const void *))
{
	uintptr_t at = (uintptr_t)p, last = at + n - 1;
	if (!n)
		return true;
	if (last < at)
		return false;
	if (user_fault_is_fatal())
		return kernel_may(at, last, touch_one == user_touch_write);
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

/*
 * Of how many bits an address is depends on the machine and on how its kernel was built. mincore of no bytes says
 * nothing but whether a program may have that address.
 */
static uintptr_t ask_end(void)
{
	uintptr_t fits = 0;
	for (uintptr_t step = (uintptr_t)INTPTR_MAX / 2 + 1; step >= PAGE_BYTES; step /= 2)
		if (sys_call(SYS_mincore, fits + step, 0, NULL, 0, 0, 0) == 0)
			fits += step;
	return fits;
}

/*
 * What lies below the strings that exec put at the end of the stack is the program's to have. So a program that
 * restricts its system calls does not meet one that it does not expect, but for a bad pointer.
 */
bool user_has_addresses(const void *p, size_t n)
{
	static _Atomic uintptr_t surely, most; /* 0: not known */
	uintptr_t end = (uintptr_t)p + n;
	if (__builtin_expect(!surely, 0))
		surely = getauxval(AT_EXECFN);
	if (end < (uintptr_t)p)
		return false;
	if (__builtin_expect(end <= surely, 1))
		return true;
	if (!most && !may_not_ask)
		most = ask_end();
	return end <= (most ? most : INTPTR_MAX); /* beyond is the kernel's half */
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

static _Thread_local __attribute__((tls_model("initial-exec"))) void *guard; /* of the thread's guarded work; NULL: it does none */

bool user_guarded(user_work *work, void *to, const void *from, size_t n)
{
	return !user_guard(to, from, n, work, &guard);
}

void *user_guard_set(void *now)
{
	void *before = guard;
	guard = now;
	return before;
}

#if defined(__x86_64__)
#define DIRECTION_FLAG 0x400 /* a copy that goes backwards has it set; the ABI wants it clear */

static uintptr_t fault_at(const ucontext_t *u)
{
	return u->uc_mcontext.gregs[REG_RIP];
}

static void go_on_at(ucontext_t *u, const char *pc, void *sp)
{
	u->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)pc;
	u->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)DIRECTION_FLAG;
	if (sp)
		u->uc_mcontext.gregs[REG_RSP] = (greg_t)(uintptr_t)sp;
}
#else
static uintptr_t fault_at(const ucontext_t *u)
{
	return u->uc_mcontext.pc;
}

static void go_on_at(ucontext_t *u, const char *pc, void *sp)
{
	u->uc_mcontext.pc = (uintptr_t)pc;
	if (sp)
		u->uc_mcontext.sp = (uintptr_t)sp;
}
#endif

bool user_fix_up(const siginfo_t *info, void *context)
{
	ucontext_t *u = context;
	uintptr_t pc = fault_at(u);
	if (pc >= (uintptr_t)user_touch_begin && pc < (uintptr_t)user_touch_fault)
		go_on_at(u, user_touch_fault, NULL);
	else if (guard && info->si_code > 0) /* not what somebody sent */
		go_on_at(u, user_guard_fault, guard);
	else
		return false;
	return true;
}
