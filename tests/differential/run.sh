#!/bin/sh
# tests/differential/differential.py, its short form, as one of make check's tests. The long one: make check-differential.
[ -x /usr/bin/python3 ] || { echo "skipped: needs python3"; exit 77; }
: "${srcdir:=.}"
FINESSE_BUILD_DIR=$PWD exec /usr/bin/python3 "$srcdir/tests/differential/differential.py" --short
