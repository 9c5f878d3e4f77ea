#!/bin/sh
# How connections and listeners end, as a program sees it: tests/net/ends_walk on the kernel's TCP and under finesse, over a veth against the kernel's TCP.
: "${srcdir:=.}"
. "$srcdir/tests/net/lib.sh"
need nsenter ip
pair_up
walk=$FINESSE_BUILD_DIR/tests/net/ends_walk
hole=10.78.0.77
in_client ip neigh add $hole lladdr 02:00:00:00:00:77 dev client0
(exec nsenter --net="/proc/$SERVER_NS/ns/net" "$walk" peer "$scratch/peer") &
holders="$holders $!"
wait_until 5 test -S "$scratch/peer"

run() { # output, runner, group
	"$2" timeout 100 "$walk" "$3" "$scratch/peer" $SERVER_IP $hole >"$1" 2>&1
}
with_finesse() {
	FINESSE_CLOSE_POLICY=off finesse_client "$@"
}

for group in ${ENDS_GROUPS:-resets receives}; do
	run "$scratch/kernel" in_client "$group"
	(run "$scratch/finesse" with_finesse "$group")
	if ! tail -n 1 "$scratch/kernel" | grep -q '^end'; then
		fail "$group: on the kernel's TCP it ends early: $(tail -n 3 "$scratch/kernel")"
	elif diff -U 12 "$scratch/kernel" "$scratch/finesse" >"$scratch/diff"; then
		pass "$group: $(wc -l <"$scratch/kernel") lines"
	else
		fail "$group: - the kernel, + finesse"
		head -n "${ENDS_LINES:-60}" "$scratch/diff"
	fi
done
finish
