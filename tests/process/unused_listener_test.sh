#!/bin/sh
# Who waits at a listener that the process does not use, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/process/unused_listener.py
