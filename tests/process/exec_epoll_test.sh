#!/bin/sh
# A listener in the epoll set of a server whose children are executed with it, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/process/exec_epoll.py
