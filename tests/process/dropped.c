/*
 * A server that drops its privilege, and what it does afterwards that the engine needs privilege for.
 *
 *   dropped WHEN HOW PORT    WHEN: `before` it makes its listening socket, or `after`.
 *                            HOW: setuid, seteuid, setreuid, setresuid, setuid_by_number, capset, capset_by_number,
 *                            keepcaps, chroot, new_user, threads;
 *                            seccomp: it allows all, but the engine cannot know.
 *                            Then it accepts for ever. A connection says one word, and gets one:
 *                              echo        "echo"
 *                              fork        a forked child answers
 *                              exec        a program that has the connection answers
 *                              pass        a process that was passed the connection answers, here after the client's end of file
 *                              crowd       the same; before, it could not be passed, since too many descriptors of the user's were under way
 *                              full        it cannot be passed, since no number is left; the last word that the server understands
 *                              connect IP  it connects to port 7000 there, and says how that ended
 *                              who         the users of its threads, each once
 *   dropped answer FD WORD   the program of `exec`
 *   dropped ask IP PORT WORD...   prints the answer; the connection's sending half is closed by then for the words that begin with a capital letter
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY  65534
#define WAIT_S  10
#define WORD    128
#define OTHER_PORT 7000
#define MESSAGE_MAX 253 /* descriptors: SCM_MAX_FD */
#define CROWD       300

extern char **environ;
int capset(void *header, const void *data); /* of libc, in no header of its own */

static int is(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

static void must(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

/* ---- dropping ---- */

static void *sleeper(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static void set_capabilities(int by_number)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}, {0}};
	must((by_number ? syscall(SYS_capset, &h, none) : capset(&h, none)) == 0, "capset");
}

static void restrict_calls(void)
{
	struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog prog = {.len = 1, .filter = all};
	must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0, "seccomp");
}

/* A directory that is empty, and gone with the process. */
static int enter_empty_root(void)
{
	char dir[] = "/tmp/droppedXXXXXX";
	return !mkdtemp(dir) || chdir(dir) || rmdir(dir) || chroot(".");
}

static void drop(const char *how)
{
	pthread_t t;
	int r = 0;
	if (is(how, "setuid"))
		r = setuid(NOBODY);
	else if (is(how, "seteuid"))
		r = seteuid(NOBODY);
	else if (is(how, "setreuid"))
		r = setreuid(NOBODY, NOBODY);
	else if (is(how, "setresuid"))
		r = setresuid(NOBODY, NOBODY, NOBODY);
	else if (is(how, "setuid_by_number"))
		r = syscall(SYS_setuid, NOBODY);
	else if (is(how, "capset") || is(how, "capset_by_number"))
		set_capabilities(is(how, "capset_by_number"));
	else if (is(how, "keepcaps")) /* as a server that keeps a capability does; the second setuid differs for a thread that was left behind */
		r = prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || setresuid(NOBODY, NOBODY, 0) || (set_capabilities(0), 0) || setuid(NOBODY);
	else if (is(how, "chroot"))
		r = enter_empty_root() || setuid(NOBODY);
	else if (is(how, "new_user"))
		r = unshare(CLONE_NEWUSER);
	else if (is(how, "threads"))
		r = pthread_create(&t, NULL, sleeper, NULL) || setuid(NOBODY);
	else if (is(how, "nothing"))
		r = 0;
	else if (is(how, "seccomp"))
		restrict_calls();
	must(r == 0, how);
}

/* The users of all threads, each once: "0", or "65534", or both. */
static void who(char *out)
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	strcpy(out, d ? "" : "no /proc");
	while (d && (e = readdir(d))) {
		char path[300], line[WORD], uid[24] = "";
		snprintf(path, sizeof path, "/proc/self/task/%s/status", e->d_name);
		FILE *f = fopen(path, "r");
		while (f && fgets(line, sizeof line, f)) {
			unsigned long long effective;
			if (sscanf(line, "CapEff: %llx", &effective) == 1)
				snprintf(uid, sizeof uid, "%s", effective ? "privileged" : "dropped");
		}
		if (f)
			fclose(f);
		if (uid[0] && !strstr(out, uid))
			sprintf(out + strlen(out), "%s%s", out[0] ? " " : "", uid);
	}
	if (d)
		closedir(d);
}

/* ---- serving ---- */

static void bound(int fd)
{
	struct timeval tv = {.tv_sec = WAIT_S};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
}

static void answer(int c, const char *word)
{
	char end;
	bound(c);
	/* Who has shut down is at its end; a connection that was not handed over rightly says something else. */
	if (isupper((unsigned char)word[0]) && read(c, &end, 1) != 0)
		word = "no end of file";
	if (write(c, word, strlen(word)) < 0)
		perror("answer");
}

union numbers {
	char buf[CMSG_SPACE(MESSAGE_MAX * sizeof(int))];
	struct cmsghdr align;
};

static int send_numbers(int via, int fd, unsigned times)
{
	char byte = 0;
	union numbers control = {0};
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = CMSG_SPACE(times * sizeof fd)};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(times * sizeof fd);
	for (unsigned i = 0; i < times; i++)
		memcpy(CMSG_DATA(h) + i * sizeof fd, &fd, sizeof fd);
	return sendmsg(via, &m, MSG_DONTWAIT) == 1 ? 0 : errno;
}

