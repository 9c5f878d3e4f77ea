#!/bin/sh
# The settings of a network namespace, natively and under finesse (namespace.py).
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/net/namespace.py
