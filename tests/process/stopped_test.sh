#!/bin/sh
# Calls that wait while their process is stopped and continued, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/process/stopped.py
