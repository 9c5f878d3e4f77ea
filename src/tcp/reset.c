/* RFC 9293 §3.10.7.1: a segment for no connection. */
#include "tcp/tcp.h"

bool tcp_reset_for(const struct tcp_segment *in, struct tcp_segment *out)
{
	if (in->flags & SEG_RST) /* "An incoming segment containing a RST is discarded." */
		return false;
	*out = (struct tcp_segment){.sport = in->dport, .dport = in->sport, .flags = SEG_RST};
	if (in->flags & SEG_ACK) { /* <SEQ=SEG.ACK><CTL=RST> */
		out->seq = in->ack;
		return true;
	}
	/* <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK> */
	out->flags |= SEG_ACK;
	out->ack = in->seq + in->payload_len + !!(in->flags & SEG_SYN) + !!(in->flags & SEG_FIN);
	return true;
}
