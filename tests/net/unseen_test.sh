#!/bin/sh
# Super-segments whose text is read straight from the kernel's queue: no byte is lost or moved (unseen.py).
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/net/unseen.py
