#!/bin/sh
# A TIME-WAIT of the engine's when the listener becomes the kernel's, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/net/kernels_listener.py
