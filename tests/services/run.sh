#!/bin/sh
# A few of Debian's servers as their services start them (services.py), as one of make check's tests.
[ -x /usr/bin/python3 ] || { echo "skipped: needs python3"; exit 77; }
for program in curl ip nsenter nstat ss tc unshare; do
	PATH=$PATH:/usr/sbin:/sbin command -v $program >/dev/null || { echo "skipped: needs $program"; exit 77; }
done
: "${srcdir:=.}"
FINESSE_BUILD_DIR=$PWD exec /usr/bin/python3 "$srcdir/tests/services/services.py" --short
