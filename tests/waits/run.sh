#!/bin/sh
# Waiting and the ways out of it, as one of make check's tests.
[ -x /usr/bin/python3 ] || { echo "skipped: needs python3"; exit 77; }
FINESSE_BUILD_DIR=$PWD exec /usr/bin/python3 "${srcdir:-.}/tests/waits/waits.py" "$@"
