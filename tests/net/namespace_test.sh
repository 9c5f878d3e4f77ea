#!/bin/sh
# The settings of a network namespace, natively and under finesse (namespace.py).
exec /usr/bin/python3 "${srcdir:-.}/tests/net/namespace.py"
