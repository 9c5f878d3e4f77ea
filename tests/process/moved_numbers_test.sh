#!/bin/sh
# Numbers of a connection that goes to the kernel, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/process/moved_numbers.py
