#!/bin/sh
# Time stamps of what is received and sent, natively and under finesse (stamps.py).
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/net/stamps.py
