#!/bin/sh
# What options do to packets, and whom they keep out (options_wire.py).
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/net/options_wire.py
