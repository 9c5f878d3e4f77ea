#!/bin/sh
# What recvmsg tells beside the bytes, natively and under finesse (messages.py).
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/net/messages.py
