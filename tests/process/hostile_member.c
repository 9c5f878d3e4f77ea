/*
 * Asks the broker for what it must not give: who knows no token, who knows it and sends nonsense, and who asks too
 * often. hostile_member VALUE, the variable's value. One line for each case; the status is 1 when one failed.
 */
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "kernel/bpf_sys.h"
#include "kernel/classifier_group.h"
#include "process/broker.h"

#define STRANGERS 200
#define CLOSED    1 /* the broker ended the connection; its answers are 0 or negative here */

static char name[BROKER_NAME_LEN + 1];
static uint8_t token[BROKER_TOKEN_BYTES];
static int failures;

static void expect(const char *what, int found, int expected)
{
	printf("%s: %s: %d\n", found == expected ? "ok" : "FAILED", what, found);
	failures += found != expected;
}

static int stranger(void)
{
	struct timeval wait = {.tv_sec = 10};
	struct sockaddr_un addr;
	socklen_t len = broker_address(name, &addr);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
	if (connect(fd, (struct sockaddr *)&addr, len))
		return -1;
	return fd;
}

static struct broker_request request(enum broker_op op)
{
	struct broker_request r;
	memset(&r, 0, sizeof r);
	r.op = op;
	r.id = 7;
	return r;
}

static int member(void)
{
	struct broker_request hello = request(BROKER_HELLO);
	int fd = stranger();
	memcpy(hello.token, token, sizeof token);
	broker_send(fd, &hello, sizeof hello, NULL, 0);
	return fd;
}

/* What is answered to `len` bytes, with `n` times the descriptor `along`. *came: descriptors. */
static int answer_to(int fd, const void *msg, size_t len, int along, int n, int *came)
{
	struct broker_fds out = {.n = n}, in = {.n = 0};
	struct broker_answer a;
	for (int i = 0; i < n; i++)
		out.fd[i] = along;
	int err = broker_send(fd, msg, len, &out, 0);
	long got = err ? err : broker_receive(fd, &a, sizeof a, &in, 0);
	for (int i = 0; i < in.n; i++)
		close(in.fd[i]);
	if (came)
		*came = in.n;
	if (got == 0 || got == -ECONNRESET || got == -EPIPE)
		return CLOSED;
	return got == sizeof a ? a.result : got < 0 ? (int)got : -EBADMSG;
}

static int once(int fd, struct broker_request r, int along)
{
	int result = answer_to(fd, &r, sizeof r, along, along >= 0, NULL);
	close(fd);
	return result;
}

static void strangers(void)
{
	struct broker_request r = request(BROKER_LINK);
	int fds[STRANGERS];
	expect("a link for who said no token", once(stranger(), r, -1), CLOSED);
	r = request(BROKER_HELLO);
	memcpy(r.token, token, sizeof token);
	r.token[BROKER_TOKEN_BYTES - 1] ^= 1;
	expect("a token that differs in one bit", once(stranger(), r, -1), CLOSED);
	int fd = stranger();
	expect("a token of half the length", answer_to(fd, &r, sizeof r / 2, -1, 0, NULL), CLOSED);
	close(fd);
	for (int i = 0; i < STRANGERS; i++)
		fds[i] = stranger();
	fd = member();
	r = request(BROKER_TIME_WAIT);
	expect("a member beside two hundred who say nothing", answer_to(fd, &r, sizeof r, -1, 0, NULL) <= 0, 1);
	close(fd);
	for (int i = 0; i < STRANGERS; i++)
		close(fds[i]);
}

static void nonsense(void)
{
	char large[4096] = {0};
	struct broker_request r = request(BROKER_LINK);
	int fd = member();
	expect("a request that is cut off", answer_to(fd, &r, sizeof r - 1, -1, 0, NULL), CLOSED);
	close(fd);
	fd = member();
	memcpy(large, &r, sizeof r);
	expect("a request that is too long", answer_to(fd, large, sizeof large, -1, 0, NULL), CLOSED);
	close(fd);
	expect("an operation that does not exist", once(member(), request(999), -1), CLOSED);
	expect("a table that is none", once(member(), request(BROKER_TABLE), 0), CLOSED);
	expect("a ring that is none", once(member(), request(BROKER_RING), 0), CLOSED);
	r.link.ifindex = 99999;
	expect("a link on no interface", once(member(), r, -1) < 0, 1);
}

