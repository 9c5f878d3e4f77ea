/*
 * What the kernel may take long to tell of the host's rules is read by a thread of its own: neither the engine's lock
 * nor the helper may be held up so long.
 *
 *   - The rules, where they are tens of thousands (a cluster's node, long lists of banned addresses): some 100 ms.
 *   - What nobody tells of (firewall_see): the kernel lets who asks wait for its lock of the network, 100s of ms where
 *     namespaces come and go. And the broker may be late.
 *
 * The thread takes no lock of the engine's. When it has read, it lets the timer expire whose handler then takes what
 * was read. All signals are blocked in it. It is there for the next job, too, and ends when none comes for some time: a
 * thread's end is an RCU grace period, and those wake threads of the kernel on a CPU that a server's thread is about to
 * be woken on. It would be put behind its client on another one, for ms. The functions need the engine's lock. A fork's
 * child has no thread, and forgets the reader.
 */
#ifndef FINESSE_SOCKET_RULES_READER_H
#define FINESSE_SOCKET_RULES_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct firewall;
struct firewall_look;
struct firewall_sight;
struct rules_reader;

/*
 * It reads the rules. `resting`: what rules_reader_take left of the job before, which is used up; or NULL. `timer_fd`
 * stays open until rules_reader_end. NULL: there is no memory, or no thread.
 */
struct rules_reader *rules_reader_begin(struct rules_reader *resting, int timer_fd);
/*
 * It sees what the sight asks about, and asks the broker what it may not see itself (privileged_look_begin's
 * `broker_fd`; negative: nobody). `look` is its own until it is done. `generation`: of the rules, as the broker told it
 * last.
 */
struct rules_reader *rules_reader_begin_look(struct rules_reader *resting, int timer_fd, const struct firewall_sight *sight, struct firewall_look *look, int broker_fd,
					     uint32_t generation);
/* What it has seen, when it is done; NULL: it reads the rules. */
const struct firewall_sight *rules_reader_saw(const struct rules_reader *r, uint32_t *generation);
bool rules_reader_is_done(const struct rules_reader *r);
/* Of one that is done: as firewall_read; nothing of one that looked. It rests, for the next job. */
int rules_reader_take(struct rules_reader *r, struct firewall **out, char *why, size_t why_len);
/*
 * Until it is done, but for the broker only some ms: what it then says counts as unanswered. Afterwards the process has
 * no thread of it.
 */
void rules_reader_join(struct rules_reader *r);
/* Waits, and frees it with what it read. NULL: nothing. */
void rules_reader_end(struct rules_reader *r);
/* In a fork's child. NULL: nothing. */
void rules_reader_forget(struct rules_reader *r);

#endif
