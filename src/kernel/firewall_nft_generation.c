/*
 * What is asked of nftables before its rules are read: is it there, and have they changed? Asking itself would load the
 * module.
 */
#include "kernel/firewall_nft_internal.h"

#include <linux/netfilter.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>

#include "base/fd.h"
#include "kernel/netlink.h"
#include "kernel/procfile.h"

/* It is absent for sure when it is neither among the loaded nor among the built-in ones. */
bool firewall_nft_is_absent(void)
{
	char *loaded = NULL, *builtin = NULL, path[128];
	struct utsname u;
	bool absent = false;

	if (uname(&u) < 0)
		return false;
	snprintf(path, sizeof path, "/lib/modules/%s/modules.builtin", u.release);
	if (procfile_read("/proc/modules", &loaded) == 0 && procfile_read(path, &builtin) == 0)
		absent = !strstr(loaded, "nf_tables ") && !strstr(builtin, "/nf_tables.ko");
	free(loaded);
	free(builtin);
	return absent;
}

static int on_generation(const struct nlmsghdr *h, void *ctx)
{
	uint32_t *generation = ctx;
	const struct nlattr *a;
	mnl_attr_for_each(a, h, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(a) == NFTA_GEN_ID)
			*generation = ntohl(mnl_attr_get_u32(a));
	}
	return 0;
}

uint32_t firewall_nft_generation(void)
{
	_Alignas(struct nlmsghdr) char buf[NFT_REQUEST_BYTES];
	uint32_t generation = 0;
	if (firewall_nft_is_absent())
		return 0;
	int fd = fd_move_high(netlink_open(NETLINK_NETFILTER));
	if (fd >= 0)
		netlink_talk(fd, nft_request(buf, NFT_MSG_GETGEN, NFPROTO_UNSPEC, 0), on_generation, &generation);
	fd_close(fd);
	return generation;
}
