/* A connection that nobody has accepted comes into the kernel listener's queue (kernel/requeue.h). */
#include "kernel/requeue.h"
#include "tests/net/handover_pair.h"
#include "tests/net/netns_test.h"
#include "tests/suite.h"

#include <poll.h>
#include <sys/socket.h>

static struct requeue *requeue(void)
{
	struct requeue *q = NULL;
	int err = requeue_open(&q);
	if (err == -EOPNOTSUPP)
		exit(0); /* before Linux 6.8: this one test is done */
	ck_assert_msg(!err, "requeue_open: %s", strerror(-err));
	return q;
}

/*
 * a comes back from accept, as if the kernel had made the handshake: what b said is there to be read, and both go on.
 */
static void give_to_queue(const struct tcp_snapshot *s)
{
	struct requeue *q = requeue();
	int err = requeue_give(q, s);
	ck_assert_msg(!err, "requeue_give: %s", strerror(-err));
	requeue_close(q);
	struct pollfd p = {.fd = listener, .events = POLLIN};
	ck_assert_int_eq(poll(&p, 1, WAIT_MS), 1);
	a = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	ck_assert_int_ge(a, 0);
	check_same(a, s);
}

START_TEST(unaccepted_and_silent)
{
	if (setups[_i].a_is_client)
		return;
	open_connection(&setups[_i]);
	struct tcp_snapshot s = take(false, false);
	give_to_queue(&s);
	go_on(false, false);
}
END_TEST

START_TEST(unaccepted_and_unread)
{
	if (setups[_i].a_is_client)
		return;
	open_connection(&setups[_i]);
	write_some(b, &b_to_a, 50000);
	wait_until_acknowledged(b);
	struct tcp_snapshot s = take(false, false);
	ck_assert_uint_eq(s.rcv_data_len, b_to_a.written);
	give_to_queue(&s);
	go_on(false, false);
}
END_TEST

START_TEST(unaccepted_and_closed_by_the_peer)
{
	if (setups[_i].a_is_client)
		return;
	open_connection(&setups[_i]);
	write_some(b, &b_to_a, _i % 2 ? 0 : 20000);
	peer_closes();
	struct tcp_snapshot s = take(true, false);
	give_to_queue(&s);
	ck_assert_uint_eq(info_of(a).tcpi_state, TCP_CLOSE_WAIT);
	go_on(false, true);
}
END_TEST

/* A child that was forked meanwhile forgets what it has of it, and the parent goes on. */
START_TEST(unaccepted_when_the_parent_forked)
{
	open_connection(&setups[0]);
	struct tcp_snapshot s = take(false, false);
	struct requeue *q = requeue();
	int status;
	pid_t child = fork();
	if (child == 0) {
		requeue_forget(q);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	int err = requeue_give(q, &s);
	ck_assert_msg(!err, "requeue_give: %s", strerror(-err));
	requeue_close(q);
	struct pollfd p = {.fd = listener, .events = POLLIN};
	ck_assert_int_eq(poll(&p, 1, WAIT_MS), 1);
}
END_TEST

START_TEST(a_queue_takes_no_connection_that_was_answered)
{
	open_connection(&setups[0]);
	deafen(b);
	write_some(a, &a_to_b, 1000);
	struct tcp_snapshot s = take(false, false);
	struct requeue *q = requeue();
	ck_assert_int_eq(requeue_give(q, &s), -EINVAL);
	requeue_close(q);
}
END_TEST

START_TEST(nobody_listens_any_more)
{
	open_connection(&setups[_i]);
	struct tcp_snapshot s = take(false, false);
	close(listener);
	struct requeue *q = requeue();
	ck_assert_int_eq(requeue_give(q, &s), -ENOBUFS);
	requeue_close(q);
}
END_TEST

int main(void)
{
	skip_without_netns();
	Suite *s = suite_create("requeue");
	TCase *t = tcase_create("queue");
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, unaccepted_and_silent, 0, N_SETUPS);
	tcase_add_loop_test(t, unaccepted_and_unread, 0, N_SETUPS);
	tcase_add_loop_test(t, unaccepted_and_closed_by_the_peer, 0, N_SETUPS);
	tcase_add_test(t, a_queue_takes_no_connection_that_was_answered);
	tcase_add_loop_test(t, unaccepted_when_the_parent_forked, 0, 1);
	tcase_add_loop_test(t, nobody_listens_any_more, 0, 1);
	suite_add_tcase(s, t);
	return suite_main(s);
}
