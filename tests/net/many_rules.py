"""
many_rules.py serve PORT: says what it hears, to each client; prints `ready`.
many_rules.py ask ADDRESS PORT FROM: says a byte again and again. Prints `answered` at the first answer, and `silent` when there was none for some seconds.
"""
import socket
import sys
import threading

SILENT_S = 3


def echo(s):
    while data := s.recv(100):
        s.sendall(data)


def serve(port):
    with socket.create_server(("", int(port))) as listener:
        print("ready", flush=True)
        while True:
            threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()


def ask(address, port, source):
    with socket.create_connection((address, int(port)), 20, (source, 0)) as s:
        s.settimeout(SILENT_S)
        said = False
        while True:
            s.sendall(b"x")
            try:
                if not s.recv(1):
                    print("ended", flush=True)
                    return
            except TimeoutError:
                print("silent", flush=True)
                return
            if not said:
                print("answered", flush=True)
            said = True


{"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:])
