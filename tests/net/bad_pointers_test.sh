#!/bin/sh
# A bad pointer is an error of the call that was given it, never a crash: bad_pointers prints the same natively and under finesse, whose engine carries its connection. So is one that
# goes bad during the call (unmapped).
. "${srcdir:-.}/tests/net/lib.sh"
need python3
pair_up
nsenter --net=/proc/$SERVER_NS/ns/net /usr/bin/python3 -c "
import socket
l = socket.socket(); l.setsockopt(1, 2, 1); l.bind(('$SERVER_IP', 8000)); l.listen(5)
while True:
    c, _ = l.accept(); c.sendall(b'hello')
    while d := c.recv(4096): c.send(b'!', 1) if d == b'urgent' else c.sendall(d)
    c.close()" &
holders="$holders $!"
wait_until 10 sh -c "nsenter --net=/proc/$SERVER_NS/ns/net ss -Hltn 'sport = :8000' | grep -q ."
program=$FINESSE_BUILD_DIR/tests/net/bad_pointers
in_client timeout 60 "$program" $SERVER_IP 8000 >"$scratch/native" 2>&1
under_finesse() {
	preload_client detect_leaks=0:handle_segv=0:handle_sigbus=0:allow_user_segv_handler=1 timeout 60 "$@"
}
before=$(kernel_opened)
under_finesse "$program" $SERVER_IP 8000 >"$scratch/finesse" 2>&1
compare_outputs
# Two connections by loopback, to its own listeners; the other is the engine's.
if [ "$(kernel_opened)" = $((before + 2)) ]; then pass "the engine carried it"; else fail "the kernel carried it"; fi
under_finesse "$FINESSE_BUILD_DIR/tests/net/unmapped" $SERVER_IP 8000 >"$scratch/unmapped" 2>&1
said=$(cat "$scratch/unmapped")
if [ "$said" = "the connection works" ]; then pass "memory that another thread takes away ends the call, and nothing else"; else fail "memory that another thread takes away: $said"; fi
if [ "$(kernel_opened)" = $((before + 2)) ]; then pass "the engine carried that, too"; else fail "the kernel carried it"; fi
finish
