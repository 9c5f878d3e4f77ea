#!/bin/sh
# Libraries loaded with RTLD_DEEPBIND use sockets under finesse as natively (plugins.py).
[ "$(id -u)" = 0 ] || { echo "skipped: needs root"; exit 77; }
[ -x /usr/bin/python3 ] || { echo "skipped: needs python3"; exit 77; }
exec timeout 100 /usr/bin/python3 "${srcdir:-.}/tests/net/plugins.py"
