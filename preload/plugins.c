/*
 * Libraries that a program loads so that their own scope comes first (dlopen with RTLD_DEEPBIND), as PHP does with its
 * extensions. Such a library, and what it brings along, finds libc's functions before ours, and would ask the kernel of
 * sockets that are the engine's. So once it is loaded, its references to what we intercept are bound as any other
 * library's are: to the first function of that name in the program's scope. What is read-only by then (RELRO) is opened
 * for that. Not by /proc/self/mem: a program that gave up root, or changed its root, has none.
 *
 * Only what is bound to libc is bound anew, or would be at its first call: a library may bring a function of that name
 * itself.
 *
 * Not seen: calls of its constructors, and a library that is named without a slash. libc looks for it where the
 * caller's RUNPATH says, so the caller must remain the program.
 */
#include "shim.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "base/log.h"

#if defined(__x86_64__)
#define BY_CALL    R_X86_64_JUMP_SLOT
#define BY_TABLE   R_X86_64_GLOB_DAT
#define BY_ADDRESS R_X86_64_64
#elif defined(__aarch64__)
#define BY_CALL    R_AARCH64_JUMP_SLOT
#define BY_TABLE   R_AARCH64_GLOB_DAT
#define BY_ADDRESS R_AARCH64_ABS64
#endif

static const char *const names[] = {
#define CALL(name, ret, ...) #name,
#define ALIAS(name, target)  #name,
#include "calls.def"
#undef CALL
#undef ALIAS
};
enum { N_NAMES = sizeof names / sizeof *names };

struct binding {
	size_t n_before, n_seen;   /* objects of the process */
	unsigned long long n_gone; /* … that went since it began */
	uintptr_t libcs[N_NAMES];  /* what such a library finds; 0: not libc's */
	uintptr_t first[N_NAMES];  /* what any other finds */
	uintptr_t page;
	unsigned n_failed;
};

struct object {
	uintptr_t from, to; /* its memory */
	const struct dl_phdr_info *info;
	uintptr_t sealed_from, sealed_to; /* what libc made read-only when it was relocated */
	bool is_open;                     /* … it is writable for now */
	const ElfW(Sym) * symbols;
	const char *strings;
	const ElfW(Rela) * relocations[2]; /* of tables and addresses; of calls */
	size_t n_relocations[2];
};

static int count(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct binding *b = arg;
	b->n_before++;
	b->n_gone = info->dlpi_subs;
	return 0;
}

/* In most tables libc wrote addresses in the place of offsets. */
static uintptr_t address_of(const struct object *o, const ElfW(Dyn) * d)
{
	return d->d_un.d_ptr < o->from ? o->from + d->d_un.d_ptr : d->d_un.d_ptr;
}

static void object_read(struct object *o, const ElfW(Dyn) * d)
{
	for (; d->d_tag != DT_NULL; d++) {
		switch (d->d_tag) {
		case DT_SYMTAB:
			o->symbols = (const void *)address_of(o, d);
			break;
		case DT_STRTAB:
			o->strings = (const void *)address_of(o, d);
			break;
		case DT_RELA:
			o->relocations[0] = (const void *)address_of(o, d);
			break;
		case DT_RELASZ:
			o->n_relocations[0] = d->d_un.d_val / sizeof(ElfW(Rela));
			break;
		case DT_JMPREL:
			o->relocations[1] = (const void *)address_of(o, d);
			break;
		case DT_PLTRELSZ:
			o->n_relocations[1] = d->d_un.d_val / sizeof(ElfW(Rela));
			break;
		default:
			break;
		}
	}
}

static bool object_find(struct object *o, const struct dl_phdr_info *info, uintptr_t page)
{
	const ElfW(Dyn) *dynamic = NULL;
	*o = (struct object){.from = info->dlpi_addr, .info = info};
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		if (p->p_type == PT_DYNAMIC)
			dynamic = (const void *)(info->dlpi_addr + p->p_vaddr);
		if (p->p_type == PT_GNU_RELRO) { /* whole pages, as libc takes them */
			o->sealed_from = (info->dlpi_addr + p->p_vaddr) & -page;
			o->sealed_to = (info->dlpi_addr + p->p_vaddr + p->p_memsz) & -page;
		}
		if (p->p_type == PT_LOAD && info->dlpi_addr + p->p_vaddr + p->p_memsz > o->to)
			o->to = info->dlpi_addr + p->p_vaddr + p->p_memsz;
	}
	if (dynamic)
		object_read(o, dynamic);
	return o->symbols && o->strings;
}

