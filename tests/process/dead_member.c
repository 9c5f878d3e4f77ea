/*
 * A member of the broker's that has one connection, and dies: dead_member VALUE LADDR LPORT RADDR RPORT. VALUE: the
 * variable's. IPv4.
 */
#include <arpa/inet.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "kernel/living.h"
#include "process/broker.h"

static struct ip_addr addr(const char *text)
{
	struct in_addr a;
	if (inet_pton(AF_INET, text, &a) != 1)
		exit(2);
	return ip_addr_from_v4(&a);
}

int main(int argc, char **argv)
{
	char name[BROKER_NAME_LEN + 1];
	struct broker_request r = {.op = BROKER_HELLO};
	struct sockaddr_un to;
	struct living *table;
	if (argc != 6 || !broker_parse(argv[1], name, r.token))
		return 2;
	struct flow_key key = {.laddr = addr(argv[2]), .lport = atoi(argv[3]), .raddr = addr(argv[4]), .rport = atoi(argv[5])};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	socklen_t len = broker_address(name, &to);
	if (living_new(&table, if_nametoindex("server0")) || !living_add(table, &key) || connect(fd, (struct sockaddr *)&to, len))
		return 1;
	broker_send(fd, &r, sizeof r, NULL, 0);
	memset(&r, 0, sizeof r);
	r.op = BROKER_TABLE;
	return broker_send(fd, &r, sizeof r, &(struct broker_fds){.fd = {living_fd(table)}, .n = 1}, 0) != 0;
}
