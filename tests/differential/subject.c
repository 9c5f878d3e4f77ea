/*
 * The subject. One process per block of cases, forked before any of them uses TCP; the first process never does. A case
 * that ends its process (a crash in a call) or does not end is a result, and the next process goes on behind it.
 * Results lie in memory that the processes share.
 *
 * Every wait of a call has an end: WATCHDOG_MS after it began a signal comes, and again and again. A call that ended by
 * it is "late".
 */
#include "differential.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define WATCHDOG_MS 110
#define NOW_MS	    14 /* … and less: the call did not wait */
#define SOON_MS	    80
#define SETTLE_US   1500
#define CONNECT_MS  100 /* what a call has begun reaches the peer by then */

/* --- writing down --- */

void out(struct run *r, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int n = vsnprintf(r->text + r->used, TEXT_MAX - r->used, format, arguments);
	va_end(arguments);
	r->used += n < 0 ? 0 : n;
	if (r->used >= TEXT_MAX)
		r->used = TEXT_MAX - 1;
}

void out_bytes(struct run *r, const void *bytes, long n)
{
	const unsigned char *b = bytes;
	out(r, " \"");
	for (long i = 0; i < n && i < 16; i++)
		out(r, b[i] >= ' ' && b[i] < 127 ? "%c" : "\\%02x", b[i]);
	out(r, n > 16 ? "…\"" : "\"");
}

static const char *port_name(struct run *r, unsigned port)
{
	return port == 0 ? "0" : port == r->peer_port ? "peer" : port == r->own_port ? "own" : "some";
}

/* Whose address it is, not which; what lies beyond `room` must be as it was. */
void out_address(struct run *r, const struct sockaddr_storage *a, socklen_t length, socklen_t room)
{
	char host[64] = "";
	bool whole = (int)room >= (int)length;
	out(r, " length=%d", (int)length);
	if (!whole || length < sizeof(struct sockaddr_in)) {
		out_bytes(r, a, 2);
		return;
	}
	inet_ntop(a->ss_family, a->ss_family == AF_INET ? (void *)&((struct sockaddr_in *)a)->sin_addr : (void *)&((struct sockaddr_in6 *)a)->sin6_addr, host,
		  sizeof host);
	out(r, " %d:%s:%s", a->ss_family, host, port_name(r, ntohs(((struct sockaddr_in *)a)->sin_port)));
}

/* --- timing a call --- */

static volatile sig_atomic_t pipe_signals, ticks;
static struct timespec began;

static void on_alarm(int number)
{
	ticks++;
}

static void on_pipe(int number)
{
	pipe_signals++;
}

static void watchdog(int milliseconds)
{
	struct itimerval t = {{0, milliseconds * 1000}, {0, milliseconds * 1000}};
	setitimer(ITIMER_REAL, &t, NULL);
}

bool calls_are_untimed;

void call_begins(void)
{
	pipe_signals = 0;
	watchdog(WATCHDOG_MS);
	clock_gettime(CLOCK_MONOTONIC, &began);
	errno = 0;
}

void call_ends(struct run *r, const char *name, long result)
{
	int error = errno;
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	watchdog(0);
	long ms = (t.tv_sec - began.tv_sec) * 1000 + (t.tv_nsec - began.tv_nsec) / 1000000;
	out(r, " | %s=%ld", name, result);
	if (result < 0)
		out(r, " %s", error ? strerrorname_np(error) : "without errno");
	if (pipe_signals)
		out(r, " SIGPIPE");
	if (ms >= NOW_MS && !calls_are_untimed)
		out(r, ms < SOON_MS ? " soon" : " late");
}

void settle(void)
{
	usleep(SETTLE_US);
}

/* --- the peer --- */

struct peer_reply peer_does(struct run *r, int op, int arg, unsigned port)
{
	struct peer_request q = {op, arg, r->family, port};
	struct peer_reply a = {.result = -EPIPE};
	if (send(r->control, &q, sizeof q, MSG_NOSIGNAL) != sizeof q || recv(r->control, &a, sizeof a, 0) != sizeof a) {
		fprintf(stderr, "subject: the peer is gone\n");
		_exit(98);
	}
	return a;
}

