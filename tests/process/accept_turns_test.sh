#!/bin/sh
# Who waits in the kernel's queue beside the engine's, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/process/accept_turns.py
