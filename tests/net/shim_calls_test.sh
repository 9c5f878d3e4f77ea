#!/bin/sh
# The shim is invisible: shim_calls prints the same results and errnos natively, under libfinesse.so on the kernel's TCP, and under the shim over a fake
# engine (hidden kernel sockets), where every engine path of the wrappers runs. And the shared objects export calls.def, nothing else.
: "${FINESSE_BUILD_DIR:=.}"
srcdir=${srcdir:-.}
build=$(cd "$FINESSE_BUILD_DIR" && pwd)
scratch=$(mktemp -d) || exit 99
trap 'rm -rf "$scratch"' EXIT
failed=0

check() { # text, command…
	text=$1
	shift
	if "$@"; then echo "ok   $text"; else echo "FAIL $text"; failed=1; fi
}

exports() {
	nm -D --defined-only "$1" | awk '{ print $3 }' | LC_ALL=C sort
}
sed -nE 's/^(CALL|ALIAS)\(([A-Za-z0-9_]+),.*/\2/p' "$srcdir/preload/calls.def" | LC_ALL=C sort >"$scratch/names"
for library in libfinesse.so tests/unit/libshimfake.so; do
	exports "$build/$library" >"$scratch/exports"
	check "$library exports calls.def" diff "$scratch/names" "$scratch/exports"
	check "$library has no version nodes" sh -c '! readelf --version-info "$1" | grep -q "Version definition"' sh "$build/$library"
done

if ! unshare --net true 2>/dev/null; then
	echo "skipped the calls: needs root"
	[ $failed = 1 ] && exit 1
	exit 77
fi

# A sanitizer's runtime has to come first. Leaks are not this test's question: children end by exec and _exit.
asan=$(ldd "$build/libfinesse.so" | awk '/libasan/ { print $3 }')
ASAN_OPTIONS=detect_leaks=0
export ASAN_OPTIONS

# Its own namespace: the ports are ours, and the kernel takes those of clients from elsewhere. Only the program is preloaded, not the tools.
run() { # output, port, variables…
	output=$1 port=$2
	shift 2
	unshare --net sh -c 'ip link set lo up && echo 50000 60999 >/proc/sys/net/ipv4/ip_local_port_range && exec timeout 100 env "$@"' sh "$@" "$build/tests/net/shim_calls" "$port" >"$output" 2>&1
}
check "natively" run "$scratch/native" 41000
check "under the shim, kernel sockets" run "$scratch/kernel" 41000 LD_PRELOAD="$asan $build/libfinesse.so"
check "under the shim, fake engine" run "$scratch/fake" 40000 LD_PRELOAD="$asan $build/tests/unit/libshimfake.so" FAKE_ENGINE_REPORT="$scratch/report"
check "the program ran to its end" grep -q '^# end' "$scratch/native"
check "kernel sockets: same results and errnos" diff "$scratch/native" "$scratch/kernel"
check "fake engine: same results and errnos" diff "$scratch/native" "$scratch/fake"
# Not vacuous: the engine was asked, and gave some sockets back.
check "the engine carried it ($(tail -n 1 "$scratch/report"))" \
	grep -qE '^listen [1-9][0-9]* connect [1-9][0-9]* accept [1-9][0-9]* handover [1-9].* exit 1 ' "$scratch/report"
echo "$(wc -l <"$scratch/native") lines compared"
exit $failed
