#!/bin/sh
# The differential runner can fail: a difference that nobody expects, an expected one that does not occur, too little time. A listener that is mapped and closed differs and will.
[ "$(id -u)" = 0 ] || { echo "skipped: needs root"; exit 77; }
[ -x /usr/bin/python3 ] || { echo "skipped: needs python3"; exit 77; }
: "${srcdir:=.}"
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
failed=0

# What it should exit with, what it should say, what is expected of the cases; then further arguments
verdict() {
	want=$1 say=$2 expected=$3
	shift 3
	printf "$expected" >"$dir/expected"
	FINESSE_BUILD_DIR=$PWD timeout 600 /usr/bin/python3 "$srcdir/tests/differential/differential.py" --expected "$dir/expected" "$@" >"$dir/out" 2>&1
	got=$?
	if [ $got -ne "$want" ] || ! grep -q -- "$say" "$dir/out"; then
		echo "FAILED: exit status $got, not $want; or it does not say \"$say\""
		cat "$dir/out"
		failed=1
	fi
}
mmap='listen-again/none/nb/mmap\tthen: 0:00000000 open\tthen: 0:00000000 rst\tthe reason\n'
nothing='acc/none/nb/fsync\tfsync=0\tfsync=-1 EIO\tnever\n'
pair="--only listen-again/none/nb/mmap --only acc/none/nb/fsync --unused"

verdict 0 "2 cases, 1 differ, 0 problems" "$mmap" $pair
verdict 1 "^listen-again/none/nb/mmap$" "" $pair
verdict 1 "^listen-again/none/nb/mmap$" "listen-again/none/nb/mmap\tthen: 0:00000000 open\tthen: 0:00000000 fin\tanother result\n" $pair
verdict 1 "^listen-again/none/nb/mmap$" "listen-again/none/b/mmap\tthen: 0:00000000 open\tthen: 0:00000000 rst\tanother case\n" $pair
verdict 1 "nothing differs in this way any more: acc/none/nb/fsync" "$mmap$nothing" $pair
verdict 1 "not four fields" "listen-again/none/nb/mmap\tthen: 0:00000000 open\tthen: 0:00000000 rst\t\n" $pair

# In parts: what is done is kept, what is not reached is a failure.
verdict 1 "2 cases were not reached" "$mmap" $pair --keep "$dir/kept" --minutes 0
verdict 0 "2 cases, 1 differ, 0 problems" "$mmap" $pair --keep "$dir/kept"
verdict 0 "2 cases, 1 differ, 0 problems" "$mmap" $pair --keep "$dir/kept" --minutes 0
exit $failed
