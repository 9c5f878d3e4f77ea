#!/bin/sh
# What sockets tell of the packets that they got, natively and under finesse (packet_options.py).
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/net/packet_options.py
