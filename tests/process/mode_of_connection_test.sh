#!/bin/sh
# The mode of a connection that a forked process uses, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/process/mode_of_connection.py
