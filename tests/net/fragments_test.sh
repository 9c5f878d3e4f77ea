#!/bin/sh
# A router on the way cuts the client's packets into pieces (fragments.py).
[ "$(id -u)" = 0 ] || { echo "skipped: needs root"; exit 77; }
PATH=$PATH:/usr/sbin:/sbin
export FINESSE_BUILD_DIR="$PWD"
exec timeout 240 /usr/bin/python3 "${srcdir:-.}/tests/net/fragments.py"
