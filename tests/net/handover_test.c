/* A connection becomes a kernel socket (kernel/handover.h), in one step or two, by oneself or by who is asked. */
#include "base/time.h"
#include "kernel/privileged.h"
#include "tests/net/handover_pair.h"
#include "tests/net/netns_test.h"
#include "tests/suite.h"
#include "tests/untested.h"

#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <time.h>

START_TEST(an_idle_connection)
{
	open_connection(&setups[_i]);
	write_some(a, &a_to_b, 1000);
	write_some(b, &b_to_a, 1000);
	read_until(b, &a_to_b, 1000);
	read_until(a, &b_to_a, 1000);
	struct tcp_snapshot s = take(false, false);
	ck_assert_uint_eq(s.snd_data_len + s.rcv_data_len, 0);
	import(&s);
	go_on(false, false);
}
END_TEST

/* What b sent and nobody read, what b has not heard of, and what never left: all at once. */
START_TEST(unread_unacked_and_unsent_data)
{
	open_connection(&setups[_i]);
	write_some(b, &b_to_a, 50000);
	struct pollfd p = {.fd = a, .events = POLLIN};
	ck_assert_int_eq(poll(&p, 1, WAIT_MS), 1);
	deafen(b);
	write_some(a, &a_to_b, 200000);
	struct tcp_snapshot s = take(false, false);
	ck_assert_uint_gt(s.rcv_data_len, 0);
	ck_assert_uint_gt(s.snd_nxt - s.snd_una, 0);
	ck_assert_uint_gt(s.snd_data_len, s.snd_nxt - s.snd_una);
	hear(b);
	import(&s);
	go_on(false, false);
}
END_TEST

