/*
 * process/broker_client.c beside a broker that hangs, refuses or has ended: who is asked, when again, and who waits.
 * The broker is a listening socket of the test's, the clock is the test's, and what the broker says lies there before
 * it is asked.
 */
#include "process/broker.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/time.h"
#include "kernel/privileged.h"
#include "tests/suite.h"

#define SILENT_S 5 /* as broker_client.c has it */

static char value[BROKER_VALUE_LEN + 1], name[BROKER_NAME_LEN + 1];
static uint8_t token[BROKER_TOKEN_BYTES];
static int listening;
static time_t now = 1000;

static int at_now(clockid_t clock, struct timespec *ts)
{
	(void)clock;
	*ts = (struct timespec){.tv_sec = now};
	return 0;
}

static void broker_listens(int backlog)
{
	struct sockaddr_un addr;
	socklen_t len = broker_address(name, &addr);
	listening = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	ck_assert_int_eq(bind(listening, (struct sockaddr *)&addr, len), 0);
	ck_assert_int_eq(listen(listening, backlog), 0);
}

static void setup(void)
{
	snprintf(value, sizeof value, "%016x%032x", getpid(), 1);
	ck_assert(broker_parse(value, name, token));
	clock_use(at_now);
	broker_listens(8);
	broker_client_configure(value);
}

/* A connection that a member has made, and its first word. */
static int member(void)
{
	struct broker_request r;
	int fd = accept(listening, NULL, NULL);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(recv(fd, &r, sizeof r, 0), sizeof r);
	ck_assert_int_eq(r.op, BROKER_HELLO);
	ck_assert_int_eq(memcmp(r.token, token, sizeof token), 0);
	return fd;
}

static bool has_member(void)
{
	struct timeval none = {.tv_usec = 0};
	fd_set set;
	FD_ZERO(&set);
	FD_SET(listening, &set);
	return select(listening + 1, &set, NULL, NULL, &none) == 1;
}

/* What it asked, and its number; 0: nothing. */
static enum broker_op asked(int fd, uint32_t *id)
{
	struct broker_request r;
	if (recv(fd, &r, sizeof r, MSG_DONTWAIT) != sizeof r)
		return 0;
	*id = r.id;
	return r.op;
}

static void answers(int fd, uint32_t id, int result)
{
	struct broker_answer a = {.id = id, .result = result, .generation = 7, .why = "it is said"};
	ck_assert_int_eq(send(fd, &a, sizeof a, 0), sizeof a);
}

static int repair(void)
{
	return privileged_repair(0, &(struct privileged_repair){.value = 1});
}

static int open_link(bool only_spare)
{
	struct privileged_link link;
	char why[BROKER_WHY_BYTES];
	return privileged_open_link(1, only_spare, &link, why, sizeof why);
}

START_TEST(one_that_hangs_is_asked_again_after_its_silence)
{
	uint32_t id;
	ck_assert_int_eq(repair(), -EPERM);
	int fd = member();
	ck_assert_int_eq(asked(fd, &id), BROKER_REPAIR);
	now += SILENT_S - 1;
	ck_assert_int_eq(repair(), -EPERM);
	ck_assert_int_eq(open_link(true), -EPERM);
	ck_assert_int_eq(privileged_look_begin(), -EPERM);
	ck_assert(!asked(fd, &id));
	ck_assert(!has_member());
	answers(fd, id, 0); /* late: it answers no other question */
	answers(fd, id + 1, -EBUSY);
	now += 1;
	ck_assert_int_eq(repair(), -EBUSY);
	ck_assert_int_eq(asked(fd, &id), BROKER_REPAIR);
	ck_assert(broker_client_has_broker());
}
END_TEST

START_TEST(who_has_no_link_asks_one_that_hangs)
{
	uint32_t id;
	ck_assert_int_eq(repair(), -EPERM);
	int fd = member();
	ck_assert_int_eq(asked(fd, &id), BROKER_REPAIR);
	answers(fd, id + 1, -EACCES);
	ck_assert_int_eq(open_link(false), -EACCES);
	ck_assert_int_eq(asked(fd, &id), BROKER_LINK);
}
END_TEST

START_TEST(one_that_has_ended_is_not_asked_again)
{
	uint32_t id;
	ck_assert_int_eq(repair(), -EPERM);
	int fd = member();
	asked(fd, &id);
	close(fd);
	now += SILENT_S;
	ck_assert_int_eq(repair(), -EPERM);
	ck_assert(!broker_client_has_broker());
	now += SILENT_S;
	ck_assert_int_eq(open_link(false), -EPERM);
	ck_assert_int_eq(privileged_look_begin(), -EPERM);
	ck_assert(!privileged_look_failed());
	ck_assert(!has_member());
}
END_TEST

/* ---- what is asked aside ---- */

START_TEST(a_look_has_a_connection_of_its_own)
{
	uint32_t id, generation = 0;
	int fd = privileged_look_begin();
	ck_assert_int_ge(fd, 0);
	int aside = member();
	answers(aside, 0, 3);
	ck_assert_int_eq(privileged_look(fd, &generation), 3);
	ck_assert_uint_eq(generation, 7);
	ck_assert_int_eq(asked(aside, &id), BROKER_CGROUP);
	ck_assert_int_eq(privileged_look_begin(), fd);
	ck_assert_int_eq(repair(), -EPERM); /* it hangs */
	ck_assert_int_eq(asked(member(), &id), BROKER_REPAIR);
	answers(aside, 0, 4); /* that is no matter of this connection's */
	ck_assert_int_eq(privileged_look(privileged_look_begin(), &generation), 4);
}
END_TEST

