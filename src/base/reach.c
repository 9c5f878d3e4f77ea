/*
 * What LD_PRELOAD cannot reach (reach.h). A script is judged by its interpreter.
 *
 * Called by the command, and by the shim before an exec, maybe in a child of vfork: it makes its system calls itself,
 * and keeps nothing.
 */
#include "base/reach.h"
#include "base/sys.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#if __BYTE_ORDER == __LITTLE_ENDIAN
#define ELFDATA_HERE ELFDATA2LSB
#else
#define ELFDATA_HERE ELFDATA2MSB
#endif
#if __WORDSIZE == 64
#define ELFCLASS_HERE ELFCLASS64
#else
#define ELFCLASS_HERE ELFCLASS32
#endif

#define SCRIPT_LINE_MAX 256 /* BINPRM_BUF_SIZE of Linux */
#define SCRIPT_DEPTH    4
#define NOTES_MAX       4096
#define HEADERS_AT_ONCE 16
#define DYNAMIC_MAX     64

static ssize_t read_at(int fd, void *buf, size_t size, uint64_t at)
{
	return sys_call(SYS_pread64, fd, buf, size, at, 0, 0);
}

/* Does this note segment hold a note of Go's linker? Its name is "Go", with two zeros, which it counts. */
static bool notes_of_go(int fd, const ElfW(Phdr) * ph)
{
	char buf[NOTES_MAX];
	size_t size = ph->p_filesz < sizeof buf ? ph->p_filesz : sizeof buf, at = 0;
	ssize_t n = read_at(fd, buf, size, ph->p_offset);
	while (n > 0 && at + sizeof(ElfW(Nhdr)) <= (size_t)n) {
		ElfW(Nhdr) note;
		memcpy(&note, buf + at, sizeof note);
		at += sizeof note;
		if (note.n_namesz == 4 && at + 4 <= (size_t)n && memcmp(buf + at, "Go\0", 4) == 0)
			return true;
		if (note.n_namesz > NOTES_MAX || note.n_descsz > NOTES_MAX)
			return false;
		at += ((note.n_namesz + 3u) & ~3u) + ((note.n_descsz + 3u) & ~3u);
	}
	return false;
}

/* Each program that a process executes pays for these calls: so most have theirs read by one. */
static bool read_headers(int fd, const ElfW(Ehdr) * eh, unsigned first, ElfW(Phdr) * out)
{
	unsigned n = eh->e_phnum - first < HEADERS_AT_ONCE ? eh->e_phnum - first : HEADERS_AT_ONCE;
	return eh->e_phentsize == sizeof *out && read_at(fd, out, n * sizeof *out, eh->e_phoff + first * sizeof *out) == (ssize_t)(n * sizeof *out);
}

/*
 * Does this dynamic segment name a shared object? What is executed with such a name, and without an interpreter, is the
 * dynamic linker.
 */
static bool names_object(int fd, const ElfW(Phdr) * ph)
{
	ElfW(Dyn) dyn[DYNAMIC_MAX];
	size_t size = ph->p_filesz < sizeof dyn ? ph->p_filesz : sizeof dyn;
	ssize_t n = read_at(fd, dyn, size, ph->p_offset);
	for (ssize_t i = 0; i < n / (ssize_t)sizeof *dyn; i++)
		if (dyn[i].d_tag == DT_SONAME)
			return true;
	return false;
}

static enum reach_obstacle program_obstacle(int fd, const ElfW(Ehdr) * eh)
{
	ElfW(Phdr) headers[HEADERS_AT_ONCE], dynamic = {0};
	bool interpreter = false, go = false;
	if (eh->e_ident[EI_CLASS] != ELFCLASS_HERE || eh->e_ident[EI_DATA] != ELFDATA_HERE)
		return REACH_ARCHITECTURE;
	for (unsigned i = 0; i < eh->e_phnum; i++) {
		const ElfW(Phdr) *ph = &headers[i % HEADERS_AT_ONCE];
		if (i % HEADERS_AT_ONCE == 0 && !read_headers(fd, eh, i, headers))
			return REACH_NO_OBSTACLE; /* execve will say what it thinks of it */
		interpreter |= ph->p_type == PT_INTERP;
		go |= ph->p_type == PT_NOTE && notes_of_go(fd, ph);
		dynamic = ph->p_type == PT_DYNAMIC ? *ph : dynamic;
	}
	if (!interpreter && !names_object(fd, &dynamic))
		return REACH_STATIC;
	return go ? REACH_GO : REACH_NO_OBSTACLE;
}

