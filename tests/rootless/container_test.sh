#!/bin/sh
# finesse in a container by default: CAP_NET_RAW alone (container.py).
[ -x /usr/bin/python3 ] || { echo "skipped: needs python3"; exit 77; }
: "${srcdir:=.}"
FINESSE_BUILD_DIR=$PWD exec /usr/bin/python3 "$srcdir/tests/rootless/container.py"
