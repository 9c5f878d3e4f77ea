#!/bin/sh
# A program that has few numbers when its engine would come up, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/process/numbers_return.py