/* In namespaces of its own, where it may have a packet socket. How many requests were sent; -1: it may not. */
static int send_rings(int fd)
{
	struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_ifindex = 1}; /* lo */
	struct broker_request ring = request(BROKER_RING);
	struct broker_fds out = {.n = 1}, none = {.n = 0};
	int sent = 0;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET))
		return -1;
	out.fd[0] = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (bind(out.fd[0], (struct sockaddr *)&at, sizeof at))
		return -1;
	for (int i = 0; i < BROKER_RINGS_MAX + 1; i++)
		sent += broker_send(fd, &ring, sizeof ring, &out, 0) == 0;
	return sent + (broker_send(fd, &ring, sizeof ring, &none, 0) == 0);
}

/* A member with many interfaces, or a broker that is out of descriptors: no fault of the member's. */
static void rings(void)
{
	struct broker_request r = request(BROKER_TIME_WAIT);
	int fd = member(), status = -1;
	pid_t child = fork();
	if (child == 0)
		_exit(send_rings(fd) & 0xff);
	waitpid(child, &status, 0);
	expect("rings beyond what is kept, and one without its descriptor, were sent", WEXITSTATUS(status), BROKER_RINGS_MAX + 2);
	expect("their member is served", answer_to(fd, &r, sizeof r, -1, 0, NULL) <= 0, 1);
	close(fd);
}

static void sockets(void)
{
	int udp = socket(AF_INET, SOCK_DGRAM, 0), tcp = socket(AF_INET, SOCK_STREAM, 0);
	struct broker_request r = request(BROKER_REPAIR);
	r.repair.value = TCP_REPAIR_ON;
	expect("repair of nothing", once(member(), r, -1), -ENOTSOCK);
	expect("repair of a file", once(member(), r, STDOUT_FILENO), -ENOTSOCK);
	expect("repair of a UDP socket", once(member(), r, udp), -ENOTSOCK);
	int fd = member();
	expect("repair of two sockets", answer_to(fd, &r, sizeof r, tcp, 2, NULL), -ENOTSOCK);
	close(fd);
	r.repair.value = 77;
	expect("repair by a value of no meaning", once(member(), r, tcp), -EINVAL);
	r.repair.value = TCP_REPAIR_OFF;
	r.repair.addr_len = sizeof(struct sockaddr_in);
	expect("bind of a socket that leaves repair", once(member(), r, tcp), -EINVAL);
	r.repair.value = TCP_REPAIR_ON;
	r.repair.addr_len = ~0u;
	expect("bind to an address of 4 GB", once(member(), r, tcp), -EINVAL);
	r = request(BROKER_FIN);
	r.data.len = ~0u;
	expect("a FIN of 4 GB", once(member(), r, tcp), -EPERM);
	r.data.len = sizeof r.data.bytes;
	expect("a FIN that is none", once(member(), r, tcp), -EPERM);
	close(udp);
	close(tcp);
}

static void groups(void)
{
	struct broker_request r = request(BROKER_GROUP);
	int fd = member(), made = 0, came, result = 0;
	while (made <= BROKER_GROUPS_MAX && (result = answer_to(fd, &r, sizeof r, -1, 0, &came)) == 0 && came == CLASSIFIER_GROUP_FDS)
		made++;
	expect("groups for one member", made, BROKER_GROUPS_MAX);
	expect("one more", result, -ENOSPC);
	close(fd);
}

/* What is told of a slot is not answered: so a second request follows. */
static int joined(const struct broker_fds *maps, uint32_t slot, uint32_t generation)
{
	struct broker_request r = request(BROKER_JOINED), next = request(BROKER_TIME_WAIT);
	int fd = member();
	r.joined = (struct broker_slot){.slot = slot, .generation = generation};
	broker_send(fd, &r, sizeof r, maps, 0);
	int result = once(fd, next, -1);
	return result == CLOSED ? CLOSED : 0;
}

