/*
 * Close request: a server asks its client to close first. Between two ends that both speak it; an experimental TCP
 * option (kind 253, RFC 4727) told apart by an experiment identifier (RFC 6994 §3), which is not registered.
 *
 * 1. Why. Who sends the first FIN keeps the TIME-WAIT. A server that has said everything cannot bring a client to close
 *    that waits for the end of
 *    file, because the end of file is the FIN. The request is an end of file without a FIN: the client's application
 *    reads EOF, closes, and the first FIN is the client's.
 *
 * 2. Format. In SYN and SYN-ACK, "capable":       kind 253, length 4, ExID.
 *    Afterwards, request and echo:                kind 253, length 8, ExID, final sequence number.
 *    The final sequence number is where the server's FIN would stand: that of the last byte, plus one.
 *
 * 3. Negotiation. The active opener offers, to a peer that the caller knows to speak it (kernel/peers.h: a stranger's
 *    SYN is Linux's to the byte); the passive
 *    opener confirms what was offered. Each leaves the option out from its second retransmission of the SYN or SYN-ACK
 *    on, for middleboxes that drop what they do not know; one lost SYN does not lose the agreement. Where a handshake
 *    was only completed so, the caller remembers the peer's network for a while and does not offer
 *    (tcp_close_request_unheard). The feature is on when both SYNs carried it. Where the two ends disagree (a SYN-ACK
 *    without it after one with it), the request is not answered: §5.
 *
 * 4. The server, at close or shutdown(SHUT_WR), when the policy says CLOSE_ASK. The connection is held as hold.c does
 *    (ESTABLISHED, fin_wanted, fin_held), so the
 *    final sequence number is fixed from then on. Every segment carries the request until it is echoed, data in flight
 *    or not, window open or not; when nothing else goes, a bare ACK does. The hold's own deadline bounds how long the
 *    client's application may take.
 *
 * 5. Repetition. Without an echo the request goes again after an RTO, doubled the second time; after two misses the FIN
 *    goes, and the close is an ordinary
 *    one. That covers loss, a middlebox that strips the option, and an end that changed its mind (a snapshot imported
 *    by a kernel).
 *
 * 6. The client. A request counts where a FIN would: in a segment that passed the checks of sequence number, timestamp
 *    and ACK (RFC 9293 §3.10.7.4
 *    first to fifth step, RFC 5961), in ESTABLISHED, on a connection that it opened. The final sequence number must not
 *    lie before RCV.NXT; it may lie beyond the window. It is echoed at once, each time it comes. The first one stands:
 *    another number is ignored. When RCV.NXT reaches it, the application gets EOF as from a FIN (POLLIN, POLLRDHUP,
 *    recv returns 0); RCV.NXT does not move. The state stays ESTABLISHED: a close sends FIN and leads by FIN-WAIT-1 and
 *    -2 to TIME-WAIT. Data beyond the final sequence number is the server's breach: before EOF it voids the request,
 *    after EOF it is dropped as beyond a FIN.
 *
 * 7. Half-close. shutdown(SHUT_WR) asks, too: the client sees what it would see of a FIN, may go on sending, and while
 *    the
 *    server's application holds the socket its data is delivered. After the server's close, data is answered by FIN,
 *    then RST, as in any hold.
 *
 * 8. Crossing FINs. The client's FIN ends the hold; our FIN follows at once (CLOSE-WAIT, LAST-ACK). A client in
 *    FIN-WAIT-1 or later ignores requests. An application that
 *    never closes finds the server's FIN when the hold ends: CLOSE-WAIT as ever.
 *
 * Security: nothing here lets a third party do what a forged FIN could not. A peer that echoes and never closes gains
 * what the hold's bound gives it. Events: hold.c begins and ends; input.c brings options; output.c carries them; cr_at
 * is the timer. No memory beyond struct tcp_conn.
 */
#include "tcp/tcp_int.h"

#define REQUEST_MISSES_MAX 2

bool close_request_in_syn(const struct tcp_conn *c)
{
	return c->cr_on && c->rtx_count < 2;
}

/* Does an outgoing segment carry the option? */
bool close_request_carried(const struct tcp_conn *c)
{
	return c->cr_asking || c->cr_echo_due;
}

void close_request_emit(struct tcp_conn *c, struct tcp_segment *seg)
{
	seg->has |= SEG_HAS_CLOSE_REQUEST;
	seg->close_seq = c->cr_seq;
	c->cr_due = false;
	c->cr_echo_due = false;
}

/* ---- the server ---- */

void close_request_begin(struct tcp_conn *c, int64_t now)
{
	TCP_COUNT(c, CloseRequestSent);
	c->cr_asked = c->cr_asking = c->cr_due = true;
	c->cr_seq = snd_end(c);
	c->cr_misses = 0;
	c->cr_at = now + c->rto_us;
}

void close_request_end(struct tcp_conn *c)
{
	c->cr_asking = c->cr_due = false;
	c->cr_at = TIME_NEVER;
}

void close_request_tick(struct tcp_conn *c, int64_t now)
{
	TCP_COUNT(c, CloseRequestMissed);
	c->cr_misses++;
	if (c->cr_misses == REQUEST_MISSES_MAX) {
		hold_release(c, now, CLOSE_END_EXPIRED);
		return;
	}
	c->cr_due = true;
	c->cr_at = now + ((int64_t)c->rto_us << c->cr_misses);
}

static void on_echo(struct tcp_conn *c, uint32_t seq)
{
	if (!c->cr_asking || seq != c->cr_seq)
		return;
	TCP_COUNT(c, CloseRequestEchoed);
	c->cr_answered = true;
	close_request_end(c);
}

/* ---- the client ---- */

static void on_request(struct tcp_conn *c, uint32_t seq)
{
	if (c->state != TCPS_ESTABLISHED || (c->cr_known && seq != c->cr_seq) || (!c->cr_known && SEQ_LT(seq, c->rcv_nxt))) {
		TCP_COUNT(c, CloseRequestIgnored);
		return;
	}
	if (!c->cr_known) {
		TCP_COUNT(c, CloseRequestRcvd);
		c->cr_known = true;
		c->cr_seq = seq;
	}
	c->cr_echo_due = c->ack_due = true;
}

void close_request_input(struct tcp_conn *c, const struct tcp_segment *seg)
{
	if (!c->cr_on)
		TCP_COUNT(c, CloseRequestIgnored);
	else if (c->passive)
		on_echo(c, seg->close_seq);
	else
		on_request(c, seg->close_seq);
}

/* RCV.NXT moved. */
void close_request_reached(struct tcp_conn *c)
{
	if (!c->cr_known || c->cr_eof || SEQ_LT(c->rcv_nxt, c->cr_seq))
		return;
	if (c->rcv_nxt != c->cr_seq && !c->peer_fin) { /* there was more to come: no end */
		TCP_COUNT(c, CloseRequestIgnored);
		c->cr_known = c->cr_echo_due = false;
		return;
	}
	c->cr_eof = true;
	c->events |= TCP_EV_PEER_FIN;
}
