/*
 * Linux's asynchronous I/O (io_submit, libaio) on sockets.
 *
 * What is submitted names a descriptor, and the kernel reads, writes or polls what it finds there: for an engine's
 * socket a placeholder, which never has anything. So a socket that is submitted is the kernel's from then on. Databases
 * submit files, and nothing of theirs changes.
 *
 * It is noticed in libaio's io_submit, and by the number of the call. Not noticed is the call of a libaio that is
 * linked statically, and a poll that was submitted before the socket was the engine's.
 */
#include "shim.h"

#include <linux/aio_abi.h>

#include "base/user.h"

static const char why[] = "the program uses Linux's asynchronous I/O on it";

void aio_submitted(long n, struct iocb **list)
{
	if (!shim_on())
		return;
	for (long i = 0; i < n && user_may_read(&list[i], sizeof list[i]) && user_may_read(list[i], sizeof *list[i]); i++)
		fd_handover((int)list[i]->aio_fildes, why);
}

/* libaio's: returns -errno. */
int wrap_io_submit(void *context, long n, struct iocb **list)
{
	aio_submitted(n, list);
	return REAL(io_submit)(context, n, list);
}
