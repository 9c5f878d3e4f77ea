"""The programs of own_address.py: plain sockets, which know nothing of whose address they have."""
import errno
import os
import socket
import sys
import threading


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def answer(s):
    with s:
        request = b""
        while b"\r\n\r\n" not in request:
            piece = s.recv(4096)
            if not piece:
                return
            request += piece
        path = request.split()[1]
        s.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
        if path == b"/pid":
            s.sendall(b"%d" % os.getpid())
        elif path == b"/slow":
            for _ in range(100):
                s.sendall(bytes(10000))
                threading.Event().wait(0.005)
        else:
            with open("www/file", "rb") as f:
                s.sendall(f.read())


def listener(address, port):
    s = socket.socket(family_of(address), socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, int(port)))
    s.listen(64)
    return s


def accept_all(s):
    while True:
        c, _ = s.accept()
        threading.Thread(target=answer, args=(c,), daemon=True).start()


def serve(address, port):
    accept_all(listener(address, port))


def fill(address, port):
    """Sends what the connection takes, and waits for its end, in two threads."""
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    s = listener(address, port)
    print("listens", flush=True)
    c, sent = s.accept()[0], 0
    c.setblocking(False)
    try:
        while True:
            sent += c.send(bytes(65536))
    except BlockingIOError:
        print("filled with %d" % sent, flush=True)
    threading.Event().wait()


def prefork(address, port, n):
    s = listener(address, port)
    for _ in range(int(n)):
        if os.fork() == 0:
            accept_all(s)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def connected(address, port, local=None):
    s = socket.socket(family_of(address), socket.SOCK_STREAM)
    s.settimeout(15)
    if local:
        s.bind((local, 0))
        if s.getsockname()[0] != local:
            raise OSError("bound to %s" % s.getsockname()[0])
    s.connect((address, int(port)))
    return s


def get(address, port):
    with connected(address, port) as s:
        s.sendall(b"GET /file HTTP/1.0\r\n\r\n")
        out = b""
        while True:
            piece = s.recv(1 << 20)
            if not piece:
                break
            out += piece
    print(len(out.split(b"\r\n\r\n", 1)[1]))


def error_of(call):
    try:
        call()
        return "none"
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e))


def names(a, a6, b, b6):
    for address in (a, a6):
        with connected(address, 80) as s:
            print("%s>%s" % (s.getsockname()[0], s.getpeername()[0]))
    for address, local in ((a, b), (a6, b6)):
        with connected(address, 80, local) as s:
            print("bound:%s>%s" % (s.getsockname()[0], s.getpeername()[0]))
    with listener("127.0.0.1", 8), connected("127.0.0.1", 8) as s:
        print("loopback:" + s.getsockname()[0])
    with listener(b, 8) as s:
        print("listener:" + s.getsockname()[0])
        print("taken:" + error_of(lambda: listener(b, 8)))
    print("nobody:" + error_of(lambda: connected("10.78.0.200", 80)))
    print("elsewhere:" + error_of(lambda: connected("198.51.100.1", 80, b)))


def connect(address, port):
    with connected(address, port) as s:
        print(s.getsockname()[0])


def conflict(address):
    try:
        connected(address, 9)
        print("connected")
    except OSError:
        print("OSError")


def send(address, port, n):
    s = connected(address, port)
    s.sendall(bytes(int(n)))
    os._exit(0)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
