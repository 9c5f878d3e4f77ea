#!/bin/sh
# What calls and options do, seen from both ends, natively and under finesse (effects.py).
exec /usr/bin/python3 "${srcdir:-.}/tests/net/effects.py"
