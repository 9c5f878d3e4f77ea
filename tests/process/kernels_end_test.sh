#!/bin/sh
# Clients of connections that the kernel had before, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/process/kernels_end.py