static int receive_number(int via)
{
	char byte;
	int fd;
	union numbers control;
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof control.buf};
	must(recvmsg(via, &m, 0) == 1 && CMSG_FIRSTHDR(&m), "receiving");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
	return fd;
}

static void pass(int c, const char *word)
{
	int pair[2];
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair");
	must(send_numbers(pair[0], c, 1) == 0, "passing");
	int got = receive_number(pair[1]);
	answer(got, word);
	close(got);
	close(pair[0]);
	close(pair[1]);
}

/*
 * The limit is of all that a user's processes have under way, and each is held to its own; so low that this one's does
 * not concern others.
 */
static void pass_in_crowd(int c, const char *word)
{
	int pair[2], err;
	struct rlimit before, low;
	must(getrlimit(RLIMIT_NOFILE, &before) == 0, "getrlimit");
	low = (struct rlimit){CROWD, before.rlim_max};
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && setrlimit(RLIMIT_NOFILE, &low) == 0, "a low limit");
	do
		err = send_numbers(pair[0], 2, MESSAGE_MAX);
	while (!err);
	must(err == ETOOMANYREFS, "a crowd");
	err = send_numbers(pair[0], c, 1);
	close(pair[0]);
	close(pair[1]);
	must(setrlimit(RLIMIT_NOFILE, &before) == 0, "the limit again");
	if (err == ETOOMANYREFS)
		pass(c, word);
	else
		answer(c, err ? strerrorname_np(err) : "passed");
}

/* For good: the hard limit is lowered, too, so nobody gets another number here. */
static void pass_when_full(int c, const char *word)
{
	int pair[2];
	struct rlimit low = {CROWD, CROWD};
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && setrlimit(RLIMIT_NOFILE, &low) == 0, "a low limit");
	while (dup(c) >= 0)
		;
	int err = send_numbers(pair[0], c, 1);
	answer(c, err == ETOOMANYREFS ? word : err ? strerrorname_np(err) : "passed");
}

static void exec_answer(int c, const char *word)
{
	char fd[16];
	char *argv[] = {"dropped", "answer", fd, (char *)word, NULL};
	sprintf(fd, "%d", c);
	execve("/proc/self/exe", argv, environ);
	perror("exec");
	_exit(1);
}

static void connect_elsewhere(int c, const char *ip)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(OTHER_PORT)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	inet_pton(AF_INET, ip, &to.sin_addr);
	int r = connect(fd, (struct sockaddr *)&to, sizeof to);
	answer(c, r == 0 ? "connected" : strerrorname_np(errno));
	close(fd);
}

static void serve_one(int c)
{
	char word[WORD] = "", users[WORD];
	bound(c);
	ssize_t n = read(c, word, sizeof word - 1);
	if (n <= 0)
		return;
	int child = strcasecmp(word, "fork") && strcasecmp(word, "exec") ? -1 : fork();
	if (child == 0) {
		if (strcasecmp(word, "exec") == 0)
			exec_answer(c, word);
		answer(c, word);
		_exit(0);
	}
	if (child > 0)
		waitpid(child, NULL, 0);
	else if (strcasecmp(word, "pass") == 0)
		pass(c, word);
	else if (strcasecmp(word, "crowd") == 0)
		pass_in_crowd(c, word);
	else if (is(word, "full"))
		pass_when_full(c, word);
	else if (strncmp(word, "connect ", 8) == 0)
		connect_elsewhere(c, word + 8);
	else if (is(word, "who"))
		who(users), answer(c, users);
	else
		answer(c, word);
}

static int listen_on(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	int one = 1, l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	must(bind(l, (struct sockaddr *)&a, sizeof a) == 0 && listen(l, 16) == 0, "listen");
	return l;
}

static void serve(const char *when, const char *how, int port)
{
	int l = -1;
	if (is(when, "after"))
		l = listen_on(port);
	drop(how);
	if (l < 0)
		l = listen_on(port);
	for (;;) {
		int c = accept(l, NULL, NULL);
		must(c >= 0, "accept");
		serve_one(c);
		close(c);
	}
}

static int ask(const char *ip, int port, const char *word, const char *more)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	char out[WORD], in[WORD] = "";
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	inet_pton(AF_INET, ip, &to.sin_addr);
	bound(fd);
	snprintf(out, sizeof out, "%s%s%s", word, more ? " " : "", more ? more : "");
	if (connect(fd, (struct sockaddr *)&to, sizeof to) || write(fd, out, strlen(out)) < 0) {
		puts(strerrorname_np(errno));
		return 1;
	}
	if (isupper((unsigned char)word[0]))
		shutdown(fd, SHUT_WR);
	ssize_t n = read(fd, in, sizeof in - 1);
	puts(n > 0 ? in : n == 0 ? "end" : strerrorname_np(errno));
	return 0;
}

int main(int argc, char **argv)
{
	alarm(1800); /* the peer is needed until the test ends */
	if (argc == 4 && is(argv[1], "answer"))
		return answer(atoi(argv[2]), argv[3]), 0;
	if (argc >= 5 && is(argv[1], "ask"))
		return ask(argv[2], atoi(argv[3]), argv[4], argc > 5 ? argv[5] : NULL);
	if (argc == 4)
		serve(argv[1], argv[2], atoi(argv[3]));
	return 2;
}