static bool is_writable(const struct object *o, uintptr_t slot)
{
	for (unsigned i = 0; i < o->info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &o->info->dlpi_phdr[i];
		if (p->p_type == PT_LOAD && (p->p_flags & PF_W) && slot - (o->from + p->p_vaddr) < p->p_memsz)
			return true;
	}
	return false;
}

static bool protect(const struct object *o, int how)
{
	return sys_call(SYS_mprotect, o->sealed_from, o->sealed_to - o->sealed_from, how, 0, 0, 0) == 0;
}

/* False: it cannot be written. */
static bool write_at(struct object *o, uintptr_t slot, uintptr_t value)
{
	if (!is_writable(o, slot))
		return false;
	if (slot >= o->sealed_from && slot < o->sealed_to && !o->is_open && !(o->is_open = protect(o, PROT_READ | PROT_WRITE)))
		return false;
	*(volatile uintptr_t *)slot = value;
	return true;
}

static void bind_one(struct binding *b, struct object *o, const ElfW(Rela) * r)
{
	const ElfW(Sym) *symbol = &o->symbols[ELF64_R_SYM(r->r_info)];
	const char *name = o->strings + symbol->st_name;
	unsigned type = ELF64_R_TYPE(r->r_info);
	if ((type != BY_CALL && type != BY_TABLE && type != BY_ADDRESS) || symbol->st_shndx != SHN_UNDEF || (type != BY_CALL && r->r_addend))
		return;
	for (unsigned i = 0; i < N_NAMES; i++) {
		if (names[i][0] != name[0] || strcmp(names[i], name) != 0)
			continue;
		uintptr_t slot = o->from + r->r_offset, is = *(const uintptr_t *)slot;
		bool at_first_call = type == BY_CALL && is >= o->from && is < o->to;
		if (b->libcs[i] && (is == b->libcs[i] || at_first_call) && !write_at(o, slot, b->first[i]))
			b->n_failed++;
		return;
	}
}

static int bind_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct binding *b = arg;
	struct object o;
	size_t gone = info->dlpi_subs - b->n_gone; /* constructors and other threads close some: what is new moves up */
	if (b->n_seen++ + gone < b->n_before || !object_find(&o, info, b->page))
		return 0;
	for (unsigned table = 0; table < 2; table++)
		for (size_t i = 0; o.relocations[table] && i < o.n_relocations[table]; i++)
			bind_one(b, &o, &o.relocations[table][i]);
	if (o.is_open)
		protect(&o, PROT_READ);
	return 0;
}

/* Looked up before, for nothing may be looked up while the objects are visited. */
static void look_up(struct binding *b, void *library)
{
	for (unsigned i = 0; i < N_NAMES; i++) {
		void *libcs = dlsym(RTLD_NEXT, names[i]), *first = dlsym(RTLD_DEFAULT, names[i]);
		if (libcs && first && dlsym(library, names[i]) == libcs) {
			b->libcs[i] = (uintptr_t)libcs;
			b->first[i] = (uintptr_t)first;
		}
	}
	dlerror(); /* what was not found is nothing of the program's */
}

static void *open_and_bind(const char *file, int mode)
{
	struct binding b = {0};
	dl_iterate_phdr(count, &b);
	void *library = REAL(dlopen)(file, mode);
	if (!library)
		return NULL;
	int saved = errno;
	b.page = getauxval(AT_PAGESZ);
	look_up(&b, library);
	dl_iterate_phdr(bind_object, &b);
	if (b.n_failed)
		log_warn("fallback", "%s has functions of its own first (RTLD_DEEPBIND), and could not be bound to finesse's: it finds the kernel's sockets", file);
	errno = saved;
	return library;
}

/* libc looks at who called it: where nothing is to do, a jump. */
__attribute__((optimize("O2"), no_sanitize("address", "undefined", "thread"))) void *wrap_dlopen(const char *file, int mode)
{
	if (shim_ready && !engine_inside && (mode & RTLD_DEEPBIND) && !(mode & RTLD_NOLOAD) && file && strchr(file, '/') && !strchr(file, '$'))
		return open_and_bind(file, mode);
	return REAL(dlopen)(file, mode);
}
