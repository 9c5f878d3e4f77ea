/*
 * SEND, RECEIVE, CLOSE, ABORT and STATUS in every state: RFC 9293 §3.10.2 to §3.10.6, and shutdown(2), which it does
 * not know.
 */
#include "harness.h"

static const enum tcp_state all_states[] = {
	TCPS_SYN_SENT,   TCPS_SYN_RECEIVED, TCPS_ESTABLISHED, TCPS_FIN_WAIT_1, TCPS_FIN_WAIT_2,
	TCPS_CLOSE_WAIT, TCPS_CLOSING,      TCPS_LAST_ACK,    TCPS_TIME_WAIT,  TCPS_CLOSED,
};
#define STATES (int)(sizeof all_states / sizeof *all_states)

static struct harness *in_state(enum tcp_state state)
{
	struct harness *h = h_new(H_ALL | (state == TCPS_SYN_SENT ? H_ACTIVE : 0));
	h_enter(h, state);
	return h;
}

START_TEST(status_call)
{
	static const char *const names[] = {"SYN-SENT", "SYN-RECEIVED", "ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2",
					    "CLOSE-WAIT", "CLOSING", "LAST-ACK", "TIME-WAIT", "CLOSED"};
	struct harness *h = in_state(all_states[_i]);
	struct tcp_status st = h_status(h);
	ck_assert_int_eq(st.state, all_states[_i]);
	ck_assert_str_eq(tcp_state_name(st.state), names[_i]);
	ck_assert_uint_eq(st.iss, H_ISS);
	ck_assert_str_eq(tcp_state_name(TCPS_LISTEN), "LISTEN");
	h_free(h);
}
END_TEST

START_TEST(send_call)
{
	enum tcp_state state = all_states[_i];
	struct harness *h = in_state(state);
	ssize_t n = h_send(h, 10);
	switch (state) {
	case TCPS_SYN_SENT:
	case TCPS_SYN_RECEIVED: /* "Queue the data for transmission after entering ESTABLISHED state", or the caller waits */
		ck_assert(n == 10 || n == -EAGAIN);
		h_silence(h);
		break;
	case TCPS_ESTABLISHED:
		ck_assert_int_eq(n, 10);
		h_expect(h, SEG_ACK, 1, 1, 10);
		break;
	case TCPS_CLOSE_WAIT:
		ck_assert_int_eq(n, 10);
		h_expect(h, SEG_ACK, 1, 2, 10);
		break;
	default: /* "connection closing", "connection does not exist" */
		ck_assert_int_eq(n, -EPIPE);
		break;
	}
	h_free(h);
}
END_TEST

/* SEND by way of the place that the bytes will have: as SEND. */
START_TEST(send_call_in_place)
{
	enum tcp_state state = all_states[_i];
	bool opening = state == TCPS_SYN_SENT || state == TCPS_SYN_RECEIVED, open = state == TCPS_ESTABLISHED || state == TCPS_CLOSE_WAIT;
	struct harness *h = in_state(state);
	struct iovec place[2];
	int pieces;
	ssize_t n = tcp_send_room(&h->c, 10, place, &pieces);
	ck_assert_int_eq(n, open || opening ? 10 : -EPIPE);
	ck_assert_int_eq(pieces, n > 0);
	if (n > 0) {
		for (uint32_t i = 0; i < 10; i++)
			((uint8_t *)place[0].iov_base)[i] = h_byte(h->sent + i);
		tcp_send_filled(&h->c, h->now, 10, 10, false);
		h->sent += 10;
		h_output(h);
	}
	if (open)
		h_expect(h, SEG_ACK, 1, state == TCPS_CLOSE_WAIT ? 2 : 1, 10);
	else
		h_silence(h);
	h_free(h);
}
END_TEST

/* Who finds that it has nothing to put there leaves no trace; who has less sends that. */
START_TEST(send_call_in_place_short)
{
	struct harness *h = h_new(H_ALL);
	struct iovec place[2];
	int pieces;
	h_establish(h);
	ck_assert_int_eq(tcp_send_room(&h->c, 100000, place, &pieces), 100000 < h->c.sndbuf_limit ? 100000 : (ssize_t)tcp_send_space(&h->c, 100000));
	tcp_send_filled(&h->c, h->now, 0, 100000, true);
	ck_assert_uint_eq(h->c.snd.cap, 0);
	h_output(h);
	h_silence(h);
	ck_assert_int_gt(tcp_send_room(&h->c, 20, place, &pieces), 0);
	for (uint32_t i = 0; i < 7; i++)
		((uint8_t *)place[0].iov_base)[i] = h_byte(h->sent + i);
	tcp_send_filled(&h->c, h->now, 7, 20, false);
	h->sent += 7;
	h_output(h);
	h_expect(h, SEG_ACK, 1, 1, 7);
	ck_assert_int_eq(h_send(h, 5), 5); /* behind them */
	h_free(h);
}
END_TEST

