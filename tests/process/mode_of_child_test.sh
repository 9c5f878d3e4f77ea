#!/bin/sh
# A blocking listener that an executed program inherited, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/process/mode_of_child.py
