/* Reading the namespace's settings: see sysctl.h. */
#include "kernel/sysctl.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/sys.h"
#include "base/time.h"

#define READ_SHARE      100 /* reading takes at most the hundredth part of the time */
#define READ_SHARE_LISTEN 10 /* … but who listens has often just been given settings by who starts it, and listens once */
#define READ_SHARE_BUSY 800 /* … where sockets are decided one after the other */
#define BUSY_MOST_US    INT64_C(200000) /* … but nothing gets older than that for this reason */
#define TEXT_BYTES 256

enum directory { DIRECTORY_IPV4, DIRECTORY_core };

struct row {
	const char *name; /* NULL: the directory changes */
	uint8_t column, directory;
	int64_t otherwise, least, most;
	const char *unheeded; /* why */
};

static const struct row rows[] = {
#define CORE(name, member, unit, otherwise, least, most) {#name, 0, 0, otherwise, least, most, NULL},
#define CORE_AT(name, column, member, unit, otherwise, least, most) {#name, column, 0, otherwise, least, most, NULL},
#define SYSCTL(name, otherwise, least, most) {#name, 0, 0, otherwise, least, most, NULL},
#define UNHEEDED(name, otherwise, why) {#name, 0, 0, otherwise, INT64_MIN, INT64_MAX, why},
#define SYSCTL_DIRECTORY(name) {NULL, 0, DIRECTORY_##name, 0, 0, 0, NULL},
#include "kernel/sysctl.def"
};
#define ROWS (sizeof rows / sizeof *rows)

/* The row of an enum sysctl, and its directory: lines that change the directory have no number. */
static const struct row *row_of(unsigned which, unsigned *directory)
{
	unsigned n = 0;
	*directory = DIRECTORY_IPV4;
	for (unsigned i = 0; i < ROWS; i++) {
		if (!rows[i].name)
			*directory = rows[i].directory;
		else if (n++ == which)
			return &rows[i];
	}
	return NULL;
}

static int open_file(int dir, const char *name)
{
	return dir < 0 ? -1 : sys_openat(dir, name, O_RDONLY | O_CLOEXEC, 0);
}

/* NUL-terminated. False: it cannot be read. */
static bool read_file(int fd, char text[TEXT_BYTES])
{
	if (fd < 0)
		return false;
	ssize_t n = sys_call(SYS_pread64, fd, text, TEXT_BYTES - 1, 0, 0, 0);
	text[n > 0 ? n : 0] = 0;
	return n > 0;
}

static bool read_text(int dir, const char *name, char text[TEXT_BYTES])
{
	int fd = open_file(dir, name);
	bool read = read_file(fd, text);
	if (fd >= 0)
		sys_close(fd);
	return read;
}

/* The file of row `i`. */
static bool read_row(const struct sysctls *s, unsigned i, unsigned directory, char text[TEXT_BYTES])
{
	return s->files ? read_file(s->files[i], text) : read_text(s->dirs[directory], rows[i].name, text);
}

static int64_t within(int64_t v, const struct row *r)
{
	return v < r->least ? r->least : v > r->most ? r->most : v;
}

/* The number in a column; one that is not there is the default. */
static int64_t number_at(const char *text, const struct row *r)
{
	const char *at = text;
	for (unsigned column = 0;; column++) {
		char *end;
		long long v = strtoll(at, &end, 0);
		if (end == at)
			return r->otherwise;
		if (column == r->column)
			return within(v, r);
		at = end;
	}
}

static void read_numbers(struct sysctls *s)
{
	char text[TEXT_BYTES] = "";
	unsigned which = 0, directory = DIRECTORY_IPV4;
	const char *read = ""; /* the file that `text` is of */
	bool there = false;
	for (unsigned i = 0; i < ROWS; i++) {
		const struct row *r = &rows[i];
		if (!r->name) {
			directory = r->directory;
			continue;
		}
		if (r->unheeded) {
			which++; /* read when somebody wants to know */
			continue;
		}
		if (strcmp(read, r->name) != 0)
			there = read_row(s, i, directory, text);
		read = r->name;
		s->now.v[which++] = there ? number_at(text, r) : r->otherwise;
	}
}

