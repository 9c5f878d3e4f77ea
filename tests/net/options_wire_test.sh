#!/bin/sh
# What options do to packets, and whom they keep out (options_wire.py).
exec /usr/bin/python3 "${srcdir:-.}/tests/net/options_wire.py"