START_TEST(receive_call)
{
	enum tcp_state state = all_states[_i];
	struct harness *h = in_state(state);
	ssize_t n = h_recv(h, 10, 0);
	if (state == TCPS_CLOSE_WAIT || state == TCPS_CLOSING || state == TCPS_LAST_ACK || state == TCPS_TIME_WAIT)
		ck_assert_int_eq(n, 0);
	else if (state == TCPS_CLOSED)
		ck_assert(n == 0 || n == -ENOTCONN || n == -ECONNABORTED || n == -ECONNRESET);
	else
		ck_assert_int_eq(n, -EAGAIN);
	h_free(h);
}
END_TEST

/* Text received before the peer's FIN is read before the end is seen. */
START_TEST(receive_call_drains_before_eof)
{
	struct harness *h = h_new(0);
	h_establish(h);
	h_peer(h, SEG_FIN, 1, 30);
	h_advance(h, h->stack.config.delack_us);
	h_expect(h, SEG_ACK, 1, 32, 0);
	ck_assert(h_events(h) & TCP_EV_PEER_FIN);
	ck_assert_int_eq(h_recv(h, 20, 0), 20);
	ck_assert_int_eq(h_recv(h, 20, 20), 10);
	ck_assert_int_eq(h_recv(h, 20, 30), 0);
	ck_assert_int_eq(h_recv(h, 20, 30), 0);
	h_free(h);
}
END_TEST

/*
 * MUST-12's other half: after a reset, what had arrived may be lost, but the reset is reported before any end of file.
 */
START_TEST(receive_call_after_reset)
{
	struct harness *h = h_new(0);
	h_establish(h);
	struct tcp_segment reset = h_seg(h, SEG_RST, 0, 0, 0);
	h_input(h, &reset);
	ck_assert_int_eq(h_recv(h, 20, 0), -ECONNRESET);
	ck_assert_int_eq(h_recv(h, 20, 0), 0); /* as Linux: once */
	h_free(h);
}
END_TEST

/*
 * After a shutdown of both directions nobody reads: text resets the connection, and the application learns of it, as in
 * Linux. After SHUT_WR alone it is read.
 */
START_TEST(text_after_shutdown)
{
	struct harness *h = h_new(0);
	h_enter(h, TCPS_FIN_WAIT_2);
	h_drain(h);
	if (_i)
		tcp_shutdown_receive(&h->c);
	h_peer(h, SEG_PSH, h_status(h).snd_una - H_ISS, 10);
	if (_i) {
		h_state(h, TCPS_CLOSED);
		ck_assert_int_eq(tcp_error(&h->c), ECONNRESET);
		h_take(h);
	} else {
		ck_assert_int_eq(h_recv(h, 20, 0), 10);
		h_drain(h);
	}
	h_free(h);
}
END_TEST

START_TEST(close_call)
{
	enum tcp_state state = all_states[_i];
	struct harness *h = in_state(state);
	h_close(h);
	switch (state) {
	case TCPS_SYN_SENT: /* "Delete the TCB" */
		h_state(h, TCPS_CLOSED);
		break;
	case TCPS_SYN_RECEIVED: /* "form a FIN segment and send it, and enter FIN-WAIT-1" */
		if (tcp_state(&h->c) == TCPS_CLOSED) { /* Linux resets a half-open child; not ours to keep either */
			h_take(h);
			break;
		}
		h_peer_ack(h, 1);
		h_expect(h, SEG_FIN | SEG_ACK, 1, 1, 0);
		h_state(h, TCPS_FIN_WAIT_1);
		break;
	case TCPS_ESTABLISHED:
		h_expect(h, SEG_FIN | SEG_ACK, 1, 1, 0);
		h_state(h, TCPS_FIN_WAIT_1);
		break;
	case TCPS_CLOSE_WAIT:
		h_expect(h, SEG_FIN | SEG_ACK, 1, 2, 0);
		h_state(h, TCPS_LAST_ACK);
		break;
	default:
		h_state(h, state);
		break;
	}
	h_silence(h);
	h_free(h);
}
END_TEST

START_TEST(shutdown_call)
{
	enum tcp_state state = all_states[_i];
	struct harness *h = in_state(state);
	int ret = tcp_shutdown(&h->c, h->now);
	h_output(h);
	switch (state) {
	case TCPS_ESTABLISHED:
	case TCPS_CLOSE_WAIT:
		ck_assert_int_eq(ret, 0);
		h_expect(h, SEG_FIN | SEG_ACK, 1, h_rcv_nxt(h), 0);
		h_state(h, state == TCPS_ESTABLISHED ? TCPS_FIN_WAIT_1 : TCPS_LAST_ACK);
		ck_assert_int_eq(h_send(h, 1), -EPIPE);
		break;
	case TCPS_CLOSED:
		ck_assert_int_eq(ret, -ENOTCONN);
		break;
	case TCPS_SYN_SENT:
	case TCPS_SYN_RECEIVED:
		break; /* §3.10.4 allows queueing; what may not happen is a FIN before the handshake ends */
	default:
		h_state(h, state);
		break;
	}
	h_silence(h);
	h_free(h);
}
END_TEST

