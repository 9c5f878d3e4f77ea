#!/bin/sh
# Whose SYNs are answered: sources of every kind, natively and under finesse (sources.py).
[ "$(id -u)" = 0 ] || { echo "skipped: needs root"; exit 77; }
export FINESSE_BUILD_DIR="$PWD"
exec timeout 900 /usr/bin/python3 "${srcdir:-.}/tests/net/sources.py"
