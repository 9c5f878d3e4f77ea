#!/bin/sh
# Programs with addresses of their own (own_address.py).
FINESSE_BUILD_DIR=$PWD exec /usr/bin/python3 "${srcdir:-.}/tests/net/own_address.py" "$@"
