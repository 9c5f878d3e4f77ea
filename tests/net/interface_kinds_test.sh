#!/bin/sh
# Kinds of interfaces, and what happens to them while a connection transfers (interface_kinds.py).
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/net/interface_kinds.py "$@"
