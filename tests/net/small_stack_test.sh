#!/bin/sh
# Threads with the least stack that pthreads allow make every kind of call, as natively: the engine's part of a call needs little.
# shellcheck source-path=SCRIPTDIR
. "${srcdir:-.}/tests/net/lib.sh"
need socat
pair_up
nsenter --net="/proc/$CLIENT_NS/ns/net" socat TCP-LISTEN:8000,fork,reuseaddr PIPE 9>&- &
holders="$holders $!"
listens() {
	in_client ss -Hltn "sport = :8000" | grep -q .
}
wait_until 60 listens
program=$FINESSE_BUILD_DIR/tests/net/small_stack
in_server "$program" $CLIENT_IP 8000 >"$scratch/native"

# compare WHAT COMMAND…: the program by the command says what it says natively.
compare() {
	what=$1
	shift
	in_server env FINESSE_LOG=info "$@" "$program" $CLIENT_IP 8000 >"$scratch/ours" 2>"$scratch/said"
	if ! diff "$scratch/native" "$scratch/ours"; then
		fail "$what: not as natively: $(cat "$scratch/said")"
	elif ! grep -q "serving TCP of" "$scratch/said"; then
		fail "$what: the engine did not serve: $(cat "$scratch/said")"
	else
		pass "$what: $(wc -l <"$scratch/ours") calls as natively"
	fi
}

compare "the library alone" FINESSE_INTERFACE=server0 LD_PRELOAD="$FINESSE_BUILD_DIR/libfinesse.so"
compare "beside a broker" "$FINESSE_BUILD_DIR/finesse" run --interface server0 --
compare "serving two families and all interfaces" "$FINESSE_BUILD_DIR/finesse" run --
finish
