/*
 * What may come and go, and change who is answered, without a notification: tables of legacy iptables (that one is
 * there is seen here; what is in it, firewall_iptables.c reads), programs that choose the socket of a SYN (sk_lookup),
 * and what is at netfilter's hooks (firewall_hooks.c). As a number, a bit each, so that another one says that something
 * is new.
 *
 * A user namespace has no right to ask about programs. Nobody but the host's superuser can have attached one there.
 */
#include "kernel/firewall_internal.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "kernel/bpf_sys.h"
#include "kernel/procfile.h"

#define TABLES 5
#define OTHERS TABLES /* a table that nobody knows */

static const char *const names_of[FIREWALL_FAMILIES] = {"/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"};

static uint32_t tables_in(char *names)
{
	static const char *const known[TABLES] = {"filter", "mangle", "raw", "nat", "security"};
	uint32_t bits = 0;
	char *save = NULL;
	for (const char *t = strtok_r(names, "\n", &save); t; t = strtok_r(NULL, "\n", &save)) {
		unsigned i = 0;
		while (i < OTHERS && strcmp(t, known[i]) != 0)
			i++;
		bits |= 1u << i;
	}
	return bits;
}

/* Who may not read the names sees none; the rules were read without them, too. */
static uint32_t tables_of(int *fd, const char *path)
{
	char *names;
	if (*fd < 0)
		*fd = procfile_open_if_there(path);
	if (*fd < 0 || procfile_read_open(*fd, &names))
		return 0;
	uint32_t bits = tables_in(names);
	free(names);
	return bits;
}

/* 1: there is one. */
static int chooses_socket(struct firewall_look *look)
{
	uint32_t ids[BPF_QUERY_MAX];
	if (look->netns_fd < 0)
		look->netns_fd = procfile_open("/proc/self/ns/net");
	int n = look->netns_fd < 0 ? look->netns_fd : bpf_prog_query(look->netns_fd, BPF_SK_LOOKUP, 0, ids);
	if (n == -EPERM && !firewall_in_user_namespace())
		return n;
	return n > 0;
}

int firewall_read_unheard(struct firewall_unheard *out, struct firewall_look *look)
{
	uint32_t bits = 0;
	for (unsigned i = 0; i < FIREWALL_FAMILIES; i++)
		bits |= tables_of(&look->names_fd[i], names_of[i]) << i * (OTHERS + 1);
	int n = chooses_socket(look);
	*out = (struct firewall_unheard){.tables = bits, .sk_lookup = n > 0};
	firewall_read_hooks(&out->hooks, look);
	return n < 0 ? n : 0;
}

void firewall_unheard_close(struct firewall_look *look)
{
	for (unsigned i = 0; i < FIREWALL_FAMILIES; i++)
		fd_close(look->names_fd[i]);
	fd_close(look->netns_fd);
	firewall_hooks_close(look);
	look->names_fd[0] = look->names_fd[1] = look->netns_fd = -1;
}
