/* What ICMP says about a connection (RFC 9293 §3.9.2.2, RFC 5927, RFC 1191, RFC 8201). */
#include "tcp/tcp_int.h"

/* RFC 5927 §4.1: an error about what is not in flight is old, or forged. */
static bool is_in_flight(const struct tcp_conn *c, uint32_t seq)
{
	return SEQ_LEQ(c->fastopen_early ? c->iss : c->snd_una, seq) && SEQ_LT(seq, c->snd_nxt);
}

/*
 * A request that cannot be answered is dropped, and nobody is told: its peer asks again. As Linux's tcp_req_err, whose
 * two families differ: of IPv4 it takes the soft errors (no way to the net or host, time exceeded, bad parameter), of
 * IPv6 the fatal ones. One of Fast Open ends by any of them as long as nobody has accepted it.
 */
static bool ends_embryo(const struct tcp_conn *c, bool hard)
{
	if (c->fastopen_early)
		return !c->fastopen_accepted;
	return !c->passive ? hard : ip_addr_is_v4(&c->key.raddr) ? !hard : hard;
}

enum tcp_unreachable tcp_on_unreachable(struct tcp_conn *c, int64_t now, int err, bool hard, uint32_t seq)
{
	if (c->state <= TCPS_LISTEN || !is_in_flight(c, seq)) {
		TCP_COUNT(c, UnreachableIgnored);
		return TCP_UNREACHABLE_IGNORED;
	}
	/*
	 * RFC 5927 §5.2: in synchronized states hard errors are soft ones, and soft ones never abort (MUST-56). In
	 * SYN-SENT Linux lets soft ones end the attempt, too, as RFC 5461 §4.1 describes: programs expect EHOSTUNREACH
	 * at once, not a time-out.
	 */
	if (c->state == TCPS_SYN_SENT || (c->state == TCPS_SYN_RECEIVED && ends_embryo(c, hard))) {
		TCP_COUNT(c, AttemptFails);
		conn_close(c, now, c->passive && !c->fastopen ? 0 : err);
		return TCP_UNREACHABLE_ENDED;
	}
	c->error_soft = err;
	return TCP_UNREACHABLE_NOTED;
}

void tcp_set_path_mss(struct tcp_conn *c, int64_t now, uint16_t mss_path, bool lost)
{
	(void)now;
	if (mss_path < TCP_MSS_MIN)
		mss_path = TCP_MSS_MIN;
	if (c->state <= TCPS_LISTEN || mss_path == c->mss_path)
		return;
	TCP_COUNT_IF(c, mss_path < c->mss_path, PathMtu, PathMtuRaised);
	c->mss_path = mss_path;
	uint16_t before = c->mss;
	negotiate_mss(c);
	if (c->state == TCPS_SYN_SENT && c->syn_text && c->mss < before)
		c->syn_due = true; /* it was too long, and goes again without its text: as Linux */
	if (lost && c->mss < before && tcp_is_synchronized(c))
		recovery_resegment(c);
}

bool tcp_on_frag_needed(struct tcp_conn *c, int64_t now, uint16_t mss_path, uint32_t seq)
{
	if (c->state <= TCPS_LISTEN || !is_in_flight(c, seq)) {
		TCP_COUNT(c, UnreachableIgnored);
		return false;
	}
	if (mss_path < TCP_MSS_PATH_MIN)
		mss_path = TCP_MSS_PATH_MIN;
	if (mss_path < c->mss_path) /* ICMP never makes it larger */
		tcp_set_path_mss(c, now, mss_path, true);
	return true;
}
