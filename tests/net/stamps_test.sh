#!/bin/sh
# Time stamps of what is received and sent, natively and under finesse (stamps.py).
exec /usr/bin/python3 "${srcdir:-.}/tests/net/stamps.py"
