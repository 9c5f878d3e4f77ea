"""A program of situations.py: does what its standard input says, a line each, and answers with a line. `serve` echoes in threads; a client's calls answer with what came of them."""
import errno
import os
import socket
import sys
import threading

WAIT_S = 20  # for what must come; what is awaited in vain says wait=
socks = {}


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def echo(s):
    try:
        with s:
            while True:
                data = s.recv(65536)
                if not data:
                    return
                s.sendall(data)
    except OSError:
        pass


def accept_all(listener):
    while True:
        try:
            s, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=echo, args=(s,), daemon=True).start()


def set_options(s, options):
    for o in options:
        name, value = o.split("=")
        if name == "device":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, value.encode())
        elif name == "transparent":
            s.setsockopt(socket.IPPROTO_IP, 19, int(value))
        elif name == "mark":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, int(value))
        elif name == "tos":
            s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, int(value))
        elif name == "wait":
            s.settimeout(float(value))
        elif name == "from":
            s.bind((value, 0))


def serve(address, port, *options):
    s = socket.socket(family(address))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    set_options(s, options)
    s.bind((address, int(port)))
    s.listen(16)
    threading.Thread(target=accept_all, args=(s,), daemon=True).start()
    return "serves"


def connect(name, address, port, *options):
    s = socks[name] = socket.socket(family(address))
    s.settimeout(WAIT_S)
    set_options(s, options)
    s.connect((address, int(port)))
    s.settimeout(WAIT_S)
    return "connected from " + s.getsockname()[0] + " to " + s.getpeername()[0]


def trip(name, count, wait=WAIT_S):
    """Data there and back."""
    socks[name].settimeout(float(wait))
    s, data, got = socks[name], os.urandom(int(count)), b""
    sender = threading.Thread(target=send, args=(s, data), daemon=True)
    sender.start()
    try:
        while len(got) < len(data):
            piece = s.recv(65536)
            if not piece:
                return "end"
            got += piece
    finally:
        sender.join()
    return "same" if got == data else "other"


def send(s, data):
    try:
        s.sendall(data)
    except OSError:
        pass


def close(name):
    socks.pop(name).close()
    return "closed"


CALLS = {"serve": serve, "connect": connect, "trip": trip, "close": close}


def main():
    print("ready", flush=True)
    for line in sys.stdin:
        name, *args = line.split()
        try:
            answer = CALLS[name](*args)
        except TimeoutError as e:
            answer = "ETIMEDOUT" if e.errno else "nothing"
        except OSError as e:
            answer = errno.errorcode.get(e.errno, str(e))
        print(answer, flush=True)


main()
