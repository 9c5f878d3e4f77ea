#!/bin/sh
# Handlers of signals and of fork, and the number of a blocked accept, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/process/callbacks.py