static void slots(void)
{
	struct broker_fds files = {.fd = {STDOUT_FILENO, STDOUT_FILENO}, .n = 2}, maps = {.n = 0}, swapped;
	struct broker_request r = request(BROKER_GROUP);
	struct broker_answer a;
	int fd = member();
	broker_send(fd, &r, sizeof r, NULL, 0);
	if (broker_receive(fd, &a, sizeof a, &maps, 0) != sizeof a || maps.n != CLASSIFIER_GROUP_FDS)
		return expect("a group", 0, 1);
	int made = maps.n;
	maps.n = 2;
	swapped = (struct broker_fds){.fd = {maps.fd[1], maps.fd[0]}, .n = 2};
	expect("a slot of what is no map", joined(&files, 0, 1), CLOSED);
	expect("a slot of maps in the wrong order", joined(&swapped, 0, 1), CLOSED);
	expect("a slot beyond the last", joined(&maps, CLASSIFIER_GROUP_SLOTS, 1), CLOSED);
	expect("a slot that nobody can have", joined(&maps, 0, 2), CLOSED);
	expect("a slot of a group that nobody serves", joined(&maps, 0, 1), 0);
	for (int i = 0; i < made; i++)
		close(maps.fd[i]);
	close(fd);
}

static void passed(void)
{
	int udp = socket(AF_INET, SOCK_DGRAM, 0), tcp = socket(AF_INET, SOCK_STREAM, 0), pair[2], fd = member();
	struct broker_request r = request(BROKER_PASSED), next = request(BROKER_TIME_WAIT);
	struct broker_fds out = {.fd = {tcp, udp, udp}, .n = 3};
	socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair);
	broker_send(fd, &r, sizeof r, &out, 0);
	expect("a spare queue of a socket that does not listen", once(fd, next, -1), CLOSED);
	listen(tcp, 1);
	fd = member();
	broker_send(fd, &r, sizeof r, &out, 0);
	expect("a spare queue that is none", once(fd, next, -1), CLOSED);
	fd = member();
	out = (struct broker_fds){.fd = {tcp, pair[0], pair[1]}, .n = 3};
	broker_send(fd, &r, sizeof r, &out, 0);
	next = request(BROKER_SPARE);
	expect("the spare queue of another socket", answer_to(fd, &next, sizeof next, udp, 1, NULL), -ENOENT);
	expect("… and of this one", answer_to(fd, &next, sizeof next, tcp, 1, NULL), 0);
	close(fd);
	close(udp);
	close(tcp);
	close(pair[0]);
	close(pair[1]);
}

/* What came along with the answer to `r`. */
static struct broker_fds given(int fd, struct broker_request r)
{
	struct broker_fds in = {.n = 0};
	struct broker_answer a;
	broker_send(fd, &r, sizeof r, NULL, 0);
	if (broker_receive(fd, &a, sizeof a, &in, 0) != sizeof a || a.result < 0)
		in.n = 0;
	return in;
}

static void give_back(const struct broker_fds *fds)
{
	for (int i = 0; i < fds->n; i++)
		close(fds->fd[i]);
}

/*
 * Maps entered in maps of maps: `said` pairs, of which `n` descriptors come along; waited for until so many µs from
 * now.
 */
static int entered(int fd, uint32_t said, uint32_t key, const int *fds, int n, int64_t wait_us)
{
	struct broker_request r = request(BROKER_ENTER);
	struct broker_fds out = {.n = n};
	struct broker_answer a;
	r.enter.n = said;
	r.enter.until_us = clock_now_us() + wait_us;
	for (int i = 0; i < PRIVILEGED_ENTER_MAX; i++)
		r.enter.key[i] = key + i;
	for (int i = 0; i < n; i++)
		out.fd[i] = fds[i];
	if (broker_send(fd, &r, sizeof r, &out, 0))
		return CLOSED;
	long got = broker_receive(fd, &a, sizeof a, &out, 0);
	return got == sizeof a ? a.result : CLOSED;
}

/* The first of them, from `*i` on, that is a map of maps; -1: none. */
static int map_of_maps(const struct broker_fds *fds, int *i)
{
	for (; *i < fds->n; ++*i)
		if (bpf_map_is(fds->fd[*i], BPF_MAP_TYPE_ARRAY_OF_MAPS, sizeof(uint32_t), sizeof(uint32_t)))
			return fds->fd[(*i)++];
	return -1;
}

