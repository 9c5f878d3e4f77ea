#!/bin/sh
# A host with several interfaces (interfaces.py).
exec /usr/bin/python3 "${srcdir:-.}/tests/net/interfaces.py" "$@"
