#!/bin/bash
# Instructions that the TCP core takes, both ends together: for a request, a connection, and 64 KiB of bulk (core_bench.c), counted by callgrind. Repeatable to the
# instruction, so that a change of the core shows what it costs, on a busy machine, too. PROGRAM is linked as libfinesse.so is; the recorded figures are of a build with
# link-time optimisation.
#
#     core.sh PROGRAM FIGURES [record]
#
# Compares with the file FIGURES and ends with 1 where one is more than 3 % above it; `record` writes the file anew. Another compiler makes other code: record first,
# change then. 77 without valgrind.
set -eu
program=$1 figures=$2 record=${3-}
command -v callgrind_annotate >/dev/null && command -v valgrind >/dev/null || { echo "core.sh needs valgrind"; exit 77; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Instructions in the functions of src/ when it is done $2 times; the test's own, malloc and memcpy are left out.
count() {
	valgrind -q --tool=callgrind --callgrind-out-file="$scratch/out" "$program" "$1" "$2" >&2
	callgrind_annotate --threshold=100 --auto=no "$scratch/out" |
		awk '/src\/(tcp|base|wire|steer)\// && match($0, /[0-9,]+/) { n = substr($0, RSTART, RLENGTH); gsub(",", "", n); sum += n } END { printf "%d\n", sum }'
}

status=0
for kind in request connection bulk; do
	few=$(count $kind 50) many=$(count $kind 250) # the difference has no start in it
	now=$(((many - few) / 200))
	[ "$now" -gt 0 ] || { echo "no instruction of src/ was counted: built without -g?"; exit 1; }
	echo "$kind $now" >>"$scratch/figures"
	was=$(sed -n "s/^$kind //p" "$figures" 2>/dev/null || true)
	echo "$kind: $now instructions${was:+, recorded $was}"
	[ -z "$was" ] || [ "$record" ] || [ $((now * 100)) -le $((was * 103)) ] || { echo "$kind: more than 3 % above what is recorded"; status=1; }
done
[ "$record" != record ] || cp "$scratch/figures" "$figures"
exit $status
