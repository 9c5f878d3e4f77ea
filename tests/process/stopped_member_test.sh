#!/bin/sh
# A port whose process is stopped while another one wants to join it, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/process/stopped_member.py
