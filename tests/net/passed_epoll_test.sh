#!/bin/sh
# An epoll under other numbers than its first, by dup, fork and SCM_RIGHTS: passed_epoll prints the same natively and under finesse, whose engine carries its connections.
# shellcheck source-path=SCRIPTDIR
. "${srcdir:-.}/tests/net/lib.sh"
need python3
pair_up
nsenter --net="/proc/$SERVER_NS/ns/net" /usr/bin/python3 -c "
import socket, threading
def echo(c):
    try:
        while d := c.recv(65536): c.sendall(d)
    except OSError: pass
    c.close()
l = socket.socket(); l.setsockopt(1, 2, 1); l.bind(('$SERVER_IP', 8000)); l.listen(64)
while True: threading.Thread(target=echo, args=(l.accept()[0],), daemon=True).start()" 9>&- &
holders="$holders $!"
listens() {
	in_server ss -Hltn "sport = :8000" | grep -q .
}
wait_until 60 listens
program=$FINESSE_BUILD_DIR/tests/net/passed_epoll
opened() {
	in_client nstat -asz TcpActiveOpens | awk '/TcpActiveOpens/ { print $2 }'
}
in_client timeout 110 "$program" $SERVER_IP 8000 >"$scratch/native" 2>&1
before=$(opened)
asan=$(ldd "$FINESSE_BUILD_DIR/libfinesse.so" | awk '/libasan/ { print $3 }')
(finesse_client env LD_PRELOAD="$asan $FINESSE_BUILD_DIR/libfinesse.so" ASAN_OPTIONS=detect_leaks=0 timeout 110 "$program" $SERVER_IP 8000) >"$scratch/finesse" 2>&1
if grep -q '^# end' "$scratch/native"; then pass "the program ran to its end"; else fail "the program did not run to its end"; fi
if diff "$scratch/native" "$scratch/finesse"; then pass "$(wc -l <"$scratch/native") results are the same"; else fail "results differ"; fi
if [ "$(opened)" = "$before" ]; then pass "the engine carried it"; else fail "the kernel carried it"; fi
finish
