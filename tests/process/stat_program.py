"""Programs for stat_test.sh. Each says "ready", and waits for its standard input's end."""
import ctypes
import os
import signal
import socket
import subprocess
import sys

MARK = 36  # SO_MARK: only the kernel's TCP can do it


def listen(address, mark=False):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if mark:
        s.setsockopt(socket.SOL_SOCKET, MARK, 7)
    s.bind(address)
    s.listen()
    return s


def carriers(server, peer):
    """A listener and a connection of each kind."""
    kept = [listen((server, 8000)), listen((server, 8001), mark=True), listen(("127.0.0.1", 8002))]
    kept.append(socket.create_connection((peer, 9000)))
    given = socket.create_connection((peer, 9000))
    given.setsockopt(socket.SOL_SOCKET, MARK, 7)
    return kept + [given]


def wait():
    print("ready", flush=True)
    sys.stdin.read()


def child_by(how):
    """True in the child."""
    if how == "fork":
        return os.fork() == 0
    if how == "number":
        return ctypes.CDLL(None).syscall(57) == 0  # SYS_fork of x86-64
    subprocess.Popen(["sleep", "100"], close_fds=False)
    return False


def parent_exits(how, server):
    """The process that listens ends; a child of it goes on, and does not know of sockets of finesse's."""
    kept = listen((server, 8000))
    if child_by(how):
        os.close(0)
        os.close(1)
        signal.pause()
    wait()
    os._exit(0)


if sys.argv[1] == "carriers":
    kept = carriers(*sys.argv[2:])
    wait()
else:
    parent_exits(*sys.argv[2:])
