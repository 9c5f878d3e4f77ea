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
	"$2" timeout 1500 "$walk" "$3" "$scratch/peer" $SERVER_IP $hole >"$1" 2>&1
}
with_finesse() {
	FINESSE_CLOSE_POLICY=off finesse_client "$@"
}

kernel_segments() { # that the client's kernel TCP took in so far, but for the loopback's (preload/unconnect.c)
	in_client awk '/^Tcp:/ && $11 + 0 == $11 { n += $11 } $1 == "lo:" { n -= $3 } END { print n }' /proc/net/snmp /proc/net/dev
}

for group in ${ENDS_GROUPS:-resets receives names listeners connects expired reconnects closes}; do
	# It gives the peer's segments, and a thread that calls, a little time, which is too short on a busy machine now and then, natively, too: what differs is wrong if it differs
	# with more time as well.
	for ENDS_SLOWER in 1 5 20; do
		export ENDS_SLOWER
		start=$(kernel_segments)
		run "$scratch/kernel" in_client "$group"
		middle=$(kernel_segments)
		(run "$scratch/finesse" with_finesse "$group")
		native=$((middle - start)) ours=$(($(kernel_segments) - middle))
		! cmp -s "$scratch/kernel" "$scratch/finesse" || break
	done
	if ! tail -n 1 "$scratch/kernel" | grep -q '^end'; then
		fail "$group: on the kernel's TCP it ends early: $(tail -n 3 "$scratch/kernel")"
	elif diff -U 12 "$scratch/kernel" "$scratch/finesse" >"$scratch/diff"; then
		pass "$group: $(wc -l <"$scratch/kernel") lines"
		# Not vacuous: sockets that fell back would be as many.
		[ "$group" = closes ] && continue # a child takes one of its two connections to the kernel
		if [ $((ours * 3)) -lt "$native" ]; then pass "$group: the engine carried it"; else fail "$group: the kernel took $ours segments of $native"; fi
	else
		fail "$group: - the kernel, + finesse"
		head -n "${ENDS_LINES:-60}" "$scratch/diff"; tail -n 3 "$scratch/finesse"
	fi
done
finish
