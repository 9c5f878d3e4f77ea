#!/bin/sh
# The headers of the SYN that opened an accepted socket, natively and under finesse (saved_syn.py).
command -v nft >/dev/null || { echo "skipped: needs nft"; exit 77; }
exec /usr/bin/python3 "${srcdir:-.}/tests/net/saved_syn.py"
