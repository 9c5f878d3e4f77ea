#!/bin/sh
# What recvmsg tells beside the bytes, natively and under finesse (messages.py).
exec /usr/bin/python3 "${srcdir:-.}/tests/net/messages.py"
