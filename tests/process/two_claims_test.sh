#!/bin/sh
# A port that two processes serve by two pairs of listeners, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/process/two_claims.py
