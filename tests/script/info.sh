#!/bin/sh
# tests/script/info.py as one of make check's tests: each field of struct tcp_info as the kernel's TCP tells it, at each step of scripts. Needs root and TUN.
[ -x /usr/bin/python3 ] || { echo "skipped: needs python3"; exit 77; }
: "${srcdir:=.}"
export FINESSE_BUILD_DIR="$PWD"
exec /usr/bin/python3 "$srcdir/tests/script/info.py"
