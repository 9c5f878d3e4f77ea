#!/bin/sh
# SO_PRIORITY and IP_TOS set the priority of frames under finesse as natively (priority.py).
[ "$(id -u)" = 0 ] || { echo "skipped: needs root"; exit 77; }
command -v nft >/dev/null || { echo "skipped: needs nft"; exit 77; }
[ -x /usr/bin/python3 ] || { echo "skipped: needs python3"; exit 77; }
exec timeout 100 /usr/bin/python3 "${srcdir:-.}/tests/net/priority.py"