static void read_names(struct sysctls *s)
{
	char text[TEXT_BYTES];
	memset(s->now.congestion, 0, sizeof s->now.congestion);
	if (read_text(s->dirs[DIRECTORY_IPV4], "tcp_congestion_control", text))
		memcpy(s->now.congestion, text, strcspn(text, " \n") < sizeof s->now.congestion ? strcspn(text, " \n") : 0);
}

static void read_all(struct sysctls *s, int64_t now)
{
	read_numbers(s);
	read_names(s);
	s->read_us = now;
	s->took_us = clock_now_us() - now;
}

#define TOOK_US 500 /* what it takes, where it was not tried: some 60 files */

void sysctls_told(struct sysctls *s, const struct sysctl_values *values)
{
	s->now = *values;
	s->read_us = clock_now_us();
	s->took_us = TOOK_US;
}

static int open_directory(const char *path)
{
	return fd_move_high(sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
}

void sysctls_open(struct sysctls *s)
{
	if (s->open)
		sysctls_close(s);
	s->dirs[DIRECTORY_IPV4] = open_directory("/proc/sys/net/ipv4");
	s->dirs[DIRECTORY_core] = open_directory("/proc/sys/net/core");
	s->open = true;
	if (!s->read_us || clock_now_us() - s->read_us > SYSCTL_AGE_US)
		read_all(s, clock_now_us());
}

void sysctls_keep_files(struct sysctls *s)
{
	unsigned directory = DIRECTORY_IPV4;
	s->files = calloc(ROWS, sizeof *s->files);
	for (unsigned i = 0; s->files && i < ROWS; i++) {
		directory = rows[i].name ? directory : rows[i].directory;
		s->files[i] = rows[i].name && !rows[i].unheeded ? open_file(s->dirs[directory], rows[i].name) : -1;
	}
}

void sysctls_read(struct sysctls *s)
{
	read_all(s, clock_now_us());
}

void sysctls_close(struct sysctls *s)
{
	if (!s->open)
		return;
	fd_close(s->dirs[DIRECTORY_IPV4]);
	fd_close(s->dirs[DIRECTORY_core]);
	for (unsigned i = 0; s->files && i < ROWS; i++)
		if (s->files[i] >= 0)
			sys_close(s->files[i]);
	free(s->files);
	s->files = NULL;
	s->open = false;
	s->read_us = 0;
}

/* How old what was read may get, for what the reading costs. `busy`: the last socket was decided just before. */
static int64_t least_age(const struct sysctls *s, bool busy)
{
	int64_t least = READ_SHARE * s->took_us;
	if (!busy || least > BUSY_MOST_US)
		return least;
	int64_t most = READ_SHARE_BUSY * s->took_us;
	return most < BUSY_MOST_US ? most : BUSY_MOST_US;
}

bool sysctls_refresh(struct sysctls *s, int64_t now, int64_t age_us)
{
	int64_t least = age_us <= SYSCTL_AGE_LISTEN_US ? READ_SHARE_LISTEN * s->took_us : least_age(s, now - s->asked_us < SYSCTL_AGE_US);
	s->asked_us = now;
	if (!s->open || now - s->read_us < (age_us > least ? age_us : least))
		return false;
	struct sysctl_values before = s->now;
	read_all(s, clock_now_us());
	return memcmp(before.v, s->now.v, sizeof before.v) != 0 || strcmp(before.congestion, s->now.congestion) != 0;
}

bool sysctls_text(const struct sysctls *s, const char *name, char *out, unsigned len)
{
	char text[TEXT_BYTES];
	if (!s->open || !read_text(s->dirs[DIRECTORY_IPV4], name, text) || strlen(text) >= len)
		return false;
	memcpy(out, text, strlen(text) + 1);
	return true;
}

bool sysctls_unheeded(const struct sysctls *s, unsigned i, struct sysctl_unheeded *out)
{
	char text[TEXT_BYTES];
	unsigned directory;
	const struct row *r = row_of(i, &directory);
	if (!s->open || !r || !r->unheeded || r->otherwise < 0 || !read_text(s->dirs[directory], r->name, text))
		return false;
	*out = (struct sysctl_unheeded){r->name, r->unheeded, number_at(text, r)};
	return out->value != r->otherwise;
}
