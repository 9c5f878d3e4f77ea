"""A program that finesse does not reach, started by one that it does: `unreached.py WAY`, with WAY how. Says "listening" when a socket listens, and ends with its input."""
import os
import sys

LISTEN = """
import socket, sys
with socket.create_server(("127.0.0.1", 0)):
    print("listening", flush=True)
    sys.stdin.read()
"""
LISTENER = ["/usr/bin/env", "python3", "-c", LISTEN]  # no file: a user without privilege might not read it


def main(way):
    environment = dict(os.environ)
    if way == "users":
        os.setresuid(-1, 65534, 0)
    elif way == "environment":
        del environment["LD_PRELOAD"]
    os.execve(LISTENER[0], LISTENER, environment)


main(sys.argv[1])
