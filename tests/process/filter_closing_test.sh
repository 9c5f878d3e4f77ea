#!/bin/sh
# What was written and closed before a program restricts itself, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/process/filter_closing.py