#define IN_TIME 60000000
#define TURNS   40 /* more than the broker has calls under way at a time */

static void enter_wrong(int fd, int outer, const int *maps)
{
	const int file = STDOUT_FILENO, members = maps[0], flows = maps[1];
	const int right[] = {outer, members, outer, members, outer, members, outer, members};
	expect("to enter nothing", entered(fd, 0, 0, NULL, 0, IN_TIME), -EINVAL);
	expect("half a pair", entered(fd, 1, 0, right, 1, IN_TIME), -EINVAL);
	expect("a pair and a half", entered(fd, 1, 0, right, 3, IN_TIME), -EINVAL);
	expect("a pair that is said to be two", entered(fd, 2, 0, right, 2, IN_TIME), -EINVAL);
	expect("… and 2^31 + 1", entered(fd, 0x80000001, 0, right, 2, IN_TIME), -EINVAL);
	expect("more pairs than are taken", entered(fd, 4, 0, right, 8, IN_TIME), -EINVAL);
	expect("in a file", entered(fd, 1, 0, (int[]){file, members}, 2, IN_TIME), -EINVAL);
	expect("in a map that is no map of maps", entered(fd, 1, 0, (int[]){members, members}, 2, IN_TIME), -EINVAL);
	expect("in the other order", entered(fd, 1, 0, (int[]){members, outer}, 2, IN_TIME), -EINVAL);
	expect("what is no map", entered(fd, 1, 0, (int[]){outer, file}, 2, IN_TIME), -EINVAL);
	expect("a map of another kind", entered(fd, 1, 0, (int[]){outer, flows}, 2, IN_TIME), -EINVAL);
	expect("a map of maps", entered(fd, 1, 0, (int[]){outer, outer}, 2, IN_TIME), -EINVAL);
	expect("beyond the last", entered(fd, 1, ~0u, (int[]){outer, members}, 2, IN_TIME), -E2BIG);
	expect("right, but too late", entered(fd, 1, 0, right, 2, 0), -ETIMEDOUT);
	expect("none of these was entered", bpf_map_holds(outer, 0, members), false);
}

static void enters(void)
{
	struct broker_request r = request(BROKER_LINK);
	r.link.ifindex = if_nametoindex("server0");
	int fd = member(), i = 2, outer, there = 0;
	struct broker_fds link = given(fd, r), a = given(fd, request(BROKER_GROUP)), b = given(fd, request(BROKER_GROUP));
	expect("a link, and two groups", link.n == BROKER_FDS_MAX && a.n == CLASSIFIER_GROUP_FDS && b.n == CLASSIFIER_GROUP_FDS, 1);
	while ((outer = map_of_maps(&link, &i)) >= 0 && entered(fd, 1, 1, (int[]){outer, a.fd[0]}, 2, IN_TIME))
		;
	expect("a group's map where it belongs", outer >= 0 && bpf_map_holds(outer, 1, a.fd[0]), 1);
	enter_wrong(fd, outer, a.fd);
	for (int turn = 0; turn < TURNS; turn++) {
		int inner = turn % 2 ? a.fd[0] : b.fd[0];
		there += entered(fd, 1, 1, (int[]){outer, inner}, 2, IN_TIME) == 0 && bpf_map_holds(outer, 1, inner);
	}
	expect("two in turns, each there when that is answered", there, TURNS);
	expect("three times the same", entered(fd, 3, 2, (int[]){outer, a.fd[0], outer, a.fd[0], outer, a.fd[0]}, 6, IN_TIME), 0);
	give_back(&link);
	give_back(&a);
	give_back(&b);
	close(fd);
}

int main(int argc, char **argv)
{
	bool all = argc == 2;
	if (argc < 2 || (!all && strcmp(argv[2], "strangers")) || !broker_parse(argv[1], name, token))
		return 2;
	strangers();
	if (!all)
		return failures > 0;
	nonsense();
	rings();
	sockets();
	groups();
	slots();
	passed();
	enters();
	return failures > 0;
}
