#!/bin/bash
# Readiness as on the kernel's TCP: ready_steps runs generated sequences natively and under finesse over a veth, and must print the same.
# Usage: ready_steps_test.sh [SEED…|calls]     (a failure names the seed; the same seed makes the same steps)
: "${FINESSE_BUILD_DIR:=.}"
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need ip nsenter timeout
steps=$(cd "$FINESSE_BUILD_DIR" && pwd)/tests/net/ready_steps
[ $# -gt 0 ] || set -- calls 3 6 9 12 14 22 24 29 35 36 41 43 57 60 218

pair_up
(exec nsenter --net="/proc/$CLIENT_NS/ns/net" "$steps" peer "$scratch/control" "$SERVER_IP") >"$scratch/peer" 2>&1 &
holders="$holders $!"
wait_until 5 test -S "$scratch/control"

opens() { # connections that the kernel of the program's side opened, either way
	in_server awk '/^Tcp: [0-9]/ { print $6 + $7 }' /proc/net/snmp
}

# shellcheck disable=SC2086
for seed in "$@"; do
	what="run $scratch/control $CLIENT_IP $seed"
	[ "$seed" != calls ] || what="calls $scratch/control $CLIENT_IP"
	in_server timeout 60 "$steps" $what >"$scratch/native" 2>"$scratch/counts" </dev/null
	before=$(opens)
	(exec nsenter --net="/proc/$SERVER_NS/ns/net" timeout 60 env -u FINESSE_BUILD_DIR "$FINESSE_BUILD_DIR/finesse" run --interface server0 -- \
		"$steps" $what) >"$scratch/finesse" 2>"$scratch/finesse.err" </dev/null
	kernels=$(($(opens) - before))
	loopback=$(awk '{ print $4 }' "$scratch/counts")
	if ! grep -q '# end' "$scratch/native"; then
		fail "seed $seed: did not run to its end natively: $(tail -n 2 "$scratch/native" "$scratch/counts")"
	elif ! diff "$scratch/native" "$scratch/finesse" >"$scratch/diff"; then
		fail "seed $seed: $(grep -c '^[<>]' "$scratch/diff") lines differ (< kernel, > finesse)"
		head -n 8 "$scratch/diff"
		head -n 3 "$scratch/finesse.err"
	elif [ "$kernels" -gt $((2 * loopback)) ]; then
		fail "seed $seed: the kernel opened $kernels connections, of which $((2 * loopback)) by loopback"
	else
		pass "seed $seed: $(wc -l <"$scratch/native") lines, $(cat "$scratch/counts")"
	fi
done
finish
