/*
 * Log lines to standard error: "finesse: component: text". Off the hot path; a disabled line costs
 * one comparison. Thread-safe (one write per line). Level: setting `log`, level[,component…].
 *
 * Descriptor 2 need not be standard error for ever: a daemon closes it, and the next file or connection
 * of the program has its number. A line goes there only while it is the file that it was at
 * log_configure, or one that a program makes its log: a terminal or device, or a file opened to append.
 * A reader that is gone (SIGPIPE) does not end the program.
 */
#ifndef FINESSE_BASE_LOG_H
#define FINESSE_BASE_LOG_H

#include <stdbool.h>

/* Each line is of one of them: what stands first in log_*(). */
#define LOG_COMPONENTS "address, broker, claim, classifier, engine, exceptions, fallback, firewall, group, handover, helper, judge, listen, netstate, options, ports, privilege, ready, requeue, settings, trace"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* "error|warn|info|debug[,component…]". 0, or -EINVAL and nothing changes but what standard error is. */
int log_configure(const char *setting);
bool log_enabled(enum log_level level, const char *component);
void log_write(enum log_level level, const char *component, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Is descriptor 2 such a file now, and one that somebody may read? Of what can be told once only. */
bool log_is_read(void);

/* News that a person at a terminal sees at the level `warn`, too. */
bool log_notice_enabled(const char *component);

#define log_line(level, component, ...)                                                            \
	do {                                                                                       \
		if (log_enabled(level, component))                                                 \
			log_write(level, component, __VA_ARGS__);                                  \
	} while (0)
#define log_error(component, ...) log_line(LOG_LEVEL_ERROR, component, __VA_ARGS__)
#define log_warn(component, ...)  log_line(LOG_LEVEL_WARN, component, __VA_ARGS__)
#define log_notice(component, ...)                                                                 \
	do {                                                                                       \
		if (log_notice_enabled(component))                                                 \
			log_write(LOG_LEVEL_INFO, component, __VA_ARGS__);                         \
	} while (0)
#define log_info(component, ...)  log_line(LOG_LEVEL_INFO, component, __VA_ARGS__)
#define log_debug(component, ...) log_line(LOG_LEVEL_DEBUG, component, __VA_ARGS__)

#endif
