#!/bin/sh
# TCP Fast Open of clients against the kernel's server, and against the engine's, over a veth: cookies are asked for, kept for the next process, and used; the kernel's TCP has no part in it, but where
# a rule of the host could concern such a SYN.
# shellcheck source-path=SCRIPTDIR
. "${srcdir:-.}/tests/net/lib.sh"
need nsenter ip python3 nft ss nstat
pair_up
. "${srcdir:-.}/tests/net/fastopen_lib.sh"
in_server sh -c 'echo 3 >/proc/sys/net/ipv4/tcp_fastopen'
in_client sh -c 'echo 1 >/proc/sys/net/ipv4/tcp_fastopen'

kernel_opens() { in_client nstat -az TcpActiveOpens 2>/dev/null | awk '/TcpActiveOpens/ { print $2 }'; }

# says WHAT EXPECTED KERNEL CALL ADDRESS PORT SIZE...   KERNEL: how many of the connections are the kernel's
says() {
	what=$1 expected=$2 kernel=$3
	shift 3
	before=$(kernel_opens)
	said=$( (FINESSE_STRICT=$strict FINESSE_LOG=error finesse_client timeout 300 python3 "$program" "$@") 2>&1 | tr '\n' ',')
	if [ "$said" = "$expected" ]; then pass "$what"; else fail "$what: $said; $(cat "$scratch/server.log")"; fi
	opened=$(($(kernel_opens) - before))
	if [ $opened = "$kernel" ]; then pass "$what: by whom"; else fail "$what: $opened by the kernel"; fi
}

strict=on # a silent fall-back would be an error
for address in $SERVER_IP $V6_SERVER; do
	start natively $address 8080
	says "$address: the first asks for a cookie, the next ones use it" "plain plain,syn-data syn-data,syn-data syn-data," 0 client $address 8080 10 10 5000
	says "$address: the next process has it" "syn-data syn-data," 0 client $address 8080 10
	says "$address: TCP_FASTOPEN_CONNECT" "syn-data syn-data,syn-data syn-data," 0 connecting $address 8080 10 5000
	strict=off
	says "$address: handed over while text is under way" "plain syn-data," 0 handing_over $address 8080 5000
	strict=on
	stop
	start with_finesse $address 8081
	says "$address: both ends are the engine's" "syn-data syn-data,syn-data syn-data," 0 client $address 8081 10 5000
	stop
done

# The proof that no rule could touch the connection fails, so it is the kernel's, and so is what comes of it.
in_client nft -f - <<'RULES'
add table inet t
add chain inet t out { type filter hook output priority 0; }
add rule inet t out tcp dport 8082 tcp option 34 exists counter
add rule inet t out tcp dport 8082 tcp option 34 exists meta length > 1000 drop
RULES
start natively $SERVER_IP 8082
strict=off
says "a rule that looks at the option" "plain plain," 1 client $SERVER_IP 8082 10
stop
in_client nft delete table inet t

# says_the_same WHAT CALL ADDRESS PORT: as natively
says_the_same() {
	natively=$(in_client timeout 300 python3 "$program" "$2" "$3" "$4" 2>&1)
	ours=$( (finesse_client timeout 300 python3 "$program" "$2" "$3" "$4") 2>&1)
	if [ -n "$natively" ] && [ "$natively" = "$ours" ]; then pass "$1"; else fail "$1: natively $natively, here $ours"; fi
}

start natively $SERVER_IP 8083
in_client timeout 300 python3 "$program" client $SERVER_IP 8083 10 >/dev/null # the kernel's cookie
says_the_same "no stamps of what goes with the SYN" stamped $SERVER_IP 8083
says_the_same "connect to AF_UNSPEC while the SYN waits" unconnected $SERVER_IP 8083
says_the_same "TCP_FASTOPEN_CONNECT too late" set_late $SERVER_IP 8083
in_client sh -c 'echo 0 >/proc/sys/net/ipv4/tcp_fastopen'
says_the_same "TCP_FASTOPEN_CONNECT too late, and switched off" set_late $SERVER_IP 8083
in_client sh -c 'echo 1 >/proc/sys/net/ipv4/tcp_fastopen'
stop
finish
