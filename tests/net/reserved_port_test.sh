#!/bin/sh
# Connections from reserved ports, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/net/reserved_port.py
