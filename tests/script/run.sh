#!/bin/sh
# tests/script/script.py as one of make check's tests: each script against the kernel's TCP over IPv4, then against the engine over IPv4, IPv6 and mapped. Needs root and TUN.
[ -x /usr/bin/python3 ] || { echo "skipped: needs python3"; exit 77; }
: "${srcdir:=.}"
player=$srcdir/tests/script/script.py
export FINESSE_BUILD_DIR="$PWD"
/usr/bin/python3 "$player" --native --family 4
native=$?
[ $native = 77 ] && exit 77
/usr/bin/python3 "$player" && exit $native