/* With more unread and unsent than a default buffer holds. False: a user namespace, where nobody has larger ones. */
static bool take_large(const struct setup *u, struct tcp_snapshot *s)
{
	int size = BIG;
	open_connection(u);
	if (setsockopt(a, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
		return false;
	setsockopt(a, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	setsockopt(b, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
	write_some(b, &b_to_a, BIG / 2);
	wait_until_acknowledged(b); /* then it is unread at a */
	deafen(b);
	write_some(a, &a_to_b, BIG / 2);
	*s = take(false, false);
	hear(b);
	return true;
}

START_TEST(more_than_a_default_buffer)
{
	struct tcp_snapshot s;
	if (!take_large(&setups[_i], &s))
		return untested("the right to large buffers");
	ck_assert_uint_gt(s.rcv_data_len, 1000000);
	ck_assert_uint_gt(s.snd_data_len, 1000000);
	import(&s);
	go_on(false, false);
}
END_TEST

START_TEST(the_peer_has_closed)
{
	open_connection(&setups[_i]);
	write_some(b, &b_to_a, 5000);
	peer_closes();
	deafen(b);
	write_some(a, &a_to_b, 150000);
	struct tcp_snapshot s = take(true, false);
	hear(b);
	import(&s);
	ck_assert_uint_eq(info_of(a).tcpi_state, TCP_CLOSE_WAIT);
	go_on(false, true);
}
END_TEST

START_TEST(the_peer_has_closed_behind_a_closed_window)
{
	open_connection(&setups[_i]);
	write_some(b, &b_to_a, 5000);
	peer_closes();
	struct tcp_snapshot s = take(true, false);
	s.rcv_wnd = 0;
	s.rcv_wup = s.rcv_nxt + 1;
	import(&s);
	ck_assert_uint_eq(info_of(a).tcpi_state, TCP_CLOSE_WAIT);
	go_on(false, true);
}
END_TEST

START_TEST(our_fin_is_due)
{
	open_connection(&setups[_i]);
	deafen(b);
	write_some(a, &a_to_b, 150000);
	struct tcp_snapshot s = take(false, true);
	hear(b);
	import(&s);
	go_on(true, false);
}
END_TEST

START_TEST(our_fin_was_sent)
{
	open_connection(&setups[_i]);
	deafen(b);
	write_some(a, &a_to_b, 3000);
	shutdown(a, SHUT_WR);
	struct tcp_snapshot s = take(false, true);
	ck_assert_uint_eq(s.snd_nxt - s.snd_una, s.snd_data_len + 1);
	hear(b);
	import(&s);
	go_on(true, false);
}
END_TEST

START_TEST(both_have_closed)
{
	open_connection(&setups[_i]);
	write_some(b, &b_to_a, 3000);
	peer_closes();
	deafen(b);
	write_some(a, &a_to_b, 3000);
	struct tcp_snapshot s = take(true, true);
	hear(b);
	a = handover_import(&s, if_nametoindex("va"));
	ck_assert_int_ge(a, 0);
	go_on(true, true);
}
END_TEST

/* Between the two steps nothing leaves, and what arrives is kept. */
START_TEST(two_steps)
{
	open_connection(&setups[_i]);
	deafen(b);
	write_some(a, &a_to_b, 100000);
	struct tcp_snapshot s = take(false, false);
	a = handover_begin(&s, AF_UNSPEC, if_nametoindex("va"));
	ck_assert_int_ge(a, 0);
	hear(b);
	write_some(b, &b_to_a, 10000);
	struct pollfd p = {.fd = a, .events = POLLIN}; /* read(2) is not for sockets in repair */
	ck_assert_int_eq(poll(&p, 1, WAIT_MS), 1);
	p.fd = b;
	ck_assert_int_eq(poll(&p, 1, 0), 0);
	ck_assert_int_eq(handover_finish(a, &s), 0);
	check_same(a, &s);
	go_on(false, false);
}
END_TEST

/*
 * What the peer says while the socket is made comes to who had the connection: it is put in place behind what is there.
 */
START_TEST(what_comes_between_the_steps)
{
	static uint8_t unread[40000];
	open_connection(&setups[_i]);
	write_some(b, &b_to_a, 5000);
	wait_until_acknowledged(b);
	struct tcp_snapshot s = take(false, false), now;
	a = handover_begin(&s, AF_UNSPEC, if_nametoindex("va"));
	ck_assert_int_ge(a, 0);
	deafen(a); /* as the classifier does it */
	write_some(b, &b_to_a, 10000);
	uint32_t came = b_to_a.written - s.rcv_data_len;
	ck_assert_uint_gt(came, 0);
	ck_assert_uint_le(s.rcv_data_len + came, sizeof unread);
	now = s;
	now.rcv_nxt += came;
	now.rcv_data_len += came;
	for (uint32_t i = 0; i < now.rcv_data_len; i++)
		unread[i] = pattern(i, b_to_a.salt);
	now.rcv_data[0] = (struct iovec){unread, now.rcv_data_len};
	now.rcv_data[1] = (struct iovec){NULL, 0};
	ck_assert_int_eq(handover_follow(a, &s, &now, if_nametoindex("va")), 0);
	int readable = 0;
	ck_assert_int_eq(ioctl(a, SIOCINQ, &readable), 0);
	ck_assert_uint_eq(readable, now.rcv_data_len);
	hear(a);
	ck_assert_int_eq(handover_finish(a, &now), 0);
	go_on(false, false);
}
END_TEST

/*
 * The peer acknowledges between the steps, and opens its window. The engine has it from the ring, and the kernel's
 * socket does not: it would wait for a retransmission or for its persist timer.
 */
START_TEST(what_the_peer_acknowledges_between_the_steps)
{
	static uint8_t sent[40000];
	bool late = true;
	while (late) { /* the kernel's first retransmission is due a second after the first step */
		a_to_b = (struct stream){.salt = 1};
		b_to_a = (struct stream){.salt = 101};
		open_connection(&setups[_i]);
		write_some(a, &a_to_b, sizeof sent);
		read_until(b, &a_to_b, a_to_b.written);
		wait_until_acknowledged(a);
		for (uint32_t i = 0; i < sizeof sent; i++)
			sent[i] = pattern(i, a_to_b.salt);
		struct tcp_snapshot now = take(false, false), then = now;
		then.snd_una -= a_to_b.written;
		then.snd_data_len = a_to_b.written;
		then.snd_data = chunks_of(sent, a_to_b.written);
		then.snd_wnd = a_to_b.written; /* what it has is all that it takes */
		int64_t begun = clock_now_us();
		a = handover_begin(&then, AF_UNSPEC, if_nametoindex("va"));
		ck_assert_int_ge(a, 0);
		ck_assert_int_eq(handover_follow(a, &then, &now, if_nametoindex("va")), 0);
		struct tcp_repair_window w;
		ck_assert_int_eq(getsockopt(a, IPPROTO_TCP, TCP_REPAIR_WINDOW, &w, &(socklen_t){sizeof w}), 0);
		ck_assert_uint_eq(w.snd_wnd, now.snd_wnd);
		ck_assert_int_eq(handover_finish(a, &now), 0);
		wait_until_acknowledged(a);
		late = info_of(a).tcpi_total_retrans && clock_now_us() - begun > 900000;
		ck_assert(late || !info_of(a).tcpi_total_retrans);
		go_on(false, false);
	}
}
END_TEST

START_TEST(the_peer_closes_between_the_steps)
{
	open_connection(&setups[_i]);
	write_some(b, &b_to_a, 5000);
	struct tcp_snapshot s = take(false, false), now;
	a = handover_begin(&s, AF_UNSPEC, if_nametoindex("va"));
	ck_assert_int_ge(a, 0);
	deafen(a);
	shutdown(b, SHUT_WR);
	hear(a);
	now = s;
	now.fin_peer = true;
	ck_assert_int_eq(handover_follow(a, &s, &now, if_nametoindex("va")), 0);
	ck_assert_uint_eq(info_of(a).tcpi_state, TCP_CLOSE_WAIT);
	ck_assert_int_eq(handover_finish(a, &now), 0);
	go_on(false, true);
}
END_TEST

START_TEST(a_tuple_that_is_taken)
{
	open_connection(&setups[_i]);
	int keep = dup(a);
	struct tcp_snapshot s = {0};
	addr_port(a, false, &s.key.laddr, &s.key.lport);
	addr_port(a, true, &s.key.raddr, &s.key.rport);
	s.mss_clamp = 1460;
	ck_assert_int_eq(handover_import(&s, 0), -EADDRINUSE);
	write_some(keep, &a_to_b, 100); /* nobody was disturbed */
	read_until(b, &a_to_b, 100);
}
END_TEST

START_TEST(without_loopback_no_close_wait_and_no_trace)
{
	open_connection(&setups[_i]);
	peer_closes();
	struct tcp_snapshot s = take(true, false);
	sh("ip link set lo down");
	int err = handover_import(&s, if_nametoindex("va"));
	ck_assert_msg(err < 0, "%d", err);
	sh("ip link set lo up");
	import(&s); /* the failure left nothing, and b heard nothing */
	go_on(false, true);
}
END_TEST

#define DEAF_WAIT_MS 100 /* five times 20 ms, when nothing is known of the loopback yet */

/* The engine's lock is held meanwhile: a process that ends with many such connections must not stand still for each. */
START_TEST(a_deaf_loopback_is_waited_for_once)
{
	open_connection(&setups[_i]);
	peer_closes();
	struct tcp_snapshot s = take(true, false);
	sh("tc qdisc add dev lo root blackhole");
	int shorter = 0; /* than the whole wait takes at the very least, which a busy machine makes longer, and never shorter */
	for (int i = 0; i < 20; i++) {
		struct timespec begun, ended;
		clock_gettime(CLOCK_MONOTONIC, &begun);
		ck_assert_int_lt(handover_import(&s, if_nametoindex("va")), 0);
		clock_gettime(CLOCK_MONOTONIC, &ended);
		shorter += (ended.tv_sec - begun.tv_sec) * 1000 + (ended.tv_nsec - begun.tv_nsec) / 1000000 < DEAF_WAIT_MS;
	}
	ck_assert_int_ge(shorter, 5);
}
END_TEST

START_TEST(without_privilege)
{
	open_connection(&setups[_i]);
	struct tcp_snapshot s = take(false, false);
	if (setresuid(65534, 65534, 65534) < 0)
		return untested("another user");
	ck_assert_int_eq(handover_import(&s, 0), -EPERM);
}
END_TEST

/* Who does what this process may not: itself, with the privilege that it laid down. */
static int asked;

static int superuser_repairs(int fd, const struct privileged_repair *r)
{
	asked++;
	ck_assert_int_eq(seteuid(0), 0);
	int err = setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &r->value, sizeof r->value) ? -errno : 0;
	if (!err && r->rcvbuf)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &r->rcvbuf, sizeof r->rcvbuf);
	if (!err && r->sndbuf)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &r->sndbuf, sizeof r->sndbuf);
	if (!err && r->addr)
		err = bind(fd, r->addr, r->addr_len) ? -errno : 0;
	ck_assert_int_eq(seteuid(65534), 0);
	return err;
}

/*
 * Once to enter repair mode, with the buffers and the address, and once to leave it: a server that ends does it for
 * each connection.
 */
START_TEST(somebody_is_asked_twice)
{
	static const struct privileged_ops ops = {.repair = superuser_repairs};
	struct tcp_snapshot s;
	if (!take_large(&setups[_i], &s))
		return untested("the right to large buffers");
	ck_assert_int_eq(seteuid(65534), 0);
	privileged_ops = &ops;
	int fd = handover_import(&s, if_nametoindex("va"));
	privileged_ops = NULL;
	ck_assert_int_eq(seteuid(0), 0);
	ck_assert_msg(fd >= 0, "handover_import: %s", strerror(-fd));
	a = fd;
	ck_assert_int_eq(asked, 2);
	check_same(a, &s);
	go_on(false, false);
}
END_TEST

int main(void)
{
	skip_without_netns();
	Suite *s = suite_create("handover");
	TCase *t = tcase_create("import");
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, an_idle_connection, 0, N_SETUPS);
	tcase_add_loop_test(t, unread_unacked_and_unsent_data, 0, N_SETUPS);
	tcase_add_loop_test(t, more_than_a_default_buffer, 0, 1);
	tcase_add_loop_test(t, the_peer_has_closed, 0, N_SETUPS);
	tcase_add_loop_test(t, the_peer_has_closed_behind_a_closed_window, 0, 3);
	tcase_add_loop_test(t, our_fin_is_due, 0, 3);
	tcase_add_loop_test(t, our_fin_was_sent, 0, 3);
	tcase_add_loop_test(t, both_have_closed, 0, 3);
	tcase_add_loop_test(t, two_steps, 0, 3);
	tcase_add_loop_test(t, what_comes_between_the_steps, 0, 3);
	tcase_add_loop_test(t, what_the_peer_acknowledges_between_the_steps, 0, N_SETUPS);
	tcase_add_loop_test(t, the_peer_closes_between_the_steps, 0, 3);
	tcase_add_loop_test(t, a_tuple_that_is_taken, 0, 3);
	tcase_add_loop_test(t, without_loopback_no_close_wait_and_no_trace, 0, 3);
	tcase_add_loop_test(t, a_deaf_loopback_is_waited_for_once, 0, 1);
	tcase_add_loop_test(t, without_privilege, 0, 1);
	tcase_add_loop_test(t, somebody_is_asked_twice, 0, 1);
	suite_add_tcase(s, t);
	return suite_main(s);
}