/* §3.10.4: "queue this until all preceding SENDs have been segmentized, then form a FIN segment". */
START_TEST(close_call_after_sends)
{
	struct harness *h = h_new(0);
	h->peer_window = 2500;
	h_establish(h);
	h_send(h, 3000);
	h_expect(h, SEG_ACK, 1, 1, 1000);
	h_expect(h, SEG_ACK, 1001, 1, 1000);
	h_drain(h);
	h_close(h);
	h_drain(h);
	ck_assert(tcp_send_closed(&h->c));
	h->peer_window = 60000;
	h_peer_ack(h, 2001);
	struct h_out *o = h_take(h);
	ck_assert_ptr_nonnull(o);
	ck_assert_uint_eq(o->seg.seq + o->seg.payload_len, H_ISS + 3001);
	ck_assert_uint_eq(o->seg.flags & SEG_FIN, SEG_FIN);
	h_silence(h);
	h_state(h, TCPS_FIN_WAIT_1);
	h_free(h);
}
END_TEST

START_TEST(abort_call)
{
	enum tcp_state state = all_states[_i];
	struct harness *h = in_state(state);
	uint32_t nxt = h_snd_nxt(h);
	tcp_abort(&h->c, h->now);
	h_output(h);
	h_state(h, TCPS_CLOSED);
	struct h_out *o = h_take(h);
	switch (state) {
	case TCPS_SYN_RECEIVED:
	case TCPS_ESTABLISHED:
	case TCPS_FIN_WAIT_1:
	case TCPS_FIN_WAIT_2:
	case TCPS_CLOSE_WAIT: /* <SEQ=SND.NXT><CTL=RST> */
		ck_assert_msg(o && (o->seg.flags & SEG_RST), "no RST in %s", tcp_state_name(state));
		ck_assert_uint_eq(o->seg.seq, H_ISS + nxt);
		break;
	default: /* of CLOSING, LAST-ACK and TIME-WAIT: "respond with 'ok' and delete the TCB" */
		ck_assert_msg(!o, "a segment in %s", tcp_state_name(state));
		break;
	}
	h_silence(h);
	ck_assert(h_events(h) & TCP_EV_CLOSED || state == TCPS_CLOSED);
	ck_assert_int_eq(tcp_next_deadline(&h->c), TIME_NEVER);
	h_free(h);
}
END_TEST

/* SHLD-3: CLOSE with received data unread, or new data after CLOSE: RST, so that the peer learns of the loss. */
START_TEST(SHLD_3_close_with_unread_data)
{
	struct harness *h = h_new(0);
	h_establish(h);
	h_peer(h, SEG_ACK, 1, 10);
	h_advance(h, h->stack.config.delack_us);
	h_drain(h);
	h_close(h);
	struct h_out *o = h_take(h);
	ck_assert(o && (o->seg.flags & SEG_RST));
	h_state(h, TCPS_CLOSED);
	h_free(h);
}
END_TEST

START_TEST(SHLD_3_data_after_close)
{
	struct harness *h = h_new(0);
	h_establish(h);
	h_close(h);
	h_expect(h, SEG_FIN | SEG_ACK, 1, 1, 0);
	if (_i)
		h_peer_ack(h, 2);
	h_peer(h, SEG_ACK, h_status(h).snd_una - H_ISS, 10);
	struct h_out *o = h_take(h);
	ck_assert(o && (o->seg.flags & SEG_RST));
	h_state(h, TCPS_CLOSED);
	h_free(h);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("user calls");
	TCase *tc = tcase_create("calls");
	tcase_add_loop_test(tc, status_call, 0, STATES);
	tcase_add_loop_test(tc, send_call, 0, STATES);
	tcase_add_loop_test(tc, send_call_in_place, 0, STATES);
	tcase_add_test(tc, send_call_in_place_short);
	tcase_add_loop_test(tc, receive_call, 0, STATES);
	tcase_add_test(tc, receive_call_drains_before_eof);
	tcase_add_test(tc, receive_call_after_reset);
	tcase_add_loop_test(tc, text_after_shutdown, 0, 2);
	tcase_add_loop_test(tc, close_call, 0, STATES);
	tcase_add_loop_test(tc, shutdown_call, 0, STATES);
	tcase_add_test(tc, close_call_after_sends);
	tcase_add_loop_test(tc, abort_call, 0, STATES);
	tcase_add_test(tc, SHLD_3_close_with_unread_data);
	tcase_add_loop_test(tc, SHLD_3_data_after_close, 0, 2);
	suite_add_tcase(s, tc);
	return h_main(s);
}