START_TEST(a_look_at_one_that_hangs_is_tried_again_after_its_silence)
{
	uint32_t generation;
	char end;
	int fd = privileged_look_begin();
	int aside = member();
	struct broker_request r;
	ck_assert_int_eq(privileged_look(fd, &generation), -EPERM);
	ck_assert(privileged_look_failed());
	ck_assert_int_eq(recv(aside, &r, sizeof r, 0), sizeof r);
	ck_assert_int_eq(recv(aside, &end, 1, 0), 0); /* a late answer answers nothing */
	now += SILENT_S - 1;
	ck_assert_int_eq(privileged_look_begin(), -EPERM);
	ck_assert(privileged_look_failed()); /* it was not asked: the silence does not begin anew */
	ck_assert(!has_member());
	now += 1;
	ck_assert_int_ge(privileged_look_begin(), 0);
	ck_assert(has_member());
	ck_assert_int_eq(open_link(true), -EPERM); /* which has waited: the other questions know nothing of that silence */
}
END_TEST

START_TEST(one_that_refuses_is_nobody_to_look)
{
	uint32_t id = 0;
	ck_assert_int_eq(repair(), -EPERM);
	int fd = member();
	asked(fd, &id);
	now += SILENT_S;
	close(listening); /* as where Landlock or another namespace keeps the name out of reach */
	ck_assert_int_eq(privileged_look_begin(), -EPERM);
	ck_assert(!privileged_look_failed());
	answers(fd, id + 1, -EBUSY);
	ck_assert_int_eq(repair(), -EBUSY); /* the connection that is there goes on */
	ck_assert(broker_client_has_broker());
	ck_assert_int_eq(privileged_look_begin(), -EPERM);
	broker_listens(8);
	now += SILENT_S;
	ck_assert_int_ge(privileged_look_begin(), 0);
	ck_assert(privileged_look_failed()); /* it is somebody again */
}
END_TEST

START_TEST(one_whose_queue_is_full_is_late)
{
	struct sockaddr_un addr;
	socklen_t len = broker_address(name, &addr);
	int fd, queued = 0;
	close(listening);
	broker_listens(0);
	do
		fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
	while (connect(fd, (struct sockaddr *)&addr, len) == 0 && ++queued < 100);
	ck_assert_int_eq(errno, EAGAIN);
	ck_assert_int_eq(privileged_look_begin(), -EPERM);
	ck_assert(privileged_look_failed());
	for (; queued; queued--)
		close(accept(listening, NULL, NULL));
	ck_assert_int_eq(privileged_look_begin(), -EPERM);
	ck_assert(!has_member());
	now += SILENT_S;
	ck_assert_int_ge(privileged_look_begin(), 0);
}
END_TEST

static void *looks(void *arg)
{
	uint32_t generation;
	return (void *)(intptr_t)privileged_look(*(int *)arg, &generation);
}

/* The bound of its wait is taken away: who is not cut waits for ever. */
START_TEST(a_look_that_is_cut_ends)
{
	pthread_t thread;
	struct broker_request r;
	void *result;
	char end;
	int fd = privileged_look_begin(), aside = member();
	ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = 0}, sizeof(struct timeval)), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, looks, &fd), 0);
	ck_assert_int_eq(recv(aside, &r, sizeof r, 0), sizeof r);
	privileged_look_cut();
	pthread_join(thread, &result);
	ck_assert_int_eq((intptr_t)result, -EPERM);
	ck_assert(privileged_look_failed());
	ck_assert_int_eq(recv(aside, &end, 1, 0), 0);
	ck_assert_int_ge(privileged_look_begin(), 0); /* no silence of its own */
	member();
	privileged_look_failed();
	ck_assert_int_eq(privileged_look_begin(), -EPERM); /* but the next one is */
}
END_TEST

START_TEST(a_child_asks_anew)
{
	uint32_t id;
	int fd = privileged_look_begin();
	member();
	ck_assert_int_eq(repair(), -EPERM);
	member();
	privileged_look_failed();
	broker_client_after_fork();
	ck_assert_int_eq(privileged_look_begin(), fd); /* its number is free again */
	member();
	ck_assert_int_eq(repair(), -EPERM);
	ck_assert_int_eq(asked(member(), &id), BROKER_REPAIR);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("broker_client");
	TCase *t = tcase_create("broker_client");
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, one_that_hangs_is_asked_again_after_its_silence);
	tcase_add_test(t, who_has_no_link_asks_one_that_hangs);
	tcase_add_test(t, one_that_has_ended_is_not_asked_again);
	tcase_add_test(t, a_look_has_a_connection_of_its_own);
	tcase_add_test(t, a_look_at_one_that_hangs_is_tried_again_after_its_silence);
	tcase_add_test(t, one_that_refuses_is_nobody_to_look);
	tcase_add_test(t, one_whose_queue_is_full_is_late);
	tcase_add_test(t, a_look_that_is_cut_ends);
	tcase_add_test(t, a_child_asks_anew);
	suite_add_tcase(s, t);
	return suite_main(s);
}
