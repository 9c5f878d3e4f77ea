#!/bin/sh
# Each MUST and SHOULD of RFC 9293 has a test that bears its name, or a reason (requirements.py --check).
[ -x /usr/bin/python3 ] || { echo "skipped: needs python3"; exit 77; }
: "${srcdir:=.}"
/usr/bin/python3 "$srcdir/tests/tcp/requirements.py" --check
