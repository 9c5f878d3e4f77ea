#!/bin/sh
# Rules that come later, and a server without the privilege to hear of them (rules_late.py).
[ "$(id -u)" = 0 ] || { echo "skipped: needs root"; exit 77; }
PATH=$PATH:/usr/sbin:/sbin
command -v iptables-legacy >/dev/null || { echo "skipped: needs iptables-legacy"; exit 77; }
export FINESSE_BUILD_DIR="$PWD"
exec timeout 240 /usr/bin/python3 "${srcdir:-.}/tests/net/rules_late.py"
