#!/bin/sh
# Listeners that are passed on with waiting connections, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/process/passed_on.py table "$@"
