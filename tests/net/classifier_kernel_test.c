/*
 * Whom the classifier leaves to the kernel while an engine lives: who was the kernel's before, whom the host judges,
 * who comes while the engine is silent.
 */
#include "tests/net/classifier_lab.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/classifier_ebpf_internal.h"
#include "kernel/judge.h"

/* A kernel connection by hand from the peer. Returns the accepted fd; *s is the peer's next segment. */
static int kernel_connection(int listener, uint16_t port, struct spec *s)
{
	struct spec syn = {.sport = 40000, .dport = port, .flags = TCPF_SYN, .seq = 1000};

	send_spec(&syn);
	settle(NULL);
	ck_assert_int_eq(n_answers, 1);
	ck_assert_int_eq(answers[0].flags, TCPF_SYN | TCPF_ACK);
	*s = (struct spec){.sport = 40000,
			   .dport = port,
			   .flags = TCPF_ACK,
			   .seq = 1001,
			   .ack = answers[0].seq + 1};
	send_spec(s);
	ck_assert(readable_within(listener, WAIT_MS));
	int fd = accept(listener, NULL, NULL);
	ck_assert_int_ge(fd, 0);
	return fd;
}

START_TEST(a_kernel_connection_goes_on)
{
	struct engine e;
	struct ip_addr any = addr("0.0.0.0");
	struct flow_key k = key(OUR_V4, 100, PEER_V4, 40000);
	struct spec s;
	char buf[16];
	int listener = kernel_listener(100), conn = kernel_connection(listener, 100, &s);

	engine_start(&e, "a");
	ck_assert_int_eq(classifier_add_exception(e.c, &k), 0);
	ck_assert_int_eq(classifier_add_listener(e.c, &any, 100), 0);
	s.payload = "hello";
	s.flags = TCPF_ACK | TCPF_PSH;
	send_spec(&s);
	ck_assert(readable_within(conn, WAIT_MS));
	ck_assert_int_eq(read(conn, buf, sizeof buf), 5);
	settle(&e);
	ck_assert_int_eq(e.seen.n, 0);
	/* A new connection is ours, although the kernel's socket listens too. */
	ck_assert_int_eq(who_gets(&e, OUR_V4, 100), 1);
	/* And once it is no exception any more, the old one is too. */
	ck_assert_int_eq(classifier_del_exception(e.c, &k), 0);
	s.seq += 5;
	send_spec(&s);
	settle(&e);
	ck_assert_int_eq(e.seen.n, 1);
	ck_assert_int_eq(readable_within(conn, 0), 0);
	engine_stop(&e);
}
END_TEST

/* The kernel's listening socket on OURS, whose SYNs the host judges; for the engine that has just been started. */
static int judged_listener(struct engine *e, struct judge **j)
{
	struct ip_addr any = addr("0.0.0.0");
	char why[256];
	int fd = kernel_listener(OURS);
	ck_assert_int_eq(classifier_add_listener(e->c, &any, OURS), 0);
	ck_assert_int_eq(judge_open(j, why, sizeof why), 0);
	ck_assert_int_eq(classifier_set_judge(e->c, *j), 0);
	ck_assert_int_eq(judge_attach(*j, fd), 0);
	return fd;
}

/* Does this segment of PEER_V4's come to the engine? Otherwise the kernel answers it by RST. */
static bool engine_gets(struct engine *e, uint16_t sport, uint8_t flags)
{
	struct spec s = {.sport = sport, .dport = OURS, .flags = flags, .seq = 2000, .ack = 3000};

	send_spec(&s);
	settle(e);
	ck_assert_int_eq(e->seen.n + n_answers, 1);
	return e->seen.n;
}

/*
 * The host judges: SYNs climb to the judge. What follows is the engine's where it counts the connection, without any
 * entry; an ACK also while cookies are out. What is excepted is the kernel's in any case.
 */
START_TEST(where_the_host_judges_a_count_tells)
{
	enum { CONN = 40000, OTHER };
	struct engine e;
	struct judge *j;
	struct judged_segment seg;
	struct flow_key k = key(OUR_V4, OURS, PEER_V4, CONN), fence = key(OUR_V4, FENCE, PEER_V4, FENCE_FROM);
	struct spec syn = {.sport = CONN, .dport = OURS, .flags = TCPF_SYN, .seq = 1000};

	if (choice != CLASSIFIER_EBPF)
		return;
	engine_start(&e, "a");
	int fd = judged_listener(&e, &j);
	fence_flags = TCPF_ACK;
	classifier_count_conn(e.c, &fence, 1);

	send_spec(&syn);
	ck_assert(readable_within(judge_poll_fd(j), WAIT_MS));
	ck_assert(judge_next(j, &seg) && flow_key_equal(&seg.key, &k));
	judge_done(j);
	ck_assert(!engine_gets(&e, CONN, TCPF_ACK));
	classifier_count_conn(e.c, &k, 1);
	ck_assert(engine_gets(&e, CONN, TCPF_ACK) && engine_gets(&e, CONN, TCPF_FIN | TCPF_ACK) && engine_gets(&e, CONN, TCPF_RST | TCPF_ACK));
	ck_assert(!engine_gets(&e, OTHER, TCPF_ACK));
	ck_assert_int_eq(classifier_add_exception(e.c, &k), 0);
	ck_assert(!engine_gets(&e, CONN, TCPF_ACK));
	ck_assert_int_eq(classifier_del_exception(e.c, &k), 0);
	classifier_count_conn(e.c, &k, -1);
	ck_assert(!engine_gets(&e, CONN, TCPF_ACK));

	classifier_note_cookies(e.c, INT64_MAX / 1000);
	ck_assert(engine_gets(&e, OTHER, TCPF_ACK));
	classifier_note_cookies(e.c, 1);
	ck_assert(!engine_gets(&e, OTHER, TCPF_ACK));
	close(fd);
	engine_stop(&e);
	judge_close(j);
}
END_TEST

