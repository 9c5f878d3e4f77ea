#!/bin/sh
# What a client gets that the host's rules ban in the middle of a transfer, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/net/banned.py
