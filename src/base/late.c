#include "base/late.h"

#include <linux/io_uring.h>
#include <string.h>

#include "base/sys.h"

int late_hold(const int *fds, unsigned n)
{
	struct io_uring_params params;
	memset(&params, 0, sizeof params);
	int hold = sys_call(SYS_io_uring_setup, 1, (long)&params, 0, 0, 0, 0);
	if (hold < 0)
		return hold;
	int err = sys_call(SYS_io_uring_register, hold, IORING_REGISTER_FILES, (long)fds, n, 0, 0);
	if (err >= 0)
		return hold;
	sys_close(hold);
	return err;
}

void late_let_go(int hold)
{
	if (hold >= 0)
		sys_close(hold);
}
