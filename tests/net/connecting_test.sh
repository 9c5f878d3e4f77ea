#!/bin/sh
# Connecting beside something else, as one of make check's tests.
[ -x /usr/bin/python3 ] || { echo "skipped: needs python3"; exit 77; }
FINESSE_BUILD_DIR=$PWD exec /usr/bin/python3 "${srcdir:-.}/tests/net/connecting.py"