/*
 * Who says how far it is sleeps until the next one comes. Who does not goes on by looking, further than the ring is
 * large.
 */
START_TEST(the_judge_wakes_who_sleeps)
{
	enum { FIRST = 1, MANY = 3000, SETTLED = 1000 }; /* the ring holds 2,048 */
	struct engine e;
	struct judge *j;
	struct judged_segment seg;

	if (choice != CLASSIFIER_EBPF)
		return;
	engine_start(&e, "a");
	int fd = judged_listener(&e, &j);
	for (uint16_t sport = FIRST; sport <= MANY; sport++) {
		struct spec syn = {.sport = sport, .dport = OURS, .flags = TCPF_SYN, .seq = 1000};
		send_spec(&syn);
		if (sport % SETTLED == FIRST)
			ck_assert(readable_within(judge_poll_fd(j), WAIT_MS));
		while (!judge_next(j, &seg))
			usleep(1000);
		ck_assert_int_eq(seg.key.rport, sport);
		judge_done(j);
		ck_assert(!judge_pending(j));
		if (sport % SETTLED == 0) {
			judge_settle(j);
			ck_assert_int_eq(readable_within(judge_poll_fd(j), 0), 0);
		}
	}
	close(fd);
	engine_stop(&e);
	judge_close(j);
}
END_TEST

struct given {
	struct classifier_given visit;
	struct flow_key keys[8];
	int n;
};

static void note_given(struct classifier_given *v, const struct flow_key *key, bool in_group)
{
	struct given *g = container_of(v, struct given, visit);
	ck_assert(!in_group && g->n < 8);
	g->keys[g->n++] = *key;
}

/* A SYN has waited for long when this comes; the engine looks afterwards. True: it came to the engine. */
static bool comes_while_silent(struct engine *e, uint16_t sport, uint8_t flags)
{
	struct spec s = {.sport = sport, .dport = OURS, .flags = flags};
	ebpf_of(e->c)->ports->syn_since_ns = 1;
	send_spec(&s);
	classifier_looked(e->c);
	ck_assert_int_eq(ebpf_of(e->c)->ports->syn_since_ns, 0);
	settle(e);
	return e->seen.n;
}

static bool comes(struct engine *e, uint16_t sport, uint8_t flags)
{
	struct spec s = {.sport = sport, .dport = OURS, .flags = flags};
	send_spec(&s);
	settle(e);
	return e->seen.n;
}

/*
 * What an engine that is stopped would not look at is the kernel's, and stays so; not a SYN that may be of a connection
 * that the engine has.
 */
START_TEST(a_silent_engine_gets_no_syns)
{
	struct engine e;
	struct ip_addr any = addr("::");
	struct given given = {.visit.each = note_given};
	struct flow_key first = {.laddr = addr(OUR_V4), .raddr = addr(PEER_V4), .lport = OURS, .rport = 4000}, had = first;

	if (choice != CLASSIFIER_EBPF)
		return;
	had.rport = 4002;
	engine_start(&e, "a");
	ck_assert_int_eq(classifier_add_listener(e.c, &any, OURS), 0);
	ck_assert(comes(&e, 4001, TCPF_SYN));
	ck_assert(!classifier_has_given(e.c));
	ck_assert(!comes_while_silent(&e, 4000, TCPF_SYN));
	ck_assert_int_eq(n_answers, 1);
	ck_assert(classifier_has_given(e.c) && !classifier_has_given(e.c));
	classifier_visit_given(e.c, &given.visit);
	ck_assert(given.n == 1 && flow_key_equal(&given.keys[0], &first));
	ck_assert(!comes(&e, 4000, TCPF_ACK) && !comes(&e, 4000, TCPF_SYN) && !comes_while_silent(&e, 4000, TCPF_SYN));
	ck_assert(!classifier_has_given(e.c));

	/* Only SYNs: what the engine has waits for it. */
	ck_assert(comes_while_silent(&e, 4001, TCPF_ACK) && comes_while_silent(&e, 4001, TCPF_SYN | TCPF_ACK) && comes_while_silent(&e, 4001, TCPF_RST));
	classifier_count_conn(e.c, &had, 1);
	ck_assert(comes_while_silent(&e, 4002, TCPF_SYN));
	classifier_count_conn(e.c, &had, -1);
	ck_assert(!comes_while_silent(&e, 4002, TCPF_SYN));
	ck_assert(classifier_has_given(e.c));

	ck_assert_int_eq(classifier_del_exception(e.c, &first), 0);
	ck_assert_int_eq(classifier_del_exception(e.c, &had), 0);
	ck_assert_int_eq(ebpf_of(e.c)->ports->n_exceptions, 0);
	ck_assert(comes(&e, 4000, TCPF_SYN) && comes(&e, 4002, TCPF_ACK));
	engine_stop(&e);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, a_kernel_connection_goes_on);
	tcase_add_test(tc, where_the_host_judges_a_count_tells);
	tcase_add_test(tc, the_judge_wakes_who_sleeps);
	tcase_add_test(tc, a_silent_engine_gets_no_syns);
}

int main(void)
{
	return classifier_main("classifier beside the kernel", add);
}
