/*
 * Holds the kernel's lock of the network (rtnl_lock) for as long as a test wants: what makes and ends interfaces
 * elsewhere on the host does that, too.
 *
 * A thread asks for the number of an interface's strings (ETHTOOL_GSSET_INFO). The kernel reads the question with the
 * lock in its hands, and the question lies in a page that userfaultfd(2) gives only when the test says so. The whole
 * machine waits meanwhile. So a watchdog gives the page after RTNL_HOLD_MAX_MS, and the holder tells that it had to:
 * the test has failed then.
 */
#ifndef FINESSE_TESTS_RTNL_HOLD_H
#define FINESSE_TESTS_RTNL_HOLD_H

#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <linux/userfaultfd.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RTNL_HOLD_MAX_MS 5000
#define RTNL_ASK_MAX_MS  15000 /* others may have it first */

struct rtnl_hold {
	int uffd, stop[2];
	char *pages; /* two: the first is there */
	size_t page;
	pthread_t asker, watchdog;
	bool was_late;
};

static inline void *rtnl_hold_ask(void *arg)
{
	struct rtnl_hold *h = arg;
	const uint32_t cmd = ETHTOOL_GSSET_INFO;
	struct ifreq r = {.ifr_name = "lo", .ifr_data = h->pages + h->page - sizeof cmd}; /* the kernel reads the command before it takes the lock */
	memcpy(r.ifr_data, &cmd, sizeof cmd);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ioctl(fd, SIOCETHTOOL, &r);
	close(fd);
	return NULL;
}

static inline void rtnl_hold_give(struct rtnl_hold *h)
{
	struct uffdio_zeropage z = {.range = {(uintptr_t)h->pages + h->page, h->page}};
	ioctl(h->uffd, UFFDIO_ZEROPAGE, &z);
}

static inline void *rtnl_hold_watch(void *arg)
{
	struct rtnl_hold *h = arg;
	struct pollfd p = {.fd = h->stop[0], .events = POLLIN};
	h->was_late = poll(&p, 1, RTNL_HOLD_MAX_MS) == 0;
	rtnl_hold_give(h);
	return NULL;
}

/* False: errno says why. EPERM, ENOSYS: this user, or this kernel, cannot. */
static inline bool rtnl_hold(struct rtnl_hold *h)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffd_msg fault;
	*h = (struct rtnl_hold){.page = sysconf(_SC_PAGESIZE)};
	h->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK); /* else poll says nothing of it */
	if (h->uffd < 0 || ioctl(h->uffd, UFFDIO_API, &api))
		return false;
	h->pages = mmap(NULL, 2 * h->page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_register reg = {.range = {(uintptr_t)h->pages + h->page, h->page}, .mode = UFFDIO_REGISTER_MODE_MISSING};
	if (h->pages == MAP_FAILED || pipe2(h->stop, O_CLOEXEC) || ioctl(h->uffd, UFFDIO_REGISTER, &reg))
		return false;
	pthread_create(&h->asker, NULL, rtnl_hold_ask, h);
	struct pollfd p = {.fd = h->uffd, .events = POLLIN};
	int asked = poll(&p, 1, RTNL_ASK_MAX_MS);
	if (asked == 0)
		errno = ETIMEDOUT;
	if (asked != 1 || read(h->uffd, &fault, sizeof fault) != sizeof fault) /* now it has it */
		return false;
	pthread_create(&h->watchdog, NULL, rtnl_hold_watch, h);
	return true;
}

/* False: it was held so long that the watchdog let it go. */
static inline bool rtnl_release(struct rtnl_hold *h)
{
	close(h->stop[1]);
	pthread_join(h->watchdog, NULL);
	pthread_join(h->asker, NULL);
	close(h->stop[0]);
	close(h->uffd);
	munmap(h->pages, 2 * h->page);
	return !h->was_late;
}

#endif
