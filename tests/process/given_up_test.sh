#!/bin/sh
# Who waits for accept when the last listener is closed, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/process/given_up.py
