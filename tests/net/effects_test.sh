#!/bin/sh
# What calls and options do, seen from both ends, natively and under finesse (effects.py).
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/net/effects.py
