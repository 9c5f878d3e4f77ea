#!/bin/sh
# The program's own filters on a listener whose SYNs the host judges, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/net/own_filter.py
