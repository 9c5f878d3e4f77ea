#!/bin/sh
# The headers of the SYN that opened an accepted socket, natively and under finesse (saved_syn.py).
command -v nft >/dev/null || { echo "skipped: needs nft"; exit 77; }
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lab.sh
. "$srcdir/tests/net/lab.sh"
in_lab tests/net/saved_syn.py
