#!/bin/sh
# Links that the broker makes ahead: two lie ready where one was taken, and the place of a program that ended is the next one's.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need ip nsenter pgrep
pair_up
listens=$FINESSE_BUILD_DIR/tests/process/sandboxed
ROUNDS=30

# A tree that runs one short program whenever it is told to.
mkfifo "$scratch/go" "$scratch/over"
finesse_server sh -c 'while read -r _; do "$0" listen; echo over; done' "$listens" <"$scratch/go" >"$scratch/over" &
holders="$holders $!"
exec 3>"$scratch/go" 4<"$scratch/over"
run_one() {
	echo go >&3
	read -r _ <&4
}

has_broker() {
	for broker in $(pgrep -x finesse-broker); do
		[ "$(readlink "/proc/$broker/ns/net")" = "$(readlink "/proc/$SERVER_NS/ns/net")" ] && return
	done
	false
}

# The broker's descriptors of one kind.
count() {
	for fd in "/proc/$broker/fd/"*; do readlink "$fd"; done | grep -c "$1"
}
# The broker has the two programs of each link that lies ready, and of no other.
has_ready() {
	[ "$(count 'bpf-prog')" -eq $((2 * $1)) ]
}
wait_until 10 has_broker

# What nobody asked for is given up after two seconds: a look that took so long says nothing, and is repeated.
now_ms() {
	echo $(($(date +%s%N) / 1000000))
}
wait_until 10 has_ready 1 # the first finds one: who finds none has one more made
for _ in 1 2 3 4 5; do
	ready=no
	run_one
	since=$(now_ms)
	while [ $ready = no ] && [ $(($(now_ms) - since)) -lt 1500 ]; do
		if has_ready 2; then ready=yes; fi
	done
	if [ $ready = yes ] || [ $(($(now_ms) - since)) -lt 1900 ]; then break; fi
done
if [ $ready = yes ]; then pass "two links lie ready when one was taken"; else fail "$(count bpf-prog) programs of links lie ready"; fi

# The number of an attachment is its own for ever.
links() {
	sed -n 's/^link_id:[[:space:]]*//p' "/proc/$broker/fdinfo/"* 2>/dev/null
}
i=0
while [ $i -lt $ROUNDS ]; do
	run_one
	links >>"$scratch/links"
	i=$((i + 1))
done
distinct=$(sort -u "$scratch/links" | wc -l)
if [ "$distinct" -gt 0 ] && [ "$distinct" -le $((ROUNDS / 2)) ]; then pass "$ROUNDS programs share attachments"; else fail "$ROUNDS programs had $distinct attachments"; fi
exec 3>&- 4<&-
finish