/* execve gives no privilege to a process that wants none (no_new_privs), and set-id programs are preloaded then. */
static bool wants_no_privilege(void)
{
	return sys_call(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0, 0) == 1;
}

/* A filter of system calls might end the process for the question. */
static bool may_ask_for_capabilities(void)
{
	return geteuid() != 0 && !wants_no_privilege() && sys_call(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0, 0) == 0;
}

/* Would execve switch to secure mode? */
static enum reach_obstacle privilege_obstacle(int fd, const struct stat *st)
{
	char cap[64];
	if ((st->st_mode & (S_ISUID | S_ISGID)) && wants_no_privilege())
		return REACH_NO_OBSTACLE;
	if ((st->st_mode & S_ISUID) && st->st_uid != geteuid())
		return REACH_SET_USER;
	if ((st->st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st->st_gid != getegid())
		return REACH_SET_GROUP;
	if (may_ask_for_capabilities() && sys_call(SYS_fgetxattr, fd, "security.capability", cap, sizeof cap, 0, 0) > 0)
		return REACH_CAPABILITIES;
	return REACH_NO_OBSTACLE;
}

/* The path in "#! /path argument"; false: not a script. */
static bool script_interpreter(const char *head, size_t n, char *path)
{
	char line[SCRIPT_LINE_MAX + 1];
	if (n < 2 || n > SCRIPT_LINE_MAX || memcmp(head, "#!", 2) != 0)
		return false;
	memcpy(line, head, n);
	line[n] = 0;
	char *p = line + 2 + strspn(line + 2, " \t");
	p[strcspn(p, " \t\n")] = 0;
	strcpy(path, p);
	return true;
}

/* `by_us`: this process would execute it. */
static enum reach_obstacle obstacle(const char *path, bool by_us, int depth)
{
	union {
		char bytes[SCRIPT_LINE_MAX];
		ElfW(Ehdr) elf;
	} head = {{0}};
	char interpreter[SCRIPT_LINE_MAX + 1];
	enum reach_obstacle why = REACH_NO_OBSTACLE;
	struct stat st;
	int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
	if (fd < 0)
		return REACH_NO_OBSTACLE; /* executable but not readable: no way to know */
	ssize_t n = read_at(fd, head.bytes, sizeof head.bytes, 0);
	if (n > 0 && script_interpreter(head.bytes, (size_t)n, interpreter)) {
		if (depth < SCRIPT_DEPTH)
			why = obstacle(interpreter, by_us, depth + 1);
	} else if (n >= (ssize_t)sizeof head.elf && memcmp(head.bytes, ELFMAG, SELFMAG) == 0 &&
		   sys_fstat(fd, &st) == 0) {
		why = by_us ? privilege_obstacle(fd, &st) : REACH_NO_OBSTACLE;
		if (!why)
			why = program_obstacle(fd, &head.elf);
	}
	sys_close(fd);
	return why;
}

enum reach_obstacle reach_obstacle(const char *path)
{
	if (getuid() != geteuid() || getgid() != getegid())
		return REACH_TWO_USERS;
	return obstacle(path, true, 0);
}

enum reach_obstacle reach_obstacle_of_file(const char *path)
{
	return obstacle(path, false, 0);
}

const char *reach_words(enum reach_obstacle obstacle)
{
	static const char *const words[] = {
		[REACH_STATIC] = "is statically linked",
		[REACH_GO] = "is a Go program, which makes its system calls without libc",
		[REACH_ARCHITECTURE] = "is a program for another architecture than libfinesse.so",
		[REACH_SET_USER] = "is set-user-ID",
		[REACH_SET_GROUP] = "is set-group-ID",
		[REACH_CAPABILITIES] = "has file capabilities",
		[REACH_TWO_USERS] = "is executed by a process whose real and effective users (or groups) differ, and the dynamic linker preloads nothing then",
	};
	return words[obstacle];
}
