#!/bin/sh
# The bound on test programs holds: what hangs is described, killed with all that it started, and fails; what ends keeps its status.
set -u
srcdir=${srcdir:-.}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
status=0

bounded() {
	/usr/bin/python3 "$srcdir/tests/bounded.py" "$@" >"$dir/out" 2>&1
	got=$?
}

expect() { # STATUS WHAT
	[ "$got" = "$1" ] && return
	echo "bounded_test: $2: status $got, not $1"
	cat "$dir/out"
	status=1
}

bounded true
expect 0 "a program that passes"
bounded sh -c 'exit 77'
expect 77 "a program that is skipped"
bounded sh -c 'kill -SEGV $$'
expect 139 "a program that a signal ends"
bounded cat
expect 0 "a program that reads its standard input"

# One that waits, beside it a daemon that has lost its parents and its session.
cat >"$dir/hangs" <<'SH'
setsid sh -c 'echo $$ >"$1/daemon"; exec sleep 1000' sh "$1" &
while ! [ -s "$1/daemon" ]; do :; done
(exec setsid sh -c 'sleep 1000 & echo $! >"$1/orphan"' sh "$1")
echo $$ >"$1/parent"
wait
SH
bounded --seconds 2 sh "$dir/hangs" "$dir"
expect 124 "a program that hangs"
grep -q 'has not ended after 2 s' "$dir/out" && grep -q 'sleep 1000' "$dir/out" || {
	echo "bounded_test: what hung was not described"
	cat "$dir/out"
	status=1
}
for who in parent daemon orphan; do
	pid=$(cat "$dir/$who")
	if kill -0 "$pid" 2>/dev/null && ! grep -q '^State:.*Z' "/proc/$pid/status"; then
		echo "bounded_test: the $who ($pid) was left alive"
		kill -9 "$pid"
		status=1
	fi
done
exit $status
