#!/bin/sh
# A listener becomes the engine's while clients come, as one of make check's tests.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/net/becomes_engines.py
