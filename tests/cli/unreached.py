"""A program that finesse does not reach, started by one that it does: `unreached.py WAY`, with WAY how. Says "listening" when a socket listens, and ends with its input."""
import os
import socket
import sys

LISTENER = ["/usr/bin/env", "python3", os.path.abspath(__file__), "listen"]


def main(way):
    if way == "users":
        os.setresuid(-1, 65534, 0)
        os.execv(LISTENER[0], LISTENER)
    elif way == "environment":
        os.execve(LISTENER[0], LISTENER, {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"})
    elif way == "reached":
        os.execv(LISTENER[0], LISTENER)
    s = socket.create_server(("127.0.0.1", 0))
    print("listening", flush=True)
    sys.stdin.read()
    s.close()


main(sys.argv[1])
