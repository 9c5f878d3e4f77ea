#!/bin/sh
# Waits for an epoll that are left without a return, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/process/left_waits.py
