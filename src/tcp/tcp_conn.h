/* The connection's own state. Included by tcp/tcp.h only; fields belong to src/tcp. */
#ifndef FINESSE_TCP_TCP_CONN_H
#define FINESSE_TCP_TCP_CONN_H

struct tcp_conn {
	struct tcp_stack *stack;
	struct flow_key key;
	enum tcp_state state;
};

#endif
