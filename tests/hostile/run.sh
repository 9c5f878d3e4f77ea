#!/bin/sh
# What paths and strangers do to connections, as one of make check's tests: tests/hostile/*.py in turn.
[ -x /usr/bin/python3 ] || { echo "skipped: needs python3"; exit 77; }
: "${srcdir:=.}"
worst=0
for part in path strangers flood; do
	FINESSE_BUILD_DIR=$PWD /usr/bin/python3 "$srcdir/tests/hostile/$part.py"
	status=$?
	[ $status = 0 ] || [ $worst = 1 ] || worst=$status # 77, skipped, hides no failure
done
exit $worst
