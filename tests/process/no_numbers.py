"""Calls of a program that has used up its numbers (RLIMIT_NOFILE): natively and under finesse. What needs none natively works, however many the engine needs for it.

A connection is spliced, passed on, taken over by a forked child and by an executed program, and has options set that only a kernel socket knows; a listener accepts when there is a number again.
"""
import errno
import os
import resource
import select
import socket
import sys
import threading

from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "net"))
from lab import CLIENT_IP, compare_lines, Lab, SERVER_IP  # noqa: E402

PORT, PEER_PORT, TOP, WAIT_S = 8000, 8001, 60, 10


# ---- the program ----

class Full:
    """No number is left within."""

    def __enter__(self):
        self.limit, self.taken = resource.getrlimit(resource.RLIMIT_NOFILE), []
        resource.setrlimit(resource.RLIMIT_NOFILE, (TOP, self.limit[1]))
        try:
            while True:
                self.taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            return self

    def give(self, n=1):
        for _ in range(n):
            os.close(self.taken.pop())

    def __exit__(self, *_):
        self.give(len(self.taken))
        resource.setrlimit(resource.RLIMIT_NOFILE, self.limit)


def told(call, *args):
    try:
        return call(*args)
    except OSError as e:
        return errno.errorcode[e.errno]


def connected():
    """Its peer says hello and then sends back what it gets. It blocks, so MSG_WAITALL does."""
    s = socket.create_connection((CLIENT_IP, PEER_PORT))
    s.recv(5, socket.MSG_PEEK | socket.MSG_WAITALL)
    return s


def echoed(s, text):
    got = told(s.send, text)
    return told(s.recv, len(text), socket.MSG_WAITALL) if got == len(text) else got


def copies():
    s, (r, w), file = connected(), os.pipe(), os.memfd_create("file")
    os.write(file, b"file")
    with Full():
        yield told(os.splice, s.fileno(), w, 5)
        yield told(os.read, r, 5)
        os.write(w, b"pipe")
        yield told(os.splice, r, s.fileno(), 4)
        yield told(s.recv, 4, socket.MSG_WAITALL)
        yield told(os.sendfile, s.fileno(), file, 0, 4)
        yield told(s.recv, 4, socket.MSG_WAITALL)


def waits():
    s, e = connected(), select.epoll()
    with Full():
        yield told(e.register, s, select.EPOLLIN)
        yield [mask for _, mask in e.poll(WAIT_S)]
        yield len(select.select([s], [s], [s], WAIT_S)[0])
        yield told(s.recv, 5)
        yield told(s.dup)
        yield echoed(s, b"more")


def options():
    s = connected()
    with Full():
        yield told(s.setsockopt, socket.SOL_SOCKET, socket.SO_SNDBUF, 50000)
        yield told(s.setsockopt, socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"server0\0")
        yield told(s.recv, 5)
        yield echoed(s, b"more")


def forked():
    s = connected()
    with Full():
        child = os.fork()
        if child == 0:
            print("the child", told(s.recv, 5, socket.MSG_WAITALL), echoed(s, b"from the child"), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        yield echoed(s, b"by the parent")


def executed():
    s = connected()
    s.set_inheritable(True)
    with Full() as full:
        child = os.fork()
        if child == 0:
            full.give(4)  # for the loader
            os.execv("/bin/sh", ["sh", "-c", "head -c 5 <&%d; echo; printf more >&%d" % (s.fileno(), s.fileno())])
        os.waitpid(child, 0)
        yield told(s.recv, 4, socket.MSG_WAITALL)


def passed():
    s, (one, other) = connected(), socket.socketpair()
    with Full() as full:
        yield told(socket.send_fds, one, [b"x"], [s.fileno()])
        full.give()
        fds = told(socket.recv_fds, other, 1, 1)[1]
        yield len(fds)
        given = socket.socket(fileno=fds[0])
        given.settimeout(None)
        yield told(given.recv, 5)
        yield echoed(given, b"by its new number")
        yield echoed(s, b"by its old number")


def accepts():
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", PORT))
    listener.listen()
    listener.settimeout(WAIT_S)
    asking = connected()
    asking.recv(5)
    asking.send(b"call")
    with Full() as full:
        yield len(select.select([listener], [], [], WAIT_S)[0])
        yield told(listener.accept)
        full.give()
        s = listener.accept()[0]
        s.settimeout(None)
        yield told(s.recv, 5, socket.MSG_WAITALL)


def subject():
    for case in copies, waits, options, forked, executed, passed, accepts:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            for line in case():
                print(case.__name__, line, flush=True)
            os._exit(0)
        os.waitpid(child, 0)


# ---- its peer ----

def echo(lab, s):
    s.sendall(b"hello")
    while data := told(s.recv, 4096):
        if data == b"call":
            back = lab.client.socket()
            back.connect((SERVER_IP, PORT))
            back.sendall(b"here!")
        if isinstance(data, str):
            break
        s.sendall(data)


def serve(lab, listener):
    while True:
        threading.Thread(target=echo, args=(lab, listener.accept()[0]), daemon=True).start()


def seen(finesse):
    with Lab() as lab:
        listener = lab.client.socket()
        listener.bind((CLIENT_IP, PEER_PORT))
        listener.listen()
        threading.Thread(target=serve, args=(lab, listener), daemon=True).start()
        p = lab.server.run([sys.executable, os.path.abspath(__file__), "subject"], finesse, check=False)
        return p.stdout.decode().splitlines() + (["the kernel opened %d" % lab.server.opens()[0]] if finesse else ["the kernel opened 0"])


if __name__ == "__main__":
    if sys.argv[1:] == ["subject"]:
        subject()
    else:
        sys.exit(compare_lines(seen))
