/* Names of states, counters and reasons. */
#include "tcp/tcp.h"

#define COUNT_OF(a) (sizeof(a) / sizeof(a)[0])

const char *tcp_state_name(enum tcp_state state)
{
	static const char *const names[] = {
		[TCPS_CLOSED] = "CLOSED",
		[TCPS_LISTEN] = "LISTEN",
		[TCPS_SYN_SENT] = "SYN-SENT",
		[TCPS_SYN_RECEIVED] = "SYN-RECEIVED",
		[TCPS_ESTABLISHED] = "ESTABLISHED",
		[TCPS_FIN_WAIT_1] = "FIN-WAIT-1",
		[TCPS_FIN_WAIT_2] = "FIN-WAIT-2",
		[TCPS_CLOSE_WAIT] = "CLOSE-WAIT",
		[TCPS_CLOSING] = "CLOSING",
		[TCPS_LAST_ACK] = "LAST-ACK",
		[TCPS_TIME_WAIT] = "TIME-WAIT",
	};
	return state < COUNT_OF(names) ? names[state] : "?";
}

const char *tcp_counter_name(enum tcp_counter counter)
{
	static const char *const names[] = {
#define TCP_COUNTER(name, text) #name,
#include "tcp/tcp_counter.def"
#undef TCP_COUNTER
	};
	return counter < COUNT_OF(names) ? names[counter] : "?";
}
