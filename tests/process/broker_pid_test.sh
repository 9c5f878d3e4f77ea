#!/bin/sh
# The broker knows its members by more than their pids (pid_again.c). In a namespace of processes: there this program may say what the next pid is.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need ip nsenter unshare
pair_up
# shellcheck disable=SC2016
in_server timeout 100 unshare --pid --fork --kill-child --mount-proc sh -c '"$@"; exit $?' sh \
	"$FINESSE_BUILD_DIR/finesse" run --interface server0 -- "$FINESSE_BUILD_DIR/tests/process/pid_again" >"$scratch/out"
status=$?
cat "$scratch/out"
[ "$status" = 77 ] && exit 77
if [ "$status" = 0 ]; then pass "a member is its process, not its pid"; else fail "status $status"; fi
finish
