#!/bin/sh
# Where RLIMIT_NOFILE is too small for the engine the kernel serves, and the program has every number that it has natively: the helper, who answers `finesse stat`, takes none.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need ip nsenter setpriv
pair_up

# count LIMIT COMMAND…: how many descriptors the program gets, by the command.
count() {
	limit=$1
	shift
	in_server "$@" "$FINESSE_BUILD_DIR/tests/process/few_numbers" "$limit"
}

for limit in 4 5 6 8 16 40 90; do
	native=$(count $limit env)
	for right in "" "setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource"; do
		# shellcheck disable=SC2086 # a command of some words, or none
		under=$(count $limit $right env LD_PRELOAD="$FINESSE_BUILD_DIR/libfinesse.so" FINESSE_INTERFACE=server0)
		what="$limit numbers ${right:+without CAP_SYS_RESOURCE}"
		if [ "$native" = "$under" ]; then pass "$what: $under left"; else fail "$what: $native left natively, under finesse $under"; fi
	done
done
finish
