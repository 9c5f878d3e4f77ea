/* What the tests of kernel/firewall share: a network namespace with the pair a, and a shell's nft. */
#ifndef FINESSE_TESTS_FIREWALL_LAB_H
#define FINESSE_TESTS_FIREWALL_LAB_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frames.h"
#include "kernel/firewall.h"

unsigned if_nametoindex(const char *name); /* <net/if.h> quarrels with ip_tables.h */

static char why[256]; /* of the last check */

static inline int check(const char *ifname)
{
	why[0] = '\0';
	return firewall_check(0, if_nametoindex(ifname), why, sizeof why);
}

static inline void setup(void)
{
	ck_assert_int_eq(net_enter(), 0);
}

/* Is a namespace to be had at all, and nft? Called first in main. */
static inline void skip_without_firewall(void)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(net_enter());
	int status;
	if (waitpid(pid, &status, 0) != pid || status != 0)
		exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
	if (system("nft list ruleset >/dev/null") != 0) {
		printf("needs nft\n");
		exit(77);
	}
}

#endif
