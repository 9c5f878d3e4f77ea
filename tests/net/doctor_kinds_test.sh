#!/bin/sh
# What `finesse doctor` says of each kind of interface, and what then is, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/net/doctor_kinds.py
