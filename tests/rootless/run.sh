#!/bin/sh
# finesse in a user's own namespaces, as one of make check's tests.
[ -x /usr/bin/python3 ] || { echo "skipped: needs python3"; exit 77; }
: "${srcdir:=.}"
FINESSE_BUILD_DIR=$PWD exec /usr/bin/python3 "$srcdir/tests/rootless/rootless.py"
