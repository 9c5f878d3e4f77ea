/*
 * The table: a memfd with a head and LIVING_MAX places, of which only touched pages exist. Free places are a list
 * through the places themselves, the last freed first, so that the table stays as small as the connections were many.
 * Place 0 is the list's end.
 */
#include "kernel/living.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "base/quiet.h"
#include "base/sys.h"

#define READ_PLACES 64 /* at once */

struct place {
	uint32_t used; /* written last, cleared first */
	uint32_t next_free;
	struct living_conn conn;
	uint32_t pad[2];
};
_Static_assert(sizeof(struct place) == 64, "a connection's numbers cost one cache line");

struct table {
	uint32_t ifindex;
	uint32_t end; /* no place from here on was ever used */
	uint32_t pad[14];
	struct place places[LIVING_MAX];
};

struct living {
	int fd;
	uint32_t free; /* 0: none */
	struct table *table;
};

int living_new(struct living **out, int ifindex)
{
	struct living *l = calloc(1, sizeof *l);
	if (!l)
		return -ENOMEM;
	int err = l->fd = fd_move_high(sys_call(SYS_memfd_create, "finesse-living", MFD_CLOEXEC | MFD_ALLOW_SEALING, 0, 0, 0, 0));
	if (err >= 0)
		err = resize_quietly(l->fd, sizeof *l->table);
	if (err >= 0) {
		void *p = sys_mmap(NULL, sizeof *l->table, PROT_READ | PROT_WRITE, MAP_SHARED, l->fd, 0);
		err = sys_is_error(p) ? (int)(long)p : 0;
		l->table = err ? NULL : p;
	}
	if (err < 0) {
		living_forget(l);
		return err;
	}
	l->table->ifindex = ifindex;
	l->table->end = 1;
	*out = l;
	return 0;
}

int living_fd(const struct living *l)
{
	return l->fd;
}

void living_forget(struct living *l)
{
	if (!l)
		return;
	if (l->table)
		sys_munmap(l->table, sizeof *l->table);
	fd_close(l->fd);
	free(l);
}

uint32_t living_add(struct living *l, const struct flow_key *key)
{
	struct table *t = l->table;
	uint32_t i = l->free;
	if (i)
		l->free = t->places[i].next_free;
	else if (t->end < LIVING_MAX)
		i = t->end++;
	else
		return 0;
	t->places[i].conn = (struct living_conn){.key = *key};
	__atomic_store_n(&t->places[i].used, 1, __ATOMIC_RELEASE);
	return i;
}

void living_say(struct living *l, uint32_t place, const struct living_word *word)
{
	if (place)
		l->table->places[place].conn.word = *word;
}

void living_del(struct living *l, uint32_t place)
{
	if (!place)
		return;
	struct place *p = &l->table->places[place];
	__atomic_store_n(&p->used, 0, __ATOMIC_RELEASE);
	p->next_free = l->free;
	l->free = place;
}

/* Only memory has seals. */
bool living_is_table(int fd)
{
	return sys_fcntl(fd, F_GET_SEALS, 0) >= 0;
}

static ssize_t read_at(int fd, void *buf, size_t n, size_t at)
{
	return sys_call(SYS_pread64, fd, buf, n, at, 0, 0);
}

unsigned living_read(int fd, uint32_t *place, struct living_conn *out, unsigned n, int *ifindex)
{
	struct place places[READ_PLACES];
	uint32_t head[2]; /* ifindex, end */
	unsigned found = 0;
	if (read_at(fd, head, sizeof head, 0) != sizeof head)
		return 0;
	*ifindex = head[0];
	uint32_t end = head[1] < LIVING_MAX ? head[1] : LIVING_MAX;
	while (found < n && *place < end) {
		uint32_t want = end - *place < READ_PLACES ? end - *place : READ_PLACES;
		ssize_t got = read_at(fd, places, want * sizeof *places, offsetof(struct table, places) + *place * sizeof *places);
		if (got < (ssize_t)sizeof *places)
			return found;
		for (uint32_t i = 0; i < got / sizeof *places && found < n; i++, (*place)++)
			if (places[i].used == 1)
				out[found++] = places[i].conn;
	}
	return found;
}
