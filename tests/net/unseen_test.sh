#!/bin/sh
# Super-segments whose text is read straight from the kernel's queue: no byte is lost or moved (unseen.py).
exec /usr/bin/python3 "${srcdir:-.}/tests/net/unseen.py"
