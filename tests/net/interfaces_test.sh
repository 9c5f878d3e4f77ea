#!/bin/sh
# A host with several interfaces (interfaces.py).
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/net/interfaces.py "$@"
