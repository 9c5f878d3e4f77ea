#!/bin/sh
# A SYN to a stranger has no option that Linux's has not; who runs finesse, too, is known from the first connection's FIN on, to other processes as well.
. "${srcdir:-.}/tests/net/lib.sh"
need /usr/bin/python3 ip nsenter
pair_up
server='
import socket, sys
l = socket.create_server(("", int(sys.argv[1])), backlog=16)
while True:
    s = l.accept()[0]
    s.recv(1)
    s.close()'
as_server /usr/bin/python3 -c "$server" 81 9>&- &
native=$!
finesse_server /usr/bin/python3 -c "$server" 80 9>&- &
engine=$!
wait_until 10 in_server sh -c 'ss -Hltn sport = :80 | grep -q . && ss -Hltn sport = :81 | grep -q .'
wait_engine 80
seen() { # [SETTING…]
	in_client /usr/bin/python3 "${srcdir:-.}/tests/net/peers.py" client0 $SERVER_IP 81 80 "$FINESSE_BUILD_DIR/finesse" run --interface client0 "$@" -- | tr '\n' ' '
}
expect() { # WHAT EXPECTED GOT
	if [ "$2" = "$3" ]; then pass "$1"; else fail "$1: expected '$2', got '$3'"; fi
}
expect "a stranger's SYN is Linux's; a friend is known from the second connection on" "SASASA SASASA SAS+A+S+A+ S+A+S+A+S+A+ " "$(seen)"
expect "close-request=always: every SYN offers it" "S+AS+AS+A S+AS+AS+A S+A+S+A+S+A+ S+A+S+A+S+A+ " "$(seen --close-request=always)"
expect "close-request=off: none does" "SASASA SASASA SASASA SASASA " "$(seen --close-request=off)"
kill "$native" "$engine"
finish
