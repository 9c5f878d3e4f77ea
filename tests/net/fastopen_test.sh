#!/bin/sh
# TCP Fast Open of servers against the kernel's client over a veth: cookies are asked for, given and used; those of the kernel are the engine's, and the other way
# round; with a firewall that judges SYNs, and where processes share the listener. shellcheck source-path=SCRIPTDIR
. "${srcdir:-.}/tests/net/lib.sh"
need nsenter ip python3 nft ss
pair_up
. "${srcdir:-.}/tests/net/fastopen_lib.sh"
in_server sh -c 'echo 2 >/proc/sys/net/ipv4/tcp_fastopen'
in_client sh -c 'echo 1 >/proc/sys/net/ipv4/tcp_fastopen; echo 1 >/proc/sys/net/ipv4/tcp_no_metrics_save'

forget() { in_client ip tcp_metrics flush all >/dev/null 2>&1; }

# says WHAT EXPECTED ADDRESS PORT SIZE...
says() {
	what=$1 expected=$2
	shift 2
	said=$(in_client timeout 300 python3 "$program" client "$@" 2>&1 | tr '\n' ',')
	if [ "$said" = "$expected" ]; then pass "$what"; else fail "$what: $said; $(cat "$scratch/server.log")"; fi
}

# Not vacuous: the engine did it.
by_engine() { # WHAT
	if in_server "$FINESSE_BUILD_DIR/finesse" stat --json | grep -qE '"FastopenPassive": ?[1-9]'; then pass "$1: by the engine"; else fail "$1: not by the engine"; fi
}

for address in $SERVER_IP $V6_SERVER; do
	forget
	start with_finesse $address 8080 1
	says "$address: the first asks for a cookie, the next ones use it" "plain plain,syn-data syn-data,syn-data syn-data," $address 8080 10 10 5000
	by_engine $address
	stop
	start natively $address 8081 1
	says "$address: the engine's cookie is the kernel's" "syn-data syn-data," $address 8081 10
	forget
	says "$address: the kernel gives one" "plain plain," $address 8081 10
	stop
	start with_finesse $address 8080 1
	says "$address: the kernel's cookie is the engine's" "syn-data syn-data," $address 8080 10
	stop
done

forget
in_server nft -f - <<'RULES'
add table inet t
add chain inet t in { type filter hook input priority 0; policy drop; }
add rule inet t in ct state established,related accept
add rule inet t in icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
add rule inet t in tcp sport 9 drop
add rule inet t in tcp dport 8082 ct state new accept
RULES
start with_finesse $SERVER_IP 8082 1
# The judge hands on a SYN's header only: the connection opens at once, and its text comes again.
says "judged by the firewall" "plain plain,plain plain,plain plain," $SERVER_IP 8082 10 10 5000
by_engine "judged"
stop
in_server nft flush ruleset

forget
start with_finesse $SERVER_IP 8083 2
says "two processes" "plain plain,syn-data syn-data,syn-data syn-data,syn-data syn-data," $SERVER_IP 8083 10 10 10 10
by_engine "two processes"
stop

# Accepted before its handshake is complete, a connection goes to another process, or to the kernel, after that. The client's ACK is lost; that of the next SYN-ACK is not.
port=8084
for how in forks passes option; do
	in_client nft -f - <<RULES
add table ip d
flush table ip d
add chain ip d out { type filter hook output priority 0; }
add rule ip d out tcp dport $port tcp flags & (syn | ack | psh | fin) == ack quota 60 bytes counter drop
RULES
	start with_finesse $SERVER_IP $port 1 $how
	if [ $how = option ]; then told=syn-data; else told=plain; fi # the kernel's socket of the other process does not know
	says "$how before the last ACK" "syn-data $told," $SERVER_IP $port 10
	if in_client nft list table ip d | grep -q 'counter packets 1 '; then pass "$how: the ACK was lost"; else fail "$how: no ACK was lost: $(in_client nft list table ip d)"; fi
	by_engine "$how"
	stop
	port=$((port + 1)) # processes of the last one may end after it
done
finish