static void see(struct run *r, const char *when)
{
	bool on_its_way = strstr(r->text, "EINPROGRESS") != NULL;
	struct peer_reply a = peer_does(r, PEER_SEE, on_its_way ? CONNECT_MS : 0, 0);
	out(r, " | %s: %s", when, a.text);
}

int control_to(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&un, sizeof un) < 0) {
		perror("subject: control");
		_exit(98);
	}
	return fd;
}

/* --- who carries it --- */

/* The kernel, asked past every wrapper: does this descriptor hold a TCP connection of its own? */
static long bare_getsockopt(int fd, int level, int number, void *value, socklen_t *length)
{
#if defined __x86_64__
	register void *r10 __asm__("r10") = value;
	register socklen_t *r8 __asm__("r8") = length;
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "a"(SYS_getsockopt), "D"((long)fd), "S"((long)level), "d"((long)number), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
	return result;
#elif defined __aarch64__
	register long x0 __asm__("x0") = fd, x8 __asm__("x8") = SYS_getsockopt;
	register long x1 __asm__("x1") = level, x2 __asm__("x2") = number;
	register void *x3 __asm__("x3") = value;
	register socklen_t *x4 __asm__("x4") = length;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x8) : "memory");
	return x0;
#else
#error "a system call without libc, for this architecture"
#endif
}

void note_carrier(struct run *r, int fd)
{
	struct tcp_info i = {0};
	socklen_t n = sizeof i;
	r->carrier = bare_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &n) == 0 && i.tcpi_state == TCP_ESTABLISHED ? 'k' : 'e';
}

/* --- a case --- */

void *unmapped, *read_only;
const char *peer_v4, *peer_v6, *own_v4, *own_v6, *hole_v4, *hole_v6;
static struct result *current;

/* The process ends with the case: nobody knows what state it is in. */
_Noreturn void give_up(struct run *r, const char *what)
{
	out(r, " | CANNOT: %s: %s", what, strerrorname_np(errno));
	current->done = true;
	kill(getpid(), SIGKILL);
	_exit(97);
}

void subject_prepare(void)
{
	struct sigaction alarm = {.sa_handler = on_alarm}, pipe = {.sa_handler = on_pipe};
	sigaction(SIGALRM, &alarm, NULL);
	sigaction(SIGPIPE, &pipe, NULL);
	/* A page lies before it. */
	unmapped = (char *)mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + 4096;
	mprotect(unmapped, 4096, PROT_NONE);
	read_only = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	dup2(open("/dev/null", O_RDWR), STDIN_FILENO);
}

void run_case(const struct test_case *c, struct result *result, int control)
{
	struct run r = {.fd = -1,
			.family = c->state->flags & STATE_V6 ? AF_INET6 : AF_INET,
			.nonblocking = c->nonblocking,
			.carrier = '-',
			.option = c->option,
			.ending = c->ending,
			.control = control,
			.text = result->text};
	current = result;
	result->text[0] = 0;
	c->state->build(&r, c->state->arg);
	result->carrier = r.carrier;
	if (c->nonblocking)
		fcntl(r.fd, F_SETFL, fcntl(r.fd, F_GETFL) | O_NONBLOCK);
	c->first->make(&r, c->first->a, c->first->b);
	if (c->second)
		c->second->make(&r, c->second->a, c->second->b);
	if (r.peer_has || c->second || c->first->flags & CALL_STEPS || strstr(c->first->name, "connect") || strstr(c->first->name, "fastopen"))
		see(&r, "peer");
	/* A close that waits is a result; one that does not is silent. */
	call_begins();
	int n = r.fd >= 0 && strcmp(c->state->name, "closed") != 0 ? close(r.fd) : 0;
	call_ends(&r, "end", n);
	if (r.peer_has)
		see(&r, "then");
	peer_does(&r, PEER_DROP, 0, 0);
	result->done = true;
}
