#!/bin/sh
# A program that sets a filter of system calls (seccomp) makes the same calls from then on, natively and under finesse: whether it had TCP sockets before or not.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need ip nsenter awk ss
pair_up
filtered=$FINESSE_BUILD_DIR/tests/process/filtered
port=8000
(exec nsenter --net="/proc/$CLIENT_NS/ns/net" "$filtered" peer $port) &
holders="$holders $!"
listens() {
	in_client ss -Hltn "sport = :$port" | grep -q .
}
wait_until 5 listens

opens() { # of connections, by the kernel's TCP of the server's namespace
	in_server awk '$1 == "Tcp:" && $2 ~ /[0-9]/ { print $6 }' /proc/net/snmp
}

compare() { # name, arguments
	name=$1
	shift
	in_server "$filtered" trace "$scratch/native" "$filtered" "$@" || fail "$name: natively it ends wrong"
	before=$(opens)
	in_server "$filtered" trace "$scratch/ours" env LD_PRELOAD="$FINESSE_BUILD_DIR/libfinesse.so" FINESSE_INTERFACE=server0 "$filtered" "$@" || fail "$name: it ends wrong"
	by_kernel=$(($(opens) - before))
	calls=$(wc -l <"$scratch/native")
	if [ "$calls" -lt 100 ]; then
		fail "$name: $calls calls natively"
	elif diff "$scratch/native" "$scratch/ours" >"$scratch/diff"; then
		pass "$name: $calls calls"
	else
		fail "$name: < natively, > under finesse (step: number(first argument))"
		head -n 60 "$scratch/diff"
	fi
}

compare "no TCP before" bare
compare "a listener and a connection before" served $CLIENT_IP $port
# Not vacuous: its own connection was the engine's. The one behind the filter is the kernel's, over loopback.
if [ "$by_kernel" = 1 ]; then pass "the engine had it before"; else fail "the kernel's TCP opened $by_kernel connections"; fi
finish
