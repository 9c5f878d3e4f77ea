#!/bin/sh
# CPython's own network tests, natively and under finesse (suites.py), as one of make check's tests.
[ -x /usr/bin/python3 ] || { echo "skipped: needs python3"; exit 77; }
for program in nft ethtool nstat ip; do
	PATH=$PATH:/usr/sbin:/sbin command -v $program >/dev/null || { echo "skipped: needs $program"; exit 77; }
done
: "${srcdir:=.}"
FINESSE_BUILD_DIR=$PWD exec /usr/bin/python3 "$srcdir/tests/suites/suites.py" "$@"
