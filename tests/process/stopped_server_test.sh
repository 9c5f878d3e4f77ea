#!/bin/sh
# Clients of a server that is stopped, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/process/stopped_server.py
