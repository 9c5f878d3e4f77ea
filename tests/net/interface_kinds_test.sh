#!/bin/sh
# Kinds of interfaces, and what happens to them while a connection transfers (interface_kinds.py).
exec /usr/bin/python3 "${srcdir:-.}/tests/net/interface_kinds.py" "$@"
