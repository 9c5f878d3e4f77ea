/*
 * The constructor: real functions, settings, ready. It makes no system call (but an allocation's), no thread and no fd
 * (but the trace's, when it was asked for); the engine starts with the first socket that is decided to be its own. A
 * bad setting ends the process with status 2 before main, as `finesse run` would have.
 */
#include "shim.h"

#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/settings.h"
#include "base/user.h"
#include "process/broker.h"
#include "process/spare_exec.h"

_Atomic bool shim_ready;

#define EXIT_BAD_SETTING 2

static void configure(void)
{
	static struct settings settings;
	char why[256];
	settings_default(&settings);
	if (settings_from_environment(&settings, environ, why, sizeof why) < 0 || settings_check(&settings, why, sizeof why) < 0) {
		log_error("settings", "%s", why);
		sys_call(SYS_exit_group, EXIT_BAD_SETTING, 0, 0, 0, 0, 0);
	}
	log_configure(settings.log);
	engine_configure(&settings);
	broker_client_configure(getenv(BROKER_VARIABLE));
	if (spare_exec_given(getenv(SPARE_VARIABLE)))
		adopt_were_passed();
	unsetenv(SPARE_VARIABLE); /* of this program alone */
}

void shim_stand_aside(void)
{
	shim_ready = shim_has_sockets = fdtable_used = false;
	user_ask_no_more();
	shim_process_init();
}

__attribute__((constructor)) static void shim_start(void)
{
	real_find_all();
	void *volatile first = malloc(1);
	configure();
	exec_keep_environment(environ);
	fdtable_on_release = file_release;
	shim_signals_init();
	shim_handover_init();
	shim_process_init();
	shim_exit_init();
	if (fd_any_internal()) /* the trace's: it survives a program that closes everything before its first socket */
		fdtable_used = true;
	free(first); /* an allocator that has handlers of fork has registered them by now: ours come around them (process.c) */
	shim_ready = true;
}
