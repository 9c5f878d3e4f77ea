#!/bin/sh
# The broker and who means ill: nothing is given to them, and it serves the others afterwards.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need ip nsenter pgrep setpriv unshare
pair_up
hostile=$FINESSE_BUILD_DIR/tests/process/hostile_member

finesse_server sleep 1000 &
pid=$!
holders="$holders $pid"
value() {
	tr '\0' '\n' <"/proc/$pid/environ" | sed -n 's/^FINESSE__BROKER=//p'
}
has_value() {
	[ -n "$(value)" ]
}
wait_until 10 has_value
value=$(value)

if in_client timeout 60 "$hostile" "$value" >"$scratch/out" 2>&1; then fail "from another network namespace: it is reached"; else pass "from another network namespace, nobody is there"; fi
in_server setpriv --reuid=65534 --regid=65534 --clear-groups timeout 60 "$hostile" "$value" >"$scratch/out"
status=$?
cat "$scratch/out"
if [ "$status" = 0 ]; then pass "$(grep -c ^ok "$scratch/out") requests of a hostile member"; else fail "hostile requests: status $status"; fi

# The broker is there, and its members that ended have left nothing open.
broker=$(for one in $(pgrep -x finesse-broker); do
	[ "$(readlink "/proc/$one/ns/net")" = "$(readlink /proc/$SERVER_NS/ns/net)" ] && echo "$one"
done)
few_files() { # beside those of the namespace's settings
	[ "$(for fd in "/proc/$broker/fd/"*; do readlink "$fd"; done | grep -vc '/sys/net/')" -lt 30 ]
}
wait_until 10 few_files && pass "the broker keeps nothing of them"

# One that has few numbers: strangers cannot keep it from those who have the token, nor from its rest. (Two hundred are more than its queue takes.)
(ulimit -n 32 && finesse_server sleep 1000) &
pid=$!
holders="$holders $pid"
wait_until 10 has_value
if in_server setpriv --reuid=65534 --regid=65534 --clear-groups timeout 60 "$hostile" "$(value)" strangers >"$scratch/out"; then
	pass "strangers beside a broker that has 32 numbers"
else
	cat "$scratch/out"
	fail "strangers beside a broker that has 32 numbers"
fi
finish
